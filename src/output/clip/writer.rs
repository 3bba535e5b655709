//! Writes a clip frame by frame.
//!
//! In: frames of one size, one at a time. Out: a file that appears whole or not at all when the last was written, or bytes on a stream.
//! Memory does not grow with the length of a clip: of what was pushed nothing is kept, and what has to be seen twice waits on the disk.

use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::numbered::{Files, Numbered};
use super::{FrameRate, apng, check, gif, y4m};
use crate::output::file::save;
use crate::output::format::ClipFormat;
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;
use crate::output::provenance_parts::ClipRecord;
use crate::output::staged::{Staged, is_device, open_device, resolve};
use crate::refuse;

/// What is known of a clip before its first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipHead {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 3 (red, green, blue) or 4 (and opacity).
    pub channels: usize,
    /// How fast the frames follow each other.
    pub rate: FrameRate,
    /// Show the frames backwards after the last, so that the clip has no jump; neither end is shown again.
    pub bounce: bool,
    /// Red, green and blue that opacity is laid on, where the format holds none.
    pub background: [u8; 3],
}

/// What turns frames into the bytes of one format.
pub(super) trait Encode: Send {
    /// Takes the next frame, whose size and channels are the clip's.
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()>;

    /// Ends the file; `frames` is how many were pushed.
    fn finish(self: Box<Self>, frames: usize, provenance: Option<&Provenance>, sink: &mut Sink) -> Result<()>;
}

/// A clip that is being written. Dropped before [`ClipWriter::finish`], it leaves nothing behind.
///
/// ```
/// use kiln::output::{ClipFormat, ClipHead, ClipWriter, FrameRate, Picture};
///
/// let folder = tempfile::tempdir()?;
/// let head = ClipHead::new(8, 8, 3, FrameRate::whole(24)?);
/// let mut writer = ClipWriter::create(&folder.path().join("a.gif"), ClipFormat::Gif, head)?;
/// for light in [0, 128, 255] {
///     writer.push(&Picture::new(8, 8, 3, vec![light; 8 * 8 * 3])?)?;
/// }
/// writer.finish(None)?;
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct ClipWriter {
    head: ClipHead,
    format: ClipFormat,
    encoder: Box<dyn Encode>,
    sink: Sink,
    place: Place,
    pushed: usize,
    backwards: Option<Backwards>,
    told_of_opacity: bool,
}

/// Where the bytes are in the end.
enum Place {
    File(PathBuf),
    /// As files of their own.
    Numbered(Numbered),
    /// They went there already.
    Streamed,
    /// They wait in the sink, since their beginning was not known before their end.
    Stream(Box<dyn Write + Send>),
}

impl ClipWriter {
    /// Begins the file `path`; an existing one is replaced when the clip is finished.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal) each: as [`check`](super::check()) for one frame; `path` is a folder, or its folder is missing
    /// or takes no files; numbered files are there already.
    pub fn create(path: &Path, format: ClipFormat, head: ClipHead) -> Result<Self> {
        check(1, head, format)?;
        if is_device(path) {
            return Self::stream(Box::new(open_device(path)?), format, head);
        }
        let (beside, place) = if format == ClipFormat::Frames {
            let files = Numbered::parse(path)?;
            files.check()?;
            (files.beside(), Place::Numbered(files))
        } else {
            let path = resolve(path)?;
            (path.clone(), Place::File(path))
        };
        let sink = Sink::Staged(Staged::beside(&beside)?);
        let backwards =
            head.bounce.then(|| Ok::<_, anyhow::Error>(Backwards { frames: Staged::beside(&beside)? })).transpose()?;
        Self::begin(sink, place, backwards, format, head)
    }

    /// Begins a clip on a stream, such as standard output.
    ///
    /// A format whose beginning depends on its end is sent when the clip is finished; until then it waits on the disk.
    ///
    /// # Errors
    /// As [`check`](super::check()) for one frame; the format is numbered files (a [`Refusal`](crate::error::Refusal)); the stream or the
    /// temporary file cannot be written.
    pub fn stream(stream: Box<dyn Write + Send>, format: ClipFormat, head: ClipHead) -> Result<Self> {
        if format == ClipFormat::Frames {
            refuse!("clip: numbered files do not fit into one stream; name a folder, or use y4m");
        }
        check(1, head, format)?;
        let backwards = head.bounce.then(|| Ok::<_, anyhow::Error>(Backwards { frames: Staged::nowhere()? })).transpose()?;
        if format.is_written_in_order() {
            return Self::begin(Sink::Stream(stream), Place::Streamed, backwards, format, head);
        }
        Self::begin(Sink::Staged(Staged::nowhere()?), Place::Stream(stream), backwards, format, head)
    }

    fn begin(mut sink: Sink, place: Place, backwards: Option<Backwards>, format: ClipFormat, head: ClipHead) -> Result<Self> {
        let encoder: Box<dyn Encode> = match format {
            ClipFormat::Apng => Box::new(apng::Apng::begin(head, &mut sink)?),
            ClipFormat::Gif => Box::new(gif::Gif::begin(head, &mut sink)?),
            ClipFormat::Frames => Box::new(Files),
            ClipFormat::Y4m => Box::new(y4m::Y4m::begin(head, &mut sink)?),
            #[cfg(feature = "webp")]
            ClipFormat::WebP => Box::new(super::webp::WebP::begin(head, &mut sink)?),
            #[cfg(feature = "av1")]
            ClipFormat::Mp4 => Box::new(super::mp4::Mp4::begin(head, &mut sink)?),
            #[cfg(feature = "av1")]
            ClipFormat::WebM => Box::new(super::webm::WebM::begin(head)?),
            #[cfg(not(all(feature = "av1", feature = "webp")))]
            _ => bail!("clip: {format} is left out of this build"),
        };
        Ok(Self { head, format, encoder, sink, place, pushed: 0, backwards, told_of_opacity: false })
    }

    /// How many frames were pushed.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.pushed
    }

    /// Writes the next frame.
    ///
    /// # Errors
    /// The frame has another size or other channels than the clip; there are more than [`MOST_FRAMES`](super::MOST_FRAMES) (a
    /// [`Refusal`](crate::error::Refusal)); the disk is full, or the stream was closed.
    pub fn push(&mut self, frame: &Picture) -> Result<()> {
        let number = self.pushed;
        let ClipHead { width, height, channels, .. } = self.head;
        frame.check().with_context(|| format!("clip: frame {number}"))?;
        ensure!(
            (frame.width, frame.height, frame.channels) == (width, height, channels),
            "clip: frame {number} is {}x{} with {} channels, expected {width}x{height} with {channels} as the clip has",
            frame.width,
            frame.height,
            frame.channels
        );
        check(self.pushed + 1, self.head, self.format)?;
        self.encode(frame)?;
        if let Some(backwards) = &mut self.backwards {
            backwards.frames.write_all(&frame.pixels).context("clip: frames for the way back")?;
        }
        self.pushed += 1;
        Ok(())
    }

    /// Hands a frame to the encoder, laid on the background where the format holds no opacity.
    fn encode(&mut self, frame: &Picture) -> Result<()> {
        if self.format.holds_opacity() || frame.channels != 4 {
            return self.encoder.push(frame, &mut self.sink);
        }
        if !self.told_of_opacity && frame.pixels.iter().skip(3).step_by(4).any(|opacity| *opacity < 255) {
            self.told_of_opacity = true;
            let [red, green, blue] = self.head.background;
            log::warn!("{} holds no opacity: the clip is laid on #{red:02x}{green:02x}{blue:02x}", self.format);
        }
        self.encoder.push(&frame.on(self.head.background), &mut self.sink)
    }

    /// Ends the clip as [`finish`](Self::finish) does, after `provenance` was told how many frames it has and how they are shown.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_with(self, provenance: &mut Provenance) -> Result<()> {
        let ClipHead { rate, bounce, .. } = self.head;
        provenance.clip = Some(ClipRecord { frames: self.pushed, frames_per_second: rate, bounce });
        self.finish(Some(provenance))
    }

    /// Ends the clip and lets it appear; what its format does not hold of `provenance` lies beside it, see [`record_beside`].
    ///
    /// # Errors
    /// No frame was pushed; the disk is full, the stream was closed, or the file cannot be put in its place.
    pub fn finish(mut self, provenance: Option<&Provenance>) -> Result<()> {
        ensure!(self.pushed > 0, "clip: holds 0 frames, expected at least 1");
        let mut shown = self.pushed;
        if let Some(mut backwards) = self.backwards.take() {
            for number in (1..self.pushed.saturating_sub(1)).rev() {
                self.encode(&backwards.frame(number, self.head)?)?;
                shown += 1;
            }
        }
        self.encoder.finish(shown, provenance, &mut self.sink)?;
        let aside = provenance.filter(|_| !self.format.holds_record()).map(Provenance::to_json).transpose()?;
        match (self.sink, self.place) {
            (Sink::Staged(mut file), Place::File(path)) => {
                file.flush().with_context(|| format!("output {}", path.display()))?;
                if let Some(json) = aside {
                    // First: a clip without its record is worse than the other way about.
                    save(json.as_bytes(), &record_beside(&path))?;
                }
                file.put(&path).with_context(|| format!("output {}", path.display()))
            }
            (Sink::Staged(mut file), Place::Numbered(files)) => {
                file.rewind().context("clip")?;
                files.put(BufReader::new(file), shown, aside.as_deref())
            }
            (Sink::Staged(mut file), Place::Stream(mut stream)) => {
                file.rewind().context("clip")?;
                io::copy(&mut file, &mut stream)?;
                Ok(stream.flush()?)
            }
            (Sink::Stream(mut stream), _) => Ok(stream.flush()?),
            (Sink::Staged(_), Place::Streamed) => bail!("clip: was written to the disk, expected a stream"),
        }
    }
}

/// Where the record of a clip lies whose format holds none: `NAME.json` beside `NAME`.
#[must_use]
pub fn record_beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".json");
    path.with_file_name(name)
}

/// Where the bytes of a clip go.
pub(super) enum Sink {
    /// A file, in which what was written can be written anew.
    Staged(Staged),
    /// A stream; what was written is gone.
    Stream(Box<dyn Write + Send>),
}

impl Sink {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Staged(file) => file.write_all(bytes).context("clip"),
            // As it is: what prints knows what a closed pipe means.
            Self::Stream(stream) => Ok(stream.write_all(bytes)?),
        }
    }

    /// Writes `bytes` over those that stand `at` the beginning, and goes on at the end.
    pub(super) fn overwrite(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        let Self::Staged(file) = self else { bail!("clip: a stream cannot be written anew") };
        file.seek(SeekFrom::Start(at)).context("clip")?;
        file.write_all(bytes).context("clip")?;
        file.seek(SeekFrom::End(0)).context("clip")?;
        Ok(())
    }
}

/// The frames that were pushed, on the disk, for the way back.
struct Backwards {
    frames: Staged,
}

impl Backwards {
    fn frame(&mut self, number: usize, head: ClipHead) -> Result<Picture> {
        let length = head.width as usize * head.height as usize * head.channels;
        let mut pixels = vec![0; length];
        self.frames.seek(SeekFrom::Start(number as u64 * length as u64)).context("clip: frames for the way back")?;
        self.frames.read_exact(&mut pixels).context("clip: frames for the way back")?;
        Picture::new(head.width, head.height, head.channels, pixels)
    }
}
