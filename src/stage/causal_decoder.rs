//! Latents of a clip into frames, one frame of latents after the other.
//!
//! A causal decoder sees no later frame, and of earlier ones only what its convolutions remember: two frames of each feature map. So a
//! clip of any length is decoded in the memory of one frame of latents, and gives the same frames as all at once.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis};

use super::causal::Past;
use super::decoder::{check_not_plain, unscaled};
use super::networks::Networks;
use crate::bundle::{Bundle, Role, names};
use crate::runtime::Cancel;

/// A decoder on its way through a clip.
#[derive(Default)]
pub struct CausalDecoder {
    past: Past,
}

impl CausalDecoder {
    /// The component that decodes the next latents.
    #[must_use]
    pub fn role(&self) -> Role {
        if self.past.is_empty() { Role::VaeDecoderFirst } else { Role::VaeDecoder }
    }

    /// Decodes the next frame of latents.
    ///
    /// * `latents`: `[1, C, 1, h, w]` f32 as the denoiser has them
    ///
    /// Returns `[1, 3 or 4, n, H, W]` f32, nominally in [-1, 1]: one frame of the clip for the first latents, and then as many as a frame
    /// of latents stands for.
    ///
    /// # Errors
    /// The decoder fails, gives another shape, or gives a frame of one colour throughout.
    pub fn decode(
        &mut self,
        bundle: &Bundle,
        networks: &mut Networks,
        latents: &ArrayD<f32>,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let role = self.role();
        let geometry = &bundle.geometry;
        let latents_given = unscaled(latents, &geometry.scaling);
        let decoded = self.past.call(networks, role, names::LATENT, latents_given, cancel)?;
        let frames_each = bundle.clip.as_ref().map_or(1, |shape| shape.frames_per_latent);
        let side = geometry.pixels_per_latent;
        let expected = [
            1,
            geometry.picture_channels,
            if role == Role::VaeDecoderFirst { 1 } else { frames_each },
            latents.shape().get(3).map_or(0, |height| height * side),
            latents.shape().get(4).map_or(0, |width| width * side),
        ];
        ensure!(decoded.shape() == expected, "{role}: gave frames of shape {:?}, expected {expected:?}", decoded.shape());
        decoded.index_axis(Axis(0), 0).axis_iter(Axis(1)).try_for_each(|frame| check_not_plain(role, frame))?;
        Ok(decoded)
    }
}
