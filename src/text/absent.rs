//! The tokenizer of a build without the feature `text`: there is none, and whoever asks is told so.

use std::convert::Infallible;
use std::path::Path;

use anyhow::Result;

use super::new_word::NewWord;
use super::tokens::Tokens;
use super::weights::Part;
use crate::refuse;

/// A tokenizer, of which this build has none.
#[derive(Debug, Clone)]
pub struct Tokenizer(Infallible);

/// One call of a text encoder, of which there is none.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Ids.
    pub ids: Vec<i64>,
    /// How heavy each is.
    pub weights: Vec<f32>,
    /// Vectors in place of ids.
    pub vectors: Vec<(usize, usize, usize)>,
    /// How many come before the padding.
    pub used: usize,
}

/// A prompt in chunks, of which there are none.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunked {
    /// The chunks.
    pub chunks: Vec<Chunk>,
    /// What did not fit.
    pub truncated: Option<String>,
}

impl NewWord {
    /// Says that this build reads no prompts.
    ///
    /// # Errors
    /// Always, a [`Refusal`](crate::error::Refusal).
    pub fn read(wish: &str) -> Result<Self> {
        refuse!("embedding {wish}: this kiln was built without the feature `text`, so there is no prompt to use it in")
    }
}

/// Finds none: this build reads no prompts.
///
/// # Errors
/// None.
pub fn words_of_folder(_: &Path) -> Result<Vec<NewWord>> {
    Ok(Vec::new())
}

impl Tokenizer {
    /// Says that this build reads no prompts.
    ///
    /// # Errors
    /// Always, a [`Refusal`](crate::error::Refusal).
    pub fn open(folder: &Path) -> Result<Self> {
        refuse!(
            "{}: this kiln was built without the feature `text` and runs models that take a seed or a class alone; a build with \
             `--features text` reads prompts",
            folder.display()
        )
    }

    /// Changes how many ids a text becomes.
    ///
    /// # Errors
    /// None: there is no tokenizer to change.
    pub fn with_max_length(self, _: usize) -> Result<Self> {
        match self.0 {}
    }

    /// Gives how many ids every text becomes.
    #[must_use]
    pub fn max_length(&self) -> usize {
        match self.0 {}
    }

    /// Gives the largest id that can come out.
    #[must_use]
    pub fn largest_id(&self) -> u32 {
        match self.0 {}
    }

    /// Cuts parts of a prompt into chunks.
    ///
    /// # Errors
    /// None: there is no tokenizer to ask.
    pub fn chunks(&self, _: &[Part], _: &[NewWord], _: usize) -> Result<Chunked> {
        match self.0 {}
    }

    /// Counts the ids of a text.
    ///
    /// # Errors
    /// None: there is no tokenizer to ask.
    pub fn count(&self, _: &str) -> Result<usize> {
        match self.0 {}
    }

    /// Whether a text stands between a start and an end token.
    #[must_use]
    pub fn has_ends(&self) -> bool {
        match self.0 {}
    }

    /// Turns `text` into ids.
    ///
    /// # Errors
    /// None: there is no tokenizer to ask.
    pub fn encode(&self, _: &str) -> Result<Tokens> {
        match self.0 {}
    }
}
