//! Animated PNG (Portable Network Graphics, third edition, section 11.3.6): lossless, with opacity; what made it stands behind the frames.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use png::{BitDepth, ColorType, Writer};

use super::writer::{ClipHead, Encode, Sink};
use super::{FrameRate, MOST_FRAMES};
use crate::output::file::texts;
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;
use crate::output::text_chunk;

pub(super) struct Apng {
    head: ClipHead,
    writer: Writer<Buffer>,
    buffer: Buffer,
}

impl Apng {
    pub(super) fn begin(head: ClipHead, sink: &mut Sink) -> Result<Self> {
        let buffer = Buffer::default();
        // How many frames there are is known when they are there: the header is written anew then.
        let writer = header(head, MOST_FRAMES, buffer.clone())?;
        sink.put(&buffer.take())?;
        Ok(Self { head, writer, buffer })
    }
}

impl Encode for Apng {
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()> {
        self.writer.write_image_data(&frame.pixels).context("apng frame")?;
        sink.put(&self.buffer.take())
    }

    fn finish(self: Box<Self>, frames: usize, provenance: Option<&Provenance>, sink: &mut Sink) -> Result<()> {
        let Self { head, mut writer, buffer } = *self;
        text_chunk::append(&mut writer, &texts(provenance)?)?;
        writer.finish().context("apng end")?;
        sink.put(&buffer.take())?;
        let counted = Buffer::default();
        // Dropped, the writer would end the file.
        let writer = header(head, frames, counted.clone())?;
        sink.overwrite(0, &counted.take())?;
        drop(writer);
        Ok(())
    }
}

/// Writes everything that stands before the first frame; its length does not depend on `frames`.
fn header(head: ClipHead, frames: usize, buffer: Buffer) -> Result<Writer<Buffer>> {
    let mut encoder = png::Encoder::new(buffer, head.width, head.height);
    encoder.set_color(if head.channels == 4 { ColorType::Rgba } else { ColorType::Rgb });
    encoder.set_depth(BitDepth::Eight);
    // Playing 0 times is playing without end.
    encoder.set_animated(u32::try_from(frames)?, 0).context("apng")?;
    let (seconds, frames) = delay(head.rate);
    encoder.set_frame_delay(seconds, frames).context("apng")?;
    encoder.write_header().context("apng header")
}

/// How long a frame is shown: the fraction of a second nearest to the true one that two numbers of 16 bits can say.
fn delay(rate: FrameRate) -> (u16, u16) {
    match (u16::try_from(rate.seconds()), u16::try_from(rate.frames())) {
        (Ok(seconds), Ok(frames)) => (seconds, frames),
        // At most 10 seconds in thousandths.
        _ => (rate.begin(1, 1000).try_into().unwrap_or(u16::MAX), 1000),
    }
}

/// Bytes that the encoder wrote and that have not gone on yet; both hold it.
#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_fits_into_sixteen_bits() {
        for (text, expected) in [("24", (1, 24)), ("30000/1001", (1001, 30000)), ("1/10", (10, 1)), ("100000/4171", (42, 1000))] {
            assert_eq!(delay(text.parse().unwrap()), expected);
        }
    }
}
