//! What is told of a picture that was made again from its latent: its record, and how far it is from the one that was read.

use anyhow::Result;

use super::{Engine, Made};
use crate::bundle::Family;
use crate::output::{Picture, Provenance};
use crate::pipeline::{Again, Inverted};
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

    /// What became of `picture` on the way to its latent and back.
    ///
    /// # Errors
    /// The picture that came back has another size or holds what is no number.
    pub fn compare(&self, picture: &Picture, inverted: &Inverted) -> Result<Again> {
        let prior_deviation = match self.bundle.family {
            Family::Score { sigma_max, .. } => f64::from(sigma_max),
            _ => 1.0,
        };
        Again::new(&self.pixels(picture)?, inverted, prior_deviation)
    }
}
