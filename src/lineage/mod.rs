//! The family tree of generative models: read, drawn, told; and how far samples lie from the real ones.
//!
//! In: `models/lineage.toml`, pictures of what is installed, matrices of features. Out: text for a terminal, an SVG picture, distances.
//! Not here: bundles, networks, and who is installed; the caller says so.

mod ascii;
mod check;
pub mod distances;
mod layout;
mod svg;
mod terminal;
mod tree;

pub use svg::draw_svg;
pub use terminal::{TerminalStyle, draw, tell};
pub use tree::{Algorithm, Branch, Paper, Run, Tree};
