//! Which operators of a graph compute on shapes alone: those that hand shapes on, and give whole numbers, or numbers with fractions that
//! no value of an input reaches, as the masks of attention are.
//!
//! In: an ONNX file. Out: a [`ShapeNodes`]. Types follow from inputs, weights and attributes through the few operators that shapes go
//! through. What is not known to be a whole number is taken for one with a fraction.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::runtime::wire::{BYTES, VARINT, Wire};

/// Operators that compute on shapes, which providers leave to the processor because it is nearer.
const ON_SHAPES: [&str; 28] = [
    "Shape",
    "Size",
    "Gather",
    "GatherElements",
    "Unsqueeze",
    "Squeeze",
    "Concat",
    "Slice",
    "Cast",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Mod",
    "Floor",
    "Ceil",
    "Range",
    "Reshape",
    "Equal",
    "Less",
    "Greater",
    "Where",
    "Not",
    "And",
    "ConstantOfShape",
    "Expand",
    "Constant",
    "Min",
];

/// A graph of more operators, weights or ports is not looked through.
const MOST_ENTRIES: usize = 1_000_000;
/// ONNX's numbers of types.
const FLOAT: u64 = 1;
const INT32: u64 = 6;
const INT64: u64 = 7;
const BOOL: u64 = 9;
/// What positions and masks are; smaller whole numbers are quantised values.
const WHOLE: [u64; 3] = [INT32, INT64, BOOL];

/// The operators of a graph that compute on shapes, and no others.
#[derive(Debug, Default)]
pub(in crate::runtime) struct ShapeNodes {
    /// How many of an operator and a name are such, and how many are not: some exporters name no node.
    counts: HashMap<(String, String), (usize, usize)>,
}

impl ShapeNodes {
    /// Reads the outermost graph of the file at `path`; operators of inner graphs are not among those that compute on shapes.
    ///
    /// # Errors
    /// The file cannot be read, or is no ONNX model.
    pub(in crate::runtime) fn read(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut graph =
            Graph { wire: Wire::new(file, length), nodes: Vec::new(), types: HashMap::new(), from_inputs: HashSet::new() };
        while let Some(field) = graph.wire.field(length)? {
            if (field.number, field.kind) == (7, BYTES) {
                graph.read(field.end)?;
            }
            graph.wire.skip_to(field.end)?;
        }
        Ok(graph.resolve())
    }

    /// Whether a node that was left computes on shapes.
    ///
    /// Of several that are called the same the ones with fractions must be accounted for elsewhere; of those without a name, which may have
    /// been joined with others, as many as were left must compute on shapes. A node that ONNX Runtime made while it optimised is in no file:
    /// of its operator all with fractions must be accounted for.
    ///
    /// * `left`: nodes of its operator and name on the processor
    /// * `elsewhere`: operators and names on other providers
    pub(in crate::runtime) fn explain(&self, operator: &str, name: &str, left: usize, elsewhere: &[(String, String)]) -> bool {
        let of_operator = || elsewhere.iter().filter(|(other, _)| other == operator);
        if let Some((on_shapes, others)) = self.counts.get(&(operator.to_owned(), name.to_owned())) {
            let accounted = || of_operator().filter(|(_, other)| other == name).count();
            return left <= *on_shapes && (name.is_empty() || *others <= accounted());
        }
        let others: usize = self.counts.iter().filter(|((other, _), _)| other == operator).map(|(_, (_, others))| others).sum();
        // Casts are made between numbers of other precisions.
        !self.counts.is_empty() && ON_SHAPES.contains(&operator) && operator != "Cast" && others <= of_operator().count()
    }
}

#[derive(Default)]
struct Node {
    name: String,
    operator: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    /// The type that an attribute names: what `Cast` casts to, what a constant or the value of `ConstantOfShape` is.
    named: Option<u64>,
}

struct Graph {
    wire: Wire,
    nodes: Vec<Node>,
    /// The types of values that are known.
    types: HashMap<String, u64>,
    /// The values that depend on what an input holds, not on its shape alone.
    from_inputs: HashSet<String>,
}

impl Graph {
    fn read(&mut self, end: u64) -> Result<()> {
        while let Some(field) = self.wire.field(end)? {
            ensure!(self.nodes.len() + self.types.len() < MOST_ENTRIES, "holds more than {MOST_ENTRIES} operators and weights");
            match (field.number, field.kind) {
                (1, BYTES) => {
                    let node = self.node(field.end)?;
                    self.nodes.push(node);
                }
                (5, BYTES) => {
                    let (name, kind) = self.tensor(field.end)?;
                    self.types.insert(name, kind);
                }
                // Inputs, outputs, and values in between that the exporter wrote a type for.
                (11..=13, BYTES) => self.port(field.end, field.number == 11)?,
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(())
    }

    fn node(&mut self, end: u64) -> Result<Node> {
        let mut node = Node::default();
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => node.inputs.push(self.wire.string(field.end)?),
                (2, BYTES) => node.outputs.push(self.wire.string(field.end)?),
                (3, BYTES) => node.name = self.wire.string(field.end)?,
                (4, BYTES) => node.operator = self.wire.string(field.end)?,
                (5, BYTES) => {
                    if let Some(named) = self.attribute(field.end)? {
                        node.named = Some(named);
                    }
                }
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(node)
    }

    /// The type that an attribute names or has.
    fn attribute(&mut self, end: u64) -> Result<Option<u64>> {
        let (mut name, mut number, mut tensor) = (String::new(), 0, None);
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => name = self.wire.string(field.end)?,
                (3, VARINT) => number = field.value,
                (5, BYTES) => tensor = Some(self.tensor(field.end)?.1),
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok(match name.as_str() {
            "to" => Some(number),
            "value" => tensor,
            "value_int" | "value_ints" => Some(INT64),
            "value_float" | "value_floats" => Some(FLOAT),
            _ => None,
        })
    }

    /// A tensor's name and type.
    fn tensor(&mut self, end: u64) -> Result<(String, u64)> {
        let (mut name, mut kind) = (String::new(), 0);
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (2, VARINT) => kind = field.value,
                (8, BYTES) => name = self.wire.string(field.end)?,
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        Ok((name, kind))
    }

    fn port(&mut self, end: u64, is_input: bool) -> Result<()> {
        let (mut name, mut kind) = (String::new(), 0);
        while let Some(field) = self.wire.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => name = self.wire.string(field.end)?,
                (2, BYTES) => {
                    while let Some(of_type) = self.wire.field(field.end)? {
                        while (of_type.number, of_type.kind) == (1, BYTES)
                            && let Some(of_tensor) = self.wire.field(of_type.end)?
                        {
                            if (of_tensor.number, of_tensor.kind) == (1, VARINT) {
                                kind = of_tensor.value;
                            }
                            self.wire.skip_to(of_tensor.end)?;
                        }
                        self.wire.skip_to(of_type.end)?;
                    }
                }
                _ => {}
            }
            self.wire.skip_to(field.end)?;
        }
        // Old files list weights among the inputs.
        if is_input && !self.types.contains_key(&name) {
            self.from_inputs.insert(name.clone());
        }
        self.types.insert(name, kind);
        Ok(())
    }

    /// Follows the types through the operators, which stand in their order.
    fn resolve(mut self) -> ShapeNodes {
        let mut found = ShapeNodes::default();
        for node in self.nodes {
            let of_input = |index: usize| node.inputs.get(index).and_then(|name| self.types.get(name)).copied();
            let kind = match node.operator.as_str() {
                "Shape" | "Size" | "ArgMax" | "NonZero" => Some(INT64),
                "Equal" | "Less" | "Greater" | "Not" | "And" => Some(BOOL),
                "ConstantOfShape" => Some(node.named.unwrap_or(FLOAT)),
                "Cast" | "Constant" => node.named,
                "Where" => of_input(1),
                operator if ON_SHAPES.contains(&operator) => of_input(0),
                _ => None,
            };
            let operator = node.operator.as_str();
            let reaches = !matches!(operator, "Shape" | "Size") && node.inputs.iter().any(|name| self.from_inputs.contains(name));
            for output in &node.outputs {
                if reaches {
                    self.from_inputs.insert(output.clone());
                }
                if let Some(kind) = kind {
                    self.types.insert(output.clone(), kind);
                }
            }
            let is_whole = kind.is_some_and(|kind| WHOLE.contains(&kind));
            let is_on_shapes = ON_SHAPES.contains(&operator) && (is_whole || !reaches);
            let (on_shapes, others) = found.counts.entry((node.operator, node.name)).or_default();
            *(if is_on_shapes { on_shapes } else { others }) += 1;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe::{field, number};
    use super::*;

    /// A node with a type attribute where one is given.
    fn node(operator: &str, name: &str, inputs: &[&str], output: &str, attribute: Option<Vec<u8>>) -> Vec<u8> {
        let mut bytes: Vec<u8> = inputs.iter().flat_map(|input| field(1, input.as_bytes())).collect();
        bytes.extend([field(2, output.as_bytes()), field(3, name.as_bytes()), field(4, operator.as_bytes())].concat());
        bytes.extend(attribute.map(|attribute| field(5, &attribute)).unwrap_or_default());
        field(1, &bytes)
    }

    fn port(name: &str, kind: u64) -> Vec<u8> {
        let tensor = field(1, &number(1, kind as u8));
        field(11, &[field(1, name.as_bytes()), field(2, &tensor)].concat())
    }

    #[test]
    fn fractions_that_an_input_reaches_are_not_on_shapes_whatever_the_operator() {
        let to = |kind: u8| Some([field(1, b"to"), number(3, kind)].concat());
        let value = |kind: u8| Some([field(1, b"value"), field(5, &number(2, kind))].concat());
        let graph = [
            node("Shape", "a", &["x"], "shape", None),
            node("Gather", "b", &["shape", "index"], "side", None),
            node("Gather", "c", &["table", "ids"], "embedded", None),
            node("Cast", "d", &["side"], "fraction", to(1)),
            node("Mul", "e", &["fraction", "scale"], "scaled", None),
            node("Mul", "f", &["x", "scaled"], "drawn", None),
            node("Cast", "g", &["drawn"], "whole", to(7)),
            node("Constant", "h", &[], "two", value(7)),
            node("Mul", "i", &["side", "two"], "twice", None),
            node("ConstantOfShape", "j", &["shape"], "zeros", None),
            node("Add", "k", &["zeros", "drawn"], "sum", None),
            node("Equal", "l", &["side", "two"], "same", None),
            node("Where", "m", &["same", "zeros", "scale"], "mask", None),
            node("Where", "n", &["same", "drawn", "scale"], "chosen", None),
            node("Cast", "o", &["ids"], "words", to(10)),
            node("Cast", "v", &["x"], "quantised", to(3)),
            node("Add", "w", &["quantised", "quantised"], "louder", None),
            node("Cast", "z", &["ids"], "narrow", to(6)),
            node("Conv", "p", &["x", "w"], "y", None),
            node("Add", "twin", &["side", "two"], "q", None),
            node("Add", "twin", &["x", "x"], "r", None),
            node("Add", "", &["side", "two"], "s", None),
            node("Add", "", &["x", "x"], "t", None),
            node("Gather", "", &["table", "ids"], "u", None),
            field(5, &[number(2, 1), field(8, b"table")].concat()),
            field(5, &[number(2, 1), field(8, b"scale")].concat()),
            field(5, &[number(2, 7), field(8, b"index")].concat()),
            port("x", FLOAT),
            port("ids", INT64),
        ]
        .concat();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("graph.onnx");
        std::fs::write(&path, [number(1, 8), field(7, &graph)].concat()).unwrap();
        let found = ShapeNodes::read(&path).unwrap();
        assert_eq!(found.counts.len(), 22);
        let explained = found.counts.keys().filter(|(operator, name)| found.explain(operator, name, 1, &[]));
        let mut on_shapes: Vec<&str> = explained.map(|(_, name)| name.as_str()).collect();
        on_shapes.sort_unstable();
        assert_eq!(on_shapes, ["", "a", "b", "d", "e", "g", "h", "i", "j", "l", "m", "z"]);
        let elsewhere = |operator: &str, name: &str| [(operator.to_owned(), name.to_owned())];
        assert!(!found.explain("Gather", "b", 2, &[]), "there is one of it");
        // Of two that are called the same the one with fractions runs elsewhere, or is not known to.
        let twin = elsewhere("Add", "twin");
        assert!(found.explain("Add", "twin", 1, &twin) && !found.explain("Add", "twin", 1, &[]));
        assert!(!found.explain("Add", "twin", 2, &twin));
        assert!(found.explain("Add", "", 1, &[]) && !found.explain("Add", "", 2, &[]) && !found.explain("Gather", "", 1, &[]));
        // Nodes that are in no file.
        assert!(
            found.explain("Gather", "made", 1, &[elsewhere("Gather", "c"), elsewhere("Gather", "")].concat())
                && !found.explain("Gather", "made", 1, &[])
        );
        assert!(!found.explain("Conv", "made", 1, &[]) && !found.explain("Cast", "made", 1, &elsewhere("Cast", "o")));
        std::fs::write(&path, "no model").unwrap();
        assert!(ShapeNodes::read(&path).is_err());
    }
}
