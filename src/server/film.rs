//! A clip as a job's picture: an animated PNG, which programs that know no clips show the first frame of.
//!
//! In: the frames of a model that makes clips, one by one. Out: the file in memory, which grows with what was compressed alone.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::store::NewPicture;
use crate::engine::Engine;
use crate::output::{ClipFormat, ClipHead, ClipRecord, ClipWriter, FrameRate, Picture, check_clip};
use crate::pipeline::Observer;
use crate::request::Request;
use crate::runtime::Cancel;

/// Makes the clip of `request`, at the model's own rate where it names none.
///
/// # Errors
/// As [`Engine::generate_clip`]; the frames are too many or too large for the format (a refusal).
pub(super) fn film(
    engine: &mut Engine,
    request: &Request,
    observer: &mut dyn Observer,
    cancel: &Cancel,
) -> Result<Vec<NewPicture>> {
    let bundle = engine.bundle();
    let own = bundle.clip.as_ref().context("the model makes no clips")?.frames_per_second;
    let rate = request.frame_rate.map_or_else(|| FrameRate::whole(own), Ok)?;
    let channels = bundle.geometry.picture_channels.max(3);
    let (resolved, _) = engine.plan(request)?;
    // A seed that nobody chose is drawn here, once.
    let request = Request { seed: Some(resolved.seed), ..request.clone() };
    let head = ClipHead::new(resolved.width, resolved.height, channels, rate);
    check_clip(resolved.frames.map_or(1, |frames| frames.count), head, ClipFormat::Apng)?;
    let bytes = Bytes::default();
    let mut writer = ClipWriter::stream(Box::new(bytes.clone()), ClipFormat::Apng, head)?;
    let made = engine.generate_clip(&request, |frame: Picture| writer.push(&frame), observer, cancel)?;
    let mut provenance = made.provenance;
    // It goes to strangers: it tells nothing of this device's folders.
    provenance.bundle.path = None;
    provenance.clip = Some(ClipRecord { frames: made.frames, frames_per_second: rate, bounce: false });
    writer.finish(Some(&provenance))?;
    Ok(vec![NewPicture { file: bytes.take(), seed: resolved.seed, size: (resolved.width, resolved.height) }])
}

/// Bytes that a writer owns and somebody else reads in the end.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Bytes {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Bytes {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
