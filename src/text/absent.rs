//! The tokenizer of a build without the feature `text`: there is none, and whoever asks is told so.

use std::convert::Infallible;
use std::path::Path;

use anyhow::Result;

use super::tokens::Tokens;
use crate::refuse;

/// A tokenizer, of which this build has none.
#[derive(Debug, Clone)]
pub struct Tokenizer(Infallible);

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

    /// Turns `text` into ids.
    ///
    /// # Errors
    /// None: there is no tokenizer to ask.
    pub fn encode(&self, _: &str) -> Result<Tokens> {
        match self.0 {}
    }
}
