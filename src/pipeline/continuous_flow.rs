//! Continuous normalizing flow, trained by flow matching: a velocity field between noise and pictures, integrated.
//!
//! Y. Lipman et al., 2022, "Flow Matching for Generative Modeling", arXiv:2210.02747; X. Liu, C. Gong, Q. Liu, 2022, "Flow Straight and
//! Fast", arXiv:2209.03003, eq. 1. The network predicts the velocity noise − picture at x = (1 − σ) picture + σ noise, so that
//! dx/dσ is its prediction, and is told 1000 σ. σ goes from 1 to 0 for a picture, and back for its latent; the likelihood is that of
//! the latent and the divergence on the way.
//!
//! In: a resolved request. Out: pictures, latents, nats. Not here: the solvers (`ode`), the trace (`field`).

use anyhow::Result;
use ndarray::{ArrayD, Zip};

use super::field::Equation;
use super::job::{Inverted, Job, Painted};
use super::observer::Observer;
use super::{diffusion, integrated};

/// What the network is told at σ = 1.
const TIMESTEPS: f64 = 1000.0;
/// The part of the noise level that a difference is taken over, and the least level that it is reckoned from.
const WIDTH: f64 = 0.01;
const LEAST_LEVEL: f64 = 0.2;

/// Time is σ.
pub(super) struct Velocity;

impl Equation for Velocity {
    fn ends(&self) -> (f64, f64) {
        (0.0, 1.0)
    }

    fn noise_deviation(&self) -> f64 {
        1.0
    }

    fn timestep(&self, time: f64) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "the network takes f32")]
        let timestep = (TIMESTEPS * time) as f32;
        timestep
    }

    fn slope(&self, _: f64, prediction: ArrayD<f32>) -> ArrayD<f32> {
        prediction
    }

    fn estimate(&self, time: f64, sample: &ArrayD<f32>, slope: &ArrayD<f32>) -> ArrayD<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "samples are f32")]
        let sigma = time as f32;
        Zip::from(sample).and(slope).map_collect(|x, velocity| x - sigma * velocity)
    }

    fn width(&self, time: f64) -> f64 {
        WIDTH * time.max(LEAST_LEVEL)
    }

    /// Closer together near pictures, where they fill few of their dimensions and the divergence grows like 1/σ.
    fn likelihood_times(&self, steps: usize) -> Vec<f64> {
        crate::ode::evenly(0.0, 1.0, steps).into_iter().map(|time| time * time).collect()
    }
}

/// Makes the pictures.
pub(super) fn generate(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    if job.request.sampler.is_some() {
        return diffusion::generate(job, observer);
    }
    integrated::generate(job, &Velocity, observer)
}

/// The latent of `picture`, `[1, C, H, W]` f32 in [-1, 1], and the picture that it gives again.
pub(super) fn invert(job: &mut Job<'_>, picture: &ArrayD<f32>, observer: &mut dyn Observer) -> Result<Inverted> {
    integrated::invert(job, &Velocity, picture, observer)
}

/// The log-likelihood of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats, by an estimate of the trace.
pub(super) fn log_likelihood(job: &mut Job<'_>, picture: &ArrayD<f32>, observer: &mut dyn Observer) -> Result<f64> {
    integrated::log_likelihood(job, &Velocity, picture, observer)
}
