//! Flow matching and rectified flow, integrated with Euler's method.
//!
//! X. Liu, C. Gong, Q. Liu, 2022, "Flow Straight and Fast", arXiv:2209.03003, eq. 1; Y. Lipman et al., 2022, "Flow Matching
//! for Generative Modeling", arXiv:2210.02747; P. Esser et al., 2024, "Scaling Rectified Flow Transformers for
//! High-Resolution Image Synthesis", arXiv:2403.03206, eq. 23 (shift by resolution).
//!
//! In: the denoiser's velocity at a noise level; noise for every step with stochastic sampling. Out: the sample at the next
//! level.
//! Not here: packing latents into patches, drawing noise.
//!
//! | here       | paper   | meaning                                           |
//! |------------|---------|---------------------------------------------------|
//! | `sigma`    | t       | share of noise in the sample (1 − σ) x₀ + σ ε     |
//! | prediction | v       | velocity ε − x₀                                   |
//! | `shift`    | α       | leans the levels towards the noisy end            |
//! | `mu`       | ln α    | the same, from the number of patches              |

use anyhow::{Result, bail};
use ndarray::ArrayD;

use super::config::Config;
use super::schedule::evenly;
use super::settings::{Prediction, SigmaSchedule, TimeShift};
use super::sigma::{all_finite, spread};
use super::{Run, Sampler, Step, checked, combine, in_range, prediction, same_shape};
use crate::refuse;

pub(super) struct FlowMatchEuler {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    stochastic: bool,
}

/// The noise levels that Flux and its like hand to their sampler: evenly from 1 to 1/`steps`.
#[must_use]
pub fn linear_sigmas(steps: usize) -> Vec<f32> {
    evenly(1.0, 1.0 / steps.max(1) as f64, steps).into_iter().map(|sigma| sigma as f32).collect()
}

/// Leans a level towards the noisy end; in f32 where `round` says so.
fn shifted(shift: f64, sigma: f64, round: impl Fn(f64) -> f64) -> f64 {
    let (factor, excess) = (round(shift), round(shift - 1.0));
    round(round(factor * sigma) / round(1.0 + round(excess * sigma)))
}

/// The largest and smallest level of training, which are stored with the shift applied; a run's own levels are then shifted
/// once more, and the pictures that diffusers makes depend on it.
pub(super) fn trained_range(num_train_timesteps: usize, shift: Option<f64>) -> (f64, f64) {
    let single = |value: f64| f64::from(value as f32);
    let level = |timestep: f64| {
        let sigma = single(timestep / num_train_timesteps as f64);
        shift.map_or(sigma, |shift| shifted(shift, sigma, single))
    };
    (level(num_train_timesteps as f64), level(1.0))
}

/// A run's own levels before and after the shift, in f64.
pub(super) fn even_levels(config: &Config, range: (f64, f64), steps: usize) -> Vec<f64> {
    let trained = config.num_train_timesteps as f64;
    evenly(range.0 * trained, range.1 * trained, steps).into_iter().map(|timestep| timestep / trained).collect()
}

/// Applies the constant shift of `config` to levels in f64.
pub(super) fn with_shift(config: &Config, sigmas: &[f64]) -> Vec<f64> {
    sigmas.iter().map(|sigma| shifted(config.shift, *sigma, |value| value)).collect()
}

/// The shift of dynamic shifting for `run`, where the configuration has one.
pub(super) fn dynamic_shift(config: &Config, run: &Run) -> Result<Option<f64>> {
    if !config.use_dynamic_shifting {
        return Ok(None);
    }
    match (run.mu, run.image_sequence_length) {
        (Some(mu), _) => Ok(Some(mu)),
        (None, Some(length)) => Ok(Some(config.mu(length))),
        (None, None) => bail!("`use_dynamic_shifting` is true, so the run must state `mu` or the image sequence length"),
    }
}

impl FlowMatchEuler {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let Levels { timesteps, sigmas } = Levels::new(config, run)?;
        Ok(Self { timesteps, sigmas, stochastic: config.stochastic_sampling })
    }
}

/// The noise levels of a run, with the one at which it ends, and the timesteps that the network sees.
pub(super) struct Levels {
    pub(super) timesteps: Vec<f32>,
    pub(super) sigmas: Vec<f32>,
}

impl Levels {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let mu = dynamic_shift(config, run)?;
        if let (Some(sigmas), Some(timesteps)) = (&run.sigmas, &run.timesteps)
            && sigmas.len() != timesteps.len()
        {
            refuse!(
                "there are {} sigmas and {} timesteps, expected as many of one as of the other",
                sigmas.len(),
                timesteps.len()
            );
        }
        // Levels that a person gives are f32 and stay so until the spread; levels of the sampler's own are f64.
        let trained = config.num_train_timesteps as f32;
        let given: Option<Vec<f32>> = match (&run.sigmas, &run.timesteps) {
            (Some(sigmas), _) => Some(sigmas.clone()),
            (None, Some(timesteps)) => Some(timesteps.iter().map(|timestep| timestep / trained).collect()),
            (None, None) => None,
        };
        if let Some(position) = given.iter().flatten().position(|sigma| !(0.0..=1.0).contains(sigma)) {
            refuse!("sigmas[{position}] is not a number from 0 to 1");
        }
        let is_single = given.is_some();
        let round = |value: f64| if is_single { f64::from(value as f32) } else { value };
        let mut sigmas: Vec<f64> = match given {
            Some(given) => given.into_iter().map(f64::from).collect(),
            None => {
                let shift = (!config.use_dynamic_shifting).then_some(config.shift);
                even_levels(config, trained_range(config.num_train_timesteps, shift), run.steps)
            }
        };
        for sigma in &mut sigmas {
            *sigma = match mu {
                None => shifted(config.shift, *sigma, round),
                Some(mu) => {
                    let shift = match config.time_shift {
                        TimeShift::Exponential => mu.exp(),
                        TimeShift::Linear => mu,
                    };
                    let odds = round(round(1.0 / *sigma) - 1.0);
                    round(round(shift) / round(round(shift) + odds))
                }
            };
        }
        let (Some(first), Some(last)) = (sigmas.first().copied(), sigmas.last().copied()) else {
            refuse!("sigmas are empty, expected one for each step");
        };
        let mut ends = (first, last);
        if let Some(terminal) = config.shift_terminal {
            let scale = round(round(1.0 - last) / round(1.0 - terminal));
            if scale == 0.0 {
                refuse!("the last noise level is 1, which `shift_terminal` {terminal} cannot stretch; use more steps");
            }
            for sigma in &mut sigmas {
                *sigma = round(1.0 - round(round(1.0 - *sigma) / scale));
            }
            ends = (sigmas[0], sigmas[sigmas.len() - 1]);
        }
        if config.sigma_schedule == SigmaSchedule::Exponential && (ends.0 <= 0.0 || ends.1 <= 0.0) {
            refuse!("a noise level is 0, which has no place among exponential ones; leave it out");
        }
        if let Some(spread) = spread(config, ends.0, ends.1, sigmas.len()) {
            sigmas = spread;
        }
        Self::finished(config, run, &sigmas)
    }

    /// Derives the timesteps and appends the level at which the run ends.
    fn finished(config: &Config, run: &Run, sigmas: &[f64]) -> Result<Self> {
        let trained = config.num_train_timesteps as f32;
        let mut sigmas = all_finite(sigmas.iter().map(|sigma| *sigma as f32).collect())?;
        let mut timesteps = match &run.timesteps {
            Some(timesteps) => timesteps.clone(),
            None => sigmas.iter().map(|sigma| sigma * trained).collect(),
        };
        if config.invert_sigmas {
            // Models that count from the clean end (Mochi) see 1 − σ.
            sigmas = sigmas.iter().map(|sigma| 1.0 - sigma).collect();
            timesteps = sigmas.iter().map(|sigma| sigma * trained).collect();
            sigmas.push(1.0);
        } else {
            sigmas.push(0.0);
        }
        Ok(Self { timesteps, sigmas })
    }
}

impl Sampler for FlowMatchEuler {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn takes_noise(&self, index: usize) -> bool {
        self.stochastic && index < self.timesteps.len()
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
        let predicted_original = prediction::clean(Prediction::Flow, prediction, sample, 1.0 - sigma, sigma);
        let sample = match noise {
            Some(noise) => combine(&predicted_original, noise, |clean, noise| (1.0 - next) * clean + next * noise),
            None => {
                let distance = next - sigma;
                combine(sample, prediction, |x, velocity| x + distance * velocity)
            }
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        same_shape("noise", noise, original)?;
        Ok(along_path(self.sigmas[index], original, noise))
    }
}

/// The point of the straight path between picture and noise at level `sigma`.
pub(super) fn along_path(sigma: f32, original: &ArrayD<f32>, noise: &ArrayD<f32>) -> ArrayD<f32> {
    combine(original, noise, |clean, noise| sigma * noise + (1.0 - sigma) * clean)
}
