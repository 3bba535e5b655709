//! Turns prompts into token ids.
//!
//! In: the `tokenizer` folder of a model and a text. Out: [`Tokens`], as many ids as the text encoder takes, and what of the text did
//! not fit.
//!
//! Not here: the text encoder, prompt weights, and pairs of texts.

mod clip;
mod described;
mod prompt;
mod settings;
mod tokenizer;

pub use prompt::{LONGEST_TEXT_CHARACTERS, check};
pub use tokenizer::{Tokenizer, Tokens};
