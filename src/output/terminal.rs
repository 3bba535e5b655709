//! Shows a picture in the terminal.

use anyhow::{Context, Result};
use image::{DynamicImage, RgbaImage};

use super::Picture;

/// The most columns that a picture takes; a larger one is shown smaller.
const WIDEST_COLUMNS: u32 = 64;

/// Opacity below which a pixel is not drawn.
const FAINTEST: u8 = 64;

/// Draws `picture` where the cursor stands: by the terminal's own graphics where it has any, else by coloured half blocks.
///
/// # Errors
/// The terminal cannot be written to.
pub fn show_in_terminal(picture: &Picture) -> Result<()> {
    if std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
    {
        return Ok(());
    }
    let mut shown = picture.with_opacity();
    // Half blocks are opaque or not at all: what the eye would hardly see on paper would be a speck here.
    for pixel in shown.pixels.chunks_exact_mut(4).filter(|pixel| pixel[3] < FAINTEST) {
        pixel[3] = 0;
    }
    let (columns, rows) = viuer::terminal_size();
    // A cell shows two pixels, one above the other; the path and the prompt want a line each.
    let tallest = u32::from(rows).saturating_sub(2) * 2 * picture.width / picture.height.max(1);
    let width = picture.width.min(WIDEST_COLUMNS).min(u32::from(columns)).min(tallest).max(1);
    let image = RgbaImage::from_raw(shown.width, shown.height, shown.pixels).context("picture and its size differ")?;
    let config = viuer::Config {
        absolute_offset: false,
        transparent: true,
        width: Some(width),
        use_kitty: speaks_kitty(|name| std::env::var(name).ok()),
        ..viuer::Config::default()
    };
    viuer::print(&DynamicImage::ImageRgba8(image), &config).context("terminal")?;
    Ok(())
}

/// Whether the terminal says by its environment that it has kitty's graphics.
///
/// `viuer` asks the terminal itself and waits for the answer without end, and a serial console gives none.
fn speaks_kitty(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = |name: &str| variable(name).unwrap_or_default().to_lowercase();
    let known = |text: &str| ["kitty", "ghostty"].iter().any(|name| text.contains(name));
    variable("KITTY_WINDOW_ID").is_some() || known(&names("TERM")) || known(&names("TERM_PROGRAM"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_says_so_is_asked_for_its_graphics() {
        let cases = [
            (("TERM", "xterm-kitty"), true),
            (("TERM", "xterm-ghostty"), true),
            (("TERM_PROGRAM", "ghostty"), true),
            (("KITTY_WINDOW_ID", "1"), true),
            (("TERM", "xterm-256color"), false),
            (("TERM", "vt100"), false),
            (("TERM_PROGRAM", "tmux"), false),
        ];
        for ((set, value), expected) in cases {
            assert_eq!(speaks_kitty(|name| (name == set).then(|| value.to_owned())), expected, "{set}={value}");
        }
    }
}
