//! What records of an engine's pictures hold beside the run: the new words of its model, and the request that makes one again.

use anyhow::Result;

use super::Engine;
use crate::output::{EmbeddingId, Provenance};
use crate::request::Request;

impl Engine {
    /// The words with vectors of their own (textual inversion) that stand in one of `texts`.
    #[must_use]
    pub fn words(&self, texts: &[&str]) -> Vec<EmbeddingId> {
        let used = self.encoders.used(texts).into_iter();
        used.map(|word| EmbeddingId { name: word.name.clone(), sha256: word.sha256.clone() }).collect()
    }

    /// Makes again what `provenance` records: the request that gives the same picture.
    ///
    /// Input picture and mask are the caller's to add; `provenance` names them.
    ///
    /// # Errors
    /// The record is of a sampler or a random generator that this version does not know.
    pub fn request_of(provenance: &Provenance) -> Result<Request> {
        Request::of_provenance(provenance)
    }
}
