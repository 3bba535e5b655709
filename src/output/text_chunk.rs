//! Text inside PNG files.
//!
//! Portable Network Graphics, third edition, section 11.3.3: a chunk is a keyword and a text, `tEXt` in Latin-1 or `iTXt` in
//! UTF-8.
//!
//! In: a picture and texts, or the bytes of a PNG file. Out: the bytes of a PNG file, or the texts. Which part of a file is looked at, so
//! that pixels need not be decoded, is `container/png.rs`'s.

use std::io::{Cursor, Write};

use anyhow::{Context, Result};
use png::text_metadata::{ITXtChunk, TEXtChunk};
use png::{BitDepth, ColorType, Decoder, DecodingError, DeflateCompression, Encoder, Filter, Info, Limits, Writer};

use super::picture::Picture;
use crate::refusal;

/// The longest text that is read.
pub(super) const LONGEST_TEXT_BYTES: usize = 1 << 20;
/// What reading the chunks may allocate: a few texts, and a row of pixels.
const LARGEST_CHUNKS_BYTES: usize = 8 << 20;

/// The lowest that searches for repetitions. The usual one, 6, takes seven to eleven times as long, which a quick model's picture shows, for files
/// that are 5 to 16 % smaller (`BENCHMARKS.md`).
const DEFLATE_LEVEL: u8 = 1;

/// Encodes `picture` with `texts`, pairs of a keyword and what it says.
pub(super) fn encode(picture: &Picture, texts: &[(&str, String)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, picture.width, picture.height);
    encoder.set_color(if picture.channels == 4 { ColorType::Rgba } else { ColorType::Rgb });
    encoder.set_depth(BitDepth::Eight);
    encoder.set_deflate_compression(DeflateCompression::Level(DEFLATE_LEVEL));
    encoder.set_filter(Filter::Adaptive);
    add(&mut encoder, texts)?;
    let mut writer = encoder.write_header().context("png header")?;
    writer.write_image_data(&picture.pixels).context("png pixels")?;
    writer.finish().context("png end")?;
    Ok(bytes)
}

/// Lets `encoder` write `texts` before the pixels.
pub(super) fn add<W: Write>(encoder: &mut Encoder<'_, W>, texts: &[(&str, String)]) -> Result<()> {
    for (keyword, text) in texts {
        let text = without_zeros(text);
        let added = if is_latin(&text) {
            encoder.add_text_chunk((*keyword).to_owned(), text)
        } else {
            encoder.add_itxt_chunk((*keyword).to_owned(), text)
        };
        added.with_context(|| format!("png text `{keyword}`"))?;
    }
    Ok(())
}

/// Writes `texts` behind the pixels.
pub(super) fn append<W: Write>(writer: &mut Writer<W>, texts: &[(&str, String)]) -> Result<()> {
    for (keyword, text) in texts {
        let text = without_zeros(text);
        let written = if is_latin(&text) {
            writer.write_text_chunk(&TEXtChunk::new(*keyword, text))
        } else {
            writer.write_text_chunk(&ITXtChunk::new(*keyword, text))
        };
        written.with_context(|| format!("png text `{keyword}`"))?;
    }
    Ok(())
}

/// A zero byte ends a keyword and may not stand in a text; everything else is kept as it is.
fn without_zeros(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn is_latin(text: &str) -> bool {
    text.chars().all(|letter| u32::from(letter) < 256)
}

/// Reads the texts under `keywords` that stand before the pixels, each `None` where the file has none; of several under one keyword the
/// first counts.
///
/// # Errors
/// Each is a [`Refusal`](crate::error::Refusal): `bytes` is no PNG file, is broken before its pixels begin, or holds more text
/// than is sensible.
pub(super) fn decode<const COUNT: usize>(bytes: &[u8], keywords: [&str; COUNT], name: &str) -> Result<[Option<String>; COUNT]> {
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: LARGEST_CHUNKS_BYTES });
    decoder.set_ignore_iccp_chunk(true);
    let reader = decoder.read_info().map_err(|error| explain(error, name))?;
    find(reader.info(), keywords, name)
}

fn find<const COUNT: usize>(info: &Info<'_>, keywords: [&str; COUNT], name: &str) -> Result<[Option<String>; COUNT]> {
    let mut texts = [const { None }; COUNT];
    for (slot, keyword) in texts.iter_mut().zip(keywords) {
        *slot = find_one(info, keyword).map_err(|error| explain(error, name))?;
        if slot.as_ref().is_some_and(|text| text.len() > LONGEST_TEXT_BYTES) {
            return Err(explain(DecodingError::LimitsExceeded, name));
        }
    }
    Ok(texts)
}

fn find_one(info: &Info<'_>, keyword: &str) -> Result<Option<String>, DecodingError> {
    if let Some(chunk) = info.utf8_text.iter().find(|chunk| chunk.keyword == keyword) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(LONGEST_TEXT_BYTES)?;
        return chunk.get_text().map(Some);
    }
    if let Some(chunk) = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == keyword) {
        return Ok(Some(chunk.text.clone()));
    }
    if let Some(chunk) = info.compressed_latin1_text.iter().find(|chunk| chunk.keyword == keyword) {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(LONGEST_TEXT_BYTES)?;
        return chunk.get_text().map(Some);
    }
    Ok(None)
}

/// What is said of more text than is sensible.
pub(super) fn too_much(name: &str) -> anyhow::Error {
    refusal!("file {name} holds too much text, expected at most {} MiB", LONGEST_TEXT_BYTES >> 20)
}

fn explain(error: DecodingError, name: &str) -> anyhow::Error {
    match error {
        DecodingError::LimitsExceeded => too_much(name),
        error => refusal!("picture {name} is broken: {error}"),
    }
}
