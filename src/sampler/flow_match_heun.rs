//! Flow matching, integrated with Heun's second-order method.
//!
//! Y. Lipman et al., 2022, "Flow Matching for Generative Modeling", arXiv:2210.02747; the method is T. Karras et al., 2022,
//! arXiv:2206.00364, algorithm 1 (without churn).
//!
//! In: the denoiser's velocity, twice per noise level but once for the last. Out: the sample; after the first call of a pair
//! Euler's guess at the next level, after the second the corrected one.
//! Not here: dynamic shifting, which diffusers does not have for this method.
//!
//! | here         | paper   | meaning                                       |
//! |--------------|---------|-----------------------------------------------|
//! | `sigma`      | t       | share of noise in the sample (1 − σ) x₀ + σ ε |
//! | `derivative` | v       | velocity ε − x₀                               |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::flow_match_euler::{along_path, even_levels, trained_range, with_shift};
use super::heun::{Pending, doubled_but_ends, doubled_but_first};
use super::settings::Prediction;
use super::sigma::all_finite;
use super::{Run, Sampler, Sequence, Step, checked, combine, combine3, in_range, prediction, same_shape};

pub(super) struct FlowMatchHeun {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    sequence: Sequence,
    pending: Option<Pending>,
}

impl FlowMatchHeun {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let range = trained_range(config.num_train_timesteps, Some(config.shift));
        let sigmas = with_shift(config, &even_levels(config, range, run.steps));
        let mut sigmas: Vec<f32> = sigmas.into_iter().map(|sigma| sigma as f32).collect();
        let timesteps: Vec<f32> = sigmas.iter().map(|sigma| sigma * config.num_train_timesteps as f32).collect();
        sigmas.push(0.0);
        let sigmas = all_finite(sigmas)?;
        Ok(Self {
            timesteps: doubled_but_first(&timesteps),
            sigmas: doubled_but_ends(&sigmas),
            sequence: Sequence::default(),
            pending: None,
        })
    }
}

impl Sampler for FlowMatchHeun {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn order(&self) -> usize {
        2
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
        self.sequence.advance(index)?;
        // Either call works at the level of its own index: the second one at the level its pair leads to.
        let sigma = self.sigmas[index];
        let predicted_original = prediction::clean(Prediction::Flow, prediction, sample, 1.0 - sigma, sigma);
        let derivative = combine(sample, &predicted_original, |x, clean| (x - clean) / sigma);
        let sample = match self.pending.take() {
            None => {
                let distance = self.sigmas[index + 1] - sigma;
                let moved = combine(sample, &derivative, |x, derivative| x + derivative * distance);
                self.pending = Some(Pending { derivative, distance, sample: sample.clone() });
                moved
            }
            Some(Pending { derivative: before, distance, sample }) => {
                combine3(&sample, &before, &derivative, |x, before, after| x + 0.5 * (before + after) * distance)
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
