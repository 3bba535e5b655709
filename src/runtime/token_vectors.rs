//! A door in a text encoder for vectors of one's own: the graph as it is exported takes token ids alone.
//!
//! In: an ONNX file that looks token ids up in a table. Out: the same graph with two inputs more, [`KEPT`] and [`VECTORS`]: what was looked up is
//! multiplied by the first and the second is added. Ones and zeros leave every bit as it was. The weights are neither copied nor changed, so
//! that it works with weights in a file beside the graph.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::wire::{BYTES, VARINT, Wire, message, number};

/// `[B, L, 1]`: 1 where the table's vector stays, 0 where it gives way.
pub const KEPT: &str = "kiln_kept";
/// `[B, L, D]`: what is added to it.
pub const VECTORS: &str = "kiln_vectors";

/// ONNX's numbers of types.
const FLOAT: u64 = 1;
const FLOAT16: u64 = 10;
/// What a protocol buffer can hold.
const LARGEST_BYTES: u64 = (2 << 30) - 1;
/// Operators that change the shape or the type of ids, and no id.
const HAND_ON: [&str; 6] = ["Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten"];
const LOOKED_UP: &str = "kiln_looked_up";

/// Opens the network in `path` with the door in it.
///
/// # Errors
/// The file cannot be read or looks no ids up in a table of fractions; ONNX Runtime does not take it.
pub(super) fn open(builder: SessionBuilder, path: &Path) -> Result<ort::Result<Session>> {
    let model = with_door(path).with_context(|| path.display().to_string())?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_string_lossy().into_owned();
    let configured = builder.with_config_entry("session.model_external_initializers_file_folder_path", folder);
    Ok(configured.map_err(Into::into).and_then(|mut builder| builder.commit_from_memory(&model)))
}

#[derive(Default)]
struct Node {
    operator: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    bytes: Range<u64>,
}

/// A graph as far as the table is looked for in it.
#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    /// Weights of two dimensions: their type and width.
    tables: HashMap<String, (u64, u64)>,
    bytes: Range<u64>,
    /// Where the field that holds it begins.
    begins: u64,
}

fn with_door(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    ensure!(length <= LARGEST_BYTES, "has {length} bytes, expected at most {LARGEST_BYTES}");
    let mut wire = Wire::new(file, length);
    let mut graph = None;
    loop {
        let begins = wire.position;
        let Some(field) = wire.field(length)? else { break };
        if (field.number, field.kind) == (7, BYTES) {
            ensure!(graph.is_none(), "holds two graphs");
            graph = Some(Graph::read(&mut wire, begins, field.end)?);
        }
        wire.skip_to(field.end)?;
    }
    let graph = graph.context("holds no graph")?;
    let (lookup, kind, width) = graph.lookup()?;
    let found = lookup.outputs.first().context("an operator has no output")?;
    let whole = std::fs::read(path)?;
    let part = |range: Range<u64>| -> Result<&[u8]> {
        whole.get(usize::try_from(range.start)?..usize::try_from(range.end)?).context("it changed while it was read")
    };
    let mut inner = part(graph.bytes.start..lookup.bytes.start)?.to_vec();
    inner.extend(message(1, &renamed(part(lookup.bytes.clone())?, found)?));
    inner.extend(message(1, &operator("Mul", [LOOKED_UP, KEPT], "kiln_left")));
    inner.extend(message(1, &operator("Add", ["kiln_left", VECTORS], found)));
    inner.extend(part(lookup.bytes.end..graph.bytes.end)?);
    inner.extend(message(11, &port(KEPT, kind, 1)));
    inner.extend(message(11, &port(VECTORS, kind, width)));
    let mut model = part(0..graph.begins)?.to_vec();
    model.extend(message(7, &inner));
    model.extend(part(graph.bytes.end..length)?);
    Ok(model)
}

impl Graph {
    fn read(wire: &mut Wire, begins: u64, end: u64) -> Result<Self> {
        let mut graph = Self { bytes: wire.position..end, begins, ..Self::default() };
        loop {
            let begins = wire.position;
            let Some(field) = wire.field(end)? else { return Ok(graph) };
            match (field.number, field.kind) {
                (1, BYTES) => {
                    let mut node = Node { bytes: begins..field.end, ..Node::default() };
                    while let Some(inner) = wire.field(field.end)? {
                        match (inner.number, inner.kind) {
                            (1, BYTES) => node.inputs.push(wire.string(inner.end)?),
                            (2, BYTES) => node.outputs.push(wire.string(inner.end)?),
                            (4, BYTES) => node.operator = wire.string(inner.end)?,
                            _ => {}
                        }
                        wire.skip_to(inner.end)?;
                    }
                    graph.nodes.push(node);
                }
                (5, BYTES) => graph.weight(wire, field.end)?,
                _ => {}
            }
            wire.skip_to(field.end)?;
        }
    }

    fn weight(&mut self, wire: &mut Wire, end: u64) -> Result<()> {
        let (mut name, mut kind, mut sizes) = (String::new(), 0, Vec::new());
        while let Some(field) = wire.field(end)? {
            match (field.number, field.kind) {
                (1, VARINT) => sizes.push(field.value),
                (1, BYTES) => {
                    while wire.position < field.end {
                        sizes.push(wire.varint()?);
                    }
                }
                (2, VARINT) => kind = field.value,
                (8, BYTES) => name = wire.string(field.end)?,
                _ => {}
            }
            ensure!(wire.position <= field.end, "is broken: a field is longer than the message that holds it");
            wire.skip_to(field.end)?;
        }
        if let [_, width] = sizes[..] {
            self.tables.insert(name, (kind, width));
        }
        Ok(())
    }

    /// The operator that looks token ids up, the type of its table and its width.
    fn lookup(&self) -> Result<(&Node, u64, u64)> {
        let mut ids: HashSet<&str> = HashSet::from(["input_ids"]);
        for node in &self.nodes {
            let is_ids = |at: usize| node.inputs.get(at).is_some_and(|name| ids.contains(name.as_str()));
            if HAND_ON.contains(&node.operator.as_str()) && is_ids(0) {
                ids.extend(node.outputs.iter().map(String::as_str));
            } else if node.operator == "Gather"
                && is_ids(1)
                && let Some((kind, width)) = node.inputs.first().and_then(|table| self.tables.get(table))
            {
                if !matches!(*kind, FLOAT | FLOAT16) {
                    bail!(
                        "keeps its table of words in whole numbers, into which no embedding fits; take another file of it, such as \
                         --precision text_encoder=f32"
                    );
                }
                return Ok((node, *kind, *width));
            }
        }
        bail!("looks no `input_ids` up in a table of weights, so that no embedding can be put in; export it again with optimum")
    }
}

/// A node's field, its key and length included, with its first output called otherwise; returns the message without them.
fn renamed(node: &[u8], output: &str) -> Result<Vec<u8>> {
    let wanted = message(2, output.as_bytes());
    let at =
        node.windows(wanted.len()).position(|window| window == wanted).context("an operator's output is not where it was")?;
    let mut changed = node[..at].to_vec();
    changed.extend(message(2, LOOKED_UP.as_bytes()));
    changed.extend(&node[at + wanted.len()..]);
    // Behind the key, one byte, stands the length that has changed.
    let length = changed[1..].iter().position(|byte| byte & 0x80 == 0).context("an operator has no length")?;
    Ok(changed.split_off(length + 2))
}

fn operator(kind: &str, inputs: [&str; 2], output: &str) -> Vec<u8> {
    let names = inputs.iter().flat_map(|name| message(1, name.as_bytes()));
    names.chain(message(2, output.as_bytes())).chain(message(4, kind.as_bytes())).collect()
}

/// A port of three dimensions, of which the last is `width`.
fn port(name: &str, kind: u64, width: u64) -> Vec<u8> {
    let open = |name: &str| message(1, &message(2, name.as_bytes()));
    let fixed = message(1, &number(1, width));
    let shape = [open("batch_size"), open("sequence_length"), fixed].concat();
    let tensor = [number(1, kind), message(2, &shape)].concat();
    [message(1, name.as_bytes()), message(2, &message(1, &tensor))].concat()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn of(bundle: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(bundle)
    }

    #[test]
    fn every_text_encoder_of_the_line_takes_a_door() {
        let mut cases = 0;
        for folder in
            ["sd/text_encoder", "sd_legacy/text_encoder", "sd_fp16/text_encoder", "sdxl/text_encoder", "sdxl/text_encoder_2"]
        {
            let path = of(folder).join("model.onnx");
            let made = with_door(&path).unwrap();
            let before = std::fs::metadata(&path).unwrap().len();
            assert!(made.len() as u64 > before && (made.len() as u64) < before + 1000, "{folder}");
            cases += 1;
        }
        assert_eq!(cases, 5);
    }

    #[test]
    fn a_network_that_looks_nothing_up_has_no_place_for_one() {
        let error = with_door(&of("sd/vae_decoder/model.onnx")).unwrap_err().to_string();
        assert!(error.contains("looks no `input_ids` up"), "{error}");
    }

    #[test]
    fn a_broken_file_is_an_error() {
        let bytes = std::fs::read(of("sd/text_encoder/model.onnx")).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        for length in (0..bytes.len()).step_by(997) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(with_door(&path).is_err(), "{length} bytes");
        }
    }
}
