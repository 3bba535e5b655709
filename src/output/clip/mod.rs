//! Writes pictures that follow each other as one file that moves.
//!
//! In: [`Picture`](super::Picture)s of one size, how fast they follow each other, what made them. Out: a file that plays without end.
//! One format is one file; [`ClipWriter`] has what they share.

mod apng;
#[cfg(feature = "av1")]
mod av1;
pub(super) mod colour;
mod frame_rate;
mod gif;
#[cfg(feature = "av1")]
mod mp4;
pub(super) mod numbered;
mod record_names;
#[cfg(feature = "av1")]
mod webm;
#[cfg(feature = "webp")]
mod webp;
mod writer;
mod y4m;

pub use frame_rate::FrameRate;
pub(super) use record_names::{MP4_RECORD, WEBP_RECORD, webm as webm_names};
pub use writer::{ClipHead, ClipWriter, record_beside};

use anyhow::Result;

use super::format::ClipFormat;
use crate::refuse;

/// The most frames of a clip: more than an hour at 24 a second.
pub const MOST_FRAMES: usize = 100_000;

impl ClipHead {
    /// Takes what every clip has; it does not bounce, and opacity that a format does not hold is laid on white.
    #[must_use]
    pub fn new(width: u32, height: u32, channels: usize, rate: FrameRate) -> Self {
        Self { width, height, channels, rate, bounce: false, background: [255; 3] }
    }

    /// How many frames are shown when `frames` are made.
    #[must_use]
    pub fn shown(&self, frames: usize) -> usize {
        if self.bounce && frames > 2 { frames.saturating_mul(2) - 2 } else { frames }
    }
}

/// Makes sure that a clip of `frames` frames can be written, before they are made.
///
/// # Errors
/// A [`Refusal`](crate::error::Refusal): there is no frame, or more than [`MOST_FRAMES`] are shown; the frames are larger or faster than
/// `format` can express.
pub fn check(frames: usize, head: ClipHead, format: ClipFormat) -> Result<()> {
    let shown = head.shown(frames);
    if !(1..=MOST_FRAMES).contains(&shown) {
        refuse!("clip: holds {shown} frames, expected 1 to {MOST_FRAMES}");
    }
    match format {
        ClipFormat::Apng | ClipFormat::Frames | ClipFormat::Y4m => Ok(()),
        ClipFormat::Gif => gif::check((head.width, head.height), head.rate),
        #[cfg(feature = "webp")]
        ClipFormat::WebP => webp::check((head.width, head.height)),
        #[cfg(feature = "av1")]
        ClipFormat::Mp4 | ClipFormat::WebM => av1::check((head.width, head.height)),
        #[cfg(not(all(feature = "av1", feature = "webp")))]
        _ => refuse!("{format} is left out of this build; the features `webp` and `av1` (mp4, webm) bring theirs"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;
    use std::sync::{Arc, Mutex};

    use ::gif::{ColorOutput, DecodeOptions, DisposalMethod, Repeat};

    use super::*;
    use crate::error::is_refusal;
    use crate::output::{Picture, Provenance};

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

    fn head_of(frame: &Picture, rate: &str) -> ClipHead {
        let Picture { width, height, channels, .. } = *frame;
        ClipHead::new(width, height, channels, rate.parse().unwrap())
    }

    /// The bytes of a clip's file.
    fn encode(frames: &[Picture], head: ClipHead, format: ClipFormat, made: Option<&Provenance>) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let mut writer = ClipWriter::create(&path, format, head).unwrap();
        frames.iter().for_each(|frame| writer.push(frame).unwrap());
        writer.finish(made).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::read(path).unwrap()
    }

    fn refusal_of<T: std::fmt::Debug>(result: Result<T>) -> String {
        let error = result.unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    /// The pictures of a GIF as a viewer shows them, and how long each is shown.
    fn play_gif(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<u16>, Repeat) {
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::RGBA);
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
            let frames = frames(count, channels);
            let bytes = encode(&frames, head_of(&frames[0], "30"), ClipFormat::Apng, None);
            let mut reader = png::Decoder::new(Cursor::new(&bytes)).read_info().unwrap();
            let control = reader.info().animation_control.unwrap();
            assert_eq!((control.num_frames as usize, control.num_plays), (count, 0));
            for frame in &frames {
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                reader.next_frame(&mut pixels).unwrap();
                let shown = reader.info().frame_control.unwrap();
                assert_eq!((shown.delay_num, shown.delay_den, shown.blend_op), (1, 30, png::BlendOp::Source));
                assert_eq!(pixels, frame.pixels);
            }
            assert_eq!(Picture::read(&bytes, "x").unwrap(), frames[0], "a still reader sees the first frame");
        }
    }

    #[test]
    fn a_clip_says_what_made_it() {
        let json = r#"{"schema": 1, "kiln": "1", "bundle": {"name": "x"}, "family": "gan", "seed": 1, "rng": "cpu", "sampler": "none",
            "steps": 1, "guidance": 1, "width": 5, "height": 4, "prompt": "猫"}"#;
        let made: Provenance = serde_json::from_str(json).unwrap();
        let frames = frames(3, 4);
        let head = head_of(&frames[0], "12");
        for format in [ClipFormat::Apng, ClipFormat::Gif, ClipFormat::WebP] {
            let bytes = encode(&frames, head, format, Some(&made));
            let read = crate::output::read_bytes(&bytes, "x").unwrap();
            assert_eq!(read, (Some(made.parameters()), Some(made.clone())), "{format}");
        }
        let bytes = encode(&frames, head, ClipFormat::Gif, Some(&made));
        assert_eq!(play_gif(&bytes), play_gif(&encode(&frames, head, ClipFormat::Gif, None)));
    }

    #[test]
    fn a_gif_of_few_colours_gives_back_every_pixel() {
        for channels in [3, 4] {
            let frames = frames(7, channels);
            let (shown, delays, repeat) = play_gif(&encode(&frames, head_of(&frames[0], "10"), ClipFormat::Gif, None));
            assert_eq!((shown.len(), delays, repeat), (7, vec![10; 7], Repeat::Infinite));
            for (frame, shown) in frames.iter().zip(shown) {
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
        let frames: Vec<Picture> = (0..60).map(|value| Picture::new(5, 4, 3, vec![value; 60]).unwrap()).collect();
        for rate in 1..=50 {
            let (_, delays, _) = play_gif(&encode(&frames, head_of(&frames[0], &rate.to_string()), ClipFormat::Gif, None));
            let total: f64 = delays.iter().copied().map(f64::from).sum();
            assert!((total - 6000.0 / f64::from(rate)).abs() <= 0.5, "{rate}: {delays:?}");
            assert!(delays.iter().all(|delay| *delay >= 2), "{rate}: {delays:?}");
        }
        let (_, delays, _) = play_gif(&encode(&frames[..3], head_of(&frames[0], "30"), ClipFormat::Gif, None));
        assert_eq!(delays, [3, 4, 3]);
    }

    #[test]
    fn the_way_back_shows_neither_end_again() {
        let frames = frames(5, 4);
        let there = encode(&frames, head_of(&frames[0], "10"), ClipFormat::Gif, None);
        let head = ClipHead { bounce: true, ..head_of(&frames[0], "10") };
        let both = play_gif(&encode(&frames, head, ClipFormat::Gif, None)).0;
        let there = play_gif(&there).0;
        assert_eq!(both, [0, 1, 2, 3, 4, 3, 2, 1].map(|frame| there[frame].clone()));
        assert_eq!([1, 2, 3, 5].map(|frames| head.shown(frames)), [1, 2, 4, 8]);
        for few in 1..3 {
            assert_eq!(play_gif(&encode(&frames[..few], head, ClipFormat::Gif, None)).0, there[..few]);
        }
    }

    #[test]
    fn refuses_what_cannot_be_a_clip() {
        let head = head_of(&frames(1, 3)[0], "100");
        assert_eq!(refusal_of(check(0, head, ClipFormat::Apng)), "clip: holds 0 frames, expected 1 to 100000");
        assert_eq!(refusal_of(check(100_001, head, ClipFormat::Apng)), "clip: holds 100001 frames, expected 1 to 100000");
        let back = ClipHead { bounce: true, ..head };
        assert_eq!(refusal_of(check(50_002, back, ClipFormat::Apng)), "clip: holds 100002 frames, expected 1 to 100000");
        assert!(refusal_of(check(usize::MAX, back, ClipFormat::Apng)).contains("expected 1 to 100000"));
        check(100_000, head, ClipFormat::Apng).unwrap();
        assert!(refusal_of(check(1, head, ClipFormat::Gif)).contains("gif expects at most 50"));
        let wide = ClipHead { width: 65_536, ..head_of(&frames(1, 3)[0], "10") };
        assert!(refusal_of(check(1, wide, ClipFormat::Gif)).contains("gif takes sides up to 65535; use png"));
    }

    #[test]
    fn refuses_frames_that_differ_and_clips_without_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        fs::write(&path, "mine").unwrap();
        let first = frames(1, 3).remove(0);
        let begin = || ClipWriter::create(&path, ClipFormat::Apng, head_of(&first, "10")).unwrap();
        for other in [Picture::new(4, 5, 3, vec![0; 60]).unwrap(), frames(1, 4).remove(0)] {
            let mut writer = begin();
            writer.push(&first).unwrap();
            let (width, height, channels) = (other.width, other.height, other.channels);
            assert_eq!(
                format!("{:#}", writer.push(&other).unwrap_err()),
                format!("clip: frame 1 is {width}x{height} with {channels} channels, expected 5x4 with 3 as the clip has")
            );
        }
        let broken = Picture { pixels: Vec::new(), ..first.clone() };
        assert!(format!("{:#}", begin().push(&broken).unwrap_err()).contains("clip: frame 0"));
        assert!(begin().finish(None).unwrap_err().to_string().contains("holds 0 frames"));
        assert_eq!(fs::read(&path).unwrap(), b"mine", "what was there stays");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let missing = ClipWriter::create(&folder.path().join("missing/a.gif"), ClipFormat::Gif, head_of(&first, "10"));
        assert!(refusal_of(missing.map(drop)).contains("make it first"));
    }

    /// A stream that a test looks at.
    #[derive(Clone, Default)]
    struct Stream(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Stream {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_gets_the_bytes_of_the_file() {
        let frames = frames(4, 4);
        for format in [ClipFormat::Apng, ClipFormat::Gif, ClipFormat::WebP, ClipFormat::Y4m] {
            for bounce in [false, true] {
                let head = ClipHead { bounce, ..head_of(&frames[0], "10") };
                let stream = Stream::default();
                let mut writer = ClipWriter::stream(Box::new(stream.clone()), format, head).unwrap();
                frames.iter().for_each(|frame| writer.push(frame).unwrap());
                assert_eq!(writer.frames(), 4);
                let sent = stream.0.lock().unwrap().len();
                assert_eq!(sent > 0, format.is_written_in_order(), "{format}");
                writer.finish(None).unwrap();
                assert_eq!(*stream.0.lock().unwrap(), encode(&frames, head, format, None), "{format}");
            }
        }
    }
}
