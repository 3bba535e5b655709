//! How large the tiles are in which latents are decoded, and what a person may say about it.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;

use crate::bundle::{Bundle, Role, find, names};
use crate::refuse;

/// Tiles are blended over a quarter of their side, as in diffusers: their sides divide by this.
const PARTS: usize = 4;
/// Smaller tiles see too little of the picture.
const SMALLEST_TILE_LATENTS: usize = 8;

/// What a person says about tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TileChoice {
    /// Where the memory asks for it.
    #[default]
    Auto,
    /// Never at first; a decoder that runs out of memory is tried again with tiles all the same.
    Off,
    /// Tiles of this side in pixels.
    Pixels(u32),
}

impl FromStr for TileChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            side => side.parse().map(Self::Pixels).map_err(|_| format!("is `{text}`, expected auto, off or a side in pixels")),
        }
    }
}

/// A square tile of latents and the pixels it gives.
///
/// The arithmetic is that of diffusers' `AutoencoderKL.tiled_decode`: tiles begin three quarters of a side apart, and the last
/// quarter of each is blended linearly into the next. An autoencoder's attention and its group normalisation see a whole tile, so
/// no overlap would make two tiles agree; blended, they differ without a border.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// Side in latents.
    pub latents: usize,
    /// Pixels to a latent, each way.
    pub pixels_per_latent: usize,
}

impl Tile {
    /// Side in pixels.
    #[must_use]
    pub fn pixels(self) -> usize {
        self.latents * self.pixels_per_latent
    }

    /// From one tile's beginning to the next one's, in latents.
    #[must_use]
    pub fn stride(self) -> usize {
        self.latents - self.latents / PARTS
    }

    /// Pixels over which two tiles are blended.
    #[must_use]
    pub fn overlap_pixels(self) -> usize {
        self.latents / PARTS * self.pixels_per_latent
    }

    /// Whether latents of `height` by `width` are more than one tile.
    #[must_use]
    pub fn cuts(self, height: usize, width: usize) -> bool {
        height > self.latents || width > self.latents
    }

    /// The tile of `pixels` a side for `bundle`.
    ///
    /// # Errors
    /// Refusals: the bundle's decoder takes one size only, or the bundle has none; the side is too small or no multiple of four latents.
    pub fn of_pixels(bundle: &Bundle, pixels: u32) -> Result<Self> {
        if let Some(reason) = refusal_of(bundle) {
            refuse!("tile: {reason}; leave it out");
        }
        let pixels_per_latent = bundle.geometry.pixels_per_latent;
        let unit = pixels_per_latent * PARTS;
        let (side, smallest) = (pixels as usize, pixels_per_latent * SMALLEST_TILE_LATENTS);
        if side < smallest || side % unit != 0 {
            let near = ((side + unit / 2) / unit * unit).max(smallest);
            refuse!("tile: is {side}, expected a multiple of {unit} pixels from {smallest} on; the nearest is {near}");
        }
        Ok(Self { latents: side / pixels_per_latent, pixels_per_latent })
    }

    /// The largest tile with a side of at most `pixels` for `bundle`; `None` where there is none that cuts.
    #[must_use]
    pub fn within(bundle: &Bundle, pixels: usize) -> Option<Self> {
        let pixels_per_latent = bundle.geometry.pixels_per_latent;
        let latents = pixels / pixels_per_latent / PARTS * PARTS;
        (latents >= SMALLEST_TILE_LATENTS && refusal_of(bundle).is_none()).then_some(Self { latents, pixels_per_latent })
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "tiles of {0}x{0} pixels, {1} of them blended", self.pixels(), self.overlap_pixels())
    }
}

/// Why `bundle` cannot decode in tiles; `None` where it can.
#[must_use]
pub(super) fn refusal_of(bundle: &Bundle) -> Option<String> {
    let Some(decoder) = bundle.components.get(&Role::VaeDecoder) else {
        return Some(format!("model {} has no decoder of latents", bundle.name()));
    };
    let port = find(&decoder.header.inputs, names::LATENT)?;
    // Of a clip the frames stand before the sides.
    let is_fixed = port.shape.iter().rev().take(2).any(Option::is_some);
    is_fixed.then(|| format!("the decoder of model {} takes latents of {} only", bundle.name(), port.shape_text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_a_word_or_a_side() {
        assert_eq!("auto".parse(), Ok(TileChoice::Auto));
        assert_eq!("off".parse(), Ok(TileChoice::Off));
        assert_eq!("256".parse(), Ok(TileChoice::Pixels(256)));
        for text in ["", "-1", "256px", "1e3", "99999999999", "on"] {
            assert!(text.parse::<TileChoice>().unwrap_err().contains("expected auto, off"), "{text}");
        }
    }

    #[test]
    fn strides_and_overlaps_make_up_a_tile() {
        for latents in [8, 16, 64, 100] {
            let tile = Tile { latents, pixels_per_latent: 8 };
            assert_eq!(tile.stride() * 8 + tile.overlap_pixels(), tile.pixels());
        }
    }
}
