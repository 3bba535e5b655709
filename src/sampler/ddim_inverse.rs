//! DDIM inversion: from a clean picture back to the noise that DDIM makes it from.
//!
//! J. Song, C. Meng, S. Ermon, 2020, "Denoising Diffusion Implicit Models", arXiv:2010.02502. Uses eq. 12 with the two levels
//! exchanged, which is eq. 14 followed backwards.
//!
//! In: the denoiser's prediction at a timestep, cleanest first. Out: the sample one step noisier.
//! Not here: the noise that a picture would get at random (`add_noise` of `ddim`).
//!
//! | here                 | paper     | meaning                                          |
//! |----------------------|-----------|--------------------------------------------------|
//! | `alpha_bar`          | α_{t−1}   | signal kept in the sample that is given          |
//! | `alpha_bar_next`     | α_t       | signal kept at this timestep, where it leads to  |
//! | `predicted_original` | f_θ       | estimate of x₀                                   |
//!
//! The prediction at the noisier end of a step is taken for the one at its cleaner end, so the way there and back meets the
//! same picture only as closely as neighbouring steps agree: the more steps, the closer.

use anyhow::{Result, bail};
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::{clean, limited, noise as predicted_noise};
use super::schedule::{AlphaBars, as_f32, whole_timesteps};
use super::settings::Prediction;
use super::{Run, Sampler, Step, checked, combine, in_range, same_shape};

pub(super) struct DdimInverse {
    config: Config,
    alpha_bars: AlphaBars,
    timesteps: Vec<i64>,
    shown: Vec<f32>,
    /// Timesteps from one step to the next, as in `ddim`.
    stride: i64,
}

impl DdimInverse {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let alpha_bars = AlphaBars::new(config)?;
        let mut timesteps = whole_timesteps(config, run.steps);
        timesteps.reverse();
        let stride = (config.num_train_timesteps / run.steps.max(1)) as i64;
        alpha_bars.check_visits(&Config { clip_sample: true, ..config.clone() }, &timesteps)?;
        for timestep in &timesteps {
            if config.prediction == Prediction::Sample && alpha_bars.at_or_beyond(timestep - stride)? == 1.0 {
                bail!(
                    "`prediction_type` is `sample`, from which the noise of a sample without any cannot be told; expected `set_alpha_to_one` false, or `epsilon` or `v_prediction`"
                );
            }
        }
        Ok(Self { shown: as_f32(&timesteps), config: config.clone(), alpha_bars, timesteps, stride })
    }

    /// ᾱ of the sample that step `index` is given.
    fn alpha_bar(&self, index: usize) -> Result<f32> {
        let last = self.config.num_train_timesteps as i64 - 1;
        self.alpha_bars.at_or_beyond((self.timesteps[index] - self.stride).min(last))
    }
}

impl Sampler for DdimInverse {
    fn timesteps(&self) -> &[f32] {
        &self.shown
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        checked(self, index, prediction, sample, noise)?;
        let alpha_bar = self.alpha_bar(index)?;
        let alpha_bar_next = self.alpha_bars.at(self.timesteps[index])?;
        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let kind = self.config.prediction;
        let predicted_original = limited(&self.config, clean(kind, prediction, sample, signal, spread))?;
        let epsilon = predicted_noise(kind, prediction, sample, signal, spread);
        // eq. 12 without fresh noise
        let (signal_next, spread_next) = (alpha_bar_next.sqrt(), (1.0 - alpha_bar_next).sqrt());
        let sample = combine(&predicted_original, &epsilon, |clean, epsilon| signal_next * clean + spread_next * epsilon);
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        same_shape("noise", noise, original)?;
        let alpha_bar = self.alpha_bar(index)?;
        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        Ok(combine(original, noise, |clean, noise| signal * clean + spread * noise))
    }
}
