//! A clip as `--input`: each frame is drawn anew, all from the same noise, and written as it is made.

use anyhow::{Context, Result};

use super::clip::begin;
use super::progress::Progress;
use super::target::Goal;
use crate::engine::{Engine, Generated};
use crate::output::{
    ClipFormat, ClipHead, ClipReader, ClipRecord, ClipWriter, FrameRate, Picture, Provenance, Written, check_clip,
};
use crate::pipeline::{Event, Observer};
use crate::request::Request;
use crate::runtime::Cancel;

/// A clip whose frames go in one after the other.
pub(super) struct Frames {
    /// The first frame, which decides the plan.
    first: Picture,
    rest: ClipReader,
    /// How it is shown, and the most frames that are taken.
    pub(super) record: ClipRecord,
    pub(super) background: [u8; 3],
}

impl Frames {
    /// Reads the first frame of `reader`.
    ///
    /// * `rate`: what was said; else the clip's own, else `usual`
    /// * `most`: frames that are taken, given how fast they follow each other; else all
    pub(super) fn new(
        mut reader: ClipReader,
        rate: Option<FrameRate>,
        usual: FrameRate,
        most: impl FnOnce(FrameRate) -> Result<Option<usize>>,
        bounce: bool,
        background: [u8; 3],
    ) -> Result<Self> {
        let first = reader.next().context("a clip without frames")??;
        if rate.is_none() && reader.is_uneven() {
            log::warn!(
                "--input: frames are shown for different times, and for the mean of them in the new clip; --fps says another"
            );
        }
        let rate = rate.or(reader.rate()).unwrap_or(usual);
        let most = most(rate)?;
        let frames = match (reader.frames(), most) {
            (Some(there), Some(most)) => there.min(most),
            (there, most) => there.or(most).unwrap_or(1),
        };
        let record = ClipRecord { frames, frames_per_second: rate, bounce };
        Ok(Self { first, rest: reader, record, background })
    }

    /// The first frame.
    pub(super) fn first(&self) -> &Picture {
        &self.first
    }

    /// Makes sure that the clip can be written, before its pictures are made.
    pub(super) fn check(&self, engine: &Engine, request: &Request, format: ClipFormat) -> Result<()> {
        let (resolved, _) = engine.plan(request)?;
        check_clip(self.record.frames, head(self.record, self.background, (resolved.width, resolved.height), 4), format)
    }

    /// Draws the frames and writes the clip; returns its last picture, and the record of all.
    ///
    /// * `note`: adds to the record what the engine does not know
    pub(super) fn write(
        self,
        engine: &mut Engine,
        request: &Request,
        goal: &Goal<ClipFormat>,
        progress: &mut Progress,
        cancel: &Cancel,
        note: impl FnOnce(&mut Provenance) -> Result<()>,
    ) -> Result<(Written, Picture, Provenance)> {
        let Self { first, rest, record, background } = self;
        let mut counter = Counter { progress, frame: 0, frames: record.frames, has_begun: false };
        let frames = std::iter::once(Ok(first)).chain(rest).take(record.frames);
        let mut made: Option<Made> = None;
        engine.redraw(request, frames, &mut counter, cancel, |Generated { picture, provenance, .. }| {
            // Between two frames a person may change their mind as well.
            cancel.check()?;
            let made = match &mut made {
                Some(made) => {
                    made.add(&provenance);
                    made
                }
                None => {
                    let head = head(record, background, (picture.width, picture.height), picture.channels);
                    let target = goal.target(provenance.prompt.as_deref(), &provenance.seed.to_string());
                    let (writer, written) = begin(&target, head)?;
                    made.insert(Made { writer, written, last: picture.clone(), provenance })
                }
            };
            made.writer.push(&picture)?;
            made.last = picture;
            Ok(())
        })?;
        let Made { writer, written, last, mut provenance } = made.context("a clip without frames")?;
        note(&mut provenance)?;
        writer.finish_with(&mut provenance)?;
        Ok((written, last, provenance))
    }
}

/// What was made so far.
struct Made {
    writer: ClipWriter,
    written: Written,
    last: Picture,
    /// The first frame's, with the times of all.
    provenance: Provenance,
}

impl Made {
    fn add(&mut self, frame: &Provenance) {
        self.provenance.total_ms += frame.total_ms;
        for (all, one) in self.provenance.components.iter_mut().zip(&frame.components) {
            all.load_ms += one.load_ms;
            all.run_ms += one.run_ms;
            all.calls += one.calls;
        }
    }
}

fn head(record: ClipRecord, background: [u8; 3], (width, height): (u32, u32), channels: usize) -> ClipHead {
    ClipHead { bounce: record.bounce, background, ..ClipHead::new(width, height, channels, record.frames_per_second) }
}

/// Tells of each frame's steps as of one picture among many.
struct Counter<'p> {
    progress: &'p mut Progress,
    frame: usize,
    frames: usize,
    has_begun: bool,
}

impl Observer for Counter<'_> {
    fn event(&mut self, event: Event) {
        self.progress.event(match event {
            Event::Step { step, steps, .. } => {
                if step == 1 {
                    self.frame += usize::from(self.has_begun);
                    self.has_begun = true;
                }
                Event::Step { step, steps, picture: self.frame, pictures: self.frames.max(self.frame + 1) }
            }
            Event::Decoding { .. } => Event::Decoding { picture: self.frame },
            other => other,
        });
    }

    fn wants_preview(&self) -> bool {
        self.progress.wants_preview()
    }

    fn preview(&mut self, step: usize, picture: &Picture) -> Result<()> {
        self.progress.preview(step, picture)
    }
}
