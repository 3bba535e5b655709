//! Decoding in tiles: diffusers' numbers, the untiled picture, and no seams.
//!
//! The golden numbers and how they were made: `tests/tools/README.md`.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;

use half::f16;
use kiln::bundle::{Bundle, Role};
use kiln::plan::{Assignments, ClipTile, Plan, Tile};
use kiln::runtime::Runtime;
use kiln::stage::{CausalDecoder, ClipDecoder, Networks, decode, decode_clip_in_tiles};
use kiln::{Cancel, Request, Settings, random};
use ndarray::{ArrayD, Axis, IxDyn, s};
use safetensors::SafeTensors;
use serde::Deserialize;

#[path = "common/reference.rs"]
mod reference;

/// A step of a byte, in a picture's range of -1 to 1.
const BYTE: f32 = 2.0 / 255.0;
/// How far the mean pixel of a tiled picture may lie from the untiled one. The tiny autoencoders have random weights and normalise over the
/// whole of what they see, so that tiles of 16 latents differ far more than a trained model's of 64 do; diffusers' differ as much.
const MEAN_APART: f32 = 24.0 * BYTE;
/// How much rougher the change that tiling makes may be at the tiles' borders than elsewhere.
const SEAM: f32 = 1.25;

#[derive(Deserialize)]
struct Case {
    name: String,
    bundle: String,
    tile_pixels: u32,
}

fn opened(name: &str) -> (Bundle, Networks) {
    let bundle = Bundle::open(&reference::tests_folder().join("bundles").join(name)).unwrap();
    let (runtime, settings) = (Runtime::open(None).unwrap(), Settings { threads: Some(2), ..Settings::default() });
    let assignments = Assignments::new(&bundle, &settings, &runtime).unwrap();
    let resolved = Request::new("a").resolve(&bundle).unwrap();
    let networks = Networks::new(runtime, &Plan::new(&bundle, &resolved, &settings, &assignments).unwrap());
    (bundle, networks)
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> ArrayD<f32> {
    let tensor = tensors.tensor(name).unwrap();
    let values: Vec<f32> = match tensor.dtype() {
        safetensors::Dtype::F16 => {
            tensor.data().chunks_exact(2).map(|bytes| f16::from_le_bytes(bytes.try_into().unwrap()).to_f32()).collect()
        }
        _ => reference::floats(tensors, name),
    };
    ArrayD::from_shape_vec(IxDyn(tensor.shape()), values).unwrap()
}

fn apart(left: &ArrayD<f32>, right: &ArrayD<f32>) -> Vec<f32> {
    assert_eq!(left.shape(), right.shape());
    left.iter().zip(right).map(|(left, right)| (left.clamp(-1.0, 1.0) - right.clamp(-1.0, 1.0)).abs()).collect()
}

/// Opens each case of the clips that `of` makes, or those of pictures, and runs it on its latents and tile; returns how many runs that were.
fn each_case(
    of: Option<&str>,
    mut run: impl FnMut(&Case, &SafeTensors<'_>, (&Bundle, &mut Networks), &ArrayD<f32>, Tile) -> usize,
) -> usize {
    let mut cases: Vec<Case> = reference::cases("tiles");
    cases.retain(|case| ["wan", "ltx"].into_iter().find(|name| *name == case.bundle) == of);
    let bytes = fs::read(reference::golden("tiles", "tiles.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let each = cases.iter().map(|case| {
        let (bundle, mut networks) = opened(&case.bundle);
        let latents = floats(&tensors, &format!("{}.latents", case.name));
        let tile = Tile::of_pixels(&bundle, case.tile_pixels).unwrap();
        run(case, &tensors, (&bundle, &mut networks), &latents, tile)
    });
    each.sum()
}

/// Holds what was decoded in tiles to diffusers' numbers, which are of tiles: the same latents as a whole are something else.
fn check(case: &Case, tensors: &SafeTensors<'_>, tiled: &ArrayD<f32>, whole: &ArrayD<f32>) {
    let largest = |other: &ArrayD<f32>| apart(tiled, other).into_iter().fold(0.0, f32::max);
    let most = largest(&floats(tensors, &format!("{}.picture", case.name)));
    assert!(most <= BYTE, "{}: {} steps of a byte apart", case.name, most / BYTE);
    assert!(largest(whole) > BYTE, "{}", case.name);
}

/// The frames of a clip that is decoded whole, `[1, 3, N, H, W]`.
fn in_turn(bundle: &Bundle, networks: &mut Networks, latents: &ArrayD<f32>) -> ArrayD<f32> {
    let mut decoder = CausalDecoder::default();
    let mut frames = Vec::new();
    for latents in latents.axis_chunks_iter(Axis(2), 1) {
        frames.push(decoder.decode(bundle, networks, &latents.to_owned(), &Cancel::new()).unwrap());
    }
    let views: Vec<_> = frames.iter().map(|frames| frames.view()).collect();
    ndarray::concatenate(Axis(2), &views).unwrap()
}

#[test]
fn tiled_clips_are_those_of_diffusers() {
    let ran = each_case(Some("wan"), |case, tensors, (bundle, networks), latents, tile| {
        for keeps in [true, false] {
            let clip = decode_clip_in_tiles(bundle, networks, latents, tile, keeps, &Cancel::new()).unwrap();
            assert_eq!(networks.is_open(Role::VaeDecoder), keeps);
            check(case, tensors, &clip, &in_turn(bundle, networks, latents));
            networks.close_all();
        }
        2
    });
    assert_eq!(ran, 4);
}

#[test]
fn tiled_clips_of_a_decoder_that_sees_them_whole_are_those_of_diffusers() {
    let ran = each_case(Some("ltx"), |case, tensors, (bundle, networks), latents, tile| {
        let time = ClipTile::of(bundle).filter(|tile| tile.cuts(latents.len_of(Axis(2))));
        let mut decoded = |time, sides| {
            let mut decoder = ClipDecoder::new(bundle, latents, None, time, sides);
            let mut frames = Vec::new();
            while let Some(found) = decoder.decode(bundle, networks, &Cancel::new()).unwrap() {
                frames.push(found);
            }
            assert_eq!((decoder.decoding().tile, decoder.decoding().clip_tile), (sides, time));
            let views: Vec<_> = frames.iter().map(|frames| frames.view()).collect();
            let all = ndarray::concatenate(Axis(2), &views).unwrap();
            // What was kept of the golden clip.
            all.slice(s![.., .., ..;8, ..;2, ..;2]).to_owned().into_dyn()
        };
        let (tiled, whole) = (decoded(time, Some(tile)), decoded(None, None));
        check(case, tensors, &tiled, &whole);
        1 + usize::from(time.is_some())
    });
    assert_eq!(ran, 3, "two cases, one of them in tiles of time as well");
}

#[test]
fn tiles_of_a_clip_leave_no_seams_in_any_frame() {
    let (bundle, mut networks) = opened("wan");
    let tile = Tile::of_pixels(&bundle, 128).unwrap();
    let (height, width) = (56, 44);
    let frames: Vec<_> = (0..3).map(|seed| latents(height, width, seed)).collect();
    let views: Vec<_> = frames.iter().map(|frame| frame.view().insert_axis(Axis(2))).collect();
    let latents = ndarray::concatenate(Axis(2), &views).unwrap();
    let whole = in_turn(&bundle, &mut networks, &latents);
    let tiled = decode_clip_in_tiles(&bundle, &mut networks, &latents, tile, true, &Cancel::new()).unwrap();
    assert_eq!(whole.shape(), [1, 3, 9, 224, 176]);
    let lines: Vec<usize> = (tile.stride()..height)
        .step_by(tile.stride())
        .flat_map(|latent| [latent * 4, latent * 4 + tile.overlap_pixels()])
        .collect();
    // The same tiles side by side without a blend, for comparison.
    let mut pasted = ArrayD::zeros(IxDyn(whole.shape()));
    for row in (0..height).step_by(tile.stride()) {
        for column in (0..width).step_by(tile.stride()) {
            let (bottom, right) = ((row + tile.latents).min(height), (column + tile.latents).min(width));
            let cut = latents.slice(s![.., .., .., row..bottom, column..right]).to_owned().into_dyn();
            let part = in_turn(&bundle, &mut networks, &cut);
            pasted.slice_mut(s![.., .., .., row * 4..bottom * 4, column * 4..right * 4]).assign(&part);
        }
    }
    let unblended = &pasted - &whole;
    for axis in [2, 3] {
        let (at_borders, elsewhere) = steps(&unblended.index_axis(Axis(2), 4).to_owned(), axis, &lines);
        assert!(at_borders > SEAM * elsewhere, "axis {axis}: a seam is not seen, {at_borders} and {elsewhere}");
    }
    for (number, (tiled, whole)) in tiled.axis_iter(Axis(2)).zip(whole.axis_iter(Axis(2))).enumerate() {
        let change = &tiled.mapv(|value| value.clamp(-1.0, 1.0)) - &whole.mapv(|value| value.clamp(-1.0, 1.0));
        let mean = change.iter().map(|value| value.abs()).sum::<f32>() / change.len() as f32;
        assert!(mean <= MEAN_APART, "frame {number}: the mean pixel is {} steps of a byte apart", mean / BYTE);
        for axis in [2, 3] {
            let (at_borders, elsewhere) = steps(&change, axis, &lines);
            println!("frame {number} axis {axis}: mean {} bytes, {at_borders} at borders, {elsewhere} elsewhere", mean / BYTE);
            assert!(at_borders <= SEAM * elsewhere, "frame {number} axis {axis}: {at_borders} at borders, {elsewhere} elsewhere");
        }
    }
}

#[test]
fn tiled_pictures_are_those_of_diffusers() {
    let ran = each_case(None, |case, tensors, (bundle, networks), latents, tile| {
        let mut decoded = |tile| decode(bundle, Role::VaeDecoder, networks, latents, tile, &Cancel::new()).unwrap();
        check(case, tensors, &decoded(Some(tile)), &decoded(None));
        1
    });
    assert_eq!(ran, 4);
}

/// Smooth latents, as pictures have: a few normals enlarged.
fn latents(height: usize, width: usize, seed: u64) -> ArrayD<f32> {
    const CELL: usize = 4;
    let (rows, columns) = (height / CELL + 2, width / CELL + 2);
    let normals = random::Generator::new(random::Device::Cpu, seed).normals(4 * rows * columns);
    let at = |channel: usize, row: usize, column: usize| normals[(channel * rows + row) * columns + column];
    ArrayD::from_shape_fn(IxDyn(&[1, 4, height, width]), |index| {
        let (row, column) = (index[2] / CELL, index[3] / CELL);
        let (down, across) = ((index[2] % CELL) as f32 / CELL as f32, (index[3] % CELL) as f32 / CELL as f32);
        let top = at(index[1], row, column) * (1.0 - across) + at(index[1], row, column + 1) * across;
        let bottom = at(index[1], row + 1, column) * (1.0 - across) + at(index[1], row + 1, column + 1) * across;
        top * (1.0 - down) + bottom * down
    })
}

/// The mean step from one line to the next along `axis` of what tiling changed, at `lines` and at all others.
fn steps(change: &ArrayD<f32>, axis: usize, lines: &[usize]) -> (f32, f32) {
    let mut sums = [(0.0_f32, 0_usize); 2];
    for line in 1..change.len_of(Axis(axis)) {
        let (before, here) = (change.index_axis(Axis(axis), line - 1), change.index_axis(Axis(axis), line));
        let step: f32 = before.iter().zip(&here).map(|(left, right)| (left - right).abs()).sum::<f32>() / here.len() as f32;
        let (sum, count) = &mut sums[usize::from(!lines.contains(&line))];
        *sum += step;
        *count += 1;
    }
    (sums[0].0 / sums[0].1 as f32, sums[1].0 / sums[1].1 as f32)
}

/// Tiles put side by side without a blend, for comparison.
fn pasted(bundle: &Bundle, networks: &mut Networks, latents: &ArrayD<f32>, tile: Tile) -> ArrayD<f32> {
    let (height, width) = (latents.len_of(Axis(2)), latents.len_of(Axis(3)));
    let mut picture = ArrayD::zeros(IxDyn(&[1, 3, height * 4, width * 4]));
    for row in (0..height).step_by(tile.stride()) {
        for column in (0..width).step_by(tile.stride()) {
            let (bottom, right) = ((row + tile.latents).min(height), (column + tile.latents).min(width));
            let cut = latents.slice(s![.., .., row..bottom, column..right]).to_owned().into_dyn();
            let part = decode(bundle, Role::VaeDecoder, networks, &cut, None, &Cancel::new()).unwrap();
            picture.slice_mut(s![.., .., row * 4..bottom * 4, column * 4..right * 4]).assign(&part);
        }
    }
    picture
}

#[test]
fn tiles_leave_no_seams_and_a_picture_near_the_untiled_one() {
    let mut ran = 0;
    for (name, height, width, side) in [("sd", 64, 64, 128), ("sd", 48, 88, 64), ("sdxl", 64, 40, 64), ("sd_turbo", 72, 64, 128)]
    {
        let (bundle, mut networks) = opened(name);
        let latents = latents(height, width, 7);
        let tile = Tile::of_pixels(&bundle, side).unwrap();
        let whole = decode(&bundle, Role::VaeDecoder, &mut networks, &latents, None, &Cancel::new()).unwrap();
        let tiled = decode(&bundle, Role::VaeDecoder, &mut networks, &latents, Some(tile), &Cancel::new()).unwrap();
        let differences = apart(&tiled, &whole);
        let mean = differences.iter().sum::<f32>() / differences.len() as f32;
        let change = &tiled - &whole;
        // Where a tile begins to show, and where the one before it is gone.
        let lines: Vec<usize> = (tile.stride()..height.max(width))
            .step_by(tile.stride())
            .flat_map(|latent| [latent * 4, latent * 4 + tile.overlap_pixels()])
            .collect();
        let unblended = pasted(&bundle, &mut networks, &latents, tile) - &whole;
        for axis in [2, 3] {
            let (at_borders, elsewhere) = steps(&unblended, axis, &lines);
            assert!(at_borders > SEAM * elsewhere, "{name} axis {axis}: a seam is not seen, {at_borders} and {elsewhere}");
            let (at_borders, elsewhere) = steps(&change, axis, &lines);
            println!(
                "{name} {height}x{width} tile {side}: mean {} bytes, steps {at_borders} at borders, {elsewhere} elsewhere",
                mean / BYTE
            );
            assert!(at_borders <= SEAM * elsewhere, "{name} axis {axis}: {at_borders} at borders, {elsewhere} elsewhere");
        }
        assert!(mean <= MEAN_APART, "{name}: the mean pixel is {} steps of a byte apart", mean / BYTE);
        ran += 1;
    }
    assert_eq!(ran, 4);
}
