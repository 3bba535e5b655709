//! Families: which stages make a picture, in which order, with which sampler.
//!
//! In: a bundle, a resolved request, a plan. Out: pictures. Not here: file formats, the command line, ONNX Runtime.

mod denoise;
mod latent_diffusion;
mod observer;

pub use latent_diffusion::{LatentDiffusion, Painted};
pub use observer::{Event, Observer};
