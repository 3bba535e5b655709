//! A clip of a model that makes clips: its frames go to the file as they are decoded.

use anyhow::{Context, Result};

use super::clip::begin;
use super::target::Goal;
use crate::bundle::Bundle;
use crate::engine::{ClipBeginning, Engine};
use crate::output::{ClipFormat, ClipHead, FrameRate, Picture, Provenance, Written, check_clip};
use crate::pipeline::Observer;
use crate::request::Request;
use crate::runtime::Cancel;

/// What a person said about the clip.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Film {
    pub(super) seconds: Option<f64>,
    pub(super) rate: Option<FrameRate>,
    pub(super) bounce: bool,
    /// What opacity is laid on, where the format holds none.
    pub(super) background: [u8; 3],
}

impl Film {
    /// Frames per second, where nobody said it the model's own.
    fn rate(&self, bundle: &Bundle) -> Result<FrameRate> {
        let own = bundle.clip.as_ref().context("the model makes no clips")?.frames_per_second;
        self.rate.map_or_else(|| FrameRate::whole(own), Ok)
    }

    /// `head` as it was asked for.
    pub(super) fn head(&self, head: ClipHead) -> ClipHead {
        ClipHead { bounce: self.bounce, background: self.background, ..head }
    }

    /// Brings the rate, of which some models are told, and a length in seconds to the frames that come next to it and that the model can make.
    pub(super) fn put_into(&self, request: &mut Request, bundle: &Bundle) -> Result<()> {
        request.frame_rate = self.rate.or(request.frame_rate);
        let (Some(seconds), Some(shape)) = (self.seconds, &bundle.clip) else { return Ok(()) };
        let frames = self.rate(bundle)?.frames_in(seconds).context("--seconds")?;
        let (below, above) = shape.near(frames);
        request.frames = Some(if frames - below <= above - frames { below } else { above });
        Ok(())
    }

    /// Makes the clip and writes it; returns its first frame and its record as well.
    ///
    /// * `note`: adds to the record what the engine does not know
    pub(super) fn make(
        &self,
        engine: &mut Engine,
        request: &Request,
        goal: &Goal<ClipFormat>,
        observer: &mut dyn Observer,
        cancel: &Cancel,
        note: impl FnOnce(&mut Provenance) -> Result<()>,
    ) -> Result<(Written, Picture, Provenance)> {
        // A seed that nobody chose names the file before the first frame is there.
        let ClipBeginning { request, seed, frames, head } = engine.begin_clip(request)?;
        let head = self.head(head);
        check_clip(frames, head, goal.format())?;
        let target = goal.target(Some(&request.prompt), &seed.to_string());
        let (mut writer, written) = begin(&target, head)?;
        let mut first = None;
        let sink = |frame: Picture| {
            writer.push(&frame)?;
            first.get_or_insert(frame);
            Ok(())
        };
        let made = engine.generate_clip(&request, sink, observer, cancel)?;
        // Between the last frame and the file a person may still change their mind.
        cancel.check()?;
        let mut provenance = made.provenance;
        note(&mut provenance)?;
        writer.finish_with(&mut provenance)?;
        Ok((written, first.context("a clip without frames")?, provenance))
    }
}
