//! WebP: a row of chunks (RFC 9649, section 2.3): a name, a length, data, a zero where the length is odd.

use std::io::{BufRead, Seek};

use anyhow::Result;

use super::Walk;
use crate::output::clip::WEBP_RECORD;
use crate::refuse;

/// `RIFF`, the length of the file, `WEBP`.
const HEAD_BYTES: u64 = 12;
/// What stands in a frame before its pixels: place, size, how long it is shown, flags.
const FRAME_HEAD_BYTES: u64 = 16;

/// How long each frame is shown, in seconds; `None` where nothing moves.
pub(super) fn delays(reader: impl BufRead + Seek, most: usize, name: &str) -> Result<Option<Vec<f64>>> {
    let mut delays = Vec::new();
    let mut moves = false;
    each_chunk(reader, name, |walk, kind, length| {
        match &kind {
            b"ANIM" => moves = true,
            b"ANMF" if length >= FRAME_HEAD_BYTES => {
                let [.., a, b, c, _] = walk.bytes::<{ FRAME_HEAD_BYTES as usize }>()?;
                if delays.len() == most {
                    refuse!("clip {name} holds more than {most} frames");
                }
                delays.push(f64::from(u32::from_le_bytes([a, b, c, 0])) / 1000.0);
                walk.skip(length - FRAME_HEAD_BYTES)?;
                return Ok(Step::Read);
            }
            _ => {}
        }
        Ok(Step::Over)
    })?;
    Ok(moves.then_some(delays))
}

/// Kiln's record, if there is one.
pub(super) fn record(reader: impl BufRead + Seek, name: &str) -> Result<Option<Vec<u8>>> {
    let mut record = None;
    each_chunk(reader, name, |walk, kind, length| {
        if &kind != WEBP_RECORD {
            return Ok(Step::Over);
        }
        record = Some(walk.text(length)?);
        Ok(Step::End)
    })?;
    Ok(record)
}

/// What was done with a chunk.
enum Step {
    /// Nothing: it is stepped over.
    Over,
    /// It was read.
    Read,
    /// It was what was looked for.
    End,
}

fn each_chunk<R: BufRead + Seek>(
    reader: R,
    name: &str,
    mut see: impl FnMut(&mut Walk<'_, R>, [u8; 4], u64) -> Result<Step>,
) -> Result<()> {
    let mut walk = Walk { reader, name };
    walk.skip(HEAD_BYTES)?;
    while let Some([a, b, c, d, length @ ..]) = walk.next::<8>()? {
        let length = u64::from(u32::from_le_bytes(length));
        match see(&mut walk, [a, b, c, d], length)? {
            Step::Over => walk.skip(length)?,
            Step::Read => {}
            Step::End => break,
        }
        walk.skip(length % 2)?;
    }
    Ok(())
}
