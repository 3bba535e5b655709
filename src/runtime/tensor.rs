//! Tensors and ports: what goes into a network and what comes out.
//!
//! At Kiln's side of the boundary there are `f32` and `i64` only; a network that wants `f16` or `i32` is given them here.

use std::fmt;

use ndarray::{ArrayD, Axis, IxDyn};

/// The element type of a port, as ONNX names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floating point.
    Float32,
    /// 16-bit floating point.
    Float16,
    /// 64-bit floating point.
    Float64,
    /// bfloat16.
    BFloat16,
    /// 32-bit signed integer.
    Int32,
    /// 64-bit signed integer.
    Int64,
    /// Boolean.
    Bool,
    /// Any other type, by ONNX's number for it.
    Other(i32),
}

impl Element {
    /// The type with `number` in ONNX's `TensorProto.DataType`.
    #[must_use]
    pub fn from_onnx(number: i32) -> Self {
        match number {
            1 => Self::Float32,
            6 => Self::Int32,
            7 => Self::Int64,
            9 => Self::Bool,
            10 => Self::Float16,
            11 => Self::Float64,
            16 => Self::BFloat16,
            other => Self::Other(other),
        }
    }

    /// ONNX's number for it.
    #[must_use]
    pub fn to_onnx(self) -> i32 {
        match self {
            Self::Float32 => 1,
            Self::Int32 => 6,
            Self::Int64 => 7,
            Self::Bool => 9,
            Self::Float16 => 10,
            Self::Float64 => 11,
            Self::BFloat16 => 16,
            Self::Other(number) => number,
        }
    }

    /// Whether it holds fractions.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float32 | Self::Float16 | Self::Float64 | Self::BFloat16)
    }
}

impl fmt::Display for Element {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float32 => formatter.write_str("f32"),
            Self::Float16 => formatter.write_str("f16"),
            Self::Float64 => formatter.write_str("f64"),
            Self::BFloat16 => formatter.write_str("bf16"),
            Self::Int32 => formatter.write_str("i32"),
            Self::Int64 => formatter.write_str("i64"),
            Self::Bool => formatter.write_str("bool"),
            Self::Other(number) => write!(formatter, "onnx type {number}"),
        }
    }
}

/// A named input or output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the graph.
    pub name: String,
    /// Its element type.
    pub element: Element,
    /// Its dimensions; `None` for one that is decided at each run.
    pub shape: Vec<Option<usize>>,
    /// What the graph calls its open dimensions, by their place in `shape`; those without a name are left out.
    pub dimension_names: Vec<(usize, String)>,
}

impl Port {
    /// The dimensions as text, such as `[?, 4, 64, 64]`.
    #[must_use]
    pub fn shape_text(&self) -> String {
        let dimensions: Vec<String> =
            self.shape.iter().map(|dimension| dimension.map_or_else(|| "?".to_owned(), |size| size.to_string())).collect();
        format!("[{}]", dimensions.join(", "))
    }

    /// Whether a dimension is decided at each run.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shape.iter().any(Option::is_none)
    }

    /// Whether a tensor of `shape` may go through.
    #[must_use]
    pub fn accepts(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(declared, found)| declared.is_none_or(|declared| declared == *found))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.name, self.element, self.shape_text())
    }
}

/// A tensor on its way into a network.
#[derive(Debug, Clone, PartialEq)]
pub enum Tensor {
    /// Floating point, of any rank.
    Float(ArrayD<f32>),
    /// Integers, of any rank.
    Integer(ArrayD<i64>),
}

impl Tensor {
    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Float(array) => array.shape(),
            Self::Integer(array) => array.shape(),
        }
    }

    /// The same tensor with `batch` rows, its last row repeated; as it is when it has as many already, or none at all.
    #[must_use]
    pub fn padded(&self, batch: usize) -> Self {
        fn pad<T: Clone>(array: &ArrayD<T>, batch: usize) -> ArrayD<T> {
            let rows = array.shape().first().copied().unwrap_or(batch);
            let order: Vec<usize> = (0..batch).map(|row| row.min(rows.saturating_sub(1))).collect();
            if rows == 0 || rows >= batch { array.clone() } else { array.select(Axis(0), &order) }
        }
        match self {
            Self::Float(array) => Self::Float(pad(array, batch)),
            Self::Integer(array) => Self::Integer(pad(array, batch)),
        }
    }

    /// One number as a tensor of the rank that `port` declares: a scalar, or `[batch]` for a port of rank 1.
    ///
    /// Exports disagree on whether a timestep is a scalar, one number for the batch, or one number for each picture.
    #[must_use]
    pub fn number_for(port: &Port, value: f32, batch: usize) -> Self {
        let shape = match port.shape.as_slice() {
            [] => IxDyn(&[]),
            [Some(size)] => IxDyn(&[*size]),
            _ => IxDyn(&[batch]),
        };
        if port.element.is_float() {
            Self::Float(ArrayD::from_elem(shape, value))
        } else {
            // Cut off, as the reference's conversion to integers does.
            #[expect(clippy::cast_possible_truncation, reason = "timesteps are far below 2^23, where f32 holds every integer")]
            Self::Integer(ArrayD::from_elem(shape, value as i64))
        }
    }
}

impl From<ArrayD<f32>> for Tensor {
    fn from(array: ArrayD<f32>) -> Self {
        Self::Float(array)
    }
}

impl From<ArrayD<i64>> for Tensor {
    fn from(array: ArrayD<i64>) -> Self {
        Self::Integer(array)
    }
}

/// The names of `ports`, for messages.
pub(super) fn names(ports: &[Port]) -> String {
    ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ")
}
