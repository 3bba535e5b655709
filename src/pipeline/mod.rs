//! Families: which stages make a picture, in which order, with which sampler.
//!
//! In: a bundle, a resolved request, a plan. Out: pictures. Not here: file formats, the command line, ONNX Runtime.

mod denoise;
mod input;
mod latent_diffusion;
mod observer;
mod preview;

pub use latent_diffusion::{LatentDiffusion, Painted};
pub use observer::{Event, Observer};
