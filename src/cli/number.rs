//! Whole numbers among the arguments, alone and in pairs.

use std::str::FromStr;

/// Reads a number from 0 on. Which numbers make sense is said by what they count.
pub(super) fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("is `{text}`, expected a whole number from 0 on"))
}

/// Reads width and height in pixels.
pub(super) fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text
        .split_once(['x', 'X', '×'])
        .and_then(|(width, height)| Some((width.trim().parse().ok()?, height.trim().parse().ok()?)));
    sides.ok_or_else(|| "expected width and height as 512x768".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_numbers_with_an_x_between() {
        assert_eq!(size("512x768"), Ok((512, 768)));
        assert!(size("512").is_err());
        assert!(size("-1x2").is_err());
        assert!(size("99999999999x2").is_err());
    }
}
