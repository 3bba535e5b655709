//! What files of pictures and clips hold besides pixels: how many frames, how long they are shown, what made them.
//!
//! Each format is walked from part to part; pixels are stepped over and not decoded, and what is read into memory is bounded.

mod boxes;
mod ebml;
mod gif;
mod png;
mod riff;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use anyhow::Result;

use super::text_chunk::LONGEST_TEXT_BYTES;
use crate::{refusal, refuse};

pub(super) use gif::is_gif;

/// What a format is told by: the first bytes of a file.
const HEAD_BYTES: usize = 12;
/// How long a frame is shown that says nothing of it, as browsers have it.
const USUAL_DELAY_S: f64 = 0.1;

/// A format whose files may hold Kiln's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Png,
    Gif,
    WebP,
    Mp4,
    WebM,
    Y4m,
}

impl Container {
    /// Tells the format from the first bytes of a file.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        match head {
            _ if head.starts_with(png::SIGNATURE) => Some(Self::Png),
            _ if is_gif(head) => Some(Self::Gif),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Self::WebP),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Some(Self::Mp4),
            [0x1A, 0x45, 0xDF, 0xA3, ..] => Some(Self::WebM),
            _ if head.starts_with(b"YUV4MPEG2") => Some(Self::Y4m),
            _ => None,
        }
    }

    /// Tells the format of the file `path` from its first bytes.
    pub(super) fn of_file(path: &Path) -> Result<(Option<Self>, BufReader<File>)> {
        let name = path.display();
        let unreadable = |error| refusal!("file {name} is not readable: {error}");
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if !metadata.is_file() {
            refuse!("file {name} is no file that can be read from its start again, expected one on a disk");
        }
        let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
        let mut head = Vec::new();
        reader.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(unreadable)?;
        reader.rewind().map_err(unreadable)?;
        Ok((Self::of(&head), reader))
    }
}

/// The frames of a clip, as its file tells of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timing {
    /// How many there are.
    pub(super) frames: usize,
    /// How long all are shown together.
    pub(super) total_s: f64,
    /// How finely the file counts time.
    pub(super) tick_s: f64,
    /// Whether some are shown longer than others, by more than the file's rounding.
    pub(super) is_uneven: bool,
}

impl Timing {
    /// Adds up how long frames are shown, in ticks.
    fn of(delays: impl IntoIterator<Item = f64>, tick_s: f64) -> Self {
        let mut timing = Self { frames: 0, total_s: 0.0, tick_s, is_uneven: false };
        let (mut shortest, mut longest) = (f64::INFINITY, 0.0_f64);
        for delay in delays {
            let delay = if delay > 0.0 { delay } else { USUAL_DELAY_S };
            timing.frames += 1;
            timing.total_s += delay;
            (shortest, longest) = (shortest.min(delay), longest.max(delay));
        }
        timing.is_uneven = timing.frames > 0 && longest - shortest > tick_s * 1.5;
        timing
    }
}

/// How long the frames of an animated PNG, GIF or WebP file are shown; `None` for a still picture.
///
/// # Errors
/// A refusal: the file is broken, or holds more than `most` frames.
pub(super) fn timing(container: Container, reader: impl BufRead + Seek, most: usize, name: &str) -> Result<Option<Timing>> {
    let (delays, tick_s) = match container {
        Container::Png => (png::delays(reader, most, name)?, 0.0),
        Container::Gif => (Some(gif::delays(reader, most, name)?), 0.01),
        Container::WebP => (riff::delays(reader, most, name)?, 0.001),
        Container::Mp4 | Container::WebM | Container::Y4m => (None, 0.0),
    };
    Ok(delays.map(|delays| Timing::of(delays, tick_s)))
}

/// The texts of what made a picture or a clip: the customary one and Kiln's own, each `None` where the file has none.
///
/// # Errors
/// A refusal: the file is broken, or the text is longer than is sensible or no UTF-8.
pub(super) fn texts(container: Container, reader: impl BufRead + Seek, name: &str) -> Result<(Option<String>, Option<String>)> {
    let record = match container {
        Container::Png => return png::texts(reader, name),
        Container::Gif => gif::record(reader, name)?,
        Container::WebP => riff::record(reader, name)?,
        Container::Mp4 => boxes::record(reader, name)?,
        Container::WebM => ebml::record(reader, name)?,
        Container::Y4m => None,
    };
    let text = |bytes| {
        let text = String::from_utf8(bytes);
        text.map_err(|error| refusal!("file {name} is broken: what it says of its making is no UTF-8: {error}"))
    };
    Ok((None, record.map(text).transpose()?))
}

/// A file of which parts are read and others stepped over.
struct Walk<'n, R> {
    reader: R,
    name: &'n str,
}

impl<R: BufRead + Seek> Walk<'_, R> {
    fn broken(&self, what: &str) -> anyhow::Error {
        refusal!("file {} is broken: {what}", self.name)
    }

    /// The next `COUNT` bytes; `None` where the file ends right before them.
    fn next<const COUNT: usize>(&mut self) -> Result<Option<[u8; COUNT]>> {
        if self.is_at_end()? {
            return Ok(None);
        }
        self.bytes().map(Some)
    }

    fn bytes<const COUNT: usize>(&mut self) -> Result<[u8; COUNT]> {
        let mut bytes = [0; COUNT];
        self.reader.read_exact(&mut bytes).map_err(|_| self.broken("it ends in the middle"))?;
        Ok(bytes)
    }

    /// The text of a part of `length` bytes.
    fn text(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > LONGEST_TEXT_BYTES as u64 {
            refuse!("file {} holds too much text, expected at most {} MiB", self.name, LONGEST_TEXT_BYTES >> 20);
        }
        let bytes = self.text_up_to(length)?;
        if (bytes.len() as u64) < length {
            return Err(self.broken("it ends in the middle"));
        }
        Ok(bytes)
    }

    /// What is left of the file, up to `length` bytes, which the caller bounds.
    fn text_up_to(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.by_ref().take(length).read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    /// Steps over `length` bytes; whether the file has them shows at the next reading.
    fn skip(&mut self, length: u64) -> Result<()> {
        let step = i64::try_from(length).map_err(|_| self.broken("a part of it is longer than any file"))?;
        self.reader.seek_relative(step).map_err(|error| self.broken(&error.to_string()))
    }

    fn is_at_end(&mut self) -> Result<bool> {
        match self.reader.fill_buf() {
            Ok(bytes) => Ok(bytes.is_empty()),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::error::is_refusal;
    use crate::output::clip::{ClipHead, ClipWriter, FrameRate};
    use crate::output::{ClipFormat, Picture, Provenance, read, read_bytes};

    const RECORD: &str = r#"{"schema": 1, "kiln": "1", "bundle": {"name": "x"}, "family": "gan", "seed": 1, "rng": "cpu", "sampler": "none",
        "steps": 1, "guidance": 1, "width": 16, "height": 16, "prompt": "猫"}"#;
    const HOLDING: [ClipFormat; 5] = [ClipFormat::Apng, ClipFormat::Gif, ClipFormat::WebP, ClipFormat::Mp4, ClipFormat::WebM];

    /// A clip of three frames with its record.
    fn file(format: ClipFormat) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let head = ClipHead::new(16, 16, 3, FrameRate::whole(8).unwrap());
        let mut writer = ClipWriter::create(&path, format, head).unwrap();
        for number in 0..3 {
            writer.push(&Picture::new(16, 16, 3, (0..768).map(|index| (index * number) as u8).collect()).unwrap()).unwrap();
        }
        writer.finish(Some(&Provenance::from_json(RECORD, "x").unwrap())).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn each_format_gives_back_its_record() {
        let made = Provenance::from_json(RECORD, "x").unwrap();
        for format in HOLDING {
            let bytes = file(format);
            assert_eq!(read_bytes(&bytes, "x").unwrap(), (Some(made.parameters()), Some(made.clone())), "{format}");
        }
    }

    #[test]
    fn what_was_cut_or_spoilt_is_read_or_refused() {
        let mut cases = 0;
        for format in HOLDING {
            let whole = file(format);
            for at in 0..whole.len() {
                let mut spoilt = whole.clone();
                spoilt[at] ^= 0xFF;
                for bytes in [&whole[..at], &spoilt] {
                    if let Err(error) = read_bytes(bytes, "x") {
                        assert!(is_refusal(&error), "{format} {at}: {error:#}");
                    }
                    if let Some(container) = Container::of(bytes) {
                        for most in [2, 1000] {
                            match timing(container, Cursor::new(bytes), most, "x") {
                                Ok(timing) => assert!(timing.is_none_or(|timing| timing.frames <= most), "{format} {at}"),
                                Err(error) => assert!(is_refusal(&error), "{format} {at}: {error:#}"),
                            }
                        }
                    }
                    cases += 1;
                }
            }
        }
        assert!(cases > 5000, "{cases} files were read");
    }

    #[test]
    fn each_animation_tells_how_long_it_is_shown() {
        for (format, tick_s) in [(ClipFormat::Apng, 0.0), (ClipFormat::Gif, 0.01), (ClipFormat::WebP, 0.001)] {
            let bytes = file(format);
            let container = Container::of(&bytes).unwrap();
            let timing = timing(container, Cursor::new(&bytes), 3, "x").unwrap().unwrap();
            assert_eq!((timing.frames, timing.tick_s, timing.is_uneven), (3, tick_s, false), "{format}");
            assert!((timing.total_s - 0.375).abs() <= tick_s / 2.0 + 1e-9, "{format}: {timing:?}");
        }
        let still = crate::output::encode(&Picture::new(1, 1, 3, vec![0; 3]).unwrap(), None, crate::output::Format::Png).unwrap();
        assert_eq!(timing(Container::Png, Cursor::new(&still), 3, "x").unwrap(), None);
        assert_eq!(Timing::of([0.0, 0.5], 0.01), Timing { frames: 2, total_s: 0.6, tick_s: 0.01, is_uneven: true });
    }

    #[test]
    fn a_record_beside_a_file_is_read_where_the_file_holds_none() {
        let folder = tempfile::tempdir().unwrap();
        let (clip, beside) = (folder.path().join("a.y4m"), folder.path().join("a.y4m.json"));
        std::fs::write(&clip, "YUV4MPEG2 W1 H1 F1:1\n").unwrap();
        assert_eq!(read(&clip).unwrap(), (None, None));
        std::fs::write(&beside, RECORD).unwrap();
        assert_eq!(read(&clip).unwrap().1.unwrap().seed, 1);
        std::fs::write(&beside, "{").unwrap();
        let said = |name: &str| {
            let error = read(&folder.path().join(name)).unwrap_err();
            assert!(is_refusal(&error), "{error:#}");
            format!("{error:#}")
        };
        assert!(said("a.y4m").contains("a.y4m.json is broken"));
        std::fs::write(&beside, "a".repeat(2 << 20)).unwrap();
        assert!(said("a.y4m").contains("holds too much text"));
        std::fs::write(folder.path().join("b.bin"), "nothing").unwrap();
        assert!(said("b.bin").contains("has no record beside it"));
        assert!(said("missing.gif").contains("is not readable"));
        assert!(said(".").contains("is a folder without") && said(".").contains("clip.json"));
    }
}
