//! Euler's method over noise levels.
//!
//! T. Karras et al., 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364, algorithm
//! 2 without churn and without the second-order correction.
//!
//! In: the denoiser's prediction at a noise level. Out: the sample at the next one.
//! Not here: churn (no pipeline of diffusers asks for it), guidance.
//!
//! | here                 | paper      | meaning                      |
//! |----------------------|------------|------------------------------|
//! | `sigma`              | σ(t_i)     | noise level                  |
//! | `predicted_original` | D_θ(x; σ)  | estimate of the clean sample |
//! | `derivative`         | d_i        | dx/dσ                        |

use anyhow::{Result, bail};
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::clean_at_sigma;
use super::schedule::{AlphaBars, evenly_f32, fractional_timesteps};
use super::settings::{FinalSigma, Interpolation, Prediction, Spacing, TimestepType};
use super::sigma::{SigmaTable, add_noise, all_finite, exponential, logarithm, spread, to_unit_variance};
use super::{Run, Sampler, Step, checked, combine, in_range};
use crate::refuse;

pub(super) struct Euler {
    prediction: Prediction,
    spacing: Spacing,
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
}

impl Euler {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let table = SigmaTable::new(&AlphaBars::new(config)?.with_finite_end(config)?);
        let is_continuous = config.timestep_type == TimestepType::Continuous && config.prediction == Prediction::Velocity;
        let (mut timesteps, sigmas) = match &run.sigmas {
            Some(sigmas) => (timesteps_of(&table, sigmas)?, sigmas.clone()),
            None => levels(config, run, &table)?,
        };
        if is_continuous {
            if run.timesteps.is_some() {
                refuse!("timesteps are given, but this model's timesteps are logarithms of noise levels; give sigmas instead");
            }
            timesteps = sigmas.iter().take(sigmas.len() - 1).map(|sigma| 0.25 * logarithm(*sigma)).collect();
        }
        Ok(Self { prediction: config.prediction, spacing: config.spacing, timesteps, sigmas })
    }
}

/// The timesteps of a person's own noise levels, the last of which is where the run ends.
fn timesteps_of(table: &SigmaTable, sigmas: &[f32]) -> Result<Vec<f32>> {
    let Some((last, visited)) = sigmas.split_last() else { refuse!("sigmas are empty, expected at least two") };
    if visited.is_empty() {
        refuse!("sigmas has one value, expected one for each step and the last, which is mostly 0");
    }
    if !last.is_finite() || *last < 0.0 {
        refuse!("the last of sigmas is {last}, expected a number from 0");
    }
    if let Some(position) = visited.iter().position(|sigma| !sigma.is_finite() || *sigma <= 0.0) {
        refuse!("sigmas[{position}] is {}, expected a positive number", visited[position]);
    }
    Ok(visited.iter().map(|sigma| table.timestep_f32(*sigma) as f32).collect())
}

/// The timesteps and noise levels that follow from the configuration.
fn levels(config: &Config, run: &Run, table: &SigmaTable) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut timesteps = match &run.timesteps {
        Some(timesteps) => timesteps.clone(),
        None => fractional_timesteps(config, run.steps),
    };
    let steps = if run.timesteps.is_some() { timesteps.len() } else { run.steps };
    let mut sigmas: Vec<f64> = match config.interpolation {
        Interpolation::Linear => timesteps.iter().map(|timestep| table.at(f64::from(*timestep))).collect(),
        // One level more than there are timesteps: the last step then ends at the smallest level, not at the final one.
        Interpolation::LogLinear => evenly_f32(logarithm(table.largest()), logarithm(table.smallest()), steps + 1)
            .into_iter()
            .map(|exponent| f64::from(exponential(exponent)))
            .collect(),
    };
    let (Some(first), Some(last)) = (sigmas.first(), sigmas.last()) else { bail!("no timesteps, expected at least one") };
    if let Some(spread) = spread(config, *first, *last, steps) {
        timesteps = spread.iter().map(|sigma| table.timestep(*sigma) as f32).collect();
        sigmas = spread;
    }
    sigmas.push(match config.final_sigma {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => f64::from(table.smallest()),
    });
    Ok((timesteps, all_finite(sigmas.into_iter().map(|sigma| sigma as f32).collect())?))
}

/// The spread of the noise that a run over noise levels starts with: where the largest level stands for pure noise, that
/// level, otherwise noise on top of a sample of variance 1.
pub(super) fn start(spacing: Spacing, sigmas: &[f32]) -> f32 {
    let largest = sigmas.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    match spacing {
        Spacing::Linspace | Spacing::Trailing => largest,
        Spacing::Leading => (largest * largest + 1.0).sqrt(),
    }
}

impl Sampler for Euler {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn init_noise_sigma(&self) -> f32 {
        start(self.spacing, &self.sigmas)
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
        checked(self, index, prediction, sample, noise)?;
        let sigma = self.sigmas[index];
        let predicted_original = clean_at_sigma(self.prediction, prediction, sample, sigma);
        let distance = self.sigmas[index + 1] - sigma;
        let sample = combine(sample, &predicted_original, |x, clean| {
            let derivative = (x - clean) / sigma;
            x + derivative * distance
        });
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        add_noise(&self.sigmas, self.timesteps.len(), original, noise, index)
    }
}
