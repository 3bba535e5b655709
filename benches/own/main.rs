//! Times Kiln's own code, what is left of a picture once ONNX Runtime's part is taken away: `cargo bench`.
//!
//! Sizes are those of a 512×512 picture out of latents `[1, 4, 64, 64]`. `cargo bench -- random` runs what has that word in its name, and
//! `cargo bench -- --save-baseline before`, later `-- --baseline before`, hold two versions against each other.

#![allow(clippy::unwrap_used, reason = "a measurement that fails says where")]

mod pictures;
mod random;
mod samplers;
#[cfg(feature = "text")]
mod text;
mod tiles;

use criterion::{criterion_group, criterion_main};
use ndarray::{ArrayD, IxDyn};

/// Latents of a 512×512 picture.
const LATENTS: [usize; 4] = [1, 4, 64, 64];

/// A smooth tensor of `shape` f32 in [-1, 1], the same at each run.
fn wave(shape: &[usize]) -> ArrayD<f32> {
    let mut angle = 0.0_f32;
    ArrayD::from_shape_simple_fn(IxDyn(shape), || {
        angle = (angle + 0.37) % std::f32::consts::TAU;
        angle.sin()
    })
}

#[cfg(feature = "text")]
criterion_group!(own, samplers::bench, random::bench, text::bench, pictures::bench, tiles::bench);
#[cfg(not(feature = "text"))]
criterion_group!(own, samplers::bench, random::bench, pictures::bench, tiles::bench);
criterion_main!(own);
