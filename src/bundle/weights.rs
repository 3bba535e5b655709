//! The weights of a network, read for what no verdict would tell of.
//!
//! A comparison with what is no number is false. A safety checker whose weights are damaged so would let every picture through, and
//! nothing that it gives would show it.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};

use crate::runtime::wire::{BYTES, VARINT, Wire};

/// Weights of more than one value stay far below; beyond, sums overflow.
const LARGEST: f64 = 1e6;
/// Graphs within graphs.
const DEEPEST: usize = 8;

/// Makes sure that the weights in `path` are numbers of sense.
///
/// # Errors
/// The file cannot be read, is no ONNX model, keeps weights in other files, or holds a weight that is not finite or too large.
pub(super) fn check_weights(path: &Path) -> Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut wire = Wire::new(file, length);
    while let Some(field) = wire.field(length)? {
        match (field.number, field.kind) {
            (7, BYTES) => graph(&mut wire, field.end, 0)?,
            _ => wire.skip_to(field.end)?,
        }
    }
    Ok(())
}

/// A `GraphProto`: its initializers, and the constants of its nodes.
fn graph(wire: &mut Wire, end: u64, depth: usize) -> Result<()> {
    ensure!(depth < DEEPEST, "has graphs within graphs, {DEEPEST} deep and more");
    while let Some(field) = wire.field(end)? {
        match (field.number, field.kind) {
            (1, BYTES) => {
                while let Some(inner) = wire.field(field.end)? {
                    match (inner.number, inner.kind) {
                        (5, BYTES) => attribute(wire, inner.end, depth)?,
                        _ => wire.skip_to(inner.end)?,
                    }
                }
            }
            (5, BYTES) => tensor(wire, field.end)?,
            _ => wire.skip_to(field.end)?,
        }
    }
    Ok(())
}

/// An `AttributeProto`: a tensor, or a graph.
fn attribute(wire: &mut Wire, end: u64, depth: usize) -> Result<()> {
    while let Some(field) = wire.field(end)? {
        match (field.number, field.kind) {
            (5, BYTES) => tensor(wire, field.end)?,
            (6, BYTES) => graph(wire, field.end, depth + 1)?,
            _ => wire.skip_to(field.end)?,
        }
    }
    Ok(())
}

/// A `TensorProto`.
fn tensor(wire: &mut Wire, end: u64) -> Result<()> {
    let (mut kind, mut raw, mut floats, mut name) = (0, Vec::new(), Vec::new(), String::new());
    while let Some(field) = wire.field(end)? {
        match (field.number, field.kind) {
            (2, VARINT) => kind = field.value,
            (4, BYTES) => floats = wire.bytes(field.end)?,
            (8, BYTES) => name = wire.string(field.end)?,
            (9, BYTES) => raw = wire.bytes(field.end)?,
            (14, VARINT) if field.value == 1 => bail!("keeps weights in other files, expected all in this one"),
            _ => wire.skip_to(field.end)?,
        }
    }
    let checked = match kind {
        1 => check(raw.as_chunks().0.iter().chain(floats.as_chunks().0).map(|bytes| f64::from(f32::from_le_bytes(*bytes)))),
        10 => check(raw.as_chunks().0.iter().map(|bytes| f64::from(f16::from_le_bytes(*bytes)))),
        11 => check(raw.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes))),
        16 => check(raw.as_chunks().0.iter().map(|bytes| f64::from(bf16::from_le_bytes(*bytes)))),
        _ => Ok(()),
    };
    checked.with_context(|| format!("weights `{name}`"))
}

fn check(values: impl Iterator<Item = f64> + Clone) -> Result<()> {
    let is_one = values.clone().nth(1).is_none();
    for value in values {
        ensure!(value.is_finite(), "hold {value}, expected finite numbers; the file is damaged");
        ensure!(is_one || value.abs() <= LARGEST, "hold {value}, expected at most {LARGEST}; the file is damaged");
    }
    Ok(())
}
