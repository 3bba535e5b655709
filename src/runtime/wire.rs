//! The wire format of protocol buffers, read and written field by field.
//!
//! In: a file. Out: fields with their ends, each within the one that holds it. What a field means is not known here.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use anyhow::{Context, Result, bail, ensure};

/// Strings longer than this are no names.
const LONGEST_STRING_BYTES: u64 = 1024;

/// Wire types of protocol buffers.
pub(crate) const VARINT: u64 = 0;
const FIXED64: u64 = 1;
pub(crate) const BYTES: u64 = 2;
const FIXED32: u64 = 5;

/// A field of a message: its number, its wire type and where it ends.
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) kind: u64,
    pub(crate) end: u64,
    /// The value of a varint field.
    pub(crate) value: u64,
}

/// A file, and how far it was read.
pub(crate) struct Wire {
    reader: BufReader<File>,
    pub(crate) position: u64,
    pub(crate) length: u64,
}

impl Wire {
    pub(crate) fn new(file: File, length: u64) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, file), position: 0, length }
    }

    pub(crate) fn refuse_pointer(&mut self) -> Result<()> {
        const MARK: &[u8] = b"version https://git-lfs";
        let mut start = Vec::with_capacity(MARK.len());
        self.reader.by_ref().take(MARK.len() as u64).read_to_end(&mut start)?;
        self.reader.seek(SeekFrom::Start(0))?;
        ensure!(start != MARK, "is a Git LFS pointer, not the model: run `git lfs pull` where it was cloned");
        Ok(())
    }

    /// Reads the next field of a message that ends at `end`; `None` at its end.
    pub(crate) fn field(&mut self, end: u64) -> Result<Option<Field>> {
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

    pub(crate) fn varint(&mut self) -> Result<u64> {
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

    pub(crate) fn skip_to(&mut self, end: u64) -> Result<()> {
        let distance = i64::try_from(end - self.position).context("a field is too long")?;
        self.reader.seek_relative(distance)?;
        self.position = end;
        Ok(())
    }

    /// The bytes up to `end`, which the caller found to be few.
    pub(crate) fn bytes(&mut self, end: u64) -> Result<Vec<u8>> {
        let size = end - self.position;
        let mut bytes = Vec::new();
        self.reader.by_ref().take(size).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 == size, "is truncated: it ends within a value");
        self.position = end;
        Ok(bytes)
    }

    pub(crate) fn string(&mut self, end: u64) -> Result<String> {
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
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The bytes of a field that holds a number.
pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3 | VARINT), varint(value)].concat()
}

/// The bytes of a field that holds others, or a text.
pub(super) fn message(field: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(field << 3 | BYTES), varint(bytes.len() as u64), bytes.to_vec()].concat()
}
