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
}

impl Budget {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.within_ms.is_none() && self.memory_bytes.is_none()
    }
}

/// Reads a time such as `300ms` or `2s`; returns milliseconds.
///
/// # Errors
/// The text has no unit, is no number, or is not above 0 and at most a day.
pub fn parse_time(text: &str) -> Result<f64, String> {
    let text = text.trim();
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1.0),
        (None, Some(number)) => (number, 1000.0),
        _ => return Err("expected a time with its unit, such as 300ms or 2s".to_owned()),
    };
    let value: f64 = number.trim().parse().map_err(|_| "expected a time, such as 300ms or 2s".to_owned())?;
    let value = value * unit;
    if !(value > 0.0 && value <= LONGEST_MS) {
        return Err("expected a time above 0 and at most a day, such as 300ms or 2s".to_owned());
    }
    Ok(value)
}

/// Reads an amount of memory such as `2GiB`, `900MiB` or `1.5GB`; returns bytes.
///
/// # Errors
/// The text has no unit, is no number, or is below one byte or beyond any machine.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 6] =
        [("GiB", 1_073_741_824.0), ("MiB", 1_048_576.0), ("KiB", 1024.0), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    let text = text.trim();
    let found = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let Some((number, unit)) = found else {
        return Err("expected memory with its unit, such as 2GiB or 900MiB".to_owned());
    };
    let value: f64 = number.trim().parse().map_err(|_| "expected memory, such as 2GiB or 900MiB".to_owned())?;
    let value = value * unit;
    if !(1.0..=LARGEST_BYTES).contains(&value) {
        return Err("expected memory above 0 that a machine can have, such as 2GiB or 900MiB".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to lie in range")]
    Ok(value as u64)
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
        for (text, expected) in
            [("2GiB", 2 << 30), ("900MiB", 900 << 20), (" 1.5 GB", 1_500_000_000), ("1KiB", 1024), ("1e3kB", 1_000_000)]
        {
            assert_eq!(parse_bytes(text), Ok(expected), "{text}");
        }
        for (text, expected) in [("2s", 2000.0), ("300ms", 300.0), (" 1.5 s", 1500.0), ("1e2ms", 100.0)] {
            assert_eq!(parse_time(text), Ok(expected), "{text}");
        }
        for text in ["", "2", "GiB", "0MiB", "-1GiB", "NaNGiB", "infMiB", "1e99GiB", "2gib", "2s", "0x10MiB", "1 2MiB"] {
            assert!(parse_bytes(text).unwrap_err().contains("such as 2GiB"), "{text}");
        }
        for text in ["", "2", "s", "0s", "-1ms", "nans", "infs", "1e99s", "3m", "2GiB"] {
            assert!(parse_time(text).unwrap_err().contains("such as 300ms"), "{text}");
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
