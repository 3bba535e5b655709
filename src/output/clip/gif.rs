//! GIF (89a): 256 colours a frame, fitted to each frame alone; each pixel opaque or not at all; what made it stands behind the frames.

use anyhow::{Context, Result};
use gif::{DisposalMethod, Encoder, Frame, Repeat};

use super::FrameRate;
use super::writer::{ClipHead, Encode, Sink};
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;
use crate::output::{comment_block, palette};
use crate::refuse;

/// Browsers show a frame of less than 20 ms for 100 ms.
const SHORTEST_TICKS: u64 = 2;
/// GIF counts time in hundredths of a second.
const TICKS_PER_SECOND: u32 = 100;

pub(super) struct Gif {
    head: ClipHead,
    encoder: Encoder<Vec<u8>>,
    frames: u64,
}

/// Makes sure that GIF can express the sides and the rate.
pub(super) fn check(size: (u32, u32), rate: FrameRate) -> Result<()> {
    let (width, height) = size;
    if width.max(height) > u32::from(u16::MAX) {
        refuse!("clip: is {width}x{height}, gif takes sides up to {}; use png", u16::MAX);
    }
    let fastest = TICKS_PER_SECOND / SHORTEST_TICKS as u32;
    if f64::from(rate) > f64::from(fastest) {
        refuse!("clip: plays {rate} frames per second, gif expects at most {fastest}: browsers slow a faster one down; use png");
    }
    Ok(())
}

impl Gif {
    pub(super) fn begin(head: ClipHead, sink: &mut Sink) -> Result<Self> {
        let (width, height) = (u16::try_from(head.width)?, u16::try_from(head.height)?);
        let mut encoder = Encoder::new(Vec::new(), width, height, &[]).context("gif header")?;
        encoder.set_repeat(Repeat::Infinite).context("gif header")?;
        sink.put(&std::mem::take(encoder.get_mut()))?;
        Ok(Self { head, encoder, frames: 0 })
    }
}

impl Encode for Gif {
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()> {
        let indexed = palette::index(frame);
        let (begin, end) =
            (self.head.rate.begin(self.frames, TICKS_PER_SECOND), self.head.rate.begin(self.frames + 1, TICKS_PER_SECOND));
        self.frames += 1;
        let frame = Frame {
            delay: u16::try_from(end - begin)?,
            // What is not drawn would show the frame before.
            dispose: if frame.channels == 4 { DisposalMethod::Background } else { DisposalMethod::Keep },
            transparent: indexed.transparent,
            width: u16::try_from(frame.width)?,
            height: u16::try_from(frame.height)?,
            palette: Some(indexed.palette),
            buffer: indexed.indices.into(),
            ..Frame::default()
        };
        self.encoder.write_frame(&frame).context("gif frame")?;
        sink.put(&std::mem::take(self.encoder.get_mut()))
    }

    fn finish(self: Box<Self>, _: usize, provenance: Option<&Provenance>, sink: &mut Sink) -> Result<()> {
        let mut encoder = self.encoder;
        if let Some(provenance) = provenance {
            comment_block::add(&mut encoder, &provenance.to_json()?)?;
        }
        sink.put(&encoder.into_inner().context("gif end")?)
    }
}
