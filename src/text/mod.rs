//! Turns prompts into token ids.
//!
//! In: the `tokenizer` folder of a model and a text. Out: [`Tokens`], as many ids as the text encoder takes, and what of the text did
//! not fit; or [`Chunked`], all of it, with the weights that brackets give its words.
//!
//! Not here: the text encoder, what weights do to its embeddings, and pairs of texts.

#[cfg(not(feature = "text"))]
mod absent;
#[cfg(feature = "text")]
mod chunks;
#[cfg(feature = "text")]
mod clip;
#[cfg(feature = "text")]
mod described;
#[cfg(feature = "text")]
mod file;
mod new_word;
mod prompt;
#[cfg(feature = "text")]
mod settings;
#[cfg(feature = "text")]
mod tokenizer;
mod tokens;
mod weights;
#[cfg(feature = "text")]
mod word_file;

#[cfg(not(feature = "text"))]
pub use absent::{Chunk, Chunked, Tokenizer, words_of_folder};
#[cfg(feature = "text")]
pub use chunks::{Chunk, Chunked};
pub use new_word::NewWord;
pub use prompt::{LONGEST_TEXT_CHARACTERS, check};
#[cfg(feature = "text")]
pub use tokenizer::Tokenizer;
pub use tokens::Tokens;
pub use weights::{Part, has_numbers, parts};
#[cfg(feature = "text")]
pub use word_file::words_of_folder;
