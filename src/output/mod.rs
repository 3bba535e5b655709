//! Turns tensors into picture files and picture files into tensors.
//!
//! In: a decoded tensor and what made it, or the path of a picture. Out: PNG, JPEG and WebP files that appear whole or not at
//! all, with their [`Provenance`] inside; [`Picture`]s and tensors of them.
//!
//! Not here: models, prompts, and printing.

mod decoder;
mod file;
mod lanczos;
mod picture;
mod provenance;
mod provenance_parts;
#[cfg(feature = "terminal")]
mod terminal;
mod text_chunk;

pub use decoder::{LARGEST_FILE_BYTES, LARGEST_SIDE_PX};
pub use file::{Format, Target, Written, encode, save, write};
pub use picture::Picture;
pub use provenance::{PROVENANCE_SCHEMA, Provenance, read};
pub use provenance_parts::{BundleId, ComponentRun, WalkPlace};
#[cfg(feature = "terminal")]
pub use terminal::show_in_terminal;
