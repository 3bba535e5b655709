//! Multistep sampling of consistency models.
//!
//! Y. Song, P. Dhariwal, M. Chen, I. Sutskever, 2023, "Consistency Models", arXiv:2303.01469. Uses eq. 5 in the form of
//! appendix C, and algorithm 1.
//!
//! In: the network's raw prediction at a noise level; noise for every step of a run with more than one, the last one too
//! (where it is multiplied with 0). Out: the sample at the next level.
//! Not here: class labels, drawing noise.
//!
//! | here          | paper     | meaning                                    |
//! |---------------|-----------|--------------------------------------------|
//! | `sigma`       | t         | noise level                                |
//! | `SIGMA_MIN`   | ε         | level at which the function is the identity |
//! | `clean_share` | c_out(t)  | factor of the network's prediction         |
//! | `kept_share`  | c_skip(t) | factor of the sample                       |
//! | `denoised`    | f_θ(x, t) | the consistency function                   |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::clipped;
use super::schedule::whole_falling;
use super::sigma::{add_noise, all_finite, karras};
use super::{Run, Sampler, Step, checked, combine, in_range};

/// The levels that the published models were trained between, unless their configuration says otherwise.
const SIGMA_MIN: f64 = 0.002;
const SIGMA_MAX: f64 = 80.0;

pub(super) struct Consistency {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    sigma_min: f32,
    sigma_max: f32,
    sigma_data: f32,
    noise_scale: f32,
    clips: bool,
}

impl Consistency {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let trained = config.num_train_timesteps;
        let places: Vec<i64> = match &run.timesteps {
            Some(timesteps) => whole_falling(config, timesteps)?,
            None => (0..run.steps).rev().map(|step| (step * (trained / run.steps)) as i64).collect(),
        };
        // The places count from the noisy end, though they are given from the clean one.
        let ramp: Vec<f64> = places.iter().rev().map(|place| *place as f64 / (trained as f64 - 1.0)).collect();
        let (smallest, largest) = (config.sigma_min.unwrap_or(SIGMA_MIN), config.sigma_max.unwrap_or(SIGMA_MAX));
        let levels = karras(&ramp, largest, smallest, config.rho);
        let timesteps = levels.iter().map(|sigma| (1000.0 * 0.25 * (sigma + 1e-44).ln()) as f32).collect();
        let mut sigmas: Vec<f32> = levels.into_iter().map(|sigma| sigma as f32).collect();
        sigmas.push(smallest as f32);
        Ok(Self {
            timesteps,
            sigmas: all_finite(sigmas)?,
            sigma_min: smallest as f32,
            sigma_max: largest as f32,
            sigma_data: config.sigma_data as f32,
            noise_scale: config.s_noise as f32,
            clips: config.clip_denoised,
        })
    }
}

impl Sampler for Consistency {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn init_noise_sigma(&self) -> f32 {
        self.sigma_max
    }

    fn takes_noise(&self, index: usize) -> bool {
        self.timesteps.len() > 1 && index < self.timesteps.len()
    }

    fn scale_model_input(&self, sample: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        let sigma = self.sigmas[index];
        let deviation = (sigma * sigma + self.sigma_data * self.sigma_data).sqrt();
        Ok(sample.mapv(|value| value / deviation))
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        let noise = checked(self, index, prediction, sample, noise)?;
        let sigma = self.sigmas[index];
        let above = sigma - self.sigma_min;
        let data = self.sigma_data * self.sigma_data;
        let kept_share = data / (above * above + data);
        let clean_share = above * self.sigma_data / (sigma * sigma + data).sqrt();
        let mut denoised = combine(prediction, sample, |clean, x| clean_share * clean + kept_share * x);
        if self.clips {
            denoised = clipped(denoised, 1.0);
        }
        let sample = match noise {
            Some(noise) => {
                let next = self.sigmas[index + 1].max(self.sigma_min).min(self.sigma_max);
                let deviation = (next * next - self.sigma_min * self.sigma_min).sqrt();
                combine(&denoised, noise, |clean, noise| clean + noise * self.noise_scale * deviation)
            }
            None => denoised.clone(),
        };
        Ok(Step { sample, predicted_original: denoised })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        add_noise(&self.sigmas, self.timesteps.len(), original, noise, index)
    }
}
