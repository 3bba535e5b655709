//! Predictor-corrector sampling of the variance-exploding SDE.
//!
//! Y. Song et al., 2020, "Score-Based Generative Modeling through Stochastic Differential Equations", arXiv:2011.13456. Uses
//! algorithm 2 (the predictor, eq. 47) and algorithm 4 (the corrector).
//!
//! In: the score at a noise level, once for each corrector step and once for the predictor; noise for every call but the last.
//! Out: after a corrector the sample at the same level, after the predictor the one at the next; at the end its mean, which is
//! the clean picture. diffusers draws noise for the last predictor, too, and passes it over.
//! Not here: the corrector's arithmetic (`score`), drawing noise.
//!
//! | here              | paper      | meaning                                                   |
//! |-------------------|------------|-----------------------------------------------------------|
//! | prediction        | s_θ(x, σ)  | the score                                                 |
//! | `label`           | σ(t)       | noise level that the network is given                     |
//! | `level`           | σ_i        | noise level of the predictor's table                      |
//! | `level_next`      | σ_{i−1}    | the one below, 0 at the end                               |
//! | `sampling_eps`    | ϵ          | time at which the labels end; 0 is never reached          |

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::clean_at_sigma;
use super::schedule::evenly_f32;
use super::score::{Settings, corrected};
use super::settings::Prediction;
use super::sigma::{add_noise, exponential};
use super::{Run, Sampler, Step, checked, combine, combine3, in_range};

/// The levels of training that diffusers' class has by default.
pub(super) const SIGMA_MIN: f64 = 0.01;
pub(super) const SIGMA_MAX: f64 = 1348.0;

pub(super) struct ScoreSdeVe {
    settings: Settings,
    /// One label for each network call.
    labels: Vec<f32>,
    /// The labels, and the 0 at which a run ends.
    sigmas: Vec<f32>,
    /// For each step the levels that its predictor goes between.
    levels: Vec<(f32, f32)>,
    sigma_max: f32,
}

impl ScoreSdeVe {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let settings = config.score.clone();
        let (smallest, largest) = (config.sigma_min.unwrap_or(SIGMA_MIN), config.sigma_max.unwrap_or(SIGMA_MAX));
        let steps = run.steps;
        let times = evenly_f32(1.0, settings.sampling_eps as f32, steps);
        let table: Vec<f32> = evenly_f32(smallest.ln() as f32, largest.ln() as f32, steps).into_iter().map(exponential).collect();
        let calls = settings.correct_steps + 1;
        let mut labels = Vec::with_capacity(steps * calls);
        let mut levels = Vec::with_capacity(steps);
        let ratio = f64::from((largest / smallest) as f32);
        for time in times {
            let label = smallest as f32 * ratio.powf(f64::from(time)) as f32;
            labels.extend(std::iter::repeat_n(label, calls));
            // The place is rounded down, as diffusers does it.
            let place = ((time * (steps as f32 - 1.0)) as usize).min(steps - 1);
            let below = place.checked_sub(1).map_or(0.0, |below| table[below]);
            levels.push((table[place], below));
        }
        let mut sigmas = labels.clone();
        sigmas.push(0.0);
        Ok(Self { settings, labels, sigmas, levels, sigma_max: largest as f32 })
    }

    /// The step that network call `index` belongs to, and whether it is its predictor's.
    fn place(&self, index: usize) -> (usize, bool) {
        let calls = self.settings.correct_steps + 1;
        (index / calls, index % calls == self.settings.correct_steps)
    }
}

impl Sampler for ScoreSdeVe {
    fn timesteps(&self) -> &[f32] {
        &self.labels
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn order(&self) -> usize {
        self.settings.correct_steps + 1
    }

    fn init_noise_sigma(&self) -> f32 {
        self.sigma_max
    }

    fn takes_noise(&self, index: usize) -> bool {
        index + 1 < self.labels.len()
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        let noise = checked(self, index, prediction, sample, noise)?;
        let predicted_original = clean_at_sigma(Prediction::Score, prediction, sample, self.labels[index]);
        let (step, is_predictor) = self.place(index);
        let sample = match noise {
            Some(noise) if !is_predictor => corrected(sample, prediction, noise, self.settings.snr, 1.0)?,
            _ => {
                let (level, level_next) = self.levels[step];
                let diffusion = (level * level - level_next * level_next).sqrt();
                let variance = diffusion * diffusion;
                match noise {
                    Some(noise) => combine3(sample, prediction, noise, |x, s, z| (x + variance * s) + diffusion * z),
                    None => combine(sample, prediction, |x, s| x + variance * s),
                }
            }
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.labels.len())?;
        add_noise(&self.labels, self.labels.len(), original, noise, index)
    }
}
