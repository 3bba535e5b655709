//! What made a clip, as a comment inside a GIF file.
//!
//! Graphics Interchange Format, version 89a, sections 15 to 27: a file is a row of blocks, a block's data are parts of at most 255 bytes,
//! and a comment is a block of text.
//!
//! In: an encoder and a text, or the bytes of a GIF file. Out: a comment, or its text. Pictures are stepped over, not decoded.

use std::io::Write;

use anyhow::{Context, Result};
use gif::{AnyExtension, Encoder};

use super::text_chunk::LONGEST_TEXT_BYTES;
use crate::{refusal, refuse};

const SIGNATURES: [&[u8]; 2] = [b"GIF87a", b"GIF89a"];
/// Bytes of the signature and of the screen that follows it.
const HEAD_BYTES: usize = 13;
const EXTENSION: u8 = 0x21;
const COMMENT: u8 = 0xFE;
const PICTURE: u8 = 0x2C;
const END: u8 = 0x3B;
/// Begins the comment that is Kiln's; other programs write comments of their own.
const MARK: &[u8] = b"kiln ";

/// Whether `bytes` begin as a GIF file does.
pub(super) fn is_gif(bytes: &[u8]) -> bool {
    SIGNATURES.iter().any(|signature| bytes.starts_with(signature))
}

/// Lets `encoder` write `json` before the next frame.
pub(super) fn add<W: Write>(encoder: &mut Encoder<W>, json: &str) -> Result<()> {
    let text = [MARK, json.as_bytes()].concat();
    encoder.write_raw_extension(AnyExtension(COMMENT), &[&text]).context("gif comment")
}

/// Reads what [`add`] wrote, `None` where the file has no such comment.
///
/// # Errors
/// Each is a [`Refusal`](crate::error::Refusal): the file ends within a block or holds an unknown one before the comment was found; the
/// comment is longer than is sensible or no UTF-8.
pub(super) fn decode(bytes: &[u8], name: &str) -> Result<Option<String>> {
    let mut blocks = Blocks { left: bytes };
    let text = blocks.find().ok_or_else(|| refusal!("picture {name} is broken: it ends or is damaged before its last block"))?;
    let Some(text) = text else { return Ok(None) };
    if text.len() > LONGEST_TEXT_BYTES {
        refuse!("picture {name} holds too much text, expected at most {} MiB", LONGEST_TEXT_BYTES >> 20);
    }
    match String::from_utf8(text) {
        Ok(text) => Ok(Some(text)),
        Err(error) => refuse!("picture {name} is broken: what it says of its making is no UTF-8: {error}"),
    }
}

/// What is left of a file; each step is `None` where that ends too early.
struct Blocks<'b> {
    left: &'b [u8],
}

impl<'b> Blocks<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// Steps over a table of colours that `flags` announce.
    fn skip_colours(&mut self, flags: u8) -> Option<()> {
        if flags & 0x80 != 0 {
            self.take(3 << ((flags & 7) + 1))?;
        }
        Some(())
    }

    /// The parts of a block together, as far as `most` bytes; the rest is stepped over.
    fn data(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut data = Vec::new();
        loop {
            match self.byte()? {
                0 => return Some(data),
                length => {
                    let part = self.take(usize::from(length))?;
                    data.extend(part.iter().take(most - data.len()));
                }
            }
        }
    }

    /// The text of Kiln's comment, if there is one, cut behind the first byte that is too many.
    fn find(&mut self) -> Option<Option<Vec<u8>>> {
        let flags = *self.take(HEAD_BYTES)?.get(10)?;
        self.skip_colours(flags)?;
        loop {
            match self.byte()? {
                EXTENSION => {
                    let is_comment = self.byte()? == COMMENT;
                    let data = self.data(if is_comment { MARK.len() + LONGEST_TEXT_BYTES + 1 } else { 0 })?;
                    if let Some(text) = data.strip_prefix(MARK).filter(|_| is_comment) {
                        return Some(Some(text.to_vec()));
                    }
                }
                PICTURE => {
                    let flags = *self.take(9)?.get(8)?;
                    self.skip_colours(flags)?;
                    // The least size of the codes.
                    self.byte()?;
                    self.data(0)?;
                }
                END => return Some(None),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use gif::Frame;

    use super::*;
    use crate::error::is_refusal;

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

    fn refusal_of(bytes: &[u8]) -> String {
        let error = decode(bytes, "a.gif").unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn a_comment_gives_back_its_text_whatever_its_length() {
        for length in [0, 1, 249, 250, 251, 505, 5000] {
            let json = format!("\"{}ü猫\"", "a".repeat(length));
            let mut bytes = Vec::new();
            add(&mut Encoder::new(&mut bytes, 1, 1, &[]).unwrap(), &json).unwrap();
            assert_eq!(decode(&bytes, "a.gif").unwrap(), Some(json));
        }
    }

    #[test]
    fn comments_of_others_are_passed_over() {
        assert_eq!(decode(&file(&[]), "a.gif").unwrap(), None);
        assert_eq!(decode(&file(&[b"made with love", b"kiln"]), "a.gif").unwrap(), None);
        let found = decode(&file(&[b"made with love", b"kiln {}", b"kiln []"]), "a.gif").unwrap();
        assert_eq!(found.as_deref(), Some("{}"), "the first counts");
        // Behind the pictures, as other programs put it that write the file anew.
        let mut behind = file(&[]);
        assert_eq!(behind.pop(), Some(END));
        behind.extend(b"\x21\xFE\x07kiln {}\x00\x3B");
        assert_eq!(decode(&behind, "a.gif").unwrap().as_deref(), Some("{}"));
    }

    #[test]
    fn refuses_more_text_than_is_sensible_and_what_is_no_text() {
        let most = [MARK, &vec![b'a'; LONGEST_TEXT_BYTES]].concat();
        assert_eq!(decode(&file(&[&most]), "a.gif").unwrap().unwrap().len(), LONGEST_TEXT_BYTES);
        for more in [1, 300, 20 << 20] {
            let text = [&most[..], &vec![b'a'; more]].concat();
            assert_eq!(refusal_of(&file(&[&text])), "picture a.gif holds too much text, expected at most 1 MiB");
        }
        assert!(refusal_of(&file(&[b"kiln \xFF\xFE"])).contains("is no UTF-8"));
    }

    #[test]
    fn a_file_that_was_cut_short_or_spoilt_is_refused_or_read_and_never_more() {
        let whole = file(&[b"kiln {}"]);
        let ends = whole.windows(8).position(|window| window == b"kiln {}\0").unwrap() + 8;
        let mut count = 0;
        for length in 0..whole.len() {
            match decode(&whole[..length], "a.gif") {
                Ok(found) => assert!(length >= ends && found.as_deref() == Some("{}"), "{length}"),
                Err(error) => assert!(length < ends && is_refusal(&error), "{length}: {error:#}"),
            }
            let mut spoilt = whole.clone();
            spoilt[length] ^= 0xFF;
            assert!(decode(&spoilt, "a.gif").map_or_else(|error| is_refusal(&error), |_| true), "{length}");
            count += 1;
        }
        assert!(count > 400, "{count} lengths were tried");
        assert!(refusal_of(&file(&[])[..60]).contains("it ends or is damaged"));
    }
}
