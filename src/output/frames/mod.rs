//! Reads clips frame by frame.
//!
//! In: a GIF, an animated PNG or WebP file, raw video (YUV4MPEG2), or a folder of numbered PNG files. Out: one [`Picture`] after the
//! other, as a viewer shows it. One frame is in memory at a time.
//!
//! Everything in such a file is hostile: how many frames there are, their size and the size of the file are limited before they are
//! decoded.

mod animation;
mod files;
mod y4m;

use std::io::Seek;
use std::path::Path;

use anyhow::Result;

pub use files::numbered_files;

use super::clip::{FrameRate, MOST_FRAMES};
use super::container::{self, Container, Timing};
use super::decoder::LARGEST_SIDE_PX;
use super::picture::Picture;
use crate::{refusal, refuse};

/// The largest file of a clip that is read.
pub const LARGEST_CLIP_BYTES: u64 = 4 << 30;

/// A clip that is being read: an iterator over its frames, all of one size.
///
/// Each error is a [`Refusal`](crate::error::Refusal): a frame is broken, larger than
/// [`LARGEST_SIDE_PX`] on a side or of another size than the first, or there are more than
/// [`MOST_FRAMES`].
pub struct ClipReader {
    name: String,
    source: Box<dyn Iterator<Item = Result<Picture>>>,
    rate: Option<FrameRate>,
    frames: Option<usize>,
    size: Option<(u32, u32)>,
    read: usize,
    is_uneven: bool,
}

impl ClipReader {
    /// Opens the file or folder `path`; `None` where it is a still picture, or nothing that moves.
    ///
    /// # Errors
    /// Each is a [`Refusal`](crate::error::Refusal): the file is broken, larger than [`LARGEST_CLIP_BYTES`], or holds more than
    /// [`MOST_FRAMES`] frames or none; a folder holds no numbered PNG files.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let name = path.display().to_string();
        let is_pattern = path.file_name().is_some_and(|name| name.to_string_lossy().contains('%'));
        if path.is_dir() || (is_pattern && !path.is_file()) {
            let files = numbered_files(path)?;
            let frames = Some(files.len());
            let source = Box::new(files.into_iter().map(|path| Picture::open(&path)));
            // Frames that Kiln wrote have their record beside them; those of others say nothing of their speed.
            let record = crate::output::read(path).ok().and_then(|(_, record)| record);
            let rate = record.and_then(|record| record.clip).map(|clip| clip.frames_per_second);
            return Ok(Some(Self { name, source, rate, frames, size: None, read: 0, is_uneven: false }));
        }
        if !path.is_file() {
            // What reads a picture says what is wrong with it.
            return Ok(None);
        }
        let (container, mut reader) = Container::of_file(path)?;
        let bytes = reader.get_ref().metadata().map_err(|error| refusal!("clip {name} is not readable: {error}"))?.len();
        match container {
            Some(Container::Y4m) => {
                check_size(&name, bytes)?;
                let video = y4m::Y4m::open(reader, &name)?;
                let (rate, frames) = (video.rate(), video.frames_in(bytes));
                Ok(Some(Self {
                    name,
                    source: Box::new(video),
                    rate,
                    frames: Some(frames),
                    size: None,
                    read: 0,
                    is_uneven: false,
                }))
            }
            Some(container @ (Container::Png | Container::Gif | Container::WebP)) => {
                let Some(timing) = container::timing(container, &mut reader, MOST_FRAMES, &name)? else { return Ok(None) };
                reader.rewind().map_err(|error| refusal!("clip {name} is not readable: {error}"))?;
                check_size(&name, bytes)?;
                if timing.frames == 0 {
                    refuse!("clip {name} holds no frames");
                }
                let source = animation::open(container, reader, &name)?;
                let (rate, frames) = (Some(rate_of(&timing)), Some(timing.frames));
                let rate = rate.transpose().map_err(|error| error.context(format!("clip {name}; --fps says another")))?;
                Ok(Some(Self { name, source, rate, frames, size: None, read: 0, is_uneven: timing.is_uneven }))
            }
            Some(Container::Mp4 | Container::WebM) => {
                refuse!("clip {name} is compressed video, which is not read; make y4m of it first, or a folder of png files")
            }
            None => Ok(None),
        }
    }

    /// How fast the frames follow each other; `None` where nothing says it. Of frames that are shown for different times, the mean.
    #[must_use]
    pub fn rate(&self) -> Option<FrameRate> {
        self.rate
    }

    /// Whether frames are shown for different times.
    #[must_use]
    pub fn is_uneven(&self) -> bool {
        self.is_uneven
    }

    /// How many frames there are, as far as can be told before they are read.
    #[must_use]
    pub fn frames(&self) -> Option<usize> {
        self.frames
    }
}

impl Iterator for ClipReader {
    type Item = Result<Picture>;

    fn next(&mut self) -> Option<Self::Item> {
        let (name, number) = (&self.name, self.read);
        let picture = match self.source.next()? {
            Ok(picture) => picture,
            Err(error) => return Some(Err(error)),
        };
        let size = (picture.width, picture.height);
        let (width, height) = *self.size.get_or_insert(size);
        self.read += 1;
        Some(if size != (width, height) {
            Err(refusal!("clip {name}: frame {number} is {}x{}, expected {width}x{height} as the first is", size.0, size.1))
        } else if self.read > MOST_FRAMES {
            Err(refusal!("clip {name} holds more than {MOST_FRAMES} frames"))
        } else {
            Ok(picture)
        })
    }
}

fn check_size(name: &str, bytes: u64) -> Result<()> {
    if bytes > LARGEST_CLIP_BYTES {
        refuse!("clip {name} is larger than {} GiB; cut it first", LARGEST_CLIP_BYTES >> 30);
    }
    Ok(())
}

/// Sides of frames as they are declared, before anything is made room for.
fn check_sides(name: &str, width: u32, height: u32) -> Result<()> {
    if !(1..=LARGEST_SIDE_PX).contains(&width) || !(1..=LARGEST_SIDE_PX).contains(&height) {
        refuse!("clip {name} is {width}x{height}, expected sides of 1 to {LARGEST_SIDE_PX}");
    }
    Ok(())
}

/// The rate at which so many frames take so long; a whole number where the file's rounding allows one.
fn rate_of(timing: &Timing) -> Result<FrameRate> {
    #[expect(clippy::cast_precision_loss, reason = "far fewer frames than 2⁵³")]
    let rate = timing.frames as f64 / timing.total_s;
    let whole = rate.round();
    #[expect(clippy::cast_precision_loss, reason = "far fewer frames than 2⁵³")]
    let is_whole = whole >= 1.0 && (timing.frames as f64 / whole - timing.total_s).abs() <= timing.tick_s / 2.0 + 1e-6;
    // The casts stop at the ends of their range, which are no rates.
    if is_whole { FrameRate::whole(whole as u32) } else { FrameRate::new((rate * 1000.0).round() as u32, 1000) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::is_refusal;
    use crate::output::clip::{ClipHead, ClipWriter};
    use crate::output::{ClipFormat, Format, encode};

    /// `count` pictures of 6 × 4 of few colours that a GIF keeps, each with a dot that moves.
    fn pictures(count: usize, channels: usize) -> Vec<Picture> {
        (0..count)
            .map(|number| {
                let mut pixels = [90, 160, 30, 255][..channels].repeat(24);
                pixels[number * channels] = 250;
                Picture::new(6, 4, channels, pixels).unwrap()
            })
            .collect()
    }

    fn write(path: &Path, format: ClipFormat, rate: &str, pictures: &[Picture]) {
        let Picture { width, height, channels, .. } = pictures[0];
        let head = ClipHead::new(width, height, channels, rate.parse().unwrap());
        let mut writer = ClipWriter::create(path, format, head).unwrap();
        pictures.iter().for_each(|picture| writer.push(picture).unwrap());
        writer.finish(None).unwrap();
    }

    #[test]
    fn numbered_files_are_as_quick_as_the_record_beside_them_says() {
        let folder = tempfile::tempdir().unwrap();
        let frames = folder.path().join("frames");
        fs::create_dir(&frames).unwrap();
        write(&frames, ClipFormat::Frames, "12", &pictures(3, 3));
        let rate = || ClipReader::open(&frames).unwrap().unwrap().rate().map(f64::from);
        let record = |clip: &str| {
            format!(
                r#"{{"schema": 1, "kiln": "1", "bundle": {{"name": "x"}}, "family": "gan", "seed": 1, "rng": "cpu", "sampler": "none",
                "steps": 1, "guidance": 1, "width": 6, "height": 4, "prompt": ""{clip}}}"#
            )
        };
        for (text, expected) in [
            (record(r#", "clip": {"frames": 3, "frames_per_second": 12}"#), Some(12.0)),
            (record(""), None),
            ("{".to_owned(), None),
        ] {
            fs::write(frames.join("clip.json"), text).unwrap();
            assert_eq!(rate(), expected);
        }
        fs::remove_file(frames.join("clip.json")).unwrap();
        assert_eq!(rate(), None);
    }

    fn refusal_of(path: &Path) -> String {
        let read = || ClipReader::open(path)?.unwrap().collect::<Result<Vec<_>>>();
        let error = read().unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn each_format_gives_back_the_frames_that_were_written() {
        let folder = tempfile::tempdir().unwrap();
        for (format, rate) in [
            (ClipFormat::Apng, Some("30000/1001")),
            (ClipFormat::Gif, Some("12")),
            (ClipFormat::Gif, Some("30")),
            (ClipFormat::WebP, Some("24")),
            (ClipFormat::Y4m, Some("30000/1001")),
            (ClipFormat::Frames, None),
        ] {
            for channels in [3, 4] {
                let pictures = pictures(7, channels);
                let path = folder.path().join(format!("{format}-{channels}-{}", rate.unwrap_or_default().replace('/', "-")));
                write(&path, format, rate.unwrap_or("24"), &pictures);
                let reader = ClipReader::open(&path).unwrap().unwrap();
                assert_eq!((reader.frames(), reader.is_uneven()), (Some(7), false), "{format}");
                // Thousandths are near enough to what television has.
                let told = reader.rate().map(f64::from).unwrap_or_default();
                let expected = rate.map_or(0.0, |rate| rate.parse::<FrameRate>().unwrap().into());
                assert!((told - expected).abs() < 0.001, "{format}: {told}");
                let read: Vec<Picture> = reader.map(Result::unwrap).collect();
                assert_eq!(read.len(), 7);
                for (read, picture) in read.iter().zip(&pictures) {
                    // Half the colour's resolution says little of one pixel.
                    let far = if format == ClipFormat::Y4m { 160 } else { 0 };
                    let (read, picture) = (read.with_opacity(), picture.with_opacity());
                    assert!(read.pixels.iter().zip(&picture.pixels).all(|(a, b)| a.abs_diff(*b) <= far), "{format}");
                    // The corner far from the dot has the colour that all have.
                    let corner = |picture: &Picture| picture.pixels[23 * 4..23 * 4 + 3].to_vec();
                    assert!(corner(&read).iter().zip(corner(&picture)).all(|(a, b)| a.abs_diff(b) <= 2), "{format}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_move_is_no_clip() {
        let folder = tempfile::tempdir().unwrap();
        for format in [Format::Png, Format::Jpeg, Format::WebP] {
            let path = folder.path().join(format.name());
            fs::write(&path, encode(&pictures(1, 3)[0], None, format).unwrap()).unwrap();
            assert!(ClipReader::open(&path).unwrap().is_none(), "{format}");
        }
        fs::write(folder.path().join("a"), "a text").unwrap();
        assert!(ClipReader::open(&folder.path().join("a")).unwrap().is_none());
        assert!(ClipReader::open(&folder.path().join("missing")).unwrap().is_none());
    }

    #[test]
    fn a_clip_that_was_cut_or_spoilt_is_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut cases = 0;
        for format in [ClipFormat::Apng, ClipFormat::Gif, ClipFormat::WebP, ClipFormat::Y4m] {
            write(&path, format, "10", &pictures(3, 4));
            let whole = fs::read(&path).unwrap();
            for at in (0..whole.len()).step_by(3) {
                let mut spoilt = whole.clone();
                spoilt[at] ^= 0x55;
                for bytes in [&whole[..at], &spoilt] {
                    fs::write(&path, bytes).unwrap();
                    match ClipReader::open(&path) {
                        Ok(None) => {}
                        Ok(Some(reader)) => {
                            // An error ends it for whoever reads.
                            for frame in reader.take(10) {
                                match frame {
                                    Ok(frame) => frame.check().unwrap(),
                                    Err(error) => {
                                        assert!(is_refusal(&error), "{format} {at}: {error:#}");
                                        break;
                                    }
                                }
                            }
                        }
                        Err(error) => assert!(is_refusal(&error), "{format} {at}: {error:#}"),
                    }
                    cases += 1;
                }
            }
        }
        assert!(cases > 700, "{cases} files were read");
    }

    #[test]
    fn frames_of_different_sizes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, side) in [("1.png", 6), ("2.png", 6), ("3.png", 5)] {
            let picture = Picture::new(side, 4, 3, vec![9; side as usize * 12]).unwrap();
            fs::write(folder.path().join(name), encode(&picture, None, Format::Png).unwrap()).unwrap();
        }
        assert!(refusal_of(folder.path()).ends_with("frame 2 is 5x4, expected 6x4 as the first is"));
    }

    #[test]
    fn a_rate_is_whole_where_rounding_allows_it() {
        let rate = |frames, total_s, tick_s| rate_of(&Timing { frames, total_s, tick_s, is_uneven: false }).unwrap().to_string();
        assert_eq!(rate(10, 1.0, 0.01), "10");
        assert_eq!(rate(3, 0.25, 0.01), "12");
        assert_eq!(rate(2, 1.5, 0.01), "1333/1000");
        assert!(rate_of(&Timing { frames: 1, total_s: 655.35, tick_s: 0.01, is_uneven: false }).is_err());
    }

    #[test]
    fn compressed_video_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        fs::write(&path, b"\0\0\0\x18ftypiso6\0\0\0\0").unwrap();
        assert!(refusal_of(&path).contains("make y4m of it first"));
    }

    #[test]
    fn a_file_of_more_bytes_than_are_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.y4m");
        fs::write(&path, "YUV4MPEG2 W6 H4 F1:1\n").unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(LARGEST_CLIP_BYTES + 1).unwrap();
        assert!(refusal_of(&path).contains("is larger than 4 GiB; cut it first"));
    }
}
