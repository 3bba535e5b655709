//! Sampling of the reverse variance-preserving SDE, by a network trained at exploding variance.
//!
//! Y. Song et al., 2020, "Score-Based Generative Modeling through Stochastic Differential Equations", arXiv:2011.13456. Uses
//! eq. 6 and 11 by the Euler-Maruyama method, eq. 33 (what is left of the picture at time t) and algorithm 5 (the corrector).
//!
//! In: the score at a noise level; noise for every call but the last. Out: the sample one step of time earlier; at the end its
//! mean.
//! Not here: the corrector's arithmetic (`score`), drawing noise.
//!
//! | here           | paper      | meaning                                                    |
//! |----------------|------------|------------------------------------------------------------|
//! | `time`         | t          | 1 noise, 0 picture                                         |
//! | `beta`         | β(t)       | rate at which the picture is forgotten                     |
//! | `alpha_bar`    | e^{−∫β}    | share of the picture's variance that is left               |
//! | `label`        | -          | √((1 − ᾱ) / ᾱ), the noise level that the network is given  |
//! | `score`        | s_θ(x, t)  | the score of the variance-preserving sample                |
//!
//! A sample x of this process, divided by √ᾱ, is one of exploding variance at the level `label`: `scale_model_input` divides.
//! The score of x follows from the network's by the chain rule, 1/√ᾱ times it: `step` multiplies. diffusers' class takes
//! the noise that a network predicts in its place, −√(1−ᾱ) times the score, and has no corrector; here `correct_steps` is 0
//! unless it is set. The corrector's α_i is e^{−β/N} rather than 1 − β/N, which few steps would make negative.

use anyhow::Result;
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::clean;
use super::schedule::evenly_f32;
use super::score::{Settings, corrected};
use super::settings::Prediction;
use super::{Run, Sampler, Step, checked, combine, in_range, same_shape};

pub(super) struct ScoreSdeVp {
    settings: Settings,
    steps: usize,
    /// One entry for each step.
    levels: Vec<Level>,
    /// One label for each network call.
    labels: Vec<f32>,
    /// The labels, and the 0 at which a run ends.
    sigmas: Vec<f32>,
}

/// The process at one time.
struct Level {
    beta: f32,
    /// √ᾱ.
    signal: f32,
    /// √(1 − ᾱ).
    spread: f32,
}

impl ScoreSdeVp {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let settings = config.score.clone();
        let (beta_min, span) = (settings.beta_min, settings.beta_max - settings.beta_min);
        let calls = settings.correct_steps + 1;
        let mut levels = Vec::with_capacity(run.steps);
        let mut labels = Vec::with_capacity(run.steps * calls);
        for time in evenly_f32(1.0, settings.sampling_eps as f32, run.steps) {
            let precise = f64::from(time);
            let spent = 0.5 * precise * precise * span + precise * beta_min;
            labels.extend(std::iter::repeat_n(spent.exp_m1().sqrt() as f32, calls));
            levels.push(Level {
                beta: beta_min as f32 + time * span as f32,
                signal: (-0.5 * spent).exp() as f32,
                spread: (-(-spent).exp_m1()).sqrt() as f32,
            });
        }
        let mut sigmas = labels.clone();
        sigmas.push(0.0);
        Ok(Self { settings, steps: run.steps, levels, labels, sigmas })
    }

    /// The step that network call `index` belongs to, and whether it is its predictor's.
    fn place(&self, index: usize) -> (&Level, bool) {
        let calls = self.settings.correct_steps + 1;
        (&self.levels[index / calls], index % calls == self.settings.correct_steps)
    }
}

impl Sampler for ScoreSdeVp {
    fn timesteps(&self) -> &[f32] {
        &self.labels
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn order(&self) -> usize {
        self.settings.correct_steps + 1
    }

    fn takes_noise(&self, index: usize) -> bool {
        index + 1 < self.labels.len()
    }

    fn scale_model_input(&self, sample: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.labels.len())?;
        let (level, _) = self.place(index);
        Ok(sample.mapv(|x| x / level.signal))
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        let noise = checked(self, index, prediction, sample, noise)?;
        let (level, is_predictor) = self.place(index);
        let score = prediction.mapv(|score| score / level.signal);
        let predicted_original = clean(Prediction::Score, &score, sample, level.signal, level.spread);
        let width = 1.0 / self.steps as f32;
        let sample = match noise {
            Some(noise) if !is_predictor => corrected(sample, &score, noise, self.settings.snr, (-level.beta * width).exp())?,
            _ => {
                let beta = level.beta;
                let mean = combine(sample, &score, |x, score| x + (0.5 * beta * x + beta * score) * width);
                let deviation = beta.sqrt() * width.sqrt();
                match noise {
                    Some(noise) => combine(&mean, noise, |mean, noise| mean + deviation * noise),
                    None => mean,
                }
            }
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.labels.len())?;
        same_shape("noise", noise, original)?;
        let (level, _) = self.place(index);
        Ok(combine(original, noise, |clean, noise| level.signal * clean + level.spread * noise))
    }
}
