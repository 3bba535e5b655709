//! Turns tensors into picture files and picture files into tensors.
//!
//! In: a decoded tensor and what made it, or the path of a picture. Out: PNG, JPEG and WebP files, and clips as APNG and GIF,
//! that appear whole or not at all, with their [`Provenance`] inside; [`Picture`]s and tensors of them.
//!
//! Not here: models, prompts, and printing.

mod clip;
mod comment_block;
mod container;
mod decoder;
mod file;
mod format;
mod frames;
mod palette;
mod parameters;
mod picture;
mod provenance;
mod provenance_parts;
mod record;
mod resampling;
mod staged;
#[cfg(feature = "terminal")]
mod terminal;
mod text_chunk;

pub use clip::{ClipHead, ClipWriter, FrameRate, MOST_FRAMES, check as check_clip, record_beside};
pub use decoder::{LARGEST_FILE_BYTES, LARGEST_SIDE_PX, read_limited};
pub use file::{Target, Written, encode, save, write};
pub use format::{ClipFormat, FileFormat, Format};
pub use frames::{ClipReader, LARGEST_CLIP_BYTES, numbered_files};
pub use picture::Picture;
pub use provenance::{PROVENANCE_SCHEMA, Provenance};
pub use provenance_parts::{BundleId, ClipRecord, ComponentRun, EmbeddingId, UpscaleRecord, WalkPlace};
pub use record::{read, read_bytes};
#[cfg(feature = "terminal")]
pub use terminal::show_in_terminal;
