//! Noise schedules over the training timesteps, and which timesteps a run visits.
//!
//! J. Ho, A. Jain, P. Abbeel, 2020, "Denoising Diffusion Probabilistic Models", arXiv:2006.11239 (linear β);
//! A. Nichol, P. Dhariwal, 2021, "Improved Denoising Diffusion Probabilistic Models", arXiv:2102.09672, eq. 17 (cosine);
//! S. Lin et al., 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv:2305.08891, algorithm 1
//! (zero terminal SNR) and table 2 (spacings).
//!
//! In: a [`Config`]. Out: ᾱ for each training timestep, and lists of timesteps.
//! Not here: noise levels σ (`sigma`).
//!
//! | here        | paper | meaning                                |
//! |-------------|-------|----------------------------------------|
//! | `beta`      | β_t   | variance added at timestep t           |
//! | `alpha_bar` | ᾱ_t   | share of the signal's variance kept    |

use anyhow::{Result, bail};
use ndarray::ArrayD;

use super::config::Config;
use super::settings::{BetaSchedule, Prediction, Spacing};
use super::{Run, combine, same_shape};
use crate::refuse;

/// Spaces `count` numbers evenly from `start` to `stop`, rounded as numpy's `linspace` rounds.
pub(super) fn evenly(start: f64, stop: f64, count: usize) -> Vec<f64> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (stop - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|position| position as f64 * step + start).collect();
    values[count - 1] = stop;
    values
}

/// Spaces `count` numbers evenly from `start` to `stop` in f32, rounded as torch's `linspace` rounds: from either end to the
/// middle, with fused multiply-adds.
pub(super) fn evenly_f32(start: f32, stop: f32, count: usize) -> Vec<f32> {
    if count < 2 {
        return vec![start; count];
    }
    let step = (stop - start) / (count - 1) as f32;
    (0..count)
        .map(|position| {
            if position < count / 2 {
                step.mul_add(position as f32, start)
            } else {
                (-step).mul_add((count - 1 - position) as f32, stop)
            }
        })
        .collect()
}

/// ᾱ for every training timestep.
#[derive(Debug, Clone)]
pub(super) struct AlphaBars {
    values: Vec<f32>,
    /// ᾱ after the last step.
    beyond: f32,
}

impl AlphaBars {
    /// Computes the table of `config`.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let mut betas = betas(config);
        if config.rescale_betas_zero_snr {
            betas = rescaled_to_zero_terminal_snr(&betas);
        }
        let values = running_product(betas.iter().map(|beta| 1.0 - beta));
        let first = values.first().copied().unwrap_or(f32::NAN);
        if !(first > 0.0 && first < 1.0) || values.iter().any(|value| !value.is_finite() || *value < 0.0) {
            bail!("the noise schedule keeps {first} of the signal at timestep 0, expected more than 0 and less than 1");
        }
        let beyond = if config.set_alpha_to_one { 1.0 } else { first };
        Ok(Self { values, beyond })
    }

    /// The table with the last entry raised above zero where the schedule was rescaled, so that no noise level is infinite.
    pub(super) fn with_finite_end(mut self, config: &Config) -> Result<Self> {
        if config.rescale_betas_zero_snr
            && let Some(last) = self.values.last_mut()
        {
            *last = 2.0_f32.powi(-24);
        }
        match self.values.iter().position(|value| *value <= 0.0) {
            Some(timestep) => {
                bail!("the noise schedule keeps nothing of the signal at timestep {timestep}, so its noise level is infinite")
            }
            None => Ok(self),
        }
    }

    pub(super) fn values(&self) -> &[f32] {
        &self.values
    }

    /// ᾱ at `timestep`. The trailing spacing of some step counts ends with -1, which diffusers reads from the table's end.
    pub(super) fn at(&self, timestep: i64) -> Result<f32> {
        let length = self.values.len() as i64;
        let position = if timestep < 0 { timestep + length } else { timestep };
        match usize::try_from(position).ok().and_then(|position| self.values.get(position)) {
            Some(value) => Ok(*value),
            None => bail!("timestep is {timestep}, expected less than {length}"),
        }
    }

    /// ᾱ at the timestep that a step leads to; below 0 is the end of the run.
    pub(super) fn at_or_beyond(&self, timestep: i64) -> Result<f32> {
        if timestep < 0 { Ok(self.beyond) } else { self.at(timestep) }
    }

    /// Refuses a run that leaves the table, or that divides by a signal of nothing.
    pub(super) fn check_visits(&self, config: &Config, timesteps: &[i64]) -> Result<()> {
        for timestep in timesteps {
            let alpha_bar = match self.at(*timestep) {
                Ok(alpha_bar) => alpha_bar,
                Err(error) => {
                    refuse!("{error}: `steps_offset` {} leaves no room for that many steps; use fewer", config.steps_offset)
                }
            };
            let limited = config.clip_sample || config.thresholding;
            if alpha_bar == 0.0 && config.prediction == Prediction::Epsilon && !limited {
                bail!(
                    "`prediction_type` is `epsilon`, but the sample at timestep {timestep} is nothing but noise (`rescale_betas_zero_snr`); expected `v_prediction` or `sample`, or another spacing"
                );
            }
        }
        Ok(())
    }

    /// Mixes noise into `original` as the forward process does up to `timestep` (DDPM eq. 4).
    pub(super) fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, timestep: i64) -> Result<ArrayD<f32>> {
        same_shape("noise", noise, original)?;
        let alpha_bar = self.at(timestep)?;
        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        Ok(combine(original, noise, |clean, noise| signal * clean + spread * noise))
    }
}

fn betas(config: &Config) -> Vec<f32> {
    if let Some(trained) = &config.trained_betas {
        return trained.iter().map(|beta| *beta as f32).collect();
    }
    let count = config.num_train_timesteps;
    let (start, end) = (config.beta_start, config.beta_end);
    match config.beta_schedule {
        BetaSchedule::Linear => evenly_f32(start as f32, end as f32, count),
        BetaSchedule::ScaledLinear => {
            evenly_f32(start.sqrt() as f32, end.sqrt() as f32, count).into_iter().map(|root| root * root).collect()
        }
        BetaSchedule::SquaredCosCapV2 => {
            betas_from_signal(count, |time| ((time + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powi(2))
        }
        BetaSchedule::Exp => betas_from_signal(count, |time| (time * -12.0).exp()),
        BetaSchedule::Sigmoid => {
            let (span, start) = ((end - start) as f32, start as f32);
            evenly_f32(-6.0, 6.0, count)
                .into_iter()
                .map(|x| (1.0 / (1.0 + (-f64::from(x)).exp())) as f32 * span + start)
                .collect()
        }
    }
}

/// Betas whose running product follows `signal`, a falling function of time 0 to 1; each at most 0.999.
fn betas_from_signal(count: usize, signal: impl Fn(f64) -> f64) -> Vec<f32> {
    (0..count)
        .map(|position| {
            let (from, to) = (position as f64 / count as f64, (position + 1) as f64 / count as f64);
            (1.0 - signal(to) / signal(from)).min(0.999) as f32
        })
        .collect()
}

/// The running product, carried in f64 and stored in f32, as torch carries it.
fn running_product(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    factors
        .scan(1.0_f64, |product, factor| {
            *product *= f64::from(factor);
            Some(*product as f32)
        })
        .collect()
}

/// Shifts and scales √ᾱ so that nothing of the signal is left at the last timestep (arXiv:2305.08891, algorithm 1).
fn rescaled_to_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = running_product(betas.iter().map(|beta| 1.0 - beta)).into_iter().map(f32::sqrt).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else { return Vec::new() };
    let scale = first / (first - last);
    let alpha_bars: Vec<f32> = roots
        .into_iter()
        .map(|root| {
            let root = (root - last) * scale;
            root * root
        })
        .collect();
    let before = std::iter::once(1.0).chain(alpha_bars.iter().copied());
    alpha_bars.iter().zip(before).map(|(alpha_bar, before)| 1.0 - alpha_bar / before).collect()
}

/// The whole timesteps of DDPM, DDIM and their like, noisiest first.
pub(super) fn whole_timesteps(config: &Config, steps: usize) -> Vec<i64> {
    let trained = config.num_train_timesteps;
    match config.spacing {
        Spacing::Linspace => {
            let even = evenly(0.0, trained as f64 - 1.0, steps);
            even.into_iter().rev().map(|timestep| timestep.round_ties_even() as i64).collect()
        }
        Spacing::Leading => {
            let ratio = trained / steps.max(1);
            (0..steps).rev().map(|step| (step * ratio + config.steps_offset) as i64).collect()
        }
        Spacing::Trailing => trailing(trained as f64, trained as f64 / steps as f64),
    }
}

/// The timesteps of the samplers that may stop between two trained ones (Euler, Heun), noisiest first.
pub(super) fn fractional_timesteps(config: &Config, steps: usize) -> Vec<f32> {
    match config.spacing {
        Spacing::Linspace => {
            let even = evenly(0.0, config.num_train_timesteps as f64 - 1.0, steps);
            even.into_iter().rev().map(|timestep| timestep as f32).collect()
        }
        _ => whole_timesteps(config, steps).into_iter().map(|timestep| timestep as f32).collect(),
    }
}

/// The whole timesteps of the multistep solvers, which leave out the cleanest of `steps + 1`, noisiest first.
///
/// `last` is one more than the noisiest timestep they may visit.
pub(super) fn multistep_timesteps(config: &Config, steps: usize, last: usize) -> Result<Vec<i64>> {
    if last == 0 {
        bail!("`lambda_min_clipped` is {}, which leaves no timestep", config.lambda_min_clipped);
    }
    Ok(match config.spacing {
        Spacing::Linspace => {
            let even = evenly(0.0, last as f64 - 1.0, steps + 1);
            even.into_iter().skip(1).rev().map(|timestep| timestep.round_ties_even() as i64).collect()
        }
        Spacing::Leading => {
            let ratio = last / (steps + 1);
            if ratio == 0 {
                refuse!("steps is {steps}, the leading spacing of this sampler takes at most {}", last - 1);
            }
            (1..=steps).rev().map(|step| (step * ratio + config.steps_offset) as i64).collect()
        }
        Spacing::Trailing => trailing(last as f64, config.num_train_timesteps as f64 / steps as f64),
    })
}

/// Counts down from `last` in strides of `ratio`, as numpy's `arange` does: for some step counts rounding adds one more
/// entry, and diffusers keeps it.
fn trailing(last: f64, ratio: f64) -> Vec<i64> {
    let count = (last / ratio).ceil() as usize;
    let stride = (last - ratio) - last;
    (0..count)
        .map(|position| match position {
            0 => last,
            1 => last - ratio,
            _ => last + position as f64 * stride,
        })
        .map(|timestep| timestep.round_ties_even() as i64 - 1)
        .collect()
}

/// Reads a person's timesteps for a sampler that works on whole ones in falling order.
pub(super) fn whole_falling(config: &Config, timesteps: &[f32]) -> Result<Vec<i64>> {
    let mut whole: Vec<i64> = Vec::with_capacity(timesteps.len());
    for (position, timestep) in timesteps.iter().enumerate() {
        if timestep.fract() != 0.0 || *timestep >= config.num_train_timesteps as f32 {
            refuse!(
                "timesteps[{position}] is {timestep}, sampler `{}` expects whole numbers below {}",
                config.kind(),
                config.num_train_timesteps
            );
        }
        let timestep = *timestep as i64;
        if let Some(before) = whole.last()
            && timestep >= *before
        {
            refuse!("timesteps[{position}] is {timestep}, expected less than {before}, the one before");
        }
        whole.push(timestep);
    }
    Ok(whole)
}

/// The timesteps that LCM and TCD take out of their teacher's schedule.
#[derive(Debug)]
pub(super) struct Distilled {
    pub(super) timesteps: Vec<i64>,
    /// The step count that the last step is recognised by; with timesteps of one's own and a strength below 1 no step has it.
    pub(super) counted: usize,
}

impl Distilled {
    /// Takes evenly spaced entries of `origin` (cleanest first), the teacher's timesteps scaled by the run's strength.
    pub(super) fn new(config: &Config, run: &Run, origin: &[i64], teacher_steps: usize) -> Result<Self> {
        let strength = run.strength.unwrap_or(1.0);
        if let Some(timesteps) = &run.timesteps {
            let timesteps = whole_falling(config, timesteps)?;
            let counted = timesteps.len();
            let kept = ((counted as f64 * strength) as usize).min(counted);
            if kept == 0 {
                refuse!("strength is {strength}, which leaves none of the {counted} timesteps; raise it");
            }
            return Ok(Self { timesteps: timesteps[counted - kept..].to_vec(), counted });
        }
        let steps = run.steps;
        if steps > teacher_steps {
            refuse!(
                "steps is {steps}, expected at most {teacher_steps}, the steps that the model was distilled from (`original_inference_steps`)"
            );
        }
        if origin.len() < steps {
            refuse!(
                "steps is {steps}, expected at most {}: strength {strength} leaves that many of the {teacher_steps} steps the model was distilled from",
                origin.len()
            );
        }
        let stride = origin.len() as f64 / steps as f64;
        let timesteps = (0..steps)
            .map(|step| (step as f64 * stride).floor() as usize)
            .filter_map(|position| origin.len().checked_sub(position + 1).and_then(|from_end| origin.get(from_end)))
            .copied()
            .collect();
        Ok(Self { timesteps, counted: steps })
    }
}

/// The timesteps as the trait shows them.
pub(super) fn as_f32(timesteps: &[i64]) -> Vec<f32> {
    timesteps.iter().map(|timestep| *timestep as f32).collect()
}
