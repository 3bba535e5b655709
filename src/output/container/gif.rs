//! GIF: a row of blocks (Graphics Interchange Format, version 89a, sections 15 to 27), a block's data in parts of at most 255 bytes.
//!
//! A comment that begins with `kiln ` is Kiln's; other programs write comments of their own.

use std::io::{BufRead, Seek};

use anyhow::Result;

use super::Walk;
use crate::output::comment_block::MARK;
use crate::output::text_chunk::LONGEST_TEXT_BYTES;
use crate::refuse;

const SIGNATURES: [&[u8]; 2] = [b"GIF87a", b"GIF89a"];
/// Bytes of the signature and of the screen that follows it, up to its flags, and behind them.
const BEFORE_FLAGS_BYTES: usize = 10;
const BEHIND_FLAGS_BYTES: u64 = 2;
const EXTENSION: u8 = 0x21;
const CONTROL: u8 = 0xF9;
const COMMENT: u8 = 0xFE;
const PICTURE: u8 = 0x2C;
const END: u8 = 0x3B;
/// Browsers take a delay of one hundredth of a second for none.
const SHORTEST_TICKS: u16 = 2;

/// Whether `bytes` begin as a GIF file does.
pub(in crate::output) fn is_gif(bytes: &[u8]) -> bool {
    SIGNATURES.iter().any(|signature| bytes.starts_with(signature))
}

/// How long each frame is shown, in seconds; 0 where it is not said.
pub(super) fn delays(reader: impl BufRead + Seek, most: usize, name: &str) -> Result<Vec<f64>> {
    let mut delays = Vec::new();
    let mut delay = 0.0;
    let mut blocks = Blocks::begin(reader, name)?;
    while let Some(block) = blocks.next(false)? {
        match block {
            Block::Control(ticks) => delay = if ticks < SHORTEST_TICKS { 0.0 } else { f64::from(ticks) / 100.0 },
            Block::Picture => {
                if delays.len() == most {
                    refuse!("clip {name} holds more than {most} frames");
                }
                delays.push(std::mem::take(&mut delay));
            }
            Block::Comment(_) | Block::Other => {}
        }
    }
    Ok(delays)
}

/// Kiln's record, if there is one; of several the first counts.
pub(super) fn record(reader: impl BufRead + Seek, name: &str) -> Result<Option<Vec<u8>>> {
    let mut blocks = Blocks::begin(reader, name)?;
    while let Some(block) = blocks.next(true)? {
        let Block::Comment(text) = block else { continue };
        let Some(text) = text.strip_prefix(MARK) else { continue };
        if text.len() > LONGEST_TEXT_BYTES {
            refuse!("file {name} holds too much text, expected at most {} MiB", LONGEST_TEXT_BYTES >> 20);
        }
        return Ok(Some(text.to_vec()));
    }
    Ok(None)
}

enum Block {
    /// Hundredths of a second for which the next picture is shown.
    Control(u16),
    /// Its text, cut behind the first byte that is too many.
    Comment(Vec<u8>),
    Picture,
    Other,
}

struct Blocks<'n, R>(Walk<'n, R>);

impl<'n, R: BufRead + Seek> Blocks<'n, R> {
    fn begin(reader: R, name: &'n str) -> Result<Self> {
        let mut blocks = Self(Walk { reader, name });
        blocks.0.bytes::<BEFORE_FLAGS_BYTES>()?;
        let [flags] = blocks.0.bytes()?;
        blocks.0.skip(BEHIND_FLAGS_BYTES)?;
        blocks.skip_colours(flags)?;
        Ok(blocks)
    }

    /// The next block, `None` behind the last.
    fn next(&mut self, wants_comments: bool) -> Result<Option<Block>> {
        let [kind] = self.0.bytes()?;
        match kind {
            EXTENSION => {
                let [label] = self.0.bytes()?;
                let most = match label {
                    COMMENT if wants_comments => MARK.len() + LONGEST_TEXT_BYTES + 1,
                    CONTROL => 4,
                    _ => 0,
                };
                let data = self.data(most)?;
                Ok(Some(match (label, data.as_slice()) {
                    (CONTROL, [_, low, high, _]) => Block::Control(u16::from_le_bytes([*low, *high])),
                    (COMMENT, _) => Block::Comment(data),
                    _ => Block::Other,
                }))
            }
            PICTURE => {
                let [.., flags] = self.0.bytes::<9>()?;
                self.skip_colours(flags)?;
                // The least size of the codes.
                self.0.skip(1)?;
                self.data(0)?;
                Ok(Some(Block::Picture))
            }
            END => Ok(None),
            _ => Err(self.0.broken("it holds a block of an unknown kind")),
        }
    }

    /// Steps over a table of colours that `flags` announce.
    fn skip_colours(&mut self, flags: u8) -> Result<()> {
        if flags & 0x80 != 0 { self.0.skip(3 << ((flags & 7) + 1)) } else { Ok(()) }
    }

    /// The parts of a block together, as far as `most` bytes; the rest is stepped over.
    fn data(&mut self, most: usize) -> Result<Vec<u8>> {
        let mut data = Vec::new();
        loop {
            match self.0.bytes()? {
                [0] => return Ok(data),
                [length] => {
                    let wanted = usize::from(length).min(most - data.len());
                    data.extend(self.0.text(wanted as u64)?);
                    self.0.skip(u64::from(length) - wanted as u64)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::gif::{AnyExtension, Encoder, Frame};

    use super::*;
    use crate::error::is_refusal;
    use crate::output::comment_block::add;

    /// A GIF of two frames; `comments` stand before the first.
    fn file(comments: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 40, 30, &[0, 0, 0, 9, 9, 9]).unwrap();
        for comment in comments {
            encoder.write_raw_extension(AnyExtension(COMMENT), &[comment]).unwrap();
        }
        for number in 0..2 {
            let pixels: Vec<u8> = (0..40 * 30).map(|at| (at * at / 7 % (251 + number) % 4) as u8).collect();
            let palette = &[0, 0, 0, 90, 90, 90, 180, 180, 180, 255, 255, 255];
            encoder.write_frame(&Frame::from_palette_pixels(40, 30, pixels, palette, None)).unwrap();
        }
        drop(encoder);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Option<String>> {
        super::super::texts(super::super::Container::Gif, Cursor::new(bytes), "a.gif").map(|(_, json)| json)
    }

    fn refusal_of(bytes: &[u8]) -> String {
        let error = decode(bytes).unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn a_comment_gives_back_its_text_whatever_its_length() {
        for length in [0, 1, 249, 250, 251, 505, 5000] {
            let json = format!("\"{}ü猫\"", "a".repeat(length));
            let mut bytes = Vec::new();
            add(&mut Encoder::new(&mut bytes, 1, 1, &[]).unwrap(), &json).unwrap();
            assert_eq!(decode(&bytes).unwrap(), Some(json));
        }
    }

    #[test]
    fn comments_of_others_are_passed_over() {
        assert_eq!(decode(&file(&[])).unwrap(), None);
        assert_eq!(decode(&file(&[b"made with love", b"kiln"])).unwrap(), None);
        let found = decode(&file(&[b"made with love", b"kiln {}", b"kiln []"])).unwrap();
        assert_eq!(found.as_deref(), Some("{}"), "the first counts");
        // Behind the pictures, as other programs put it that write the file anew.
        let mut behind = file(&[]);
        assert_eq!(behind.pop(), Some(END));
        behind.extend(b"\x21\xFE\x07kiln {}\x00\x3B");
        assert_eq!(decode(&behind).unwrap().as_deref(), Some("{}"));
    }

    #[test]
    fn refuses_more_text_than_is_sensible_and_what_is_no_text() {
        let most = [MARK, &vec![b'a'; LONGEST_TEXT_BYTES]].concat();
        assert_eq!(decode(&file(&[&most])).unwrap().unwrap().len(), LONGEST_TEXT_BYTES);
        for more in [1, 300, 20 << 20] {
            let text = [&most[..], &vec![b'a'; more]].concat();
            assert_eq!(refusal_of(&file(&[&text])), "file a.gif holds too much text, expected at most 1 MiB");
        }
        assert!(refusal_of(&file(&[b"kiln \xFF\xFE"])).contains("is no UTF-8"));
    }

    #[test]
    fn a_file_that_was_cut_short_or_spoilt_is_refused_or_read_and_never_more() {
        let whole = file(&[b"kiln {}"]);
        let ends = whole.windows(8).position(|window| window == b"kiln {}\0").unwrap() + 8;
        let mut count = 0;
        for length in 0..whole.len() {
            match decode(&whole[..length]) {
                Ok(found) => assert!(length >= ends && found.as_deref() == Some("{}"), "{length}"),
                Err(error) => assert!(length < ends && is_refusal(&error), "{length}: {error:#}"),
            }
            let mut spoilt = whole.clone();
            spoilt[length] ^= 0xFF;
            assert!(decode(&spoilt).map_or_else(|error| is_refusal(&error), |_| true), "{length}");
            count += 1;
        }
        assert!(count > 400, "{count} lengths were tried");
        assert!(refusal_of(&file(&[])[..60]).contains("it ends in the middle"));
    }

    #[test]
    fn delays_are_told_and_bounded() {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 1, 1, &[0; 6]).unwrap();
        for delay in [5, 0, 1, 2, 65_535] {
            encoder.write_frame(&Frame { delay, width: 1, height: 1, buffer: vec![0].into(), ..Frame::default() }).unwrap();
        }
        drop(encoder);
        assert_eq!(delays(Cursor::new(&bytes), 5, "a.gif").unwrap(), [0.05, 0.0, 0.0, 0.02, 655.35]);
        let error = delays(Cursor::new(&bytes), 4, "a.gif").unwrap_err();
        assert!(is_refusal(&error) && error.to_string() == "clip a.gif holds more than 4 frames");
        for length in 0..bytes.len() {
            assert!(is_refusal(&delays(Cursor::new(&bytes[..length]), 5, "a.gif").unwrap_err()), "{length}");
        }
    }
}
