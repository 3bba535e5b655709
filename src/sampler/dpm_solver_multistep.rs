//! DPM-Solver and DPM-Solver++, multistep, deterministic and stochastic.
//!
//! C. Lu, Y. Zhou, F. Bao, J. Chen, C. Li, J. Zhu, 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model
//! Sampling in Around 10 Steps", arXiv:2206.00927, and "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion
//! Probabilistic Models", arXiv:2211.01095. Uses algorithm 2 of the latter (second order), the same with Heun's rule, its
//! continuation to the third order, and the forms for the diffusion SDE (section 5).
//!
//! In: the denoiser's prediction; noise for every step of the stochastic variants. Out: the sample at the next level.
//! Not here: the singlestep form, drawing noise.
//!
//! | here             | paper         | meaning                                              |
//! |------------------|---------------|------------------------------------------------------|
//! | `signal`, `spread` | α_t, σ_t    | factors of x₀ and ε in the sample                    |
//! | `lambda`         | λ_t           | ln(α_t / σ_t)                                        |
//! | `h`, `h_0`, `h_1` | h, h₀, h₁    | steps in λ: this one and the ones before             |
//! | `outputs`        | x_θ or ε_θ    | the last converted predictions                       |
//! | `d0`, `d1`, `d2` | D₀, D₁, D₂    | their divided differences                            |

use std::collections::VecDeque;

use anyhow::{Result, bail};
use ndarray::{ArrayD, Axis, Slice, Zip};

use super::config::Config;
use super::flow_match_euler::dynamic_shift;
use super::prediction::{clean, noise as predicted_noise, thresholded};
use super::schedule::{AlphaBars, evenly, multistep_timesteps, whole_falling};
use super::settings::{Algorithm, BetaSchedule, FinalSigma, Prediction, SigmaSchedule, SolverType};
use super::sigma::{Level, SigmaTable, all_apart, exponential, logarithm, shifted_levels, spread};
use super::{Run, Sampler, Sequence, Step, checked_noise, combine, in_range, same_shape};
use crate::refuse;

/// Below this many steps the last ones are taken with a lower order.
const FEW_STEPS: usize = 15;

pub(super) struct DpmSolverMultistep {
    config: Config,
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    sequence: Sequence,
    /// The last converted predictions, newest at the end.
    outputs: VecDeque<ArrayD<f32>>,
}

impl DpmSolverMultistep {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        if run.mu.is_some() && !config.use_dynamic_shifting {
            refuse!("mu is given, but this model's noise levels are not shifted by the size of the picture; leave it out");
        }
        let shift = dynamic_shift(config, run)?.map_or(config.shift, f64::exp);
        let alpha_bars = AlphaBars::new(config)?.with_finite_end(config)?;
        let table = SigmaTable::new(&alpha_bars);
        let (timesteps, mut sigmas) = levels(config, run, &alpha_bars, &table, shift)?;
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => f64::from(table.smallest()),
        });
        let sigmas = all_apart(sigmas.into_iter().map(|sigma| sigma as f32).collect(), config.use_flow_sigmas)?;
        let solver = Self {
            config: config.clone(),
            timesteps: timesteps.into_iter().map(|timestep| timestep as f32).collect(),
            sigmas,
            sequence: Sequence::default(),
            outputs: VecDeque::new(),
        };
        let steps = solver.timesteps.len();
        let divides = config.solver_type == SolverType::Heun || config.solver_order == 3;
        if divides && solver.order_at(steps - 1, steps) > 1 && solver.sigmas[steps - 1] == solver.sigmas[steps] {
            bail!(
                "the last step ends at its own noise level, by which it divides; expected `final_sigmas_type` `zero`, or `euler_at_final` true"
            );
        }
        Ok(solver)
    }

    fn is_data_solver(&self) -> bool {
        matches!(self.config.algorithm, Algorithm::DpmPlusPlus | Algorithm::SdeDpmPlusPlus | Algorithm::Deis)
    }

    fn is_stochastic(&self) -> bool {
        matches!(self.config.algorithm, Algorithm::SdeDpm | Algorithm::SdeDpmPlusPlus)
    }

    fn level(&self, index: usize) -> Level {
        Level::new(self.sigmas[index], self.config.use_flow_sigmas)
    }

    /// Leaves a predicted variance aside.
    fn mean(&self, prediction: &ArrayD<f32>, sample: &ArrayD<f32>) -> Result<ArrayD<f32>> {
        /// diffusers knows learned variances only of models that work on coloured pixels.
        const CHANNELS: usize = 3;
        let mean = match prediction.shape().get(1) {
            Some(channels)
                if self.config.learned_variance && self.config.prediction == Prediction::Epsilon && *channels > CHANNELS =>
            {
                prediction.slice_axis(Axis(1), Slice::from(..CHANNELS)).to_owned()
            }
            _ => prediction.clone(),
        };
        same_shape("prediction", &mean, sample)?;
        Ok(mean)
    }

    /// Converts the prediction to x₀ (`++`) or ε, and returns it with the estimate of x₀.
    fn converted(&self, index: usize, prediction: &ArrayD<f32>, sample: &ArrayD<f32>) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
        let Level { signal, spread, sigma, .. } = self.level(index);
        let kind = self.config.prediction;
        if self.is_data_solver() {
            let spread = if kind == Prediction::Flow { sigma } else { spread };
            let mut predicted = clean(kind, prediction, sample, signal, spread);
            if self.config.thresholding {
                predicted = thresholded(&self.config, predicted)?;
            }
            return Ok((predicted.clone(), predicted));
        }
        let mut epsilon = predicted_noise(kind, prediction, sample, signal, spread);
        let mut predicted = clean(Prediction::Epsilon, &epsilon, sample, signal, spread);
        if self.config.thresholding {
            predicted = thresholded(&self.config, predicted)?;
            epsilon = predicted_noise(Prediction::Sample, &predicted, sample, signal, spread);
        }
        Ok((epsilon, predicted))
    }

    /// The order of step `index`, no higher than there are predictions to take it with.
    fn order_at(&self, index: usize, predictions: usize) -> usize {
        let config = &self.config;
        let steps = self.timesteps.len();
        let lowers = config.lower_order_final && steps < FEW_STEPS;
        let is_last = index + 1 == steps && (config.euler_at_final || lowers || config.final_sigma == FinalSigma::Zero);
        let is_second_last = index + 2 == steps && lowers;
        let most = if is_last {
            1
        } else if is_second_last {
            2
        } else {
            3
        };
        config.solver_order.min(predictions).min(most)
    }

    /// The factors of sample, D₀, D₁, D₂ and noise for a step of the given order.
    fn factors(&self, index: usize, order: usize) -> Factors {
        let (from, to) = (self.level(index), self.level(index + 1));
        let h = to.lambda - from.lambda;
        let (signal, spread) = (to.signal, to.spread);
        let is_heun = self.config.solver_type == SolverType::Heun;
        match self.config.algorithm {
            Algorithm::DpmPlusPlus | Algorithm::Deis => {
                let decay = exponential(-h) - 1.0;
                Factors {
                    sample: spread / from.spread,
                    d0: -(signal * decay),
                    d1: if is_heun || order == 3 { signal * (decay / h + 1.0) } else { -(0.5 * (signal * decay)) },
                    d2: -(signal * ((decay + h) / (h * h) - 0.5)),
                    noise: 0.0,
                }
            }
            Algorithm::Dpm => {
                let growth = exponential(h) - 1.0;
                Factors {
                    sample: signal / from.signal,
                    d0: -(spread * growth),
                    d1: if is_heun || order == 3 { -(spread * (growth / h - 1.0)) } else { -(0.5 * (spread * growth)) },
                    d2: -(spread * ((growth - h) / (h * h) - 0.5)),
                    noise: 0.0,
                }
            }
            Algorithm::SdeDpmPlusPlus => {
                let lost = 1.0 - exponential(-2.0 * h);
                let twice = 2.0 * h;
                Factors {
                    sample: spread / from.spread * exponential(-h),
                    d0: signal * lost,
                    d1: if is_heun || order == 3 { signal * (lost / (-2.0 * h) + 1.0) } else { 0.5 * (signal * lost) },
                    d2: signal * ((lost - twice) / (twice * twice) - 0.5),
                    noise: spread * lost.sqrt(),
                }
            }
            Algorithm::SdeDpm => {
                let growth = exponential(h) - 1.0;
                Factors {
                    sample: signal / from.signal,
                    d0: -(2.0 * (spread * growth)),
                    d1: if is_heun { -(2.0 * (spread * (growth / h - 1.0))) } else { -(spread * growth) },
                    d2: 0.0,
                    noise: spread * (exponential(2.0 * h) - 1.0).sqrt(),
                }
            }
        }
    }
}

/// The factors of one step.
struct Factors {
    sample: f32,
    d0: f32,
    d1: f32,
    d2: f32,
    noise: f32,
}

/// The timesteps and noise levels of the run, without the final level.
fn levels(config: &Config, run: &Run, alpha_bars: &AlphaBars, table: &SigmaTable, shift: f64) -> Result<(Vec<i64>, Vec<f64>)> {
    let timesteps = match &run.timesteps {
        Some(timesteps) => {
            if config.use_lu_lambdas {
                refuse!("timesteps are given, but `use_lu_lambdas` sets them itself; leave them out");
            }
            whole_falling(config, timesteps)?
        }
        None => {
            let last = config.num_train_timesteps - clipped(config, alpha_bars);
            multistep_timesteps(config, run.steps, last)?
        }
    };
    let steps = if run.timesteps.is_some() { timesteps.len() } else { run.steps };
    let (largest, smallest) = (f64::from(table.largest()), f64::from(table.smallest()));
    // A cosine schedule is so steep at its noisy end that rounding would let timesteps coincide.
    let rounds = config.beta_schedule != BetaSchedule::SquaredCosCapV2;
    let timestep_at = |sigma: &f64| {
        let timestep = table.timestep(*sigma);
        (if rounds { timestep.round_ties_even() } else { timestep }) as i64
    };
    if config.sigma_schedule == SigmaSchedule::Karras
        && let Some(sigmas) = spread(config, largest, smallest, steps)
    {
        return Ok((sigmas.iter().map(timestep_at).collect(), sigmas));
    }
    if config.use_lu_lambdas {
        let ends = (f64::from(logarithm(table.largest())), f64::from(logarithm(table.smallest())));
        let ramp = evenly(0.0, 1.0, steps);
        let sigmas: Vec<f64> = ramp.into_iter().map(|place| (ends.0 + place * (ends.1 - ends.0)).exp()).collect();
        return Ok((sigmas.iter().map(timestep_at).collect(), sigmas));
    }
    if let Some(sigmas) = spread(config, largest, smallest, steps) {
        return Ok((sigmas.iter().map(|sigma| table.timestep(*sigma) as i64).collect(), sigmas));
    }
    if config.use_flow_sigmas {
        let sigmas = shifted_levels(config.num_train_timesteps, shift, steps);
        let trained = config.num_train_timesteps as f64;
        return Ok((sigmas.iter().map(|sigma| (sigma * trained) as i64).collect(), sigmas));
    }
    let sigmas = timesteps.iter().map(|timestep| table.at(*timestep as f64)).collect();
    Ok((timesteps, sigmas))
}

/// How many of the noisiest timesteps have a λ below `lambda_min_clipped` and are never visited.
fn clipped(config: &Config, alpha_bars: &AlphaBars) -> usize {
    let smallest = config.lambda_min_clipped as f32;
    let lambda = |alpha_bar: &f32| logarithm(alpha_bar.sqrt()) - logarithm((1.0 - alpha_bar).sqrt());
    alpha_bars.values().iter().rev().position(|alpha_bar| lambda(alpha_bar) >= smallest).unwrap_or(config.num_train_timesteps)
}

impl Sampler for DpmSolverMultistep {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
    }

    fn takes_noise(&self, index: usize) -> bool {
        self.is_stochastic() && index < self.timesteps.len()
    }

    fn is_linear(&self) -> bool {
        !self.config.thresholding
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        in_range(index, self.timesteps.len())?;
        let prediction = self.mean(prediction, sample)?;
        let noise = checked_noise(self, index, sample, noise)?;
        self.sequence.advance(index)?;
        let (output, predicted_original) = self.converted(index, &prediction, sample)?;
        if self.outputs.len() == self.config.solver_order {
            self.outputs.pop_front();
        }
        self.outputs.push_back(output);

        let order = self.order_at(index, self.outputs.len());
        let factors = self.factors(index, order);
        let mut newest = self.outputs.iter().rev();
        let (Some(m0), m1, m2) = (newest.next(), newest.next(), newest.next()) else { bail!("no prediction is remembered") };
        let here = self.level(index).lambda;
        let h = self.level(index + 1).lambda - here;
        let mut moved = combine(sample, m0, |x, d0| factors.sample * x + factors.d0 * d0);
        match (order, m1, m2) {
            (1, ..) => {}
            (2, Some(m1), _) => {
                let r0 = (here - self.level(index - 1).lambda) / h;
                Zip::from(&mut moved).and(m0).and(m1).for_each(|x, m0, m1| *x += factors.d1 * (1.0 / r0 * (m0 - m1)));
            }
            (_, Some(m1), Some(m2)) => {
                let (before, second) = (self.level(index - 1).lambda, self.level(index - 2).lambda);
                let (r0, r1) = ((here - before) / h, (before - second) / h);
                Zip::from(&mut moved).and(m0).and(m1).and(m2).for_each(|x, m0, m1, m2| {
                    let (newer, older) = (1.0 / r0 * (m0 - m1), 1.0 / r1 * (m1 - m2));
                    let d1 = newer + r0 / (r0 + r1) * (newer - older);
                    let d2 = 1.0 / (r0 + r1) * (newer - older);
                    *x = *x + factors.d1 * d1 + factors.d2 * d2;
                });
            }
            _ => bail!("a step of order {order} needs as many predictions, {} are remembered", self.outputs.len()),
        }
        if let Some(noise) = noise {
            Zip::from(&mut moved).and(noise).for_each(|x, noise| *x += factors.noise * noise);
        }
        Ok(Step { sample: moved, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        same_shape("noise", noise, original)?;
        Ok(self.level(index).mixed(original, noise))
    }
}
