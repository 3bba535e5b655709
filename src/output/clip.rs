//! Writes pictures that follow each other as one file that moves.
//!
//! In: [`Picture`]s of one size, how fast they follow each other, what made them. Out: an animated PNG (Portable Network Graphics,
//! third edition, section 11.3.6) or a GIF (89a), both playing without end, written as pictures are (`file.rs`).

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use gif::{DisposalMethod, Frame, Repeat};
use png::{BitDepth, ColorType};

use super::file::{Target, Written, put, texts};
use super::format::ClipFormat;
use super::picture::Picture;
use super::provenance::Provenance;
use super::{comment_block, palette, text_chunk};
use crate::refuse;

/// Pictures that may follow each other in a second.
pub const FRAMES_PER_SECOND: RangeInclusive<u32> = 1..=100;
/// The most pictures of a clip.
pub const MOST_FRAMES: usize = 1000;
/// The most memory that the pixels of a clip take.
pub const LARGEST_CLIP_BYTES: u64 = 1 << 30;
/// Browsers show a frame of less than 20 ms for 100 ms.
const MOST_GIF_FRAMES_PER_SECOND: u32 = 50;
/// GIF counts time in hundredths of a second.
const GIF_TICKS_PER_SECOND: u32 = 100;

/// Pictures that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    frames: Vec<Picture>,
    frames_per_second: u32,
}

impl Clip {
    /// Takes pictures of one size and number of channels.
    ///
    /// # Errors
    /// Two pictures differ in size or channels; there is none, there are more than [`MOST_FRAMES`], their pixels take more than
    /// [`LARGEST_CLIP_BYTES`], or `frames_per_second` is not in [`FRAMES_PER_SECOND`] (a [`Refusal`](crate::error::Refusal) each).
    pub fn new(frames: Vec<Picture>, frames_per_second: u32) -> Result<Self> {
        let (width, height) = frames.first().map_or((1, 1), |first| (first.width, first.height));
        Self::check(frames.len(), (width, height), frames_per_second, ClipFormat::default())?;
        let shape = |picture: &Picture| (picture.width, picture.height, picture.channels);
        for (number, frame) in frames.iter().enumerate() {
            frame.check().with_context(|| format!("clip: frame {number}"))?;
            let (first, this) = (frames.first().map(shape), shape(frame));
            ensure!(
                first == Some(this),
                "clip: frame {number} is {}x{} with {} channels, expected {width}x{height} with {} as the first is",
                this.0,
                this.1,
                this.2,
                first.unwrap_or(this).2
            );
        }
        Ok(Self { frames, frames_per_second })
    }

    /// Makes sure that a clip of `frame_count` pictures of `size` (width, height) can be written, before they are made.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): there is no picture, there are more than [`MOST_FRAMES`], their pixels take more than
    /// [`LARGEST_CLIP_BYTES`]; `frames_per_second` is not in [`FRAMES_PER_SECOND`], or is more than `format` can say.
    pub fn check(frame_count: usize, size: (u32, u32), frames_per_second: u32, format: ClipFormat) -> Result<()> {
        if !(1..=MOST_FRAMES).contains(&frame_count) {
            refuse!("clip: holds {frame_count} frames, expected 1 to {MOST_FRAMES}");
        }
        let (slowest, fastest) = FRAMES_PER_SECOND.into_inner();
        if !FRAMES_PER_SECOND.contains(&frames_per_second) {
            refuse!("clip: plays {frames_per_second} frames per second, expected {slowest} to {fastest}");
        }
        if format == ClipFormat::Gif && frames_per_second > MOST_GIF_FRAMES_PER_SECOND {
            refuse!(
                "clip: plays {frames_per_second} frames per second, gif expects at most {MOST_GIF_FRAMES_PER_SECOND}: browsers \
                 slow a faster one down; use png"
            );
        }
        let (width, height) = size;
        let area = u64::from(width) * u64::from(height);
        if area.saturating_mul(4).saturating_mul(frame_count as u64) > LARGEST_CLIP_BYTES {
            refuse!(
                "clip: {frame_count} frames of {width}x{height} take more than {} MiB of memory; take fewer or smaller ones",
                LARGEST_CLIP_BYTES >> 20
            );
        }
        Ok(())
    }

    /// Gives the pictures in their order.
    #[must_use]
    pub fn frames(&self) -> &[Picture] {
        &self.frames
    }

    /// Gives how many follow each other in a second.
    #[must_use]
    pub fn frames_per_second(&self) -> u32 {
        self.frames_per_second
    }
}

/// Writes `clip` to `target`; an existing file is replaced.
///
/// # Errors
/// As [`encode_clip`] and [`save`](super::save).
pub fn write_clip(clip: &Clip, provenance: Option<&Provenance>, target: &Target<ClipFormat>) -> Result<Written> {
    put(encode_clip(clip, provenance, target.format())?, target)
}

/// Makes the bytes of a clip's file, with `provenance` in it.
///
/// # Errors
/// A [`Refusal`](crate::error::Refusal): the pictures are larger or faster than `format` can express.
pub fn encode_clip(clip: &Clip, provenance: Option<&Provenance>, format: ClipFormat) -> Result<Vec<u8>> {
    let Some(first) = clip.frames.first() else { refuse!("clip: holds 0 frames, expected 1 to {MOST_FRAMES}") };
    Clip::check(clip.frames.len(), (first.width, first.height), clip.frames_per_second, format)?;
    match format {
        ClipFormat::Apng => encode_apng(clip, first, &texts(provenance)?),
        ClipFormat::Gif => encode_gif(clip, first, provenance),
    }
}

fn encode_apng(clip: &Clip, first: &Picture, texts: &[(&str, String)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, first.width, first.height);
    encoder.set_color(if first.channels == 4 { ColorType::Rgba } else { ColorType::Rgb });
    encoder.set_depth(BitDepth::Eight);
    // At most `MOST_FRAMES`; playing 0 times is playing without end.
    encoder.set_animated(clip.frames.len() as u32, 0).context("apng")?;
    encoder.set_frame_delay(1, u16::try_from(clip.frames_per_second)?).context("apng")?;
    text_chunk::add(&mut encoder, texts)?;
    let mut writer = encoder.write_header().context("apng header")?;
    for frame in &clip.frames {
        writer.write_image_data(&frame.pixels).context("apng frame")?;
    }
    writer.finish().context("apng end")?;
    Ok(bytes)
}

fn encode_gif(clip: &Clip, first: &Picture, provenance: Option<&Provenance>) -> Result<Vec<u8>> {
    let (Ok(width), Ok(height)) = (u16::try_from(first.width), u16::try_from(first.height)) else {
        refuse!("clip: is {}x{}, gif takes sides up to {}; use png", first.width, first.height, u16::MAX);
    };
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &[]).context("gif header")?;
    encoder.set_repeat(Repeat::Infinite).context("gif header")?;
    if let Some(provenance) = provenance {
        comment_block::add(&mut encoder, &provenance.to_json()?)?;
    }
    // What is not drawn would show the frame before.
    let dispose = if first.channels == 4 { DisposalMethod::Background } else { DisposalMethod::Keep };
    for (number, frame) in clip.frames.iter().enumerate() {
        let indexed = palette::index(frame);
        let frame = Frame {
            delay: gif_delay(number, clip.frames_per_second)?,
            dispose,
            transparent: indexed.transparent,
            width,
            height,
            palette: Some(indexed.palette),
            buffer: indexed.indices.into(),
            ..Frame::default()
        };
        encoder.write_frame(&frame).context("gif frame")?;
    }
    drop(encoder);
    Ok(bytes)
}

/// How long a frame is shown, in hundredths of a second, so that the sum stays within half of one of the clip's true time.
fn gif_delay(number: usize, frames_per_second: u32) -> Result<u16> {
    let rate = u64::from(frames_per_second);
    let begins = |number: usize| (number as u64 * u64::from(GIF_TICKS_PER_SECOND) * 2 + rate) / (rate * 2);
    Ok(u16::try_from(begins(number + 1) - begins(number))?)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use super::*;
    use crate::error::is_refusal;

    /// `count` pictures of 5 × 4 with a hole that wanders, where there are 4 channels.
    fn frames(count: usize, channels: usize) -> Vec<Picture> {
        (0..count)
            .map(|number| {
                let value = |index: usize| match index % channels {
                    3 if index / channels == number => 0,
                    3 => 255,
                    _ => (index * 37 + number * 11) % 256,
                };
                Picture::new(5, 4, channels, (0..5 * 4 * channels).map(|index| value(index) as u8).collect()).unwrap()
            })
            .collect()
    }

    fn clip(count: usize, channels: usize, frames_per_second: u32) -> Clip {
        Clip::new(frames(count, channels), frames_per_second).unwrap()
    }

    fn refusal_of<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    /// The pictures of a GIF as a viewer shows them, and how long each is shown.
    fn play_gif(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u16>, Repeat) {
        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(Cursor::new(bytes)).unwrap();
        let (mut shown, mut delays) = (Vec::new(), Vec::new());
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            assert_eq!((frame.left, frame.top, frame.width, frame.height), (0, 0, 5, 4));
            assert!(frame.transparent.is_none() || frame.dispose == DisposalMethod::Background);
            shown.push(frame.buffer.to_vec());
            delays.push(frame.delay);
        }
        (shown, delays, decoder.repeat())
    }

    #[test]
    fn an_animated_png_gives_back_every_pixel() {
        for (channels, count) in [(3, 1), (3, 7), (4, 7)] {
            let clip = clip(count, channels, 30);
            let bytes = encode_clip(&clip, None, ClipFormat::Apng).unwrap();
            let mut reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
            let control = reader.info().animation_control.unwrap();
            assert_eq!((control.num_frames as usize, control.num_plays), (count, 0));
            for frame in clip.frames() {
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                reader.next_frame(&mut pixels).unwrap();
                let shown = reader.info().frame_control.unwrap();
                assert_eq!((shown.delay_num, shown.delay_den, shown.blend_op), (1, 30, png::BlendOp::Source));
                assert_eq!(pixels, frame.pixels);
            }
            assert_eq!(Picture::read(&bytes, "x").unwrap(), clip.frames()[0], "a still reader sees the first frame");
        }
    }

    #[test]
    fn a_clip_says_what_made_it() {
        let json = r#"{"schema": 1, "kiln": "1", "bundle": {"name": "x"}, "family": "gan", "seed": 1, "rng": "cpu", "sampler": "none",
            "steps": 1, "guidance": 1, "width": 5, "height": 4, "prompt": "猫"}"#;
        let made: Provenance = serde_json::from_str(json).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "a.gif"] {
            let path = folder.path().join(name);
            write_clip(&clip(3, 4, 12), Some(&made), &Target::of_clip(&path, None).unwrap()).unwrap();
            assert_eq!(crate::output::read(&path).unwrap(), (Some(made.parameters()), Some(made.clone())), "{name}");
        }
        let bytes = encode_clip(&clip(3, 4, 12), Some(&made), ClipFormat::Gif).unwrap();
        assert_eq!(play_gif(&bytes), play_gif(&encode_clip(&clip(3, 4, 12), None, ClipFormat::Gif).unwrap()));
    }

    #[test]
    fn a_gif_of_few_colours_gives_back_every_pixel() {
        for channels in [3, 4] {
            let clip = clip(7, channels, 10);
            let (shown, delays, repeat) = play_gif(&encode_clip(&clip, None, ClipFormat::Gif).unwrap());
            assert_eq!((shown.len(), delays, repeat), (7, vec![10; 7], Repeat::Infinite));
            for (frame, shown) in clip.frames().iter().zip(shown) {
                let mut expected = frame.with_opacity().pixels;
                for pixel in expected.chunks_exact_mut(4).filter(|pixel| pixel[3] == 0) {
                    pixel.fill(0);
                }
                assert_eq!(shown, expected);
            }
        }
    }

    #[test]
    fn a_gif_keeps_the_time_of_the_whole_clip() {
        for frames_per_second in 1..=MOST_GIF_FRAMES_PER_SECOND {
            let delays: Vec<u16> = (0..60).map(|number| gif_delay(number, frames_per_second).unwrap()).collect();
            let total: f64 = delays.iter().copied().map(f64::from).sum();
            assert!((total - 6000.0 / f64::from(frames_per_second)).abs() <= 0.5, "{frames_per_second}: {delays:?}");
            assert!(delays.iter().all(|delay| *delay >= 2), "{frames_per_second}: {delays:?}");
        }
        assert_eq!((0..3).map(|number| gif_delay(number, 30).unwrap()).collect::<Vec<_>>(), [3, 4, 3]);
    }

    #[test]
    fn refuses_what_is_no_clip() {
        assert_eq!(refusal_of(Clip::new(Vec::new(), 10)), "clip: holds 0 frames, expected 1 to 1000");
        assert_eq!(refusal_of(Clip::new(frames(1001, 3), 10)), "clip: holds 1001 frames, expected 1 to 1000");
        for rate in [0, 101, u32::MAX] {
            let said = refusal_of(Clip::new(frames(2, 3), rate));
            assert_eq!(said, format!("clip: plays {rate} frames per second, expected 1 to 100"));
        }
        let fast = clip(2, 3, 100);
        assert!(refusal_of(encode_clip(&fast, None, ClipFormat::Gif)).contains("gif expects at most 50"));
        assert!(encode_clip(&fast, None, ClipFormat::Apng).is_ok());
        let said = refusal_of(Clip::check(1000, (1024, 1024), 10, ClipFormat::Gif));
        assert_eq!(said, "clip: 1000 frames of 1024x1024 take more than 1024 MiB of memory; take fewer or smaller ones");
        Clip::check(1000, (512, 512), 100, ClipFormat::Apng).unwrap();
        refusal_of(Clip::check(1000, (u32::MAX, u32::MAX), 10, ClipFormat::Apng));
    }

    #[test]
    fn refuses_frames_that_differ() {
        for other in [Picture::new(4, 5, 3, vec![0; 60]).unwrap(), frames(1, 4).remove(0)] {
            let mut frames = frames(2, 3);
            frames.push(other.clone());
            let said = format!("{:#}", Clip::new(frames, 10).unwrap_err());
            let (width, height, channels) = (other.width, other.height, other.channels);
            assert_eq!(
                said,
                format!("clip: frame 2 is {width}x{height} with {channels} channels, expected 5x4 with 3 as the first is")
            );
        }
        let broken = Picture { pixels: Vec::new(), ..frames(1, 3).remove(0) };
        assert!(format!("{:#}", Clip::new(vec![broken], 10).unwrap_err()).contains("clip: frame 0"));
    }

    #[test]
    fn a_side_that_gif_cannot_express_is_refused() {
        let wide = Clip::new(vec![Picture::new(65_536, 1, 3, vec![0; 3 * 65_536]).unwrap()], 10).unwrap();
        assert!(refusal_of(encode_clip(&wide, None, ClipFormat::Gif)).contains("gif takes sides up to 65535; use png"));
    }

    #[test]
    fn a_clip_goes_where_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let clip = clip(3, 4, 12);
        let starts: [(&str, &[u8]); 3] = [("a.gif", b"GIF89a"), ("b.png", b"\x89PNG"), ("c.apng", b"\x89PNG")];
        for (name, start) in starts {
            let path = folder.path().join(name);
            let target = Target::of_clip(&path, None).unwrap();
            target.check().unwrap();
            assert_eq!(write_clip(&clip, None, &target).unwrap(), Written::File(path.clone()));
            assert!(std::fs::read(path).unwrap().starts_with(start), "{name}");
        }
        let target = Target::of_clip(Path::new("-"), Some(ClipFormat::Gif)).unwrap();
        let Written::Bytes(bytes) = write_clip(&clip, None, &target).unwrap() else { panic!("a file was written") };
        assert_eq!(play_gif(&bytes).0.len(), 3);
        assert_eq!(Target::of_clip(Path::new("-"), None).unwrap(), Target::Stdout(ClipFormat::Apng));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_clip_that_cannot_be_written_costs_nothing_that_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        std::fs::write(&path, "mine").unwrap();
        let fast = clip(2, 3, 60);
        let target = Target::of_clip(&path, None).unwrap();
        refusal_of(write_clip(&fast, None, &target));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        let nowhere = Target::of_clip(&folder.path().join("missing/a.gif"), None).unwrap();
        assert!(refusal_of(write_clip(&clip(2, 3, 10), None, &nowhere)).contains("make it first"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
