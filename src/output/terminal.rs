//! Shows a picture in the terminal.

use anyhow::{Context, Result};
use image::{DynamicImage, RgbaImage};

use super::Picture;

/// The most columns that a picture takes; a larger one is shown smaller.
const WIDEST_COLUMNS: u32 = 64;

/// Draws `picture` where the cursor stands: by the terminal's own graphics where it has any, else by coloured half blocks.
///
/// # Errors
/// The terminal cannot be written to.
pub fn show_in_terminal(picture: &Picture) -> Result<()> {
    let opaque = picture.with_opacity();
    let image = RgbaImage::from_raw(opaque.width, opaque.height, opaque.pixels).context("picture and its size differ")?;
    let config = viuer::Config {
        absolute_offset: false,
        transparent: true,
        // A cell shows two pixels, one above the other.
        width: Some(picture.width.min(WIDEST_COLUMNS)),
        ..viuer::Config::default()
    };
    viuer::print(&DynamicImage::ImageRgba8(image), &config).context("terminal")?;
    Ok(())
}
