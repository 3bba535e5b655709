//! Takes an ONNX file apart and puts it together again, so that a test can spoil one thing in it.

use std::fs;
use std::path::Path;

/// The value of a field of a protocol buffer.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(u64),
    Eight([u8; 8]),
    Bytes(Vec<u8>),
    Four([u8; 4]),
}

/// The fields of a message in their order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message(pub Vec<(u64, Value)>);

/// Field numbers of `onnx.proto`.
pub const GRAPH: u64 = 7;
pub const INITIALIZER: u64 = 5;
pub const SPARSE_INITIALIZER: u64 = 15;
pub const INPUT: u64 = 11;
pub const OUTPUT: u64 = 12;
pub const PORT_NAME: u64 = 1;
pub const PORT_TYPE: u64 = 2;
pub const TENSOR_TYPE: u64 = 1;
pub const SHAPE: u64 = 2;
pub const DIMENSION: u64 = 1;
pub const DIMENSION_VALUE: u64 = 1;
pub const TENSOR_DIMENSIONS: u64 = 1;
pub const DATA_TYPE: u64 = 2;
pub const TENSOR_NAME: u64 = 8;
pub const RAW_DATA: u64 = 9;
pub const EXTERNAL_DATA: u64 = 13;
pub const DATA_LOCATION: u64 = 14;

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("the tests' own files are whole");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn push_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

impl Message {
    pub fn read(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let mut take = |count: usize| {
                let (head, rest) = bytes.split_at(count);
                bytes = rest;
                head.to_vec()
            };
            let value = match key & 7 {
                1 => Value::Eight(take(8).try_into().unwrap()),
                5 => Value::Four(take(4).try_into().unwrap()),
                0 => Value::Number(varint(&mut bytes)),
                _ => {
                    let size = varint(&mut bytes) as usize;
                    let (head, rest) = bytes.split_at(size);
                    bytes = rest;
                    Value::Bytes(head.to_vec())
                }
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (number, value) in &self.0 {
            let kind = match value {
                Value::Number(_) => 0,
                Value::Eight(_) => 1,
                Value::Bytes(_) => 2,
                Value::Four(_) => 5,
            };
            push_varint(number << 3 | kind, &mut bytes);
            match value {
                Value::Number(value) => push_varint(*value, &mut bytes),
                Value::Eight(value) => bytes.extend(value),
                Value::Four(value) => bytes.extend(value),
                Value::Bytes(value) => {
                    push_varint(value.len() as u64, &mut bytes);
                    bytes.extend(value);
                }
            }
        }
        bytes
    }

    pub fn number(&self, wanted: u64) -> Option<u64> {
        self.0.iter().find_map(|(number, value)| match value {
            Value::Number(value) if *number == wanted => Some(*value),
            _ => None,
        })
    }

    pub fn bytes(&self, wanted: u64) -> Option<&[u8]> {
        self.0.iter().find_map(|(number, value)| match value {
            Value::Bytes(value) if *number == wanted => Some(value.as_slice()),
            _ => None,
        })
    }

    pub fn text(&self, wanted: u64) -> String {
        String::from_utf8(self.bytes(wanted).unwrap_or_default().to_vec()).unwrap()
    }

    /// Puts `value` in the place of the first field of that number, or at the end.
    pub fn set(&mut self, wanted: u64, value: Value) {
        match self.0.iter_mut().find(|(number, _)| *number == wanted) {
            Some((_, old)) => *old = value,
            None => self.0.push((wanted, value)),
        }
    }

    pub fn remove(&mut self, wanted: u64) {
        self.0.retain(|(number, _)| *number != wanted);
    }

    /// Gives each message under field `wanted` to `change`, and keeps what it makes of it; `change` says whether it did anything.
    pub fn each(&mut self, wanted: u64, mut change: impl FnMut(&mut Message) -> bool) -> usize {
        let mut changed = 0;
        for (number, value) in &mut self.0 {
            if let Value::Bytes(bytes) = value
                && *number == wanted
            {
                let mut message = Message::read(bytes);
                if change(&mut message) {
                    *bytes = message.write();
                    changed += 1;
                }
            }
        }
        changed
    }
}

/// Changes the graph of the ONNX file at `path`; fails the test when `change` found nothing to do.
pub fn edit_graph(path: &Path, mut change: impl FnMut(&mut Message) -> usize) {
    let mut model = Message::read(&fs::read(path).unwrap());
    let mut changed = 0;
    model.each(GRAPH, |graph| {
        changed += change(graph);
        true
    });
    assert!(changed > 0, "{}: nothing to spoil", path.display());
    fs::write(path, model.write()).unwrap();
}

/// Declares dimension `axis` of the input (or output) `port` to be `size`.
pub fn set_dimension(path: &Path, kind: u64, port: &str, axis: usize, size: u64) {
    edit_graph(path, |graph| {
        graph.each(kind, |info| {
            if info.text(PORT_NAME) != port {
                return false;
            }
            let mut at = 0;
            info.each(PORT_TYPE, |kind| {
                kind.each(TENSOR_TYPE, |tensor| {
                    tensor.each(SHAPE, |shape| {
                        shape.each(DIMENSION, |dimension| {
                            at += 1;
                            if at - 1 == axis {
                                *dimension = Message(vec![(DIMENSION_VALUE, Value::Number(size))]);
                            }
                            at - 1 == axis
                        }) > 0
                    }) > 0
                }) > 0
            }) > 0
        })
    });
}

/// Gives an input another name.
pub fn rename_input(path: &Path, from: &str, to: &str) {
    edit_graph(path, |graph| {
        graph.each(INPUT, |info| {
            let found = info.text(PORT_NAME) == from;
            if found {
                info.set(PORT_NAME, Value::Bytes(to.into()));
            }
            found
        })
    });
}

/// Sets every float weight of at least `least` numbers to `value`.
pub fn fill_weights(path: &Path, least: usize, value: f32) {
    edit_graph(path, |graph| {
        graph.each(INITIALIZER, |tensor| {
            let raw = tensor.bytes(RAW_DATA).map_or(0, <[u8]>::len);
            let found = tensor.number(DATA_TYPE) == Some(1) && raw >= 4 * least;
            if found {
                tensor.set(RAW_DATA, Value::Bytes(value.to_le_bytes().repeat(raw / 4)));
            }
            found
        })
    });
}

/// Says of the largest weight that its bytes lie elsewhere, as `entries` have it.
pub fn point_elsewhere(path: &Path, entries: &[(&str, &str)]) {
    edit_graph(path, |graph| {
        let size = |tensor: &Message| tensor.bytes(RAW_DATA).map_or(0, <[u8]>::len);
        let mut largest = 0;
        graph.each(INITIALIZER, |tensor| {
            largest = largest.max(size(tensor));
            false
        });
        graph.each(INITIALIZER, |tensor| {
            let found = size(tensor) == largest && largest > 0;
            if found {
                tensor.remove(RAW_DATA);
                for (key, value) in entries {
                    let entry =
                        Message(vec![(1, Value::Bytes(key.as_bytes().into())), (2, Value::Bytes(value.as_bytes().into()))]);
                    tensor.0.push((EXTERNAL_DATA, Value::Bytes(entry.write())));
                }
                tensor.set(DATA_LOCATION, Value::Number(1));
            }
            found
        })
    });
}
