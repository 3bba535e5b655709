//! Files of a tokenizer's folder, read up to a size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;

/// The largest file of a tokenizer that is read; CLIP's take 2 MB, T5's as much.
pub(super) const LARGEST_FILE_BYTES: u64 = 32 << 20;

/// Reads a file of a tokenizer, up to the largest size.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let name = path.display();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| name.to_string())?;
    ensure!(bytes.len() as u64 <= LARGEST_FILE_BYTES, "{name} is larger than {} MiB", LARGEST_FILE_BYTES >> 20);
    Ok(bytes)
}

/// Reads a JSON file of a tokenizer.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read_file(path)?).with_context(|| path.display().to_string())
}
