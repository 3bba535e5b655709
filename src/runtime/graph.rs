//! A small graph made in memory, for what is to be computed beside a network on its device.
//!
//! In: ports of known shapes and operators. Out: the bytes of an ONNX file. What they compute is not known here.

use super::Element;
use super::wire::{message, number};

/// The least that every runtime which loads takes: the operators used have not changed since in what they do here.
const IR_VERSION: u64 = 8;
const OPERATOR_SET: u64 = 17;

/// A graph under construction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Graph {
    /// The fields of ONNX's `GraphProto`, in any order.
    fields: Vec<u8>,
}

impl Graph {
    /// Adds an input.
    pub fn input(&mut self, name: &str, element: Element, shape: &[usize]) {
        self.fields.extend(message(11, &port(name, element, shape)));
    }

    /// Adds an output, which an operator gives.
    pub fn output(&mut self, name: &str, element: Element, shape: &[usize]) {
        self.fields.extend(message(12, &port(name, element, shape)));
    }

    /// Adds a constant of whole numbers.
    pub fn integers(&mut self, name: &str, values: &[i64]) {
        let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let parts = [
            number(1, values.len() as u64),
            number(2, Element::Int64.to_onnx().unsigned_abs().into()),
            message(8, name.as_bytes()),
            message(9, &raw),
        ];
        self.fields.extend(message(5, &parts.concat()));
    }

    /// Adds an operator; it comes after those that give its inputs.
    ///
    /// * `attribute`: a whole number that it takes, with its name
    pub fn operator(&mut self, kind: &str, inputs: &[&str], outputs: &[&str], attribute: Option<(&str, i32)>) {
        let mut node: Vec<u8> = inputs.iter().flat_map(|name| message(1, name.as_bytes())).collect();
        node.extend(outputs.iter().flat_map(|name| message(2, name.as_bytes())));
        // Which provider runs it is told by name.
        node.extend(message(3, outputs.first().copied().unwrap_or(kind).as_bytes()));
        node.extend(message(4, kind.as_bytes()));
        if let Some((name, value)) = attribute {
            const INTEGER: u64 = 2;
            let parts = [message(1, name.as_bytes()), number(3, value.unsigned_abs().into()), number(20, INTEGER)];
            node.extend(message(5, &parts.concat()));
        }
        self.fields.extend(message(1, &node));
    }

    /// The bytes of the file.
    pub(super) fn to_onnx(&self) -> Vec<u8> {
        let graph = [message(2, b"kiln"), self.fields.clone()].concat();
        let operators = [message(1, b""), number(2, OPERATOR_SET)].concat();
        [number(1, IR_VERSION), message(2, b"kiln"), message(7, &graph), message(8, &operators)].concat()
    }
}

fn port(name: &str, element: Element, shape: &[usize]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|size| message(1, &number(1, *size as u64))).collect();
    let tensor = [number(1, element.to_onnx().unsigned_abs().into()), message(2, &sizes)].concat();
    [message(1, name.as_bytes()), message(2, &message(1, &tensor))].concat()
}
