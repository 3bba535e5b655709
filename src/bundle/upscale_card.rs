//! The part of a card that is of a network which enlarges pictures.

use anyhow::{Result, ensure};
use serde::Deserialize;

/// `[upscale]`: how a network that enlarges pictures is called.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct UpscaleCard {
    /// How many times as large a picture becomes; found by a probe when not given.
    #[serde(default)]
    pub factor: Option<usize>,
    /// Side of the tiles in pixels.
    #[serde(default)]
    pub tile: Option<usize>,
    /// What the sides of a tile are multiples of.
    #[serde(default)]
    pub multiple: Option<usize>,
    /// The values of black and white, when they are not 0 and 1.
    #[serde(default)]
    pub range: Option<[f32; 2]>,
}

impl UpscaleCard {
    pub(super) fn check(&self) -> Result<()> {
        let sizes = [("factor", self.factor, 1..=16), ("tile", self.tile, 16..=4096), ("multiple", self.multiple, 1..=256)];
        for (key, value, range) in sizes {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                let (least, most) = range.into_inner();
                anyhow::bail!("`upscale.{key}` is {value}, expected {least} to {most}");
            }
        }
        if let Some([black, white]) = self.range {
            ensure!(
                black < white && black.abs() <= 1000.0 && white.abs() <= 1000.0,
                "`upscale.range` is {black} to {white}, expected black below white"
            );
        }
        Ok(())
    }
}
