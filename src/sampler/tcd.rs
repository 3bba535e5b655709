//! Trajectory consistency distillation (TCD), strategic stochastic sampling.
//!
//! J. Zheng et al., 2024, "Trajectory Consistency Distillation", arXiv:2402.19159. Uses its strategic stochastic
//! sampling (γ-sampling).
//!
//! In: the denoiser's prediction at a timestep; noise for every step but the last where η is above 0. Out: the sample at
//! the next timestep.
//! Not here: drawing noise.
//!
//! | here        | paper | meaning                                                        |
//! |-------------|-------|----------------------------------------------------------------|
//! | `eta`       | γ     | 0 deterministic, 1 back to x₀ before noise is added            |
//! | `reached`   | s     | the timestep the network jumps to, (1 − γ) of the next one     |
//! | `alpha_bar` | α²    | signal kept                                                    |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::lcm::{teacher_steps, teacher_timesteps};
use super::prediction::{clean, noise as predicted_noise};
use super::schedule::{AlphaBars, Distilled, as_f32};
use super::settings::Prediction;
use super::{Run, Sampler, Step, checked, combine, in_range};

/// The paper's γ for few steps.
const DEFAULT_ETA: f64 = 0.3;

pub(super) struct Tcd {
    prediction: Prediction,
    alpha_bars: AlphaBars,
    timesteps: Vec<i64>,
    shown: Vec<f32>,
    /// The step count that the step without noise is recognised by.
    counted: usize,
    eta: f64,
}

impl Tcd {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let alpha_bars = AlphaBars::new(config)?;
        let strength = run.strength.unwrap_or(1.0);
        let trained = config.num_train_timesteps;
        let (teacher_steps, origin) = match run.original_steps {
            // A teacher named for this run stands for one that was distilled at every timestep, and its steps are a mere limit.
            Some(steps) => (steps, (0..(trained as f64 * strength) as i64).collect()),
            None => {
                let steps = teacher_steps(config, run)?;
                (steps, teacher_timesteps(steps, trained / steps, strength))
            }
        };
        let Distilled { timesteps, counted } = Distilled::new(config, run, &origin, teacher_steps)?;
        // TCD limits nothing, whatever the configuration says.
        let mut unlimited = config.clone();
        (unlimited.clip_sample, unlimited.thresholding) = (false, false);
        alpha_bars.check_visits(&unlimited, &timesteps)?;
        Ok(Self {
            prediction: config.prediction,
            alpha_bars,
            shown: as_f32(&timesteps),
            timesteps,
            counted,
            eta: run.eta.unwrap_or(DEFAULT_ETA),
        })
    }
}

impl Sampler for Tcd {
    fn timesteps(&self) -> &[f32] {
        &self.shown
    }

    fn takes_noise(&self, index: usize) -> bool {
        self.eta > 0.0 && index < self.timesteps.len() && index + 1 != self.counted
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
        let next = self.timesteps.get(index + 1).copied().unwrap_or(0);
        let reached = ((1.0 - self.eta) as f32 * next as f32).floor() as i64;
        let alpha_bar = self.alpha_bars.at(self.timesteps[index])?;
        let alpha_bar_next = self.alpha_bars.at_or_beyond(next)?;
        let alpha_bar_reached = self.alpha_bars.at(reached)?;

        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let predicted_original = clean(self.prediction, prediction, sample, signal, spread);
        let epsilon = predicted_noise(self.prediction, prediction, sample, signal, spread);
        let (signal_reached, spread_reached) = (alpha_bar_reached.sqrt(), (1.0 - alpha_bar_reached).sqrt());
        let mut sample =
            combine(&predicted_original, &epsilon, |clean, epsilon| signal_reached * clean + spread_reached * epsilon);
        if let Some(noise) = noise {
            let kept = alpha_bar_next / alpha_bar_reached;
            let (kept_signal, added) = (kept.sqrt(), (1.0 - kept).sqrt());
            sample = combine(&sample, noise, |x, noise| kept_signal * x + added * noise);
        }
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        self.alpha_bars.add_noise(original, noise, self.timesteps[index])
    }
}
