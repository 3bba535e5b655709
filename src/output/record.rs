//! What made a picture or a clip, read back from its file or from beside it.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use anyhow::Result;

use super::clip::numbered::Numbered;
use super::clip::record_beside;
use super::container::{self, Container};
use super::provenance::Provenance;
use super::text_chunk::{self, LONGEST_TEXT_BYTES};
use crate::refusal;

/// Reads what made the picture or the clip `path`: the customary text and Kiln's own, each `None` where there is none.
///
/// A file of a format that holds no record, a folder of numbered files, or a pattern such as `frames/%04d.png` has it beside or within.
///
/// # Errors
/// Each is a [`Refusal`](crate::error::Refusal): `path` is not readable, of another format and without a record beside it, broken before
/// its pixels begin, holds more text than is sensible, or its JSON is not Kiln's.
pub fn read(path: &Path) -> Result<(Option<String>, Option<Provenance>)> {
    if path.is_dir() || path.file_name().is_some_and(|name| name.to_string_lossy().contains('%')) {
        let record = Numbered::parse(path)?.record();
        if path.is_dir() && !record.is_file() {
            let (folder, record) = (path.display(), record.display());
            return Err(refusal!(
                "{folder} is a folder without {record}; name a picture, or the folder of a clip that kiln wrote"
            ));
        }
        return beside(&record);
    }
    let name = path.display().to_string();
    let (container, reader) = Container::of_file(path)?;
    let aside = record_beside(path);
    let texts = match container {
        Some(container) => of_texts(container::texts(container, reader, &name)?, &name)?,
        None if !aside.is_file() => return Err(no_record(&name)),
        None => (None, None),
    };
    if texts == (None, None) && aside.is_file() { beside(&aside) } else { Ok(texts) }
}

/// Reads what made the bytes of a picture's or a clip's file, as [`read`] does.
///
/// * `name`: what errors call it
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], name: &str) -> Result<(Option<String>, Option<Provenance>)> {
    let Some(container) = Container::of(bytes) else { return Err(no_record(name)) };
    of_texts(container::texts(container, Cursor::new(bytes), name)?, name)
}

/// Reads a file that holds the JSON alone.
fn beside(path: &Path) -> Result<(Option<String>, Option<Provenance>)> {
    let name = path.display().to_string();
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_TEXT_BYTES as u64 + 1).read_to_string(&mut text));
    read.map_err(|error| refusal!("file {name} is not readable: {error}"))?;
    if text.len() > LONGEST_TEXT_BYTES {
        return Err(text_chunk::too_much(&name));
    }
    of_texts((None, Some(text)), &name)
}

fn of_texts((parameters, json): (Option<String>, Option<String>), name: &str) -> Result<(Option<String>, Option<Provenance>)> {
    let provenance = json.map(|json| Provenance::from_json(&json, name)).transpose()?;
    Ok((parameters.or_else(|| provenance.as_ref().map(Provenance::parameters)), provenance))
}

fn no_record(name: &str) -> anyhow::Error {
    refusal!("file {name} is no PNG, GIF, WebP, MP4 or WebM and has no record beside it; only these say what made them")
}
