//! Latents of a clip into frames, one frame of latents after the other.
//!
//! A causal decoder sees no later frame, and of earlier ones only what its convolutions remember: two frames of each feature map. So a
//! clip of any length is decoded in the memory of one frame of latents, and gives the same frames as all at once.
//!
//! In tiles each tile goes through the whole clip before the next begins, as in diffusers' `AutoencoderKLWan.tiled_decode`: what a tile's
//! convolutions remember is far more than its frames are.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis, concatenate};

use super::causal::Past;
use super::decoder::{check_not_plain, unscaled};
use super::networks::Networks;
use super::tiles::decode_tiles_of_clip;
use crate::bundle::{Bundle, Role, names};
use crate::plan::Tile;
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
        let decoded = self.step(bundle, networks, latents, cancel)?;
        decoded.index_axis(Axis(0), 0).axis_iter(Axis(1)).try_for_each(|frame| check_not_plain(role, frame))?;
        Ok(decoded)
    }

    fn step(&mut self, bundle: &Bundle, networks: &mut Networks, latents: &ArrayD<f32>, cancel: &Cancel) -> Result<ArrayD<f32>> {
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
        Ok(decoded)
    }
}

/// Decodes a whole clip in tiles, and blends them.
///
/// * `latents`: `[1, C, F, h, w]` f32 as the denoiser has them
/// * `keeps_components`: keep both networks open, rather than one at a time
///
/// Returns `[1, 3 or 4, N, H, W]` f32, nominally in [-1, 1]: all frames of the clip.
///
/// # Errors
/// As [`CausalDecoder::decode`].
pub fn decode_clip_in_tiles(
    bundle: &Bundle,
    networks: &mut Networks,
    latents: &ArrayD<f32>,
    tile: Tile,
    keeps_components: bool,
    cancel: &Cancel,
) -> Result<ArrayD<f32>> {
    let frames = decode_tiles_of_clip(latents, tile, |part| {
        let mut decoder = CausalDecoder::default();
        let mut decoded = Vec::with_capacity(part.len_of(Axis(2)));
        for latents in part.axis_chunks_iter(Axis(2), 1) {
            let role = decoder.role();
            decoded.push(decoder.step(bundle, networks, &latents.to_owned(), cancel)?);
            if role == Role::VaeDecoderFirst && !keeps_components {
                networks.close(role);
            }
        }
        if !keeps_components {
            networks.close(Role::VaeDecoder);
        }
        let views: Vec<_> = decoded.iter().map(|frames| frames.view()).collect();
        Ok(concatenate(Axis(2), &views)?)
    })?;
    frames.index_axis(Axis(0), 0).axis_iter(Axis(1)).try_for_each(|frame| check_not_plain(Role::VaeDecoder, frame))?;
    Ok(frames)
}
