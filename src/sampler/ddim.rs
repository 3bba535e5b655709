//! Denoising diffusion implicit models (DDIM).
//!
//! J. Song, C. Meng, S. Ermon, 2020, arXiv:2010.02502. Uses eq. 12 and 16.
//!
//! In: the denoiser's prediction at a timestep; noise where η is above 0. Out: the sample one step cleaner.
//! Not here: drawing noise, guidance.
//!
//! | here                 | paper     | meaning                                  |
//! |----------------------|-----------|------------------------------------------|
//! | `alpha_bar`          | α_t       | signal kept at this timestep             |
//! | `alpha_bar_next`     | α_{t−1}   | signal kept one stride further on        |
//! | `eta`                | η         | 0 deterministic, 1 as random as DDPM     |
//! | `deviation`          | σ_t       | spread of the noise put back             |
//! | `predicted_original` | f_θ(x_t)  | estimate of x₀                           |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::{clean, limited, noise as predicted_noise};
use super::schedule::{AlphaBars, as_f32, whole_timesteps};
use super::{Run, Sampler, Step, checked, combine, in_range};

pub(super) struct Ddim {
    config: Config,
    alpha_bars: AlphaBars,
    timesteps: Vec<i64>,
    shown: Vec<f32>,
    /// Timesteps from one step to the next. diffusers counts on by this stride whatever the spacing, so that with the
    /// trailing or linspace spacing a step may not lead exactly to the next entry of `timesteps`.
    stride: i64,
    eta: f32,
}

impl Ddim {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let alpha_bars = AlphaBars::new(config)?;
        let timesteps = whole_timesteps(config, run.steps);
        alpha_bars.check_visits(config, &timesteps)?;
        Ok(Self {
            shown: as_f32(&timesteps),
            config: config.clone(),
            alpha_bars,
            timesteps,
            stride: (config.num_train_timesteps / run.steps.max(1)) as i64,
            eta: run.eta.unwrap_or(0.0) as f32,
        })
    }
}

impl Sampler for Ddim {
    fn timesteps(&self) -> &[f32] {
        &self.shown
    }

    fn takes_noise(&self, index: usize) -> bool {
        self.eta > 0.0 && index < self.timesteps.len()
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
        let alpha_bar_next = self.alpha_bars.at_or_beyond(timestep - self.stride)?;
        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());

        let kind = self.config.prediction;
        let predicted_original = limited(&self.config, clean(kind, prediction, sample, signal, spread))?;
        let epsilon = predicted_noise(kind, prediction, sample, signal, spread);

        // eq. 16
        let variance = (1.0 - alpha_bar_next) / (1.0 - alpha_bar) * (1.0 - alpha_bar / alpha_bar_next);
        let deviation = self.eta * variance.sqrt();
        // eq. 12. At η = 1 and zero terminal SNR rounding may leave a trace below zero under the root.
        let direction = (1.0 - alpha_bar_next - deviation * deviation).max(0.0).sqrt();
        let signal_next = alpha_bar_next.sqrt();
        let mut sample = combine(&predicted_original, &epsilon, |clean, epsilon| signal_next * clean + direction * epsilon);
        if let Some(noise) = noise {
            sample = combine(&sample, noise, |x, noise| x + deviation * noise);
        }
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        self.alpha_bars.add_noise(original, noise, self.timesteps[index])
    }
}
