//! How much a graph computes, without its being run: what grows with the points of its input, and how.
//!
//! In: the operators in their order, with the dimensions of the weights. Out: a [`Work`]. Shapes are not inferred; each tensor is followed by its number of values
//! alone. A weight says how many channels it takes, so the values tell at how many points it is used, whatever reshaping
//! lies between. What cannot be followed is left out: it is an estimate, off by a factor and not by a power.

mod growth;

use std::collections::HashMap;

use growth::{Growth, at, number, product, reshaped, scaled, sum, times};

use super::names;

/// A graph of more operators is not followed.
const MOST_NODES: usize = 100_000;
/// Tokens of a prompt where an export does not say.
const TOKENS: f64 = 77.0;
/// Channels of one head of attention, in most networks.
const CHANNELS_OF_A_HEAD: f64 = 64.0;

/// What one row of a call computes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    multiplications: Growth,
    values: Growth,
}

impl Work {
    /// Multiplications, each with its addition, in convolutions and products of matrices.
    ///
    /// * `points`: height times width of what goes in
    #[must_use]
    pub fn multiplications(&self, points: f64) -> f64 {
        at(self.multiplications, points)
    }

    /// Values that all operators give together.
    ///
    /// * `points`: height times width of what goes in
    #[must_use]
    pub fn values(&self, points: f64) -> f64 {
        at(self.values, points)
    }
}

/// An operator.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    pub(super) operator: String,
    pub(super) inputs: Vec<String>,
    pub(super) outputs: Vec<String>,
    /// Numbers among its attributes, by name; of a list the product.
    pub(super) numbers: HashMap<String, f64>,
    /// The tensor of a constant.
    pub(super) constant: Option<Constant>,
}

impl Node {
    fn number(&self, name: &str) -> f64 {
        self.numbers.get(name).copied().unwrap_or(1.0).max(1.0)
    }
}

/// A weight or a constant.
#[derive(Debug, Clone, Default)]
pub(super) struct Constant {
    pub(super) dimensions: Vec<u64>,
    /// Its values, where they are a few 32-bit numbers.
    pub(super) floats: Vec<f32>,
    /// The same of 64-bit whole numbers: shapes.
    pub(super) wholes: Vec<i64>,
}

/// What is known of a value of the graph.
#[derive(Debug, Clone)]
enum Value {
    Weight(Constant),
    Tensor {
        values: Growth,
        channels: f64,
    },
    /// Scores of attention: what their product with values will take, and what it gives.
    Scores {
        values: Growth,
        multiplications: Growth,
        gives: Growth,
        channels: f64,
    },
}

/// Follows a graph, operator by operator.
#[derive(Default)]
pub(super) struct Follower {
    values: HashMap<String, Value>,
    nodes: Vec<Node>,
    is_too_large: bool,
}

impl Follower {
    /// An input with `shape`, whose open dimensions are `None`.
    pub(super) fn input(&mut self, name: &str, shape: &[Option<usize>]) {
        #[expect(clippy::cast_precision_loss, reason = "dimensions")]
        let size = |index: usize| shape.get(index).copied().flatten().map(|size| size as f64);
        let (values, channels) = match shape.len() {
            4 => ([0.0, size(1).unwrap_or(4.0), 0.0], size(1).unwrap_or(4.0)),
            // Latents packed into patches of two by two.
            3 if names::HIDDEN_STATES.contains(&name) && size(1).is_none() => {
                let channels = size(2).unwrap_or(64.0);
                ([0.0, channels / 4.0, 0.0], channels)
            }
            3 => (scaled([size(1).unwrap_or(TOKENS), 0.0, 0.0], size(2).unwrap_or(1.0)), size(2).unwrap_or(1.0)),
            2 => ([size(1).unwrap_or(TOKENS), 0.0, 0.0], size(1).unwrap_or(1.0)),
            _ => ([1.0, 0.0, 0.0], 1.0),
        };
        self.values.insert(name.to_owned(), Value::Tensor { values, channels });
    }

    pub(super) fn weight(&mut self, name: String, constant: Constant) {
        self.values.insert(name, Value::Weight(constant));
    }

    /// The next operator; weights and inputs may still follow.
    pub(super) fn node(&mut self, node: Node) {
        self.is_too_large |= self.nodes.len() >= MOST_NODES;
        if !self.is_too_large {
            self.nodes.push(node);
        }
    }

    /// The work of all operators; `None` for a graph that is too large.
    pub(super) fn work(mut self) -> Option<Work> {
        if self.is_too_large {
            return None;
        }
        // Of several pieces that are cut from one tensor each is a part.
        let mut pieces: HashMap<String, f64> = HashMap::new();
        for node in self.nodes.iter().filter(|node| matches!(node.operator.as_str(), "Slice" | "Gather")) {
            *pieces.entry(node.inputs.first().cloned().unwrap_or_default()).or_default() += 1.0;
        }
        let mut work = Work::default();
        for node in std::mem::take(&mut self.nodes) {
            let cut = pieces.get(node.inputs.first().map_or("", String::as_str)).copied().unwrap_or(1.0);
            let Some(result) = self.result(&node, cut, &mut work) else { continue };
            if let Value::Tensor { values, .. } | Value::Scores { values, .. } = &result {
                #[expect(clippy::cast_precision_loss, reason = "a few outputs")]
                let all = scaled(*values, node.outputs.len().max(1) as f64);
                work.values = sum(work.values, all);
            }
            for output in node.outputs {
                self.values.insert(output, result.clone());
            }
        }
        Some(work)
    }

    /// What `node` gives, its multiplications added to `work`; `None` where it is no tensor that grows.
    fn result(&self, node: &Node, cut: f64, work: &mut Work) -> Option<Value> {
        let inputs: Vec<&Value> = node.inputs.iter().filter_map(|name| self.values.get(name)).collect();
        let first = inputs.first().copied();
        match node.operator.as_str() {
            "Constant" => Some(Value::Weight(node.constant.clone()?)),
            // Numbers about tensors rather than tensors.
            "Shape" | "Size" => None,
            "Conv" | "ConvTranspose" => {
                let (values, _) = grown(first?)?;
                let Value::Weight(Constant { dimensions, .. }) = inputs.get(1)? else { return None };
                // A weight that is unpacked by other operators first has another shape than its file says.
                if dimensions.len() < 3 {
                    return None;
                }
                let (group, area) = (node.number("group"), product(dimensions.get(2..)?));
                let (taken, given) = match node.operator.as_str() {
                    "Conv" => (number(dimensions, 1)? * group, number(dimensions, 0)?),
                    _ => (number(dimensions, 0)?, number(dimensions, 1)? * group),
                };
                let points = scaled(values, 1.0 / taken.max(1.0));
                let strides = node.number("strides");
                let (used, out) = match node.operator.as_str() {
                    "Conv" => (scaled(points, 1.0 / strides), scaled(points, 1.0 / strides)),
                    _ => (points, scaled(points, strides)),
                };
                work.multiplications = sum(work.multiplications, scaled(used, taken * given * area / group));
                Some(Value::Tensor { values: scaled(out, given), channels: given })
            }
            "Gemm" | "MatMul" | "MatMulInteger" | "MatMulNBits" => self.matrices(node, &inputs, work),
            "Gather" => match (first?, inputs.get(1)) {
                (Value::Weight(table), Some(Value::Tensor { values, .. })) if table.dimensions.len() == 2 => {
                    let channels = number(&table.dimensions, 1)?;
                    Some(Value::Tensor { values: scaled(*values, channels), channels })
                }
                (other, _) => part(other, cut),
            },
            "Slice" => part(first?, cut),
            #[expect(clippy::cast_precision_loss, reason = "a few outputs")]
            "Split" => part(first?, node.outputs.len().max(1) as f64),
            "AveragePool" | "MaxPool" => {
                let (values, channels) = tensor(first?)?;
                Some(Value::Tensor { values: scaled(values, 1.0 / node.number("strides")), channels })
            }
            "GlobalAveragePool" => {
                let (_, channels) = grown(first?)?;
                Some(Value::Tensor { values: [channels, 0.0, 0.0], channels })
            }
            "Resize" | "Upsample" => {
                let (values, channels) = grown(first?)?;
                let scales = inputs.iter().skip(1).find_map(|value| match value {
                    Value::Weight(constant) if constant.floats.len() >= 3 => Some(constant.floats.iter().product::<f32>()),
                    _ => None,
                });
                // Twice as wide and as high, where it is not said.
                Some(Value::Tensor { values: scaled(values, f64::from(scales.unwrap_or(4.0))), channels })
            }
            "Concat" => {
                let parts: Vec<(Growth, f64)> = inputs.iter().filter_map(|value| tensor(value)).collect();
                let (values, channels) = parts.into_iter().reduce(|left, right| (sum(left.0, right.0), left.1 + right.1))?;
                Some(Value::Tensor { values, channels })
            }
            "Transpose" => match first? {
                Value::Weight(constant) => {
                    let dimensions = constant.dimensions.iter().rev().copied().collect();
                    Some(Value::Weight(Constant { dimensions, ..Constant::default() }))
                }
                other => Some(other.clone()),
            },
            "Reshape" => match (first?, inputs.get(1)) {
                (Value::Weight(weight), Some(Value::Weight(shape))) if !shape.wholes.is_empty() => {
                    let dimensions = reshaped(&weight.dimensions, &shape.wholes);
                    Some(Value::Weight(Constant { dimensions, ..Constant::default() }))
                }
                _ => largest(&inputs),
            },
            _ => largest(&inputs),
        }
    }

    fn matrices(&self, node: &Node, inputs: &[&Value], work: &mut Work) -> Option<Value> {
        match (inputs.first()?, inputs.get(1)?) {
            (Value::Weight(_), Value::Weight(_)) => None,
            (tensor, Value::Weight(Constant { dimensions, .. })) | (Value::Weight(Constant { dimensions, .. }), tensor) => {
                let (values, _) = grown(tensor)?;
                let (last, before) = (dimensions.len().checked_sub(1)?, dimensions.len().checked_sub(2)?);
                let is_turned = node.numbers.get("transB").is_some_and(|turned| *turned > 0.0);
                let (taken, given) = if is_turned { (last, before) } else { (before, last) };
                let (taken, given) = (number(dimensions, taken)?, number(dimensions, given)?);
                work.multiplications = sum(work.multiplications, scaled(values, given));
                Some(Value::Tensor { values: scaled(values, given / taken.max(1.0)), channels: given })
            }
            (Value::Scores { multiplications, gives, channels, .. }, _) => {
                work.multiplications = sum(work.multiplications, *multiplications);
                Some(Value::Tensor { values: *gives, channels: *channels })
            }
            (queries, keys) => {
                let ((gives, channels), (keys, _)) = (tensor(queries)?, tensor(keys)?);
                let channels = channels.max(1.0);
                let pairs = times(scaled(gives, 1.0 / channels), scaled(keys, 1.0 / channels));
                let multiplications = scaled(pairs, channels);
                work.multiplications = sum(work.multiplications, multiplications);
                let heads = (channels / CHANNELS_OF_A_HEAD).ceil();
                Some(Value::Scores { values: scaled(pairs, heads), multiplications, gives, channels })
            }
        }
    }
}

/// One of `parts` of a tensor.
fn part(value: &Value, parts: f64) -> Option<Value> {
    let (values, channels) = tensor(value)?;
    Some(Value::Tensor { values: scaled(values, 1.0 / parts), channels: channels / parts })
}

fn tensor(value: &Value) -> Option<(Growth, f64)> {
    match value {
        Value::Tensor { values, channels } | Value::Scores { values, channels, .. } => Some((*values, *channels)),
        Value::Weight(_) => None,
    }
}

/// A tensor, or a weight that stands in the place of one, as a picture that is learned.
fn grown(value: &Value) -> Option<(Growth, f64)> {
    match value {
        Value::Weight(constant) => Some(([product(&constant.dimensions), 0.0, 0.0], number(&constant.dimensions, 1)?)),
        other => tensor(other),
    }
}

/// What an operator gives that takes its inputs value by value: as much as the largest of them.
fn largest(inputs: &[&Value]) -> Option<Value> {
    let weight = |value: &Value| if let Value::Weight(constant) = value { product(&constant.dimensions) } else { 0.0 };
    let size = |value: &Value| tensor(value).map_or([0.0; 3], |(values, _)| values);
    let by_size = |left: &&&Value, right: &&&Value| {
        let (left_size, right_size) = (size(left), size(right));
        let order = left_size.iter().rev().partial_cmp(right_size.iter().rev()).unwrap_or(std::cmp::Ordering::Equal);
        order.then(weight(left).total_cmp(&weight(right)))
    };
    inputs.iter().max_by(by_size).map(|value| (**value).clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(dimensions: &[u64]) -> Constant {
        Constant { dimensions: dimensions.to_vec(), ..Constant::default() }
    }

    fn node(operator: &str, inputs: &[&str], output: &str, numbers: &[(&str, f64)]) -> Node {
        Node {
            operator: operator.into(),
            inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
            outputs: vec![output.into()],
            numbers: numbers.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect(),
            constant: None,
        }
    }

    /// Multiplications at 100 points, of a picture of 4 channels that goes through `nodes`.
    fn multiplications(weights: &[(&str, &[u64])], nodes: Vec<Node>) -> f64 {
        let mut follower = Follower::default();
        nodes.into_iter().for_each(|node| follower.node(node));
        weights.iter().for_each(|(name, dimensions)| follower.weight((*name).to_owned(), constant(dimensions)));
        follower.input("x", &[None, Some(4), None, None]);
        follower.work().unwrap().multiplications(100.0)
    }

    #[test]
    fn convolutions_count_every_weight_at_every_point() {
        let weights: [(&str, &[u64]); 2] = [("w", &[8, 4, 3, 3]), ("v", &[16, 8, 1, 1])];
        let first = 100.0 * 8.0 * 4.0 * 9.0;
        assert_eq!(multiplications(&weights, vec![node("Conv", &["x", "w"], "y", &[])]), first);
        assert_eq!(multiplications(&weights, vec![node("Conv", &["x", "w"], "y", &[("strides", 4.0)])]), first / 4.0);
        let then = vec![
            node("Conv", &["x", "w"], "a", &[("strides", 4.0)]),
            node("Sigmoid", &["a"], "b", &[]),
            node("Mul", &["a", "b"], "c", &[]),
            node("Resize", &["c"], "d", &[]),
            node("Conv", &["d", "v"], "e", &[]),
        ];
        assert_eq!(multiplications(&weights, then), first / 4.0 + 100.0 * 8.0 * 16.0);
        assert_eq!(multiplications(&[("w", &[4, 1, 3, 3])], vec![node("Conv", &["x", "w"], "y", &[("group", 4.0)])]), 3600.0);
    }

    #[test]
    fn weights_that_are_unpacked_have_the_shape_that_they_are_given() {
        let mut follower = Follower::default();
        follower.weight("bytes".into(), constant(&[144, 1]));
        follower.weight("shape".into(), Constant { wholes: vec![8, 4, 3, 3], ..constant(&[4]) });
        follower.input("x", &[None, Some(4), None, None]);
        follower.node(node("Reshape", &["bytes", "shape"], "w", &[]));
        follower.node(node("Conv", &["x", "w"], "y", &[]));
        assert_eq!(follower.work().unwrap().multiplications(100.0), 100.0 * 8.0 * 4.0 * 9.0);
        // A shape that is not known counts nothing, rather than anything.
        assert_eq!(multiplications(&[("bytes", &[144, 1])], vec![node("Conv", &["x", "bytes"], "y", &[])]), 0.0);
    }

    #[test]
    fn attention_grows_with_the_square_of_the_points() {
        let weights: [(&str, &[u64]); 1] = [("w", &[4, 6])];
        let attention = vec![
            node("MatMul", &["x", "w"], "q", &[]),
            node("MatMul", &["x", "w"], "k", &[]),
            node("Transpose", &["k"], "t", &[]),
            node("MatMul", &["q", "t"], "s", &[]),
            node("Softmax", &["s"], "p", &[]),
            node("MatMul", &["p", "k"], "o", &[]),
        ];
        assert_eq!(multiplications(&weights, attention), 2.0 * 100.0 * 4.0 * 6.0 + 2.0 * 100.0 * 100.0 * 6.0);
    }

    #[test]
    fn what_is_cut_in_pieces_is_not_counted_whole_for_each() {
        let weights: [(&str, &[u64]); 1] = [("w", &[2, 3])];
        let pieces = vec![
            node("Slice", &["x"], "a", &[]),
            node("Slice", &["x"], "b", &[]),
            node("Mul", &["a", "b"], "c", &[]),
            node("MatMul", &["c", "w"], "d", &[]),
        ];
        assert_eq!(multiplications(&weights, pieces), 100.0 * 2.0 * 3.0);
    }

    #[test]
    fn graphs_that_make_no_sense_are_followed_to_their_end() {
        for operator in
            ["Conv", "MatMul", "Gemm", "Gather", "Resize", "Concat", "Split", "Transpose", "ConvTranspose", "Abacus", ""]
        {
            for inputs in [&[][..], &["x"], &["x", "x"], &["w", "x"], &["w", "w"], &["none", "x"]] {
                for dimensions in [&[][..], &[0], &[0, 0], &[u64::MAX, u64::MAX], &[1, 2, 3, 4, 5]] {
                    let work = multiplications(&[("w", dimensions)], vec![node(operator, inputs, "y", &[("strides", -1.0)])]);
                    assert!(work >= 0.0, "{operator} {inputs:?} {dimensions:?}: {work}");
                }
            }
        }
    }
}
