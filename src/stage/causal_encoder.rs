//! Frames of a clip into latents, as many at a time as a frame of latents stands for.
//!
//! As in `causal_decoder.rs` the network remembers two frames of each feature map, and sees no later ones.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis, Slice};

use super::causal::Past;
use super::networks::Networks;
use super::picture_encoder::scaled;
use crate::bundle::{Bundle, Role, names};
use crate::runtime::Cancel;

/// An encoder on its way through a clip.
#[derive(Default)]
pub struct CausalEncoder {
    past: Past,
}

impl CausalEncoder {
    /// The component that encodes the next frames.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.past.is_empty() { Role::VaeEncoderFirst } else { Role::VaeEncoder }
    }

    /// Encodes the next frames: the first alone, and then as many as a frame of latents stands for.
    ///
    /// * `frames`: `[1, 3 or 4, n, H, W]` f32 in [-1, 1]
    ///
    /// Returns `[1, C, 1, h, w]` f32 as the denoiser has them: the mean of their distribution.
    ///
    /// # Errors
    /// The encoder fails, or gives another shape.
    pub fn encode(
        &mut self,
        bundle: &Bundle,
        networks: &mut Networks,
        frames: ArrayD<f32>,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let role = self.role();
        let geometry = &bundle.geometry;
        let (channels, side) = (geometry.latent_channels, geometry.pixels_per_latent);
        let side_of = |axis: usize| frames.shape().get(axis).map_or(0, |pixels| pixels / side);
        let expected = [1, 2 * channels, 1, side_of(3), side_of(4)];
        let encoded = self.past.call(networks, role, names::PICTURE, frames, cancel)?;
        ensure!(
            encoded.shape() == expected,
            "{role}: gave latents of shape {:?}, expected {expected:?}: mean, then logarithm of the variance",
            encoded.shape()
        );
        Ok(scaled(encoded.slice_axis(Axis(1), Slice::from(..channels)).to_owned(), &geometry.scaling))
    }
}
