//! A clip as a job's picture: an animated PNG, which programs that know no clips show the first frame of.
//!
//! In: the frames of a model that makes clips, one by one. Out: the file in memory, which grows with what was compressed alone.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::store::NewPicture;
use crate::engine::{ClipBeginning, Engine};
use crate::output::{ClipFormat, ClipWriter, Picture, check_clip};
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
    let ClipBeginning { request, seed, frames, head } = engine.begin_clip(request)?;
    check_clip(frames, head, ClipFormat::Apng)?;
    let bytes = Bytes::default();
    let mut writer = ClipWriter::stream(Box::new(bytes.clone()), ClipFormat::Apng, head)?;
    let made = engine.generate_clip(&request, |frame: Picture| writer.push(&frame), observer, cancel)?;
    let mut provenance = made.provenance;
    // It goes to strangers: it tells nothing of this device's folders.
    provenance.bundle.path = None;
    writer.finish_with(&mut provenance)?;
    Ok(vec![NewPicture { file: bytes.take(), seed, size: (head.width, head.height) }])
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
