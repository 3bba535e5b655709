//! Latent consistency models (LCM), multistep consistency sampling.
//!
//! S. Luo et al., 2023, "Latent Consistency Models: Synthesizing High-Resolution Images with Few-Step Inference",
//! arXiv:2310.04378. Uses the parameterisation of the consistency function in section 4.1 and multistep sampling.
//!
//! In: the denoiser's prediction at a timestep; noise for every step but the last. Out: the sample at the next timestep.
//! Not here: the embedding of the guidance scale, drawing noise.
//!
//! | here          | paper       | meaning                                                |
//! |---------------|-------------|--------------------------------------------------------|
//! | `clean_share` | c_out(t)    | factor of the estimate of x₀                           |
//! | `kept_share`  | c_skip(t)   | factor of the sample itself, 1 at t = 0                |
//! | `denoised`    | f_θ(z, t)   | the consistency function                               |
//! | `SIGMA_DATA`  | σ_data      | standard deviation of the data                         |
//! | `stride`      | k           | training timesteps between two of the teacher's steps  |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::{clean, limited};
use super::schedule::{AlphaBars, Distilled, as_f32};
use super::{Run, Sampler, Step, checked, combine, in_range};
use crate::refuse;

const SIGMA_DATA: f32 = 0.5;

pub(super) struct Lcm {
    config: Config,
    alpha_bars: AlphaBars,
    timesteps: Vec<i64>,
    shown: Vec<f32>,
    /// The step count that the step without noise is recognised by.
    counted: usize,
}

impl Lcm {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let alpha_bars = AlphaBars::new(config)?;
        let teacher_steps = teacher_steps(config, run)?;
        let stride = config.num_train_timesteps / teacher_steps;
        let origin = teacher_timesteps(teacher_steps, stride, run.strength.unwrap_or(1.0));
        let Distilled { timesteps, counted } = Distilled::new(config, run, &origin, teacher_steps)?;
        alpha_bars.check_visits(config, &timesteps)?;
        Ok(Self { shown: as_f32(&timesteps), config: config.clone(), alpha_bars, timesteps, counted })
    }
}

/// How many steps the teacher's schedule has, at most as many as there are timesteps.
pub(super) fn teacher_steps(config: &Config, run: &Run) -> Result<usize> {
    let steps = run.original_steps.unwrap_or(config.original_inference_steps);
    if steps == 0 || steps > config.num_train_timesteps {
        refuse!("the teacher's steps (`original_inference_steps`) are {steps}, expected 1 to {}", config.num_train_timesteps);
    }
    Ok(steps)
}

/// The teacher's timesteps that `strength` leaves, cleanest first.
pub(super) fn teacher_timesteps(steps: usize, stride: usize, strength: f64) -> Vec<i64> {
    let kept = (steps as f64 * strength) as usize;
    (1..=kept).map(|step| (step * stride) as i64 - 1).collect()
}

impl Sampler for Lcm {
    fn timesteps(&self) -> &[f32] {
        &self.shown
    }

    fn takes_noise(&self, index: usize) -> bool {
        index < self.timesteps.len() && index + 1 != self.counted
    }

    fn is_linear(&self) -> bool {
        !self.config.limits()
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        let noise = checked(self, index, prediction, sample, noise)?;
        let timestep = self.timesteps[index];
        let alpha_bar = self.alpha_bars.at(timestep)?;
        let alpha_bar_next = self.alpha_bars.at_or_beyond(self.timesteps.get(index + 1).copied().unwrap_or(timestep))?;

        let predicted = clean(self.config.prediction, prediction, sample, alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let predicted = limited(&self.config, predicted)?;
        // Section 4.1, with the timestep scaled so that c_skip falls off within the first few
        let scaled = timestep as f32 * self.config.timestep_scaling as f32;
        let variance = scaled * scaled + SIGMA_DATA * SIGMA_DATA;
        let (kept_share, clean_share) = (SIGMA_DATA * SIGMA_DATA / variance, scaled / variance.sqrt());
        let denoised = combine(&predicted, sample, |clean, x| clean_share * clean + kept_share * x);

        let sample = match noise {
            Some(noise) => {
                let (signal, spread) = (alpha_bar_next.sqrt(), (1.0 - alpha_bar_next).sqrt());
                combine(&denoised, noise, |clean, noise| signal * clean + spread * noise)
            }
            None => denoised.clone(),
        };
        Ok(Step { sample, predicted_original: denoised })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        self.alpha_bars.add_noise(original, noise, self.timesteps[index])
    }
}
