//! What a tokenizer makes of a text.

/// A text as a text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// `[L]`, always [`Tokenizer::max_length`](super::Tokenizer::max_length) ids: start token, text, end token, padding.
    pub ids: Vec<i64>,
    /// How many of `ids` come before the padding, start and end token counted.
    pub used: usize,
    /// The end of the text, as far as it did not fit; worth a warning.
    pub truncated: Option<String>,
}
