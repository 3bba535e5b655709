//! Annealed Langevin dynamics.
//!
//! Y. Song, S. Ermon, 2019, "Generative Modeling by Estimating Gradients of the Data Distribution", arXiv:1907.05600,
//! algorithm 1; Y. Song, S. Ermon, 2020, "Improved Techniques for Training Score-Based Generative Models", arXiv:2006.09011,
//! proposition 3 (the last denoising step) and technique 4 (the step size).
//!
//! In: the score at a noise level, `steps_per_level` times for each; noise for each of these calls. Out: the sample after one
//! Langevin step; after the last level, where `denoise` says so, one more call and the mean that its score tells.
//! Not here: drawing noise.
//!
//! | here              | paper     | meaning                                                    |
//! |-------------------|-----------|------------------------------------------------------------|
//! | `steps`           | L         | number of noise levels, in geometric progression           |
//! | `steps_per_level` | T         | Langevin steps at each                                     |
//! | `step_size`       | ϵ         | step size at the last level, in the paper of 2019's sense  |
//! | `width`           | α_i       | step size at level i, ϵ σ_i² / σ_L²                        |
//! | `share`           | ϵ / 2σ_L² | ϵ / σ_L² of the paper of 2020, whose steps are twice as long |
//!
//! A run starts with noise of the largest level, of which the start of the papers, uniform noise, is soon one as well.

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::clean_at_sigma;
use super::schedule::evenly_f32;
use super::settings::Prediction;
use super::sigma::{add_noise, exponential};
use super::{Run, Sampler, Step, checked, combine3};

/// The levels of training, unless the configuration says otherwise: those of the paper of 2020 for pictures of 32×32.
pub(super) const SIGMA_MIN: f64 = 0.01;
pub(super) const SIGMA_MAX: f64 = 50.0;

pub(super) struct AnnealedLangevin {
    steps_per_level: usize,
    /// One label for each network call.
    labels: Vec<f32>,
    /// The labels, and the 0 at which a run ends.
    sigmas: Vec<f32>,
    /// ϵ / σ_L².
    relative_step_size: f64,
    denoises: bool,
    sigma_max: f32,
}

impl AnnealedLangevin {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let settings = &config.score;
        let (smallest, largest) = (config.sigma_min.unwrap_or(SIGMA_MIN), config.sigma_max.unwrap_or(SIGMA_MAX));
        let steps_per_level = settings.steps_per_level;
        let levels: Vec<f32> =
            evenly_f32(largest.ln() as f32, smallest.ln() as f32, run.steps).into_iter().map(exponential).collect();
        let last = levels.last().copied().unwrap_or(smallest as f32);
        let mut labels: Vec<f32> = levels.iter().flat_map(|level| std::iter::repeat_n(*level, steps_per_level)).collect();
        if settings.denoise {
            labels.push(last);
        }
        let relative_step_size = match settings.step_size {
            Some(step_size) => step_size / f64::from(last).powi(2),
            None => {
                let ratio = (largest / smallest).powf(1.0 / (run.steps as f64 - 1.0).max(1.0));
                2.0 * best_share(ratio, steps_per_level)
            }
        };
        let mut sigmas = labels.clone();
        sigmas.push(0.0);
        Ok(Self { steps_per_level, labels, sigmas, relative_step_size, denoises: settings.denoise, sigma_max: largest as f32 })
    }
}

/// The step size, as a share of the level's variance, at which the samples of one level, `ratio` times as wide as the next, come
/// closest to the width of the next one within `steps` (technique 4 of arXiv:2006.09011).
fn best_share(ratio: f64, steps: usize) -> f64 {
    let excess = |share: f64| {
        let rest = 2.0 / (2.0 - share);
        ((1.0 - share).powf(2.0 * steps as f64) * (ratio * ratio - rest) + rest - 1.0).abs()
    };
    // The best of a grid in the logarithm, then golden sections between its neighbours.
    let (smallest, largest) = (1e-6_f64.ln(), 0.9_f64.ln());
    let count = 400;
    let place = |number: f64| smallest + (largest - smallest) * number / f64::from(count);
    let best = (0..=count).map(f64::from).min_by(|a, b| excess(place(*a).exp()).total_cmp(&excess(place(*b).exp())));
    let best = best.unwrap_or_default();
    let (mut low, mut high) = (place((best - 1.0).max(0.0)), place((best + 1.0).min(f64::from(count))));
    let section = (5.0_f64.sqrt() - 1.0) / 2.0;
    for _ in 0..60 {
        let (left, right) = (high - section * (high - low), low + section * (high - low));
        if excess(left.exp()) < excess(right.exp()) { high = right } else { low = left }
    }
    (0.5 * (low + high)).exp()
}

impl Sampler for AnnealedLangevin {
    fn timesteps(&self) -> &[f32] {
        &self.labels
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn order(&self) -> usize {
        self.steps_per_level
    }

    fn init_noise_sigma(&self) -> f32 {
        self.sigma_max
    }

    fn takes_noise(&self, index: usize) -> bool {
        index + usize::from(self.denoises) < self.labels.len()
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        let noise = checked(self, index, prediction, sample, noise)?;
        let sigma = self.labels[index];
        let predicted_original = clean_at_sigma(Prediction::Score, prediction, sample, sigma);
        let sample = match noise {
            Some(noise) => {
                let width = self.relative_step_size * f64::from(sigma).powi(2);
                let (drift, spread) = ((width / 2.0) as f32, width.sqrt() as f32);
                combine3(sample, prediction, noise, |x, score, noise| x + drift * score + spread * noise)
            }
            None => predicted_original.clone(),
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        add_noise(&self.labels, self.labels.len(), original, noise, index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The choices that arXiv:2006.09011 made by its technique 4 for pictures of 32×32 and 64×64.
    #[test]
    fn the_step_size_is_near_that_of_the_paper() {
        for (largest, levels, steps, epsilon) in [(50.0_f64, 232.0, 5, 6.2e-6), (90.0, 500.0, 5, 3.3e-6)] {
            let ratio = (largest / 0.01).powf(1.0 / (levels - 1.0));
            let share = best_share(ratio, steps);
            let published = epsilon / (0.01 * 0.01);
            assert!((share / published - 1.0).abs() < 0.1, "{share} for {published}");
        }
    }
}
