//! Score-based generative model: the gradient of the log-density at each noise level, followed by chance or without.
//!
//! Y. Song, S. Ermon, 2019, "Generative Modeling by Estimating Gradients of the Data Distribution", arXiv:1907.05600; Y. Song,
//! J. Sohl-Dickstein, D. P. Kingma, A. Kumar, S. Ermon, B. Poole, 2020, "Score-Based Generative Modeling through Stochastic
//! Differential Equations", arXiv:2011.13456. The network predicts the score of x = picture + σ noise and is told σ. Its samplers
//! (`ve`, `vp`, `langevin`) are in `sampler`; without one the probability-flow ODE (eq. 13) is integrated, which at exploding
//! variance is dx / d ln σ = −σ² score, from the largest level to the smallest for a picture, and back for its latent and its
//! likelihood (section D.2).
//!
//! In: a resolved request. Out: pictures, latents (of the largest level's width), nats. Not here: the solvers (`ode`), the trace
//! (`field`).

use anyhow::{Result, bail};
use ndarray::{ArrayD, Zip};

use super::field::Equation;
use super::job::{Inverted, Job, Painted};
use super::observer::Observer;
use super::{diffusion, integrated};
use crate::bundle::Family;
use crate::request::widen;

/// The part of the noise level that a difference is taken over.
const WIDTH: f64 = 0.01;

/// Time is ln σ.
pub(super) struct ProbabilityFlow {
    pub(super) sigma_min: f64,
    pub(super) sigma_max: f64,
}

impl ProbabilityFlow {
    fn of(job: &Job<'_>) -> Result<Self> {
        match job.bundle.family {
            Family::Score { sigma_min, sigma_max } => Ok(Self { sigma_min: widen(sigma_min), sigma_max: widen(sigma_max) }),
            _ => bail!("model {} is no score network", job.bundle.name()),
        }
    }
}

impl Equation for ProbabilityFlow {
    fn ends(&self) -> (f64, f64) {
        (self.sigma_min.ln(), self.sigma_max.ln())
    }

    fn noise_deviation(&self) -> f64 {
        self.sigma_max
    }

    fn timestep(&self, time: f64) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "the network takes f32")]
        let sigma = time.exp() as f32;
        sigma
    }

    fn slope(&self, time: f64, prediction: ArrayD<f32>) -> ArrayD<f32> {
        #[expect(clippy::cast_possible_truncation, reason = "samples are f32")]
        let variance = (2.0 * time).exp() as f32;
        prediction.mapv_into(|score| -variance * score)
    }

    fn estimate(&self, _: f64, sample: &ArrayD<f32>, slope: &ArrayD<f32>) -> ArrayD<f32> {
        Zip::from(sample).and(slope).map_collect(|x, slope| x - slope)
    }

    fn width(&self, time: f64) -> f64 {
        WIDTH * time.exp()
    }
}

/// Makes the pictures.
pub(super) fn generate(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    if job.request.sampler.is_some() {
        return diffusion::generate(job, observer);
    }
    let equation = ProbabilityFlow::of(job)?;
    integrated::generate(job, &equation, observer)
}

/// The latent of `picture`, `[1, C, H, W]` f32 in [-1, 1], and the picture that it gives again.
pub(super) fn invert(job: &mut Job<'_>, picture: &ArrayD<f32>, observer: &mut dyn Observer) -> Result<Inverted> {
    let equation = ProbabilityFlow::of(job)?;
    integrated::invert(job, &equation, picture, observer)
}

/// The log-likelihood of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats, by an estimate of the trace.
pub(super) fn log_likelihood(job: &mut Job<'_>, picture: &ArrayD<f32>, observer: &mut dyn Observer) -> Result<f64> {
    let equation = ProbabilityFlow::of(job)?;
    integrated::log_likelihood(job, &equation, picture, observer)
}
