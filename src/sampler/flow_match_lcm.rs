//! Multistep consistency sampling along the straight path of flow matching.
//!
//! S. Luo et al., 2023, "Latent Consistency Models: Synthesizing High-Resolution Images with Few-Step Inference",
//! arXiv:2310.04378, algorithm 3, on the path of Y. Lipman et al., 2022, "Flow Matching for Generative Modeling",
//! arXiv:2210.02747.
//!
//! In: the velocity of a network distilled to jump to the clean sample; noise for every step, the last one too (where it is
//! multiplied with 0). Out: the estimate of the clean sample, mixed with fresh noise up to the next level.
//! Not here: where the noise levels lie (`flow_match_euler`), samples that grow from step to step.
//!
//! | here                 | paper    | meaning                                           |
//! |----------------------|----------|---------------------------------------------------|
//! | `sigma`              | t        | share of noise in the sample (1 − σ) x₀ + σ ε     |
//! | prediction           | v        | velocity ε − x₀                                   |
//! | `predicted_original` | f_θ(z, t) | the consistency function, x − σ v                |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::flow_match_euler::{Levels, along_path};
use super::settings::Prediction;
use super::{Run, Sampler, Step, checked, in_range, prediction, same_shape};

pub(super) struct FlowMatchLcm {
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
}

impl FlowMatchLcm {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let Levels { timesteps, sigmas } = Levels::new(config, run)?;
        Ok(Self { timesteps, sigmas })
    }
}

impl Sampler for FlowMatchLcm {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn takes_noise(&self, index: usize) -> bool {
        index < self.timesteps.len()
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
            Some(noise) => along_path(next, &predicted_original, noise),
            None => predicted_original.clone(),
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        same_shape("noise", noise, original)?;
        Ok(along_path(self.sigmas[index], original, noise))
    }
}
