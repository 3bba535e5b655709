//! Multistep sampling of simplified, continuous-time consistency models (sCM), along TrigFlow's path.
//!
//! C. Lu, Y. Song, 2024, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models", arXiv:2410.11081. Uses TrigFlow
//! (section 3.1) and multistep sampling as of consistency models. J. Chen et al., 2025, "SANA-Sprint: One-Step Diffusion with
//! Continuous-Time Consistency Distillation", arXiv:2503.09641, has the times of two steps.
//!
//! In: the prediction of a network that jumps to the clean sample; noise for every step, the last one too (where it is multiplied
//! with 0). Out: the estimate of the clean sample, mixed with fresh noise up to the next time.
//! Not here: what a network of another path predicts for this one (`pipeline/sana_sprint.rs`).
//!
//! Samples have the deviation σ_d; what is clean, given or estimated, has deviation 1, as latents have.
//!
//! | here                 | paper           | meaning                                       |
//! |----------------------|-----------------|-----------------------------------------------|
//! | `times`              | t               | angle between data and noise, π/2 to 0        |
//! | `sigma_data`         | σ_d             | standard deviation of samples                 |
//! | prediction           | σ_d F_θ(x/σ_d, t) | velocity cos t · z − sin t · x₀             |
//! | `predicted_original` | f_θ(x, t) / σ_d | the consistency function, cos t · x − sin t · v |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::clean;
use super::schedule::evenly_f32;
use super::settings::Prediction;
use super::{Run, Sampler, Step, checked, combine, in_range, same_shape};
use crate::refuse;

/// Where a run begins: π/2 as diffusers rounds it, up.
#[expect(clippy::approx_constant, reason = "the reference's number, to the last bit")]
const MOST: f32 = 1.57080;
/// Where the second of two steps stands, which SANA-Sprint was tuned for.
const MIDDLE_OF_TWO: f32 = 1.3;

pub(super) struct Scm {
    /// The time of each network call, and 0 at the end.
    times: Vec<f32>,
    sigma_data: f32,
}

impl Scm {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let times = match &run.timesteps {
            Some(timesteps) => given(timesteps)?,
            None if run.steps == 2 => vec![MOST, MIDDLE_OF_TWO, 0.0],
            None => evenly_f32(MOST, 0.0, run.steps + 1),
        };
        Ok(Self { times, sigma_data: config.sigma_data as f32 })
    }
}

/// Times of one's own with the end behind them.
fn given(timesteps: &[f32]) -> Result<Vec<f32>> {
    for (position, time) in timesteps.iter().enumerate() {
        if !(*time > 0.0 && *time <= MOST) {
            refuse!(
                "timesteps[{position}] is {time}, expected above 0 to {MOST}: this sampler counts the way in angles, π/2 to 0"
            );
        }
        if position > 0 && *time >= timesteps[position - 1] {
            refuse!("timesteps[{position}] is {time}, expected less than the one before, {}", timesteps[position - 1]);
        }
    }
    Ok(timesteps.iter().copied().chain([0.0]).collect())
}

impl Sampler for Scm {
    fn timesteps(&self) -> &[f32] {
        &self.times[..self.times.len() - 1]
    }

    fn init_noise_sigma(&self) -> f32 {
        self.sigma_data
    }

    fn takes_noise(&self, index: usize) -> bool {
        index + 1 < self.times.len()
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        let noise = checked(self, index, prediction, sample, noise)?;
        let (time, next) = (self.times[index], self.times[index + 1]);
        let denoised = clean(Prediction::Velocity, prediction, sample, time.cos(), time.sin());
        let predicted_original = denoised.mapv(|value| value / self.sigma_data);
        let sample = match noise {
            Some(noise) => combine(&denoised, noise, |clean, noise| next.cos() * clean + next.sin() * (noise * self.sigma_data)),
            None => denoised,
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps().len())?;
        same_shape("noise", noise, original)?;
        let time = self.times[index];
        let mixed = |clean: f32, noise: f32| time.cos() * (clean * self.sigma_data) + time.sin() * (noise * self.sigma_data);
        Ok(combine(original, noise, mixed))
    }
}
