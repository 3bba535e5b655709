//! Heun's second-order method over noise levels.
//!
//! T. Karras et al., 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364, algorithm
//! 1 (without churn).
//!
//! In: the denoiser's prediction, twice per noise level but once for the last. Out: the sample; after the first call of a
//! pair Euler's guess at the next level, after the second the corrected one.
//! Not here: churn, guidance.
//!
//! | here         | paper       | meaning                                 |
//! |--------------|-------------|-----------------------------------------|
//! | `sigma`      | t_i         | noise level that the pair starts from   |
//! | `next`       | t_{i+1}     | noise level that the pair leads to      |
//! | `derivative` | d_i, d′_i   | dx/dσ at either                         |

use anyhow::{Result, bail};
use ndarray::ArrayD;

use super::config::Config;
use super::euler::start;
use super::prediction::{clean_at_sigma, clipped};
use super::schedule::{AlphaBars, fractional_timesteps};
use super::sigma::{SigmaTable, add_noise, all_finite, spread, to_unit_variance};
use super::{Run, Sampler, Sequence, Step, checked, combine, combine3, in_range};

pub(super) struct Heun {
    config: Config,
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    sequence: Sequence,
    pending: Option<Pending>,
}

/// What the first call of a pair leaves to the second.
pub(super) struct Pending {
    pub(super) derivative: ArrayD<f32>,
    pub(super) distance: f32,
    pub(super) sample: ArrayD<f32>,
}

impl Heun {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let table = SigmaTable::new(&AlphaBars::new(config)?.with_finite_end(config)?);
        let timesteps = match &run.timesteps {
            Some(timesteps) => timesteps.clone(),
            None => fractional_timesteps(config, run.steps),
        };
        let steps = if run.timesteps.is_some() { timesteps.len() } else { run.steps };
        let sigmas: Vec<f64> = timesteps.iter().map(|timestep| table.at(f64::from(*timestep))).collect();
        let (Some(first), Some(last)) = (sigmas.first(), sigmas.last()) else { bail!("no timesteps, expected at least one") };
        let (timesteps, sigmas) = match spread(config, *first, *last, steps) {
            Some(spread) => (spread.iter().map(|sigma| table.timestep(*sigma) as f32).collect(), spread),
            None => (timesteps, sigmas),
        };
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        sigmas.push(0.0);
        Ok(Self {
            config: config.clone(),
            timesteps: doubled_but_first(&timesteps),
            sigmas: doubled_but_ends(&all_finite(sigmas)?),
            sequence: Sequence::default(),
            pending: None,
        })
    }
}

/// Repeats every entry but the first: the network is called twice per level, and once at the first.
pub(super) fn doubled_but_first(values: &[f32]) -> Vec<f32> {
    values
        .iter()
        .enumerate()
        .flat_map(|(position, value)| std::iter::repeat_n(*value, if position == 0 { 1 } else { 2 }))
        .collect()
}

/// Repeats every entry but the first and the last.
pub(super) fn doubled_but_ends(values: &[f32]) -> Vec<f32> {
    let mut doubled = doubled_but_first(values);
    if values.len() > 1 {
        doubled.pop();
    }
    doubled
}

impl Sampler for Heun {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn order(&self) -> usize {
        2
    }

    fn init_noise_sigma(&self) -> f32 {
        start(self.config.spacing, &self.sigmas)
    }

    fn scale_model_input(&self, sample: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        Ok(to_unit_variance(sample, self.sigmas[index]))
    }

    fn is_linear(&self) -> bool {
        !self.config.clip_sample
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        checked(self, index, prediction, sample, noise)?;
        self.sequence.advance(index)?;
        // Either call works at the level of its own index: the second one at the level its pair leads to.
        let sigma = self.sigmas[index];
        let mut predicted_original = clean_at_sigma(self.config.prediction, prediction, sample, sigma);
        if self.config.clip_sample {
            predicted_original = clipped(predicted_original, self.config.clip_sample_range as f32);
        }
        let derivative = combine(sample, &predicted_original, |x, clean| (x - clean) / sigma);
        let sample = match self.pending.take() {
            None => {
                let distance = self.sigmas[index + 1] - sigma;
                let moved = combine(sample, &derivative, |x, derivative| x + derivative * distance);
                self.pending = Some(Pending { derivative, distance, sample: sample.clone() });
                moved
            }
            Some(Pending { derivative: before, distance, sample }) => {
                combine3(&sample, &before, &derivative, |x, before, after| x + (before + after) / 2.0 * distance)
            }
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        add_noise(&self.sigmas, self.timesteps.len(), original, noise, index)
    }
}
