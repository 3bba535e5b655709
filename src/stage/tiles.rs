//! Cuts latents into overlapping tiles and blends the decoded tiles into one picture, linearly, so that no seams show.
//!
//! The arithmetic is that of diffusers' `AutoencoderKL.tiled_decode`, in its order: a tile is blended with the one above it, then
//! with the one to its left. Of the tiles only the edges that are still blended are kept.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice, Zip};

use crate::plan::Tile;

const ROWS: Axis = Axis(2);
const COLUMNS: Axis = Axis(3);

/// Decodes `latents`, `[B, C, h, w]` f32, tile by tile; returns `[B, 3 or 4, H, W]` f32.
///
/// * `decode`: decodes one tile of at most `tile.latents` a side
///
/// # Errors
/// `decode` fails, or gives another size than the tile's.
pub fn decode_tiles(
    latents: &ArrayD<f32>,
    tile: Tile,
    mut decode: impl FnMut(ArrayD<f32>) -> Result<ArrayD<f32>>,
) -> Result<ArrayD<f32>> {
    let &[batch, _, height, width] = latents.shape() else {
        anyhow::bail!("vae_decoder: latents have {} dimensions, expected 4", latents.ndim());
    };
    let scale = tile.pixels_per_latent;
    let mut picture = ArrayD::zeros(IxDyn(&[batch, 0, 0, 0]));
    let mut above: Vec<ArrayD<f32>> = Vec::new();
    for row in (0..height).step_by(tile.stride()) {
        let mut edges_below = Vec::new();
        let mut left: Option<ArrayD<f32>> = None;
        for (number, column) in (0..width).step_by(tile.stride()).enumerate() {
            let (bottom, right) = ((row + tile.latents).min(height), (column + tile.latents).min(width));
            let cut = latents.slice_axis(ROWS, Slice::from(row..bottom));
            let cut = cut.slice_axis(COLUMNS, Slice::from(column..right)).to_owned();
            let mut decoded = decode(cut)?;
            let expected = [(bottom - row) * scale, (right - column) * scale];
            ensure!(
                decoded.ndim() == 4 && decoded.shape()[2..] == expected && decoded.len_of(Axis(0)) == batch,
                "vae_decoder: gave a tile of shape {:?}, expected {expected:?} at its end",
                decoded.shape()
            );
            if picture.is_empty() {
                picture = ArrayD::zeros(IxDyn(&[batch, decoded.len_of(Axis(1)), height * scale, width * scale]));
            }
            if row > 0 {
                let edge = above.get(number).context("vae_decoder: a tile has none above it")?;
                blend(edge, &mut decoded, ROWS, tile.overlap_pixels())?;
            }
            if let Some(edge) = &left {
                blend(edge, &mut decoded, COLUMNS, tile.overlap_pixels())?;
            }
            edges_below.push(last(&decoded, ROWS, tile.overlap_pixels()).to_owned());
            left = Some(last(&decoded, COLUMNS, tile.overlap_pixels()).to_owned());

            let shown = |from: usize, to: usize| (to - from).min(tile.stride()) * scale;
            let (rows, columns) = (shown(row, bottom), shown(column, right));
            ensure!(picture.len_of(Axis(1)) == decoded.len_of(Axis(1)), "vae_decoder: gave tiles of different channels");
            let mut place = picture.slice_axis_mut(ROWS, Slice::from(row * scale..row * scale + rows));
            let mut place = place.slice_axis_mut(COLUMNS, Slice::from(column * scale..column * scale + columns));
            let part = decoded.slice_axis(ROWS, Slice::from(..rows));
            place.assign(&part.slice_axis(COLUMNS, Slice::from(..columns)));
        }
        above = edges_below;
    }
    Ok(picture)
}

/// Decodes the clip `latents`, `[1, C, F, h, w]` f32, tile by tile of its sides; returns `[1, 3 or 4, N, H, W]` f32.
///
/// * `decode`: decodes all frames of one tile
///
/// # Errors
/// As [`decode_tiles`].
pub(super) fn decode_tiles_of_clip(
    latents: &ArrayD<f32>,
    tile: Tile,
    mut decode: impl FnMut(ArrayD<f32>) -> Result<ArrayD<f32>>,
) -> Result<ArrayD<f32>> {
    ensure!(latents.ndim() == 5, "vae_decoder: is given latents of {} dimensions, expected 5", latents.ndim());
    // Tiles are cut along the sides alone, so the frames go among the channels.
    let together = |clip: ArrayD<f32>| -> Result<ArrayD<f32>> {
        let shape = [1, clip.len_of(Axis(1)) * clip.len_of(Axis(2)), clip.len_of(Axis(3)), clip.len_of(Axis(4))];
        Ok(clip.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&shape))?)
    };
    let apart = |flat: ArrayD<f32>, channels: usize| -> Result<ArrayD<f32>> {
        let shape = [1, channels, flat.len_of(Axis(1)) / channels.max(1), flat.len_of(ROWS), flat.len_of(COLUMNS)];
        Ok(flat.as_standard_layout().into_owned().into_shape_with_order(IxDyn(&shape))?)
    };
    let (channels, mut colours) = (latents.len_of(Axis(1)), 0);
    let tiled = decode_tiles(&together(latents.clone())?, tile, |part| {
        let decoded = decode(apart(part, channels)?)?;
        ensure!(decoded.ndim() == 5, "vae_decoder: gave a tile of {} dimensions, expected 5", decoded.ndim());
        colours = decoded.len_of(Axis(1));
        together(decoded)
    })?;
    apart(tiled, colours)
}

/// The last `extent` of `array` along `axis`, or all of it where it is shorter.
fn last(array: &ArrayD<f32>, axis: Axis, extent: usize) -> ArrayViewD<'_, f32> {
    array.slice_axis(axis, Slice::from(array.len_of(axis).saturating_sub(extent)..))
}

/// Lets the beginning of `tile` along `axis` rise out of the end of `before`, over `extent` or what there is of either.
fn blend(before: &ArrayD<f32>, tile: &mut ArrayD<f32>, axis: Axis, extent: usize) -> Result<()> {
    let extent = extent.min(before.len_of(axis)).min(tile.len_of(axis));
    let before = last(before, axis, extent);
    let across = Axis(5 - axis.index());
    ensure!(before.len_of(across) == tile.len_of(across), "vae_decoder: neighbouring tiles differ in size");
    for (at, line) in before.axis_iter(axis).enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "an overlap has some hundred pixels")]
        let share = at as f32 / extent as f32;
        let mut target: ArrayViewMutD<'_, f32> = tile.index_axis_mut(axis, at);
        Zip::from(&mut target).and(&line).for_each(|value, before| *value = before * (1.0 - share) + *value * share);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A decoder without context: each latent becomes a patch of its value.
    fn enlarge(latents: &ArrayD<f32>, scale: usize) -> ArrayD<f32> {
        let shape = latents.shape();
        ArrayD::from_shape_fn(IxDyn(&[shape[0], 3, shape[2] * scale, shape[3] * scale]), |at| {
            latents[[at[0], at[1], at[2] / scale, at[3] / scale]]
        })
    }

    fn latents(height: usize, width: usize) -> ArrayD<f32> {
        ArrayD::from_shape_fn(IxDyn(&[1, 4, height, width]), |at| (at[1] * 7919 + at[2] * 31 + at[3] * 17) as f32 * 0.01)
    }

    #[test]
    fn a_decoder_without_context_gives_the_same_picture_in_tiles() {
        let mut cases = 0;
        for side in [8, 12, 16] {
            for (height, width) in [(8, 8), (9, 8), (16, 33), (31, 20), (40, 64), (13, 38)] {
                let tile = Tile { latents: side, pixels_per_latent: 4 };
                let latents = latents(height, width);
                let tiled = decode_tiles(&latents, tile, |part| {
                    assert!(part.len_of(ROWS) <= side && part.len_of(COLUMNS) <= side);
                    Ok(enlarge(&part, 4))
                });
                let whole = enlarge(&latents, 4);
                let apart = tiled.unwrap().iter().zip(&whole).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-4, "{side} {height}x{width}: {apart}");
                cases += 1;
            }
        }
        assert_eq!(cases, 18);
    }

    #[test]
    fn tiles_that_differ_are_joined_by_a_ramp() {
        let tile = Tile { latents: 8, pixels_per_latent: 2 };
        let mut number = 0.0;
        let tiled = decode_tiles(&latents(8, 14), tile, |part| {
            number += 1.0;
            Ok(enlarge(&part, 2) * 0.0 + number)
        });
        let picture = tiled.unwrap();
        let row: Vec<f32> = (0..28).map(|column| picture[[0, 0, 0, column]]).collect();
        assert_eq!(row[..13], [1.0; 13]);
        assert_eq!(row[13..16], [1.25, 1.5, 1.75]);
        assert_eq!(row[16..24], [2.0; 8]);
        assert_eq!(row[24..], [2.0, 2.25, 2.5, 2.75]);
    }

    #[test]
    fn a_tile_of_another_size_is_an_error() {
        let tile = Tile { latents: 8, pixels_per_latent: 4 };
        let error = decode_tiles(&latents(8, 14), tile, |part| Ok(enlarge(&part, 3))).unwrap_err();
        assert!(error.to_string().contains("gave a tile of shape [1, 3, 24, 24], expected [32, 32]"), "{error}");
    }
}
