//! Reads an ONNX file's outside: its ports, its weights' sizes, and the other files that it points to.
//!
//! In: a path. Out: a [`Header`]. The file is walked as protocol buffers without its weights being read, so that a broken,
//! truncated or hostile file is known before ONNX Runtime sees it, and in milliseconds whatever its size. What the operators
//! compute is not looked at: that is the runtime's part.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::external::Reference;
use super::port::{MOST_DIMENSIONS, port};
use super::work::{Constant, Follower, Node, Work};
use crate::runtime::wire::{BYTES, VARINT, Wire};
use crate::runtime::{Element, Port};

/// Graphs nest in the branches of `If` and `Loop`; real exports stay far below.
const DEEPEST_NESTING: usize = 32;
/// The largest models of the line have some ten thousand weights; a hostile file of two bytes each would fill the memory.
const MOST_TENSORS: usize = 1_000_000;
/// ONNX's number of 32-bit floats.
const FLOAT: i32 = 1;
/// ONNX's number of 64-bit whole numbers.
const INT64: i32 = 7;
/// Values of more bytes are weights, not settings of an operator.
const FEW_BYTES: u64 = 64;

/// What an ONNX file says of itself.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Inputs that are not weights, in the graph's order.
    pub inputs: Vec<Port>,
    /// Outputs, in the graph's order.
    pub outputs: Vec<Port>,
    /// Number of operators in the outermost graph.
    pub nodes: usize,
    /// Number of weights.
    pub parameters: u64,
    /// The element type that most weights have, as `f32`, `f16`, `int8`, `int4`.
    pub precision: String,
    /// The version of the default operator set.
    pub opset: Option<i64>,
    /// Whether an operator in it draws random numbers, so that the same input gives another result each time.
    pub draws_random: bool,
    /// Files beside it that hold weights, without repeats.
    pub external_files: Vec<PathBuf>,
    /// Size of the file and of its external files in bytes.
    pub size_bytes: u64,
    /// What one row of a call computes, as an estimate; `None` where the graph is too large to be followed.
    pub work: Option<Work>,
}

/// Reads the header of the file at `path`.
///
/// # Errors
/// The file cannot be read, is a Git LFS pointer, is no ONNX model, is truncated, or points to weights outside its folder, to
/// weights that are not there, or past the end of their file.
pub fn read_header(path: &Path) -> Result<Header> {
    read(path).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Header> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    ensure!(length > 0, "is empty, expected an ONNX model");
    let mut walk = Walk {
        wire: Wire::new(file, length),
        inputs: Vec::new(),
        outputs: Vec::new(),
        initializers: HashSet::new(),
        nodes: 0,
        weights: Vec::new(),
        external: Vec::new(),
        opset: None,
        has_graph: false,
        draws_random: false,
        follower: Follower::default(),
    };
    walk.wire.refuse_pointer()?;
    walk.model()?;
    ensure!(walk.has_graph, "is not an ONNX model: it holds no graph");
    // The last thing that exporters write, so a file that was cut off at the end of a field lacks it.
    ensure!(walk.opset.is_some(), "is truncated or no ONNX model: it names no operator set");
    ensure!(!walk.outputs.is_empty(), "is not an ONNX model that gives anything: its graph has no outputs");

    let folder = path.parent().unwrap_or(Path::new("."));
    let mut header = Header { outputs: walk.outputs, opset: walk.opset, size_bytes: length, ..Header::default() };
    header.inputs = walk.inputs.into_iter().filter(|port| !walk.initializers.contains(&port.name)).collect();
    header.parameters = walk.weights.iter().fold(0, |sum: u64, (count, _)| sum.saturating_add(*count));
    header.precision = precision(&walk.weights);
    header.nodes = walk.nodes;
    header.draws_random = walk.draws_random;
    header.inputs.iter().for_each(|port| walk.follower.input(&port.name, &port.shape));
    header.work = walk.follower.work();
    for reference in walk.external {
        let file = reference.check(path)?;
        if !header.external_files.contains(&file) {
            header.size_bytes = header.size_bytes.saturating_add(std::fs::metadata(folder.join(&file))?.len());
            header.external_files.push(file);
        }
    }
    Ok(header)
}

fn precision(weights: &[(u64, i32)]) -> String {
    let mut totals: Vec<(i32, u64)> = Vec::new();
    for (count, kind) in weights {
        match totals.iter_mut().find(|(known, _)| known == kind) {
            Some((_, total)) => *total = total.saturating_add(*count),
            None => totals.push((*kind, *count)),
        }
    }
    match totals.into_iter().max_by_key(|(_, total)| *total).map(|(kind, _)| kind) {
        Some(2 | 3) => "int8".into(),
        Some(21 | 22) => "int4".into(),
        Some(kind) => Element::from_onnx(kind).to_string(),
        None => "no weights".into(),
    }
}

/// A varint as the signed number that it stands for.
fn signed(value: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an attribute of an estimate")]
    let number = i64::from_ne_bytes(value.to_ne_bytes()) as f64;
    number
}

struct Walk {
    wire: Wire,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    initializers: HashSet<String>,
    nodes: usize,
    /// Element count and ONNX data type of each weight.
    weights: Vec<(u64, i32)>,
    external: Vec<Reference>,
    opset: Option<i64>,
    has_graph: bool,
    draws_random: bool,
    follower: Follower,
}

impl Walk {
    fn model(&mut self) -> Result<()> {
        let end = self.wire.length;
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (7, BYTES) => {
                    self.has_graph = true;
                    self.graph(field.end, true, 0)?;
                }
                (8, BYTES) => self.operator_set(field.end)?,
                (25, BYTES) => self.function(field.end)?,
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(())
    }

    fn operator_set(&mut self, end: u64) -> Result<()> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => domain = self.wire.string(field.end)?,
                (2, VARINT) => version = field.value,
                _ => self.wire.skip_to(field.end)?,
            }
        }
        if domain.is_empty() || domain == "ai.onnx" {
            self.opset = i64::try_from(version).ok();
        }
        Ok(())
    }

    fn function(&mut self, end: u64) -> Result<()> {
        while let Some(field) = self.wire.field(end)? {
            if (field.number, field.kind) == (7, BYTES) {
                drop(self.node(field.end, 1)?);
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(())
    }

    fn graph(&mut self, end: u64, outermost: bool, depth: usize) -> Result<()> {
        ensure!(depth <= DEEPEST_NESTING, "nests graphs more than {DEEPEST_NESTING} deep");
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => {
                    self.nodes += usize::from(outermost);
                    let node = self.node(field.end, depth)?;
                    if outermost {
                        self.follower.node(node);
                    }
                }
                (5, BYTES) => {
                    let (name, constant) = self.tensor(field.end)?;
                    if outermost {
                        self.follower.weight(name.clone(), constant);
                        self.initializers.insert(name);
                    }
                }
                (15, BYTES) => {
                    let name = self.sparse_tensor(field.end)?;
                    if outermost {
                        self.initializers.insert(name);
                    }
                }
                (11 | 12, BYTES) if outermost => {
                    let count = self.inputs.len() + self.outputs.len();
                    ensure!(count < MOST_TENSORS, "has more than {MOST_TENSORS} inputs and outputs");
                    let port = port(&mut self.wire, field.end)?;
                    (if field.number == 11 { &mut self.inputs } else { &mut self.outputs }).push(port);
                }
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(())
    }

    fn node(&mut self, end: u64, depth: usize) -> Result<Node> {
        let mut node = Node::default();
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => node.inputs.push(self.wire.string(field.end)?),
                (2, BYTES) => node.outputs.push(self.wire.string(field.end)?),
                (4, BYTES) => {
                    node.operator = self.wire.string(field.end)?;
                    self.draws_random |= node.operator.starts_with("Random");
                }
                (5, BYTES) => self.attribute(field.end, depth, &mut node)?,
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(node)
    }

    fn attribute(&mut self, end: u64, depth: usize, node: &mut Node) -> Result<()> {
        let (mut name, mut number) = (String::new(), None);
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => name = self.wire.string(field.end)?,
                (3 | 8, VARINT) => number = Some(number.unwrap_or(1.0) * signed(field.value)),
                (8, BYTES) => {
                    while self.wire.position < field.end {
                        number = Some(number.unwrap_or(1.0) * signed(self.wire.varint()?));
                    }
                }
                (5, BYTES) => node.constant = Some(self.tensor(field.end)?.1),
                (10, BYTES) => drop(self.tensor(field.end)?),
                (6 | 11, BYTES) => self.graph(field.end, false, depth + 1)?,
                (22 | 23, BYTES) => drop(self.sparse_tensor(field.end)?),
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        node.numbers.extend(number.map(|number| (name, number)));
        Ok(())
    }

    /// Notes the values and the indices of a sparse tensor; returns its name, which is that of the values.
    fn sparse_tensor(&mut self, end: u64) -> Result<String> {
        let mut name = String::new();
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => (name, _) = self.tensor(field.end)?,
                (2, BYTES) => drop(self.tensor(field.end)?),
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(name)
    }

    /// Notes a tensor's size and where its bytes are; returns its name, its dimensions and, of a few numbers, their values.
    fn tensor(&mut self, end: u64) -> Result<(String, Constant)> {
        let (mut reference, mut constant) = (Reference::default(), Constant::default());
        let (mut kind, mut external) = (0_i32, false);
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, VARINT) if constant.dimensions.len() <= MOST_DIMENSIONS => constant.dimensions.push(field.value),
                (1, BYTES) => {
                    while self.wire.position < field.end {
                        let size = self.wire.varint()?;
                        ensure!(
                            constant.dimensions.len() < MOST_DIMENSIONS,
                            "a weight has more than {MOST_DIMENSIONS} dimensions"
                        );
                        constant.dimensions.push(size);
                    }
                }
                (9, BYTES) if kind == FLOAT && field.end - self.wire.position <= FEW_BYTES => {
                    let bytes = self.wire.bytes(field.end)?;
                    constant.floats =
                        bytes.chunks_exact(4).filter_map(|four| Some(f32::from_le_bytes(four.try_into().ok()?))).collect();
                }
                (9, BYTES) if kind == INT64 && field.end - self.wire.position <= FEW_BYTES => {
                    let bytes = self.wire.bytes(field.end)?;
                    constant.wholes =
                        bytes.chunks_exact(8).filter_map(|eight| Some(i64::from_le_bytes(eight.try_into().ok()?))).collect();
                }
                (2, VARINT) => kind = i32::try_from(field.value).unwrap_or(0),
                (8, BYTES) => reference.tensor = self.wire.string(field.end)?,
                (13, BYTES) => self.external_entry(field.end, &mut reference)?,
                (14, VARINT) => external = field.value == 1,
                _ => self.wire.skip_to(field.end)?,
            }
        }
        ensure!(self.weights.len() < MOST_TENSORS, "holds more than {MOST_TENSORS} weights");
        ensure!(
            constant.dimensions.len() <= MOST_DIMENSIONS,
            "weight `{}` has more than {MOST_DIMENSIONS} dimensions",
            reference.tensor
        );
        let count = constant.dimensions.iter().fold(1_u64, |count, size| count.saturating_mul(*size));
        ensure!(count < u64::MAX, "weight `{}` has dimensions without end", reference.tensor);
        self.weights.push((count, kind));
        let name = reference.tensor.clone();
        if external || !reference.location.is_empty() {
            self.external.push(reference);
        }
        Ok((name, constant))
    }

    fn external_entry(&mut self, end: u64, reference: &mut Reference) -> Result<()> {
        let (mut key, mut value) = (String::new(), String::new());
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => key = self.wire.string(field.end)?,
                (2, BYTES) => value = self.wire.string(field.end)?,
                _ => self.wire.skip_to(field.end)?,
            }
        }
        let number =
            || value.parse::<u64>().with_context(|| format!("`{key}` of external weights is `{value}`, expected a number"));
        match key.as_str() {
            "location" => reference.location.clone_from(&value),
            "offset" => reference.offset = number()?,
            "length" => reference.length = Some(number()?),
            _ => {}
        }
        Ok(())
    }
}
