//! YUV4MPEG2: a line that says what the video is, then each frame's line and its planes.
//!
//! Of 8 bits, 4:2:0 in its three kinds, 4:2:2, 4:4:4 and grey; the matrix is BT.601, since no file says it. Chroma between its samples is
//! interpolated from where its kind has them.

use std::io::{BufRead, Read};

use anyhow::Result;

use super::check_sides;
use crate::output::clip::FrameRate;
use crate::output::clip::colour::BT601;
use crate::output::picture::Picture;
use crate::{refusal, refuse};

/// The longest line that is read.
const LONGEST_LINE_BYTES: u64 = 1024;
const START: &str = "YUV4MPEG2";
const FRAME: &str = "FRAME";

/// How chroma lies beneath luma.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Chroma {
    /// Columns and rows of luma to one of chroma; `None` of grey.
    divisors: Option<(usize, usize)>,
    /// How far right of a pixel's middle its first sample is, in pixels.
    right: f32,
}

pub(super) struct Y4m<R> {
    reader: R,
    name: String,
    width: usize,
    height: usize,
    rate: Option<FrameRate>,
    chroma: Chroma,
    is_full_range: bool,
    head_bytes: u64,
    number: usize,
    is_broken: bool,
}

impl<R: BufRead> Y4m<R> {
    /// Reads the first line.
    pub(super) fn open(mut reader: R, name: &str) -> Result<Self> {
        let line = line(&mut reader, name)?.unwrap_or_default();
        let mut words = line.split(' ');
        if words.next() != Some(START) {
            refuse!("clip {name} is no raw video, expected a line that begins with {START}");
        }
        let (mut width, mut height, mut rate, mut is_full_range) = (0, 0, None, false);
        let mut chroma = Chroma::named("420jpeg", name)?;
        for word in words.filter(|word| !word.is_empty()) {
            let (kind, value) = word.split_at_checked(1).unwrap_or_default();
            let side = || value.parse().map_err(|_| refusal!("clip {name}: `{word}` is no side of a frame"));
            match kind {
                "W" => width = side()?,
                "H" => height = side()?,
                "F" => rate = rate_of(value).map_err(|error| refusal!("clip {name}: {error:#}"))?,
                "C" => chroma = Chroma::named(value, name)?,
                "I" if !matches!(value, "p" | "?") => refuse!("clip {name} is interlaced, expected whole frames"),
                "X" if value == "COLORRANGE=FULL" => is_full_range = true,
                // The shape of a pixel, and what other programs note.
                _ => {}
            }
        }
        check_sides(name, width, height)?;
        let (width, height, head_bytes) = (width as usize, height as usize, line.len() as u64 + 1);
        let name = name.to_owned();
        Ok(Self { reader, name, width, height, rate, chroma, is_full_range, head_bytes, number: 0, is_broken: false })
    }

    pub(super) fn rate(&self) -> Option<FrameRate> {
        self.rate
    }

    /// How many frames a file of `bytes` has, where their lines say nothing more.
    pub(super) fn frames_in(&self, bytes: u64) -> usize {
        let frame = FRAME.len() as u64 + 1 + (self.plane_bytes().iter().sum::<usize>() as u64);
        usize::try_from(bytes.saturating_sub(self.head_bytes) / frame).unwrap_or(usize::MAX)
    }

    fn plane_bytes(&self) -> [usize; 3] {
        let luma = self.width * self.height;
        let chroma = self.chroma.divisors.map_or(0, |(columns, rows)| self.width.div_ceil(columns) * self.height.div_ceil(rows));
        [luma, chroma, chroma]
    }

    fn frame(&mut self) -> Result<Option<Picture>> {
        let Some(line) = line(&mut self.reader, &self.name)? else { return Ok(None) };
        let (name, number) = (&self.name, self.number);
        if line.split(' ').next() != Some(FRAME) {
            refuse!("clip {name}: what stands before frame {number} is no line that begins with {FRAME}");
        }
        let mut planes = [const { Vec::new() }; 3];
        for (plane, length) in planes.iter_mut().zip(self.plane_bytes()) {
            let read = self.reader.by_ref().take(length as u64).read_to_end(plane);
            if !matches!(read, Ok(count) if count == length) {
                refuse!("clip {name} ends in the middle of frame {number}");
            }
        }
        self.number += 1;
        self.picture(&planes).map(Some)
    }

    fn picture(&self, [luma, blue, red]: &[Vec<u8>; 3]) -> Result<Picture> {
        let (width, height) = (self.width, self.height);
        let (from, luma_range, chroma_range) = if self.is_full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        let mut pixels = Vec::with_capacity(luma.len() * 3);
        for row in 0..height {
            for column in 0..width {
                let light = (f32::from(luma.get(row * width + column).copied().unwrap_or_default()) - from) / luma_range;
                let chroma = [blue, red].map(|plane| match self.chroma.divisors {
                    None => 0.0,
                    Some(divisors) => (self.sample(plane, column, row, divisors) - 128.0) / chroma_range,
                });
                pixels.extend(BT601.to_rgb(light, chroma));
            }
        }
        Picture::new(u32::try_from(width)?, u32::try_from(height)?, 3, pixels)
    }

    /// The chroma at a pixel, between the four samples around it.
    fn sample(&self, plane: &[u8], column: usize, row: usize, (columns, rows): (usize, usize)) -> f32 {
        let (plane_width, plane_height) = (self.width.div_ceil(columns), self.height.div_ceil(rows));
        #[expect(clippy::cast_precision_loss, reason = "sides are far below 2²³")]
        let between = |pixel: usize, divisor: usize, first: f32, count: usize| {
            let place = ((pixel as f32 - first) / divisor as f32).clamp(0.0, (count - 1) as f32);
            (place as usize, (place as usize + 1).min(count - 1), place.fract())
        };
        // Rows of chroma stand between those of luma.
        let down = if rows == 2 { 0.5 } else { 0.0 };
        let (left, right, share) = between(column, columns, self.chroma.right, plane_width);
        let (above, below, share_below) = between(row, rows, down, plane_height);
        let at = |row: usize, column: usize| f32::from(plane.get(row * plane_width + column).copied().unwrap_or(128));
        let mix = |a: f32, b: f32, share: f32| a + (b - a) * share;
        mix(mix(at(above, left), at(above, right), share), mix(at(below, left), at(below, right), share), share_below)
    }
}

impl<R: BufRead> Iterator for Y4m<R> {
    type Item = Result<Picture>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_broken {
            return None;
        }
        let frame = self.frame();
        self.is_broken = frame.is_err();
        frame.transpose()
    }
}

impl Chroma {
    fn named(kind: &str, name: &str) -> Result<Self> {
        let (divisors, right) = match kind {
            "420" | "420jpeg" => (Some((2, 2)), 0.5),
            "420mpeg2" | "420paldv" => (Some((2, 2)), 0.0),
            "422" => (Some((2, 1)), 0.0),
            "444" => (Some((1, 1)), 0.0),
            "mono" => (None, 0.0),
            _ => refuse!("clip {name}: its colours are of the kind {kind}, expected 420, 422, 444 or mono of 8 bits"),
        };
        Ok(Self { divisors, right })
    }
}

fn rate_of(value: &str) -> Result<Option<FrameRate>> {
    let parts = value.split_once(':').and_then(|(frames, seconds)| Some((frames.parse().ok()?, seconds.parse().ok()?)));
    match parts {
        // Not known.
        Some((0, 0)) => Ok(None),
        Some((frames, seconds)) => FrameRate::new(frames, seconds).map(Some),
        None => refuse!("its rate is `{value}`, expected one as 24:1"),
    }
}

/// The next line without its end; `None` where there is nothing more.
fn line(reader: &mut impl BufRead, name: &str) -> Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = reader.take(LONGEST_LINE_BYTES).read_until(b'\n', &mut bytes);
    read.map_err(|error| refusal!("clip {name} is not readable: {error}"))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match bytes.strip_suffix(b"\n").map(|line| String::from_utf8(line.to_vec())) {
        Some(Ok(line)) => Ok(Some(line)),
        _ => refuse!("clip {name} is broken: a line of it does not end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    fn read(bytes: &[u8]) -> Result<Vec<Picture>> {
        Y4m::open(bytes, "x")?.collect()
    }

    fn file(head: &str, planes: &[u8]) -> Vec<u8> {
        [format!("YUV4MPEG2 {head}\nFRAME\n").as_bytes(), planes].concat()
    }

    #[test]
    fn colours_are_read_as_the_file_lays_them_out() {
        // Red by BT.601, and by the full range of JPEG.
        for (head, planes) in [
            ("W2 H2 F24:1 C420mpeg2", vec![81, 81, 81, 81, 90, 240]),
            ("W2 H2 F24:1", vec![81, 81, 81, 81, 90, 240]),
            ("W2 H2 C420jpeg XCOLORRANGE=FULL", vec![76, 76, 76, 76, 85, 255]),
            ("W2 H2 C422 Ip A1:1", vec![81, 81, 81, 81, 90, 90, 240, 240]),
            ("W1 H1 C444 I?", vec![81, 90, 240]),
        ] {
            let pictures = read(&file(head, &planes)).unwrap();
            let pixel = &pictures[0].pixels[..3];
            assert!(pixel.iter().zip([255, 0, 0]).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 2), "{head}: {pixel:?}");
        }
        assert_eq!(read(&file("W2 H1 Cmono", &[16, 235])).unwrap()[0].pixels, [0, 0, 0, 255, 255, 255]);
        // Odd sides: chroma has a column and a row more than half.
        assert_eq!(read(&file("W3 H3", &[[235; 9].as_slice(), &[128; 8]].concat())).unwrap()[0].pixels, [255; 27]);
    }

    #[test]
    fn chroma_is_interpolated_from_where_its_samples_stand() {
        let row = |kind: &str| {
            let planes = [[128_u8; 8].as_slice(), &[100, 160], &[128, 128]].concat();
            let picture = read(&file(&format!("W4 H2 C{kind}"), &planes)).unwrap().remove(0);
            (0..4).map(|column| picture.pixels[column * 3 + 2]).collect::<Vec<u8>>()
        };
        let (left, middle) = (row("420mpeg2"), row("420jpeg"));
        assert!(left[0] < left[1] && left[1] < left[2] && left[2] == left[3], "{left:?}");
        assert!(middle[0] < middle[1] && middle[1] < middle[2] && middle[2] < middle[3], "{middle:?}");
    }

    #[test]
    fn refuses_what_is_no_video_of_this_kind() {
        let cases: [(&[u8], &str); 14] = [
            (b"", "is no raw video"),
            (b"YUV4MPEG3 W2 H2\n", "is no raw video"),
            (b"YUV4MPEG2 W2 H2", "a line of it does not end"),
            (b"YUV4MPEG2 W2\n", "is 2x0, expected sides of 1 to 8192"),
            (b"YUV4MPEG2 W100000 H100000\n", "is 100000x100000, expected sides"),
            (b"YUV4MPEG2 W-1 H2\n", "`W-1` is no side"),
            (b"YUV4MPEG2 W2 H2 F0:1\n", "plays 0 frames per second"),
            (b"YUV4MPEG2 W2 H2 Fx\n", "its rate is `x`, expected one as 24:1"),
            (b"YUV4MPEG2 W2 H2 It\n", "is interlaced"),
            (b"YUV4MPEG2 W2 H2 C420p10\n", "of the kind 420p10, expected 420, 422, 444 or mono of 8 bits"),
            (b"YUV4MPEG2 W2 H2\nFRAMES\n", "no line that begins with FRAME"),
            (b"YUV4MPEG2 W2 H2\nFRAME\n12345", "ends in the middle of frame 0"),
            (b"YUV4MPEG2 W1 H1\nFRAME\n123FRAME\n12", "ends in the middle of frame 1"),
            (b"YUV4MPEG2 W1 \xFF\n", "a line of it does not end"),
        ];
        for (bytes, part) in cases {
            let error = read(bytes).unwrap_err();
            assert!(is_refusal(&error) && format!("{error:#}").contains(part), "{part}: {error:#}");
        }
        assert!(read(&[b"YUV4MPEG2 ".as_slice(), &[b'X'; 2000]].concat()).is_err());
    }
}
