//! PNG: a row of chunks (Portable Network Graphics, third edition, section 5.3): a length, a name, data, a checksum.

use std::io::{BufRead, Seek};

use anyhow::Result;

use super::Walk;
use crate::output::provenance::{KILN, PARAMETERS};
use crate::output::text_chunk;
use crate::refuse;

pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// What all texts of a file may take as they stand in it.
const LARGEST_TEXTS_BYTES: u64 = 8 << 20;
const CHECKSUM_BYTES: u64 = 4;
/// A chunk of no pixels, with its checksum.
const NO_PIXELS: &[u8] = b"\0\0\0\0IDAT\x35\xAF\x06\x1E";

/// How long each frame is shown, in seconds, 0 where it is not said; `None` where nothing moves.
pub(super) fn delays(reader: impl BufRead + Seek, most: usize, name: &str) -> Result<Option<Vec<f64>>> {
    let mut walk = Walk { reader, name };
    walk.skip(SIGNATURE.len() as u64)?;
    let (mut moves, mut delays) = (false, Vec::new());
    while let Some([a, b, c, d, kind @ ..]) = walk.next::<8>()? {
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        match &kind {
            b"acTL" => moves = true,
            b"fcTL" if length == 26 => {
                let [.., a, b, c, d, _, _] = walk.bytes::<26>()?;
                let (seconds, parts) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                if delays.len() == most {
                    refuse!("clip {name} holds more than {most} frames");
                }
                // Parts of 0 stand for hundredths.
                delays.push(f64::from(seconds) / f64::from(if parts == 0 { 100 } else { parts }));
                walk.skip(CHECKSUM_BYTES)?;
                continue;
            }
            b"IDAT" if !moves => return Ok(None),
            b"IEND" => return Ok(moves.then_some(delays)),
            _ => {}
        }
        walk.skip(length + CHECKSUM_BYTES)?;
    }
    Err(walk.broken("it ends before its last chunk"))
}

/// The customary text and Kiln's own.
pub(super) fn texts(reader: impl BufRead + Seek, name: &str) -> Result<(Option<String>, Option<String>)> {
    let [parameters, json] = text_chunk::decode(&without_pixels(reader, name)?, [PARAMETERS, KILN], name)?;
    Ok((parameters, json))
}

/// The header and the texts of a file as a file of their own, whether they stand before or behind the pixels.
///
/// What is cut short before the pixels is taken along, for the decoder to complain of; behind them it is no reason to refuse a file.
fn without_pixels(reader: impl BufRead + Seek, name: &str) -> Result<Vec<u8>> {
    let mut walk = Walk { reader, name };
    let mut bytes = walk.text_up_to(SIGNATURE.len() as u64)?;
    let mut has_pixels = false;
    while let Ok(Some(head)) = walk.next::<8>() {
        let [a, b, c, d, kind @ ..] = head;
        let length = u64::from(u32::from_be_bytes([a, b, c, d])) + CHECKSUM_BYTES;
        match &kind {
            b"IHDR" | b"tEXt" | b"zTXt" | b"iTXt" => {
                if bytes.len() as u64 + length > LARGEST_TEXTS_BYTES {
                    return Err(text_chunk::too_much(name));
                }
                let data = walk.text_up_to(length)?;
                let is_whole = data.len() as u64 == length;
                if is_whole || !has_pixels {
                    bytes.extend(head);
                    bytes.extend(data);
                }
                if !is_whole {
                    break;
                }
            }
            b"IEND" => break,
            kind => {
                has_pixels |= kind == b"IDAT";
                walk.skip(length)?;
            }
        }
    }
    if has_pixels {
        bytes.extend(NO_PIXELS);
    }
    Ok(bytes)
}
