//! Turns prompts into token ids.
//!
//! In: the `tokenizer` folder of a model and a text. Out: [`Tokens`], as many ids as the text encoder takes, and what of the text did
//! not fit.
//!
//! Not here: the text encoder, prompt weights, and pairs of texts.

#[cfg(not(feature = "text"))]
mod absent;
#[cfg(feature = "text")]
mod clip;
#[cfg(feature = "text")]
mod described;
mod prompt;
#[cfg(feature = "text")]
mod settings;
#[cfg(feature = "text")]
mod tokenizer;
mod tokens;

#[cfg(not(feature = "text"))]
pub use absent::Tokenizer;
pub use prompt::{LONGEST_TEXT_CHARACTERS, check};
#[cfg(feature = "text")]
pub use tokenizer::Tokenizer;
pub use tokens::Tokens;
