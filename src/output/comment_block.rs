//! What made a clip, as a comment inside a GIF file; `container/gif.rs` reads it back.

use std::io::Write;

use anyhow::{Context, Result};
use gif::{AnyExtension, Encoder};

const COMMENT: u8 = 0xFE;
/// Begins the comment that is Kiln's; other programs write comments of their own.
pub(super) const MARK: &[u8] = b"kiln ";

/// Lets `encoder` write `json` behind what it wrote.
pub(super) fn add<W: Write>(encoder: &mut Encoder<W>, json: &str) -> Result<()> {
    let text = [MARK, json.as_bytes()].concat();
    encoder.write_raw_extension(AnyExtension(COMMENT), &[&text]).context("gif comment")
}
