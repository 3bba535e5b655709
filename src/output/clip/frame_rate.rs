//! How fast the frames of a clip follow each other.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::refuse;

/// The slowest rate, one frame in ten seconds, and the fastest.
const SLOWEST: FrameRate = FrameRate { frames: 1, seconds: 10 };
const FASTEST: FrameRate = FrameRate { frames: 100, seconds: 1 };
/// Beyond it a fraction says nothing that an eye or a file could use.
const LARGEST_PART: u32 = 1_000_000;

/// Frames per second, as a fraction in lowest terms: 24, or 30000/1001 as television has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameRate {
    frames: u32,
    seconds: u32,
}

impl FrameRate {
    /// Takes a whole number of frames per second.
    ///
    /// # Errors
    /// As [`FrameRate::new`].
    pub fn whole(frames: u32) -> Result<Self> {
        Self::new(frames, 1)
    }

    /// Takes so many frames in so many seconds.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): there are less than 0.1 or more than 100 frames per second, or a part of the fraction in
    /// lowest terms is above a million.
    pub fn new(frames: u32, seconds: u32) -> Result<Self> {
        let divisor = greatest_common_divisor(frames, seconds).max(1);
        let rate = Self { frames: frames / divisor, seconds: seconds / divisor };
        let at_least = |rate: Self, than: Self| {
            u64::from(rate.frames) * u64::from(than.seconds) >= u64::from(than.frames) * u64::from(rate.seconds)
        };
        if seconds == 0 || frames == 0 || !at_least(rate, SLOWEST) || !at_least(FASTEST, rate) {
            refuse!("clip: plays {rate} frames per second, expected 0.1 to {FASTEST}");
        }
        if rate.frames.max(rate.seconds) > LARGEST_PART {
            refuse!("clip: plays {rate} frames per second, expected a fraction of numbers up to {LARGEST_PART}");
        }
        Ok(rate)
    }

    /// The frames of [`FrameRate::seconds`].
    #[must_use]
    pub fn frames(self) -> u32 {
        self.frames
    }

    /// The seconds in which [`FrameRate::frames`] are shown.
    #[must_use]
    pub fn seconds(self) -> u32 {
        self.seconds
    }

    /// Gives when frame `number`, from 0, begins, in ticks of `1 / ticks_per_second`, rounded; so that errors do not add up.
    #[must_use]
    pub fn begin(self, number: u64, ticks_per_second: u32) -> u64 {
        let ticks = u128::from(number) * u128::from(self.seconds) * u128::from(ticks_per_second);
        let rate = u128::from(self.frames);
        // Of any clip that is written: less than 2⁶⁴ ticks.
        u64::try_from((ticks * 2 + rate) / (rate * 2)).unwrap_or(u64::MAX)
    }

    /// Gives how many frames come next to `seconds`, at least one.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): `seconds` is not above 0, or no number.
    pub fn frames_in(self, seconds: f64) -> Result<usize> {
        if !seconds.is_finite() || seconds <= 0.0 {
            refuse!("clip: lasts {seconds} seconds, expected more than 0");
        }
        // What is too long for a clip is too long for it here as well: the cast stops at the largest number.
        Ok(((seconds * f64::from(self)).round() as usize).max(1))
    }
}

impl From<FrameRate> for f64 {
    fn from(rate: FrameRate) -> Self {
        Self::from(rate.frames) / Self::from(rate.seconds)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            1 => write!(formatter, "{}", self.frames),
            seconds => write!(formatter, "{}/{seconds}", self.frames),
        }
    }
}

/// Reads `24`, `12.5`, or `30000/1001`.
impl FromStr for FrameRate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = match (text.split_once('/'), text.split_once('.')) {
            (Some((frames, seconds)), _) => frames.parse().ok().zip(seconds.parse().ok()),
            (None, Some((whole, rest))) if rest.len() <= 6 => {
                let scale = 10_u32.pow(rest.len() as u32);
                let digits = format!("{whole}{rest}");
                digits
                    .bytes()
                    .all(|digit| digit.is_ascii_digit())
                    .then(|| digits.parse().ok())
                    .flatten()
                    .map(|frames| (frames, scale))
            }
            (None, Some(_)) => None,
            (None, None) => text.parse().ok().map(|frames| (frames, 1)),
        };
        match parts {
            Some((frames, seconds)) => Self::new(frames, seconds),
            None => refuse!("frames per second are `{text}`, expected a number such as 24, 12.5 or 30000/1001"),
        }
    }
}

impl Serialize for FrameRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.seconds {
            1 => serializer.serialize_u32(self.frames),
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for FrameRate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Whole(u32),
            Text(String),
        }
        let rate = match Form::deserialize(deserializer)? {
            Form::Whole(frames) => Self::whole(frames),
            Form::Text(text) => text.parse(),
        };
        rate.map_err(serde::de::Error::custom)
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    #[test]
    fn a_rate_is_read_and_written_in_lowest_terms() {
        for (text, frames, seconds, shown) in [
            ("24", 24, 1, "24"),
            ("30000/1001", 30000, 1001, "30000/1001"),
            ("12.5", 25, 2, "25/2"),
            ("24.0", 24, 1, "24"),
            ("48/2", 24, 1, "24"),
            ("0.1", 1, 10, "1/10"),
        ] {
            let rate: FrameRate = text.parse().unwrap();
            assert_eq!((rate.frames(), rate.seconds(), rate.to_string().as_str()), (frames, seconds, shown));
            let json = serde_json::to_string(&rate).unwrap();
            assert_eq!(serde_json::from_str::<FrameRate>(&json).unwrap(), rate, "{json}");
        }
        assert_eq!(serde_json::to_string(&FrameRate::whole(12).unwrap()).unwrap(), "12");
    }

    #[test]
    fn refuses_what_is_no_rate() {
        for text in ["", "x", "-1", "1/", "/2", "1/2/3", "NaN", "inf", "1e3", "1.x", ".", "+.5", "1.0000000", "99999999999"] {
            let error = text.parse::<FrameRate>().unwrap_err();
            assert!(is_refusal(&error) && error.to_string().contains("expected a number such as 24"), "{text}: {error}");
        }
        for text in ["0", "0/1", "1/0", "0/0", "0.0", "101", "1/11", "100.1", "4294967295", "4294967295/4294967294"] {
            let error = text.parse::<FrameRate>().unwrap_err();
            assert!(is_refusal(&error) && error.to_string().contains("frames per second, expected"), "{text}: {error}");
        }
        for json in ["0", "-1", "1.5", "\"x\"", "null", "[1]", "1000"] {
            assert!(serde_json::from_str::<FrameRate>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn frames_begin_where_their_true_time_is_nearest() {
        let rate: FrameRate = "30000/1001".parse().unwrap();
        let begins: Vec<u64> = (0..4).map(|number| rate.begin(number, 1000)).collect();
        assert_eq!((begins, rate.begin(30_000, 1000)), (vec![0, 33, 67, 100], 1_001_000));
        assert_eq!(rate.begin(u64::MAX, u32::MAX), u64::MAX);
    }

    #[test]
    fn seconds_are_counted_in_frames() {
        let rate = FrameRate::whole(24).unwrap();
        assert_eq!([2.0, 0.5, 0.001, 1e300].map(|seconds| rate.frames_in(seconds).unwrap()), [48, 12, 1, usize::MAX]);
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(is_refusal(&rate.frames_in(seconds).unwrap_err()));
        }
    }
}
