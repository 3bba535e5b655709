//! Cuts a picture into overlapping tiles and blends what a network makes of them.
//!
//! Where two tiles overlap, each one's outermost part is left out, since the network saw nothing beyond its border there, and the middle part is
//! a ramp from the one to the other. A network that sees no further than the part left out gives the same picture in tiles as whole.

use anyhow::{Result, ensure};
use ndarray::{Array1, ArrayD, Axis, IxDyn, Slice};

/// Tiles of fewer pixels a side are mostly border.
pub const SMALLEST_TILE_PX: usize = 16;
/// Larger tiles are no tiles.
pub const LARGEST_TILE_PX: usize = 4096;
/// Pixels that two tiles share at most.
const LARGEST_OVERLAP_PX: usize = 32;

/// Pixels that tiles of `side` share at least.
fn overlap(side: usize) -> usize {
    (side / 2).clamp(1, LARGEST_OVERLAP_PX)
}

/// Where tiles of `side` begin along `length` pixels: evenly, the last at the end.
fn starts(length: usize, side: usize) -> Vec<usize> {
    if length <= side {
        return vec![0];
    }
    let count = (length - overlap(side)).div_ceil(side - overlap(side)).max(2);
    (0..count).map(|number| number * (length - side) / (count - 1)).collect()
}

/// How much a tile of `side`, beginning at `start`, counts at each of its pixels, enlarged by `factor`.
fn window(start: usize, side: usize, length: usize, factor: usize) -> Array1<f32> {
    #[expect(clippy::cast_precision_loss, reason = "a tile has some thousand pixels")]
    let (margin, ramp) = ((overlap(side) * factor) as f32 / 4.0, (overlap(side) * factor) as f32 / 2.0);
    let rises = |distance: f32| ((distance - margin) / ramp).clamp(0.0, 1.0);
    let size = side.min(length) * factor;
    Array1::from_shape_fn(size, |at| {
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let (before, after) = (at as f32 + 0.5, (size - at) as f32 - 0.5);
        let from_start = if start == 0 { 1.0 } else { rises(before) };
        let to_end = if start + side >= length { 1.0 } else { rises(after) };
        from_start.min(to_end)
    })
}

/// Enlarges `picture`, `[1, 3, H, W]` f32, by `factor` in tiles of `side` at most; returns `[1, 3, sH, sW]` f32.
///
/// * `enlarge`: enlarges one tile
/// * `done`: is told of each tile that is done, and of how many
///
/// # Errors
/// `enlarge` or `done` fails; a tile comes back in another size.
pub(super) fn in_tiles(
    picture: &ArrayD<f32>,
    factor: usize,
    side: usize,
    mut enlarge: impl FnMut(ArrayD<f32>) -> Result<ArrayD<f32>>,
    mut done: impl FnMut(usize, usize) -> Result<()>,
) -> Result<ArrayD<f32>> {
    let (height, width) = (picture.len_of(Axis(2)), picture.len_of(Axis(3)));
    let (rows, columns) = (starts(height, side), starts(width, side));
    let mut sum = ArrayD::<f32>::zeros(IxDyn(&[1, 3, height * factor, width * factor]));
    let (mut of_rows, mut of_columns) = (Array1::<f32>::zeros(height * factor), Array1::<f32>::zeros(width * factor));
    let all = rows.len() * columns.len();
    for (row, top) in rows.iter().copied().enumerate() {
        let down = window(top, side, height, factor);
        let (tall, lines) = (side.min(height), top * factor..top * factor + down.len());
        of_rows.slice_axis_mut(Axis(0), Slice::from(lines.clone())).scaled_add(1.0, &down);
        for (column, left) in columns.iter().copied().enumerate() {
            let across = window(left, side, width, factor);
            let (wide, places) = (side.min(width), left * factor..left * factor + across.len());
            if row == 0 {
                of_columns.slice_axis_mut(Axis(0), Slice::from(places.clone())).scaled_add(1.0, &across);
            }
            let cut = picture.slice_axis(Axis(2), Slice::from(top..top + tall));
            let cut = cut.slice_axis(Axis(3), Slice::from(left..left + wide)).to_owned();
            let made = enlarge(cut)?;
            ensure!(
                made.shape() == [1, 3, tall * factor, wide * factor],
                "upscaler: gave a tile of shape {:?}, expected [1, 3, {}, {}]",
                made.shape(),
                tall * factor,
                wide * factor
            );
            let mut place = sum.slice_axis_mut(Axis(2), Slice::from(lines.clone()));
            let mut place = place.slice_axis_mut(Axis(3), Slice::from(places));
            for (at, value) in made.indexed_iter() {
                place[at.clone()] += value * down[at[2]] * across[at[3]];
            }
            done(row * columns.len() + column + 1, all)?;
        }
    }
    for (at, value) in sum.indexed_iter_mut() {
        *value /= of_rows[at[2]] * of_columns[at[3]];
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(height: usize, width: usize) -> ArrayD<f32> {
        ArrayD::from_shape_fn(IxDyn(&[1, 3, height, width]), |at| ((at[1] * 7 + at[2] * 31 + at[3] * 17) % 97) as f32 / 96.0)
    }

    fn repeat(tile: &ArrayD<f32>, factor: usize) -> ArrayD<f32> {
        let shape = tile.shape();
        ArrayD::from_shape_fn(IxDyn(&[1, 3, shape[2] * factor, shape[3] * factor]), |at| {
            tile[[0, at[1], at[2] / factor, at[3] / factor]]
        })
    }

    #[test]
    fn tiles_cover_every_pixel_and_overlap() {
        let mut cases = 0;
        for side in [16, 17, 64, 128, 256] {
            for length in [1, 15, 16, 17, 33, 100, 129, 500, 1000] {
                let starts = starts(length, side);
                assert_eq!(starts[0], 0);
                assert!(starts.last().unwrap() + side >= length, "{length} in {side}");
                for pair in starts.windows(2) {
                    assert!(pair[0] < pair[1] && pair[0] + side - pair[1] >= overlap(side), "{length} in {side}: {starts:?}");
                }
                cases += 1;
            }
        }
        assert_eq!(cases, 45);
    }

    #[test]
    fn a_network_without_context_gives_the_same_in_tiles() {
        let mut cases = 0;
        for factor in [1, 2, 3, 4] {
            for (height, width, side) in [(16, 16, 16), (5, 40, 16), (33, 17, 16), (70, 100, 32), (48, 80, 64)] {
                let picture = picture(height, width);
                let mut told = Vec::new();
                let tiled = in_tiles(
                    &picture,
                    factor,
                    side,
                    |tile| Ok(repeat(&tile, factor)),
                    |done, all| {
                        told.push((done, all));
                        Ok(())
                    },
                );
                let (tiled, whole) = (tiled.unwrap(), repeat(&picture, factor));
                let apart = tiled.iter().zip(&whole).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-5, "{factor} {height}x{width} in {side}: {apart}");
                assert!(told.iter().enumerate().all(|(number, told)| *told == (number + 1, told.1)) && told.len() == told[0].1);
                cases += 1;
            }
        }
        assert_eq!(cases, 20);
    }

    #[test]
    fn what_a_border_spoils_is_left_out() {
        // A network that gives nonsense in the four outermost pixels of each tile but at the picture's own border.
        let whole = picture(64, 200);
        let spoilt = |tile: ArrayD<f32>| {
            let width = tile.len_of(Axis(3));
            let mut made = repeat(&tile, 2);
            for (at, value) in made.indexed_iter_mut() {
                if at[3] < 8 || at[3] >= (width - 4) * 2 {
                    *value += 100.0;
                }
            }
            Ok(made)
        };
        let made = in_tiles(&whole, 2, 64, spoilt, |_, _| Ok(())).unwrap();
        let expected = repeat(&whole, 2);
        let inner = made.indexed_iter().filter(|(at, _)| (8..392).contains(&at[3]));
        let apart = inner.map(|(at, value)| (value - expected[at]).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-4, "{apart}");
    }

    #[test]
    fn a_tile_of_another_size_is_an_error() {
        let error = in_tiles(&picture(20, 20), 2, 16, |tile| Ok(repeat(&tile, 3)), |_, _| Ok(())).unwrap_err().to_string();
        assert!(error.contains("gave a tile of shape [1, 3, 48, 48], expected [1, 3, 32, 32]"), "{error}");
    }
}
