//! What a person allows a picture to take: time and memory, as they are typed.

use crate::refusal;

/// Longer than a day is a slip of the hand.
const LONGEST_MS: f64 = 86_400_000.0;
/// Larger than any machine's memory.
const LARGEST_BYTES: f64 = 1_125_899_906_842_624.0;

/// What a picture may take at most; what is `None` is free.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// From the request to the finished picture, in milliseconds, loading included.
    pub within_ms: Option<f64>,
    /// The most that the process may hold at once, in bytes.
    pub memory_bytes: Option<u64>,
    /// Whether the picture may be made smaller than it was asked for.
    pub may_shrink: bool,
    /// Whether the memory that is free when a plan is made counts, where `memory_bytes` says nothing: for a person who says nothing of
    /// memory at all.
    pub minds_free_memory: bool,
}

/// How times and amounts of memory are written, as errors say it.
const TIME_FORM: &str =
    "expected a time above 0 and at most a day with its unit (ms, s, min or m, h), such as 500ms, 2s, 2min or 1m30s";
const BYTES_FORM: &str = "expected memory that a machine can have with its unit, such as 2GiB, 900MB or 1G (which is 1GiB)";

/// Reads a time such as `500ms`, `2s`, `2min` or `1m30s`, the larger unit first; returns milliseconds.
///
/// # Errors
/// A part has no unit or is no number, a unit is not known or not smaller than the one before, or the time is not above 0 and at most
/// a day.
pub fn parse_time(text: &str) -> Result<f64, String> {
    let parsed = || {
        let (mut rest, mut sum, mut last) = (text.trim(), 0.0, f64::INFINITY);
        while !rest.is_empty() {
            let (number, unit, after) = number_and_unit(rest)?;
            let unit = match unit.to_ascii_lowercase().as_str() {
                "ms" => 1.0,
                "s" => 1000.0,
                "m" | "min" => 60_000.0,
                "h" => 3_600_000.0,
                _ => return None,
            };
            if unit >= last {
                return None;
            }
            (rest, sum, last) = (after, sum + number * unit, unit);
        }
        Some(sum).filter(|sum| *sum > 0.0 && *sum <= LONGEST_MS)
    };
    parsed().ok_or_else(|| TIME_FORM.to_owned())
}

/// Reads an amount of memory such as `2GiB`, `900MB`, `1.5gb` or `1G`; returns bytes.
///
/// With `iB` or a letter alone a unit is a power of 1024, with `B` a power of 1000, as coreutils have it; capitals or not is the same.
///
/// # Errors
/// The text has no unit, is no number, or is below one byte or beyond any machine.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let parsed = || {
        let (number, unit, rest) = number_and_unit(text.trim())?;
        let unit = match unit.to_ascii_lowercase().as_str() {
            "k" | "kib" => 1024.0,
            "m" | "mib" => 1_048_576.0,
            "g" | "gib" => 1_073_741_824.0,
            "kb" => 1e3,
            "mb" => 1e6,
            "gb" => 1e9,
            _ => return None,
        };
        Some(number * unit).filter(|bytes| rest.is_empty() && (1.0..=LARGEST_BYTES).contains(bytes))
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in range")]
    let bytes = parsed().map(|bytes| bytes as u64);
    bytes.ok_or_else(|| BYTES_FORM.to_owned())
}

/// Cuts `1.5 GB…` into its number, its unit and what follows; `None` where one of the first two is missing.
fn number_and_unit(text: &str) -> Option<(f64, &str, &str)> {
    let (number, rest) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?);
    let rest = rest.trim_start();
    let (unit, rest) = rest.split_at(rest.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(rest.len()));
    Some((number.parse().ok()?, unit, rest.trim_start()))
}

/// An amount of memory as it is typed: whole mebibytes, rounded up.
#[must_use]
pub fn memory_text(bytes: u64) -> String {
    format!("{}MiB", bytes.div_ceil(1 << 20))
}

/// A time as it is typed, rounded up.
#[must_use]
pub fn time_text(milliseconds: f64) -> String {
    if milliseconds < 9_950.0 {
        format!("{}ms", milliseconds.ceil())
    } else {
        format!("{:.1}s", (milliseconds / 100.0).ceil() / 10.0)
    }
}

pub(super) fn over_budget(message: &str) -> anyhow::Error {
    refusal!("{message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_have_units_and_lie_in_range() {
        for (text, expected) in [
            ("2GiB", 2 << 30),
            ("900MiB", 900 << 20),
            (" 1.5 GB", 1_500_000_000),
            ("1KiB", 1024),
            ("900MB", 900_000_000),
            ("900mb", 900_000_000),
            ("1G", 1 << 30),
            ("1g", 1 << 30),
            ("512M", 512 << 20),
            ("1000k", 1_024_000),
            ("2gib", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for (text, expected) in [
            ("2s", 2000.0),
            ("300ms", 300.0),
            (" 1.5 s", 1500.0),
            ("2min", 120_000.0),
            ("3m", 180_000.0),
            ("1m30s", 90_000.0),
            ("1m 30s", 90_000.0),
            ("1h2min3s4ms", 3_723_004.0),
            ("2S", 2000.0),
        ] {
            assert_eq!(parse_time(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "2",
            "GiB",
            "0MiB",
            "-1GiB",
            "NaNGiB",
            "infMiB",
            "9e99GiB",
            "99999999999999999999G",
            "2s",
            "0x10MiB",
            "1 2MiB",
            "1.2.3G",
            ".G",
            "1G5M",
            "2T",
            "1G ü",
        ] {
            assert!(parse_bytes(text).unwrap_err().contains("such as 2GiB, 900MB or 1G"), "{text}");
        }
        for text in [
            "",
            "2",
            "s",
            "0s",
            "-1ms",
            "nans",
            "infs",
            "1e99s",
            "99999999999h",
            "25h",
            "2GiB",
            "30s1m",
            "1s1s",
            "1m30",
            "2 s 1",
            "1m1min",
        ] {
            assert!(parse_time(text).unwrap_err().contains("such as 500ms, 2s, 2min or 1m30s"), "{text}");
        }
    }

    #[test]
    fn what_is_printed_can_be_typed() {
        for bytes in [1, 1 << 20, (900 << 20) + 1] {
            assert!(parse_bytes(&memory_text(bytes)).unwrap() >= bytes);
        }
        for time in [0.4, 299.5, 9_949.0, 12_345.0] {
            assert!(parse_time(&time_text(time)).unwrap() >= time);
        }
    }
}
