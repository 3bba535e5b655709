//! Pseudo numerical methods for diffusion models (PNDM): Runge-Kutta steps, then linear multistep ones (PLMS).
//!
//! L. Liu, Y. Ren, Z. Lin, Z. Zhao, 2022, "Pseudo Numerical Methods for Diffusion Models on Manifolds", arXiv:2202.09778.
//! Uses eq. 9, 12 and 13 and algorithm 2.
//!
//! In: the denoiser's prediction. Out: the sample one stride cleaner; Runge-Kutta takes four calls for one such step, and a
//! run without Runge-Kutta repeats its second timestep to get a first derivative of second order.
//! Not here: guidance.
//!
//! | here        | paper     | meaning                                              |
//! |-------------|-----------|------------------------------------------------------|
//! | `slopes`    | e_t       | the last predictions                                 |
//! | `slope`     | e′_t      | their weighted mean                                  |
//! | `stride`    | δ         | training timesteps from one step to the next         |
//! | `transfer`  | φ(·)      | the step along a slope, which keeps to the manifold  |

use anyhow::{Result, bail};
use ndarray::ArrayD;

use super::config::Config;
use super::prediction::clean;
use super::schedule::{AlphaBars, as_f32, whole_timesteps};
use super::settings::Prediction;
use super::{Run, Sampler, Sequence, Step, checked, combine, combine3, in_range};
use crate::refuse;

/// Calls of the Runge-Kutta phase.
const RUNGE_KUTTA_CALLS: usize = 12;

pub(super) struct Pndm {
    prediction: Prediction,
    alpha_bars: AlphaBars,
    timesteps: Vec<i64>,
    shown: Vec<f32>,
    stride: i64,
    /// How many of the timesteps belong to the Runge-Kutta phase.
    runge_kutta: usize,
    sequence: Sequence,
    /// Calls so far. A run that begins in the middle still begins with the first phase, as diffusers does.
    calls: usize,
    slopes: Vec<ArrayD<f32>>,
    /// The weighted sum of the slopes of the present Runge-Kutta step.
    sum: Option<ArrayD<f32>>,
    /// The sample that the present step started from.
    origin: Option<ArrayD<f32>>,
}

impl Pndm {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let alpha_bars = AlphaBars::new(config)?;
        let steps = run.steps;
        let stride = (config.num_train_timesteps / steps.max(1)) as i64;
        let visited = whole_timesteps(config, steps);
        let mut timesteps = Vec::with_capacity(visited.len() + RUNGE_KUTTA_CALLS);
        let mut runge_kutta = 0;
        if config.skip_prk_steps {
            // The second timestep stands twice.
            for (position, timestep) in visited.iter().enumerate() {
                timesteps.extend(std::iter::repeat_n(*timestep, if position == 1 { 2 } else { 1 }));
            }
        } else {
            let [first, second, third, fourth, ..] = visited[..] else {
                refuse!(
                    "steps is {steps}, expected at least 4, since this model's PNDM begins with Runge-Kutta steps; use more, or another sampler"
                );
            };
            let half = stride / 2;
            for (from, to) in [(first, second), (second, third), (third, fourth)] {
                // The middle lies half a stride above the entry that the step leads to.
                timesteps.extend([from, to + half, to + half, to]);
            }
            runge_kutta = timesteps.len();
            timesteps.extend(&visited[3..]);
        }
        alpha_bars.check_visits(config, &timesteps)?;
        Ok(Self {
            prediction: config.prediction,
            alpha_bars,
            shown: as_f32(&timesteps),
            timesteps,
            stride,
            runge_kutta,
            sequence: Sequence::default(),
            calls: 0,
            slopes: Vec::new(),
            sum: None,
            origin: None,
        })
    }

    /// One of the four calls of a Runge-Kutta step (eq. 13).
    fn runge_kutta_step(&mut self, timestep: i64, prediction: &ArrayD<f32>, sample: &ArrayD<f32>) -> Result<ArrayD<f32>> {
        let half = if self.calls % 2 == 1 { 0 } else { self.stride / 2 };
        let next = timestep - half;
        let Some(from) = self.timesteps.get(self.calls / 4 * 4).copied() else { bail!("no timestep for call {}", self.calls) };
        let weighted = |weight: f32, sum: Option<ArrayD<f32>>| {
            let part = prediction.mapv(|slope| weight * slope);
            match sum {
                Some(sum) => combine(&sum, &part, |sum, part| sum + part),
                None => part,
            }
        };
        let slope = match self.calls % 4 {
            0 => {
                self.sum = Some(weighted(1.0 / 6.0, self.sum.take()));
                self.slopes.push(prediction.clone());
                self.origin = Some(sample.clone());
                prediction.clone()
            }
            1 | 2 => {
                self.sum = Some(weighted(1.0 / 3.0, self.sum.take()));
                prediction.clone()
            }
            _ => weighted(1.0 / 6.0, self.sum.take()),
        };
        let origin = self.origin.as_ref().unwrap_or(sample);
        self.transfer(origin, &slope, from, next)
    }

    /// One linear multistep call (eq. 12).
    fn multistep(&mut self, timestep: i64, prediction: &ArrayD<f32>, sample: &ArrayD<f32>) -> Result<ArrayD<f32>> {
        let (mut from, mut next) = (timestep, timestep - self.stride);
        if self.calls == 1 {
            (from, next) = (timestep + self.stride, timestep);
        } else {
            if self.slopes.len() > 3 {
                self.slopes.drain(..self.slopes.len() - 3);
            }
            self.slopes.push(prediction.clone());
        }
        let mut origin = None;
        let slope = match &self.slopes[..] {
            [_] if self.calls == 0 => {
                self.origin = Some(sample.clone());
                prediction.clone()
            }
            [last] => {
                origin = self.origin.take();
                combine(prediction, last, |new, last| (new + last) / 2.0)
            }
            [before, last] => combine(last, before, |last, before| (3.0 * last - before) / 2.0),
            [second, before, last] => {
                combine3(last, before, second, |last, before, second| (23.0 * last - 16.0 * before + 5.0 * second) / 12.0)
            }
            [third, second, before, last] => {
                let recent = combine3(last, before, second, |last, before, second| 55.0 * last - 59.0 * before + 37.0 * second);
                combine(&recent, third, |recent, third| 1.0 / 24.0 * (recent - 9.0 * third))
            }
            other => bail!("{} slopes are remembered, expected 1 to 4", other.len()),
        };
        self.transfer(origin.as_ref().unwrap_or(sample), &slope, from, next)
    }

    /// Moves from one timestep to another along a slope (eq. 9).
    fn transfer(&self, sample: &ArrayD<f32>, slope: &ArrayD<f32>, from: i64, to: i64) -> Result<ArrayD<f32>> {
        let alpha_bar = self.alpha_bars.at(from)?;
        let alpha_bar_next = self.alpha_bars.at_or_beyond(to)?;
        let (beta_bar, beta_bar_next) = (1.0 - alpha_bar, 1.0 - alpha_bar_next);
        let (signal, spread) = (alpha_bar.sqrt(), beta_bar.sqrt());
        let kept = (alpha_bar_next / alpha_bar).sqrt();
        let difference = alpha_bar_next - alpha_bar;
        let denominator = alpha_bar * beta_bar_next.sqrt() + (alpha_bar * beta_bar * alpha_bar_next).sqrt();
        Ok(match self.prediction {
            Prediction::Velocity => combine(sample, slope, |x, velocity| {
                let epsilon = signal * velocity + spread * x;
                kept * x - difference * epsilon / denominator
            }),
            _ => combine(sample, slope, |x, epsilon| kept * x - difference * epsilon / denominator),
        })
    }
}

impl Sampler for Pndm {
    fn timesteps(&self) -> &[f32] {
        &self.shown
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
        let timestep = self.timesteps[index];
        let alpha_bar = self.alpha_bars.at(timestep)?;
        let predicted_original = clean(self.prediction, prediction, sample, alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let sample = if self.calls < self.runge_kutta {
            self.runge_kutta_step(timestep, prediction, sample)?
        } else {
            self.multistep(timestep, prediction, sample)?
        };
        self.calls += 1;
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        self.alpha_bars.add_noise(original, noise, self.timesteps[index])
    }
}
