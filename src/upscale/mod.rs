//! Enlarges pictures with a super-resolution network.
//!
//! In: an ONNX file that makes `[B, 3, sH, sW]` of `[B, 3, H, W]`, alone or in a folder with a card; a picture. Out: the picture, `s` times as large.
//! The network sees tiles that overlap and are blended (`tiles.rs`); opacity is enlarged with Lanczos' filter.
//!
//! Not here: files of pictures, and what made a picture before.

mod model;
mod tiles;

pub use model::Upscaler;
pub use tiles::{LARGEST_TILE_PX, SMALLEST_TILE_PX};
