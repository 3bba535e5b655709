//! `--interpolate`: the pictures on the way from one seed to another, as a clip.

use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::film::Film;
use super::frames::Frames;
use super::target::Goal;
use crate::bundle::Bundle;
use crate::engine::{Engine, Generated};
use crate::output::{
    ClipFormat, ClipHead, ClipReader, ClipRecord, ClipWriter, FrameRate, Picture, Provenance, Target, Written, check_clip,
};
use crate::refuse;
use crate::request::{Request, Walk, size_of};

/// Pictures on a walk, where nobody says how many.
const DEFAULT_FRAMES: usize = 16;
/// How many are shown in a second, where nobody says it.
const DEFAULT_FRAMES_PER_SECOND: u32 = 12;
/// How many of a clip's frames are shown in a second, where neither it nor anybody says it.
const USUAL_FRAMES_PER_SECOND: u32 = 24;
/// The most memory that the pictures of a walk take: all are made before the first is written.
const LARGEST_WALK_BYTES: u64 = 1 << 30;
/// The most memory that the frames of a clip to begin with take: a model of clips makes all out of all of them.
const LARGEST_CLIP_IN_MEMORY_BYTES: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(super) struct ClipArguments {
    /// Walk from one seed's noise to another's, as 7:42, and write the pictures on the way as a clip: .png (animated) or .gif;
    /// of a model that knows classes, without one named, all have the first seed's class, which is then said
    #[arg(long, value_name = "SEED:SEED", help_heading = "Clip", allow_hyphen_values = true)]
    interpolate: Option<Ends>,

    /// How many frames a clip has: on the way between two seeds, both ends among them [default: 16]; of a model that makes clips
    /// [default: its own]; of the clip that --input names, from its first [default: all]
    #[arg(long, value_name = "N", help_heading = "Clip", allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    pub(super) frames: Option<usize>,

    /// How long the clip is shown, in seconds, in place of --frames; the way back of --bounce comes on top
    #[arg(long, value_name = "S", help_heading = "Clip", conflicts_with = "frames", allow_negative_numbers = true)]
    seconds: Option<f64>,

    /// How many pictures are shown in a second, up to 100: 24, 12.5 or 30000/1001 [default: the model's own; of --interpolate 12; of
    /// a clip as --input, as it has them, else 24]
    #[arg(long, value_name = "N", help_heading = "Clip", allow_negative_numbers = true)]
    fps: Option<FrameRate>,

    /// Show them backwards after the last, so that the clip has no jump
    #[arg(long, help_heading = "Clip")]
    bounce: bool,

    /// What opacity is laid on where the format holds none (mp4, webm, y4m): white, black or #rrggbb [default: white]
    #[arg(long, value_name = "COLOUR", help_heading = "Clip")]
    background: Option<Colour>,
}

/// Red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Colour([u8; 3]);

impl FromStr for Colour {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = match text {
            "white" => "ffffff",
            "black" => "000000",
            _ => text.strip_prefix('#').unwrap_or(text),
        };
        // A sign would pass for a digit.
        let is_colour = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        match u32::from_str_radix(digits, 16) {
            Ok(number) if is_colour => {
                let [_, red, green, blue] = number.to_be_bytes();
                Ok(Self([red, green, blue]))
            }
            _ => Err(format!("is `{text}`, expected white, black or #rrggbb")),
        }
    }
}

/// The seeds between which a walk goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ends {
    from: u64,
    to: u64,
}

impl FromStr for Ends {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seeds = text.split_once(':').and_then(|(from, to)| Some((from.trim().parse().ok()?, to.trim().parse().ok()?)));
        match seeds {
            None => Err(format!("is `{text}`, expected two seeds, such as 7:42")),
            Some((from, to)) if from == to => Err(format!("goes from seed {from} to itself, expected two seeds that differ")),
            Some((from, to)) => Ok(Self { from, to }),
        }
    }
}

/// What a model of clips begins with.
pub(super) struct Taken {
    pub(super) frames: Arc<[Picture]>,
    /// How fast they follow each other, where that is said.
    pub(super) rate: Option<FrameRate>,
}

/// A clip that was asked for.
pub(super) struct Wish {
    /// The new walk; `None` where the record's is repeated.
    ends: Option<Ends>,
    record: ClipRecord,
    background: [u8; 3],
}

impl ClipArguments {
    /// The flags of a clip that were given.
    pub(super) fn given(&self) -> [(&'static str, bool); 6] {
        [
            ("--interpolate", self.interpolate.is_some()),
            ("--frames", self.frames.is_some()),
            ("--seconds", self.seconds.is_some()),
            ("--fps", self.fps.is_some()),
            ("--bounce", self.bounce),
            ("--background", self.background.is_some()),
        ]
    }

    /// The clip that these and the record of `--from` ask of a model that makes clips, and how many frames, where it is said.
    pub(super) fn film(&self, recorded: Option<ClipRecord>) -> Result<(Film, Option<usize>)> {
        if self.interpolate.is_some() {
            refuse!("--interpolate: is a walk between two pictures, and this model makes clips; leave it out");
        }
        let film = Film {
            seconds: self.seconds,
            rate: self.fps.or(recorded.map(|clip| clip.frames_per_second)),
            bounce: self.bounce || recorded.is_some_and(|clip| clip.bounce),
            background: self.background(),
        };
        Ok((film, self.frames))
    }

    /// What opacity is laid on; white where nobody says it.
    fn background(&self) -> [u8; 3] {
        self.background.map_or([255; 3], |colour| colour.0)
    }

    /// The frames that are drawn anew, of the clip that `--input` names.
    pub(super) fn frames(&self, reader: ClipReader, count: usize, recorded: Option<ClipRecord>) -> Result<Frames> {
        if self.interpolate.is_some() {
            refuse!("--interpolate: makes a clip of its own, and --input names one; leave one of them out");
        }
        if count > 1 {
            refuse!("--count: is {count}, and the pictures of a clip are counted by --frames");
        }
        if self.frames == Some(0) {
            refuse!("--frames: is 0, expected at least 1");
        }
        let rate = self.fps.or(recorded.map(|clip| clip.frames_per_second));
        let most = |rate: FrameRate| -> Result<Option<usize>> {
            let seconds = self.seconds.map(|seconds| rate.frames_in(seconds)).transpose().context("--seconds")?;
            Ok(self.frames.or(seconds).or(recorded.map(|clip| clip.frames)))
        };
        let bounce = self.bounce || recorded.is_some_and(|clip| clip.bounce);
        Frames::new(reader, rate, FrameRate::whole(USUAL_FRAMES_PER_SECOND)?, most, bounce, self.background())
    }

    /// The frames that `bundle`, a model of clips, begins with, of the clip that `--input` names, each at once at the size of the new clip.
    ///
    /// * `asked`: the new clip's size, where it is said
    pub(super) fn taken(
        &self,
        reader: ClipReader,
        recorded: Option<ClipRecord>,
        bundle: &Bundle,
        asked: Option<(u32, u32)>,
    ) -> Result<Taken> {
        if self.fps.is_none() && recorded.is_none() && reader.is_uneven() {
            log::warn!(
                "--input: frames are shown for different times, and for the mean of them in the new clip; --fps says another"
            );
        }
        let rate = self.fps.or(recorded.map(|clip| clip.frames_per_second)).or(reader.rate());
        let most = match (self.frames, self.seconds, rate) {
            (Some(frames), ..) => frames,
            (None, Some(seconds), Some(rate)) => rate.frames_in(seconds).context("--seconds")?,
            (None, Some(_), None) => {
                refuse!("--seconds: nothing says how fast the frames of --input follow each other; --fps does")
            }
            (None, None, _) => recorded.map_or(usize::MAX, |clip| clip.frames),
        };
        let (mut frames, mut bytes): (Vec<Picture>, u64) = (Vec::new(), 0);
        let mut size = asked;
        for frame in reader.take(most) {
            let mut frame = frame?;
            if frames.is_empty() {
                let (width, height) = size_of(bundle, asked, Some(&frame))?;
                size = Some((width, height));
                if frame.changes_shape(width, height) {
                    log::warn!(
                        "the input is {}x{} and the clip {width}x{height}: its shape is changed",
                        frame.width,
                        frame.height
                    );
                }
            }
            if let Some((width, height)) = size.filter(|size| *size != (frame.width, frame.height)) {
                frame = frame.resize(width, height)?;
            }
            bytes += frame.pixels.len() as u64;
            if bytes > LARGEST_CLIP_IN_MEMORY_BYTES {
                refuse!(
                    "--input: more than {} frames of {}x{} take more than {} MiB of memory; take fewer with --frames, or smaller ones with \
                     --size",
                    frames.len(),
                    frame.width,
                    frame.height,
                    LARGEST_CLIP_IN_MEMORY_BYTES >> 20
                );
            }
            frames.push(frame);
        }
        Ok(Taken { frames: frames.into(), rate })
    }

    /// The clip that these and the record of `--from` ask for; `None` where pictures are asked for.
    pub(super) fn wish(&self, seed: Option<u64>, count: usize, recorded: Option<ClipRecord>) -> Result<Option<Wish>> {
        if self.interpolate.is_none() && recorded.is_none() {
            if let Some((flag, _)) = self.given().iter().find(|(_, given)| *given) {
                refuse!(
                    "{flag}: is said of a clip, and none is asked for; --interpolate SEED:SEED asks for one, and so does a clip as --input"
                );
            }
            return Ok(None);
        }
        if self.interpolate.is_some() && seed.is_some() {
            refuse!("--seed: --interpolate says both seeds; leave --seed out");
        }
        if count > 1 {
            refuse!("--count: is {count}, and the pictures of a clip are counted by --frames");
        }
        let rate = self.fps.or(recorded.map(|clip| clip.frames_per_second));
        let rate = rate.map_or_else(|| FrameRate::whole(DEFAULT_FRAMES_PER_SECOND), Ok)?;
        let seconds = self.seconds.map(|seconds| rate.frames_in(seconds)).transpose().context("--seconds")?;
        Ok(Some(Wish {
            ends: self.interpolate,
            record: ClipRecord {
                frames: self.frames.or(seconds).or(recorded.map(|clip| clip.frames)).unwrap_or(DEFAULT_FRAMES),
                frames_per_second: rate,
                bounce: self.bounce || recorded.is_some_and(|clip| clip.bounce),
            },
            background: self.background(),
        }))
    }
}

impl Wish {
    /// Asks for the pictures of the clip.
    pub(super) fn put_into(&self, request: &mut Request) -> Result<()> {
        let to = match (self.ends, &request.walk) {
            (Some(ends), _) => ends.to,
            (None, Some(walk)) => walk.to,
            (None, None) => refuse!("--from: it is the record of a clip and does not say where its walk goes"),
        };
        if let Some(ends) = self.ends {
            request.seed = Some(ends.from);
        }
        request.walk = Some(Walk::new(to, self.record.frames)?);
        Ok(())
    }

    /// Makes sure that the clip can be written, before its pictures are made.
    pub(super) fn check(&self, engine: &Engine, request: &Request, format: ClipFormat) -> Result<()> {
        let (resolved, _) = engine.plan(request)?;
        let (width, height, frames) = (resolved.width, resolved.height, self.record.frames);
        let bytes = u64::from(width) * u64::from(height) * 4;
        if bytes.saturating_mul(frames as u64) > LARGEST_WALK_BYTES {
            refuse!(
                "clip: {frames} pictures of {width}x{height} take more than {} MiB of memory; take fewer or smaller ones",
                LARGEST_WALK_BYTES >> 20
            );
        }
        check_clip(frames, self.head(width, height, 4), format)
    }

    fn head(&self, width: u32, height: u32, channels: usize) -> ClipHead {
        let ClipRecord { frames_per_second: rate, bounce, .. } = self.record;
        ClipHead { bounce, background: self.background, ..ClipHead::new(width, height, channels, rate) }
    }

    /// Writes the clip; returns its first picture and its record as well.
    ///
    /// * `note`: adds to the record what the engine does not know
    pub(super) fn write(
        &self,
        made: Vec<Generated>,
        goal: &Goal<ClipFormat>,
        note: impl FnOnce(&mut Provenance) -> Result<()>,
    ) -> Result<(Written, Picture, Provenance)> {
        let Some(Generated { picture, provenance, .. }) = made.first() else { bail!("a walk without pictures") };
        let (picture, mut provenance) = (picture.clone(), provenance.clone());
        note(&mut provenance)?;
        let to = provenance.walk.map(|walk| format!("-to-{}", walk.to)).unwrap_or_default();
        let target = goal.target(provenance.prompt.as_deref(), &format!("{}{to}", provenance.seed));
        let (mut writer, written) = begin(&target, self.head(picture.width, picture.height, picture.channels))?;
        for Generated { picture, .. } in &made {
            writer.push(picture)?;
        }
        writer.finish_with(&mut provenance)?;
        Ok((written, picture, provenance))
    }
}

/// Begins the clip `target`; says what will have become of it when it is finished.
pub(super) fn begin(target: &Target<ClipFormat>, head: ClipHead) -> Result<(ClipWriter, Written)> {
    match target {
        Target::File(path, format) => Ok((ClipWriter::create(path, *format, head)?, Written::File(path.clone()))),
        Target::Stdout(format) => Ok((ClipWriter::stream(Box::new(std::io::stdout()), *format, head)?, Written::Streamed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_two_seeds_that_differ() {
        assert_eq!("7:42".parse(), Ok(Ends { from: 7, to: 42 }));
        assert_eq!(format!("0:{}", u64::MAX).parse(), Ok(Ends { from: 0, to: u64::MAX }));
        for wrong in ["", ":", "7", "7:", ":42", "7:42:9", "a:b", "-1:2", "1.5:2", "0:18446744073709551616"] {
            let said = wrong.parse::<Ends>().unwrap_err();
            assert_eq!(said, format!("is `{wrong}`, expected two seeds, such as 7:42"));
        }
        assert!("7:7".parse::<Ends>().unwrap_err().contains("goes from seed 7 to itself"));
    }

    #[test]
    fn a_colour_is_a_word_or_six_digits() {
        for (text, colour) in [("white", [255; 3]), ("black", [0; 3]), ("#1a2B3c", [0x1A, 0x2B, 0x3C]), ("00ff00", [0, 255, 0])] {
            assert_eq!(text.parse(), Ok(Colour(colour)));
        }
        for text in ["", "#", "#fff", "+12345", "#1234567", "red", "12345g"] {
            assert!(text.parse::<Colour>().unwrap_err().contains("expected white, black or #rrggbb"), "{text}");
        }
    }
}
