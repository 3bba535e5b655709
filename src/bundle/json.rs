//! Reads JSON files that nobody vouches for: bounded in size and depth, and asked for values of one type each.

use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::ops::RangeBounds;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

/// Configuration files are a few KB; anything near this is not one.
pub(crate) const LARGEST_FILE_BYTES: u64 = 1024 * 1024;

/// Reads a file whole.
///
/// # Errors
/// `path` is not a file, cannot be read or is larger than `limit_bytes`.
pub(crate) fn read_bounded(path: &Path, limit_bytes: u64) -> Result<Vec<u8>> {
    let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
    // Opening a pipe would wait for somebody to write into it.
    ensure!(metadata.is_file(), "{}: is not a file", path.display());
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut bytes = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    ensure!(bytes.len() as u64 <= limit_bytes, "{}: is larger than {limit_bytes} bytes", path.display());
    Ok(bytes)
}

/// A JSON object out of a file, with the file's name for messages.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    file: String,
    pub(crate) entries: Map<String, Value>,
}

impl Object {
    /// Reads the object in `path`. `serde_json` itself refuses nesting beyond 128.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, LARGEST_FILE_BYTES)?;
        let file = path.display().to_string();
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(entries)) => Ok(Self { file, entries }),
            Ok(other) => bail!("{file}: is {}, expected an object", kind(&other)),
            Err(error) => bail!("{file}: is not JSON: {error}"),
        }
    }

    /// The same object, which messages call `name`.
    pub(crate) fn called(self, name: String) -> Self {
        Self { file: name, ..self }
    }

    /// A whole number within `range`; `None` when the key is missing or null.
    pub(crate) fn integer(&self, key: &str, range: impl RangeBounds<u64> + std::fmt::Debug) -> Result<Option<usize>> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|number| range.contains(number)) {
                Some(number) => Ok(Some(usize::try_from(number)?)),
                None => Err(self.unexpected(key, value, format_args!("a whole number in {range:?}"))),
            },
        }
    }

    /// A finite number; `None` when the key is missing or null.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            #[expect(clippy::cast_possible_truncation, reason = "Kiln computes in f32")]
            Some(value) => match value.as_f64().map(|number| number as f32).filter(|number| number.is_finite()) {
                Some(number) => Ok(Some(number)),
                None => Err(self.unexpected(key, value, "a finite number")),
            },
        }
    }

    /// `true` or `false`; `None` when the key is missing or null.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(value) => Err(self.unexpected(key, value, "true or false")),
        }
    }

    /// Whether the part `key` of a pipeline is there: a pair of a library and a class, of which none is null.
    pub(crate) fn names(&self, key: &str) -> bool {
        match self.entries.get(key) {
            None | Some(Value::Null) => false,
            Some(Value::Array(values)) => values.iter().any(|value| !value.is_null()),
            Some(_) => true,
        }
    }

    /// A string; `None` when the key is missing or null.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(value) => Err(self.unexpected(key, value, "a string")),
        }
    }

    /// A string, or the lines of one as a list; `None` when the key is missing, null or empty.
    pub(crate) fn lines(&self, key: &str) -> Result<Option<String>> {
        let Some(Value::Array(lines)) = self.entries.get(key) else { return Ok(self.text(key)?.map(str::to_owned)) };
        let lines: Option<Vec<&str>> = lines.iter().map(Value::as_str).collect();
        let lines = lines.with_context(|| format!("{}: `{key}` is a list, expected its entries to be strings", self.file))?;
        Ok((!lines.is_empty()).then(|| lines.join("\n")))
    }

    /// Length of a list; `None` when the key is missing or null.
    pub(crate) fn list_length(&self, key: &str) -> Result<Option<usize>> {
        match self.entries.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values.len())),
            Some(value) => Err(self.unexpected(key, value, "a list")),
        }
    }

    fn unexpected(&self, key: &str, value: &Value, expected: impl Display) -> anyhow::Error {
        anyhow::anyhow!("{}: `{key}` is {}, expected {expected}", self.file, shortened(&value.to_string()))
    }
}

/// What stands in a file, short enough for a message and on one line.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    let mut shown: String =
        text.chars().take(LONGEST).map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
