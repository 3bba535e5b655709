//! How large the tiles are in which latents are decoded, and what a person may say about it.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;

use crate::bundle::{Architecture, Bundle, Role, find, names};
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
    /// Tiles of a clip's time, for a decoder that sees it whole.
    Frames,
    /// Both: tiles of time, each of them in tiles of this side in pixels.
    PixelsAndFrames(u32),
}

impl TileChoice {
    /// The side in pixels of the tiles that are asked for.
    #[must_use]
    pub fn pixels(self) -> Option<u32> {
        match self {
            Self::Pixels(pixels) | Self::PixelsAndFrames(pixels) => Some(pixels),
            Self::Auto | Self::Off | Self::Frames => None,
        }
    }

    /// Whether tiles of time are asked for.
    #[must_use]
    pub fn cuts_time(self) -> bool {
        matches!(self, Self::Frames | Self::PixelsAndFrames(_))
    }
}

impl FromStr for TileChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "frames" => Ok(Self::Frames),
            other => {
                let (side, choice): (_, fn(u32) -> Self) = match other.strip_suffix(",frames") {
                    Some(side) => (side, Self::PixelsAndFrames),
                    None => (other, Self::Pixels),
                };
                let wrong = |_| format!("is `{text}`, expected auto, off, frames, a side in pixels, or both as 256,frames");
                side.parse().map(choice).map_err(wrong)
            }
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

/// A piece of a clip's time that is decoded at once.
///
/// The sizes are those of diffusers' `AutoencoderKLLTXVideo`: tiles of 16 frames begin 8 apart, of which the last 8 are blended into the
/// next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipTile {
    /// Frames of latents to a tile, of which a call is given one more.
    pub latents: usize,
    /// From one tile's beginning to the next one's, in frames of latents.
    pub stride: usize,
    /// Frames to a frame of latents.
    pub frames_per_latent: usize,
}

impl ClipTile {
    /// Frames of a tile, and from one to the next.
    const FRAMES: (usize, usize) = (16, 8);

    /// The tile for `bundle`; `None` where its decoder takes no clip whole, or no other number of frames than the clip's.
    #[must_use]
    pub fn of(bundle: &Bundle) -> Option<Self> {
        let shape = bundle.clip.as_ref().filter(|_| bundle.architecture().is_some_and(Architecture::decodes_whole_clips))?;
        let port = bundle.components.get(&Role::VaeDecoder)?.input(names::LATENT)?;
        let each = shape.frames_per_latent;
        let stride = (Self::FRAMES.1 / each).max(1);
        let is_open = port.shape.get(2).is_none_or(Option::is_none);
        is_open.then_some(Self { latents: (Self::FRAMES.0 / each).max(stride + 1), stride, frames_per_latent: each })
    }

    /// Frames of latents that a call of the decoder is given.
    #[must_use]
    pub fn latents_in_call(self) -> usize {
        self.latents + 1
    }

    /// Frames from one tile's beginning to the next one's.
    #[must_use]
    pub fn stride_frames(self) -> usize {
        self.stride * self.frames_per_latent
    }

    /// Frames over which two tiles are blended.
    #[must_use]
    pub fn overlap_frames(self) -> usize {
        (self.latents - self.stride) * self.frames_per_latent
    }

    /// Whether a clip of so many frames of latents is more than one tile.
    #[must_use]
    pub fn cuts(self, latents: usize) -> bool {
        latents > self.latents
    }

    /// How many tiles a clip of so many frames of latents is.
    #[must_use]
    pub fn count(self, latents: usize) -> usize {
        if self.cuts(latents) { (latents - 1).div_ceil(self.stride) } else { 1 }
    }
}

impl fmt::Display for ClipTile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frames = self.latents * self.frames_per_latent;
        write!(formatter, "tiles of {frames} frames, {} of them blended", self.overlap_frames())
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
        assert_eq!("frames".parse(), Ok(TileChoice::Frames));
        assert_eq!("256,frames".parse(), Ok(TileChoice::PixelsAndFrames(256)));
        for text in ["", "-1", "256px", "1e3", "99999999999", "on", "frames,256", ",frames", "off,frames"] {
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

    #[test]
    fn tiles_of_time_cover_a_clip() {
        let tile = ClipTile { latents: 2, stride: 1, frames_per_latent: 8 };
        assert_eq!((tile.latents_in_call(), tile.stride_frames(), tile.overlap_frames()), (3, 8, 8));
        for (latents, count) in [(1, 1), (2, 1), (3, 2), (6, 5)] {
            assert_eq!(tile.count(latents), count, "{latents}");
            // The first shows a frame more than a stride.
            assert!(!tile.cuts(latents) || count * tile.stride_frames() + 1 == (latents - 1) * 8 + 1);
        }
        assert_eq!(tile.to_string(), "tiles of 16 frames, 8 of them blended");
    }
}
