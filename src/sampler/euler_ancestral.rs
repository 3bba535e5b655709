//! Euler's method with ancestral noise.
//!
//! The step is that of T. Karras et al., 2022, arXiv:2206.00364, algorithm 2, to a level below the next one; the noise that
//! brings it back up has the variance of the posterior in J. Song, C. Meng, S. Ermon, 2020, arXiv:2010.02502, eq. 16 at η = 1.
//!
//! In: the denoiser's prediction at a noise level, and noise for every step, the last one too: diffusers draws it there and
//! multiplies it with 0, and later pictures of a batch depend on what was drawn. Out: the sample at the next level.
//! Not here: drawing noise.
//!
//! | here         | meaning                                     |
//! |--------------|---------------------------------------------|
//! | `sigma_down` | level that the deterministic step leads to  |
//! | `sigma_up`   | spread of the noise that is added after it  |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::euler::start;
use super::prediction::clean_at_sigma;
use super::schedule::{AlphaBars, fractional_timesteps};
use super::settings::{Prediction, Spacing};
use super::sigma::{SigmaTable, add_noise, to_unit_variance};
use super::{Run, Sampler, Step, checked, combine, in_range};

pub(super) struct EulerAncestral {
    prediction: Prediction,
    spacing: Spacing,
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
}

impl EulerAncestral {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let table = SigmaTable::new(&AlphaBars::new(config)?.with_finite_end(config)?);
        let timesteps = fractional_timesteps(config, run.steps);
        let mut sigmas: Vec<f32> = timesteps.iter().map(|timestep| table.at(f64::from(*timestep)) as f32).collect();
        sigmas.push(0.0);
        Ok(Self { prediction: config.prediction, spacing: config.spacing, timesteps, sigmas })
    }
}

impl Sampler for EulerAncestral {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn init_noise_sigma(&self) -> f32 {
        start(self.spacing, &self.sigmas)
    }

    fn takes_noise(&self, index: usize) -> bool {
        index < self.timesteps.len()
    }

    fn scale_model_input(&self, sample: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        Ok(to_unit_variance(sample, self.sigmas[index]))
    }

    fn is_linear(&self) -> bool {
        true
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        let noise = checked(self, index, prediction, sample, noise)?;
        let (sigma, next) = (self.sigmas[index], self.sigmas[index + 1]);
        let predicted_original = clean_at_sigma(self.prediction, prediction, sample, sigma);

        let (variance, variance_next) = (sigma * sigma, next * next);
        let sigma_up = (variance_next * (variance - variance_next) / variance).sqrt();
        // Far above the next level rounding may leave a trace below zero under the root.
        let sigma_down = (variance_next - sigma_up * sigma_up).max(0.0).sqrt();
        let distance = sigma_down - sigma;
        let mut sample = combine(sample, &predicted_original, |x, clean| x + (x - clean) / sigma * distance);
        if let Some(noise) = noise {
            sample = combine(&sample, noise, |x, noise| x + noise * sigma_up);
        }
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        add_noise(&self.sigmas, self.timesteps.len(), original, noise, index)
    }
}
