//! What a prompt may be.

use anyhow::Result;

use crate::refuse;

/// The longest prompt; text encoders read some 77 to 512 tokens of it.
pub const LONGEST_TEXT_CHARACTERS: usize = 10_000;

/// Makes sure that `text` can be tokenized; `what` is what messages call it.
///
/// # Errors
/// `text` is longer than [`LONGEST_TEXT_CHARACTERS`] or holds a zero character (a [`Refusal`](crate::error::Refusal) each).
pub fn check(what: &str, text: &str) -> Result<()> {
    let characters = text.chars().count();
    if characters > LONGEST_TEXT_CHARACTERS {
        refuse!("{what} has {characters} characters, expected at most {LONGEST_TEXT_CHARACTERS}; shorten it");
    }
    if let Some(position) = text.chars().position(|letter| letter == '\0') {
        refuse!("{what} has a zero character at {position}, expected text; remove it");
    }
    Ok(())
}
