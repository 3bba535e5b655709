//! Reads an input or an output of an ONNX graph: its name, its element type, its dimensions with their names.

use anyhow::{Result, ensure};

use crate::runtime::wire::{BYTES, VARINT, Wire};
use crate::runtime::{Element, Port};

/// ONNX Runtime's operators go up to some eight dimensions.
pub(super) const MOST_DIMENSIONS: usize = 64;
/// Of dimensions.
const LONGEST_NAME_BYTES: u64 = 256;

/// The port of the `ValueInfoProto` that ends at `end`.
///
/// # Errors
/// It is broken, or has more than [`MOST_DIMENSIONS`].
pub(super) fn port(wire: &mut Wire, end: u64) -> Result<Port> {
    let mut port = Port { name: String::new(), element: Element::Other(0), shape: Vec::new(), dimension_names: Vec::new() };
    while let Some(field) = wire.field(end)? {
        match (field.number, field.kind) {
            (1, BYTES) => port.name = wire.string(field.end)?,
            (2, BYTES) => {
                while let Some(kind) = wire.field(field.end)? {
                    if (kind.number, kind.kind) == (1, BYTES) {
                        tensor_type(wire, kind.end, &mut port)?;
                    }
                    wire.skip_to(kind.end)?;
                }
            }
            _ => {}
        }
        wire.skip_to(field.end)?;
    }
    Ok(port)
}

fn tensor_type(wire: &mut Wire, end: u64, port: &mut Port) -> Result<()> {
    while let Some(field) = wire.field(end)? {
        match (field.number, field.kind) {
            (1, VARINT) => port.element = Element::from_onnx(i32::try_from(field.value).unwrap_or(0)),
            (2, BYTES) => {
                while let Some(inner) = wire.field(field.end)? {
                    if (inner.number, inner.kind) == (1, BYTES) {
                        dimension(wire, inner.end, port)?;
                    }
                    wire.skip_to(inner.end)?;
                }
            }
            _ => {}
        }
        wire.skip_to(field.end)?;
    }
    Ok(())
}

fn dimension(wire: &mut Wire, end: u64, port: &mut Port) -> Result<()> {
    let (mut size, mut name) = (None, String::new());
    while let Some(field) = wire.field(end)? {
        match (field.number, field.kind) {
            // Some exporters write an open dimension as -1.
            (1, VARINT) => size = usize::try_from(i64::from_ne_bytes(field.value.to_ne_bytes())).ok(),
            // A longer one is a formula, by which nobody calls it.
            (2, BYTES) if field.end - wire.position <= LONGEST_NAME_BYTES => name = wire.string(field.end)?,
            _ => wire.skip_to(field.end)?,
        }
    }
    ensure!(port.shape.len() < MOST_DIMENSIONS, "`{}` has more than {MOST_DIMENSIONS} dimensions", port.name);
    if size.is_none() && !name.is_empty() {
        port.dimension_names.push((port.shape.len(), name));
    }
    port.shape.push(size);
    Ok(())
}
