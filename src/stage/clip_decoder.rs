//! Latents of a clip into frames by a decoder that looks at frames before and after: whole, or in tiles of time and of the sides that are
//! blended.
//!
//! The arithmetic of the tiles is that of diffusers' `AutoencoderKLLTXVideo`, `_temporal_tiled_decode` around `tiled_decode`. What a decoder with so wide a view
//! gives at the edge of a tile is not what it gives inside a longer clip, so the frames of two tiles differ where they meet, and are
//! blended over as many frames as they share.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, Axis, Slice};

use super::decoder::{Decoding, check_not_plain, unscaled};
use super::networks::Networks;
use super::tiles::decode_tiles_of_clip;
use crate::bundle::{Bundle, Role, find, names};
use crate::error::is_out_of_memory;
use crate::plan::{ClipTile, Tile};
use crate::runtime::{Cancel, Tensor};

const ROLE: Role = Role::VaeDecoder;
const TIME: Axis = Axis(2);
const HEIGHT: Axis = Axis(3);
const WIDTH: Axis = Axis(4);

/// A decoder on its way through a clip.
pub struct ClipDecoder {
    /// `[1, C, F, h, w]` f32 as the autoencoder has them.
    latents: ArrayD<f32>,
    /// What the decoder is told of them, where it takes it.
    timestep: Option<f32>,
    tile: Option<ClipTile>,
    /// The tiles of the sides.
    sides: Option<Tile>,
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
    /// * `tile`: decode in such tiles of time, where the clip is longer than one
    /// * `sides`: decode in such tiles of the sides, where they are longer than one
    #[must_use]
    pub fn new(
        bundle: &Bundle,
        latents: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
        tile: Option<ClipTile>,
        sides: Option<Tile>,
    ) -> Self {
        let mut latents = unscaled(latents, &bundle.geometry.scaling);
        let time = bundle.clip.as_ref().and_then(|clip| clip.decode_time);
        if let (Some(time), Some(noise)) = (time, noise) {
            let share = time.noise_scale;
            latents.zip_mut_with(noise, |latent, noise| *latent = (1.0 - share) * *latent + share * noise);
        }
        let tile = tile.filter(|tile| tile.cuts(latents.len_of(TIME)));
        let sides = sides.filter(|sides| sides.cuts(latents.len_of(HEIGHT), latents.len_of(WIDTH)));
        Self { latents, timestep: time.map(|time| time.timestep), tile, sides, next: 0, tail: None, ran_out_of_memory: false }
    }

    /// How the clip was decoded.
    #[must_use]
    pub fn decoding(&self) -> Decoding {
        Decoding { tile: self.sides, clip_tile: self.tile, ran_out_of_memory: self.ran_out_of_memory }
    }

    /// Decodes the next frames, `[1, 3 or 4, n, H, W]` f32, nominally in [-1, 1]; `None` after the last. What runs out of the device's
    /// memory is decoded again in tiles of time, then in smaller and smaller tiles of the sides too.
    ///
    /// # Errors
    /// The decoder fails, gives another shape, or gives a frame of one colour throughout.
    pub fn decode(&mut self, bundle: &Bundle, networks: &mut Networks, cancel: &Cancel) -> Result<Option<ArrayD<f32>>> {
        loop {
            match self.decode_once(bundle, networks, cancel) {
                Err(error) if is_out_of_memory(&error) => self.give_way(error, bundle, networks)?,
                outcome => return outcome,
            }
        }
    }

    /// Takes other tiles after `error`, which is one of memory, and closes all networks.
    fn give_way(&mut self, error: anyhow::Error, bundle: &Bundle, networks: &mut Networks) -> Result<()> {
        let tile = ClipTile::of(bundle).filter(|tile| self.tile.is_none() && tile.cuts(self.latents.len_of(TIME)));
        let longer = self.latents.len_of(HEIGHT).max(self.latents.len_of(WIDTH)) * bundle.geometry.pixels_per_latent;
        let smaller = Tile::within(bundle, self.sides.map_or(longer, Tile::pixels) / 2);
        match (tile, smaller) {
            (Some(tile), _) => {
                log::warn!("{error:#}; the latents are kept, and decoded again in {tile}");
                self.tile = Some(tile);
            }
            (None, Some(smaller)) => {
                log::warn!("{error:#}; the latents are kept, and decoded again in {smaller}");
                self.sides = Some(smaller);
            }
            (None, None) => return Err(error.context("the decoder runs out of memory; take a smaller size")),
        }
        networks.close_all();
        self.ran_out_of_memory = true;
        Ok(())
    }

    fn decode_once(&mut self, bundle: &Bundle, networks: &mut Networks, cancel: &Cancel) -> Result<Option<ArrayD<f32>>> {
        let count = self.latents.len_of(TIME);
        if self.next >= count {
            return Ok(None);
        }
        let Some(tile) = self.tile else {
            let decoded = self.run(bundle, networks, 0, count, cancel)?;
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
        let timestep = of_time.zip(self.timestep).map(|(port, timestep)| (Tensor::number_for(&port, timestep, 1), port.name));
        let (colours, side) = (bundle.geometry.picture_channels, bundle.geometry.pixels_per_latent);
        let frames = bundle.clip.as_ref().map_or(1, |shape| shape.frames_of(end - begin));
        let mut decode = |latents: ArrayD<f32>| -> Result<ArrayD<f32>> {
            cancel.check()?;
            let expected = [1, colours, frames, latents.len_of(HEIGHT) * side, latents.len_of(WIDTH) * side];
            let latents = Tensor::from(latents);
            let mut inputs = vec![(port.name.as_str(), &latents)];
            inputs.extend(timestep.as_ref().map(|(tensor, name)| (name.as_str(), tensor)));
            let mut found = networks.run(ROLE, &inputs, &[&output], cancel)?;
            let decoded = found.pop().with_context(|| format!("{ROLE}: gave nothing"))?;
            ensure!(decoded.shape() == expected, "{ROLE}: gave frames of shape {:?}, expected {expected:?}", decoded.shape());
            Ok(decoded)
        };
        let latents = self.latents.slice_axis(TIME, Slice::from(begin..end)).as_standard_layout().into_owned();
        let decoded = match self.sides {
            None => decode(latents)?,
            Some(tile) => decode_tiles_of_clip(&latents, tile, decode)?,
        };
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
