//! Latents of a clip into frames by a decoder that looks at frames before and after: whole, or in tiles of time that are blended.
//!
//! The arithmetic of the tiles is that of diffusers' `AutoencoderKLLTXVideo._temporal_tiled_decode`. What a decoder with so wide a view
//! gives at the edge of a tile is not what it gives inside a longer clip, so the frames of two tiles differ where they meet, and are
//! blended over as many frames as they share.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, Axis, Slice};

use super::decoder::{Decoding, check_not_plain, unscaled};
use super::networks::Networks;
use crate::bundle::{Bundle, Role, find, names};
use crate::error::is_out_of_memory;
use crate::plan::ClipTile;
use crate::runtime::{Cancel, Tensor};

const ROLE: Role = Role::VaeDecoder;
const TIME: Axis = Axis(2);

/// A decoder on its way through a clip.
pub struct ClipDecoder {
    /// `[1, C, F, h, w]` f32 as the autoencoder has them.
    latents: ArrayD<f32>,
    /// What the decoder is told of them, where it takes it.
    timestep: Option<f32>,
    tile: Option<ClipTile>,
    /// The frame of latents that the next call begins with.
    next: usize,
    /// The last frames of the tile before, `[1, 3 or 4, n, H, W]`.
    tail: Option<ArrayD<f32>>,
    ran_out_of_memory: bool,
}

impl ClipDecoder {
    /// Makes ready.
    ///
    /// * `latents`: `[1, C, F, h, w]` f32 as the denoiser has them
    /// * `noise`: standard normal of the same shape, for a decoder that takes a timestep
    /// * `tile`: decode in such tiles, where the clip is longer than one
    #[must_use]
    pub fn new(bundle: &Bundle, latents: &ArrayD<f32>, noise: Option<&ArrayD<f32>>, tile: Option<ClipTile>) -> Self {
        let mut latents = unscaled(latents, &bundle.geometry.scaling);
        let time = bundle.clip.as_ref().and_then(|clip| clip.decode_time);
        if let (Some(time), Some(noise)) = (time, noise) {
            let share = time.noise_scale;
            latents.zip_mut_with(noise, |latent, noise| *latent = (1.0 - share) * *latent + share * noise);
        }
        let tile = tile.filter(|tile| tile.cuts(latents.len_of(TIME)));
        Self { latents, timestep: time.map(|time| time.timestep), tile, next: 0, tail: None, ran_out_of_memory: false }
    }

    /// How the clip was decoded.
    #[must_use]
    pub fn decoding(&self) -> Decoding {
        Decoding { tile: None, clip_tile: self.tile, ran_out_of_memory: self.ran_out_of_memory }
    }

    /// Decodes the next frames, `[1, 3 or 4, n, H, W]` f32, nominally in [-1, 1]; `None` after the last. A clip that runs out of the
    /// device's memory whole is decoded again in tiles.
    ///
    /// # Errors
    /// The decoder fails, gives another shape, or gives a frame of one colour throughout.
    pub fn decode(&mut self, bundle: &Bundle, networks: &mut Networks, cancel: &Cancel) -> Result<Option<ArrayD<f32>>> {
        let count = self.latents.len_of(TIME);
        if self.next >= count {
            return Ok(None);
        }
        let Some(tile) = self.tile else {
            let decoded = match self.run(bundle, networks, 0, count, cancel) {
                Err(error) if is_out_of_memory(&error) => {
                    let tile = ClipTile::of(bundle).filter(|tile| tile.cuts(count));
                    let Some(tile) = tile else {
                        return Err(error.context("the decoder runs out of memory; take a smaller size"));
                    };
                    log::warn!("{error:#}; the latents are kept, and decoded again in {tile}");
                    networks.close_all();
                    (self.tile, self.ran_out_of_memory) = (Some(tile), true);
                    return self.decode(bundle, networks, cancel);
                }
                outcome => outcome?,
            };
            self.next = count;
            return Ok(Some(decoded));
        };
        let begin = self.next;
        let mut decoded = self.run(bundle, networks, begin, (begin + tile.latents_in_call()).min(count), cancel)?;
        let shown = match self.tail.take() {
            None => tile.stride_frames() + 1,
            Some(tail) => {
                // The first frame of a tile stands for more than one of the clip, so that its last has no place.
                let kept = decoded.len_of(TIME) - 1;
                decoded = decoded.slice_axis(TIME, Slice::from(..kept)).to_owned();
                blend(&tail, &mut decoded, tile.overlap_frames());
                tile.stride_frames()
            }
        };
        let length = decoded.len_of(TIME);
        self.tail = Some(decoded.slice_axis(TIME, Slice::from(length.saturating_sub(tile.overlap_frames())..)).to_owned());
        // The last tile is within the one before it.
        self.next = if begin + tile.stride + 1 >= count { count } else { begin + tile.stride };
        Ok(Some(decoded.slice_axis(TIME, Slice::from(..shown.min(length))).to_owned()))
    }

    /// Decodes frames of latents from `begin` to before `end`.
    fn run(&self, bundle: &Bundle, networks: &mut Networks, begin: usize, end: usize, cancel: &Cancel) -> Result<ArrayD<f32>> {
        let ports = networks.inputs(ROLE, cancel)?;
        let port = find(ports, names::LATENT).with_context(|| format!("{ROLE}: has no input for latents"))?.clone();
        let of_time = find(ports, names::TIMESTEP).cloned();
        let output = networks.outputs(ROLE, cancel)?.first().with_context(|| format!("{ROLE}: has no output"))?.name.clone();
        let latents = Tensor::from(self.latents.slice_axis(TIME, Slice::from(begin..end)).to_owned());
        let timestep = of_time.zip(self.timestep).map(|(port, timestep)| (Tensor::number_for(&port, timestep, 1), port.name));
        let mut inputs = vec![(port.name.as_str(), &latents)];
        inputs.extend(timestep.as_ref().map(|(tensor, name)| (name.as_str(), tensor)));
        let mut found = networks.run(ROLE, &inputs, &[&output], cancel)?;
        let decoded = found.pop().with_context(|| format!("{ROLE}: gave nothing"))?;

        let frames_each = bundle.clip.as_ref().map_or(1, |shape| shape.frames_per_latent);
        let side = bundle.geometry.pixels_per_latent;
        let sides = |axis: usize| self.latents.len_of(Axis(axis)) * side;
        let expected = [1, bundle.geometry.picture_channels, (end - begin - 1) * frames_each + 1, sides(3), sides(4)];
        ensure!(decoded.shape() == expected, "{ROLE}: gave frames of shape {:?}, expected {expected:?}", decoded.shape());
        decoded.index_axis(Axis(0), 0).axis_iter(Axis(1)).try_for_each(|frame| check_not_plain(ROLE, frame))?;
        Ok(decoded)
    }
}

/// Blends the end of `before` into the beginning of `after`, linearly, over at most `frames`.
fn blend(before: &ArrayD<f32>, after: &mut ArrayD<f32>, frames: usize) {
    let frames = frames.min(before.len_of(TIME)).min(after.len_of(TIME));
    for at in 0..frames {
        #[expect(clippy::cast_precision_loss, reason = "a few frames")]
        let share = at as f32 / frames as f32;
        let old = before.index_axis(TIME, before.len_of(TIME) - frames + at);
        after.index_axis_mut(TIME, at).zip_mut_with(&old, |new, old| *new = old * (1.0 - share) + *new * share);
    }
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    #[test]
    fn tiles_are_blended_from_the_old_into_the_new() {
        let of = |values: &[f32]| ArrayD::from_shape_vec(IxDyn(&[1, 1, values.len(), 1, 1]), values.to_vec()).unwrap();
        let (before, mut after) = (of(&[9.0, 8.0, 8.0, 8.0, 8.0]), of(&[4.0; 6]));
        blend(&before, &mut after, 4);
        assert_eq!(after.iter().copied().collect::<Vec<_>>(), [8.0, 7.0, 6.0, 5.0, 4.0, 4.0]);
        let mut short = of(&[4.0, 4.0]);
        blend(&before, &mut short, 4);
        assert_eq!(short.iter().copied().collect::<Vec<_>>(), [8.0, 6.0]);
    }
}
