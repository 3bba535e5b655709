//! The family tree of generative models: read, drawn, told; and how its branches compare.
//!
//! In: `models/lineage.toml`, pictures and features of what is installed. Out: text for a terminal, SVG pictures, distances, a comparison.
//! Not here: bundles, networks, and who is installed; the caller says so.

mod ascii;
mod check;
mod comparison;
mod contact_sheet;
pub mod distances;
mod layout;
mod real;
mod svg;
mod terminal;
mod tree;

pub use comparison::{Choice, Comparison, Quality, Row};
pub use contact_sheet::draw_contact_sheet;
pub use real::{RealPictures, judged};
pub use svg::draw_svg;
#[cfg(feature = "cli")]
pub(crate) use terminal::wrapped;
pub use terminal::{TerminalStyle, draw, tell};
pub use tree::{Algorithm, Branch, LARGEST_FILE_BYTES, Paper, Run, Tree};
