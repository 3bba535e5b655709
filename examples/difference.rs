//! Compares two picture files: fails where any byte of any pixel differs by more than what is allowed.
//!
//! `cargo run --release --example difference -- A B TOLERANCE`, the tolerance of 255.

#![allow(clippy::print_stdout, reason = "its answer")]

use std::path::Path;

use anyhow::{Context, Result, bail};
use kiln::Picture;

fn main() -> Result<()> {
    // ONNX Runtime looks at it as it is loaded, and gathers what it would send without it.
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [left, right, tolerance] = arguments.as_slice() else { bail!("expected two picture files and the allowed difference") };
    let tolerance: u8 = tolerance.parse().with_context(|| format!("tolerance {tolerance}: expected 0 to 255"))?;
    let (left, right) = (Picture::open(Path::new(left))?, Picture::open(Path::new(right))?);
    let shape = |picture: &Picture| (picture.width, picture.height, picture.channels);
    if shape(&left) != shape(&right) {
        bail!("width, height and channels differ: {:?} and {:?}", shape(&left), shape(&right));
    }
    let differences: Vec<u8> = left.pixels.iter().zip(&right.pixels).map(|(left, right)| left.abs_diff(*right)).collect();
    let largest = differences.iter().copied().max().unwrap_or_default();
    let many = differences.iter().filter(|difference| **difference > 0).count();
    println!("largest difference {largest} of 255, {many} of {} bytes differ", differences.len());
    if largest > tolerance {
        bail!("the pictures differ by {largest}, expected {tolerance} at most");
    }
    Ok(())
}
