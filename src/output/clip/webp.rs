//! Animated WebP (RFC 9649, section 2.7): lossless frames with opacity; what made it is a chunk of Kiln's own behind them, which readers
//! are bound to pass over.

use anyhow::{Context, Result, bail};
use image::ExtendedColorType;
use image::codecs::webp::WebPEncoder;

use super::WEBP_RECORD;
use super::writer::{ClipHead, Encode, Sink};
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;
use crate::refuse;

/// The longest side that WebP can express.
const LARGEST_SIDE_PX: u32 = 16_383;
/// WebP counts time in milliseconds.
const TICKS_PER_SECOND: u32 = 1000;
/// Where the size of the file stands, and from where it counts.
const SIZE_AT: u64 = 4;
const COUNTED_FROM: u64 = 8;
/// In the byte of features: frames follow, some pixels are not opaque.
const ANIMATION: u8 = 0x02;
const OPACITY: u8 = 0x10;
/// In the byte of a frame: it takes the place of what was there, and is not laid over it.
const DO_NOT_BLEND: u8 = 0x02;

pub(super) struct WebP {
    head: ClipHead,
    frames: u64,
    length: u64,
}

/// Makes sure that WebP can express the sides.
pub(super) fn check((width, height): (u32, u32)) -> Result<()> {
    if width.max(height) > LARGEST_SIDE_PX {
        refuse!("clip: is {width}x{height}, webp takes sides up to {LARGEST_SIDE_PX}; use png");
    }
    Ok(())
}

impl WebP {
    pub(super) fn begin(head: ClipHead, sink: &mut Sink) -> Result<Self> {
        let features = if head.channels == 4 { ANIMATION | OPACITY } else { ANIMATION };
        let canvas = [&[features, 0, 0, 0][..], &three_bytes(head.width - 1), &three_bytes(head.height - 1)].concat();
        // No background, and playing 0 times is playing without end.
        let start = [b"RIFF\0\0\0\0WEBP".as_slice(), &chunk(b"VP8X", &canvas)?, &chunk(b"ANIM", &[0; 6])?].concat();
        sink.put(&start)?;
        Ok(Self { head, frames: 0, length: start.len() as u64 })
    }

    fn put(&mut self, chunk: &[u8], sink: &mut Sink) -> Result<()> {
        self.length += chunk.len() as u64;
        if self.length > u64::from(u32::MAX) {
            refuse!("clip: takes more than 4 GiB, the most that webp takes; use webm, mp4 or numbered png files");
        }
        sink.put(chunk)
    }
}

impl Encode for WebP {
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()> {
        let Picture { width, height, channels, .. } = *frame;
        let colour = if channels == 4 { ExtendedColorType::Rgba8 } else { ExtendedColorType::Rgb8 };
        let mut still = Vec::new();
        WebPEncoder::new_lossless(&mut still).encode(&frame.pixels, width, height, colour).context("webp frame")?;
        let rate = self.head.rate;
        let shown = rate.begin(self.frames + 1, TICKS_PER_SECOND) - rate.begin(self.frames, TICKS_PER_SECOND);
        self.frames += 1;
        let pixels = find(&still, b"VP8L").context("webp frame: the encoder wrote no VP8L")?;
        let mut data = [[0; 6].as_slice(), &three_bytes(width - 1), &three_bytes(height - 1)].concat();
        data.extend(three_bytes(u32::try_from(shown)?));
        data.push(DO_NOT_BLEND);
        data.extend(chunk(b"VP8L", pixels)?);
        self.put(&chunk(b"ANMF", &data)?, sink)
    }

    fn finish(mut self: Box<Self>, _: usize, provenance: Option<&Provenance>, sink: &mut Sink) -> Result<()> {
        if let Some(provenance) = provenance {
            self.put(&chunk(WEBP_RECORD, provenance.to_json()?.as_bytes())?, sink)?;
        }
        let size = u32::try_from(self.length - COUNTED_FROM)?;
        sink.overwrite(SIZE_AT, &size.to_le_bytes())
    }
}

/// A chunk: its name, its length, its data, and a zero where the length is odd.
fn chunk(name: &[u8; 4], data: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(data.len()).context("webp chunk")?;
    let mut bytes = [name.as_slice(), &length.to_le_bytes(), data].concat();
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    Ok(bytes)
}

/// The data of the first chunk `name` in the bytes of a whole file.
fn find<'b>(file: &'b [u8], name: &[u8; 4]) -> Result<&'b [u8]> {
    let mut left = file.get(12..).unwrap_or_default();
    while let Some((head, rest)) = left.split_first_chunk::<8>() {
        let [a, b, c, d, length @ ..] = *head;
        let length = u32::from_le_bytes(length) as usize;
        let data = rest.get(..length).context("a chunk ends early")?;
        if [a, b, c, d] == *name {
            return Ok(data);
        }
        left = rest.get(length.next_multiple_of(2)..).unwrap_or_default();
    }
    bail!("there is no such chunk")
}

fn three_bytes(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.to_le_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::AnimationDecoder;
    use image::codecs::webp::WebPDecoder;

    use super::*;
    use crate::error::is_refusal;
    use crate::output::clip::{ClipWriter, FrameRate};
    use crate::output::format::ClipFormat;

    #[test]
    fn a_decoder_gives_back_every_pixel_and_every_delay() {
        for (channels, count) in [(3, 1), (3, 5), (4, 5)] {
            let frames: Vec<Picture> = (0..count)
                .map(|number| {
                    let pixels = (0..7 * 5 * channels).map(|index| (index * 37 + number * 91) as u8).collect();
                    Picture::new(7, 5, channels, pixels).unwrap()
                })
                .collect();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a.webp");
            let head = ClipHead::new(7, 5, channels, FrameRate::whole(30).unwrap());
            let mut writer = ClipWriter::create(&path, ClipFormat::WebP, head).unwrap();
            frames.iter().for_each(|frame| writer.push(frame).unwrap());
            writer.finish(None).unwrap();
            let bytes = std::fs::read(path).unwrap();
            assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize, bytes.len() - 8);
            let decoder = WebPDecoder::new(Cursor::new(&bytes)).unwrap();
            let shown = decoder.into_frames().collect_frames().unwrap();
            assert_eq!(shown.len(), count);
            for ((frame, shown), delay) in frames.iter().zip(&shown).zip([33, 34, 33, 33, 34]) {
                assert_eq!(shown.buffer().as_raw(), &frame.with_opacity().pixels);
                assert_eq!(shown.delay().numer_denom_ms(), (delay, 1));
            }
        }
    }

    #[test]
    fn refuses_sides_that_webp_cannot_express() {
        let error = check((16_384, 1)).unwrap_err();
        assert!(is_refusal(&error) && error.to_string() == "clip: is 16384x1, webp takes sides up to 16383; use png");
        check((16_383, 16_383)).unwrap();
    }
}
