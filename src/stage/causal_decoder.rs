//! Latents of a clip into frames, one frame of latents after the other.
//!
//! A causal decoder sees no later frame, and of earlier ones only what its convolutions remember: two frames of each feature map. So a
//! clip of any length is decoded in the memory of one frame of latents, and gives the same frames as all at once.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, Axis};

use super::decoder::{check_not_plain, unscaled};
use super::networks::Networks;
use crate::bundle::{Bundle, Role, find, names};
use crate::runtime::{Cancel, Tensor};

/// A decoder on its way through a clip.
#[derive(Default)]
pub struct CausalDecoder {
    /// What it remembers, by number; nothing before the first frame.
    past: Vec<(String, ArrayD<f32>)>,
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
        let port =
            find(networks.inputs(role, cancel)?, names::LATENT).with_context(|| format!("{role}: has no input for latents"))?;
        let port = port.name.clone();
        let outputs = networks.outputs(role, cancel)?;
        let remembers = |name: &&str| name.starts_with(names::PRESENT);
        let all: Vec<String> = outputs.iter().map(|output| output.name.clone()).collect();
        let frames = all.iter().map(String::as_str).find(|name| !remembers(name));
        let frames = frames.with_context(|| format!("{role}: has no output for frames"))?;
        let present: Vec<&str> = all.iter().map(String::as_str).filter(remembers).collect();
        let wanted: Vec<&str> = std::iter::once(frames).chain(present.iter().copied()).collect();

        let tensor = Tensor::from(unscaled(latents, &geometry.scaling));
        let past: Vec<(String, Tensor)> =
            std::mem::take(&mut self.past).into_iter().map(|(name, value)| (name, Tensor::from(value))).collect();
        let inputs: Vec<(&str, &Tensor)> =
            std::iter::once((port.as_str(), &tensor)).chain(past.iter().map(|(name, value)| (name.as_str(), value))).collect();
        let mut found = networks.run(role, &inputs, &wanted, cancel)?.into_iter();
        let decoded = found.next().with_context(|| format!("{role}: gave nothing"))?;
        let number = |name: &str| format!("{}{}", names::PAST, name.trim_start_matches(names::PRESENT));
        self.past = present.iter().map(|name| number(name)).zip(found).collect();

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
