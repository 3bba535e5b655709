//! Latents into a picture; for previews also a linear guess at it.

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};

use super::networks::Networks;
use super::tiles::decode_tiles;
use crate::bundle::{Bundle, LatentScaling, Role, find, names};
use crate::error::is_out_of_memory;
use crate::plan::{ClipTile, Tile};
use crate::runtime::{Cancel, Tensor};

/// How latents were decoded in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decoding {
    /// The tiles, where the picture is more than one.
    pub tile: Option<Tile>,
    /// The tiles of time, where a clip is more than one.
    pub clip_tile: Option<ClipTile>,
    /// Whether the device ran out of memory on the way there.
    pub ran_out_of_memory: bool,
}

/// Decodes latents with the decoder of `role` as `decoding` says, and in smaller and smaller tiles when the device runs out of memory; `decoding` then
/// says how it went in the end. The latents are kept meanwhile; all networks are closed, so that their memory is free.
///
/// * `latents`, and what is returned: as for [`decode`]
///
/// # Errors
/// As [`decode`]; out of memory for the smallest tiles too, or for a decoder that takes one size only.
pub fn decode_within_memory(
    bundle: &Bundle,
    role: Role,
    networks: &mut Networks,
    latents: &ArrayD<f32>,
    decoding: &mut Decoding,
    cancel: &Cancel,
) -> Result<ArrayD<f32>> {
    let longer = latents.shape().iter().skip(2).max().copied().unwrap_or(0);
    decoding.tile = decoding.tile.filter(|tile| longer > tile.latents);
    loop {
        match decode(bundle, role, networks, latents, decoding.tile, cancel) {
            Ok(pictures) => return Ok(pictures),
            Err(error) => decoding.give_way(error, bundle, networks, longer)?,
        }
    }
}

impl Decoding {
    /// Takes smaller tiles after `error`, where that is one of memory, and closes all networks.
    ///
    /// * `longer`: the longer side in latents
    ///
    /// # Errors
    /// `error`, where it is another or there are no smaller tiles.
    pub fn give_way(&mut self, error: anyhow::Error, bundle: &Bundle, networks: &mut Networks, longer: usize) -> Result<()> {
        if !is_out_of_memory(&error) {
            return Err(error);
        }
        let pixels = self.tile.map_or(longer * bundle.geometry.pixels_per_latent, Tile::pixels);
        let Some(smaller) = Tile::within(bundle, pixels / 2) else {
            return Err(error.context("the decoder runs out of memory, and there is no smaller tile to try; take a smaller size"));
        };
        log::warn!("{error:#}; the latents are kept, and decoded again in {smaller}");
        networks.close_all();
        *self = Self { tile: Some(smaller), ran_out_of_memory: true, ..Self::default() };
        Ok(())
    }
}

/// Decodes latents with the decoder of `role`.
///
/// * `latents`: `[B, C, h, w]` f32 as the denoiser has them
/// * `tile`: decode in such tiles, and blend them
///
/// Returns `[B, 3 or 4, H, W]` f32, nominally in [-1, 1].
///
/// # Errors
/// The decoder fails, gives another shape, or gives a picture of one colour throughout.
pub fn decode(
    bundle: &Bundle,
    role: Role,
    networks: &mut Networks,
    latents: &ArrayD<f32>,
    tile: Option<Tile>,
    cancel: &Cancel,
) -> Result<ArrayD<f32>> {
    let scaling = scaling(bundle, role);
    let pictures = match tile.filter(|tile| latents.shape().iter().skip(2).any(|side| *side > tile.latents)) {
        None => run(role, scaling, networks, latents, cancel)?,
        Some(tile) => decode_tiles(latents, tile, |part| run(role, scaling, networks, &part, cancel))?,
    };
    let side = bundle.geometry.pixels_per_latent;
    let expected = [
        latents.shape().first().copied().unwrap_or(0),
        bundle.geometry.picture_channels,
        latents.shape().get(2).map_or(0, |height| height * side),
        latents.shape().get(3).map_or(0, |width| width * side),
    ];
    ensure!(pictures.shape() == expected, "{role}: gave a picture of shape {:?}, expected {expected:?}", pictures.shape());
    pictures.axis_iter(Axis(0)).try_for_each(|picture| check_not_plain(role, picture))?;
    Ok(pictures)
}

/// Makes sure that `picture`, `[3 or 4, H, W]`, is not of one colour throughout.
pub(super) fn check_not_plain(role: Role, picture: ArrayViewD<'_, f32>) -> Result<()> {
    // As it is seen: of one colour throughout, or so far out of range that nothing is left of it.
    let is_plain = picture.axis_iter(Axis(0)).all(|plane| {
        let seen = |value: &f32| value.clamp(-1.0, 1.0);
        let (least, most) =
            plane.iter().map(seen).fold((1.0_f32, -1.0_f32), |(least, most), value| (least.min(value), most.max(value)));
        most - least < 1.0 / 255.0
    });
    if is_plain {
        let (least, most) =
            picture.iter().fold((f32::MAX, f32::MIN), |(least, most), value| (least.min(*value), most.max(*value)));
        bail!(
            "{role}: the picture is of one colour throughout (values {least} to {most}, expected a picture in [-1, 1]); \
             its file is damaged or does not fit the denoiser"
        );
    }
    Ok(())
}

/// Decodes latents with the small decoder of `role`; shapes as for [`decode`], whatever size it gives.
///
/// # Errors
/// The decoder fails.
pub fn preview_decode(
    bundle: &Bundle,
    role: Role,
    networks: &mut Networks,
    latents: &ArrayD<f32>,
    cancel: &Cancel,
) -> Result<ArrayD<f32>> {
    run(role, scaling(bundle, role), networks, latents, cancel)
}

/// What stands between the denoiser's latents and those of the decoder of `role`.
fn scaling(bundle: &Bundle, role: Role) -> &LatentScaling {
    match role {
        Role::TinyDecoder => &bundle.geometry.tiny_scaling,
        Role::PreviewDecoder => &bundle.geometry.preview_scaling,
        _ => &bundle.geometry.scaling,
    }
}

/// Latents as the autoencoder has them, out of the denoiser's.
pub(super) fn unscaled(latents: &ArrayD<f32>, scaling: &LatentScaling) -> ArrayD<f32> {
    let mut latents = latents.clone();
    for (index, mut channel) in latents.axis_iter_mut(Axis(1)).enumerate() {
        let (shift, deviation) = scaling.of_channel(index);
        channel.mapv_inplace(|value| value * deviation / scaling.factor + shift);
    }
    latents
}

fn run(
    role: Role,
    scaling: &LatentScaling,
    networks: &mut Networks,
    latents: &ArrayD<f32>,
    cancel: &Cancel,
) -> Result<ArrayD<f32>> {
    let latents = unscaled(latents, scaling);
    let input =
        find(networks.inputs(role, cancel)?, names::LATENT).with_context(|| format!("{role}: has no input for latents"))?;
    let input = input.name.clone();
    let output = networks.outputs(role, cancel)?.first().with_context(|| format!("{role}: has no output"))?.name.clone();
    let tensor = Tensor::from(latents);
    networks.run(role, &[(&input, &tensor)], &[&output], cancel)?.pop().with_context(|| format!("{role}: gave nothing"))
}

/// A linear map from a latent's channels to a colour: a picture at the latents' size, for next to nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviewMap {
    /// A row for each latent channel and one for the offset; a column for each colour channel.
    rows: Vec<Vec<f32>>,
}

impl PreviewMap {
    /// The map in `table`: a row for each of `channels` and one for the offset. `None` when it has another number of rows.
    #[must_use]
    pub fn from_table(table: &[Vec<f32>], channels: usize) -> Option<Self> {
        (table.len() == channels + 1).then(|| Self { rows: table.to_vec() })
    }

    /// Fits the map to what the bundle's own decoder makes of `latents`, by least squares.
    ///
    /// * `latents`: `[1, C, h, w]` f32, standard normal
    ///
    /// # Errors
    /// The decoder fails, or the latents are too few for a fit.
    pub fn fit(bundle: &Bundle, networks: &mut Networks, latents: &ArrayD<f32>, cancel: &Cancel) -> Result<Self> {
        let picture = run(Role::VaeDecoder, &bundle.geometry.scaling, networks, latents, cancel)?;
        let &[_, channels, height, width] = latents.shape() else { bail!("latents have {} dimensions", latents.ndim()) };
        let colours = picture.shape().get(1).copied().unwrap_or(0);
        let side = bundle.geometry.pixels_per_latent;
        ensure!(picture.shape() == [1, colours, height * side, width * side], "vae_decoder: gave {:?}", picture.shape());

        let size = channels + 1;
        ensure!(height * width >= 2 * size, "{height}x{width} latents are too few to fit {size} colours to");
        let mut normal = vec![vec![0.0_f64; size + colours]; size];
        #[expect(clippy::cast_precision_loss, reason = "a patch has some dozen pixels")]
        let patch = (side * side) as f64;
        for row in 0..height {
            for column in 0..width {
                let mut sample: Vec<f64> = (0..channels).map(|channel| f64::from(latents[[0, channel, row, column]])).collect();
                sample.push(1.0);
                let mean = |colour: usize| {
                    let pixels =
                        (0..side * side).map(|at| picture[[0, colour, row * side + at / side, column * side + at % side]]);
                    pixels.map(f64::from).sum::<f64>() / patch
                };
                let means: Vec<f64> = (0..colours).map(mean).collect();
                for (line, left) in normal.iter_mut().zip(&sample) {
                    for (cell, right) in line.iter_mut().zip(sample.iter().chain(&means)) {
                        *cell += left * right;
                    }
                }
            }
        }
        // A touch of ridge keeps the system solvable when two channels say the same.
        for (index, line) in normal.iter_mut().enumerate() {
            line[index] += 1e-3;
        }
        Ok(Self { rows: solve(normal, size) })
    }

    /// Makes a small picture: `[1, C, h, w]` f32 to `[3 or 4, h, w]` f32, nominally in [-1, 1].
    #[must_use]
    pub fn apply(&self, latents: &ArrayD<f32>) -> ArrayD<f32> {
        let (height, width) = (latents.len_of(Axis(2)), latents.len_of(Axis(3)));
        let colours = self.rows.first().map_or(0, Vec::len);
        let mut picture = ArrayD::zeros(IxDyn(&[colours, height, width]));
        let first = latents.index_axis(Axis(0), 0);
        for (colour, mut plane) in picture.axis_iter_mut(Axis(0)).enumerate() {
            if let Some(offset) = self.rows.last() {
                plane.fill(offset[colour]);
            }
            for (channel, row) in first.axis_iter(Axis(0)).zip(&self.rows) {
                plane.scaled_add(row[colour], &channel);
            }
        }
        picture
    }
}

/// Gaussian elimination with pivoting of `size` equations whose right-hand sides stand behind them.
fn solve(mut system: Vec<Vec<f64>>, size: usize) -> Vec<Vec<f32>> {
    for column in 0..size {
        let pivot = (column..size).max_by(|left, right| system[*left][column].abs().total_cmp(&system[*right][column].abs()));
        system.swap(column, pivot.unwrap_or(column));
        let lead = system[column].clone();
        for (index, line) in system.iter_mut().enumerate() {
            if index != column {
                let factor = line[column] / lead[column];
                for (cell, value) in line.iter_mut().zip(&lead) {
                    *cell -= factor * value;
                }
            }
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the picture is f32")]
    let row = |(index, line): (usize, &Vec<f64>)| line[size..].iter().map(|value| (value / line[index]) as f32).collect();
    system.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solve_finds_the_weights_of_a_known_system() {
        let system = vec![vec![0.0, 2.0, 4.0, 2.0], vec![3.0, 1.0, 5.0, 4.0]];
        let rows = solve(system, 2);
        assert_eq!(rows, [[1.0, 1.0], [2.0, 1.0]]);
    }
}
