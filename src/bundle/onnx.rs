//! Reads an ONNX file's outside: its ports, its weights' sizes, and the other files that it points to.
//!
//! In: a path. Out: a [`Header`]. The file is walked as protocol buffers without its weights being read, so that a broken,
//! truncated or hostile file is known before ONNX Runtime sees it, and in milliseconds whatever its size. What the operators
//! compute is not looked at: that is the runtime's part.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::external::Reference;
use crate::runtime::{Element, Port};

/// Strings longer than this are no names.
const LONGEST_STRING_BYTES: u64 = 1024;
/// Graphs nest in the branches of `If` and `Loop`; real exports stay far below.
const DEEPEST_NESTING: usize = 32;
/// The largest models of the line have some ten thousand weights; a hostile file of two bytes each would fill the memory.
const MOST_TENSORS: usize = 1_000_000;
/// ONNX Runtime's operators go up to some eight dimensions.
const MOST_DIMENSIONS: usize = 64;

/// What an ONNX file says of itself.
#[derive(Debug, Clone, Default)]
pub struct Header {
    /// Inputs that are not weights, in the graph's order.
    pub inputs: Vec<Port>,
    /// Outputs, in the graph's order.
    pub outputs: Vec<Port>,
    /// Number of weights.
    pub parameters: u64,
    /// The element type that most weights have, as `f32`, `f16`, `int8`, `int4`.
    pub precision: String,
    /// The version of the default operator set.
    pub opset: Option<i64>,
    /// Files beside it that hold weights, without repeats.
    pub external_files: Vec<PathBuf>,
    /// Size of the file and of its external files in bytes.
    pub size_bytes: u64,
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
        reader: BufReader::with_capacity(64 * 1024, file),
        position: 0,
        length,
        inputs: Vec::new(),
        outputs: Vec::new(),
        initializers: HashSet::new(),
        weights: Vec::new(),
        external: Vec::new(),
        opset: None,
        has_graph: false,
    };
    walk.refuse_pointer()?;
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
    for reference in walk.external {
        let file = reference.check(folder)?;
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

/// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

struct Walk {
    reader: BufReader<File>,
    position: u64,
    length: u64,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    initializers: HashSet<String>,
    /// Element count and ONNX data type of each weight.
    weights: Vec<(u64, i32)>,
    external: Vec<Reference>,
    opset: Option<i64>,
    has_graph: bool,
}

/// A field of a message: its number, its wire type and where it ends.
struct Field {
    number: u64,
    kind: u64,
    end: u64,
    /// The value of a varint field.
    value: u64,
}

impl Walk {
    fn refuse_pointer(&mut self) -> Result<()> {
        const MARK: &[u8] = b"version https://git-lfs";
        let mut start = Vec::with_capacity(MARK.len());
        self.reader.by_ref().take(MARK.len() as u64).read_to_end(&mut start)?;
        self.reader.seek(SeekFrom::Start(0))?;
        ensure!(start != MARK, "is a Git LFS pointer, not the model: run `git lfs pull` where it was cloned");
        Ok(())
    }

    /// Reads the next field of a message that ends at `end`; `None` at its end.
    fn field(&mut self, end: u64) -> Result<Option<Field>> {
        if self.position >= end {
            ensure!(self.position == end, "is broken at byte {end}: a field is longer than the message that holds it");
            return Ok(None);
        }
        let begun = self.position;
        let key = self.varint()?;
        let (number, kind) = (key >> 3, key & 7);
        ensure!(number != 0, "is not an ONNX model: no field is numbered 0 (byte {begun})");
        let (size, value) = match kind {
            VARINT => (0, self.varint()?),
            FIXED64 => (8, 0),
            BYTES => (self.varint()?, 0),
            FIXED32 => (4, 0),
            other => bail!("is not an ONNX model: wire type {other} at byte {begun}"),
        };
        let field_end = self.position.checked_add(size).filter(|field_end| *field_end <= end);
        let Some(field_end) = field_end else {
            bail!(
                "is truncated or broken: a field at byte {begun} needs {size} bytes, {} are left",
                end.saturating_sub(self.position)
            );
        };
        Ok(Some(Field { number, kind, end: field_end, value }))
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0_u8];
            if self.position >= self.length || self.reader.read_exact(&mut byte).is_err() {
                bail!("is truncated: it ends at byte {} within a number", self.position);
            }
            self.position += 1;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("is not an ONNX model: a number at byte {} has no end", self.position)
    }

    fn skip_to(&mut self, end: u64) -> Result<()> {
        let distance = i64::try_from(end - self.position).context("a field is too long")?;
        self.reader.seek_relative(distance)?;
        self.position = end;
        Ok(())
    }

    fn string(&mut self, end: u64) -> Result<String> {
        let size = end - self.position;
        ensure!(
            size <= LONGEST_STRING_BYTES,
            "a name of {size} bytes stands at byte {}, expected at most {LONGEST_STRING_BYTES}",
            self.position
        );
        let mut bytes = Vec::new();
        self.reader.by_ref().take(size).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 == size, "is truncated: it ends within a name");
        self.position = end;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        ensure!(!text.chars().any(char::is_control), "a name with control characters ends at byte {end}: {text:?}");
        Ok(text)
    }

    fn model(&mut self) -> Result<()> {
        let end = self.length;
        while let Some(field) = self.field(end)? {
            match (field.number, field.kind) {
                (7, BYTES) => {
                    self.has_graph = true;
                    self.graph(field.end, true, 0)?;
                }
                (8, BYTES) => self.operator_set(field.end)?,
                (25, BYTES) => self.function(field.end)?,
                _ => {}
            }
            self.skip_to(field.end)?;
        }
        Ok(())
    }

    fn operator_set(&mut self, end: u64) -> Result<()> {
        let (mut domain, mut version) = (String::new(), 0);
        while let Some(field) = self.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => domain = self.string(field.end)?,
                (2, VARINT) => version = field.value,
                _ => self.skip_to(field.end)?,
            }
        }
        if domain.is_empty() || domain == "ai.onnx" {
            self.opset = i64::try_from(version).ok();
        }
        Ok(())
    }

    fn function(&mut self, end: u64) -> Result<()> {
        while let Some(field) = self.field(end)? {
            if (field.number, field.kind) == (7, BYTES) {
                self.node(field.end, 1)?;
            }
            self.skip_to(field.end)?;
        }
        Ok(())
    }

    fn graph(&mut self, end: u64, outermost: bool, depth: usize) -> Result<()> {
        ensure!(depth <= DEEPEST_NESTING, "nests graphs more than {DEEPEST_NESTING} deep");
        while let Some(field) = self.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => self.node(field.end, depth)?,
                (5, BYTES) => {
                    let name = self.tensor(field.end)?;
                    if outermost {
                        self.initializers.insert(name);
                    }
                }
                (11, BYTES) if outermost => {
                    let port = self.value_info(field.end)?;
                    self.inputs.push(port);
                }
                (12, BYTES) if outermost => {
                    let port = self.value_info(field.end)?;
                    self.outputs.push(port);
                }
                _ => {}
            }
            self.skip_to(field.end)?;
        }
        Ok(())
    }

    fn node(&mut self, end: u64, depth: usize) -> Result<()> {
        while let Some(field) = self.field(end)? {
            if (field.number, field.kind) == (5, BYTES) {
                while let Some(inner) = self.field(field.end)? {
                    match (inner.number, inner.kind) {
                        (5 | 10, BYTES) => drop(self.tensor(inner.end)?),
                        (6 | 11, BYTES) => self.graph(inner.end, false, depth + 1)?,
                        _ => {}
                    }
                    self.skip_to(inner.end)?;
                }
            }
            self.skip_to(field.end)?;
        }
        Ok(())
    }

    /// Notes a tensor's size and where its bytes are; returns its name.
    fn tensor(&mut self, end: u64) -> Result<String> {
        let mut reference = Reference::default();
        let (mut count, mut kind, mut external) = (1_u64, 0_i32, false);
        while let Some(field) = self.field(end)? {
            match (field.number, field.kind) {
                (1, VARINT) => count = count.saturating_mul(field.value),
                (1, BYTES) => {
                    while self.position < field.end {
                        count = count.saturating_mul(self.varint()?);
                    }
                }
                (2, VARINT) => kind = i32::try_from(field.value).unwrap_or(0),
                (8, BYTES) => reference.tensor = self.string(field.end)?,
                (13, BYTES) => self.external_entry(field.end, &mut reference)?,
                (14, VARINT) => external = field.value == 1,
                _ => self.skip_to(field.end)?,
            }
        }
        ensure!(self.weights.len() < MOST_TENSORS, "holds more than {MOST_TENSORS} weights");
        ensure!(count < u64::MAX, "weight `{}` has dimensions without end", reference.tensor);
        self.weights.push((count, kind));
        let name = reference.tensor.clone();
        if external || !reference.location.is_empty() {
            self.external.push(reference);
        }
        Ok(name)
    }

    fn external_entry(&mut self, end: u64, reference: &mut Reference) -> Result<()> {
        let (mut key, mut value) = (String::new(), String::new());
        while let Some(field) = self.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => key = self.string(field.end)?,
                (2, BYTES) => value = self.string(field.end)?,
                _ => self.skip_to(field.end)?,
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

    fn value_info(&mut self, end: u64) -> Result<Port> {
        ensure!(self.inputs.len() + self.outputs.len() < MOST_TENSORS, "has more than {MOST_TENSORS} inputs and outputs");
        let mut port = Port { name: String::new(), element: Element::Other(0), shape: Vec::new() };
        while let Some(field) = self.field(end)? {
            match (field.number, field.kind) {
                (1, BYTES) => port.name = self.string(field.end)?,
                (2, BYTES) => {
                    while let Some(kind) = self.field(field.end)? {
                        if (kind.number, kind.kind) == (1, BYTES) {
                            self.tensor_type(kind.end, &mut port)?;
                        }
                        self.skip_to(kind.end)?;
                    }
                }
                _ => {}
            }
            self.skip_to(field.end)?;
        }
        Ok(port)
    }

    fn tensor_type(&mut self, end: u64, port: &mut Port) -> Result<()> {
        while let Some(field) = self.field(end)? {
            match (field.number, field.kind) {
                (1, VARINT) => port.element = Element::from_onnx(i32::try_from(field.value).unwrap_or(0)),
                (2, BYTES) => {
                    while let Some(dimension) = self.field(field.end)? {
                        if (dimension.number, dimension.kind) == (1, BYTES) {
                            let mut size = None;
                            while let Some(inner) = self.field(dimension.end)? {
                                if (inner.number, inner.kind) == (1, VARINT) {
                                    size = usize::try_from(inner.value).ok();
                                }
                                self.skip_to(inner.end)?;
                            }
                            ensure!(
                                port.shape.len() < MOST_DIMENSIONS,
                                "`{}` has more than {MOST_DIMENSIONS} dimensions",
                                port.name
                            );
                            port.shape.push(size);
                        }
                        self.skip_to(dimension.end)?;
                    }
                }
                _ => {}
            }
            self.skip_to(field.end)?;
        }
        Ok(())
    }
}
