//! Euler's method with the preconditioning of EDM.
//!
//! T. Karras et al., 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364. Uses eq. 5,
//! eq. 7, table 1 (preconditioning) and algorithm 2 without churn and without the second-order correction.
//!
//! In: the network's raw prediction at a noise level. Out: the sample at the next one.
//! Not here: churn, guidance.
//!
//! | here          | paper      | meaning                                    |
//! |---------------|------------|--------------------------------------------|
//! | `sigma`       | σ          | noise level                                |
//! | timestep      | c_noise(σ) | ¼ ln σ, what the network is told           |
//! | `kept_share`  | c_skip(σ)  | factor of the sample                       |
//! | `clean_share` | c_out(σ)   | factor of the network's prediction         |
//! | `sigma_data`  | σ_data     | standard deviation of the data             |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::schedule::evenly_f32;
use super::settings::{EdmSchedule, FinalSigma, Prediction};
use super::sigma::{add_noise, all_finite, exponential, karras, logarithm};
use super::{Run, Sampler, Step, checked, combine, in_range};

const SIGMA_MIN: f64 = 0.002;
const SIGMA_MAX: f64 = 80.0;

pub(super) struct EdmEuler {
    prediction: Prediction,
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    sigma_max: f64,
    sigma_data: f64,
}

impl EdmEuler {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let (smallest, largest) = (config.sigma_min.unwrap_or(SIGMA_MIN), config.sigma_max.unwrap_or(SIGMA_MAX));
        let mut sigmas: Vec<f32> = match config.edm_schedule {
            EdmSchedule::Karras => {
                let levels = karras(&evenly_as_torch(run.steps), largest, smallest, config.rho);
                levels.into_iter().map(|sigma| sigma as f32).collect()
            }
            EdmSchedule::Exponential => {
                evenly_f32(smallest.ln() as f32, largest.ln() as f32, run.steps).into_iter().rev().map(exponential).collect()
            }
        };
        sigmas = all_finite(sigmas)?;
        let timesteps = sigmas.iter().map(|sigma| 0.25 * logarithm(*sigma)).collect();
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => sigmas.last().copied().unwrap_or(smallest as f32),
        });
        Ok(Self { prediction: config.prediction, timesteps, sigmas, sigma_max: largest, sigma_data: config.sigma_data })
    }
}

/// Spaces `count` numbers evenly from 0 to 1, rounded as torch's `linspace` rounds.
fn evenly_as_torch(count: usize) -> Vec<f64> {
    let step = 1.0 / (count.max(2) - 1) as f64;
    (0..count)
        .map(|position| {
            if position < count / 2 || position == 0 {
                step * position as f64
            } else {
                (-step).mul_add((count - 1 - position) as f64, 1.0)
            }
        })
        .collect()
}

impl Sampler for EdmEuler {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn init_noise_sigma(&self) -> f32 {
        (self.sigma_max * self.sigma_max + 1.0).sqrt() as f32
    }

    fn scale_model_input(&self, sample: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        let sigma = self.sigmas[index];
        let data = (self.sigma_data * self.sigma_data) as f32;
        let scale = 1.0 / (sigma * sigma + data).sqrt();
        Ok(sample.mapv(|value| value * scale))
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
        checked(self, index, prediction, sample, noise)?;
        let sigma = self.sigmas[index];
        let data = (self.sigma_data * self.sigma_data) as f32;
        let variance = sigma * sigma + data;
        let kept_share = data / variance;
        let clean_share = match self.prediction {
            Prediction::Velocity => -sigma * self.sigma_data as f32 / variance.sqrt(),
            _ => sigma * self.sigma_data as f32 / variance.sqrt(),
        };
        let predicted_original = combine(sample, prediction, |x, clean| kept_share * x + clean_share * clean);
        let distance = self.sigmas[index + 1] - sigma;
        let sample = combine(sample, &predicted_original, |x, clean| x + (x - clean) / sigma * distance);
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        add_noise(&self.sigmas, self.timesteps.len(), original, noise, index)
    }
}
