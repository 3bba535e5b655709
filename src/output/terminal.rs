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
    let config = viuer::Config { absolute_offset: false, transparent: true, width: Some(width), ..viuer::Config::default() };
    viuer::print(&DynamicImage::ImageRgba8(image), &config).context("terminal")?;
    Ok(())
}
