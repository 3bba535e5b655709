//! The record of a picture that was made again from its latent.

use anyhow::Result;

use super::{Engine, Made};
use crate::output::Provenance;
use crate::request::Request;

impl Engine {
    /// Gives the record of what [`Engine::invert`] makes of `request`, whose prompt is the class that [`Engine::inversion_class`] found.
    ///
    /// The picture that was read is the caller's to add, as `input` and `input_sha256`.
    ///
    /// * `total_ms`: how long it took, in milliseconds
    ///
    /// # Errors
    /// As [`Engine::plan_inversion`].
    pub fn inversion_provenance(&self, request: &Request, total_ms: f64) -> Result<Provenance> {
        let (resolved, plan) = self.plan_inversion(request)?;
        let made = Made { index: 0, timesteps: Vec::new(), decoding: Default::default(), times: &[], total_ms };
        Ok(Provenance { inversion: true, ..self.provenance(request, &resolved, &plan, made)? })
    }
}
