//! Unified predictor-corrector (UniPC), multistep, with either choice of B(h).
//!
//! W. Zhao, L. Bai, Y. Rao, J. Zhou, J. Lu, 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of
//! Diffusion Models", arXiv:2302.04867. Uses the multistep forms of UniP and UniC, for ε and for x₀.
//!
//! In: the denoiser's prediction. Out: the sample at the next level. Each call first corrects the sample it was given with
//! the prediction made on it, then predicts from the corrected one; that costs no further network call.
//! Not here: another solver as the predictor (`solver_p`).
//!
//! | here             | paper        | meaning                                              |
//! |------------------|--------------|------------------------------------------------------|
//! | `signal`, `spread` | α_t, σ_t   | factors of x₀ and ε in the sample                    |
//! | `h`              | h            | the step in λ; `hh` is −h where x₀ is predicted      |
//! | `ratios`         | r_m          | earlier λ, counted in steps of h                     |
//! | `differences`    | D_m / r_m    | divided differences of the predictions               |
//! | `weights`        | a_m, c_m     | solution of R(h) a = B(h)⁻¹ φ(h)                     |
//! | `b_of_h`         | B(h)         | h (`bh1`) or e^h − 1 (`bh2`)                         |

use std::collections::VecDeque;

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, Zip};

use super::config::Config;
use super::flow_match_euler::dynamic_shift;
use super::prediction::{clean, noise as predicted_noise, thresholded};
use super::schedule::{AlphaBars, multistep_timesteps};
use super::settings::{FinalSigma, Prediction, SigmaSchedule, SolverType};
use super::sigma::{Level, SigmaTable, all_apart, shifted_levels, spread};
use super::{Run, Sampler, Sequence, Step, checked, combine, in_range, same_shape};
use crate::refuse;

pub(super) struct UniPc {
    config: Config,
    timesteps: Vec<f32>,
    sigmas: Vec<f32>,
    sequence: Sequence,
    /// The last converted predictions, newest at the end.
    outputs: VecDeque<ArrayD<f32>>,
    before: Option<Before>,
}

/// What a step leaves to the corrector of the next one.
struct Before {
    sample: ArrayD<f32>,
    order: usize,
}

impl UniPc {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        if run.mu.is_some() && !config.use_dynamic_shifting {
            refuse!("mu is given, but this model's noise levels are not shifted by the size of the picture; leave it out");
        }
        let shift = dynamic_shift(config, run)?.map_or(config.shift, f64::exp);
        let table = SigmaTable::new(&AlphaBars::new(config)?.with_finite_end(config)?);
        let (timesteps, mut sigmas) = levels(config, run, &table, shift)?;
        let follows_timesteps = config.sigma_schedule == SigmaSchedule::Plain && !config.use_flow_sigmas;
        sigmas.push(match config.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin if follows_timesteps => f64::from(table.smallest()),
            FinalSigma::SigmaMin => sigmas.last().copied().unwrap_or(f64::NAN),
        });
        let sigmas = all_apart(sigmas.into_iter().map(|sigma| sigma as f32).collect(), config.use_flow_sigmas)?;
        if let [.., before, last] = sigmas[..]
            // The second order divides by a step of nothing only to multiply by it again.
            && (last == 0.0 || (last == before && config.solver_order > 2))
            && !config.lower_order_final
            && config.solver_order > 1
            && timesteps.len() > 1
        {
            bail!(
                "`lower_order_final` is false, so the last step divides by nothing; expected true, or a last noise level between 0 and {before}"
            );
        }
        Ok(Self {
            config: config.clone(),
            timesteps: timesteps.into_iter().map(|timestep| timestep as f32).collect(),
            sigmas,
            sequence: Sequence::default(),
            outputs: VecDeque::new(),
            before: None,
        })
    }

    fn level(&self, index: usize) -> Level {
        Level::new(self.sigmas[index], self.config.use_flow_sigmas)
    }

    /// Converts the prediction to x₀ or ε, whichever the solver integrates, and returns it with the estimate of x₀.
    fn converted(&self, index: usize, prediction: &ArrayD<f32>, sample: &ArrayD<f32>) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
        let Level { signal, spread, sigma, .. } = self.level(index);
        let kind = self.config.prediction;
        if self.config.predict_x0 {
            let spread = if kind == Prediction::Flow { sigma } else { spread };
            let mut predicted = clean(kind, prediction, sample, signal, spread);
            if self.config.thresholding {
                predicted = thresholded(&self.config, predicted)?;
            }
            return Ok((predicted.clone(), predicted));
        }
        let epsilon = predicted_noise(kind, prediction, sample, signal, spread);
        let predicted = clean(Prediction::Epsilon, &epsilon, sample, signal, spread);
        Ok((epsilon, predicted))
    }

    /// The terms that predictor and corrector share, for a step from level `from` to the one after it.
    fn terms(&self, from: usize, order: usize) -> Result<Terms> {
        let (start, end) = (self.level(from), self.level(from + 1));
        let h = end.lambda - start.lambda;
        let hh = if self.config.predict_x0 { -h } else { h };
        let growth = exp_minus_one(hh);
        let b_of_h = if self.config.solver_type == SolverType::Bh1 { hh } else { growth };

        let newest = self.outputs.back().context("no prediction is remembered")?;
        let mut ratios = Vec::with_capacity(order);
        let mut differences = Vec::with_capacity(order);
        for distance in 1..order {
            let (Some(level), Some(output)) = (from.checked_sub(distance), self.outputs.iter().rev().nth(distance)) else {
                bail!("a step of order {order} needs as many predictions, {} are remembered", self.outputs.len());
            };
            let ratio = (self.level(level).lambda - start.lambda) / h;
            differences.push(combine(output, newest, |output, newest| (output - newest) / ratio));
            ratios.push(ratio);
        }
        ratios.push(1.0);

        let mut right = Vec::with_capacity(order);
        let mut phi = growth / hh - 1.0;
        let mut factorial = 1.0_f32;
        for power in 1..=order {
            right.push(phi * factorial / b_of_h);
            factorial *= power as f32 + 1.0;
            phi = phi / hh - 1.0 / factorial;
        }
        // x₀ moves along α with factor σ_t/σ_s, ε along σ with factor α_t/α_s.
        let (along, kept) = if self.config.predict_x0 {
            (end.signal, end.spread / start.spread)
        } else {
            (end.spread, end.signal / start.signal)
        };
        Ok(Terms { along, kept, growth, b_of_h, ratios, differences, right })
    }

    /// Moves `sample` from level `index` to the next.
    fn predict(&self, index: usize, order: usize, sample: &ArrayD<f32>) -> Result<ArrayD<f32>> {
        let terms = self.terms(index, order)?;
        let newest = self.outputs.back().context("no prediction is remembered")?;
        let moved = terms.moved(sample, newest);
        let weights = match order {
            1 => return Ok(moved),
            // The paper's simplification for the second order.
            2 => vec![0.5],
            _ => solved(&terms.ratios[..order - 1], &terms.right[..order - 1]),
        };
        let residual = terms.weighted(&weights);
        let factor = terms.along * terms.b_of_h;
        Ok(match residual {
            Some(residual) => combine(&moved, &residual, |x, residual| x - factor * residual),
            None => moved,
        })
    }

    /// Repeats the step that led to `index` with the prediction that was made there.
    fn correct(&self, index: usize, before: &Before, output: &ArrayD<f32>) -> Result<ArrayD<f32>> {
        let order = before.order;
        let Some(from) = index.checked_sub(1) else { bail!("step 0 has no step before it to correct") };
        let terms = self.terms(from, order)?;
        let newest = self.outputs.back().context("no prediction is remembered")?;
        let mut weights = if order == 1 { vec![0.5] } else { solved(&terms.ratios, &terms.right) };
        let last = weights.pop().context("a corrector has at least one weight")?;
        let mut residual = combine(output, newest, |output, newest| last * (output - newest));
        if let Some(earlier) = terms.weighted(&weights) {
            residual = combine(&earlier, &residual, |earlier, residual| earlier + residual);
        }
        let factor = terms.along * terms.b_of_h;
        let moved = terms.moved(&before.sample, newest);
        Ok(combine(&moved, &residual, |x, residual| x - factor * residual))
    }
}

struct Terms {
    along: f32,
    kept: f32,
    growth: f32,
    b_of_h: f32,
    ratios: Vec<f32>,
    differences: Vec<ArrayD<f32>>,
    right: Vec<f32>,
}

impl Terms {
    /// The first-order step.
    fn moved(&self, sample: &ArrayD<f32>, newest: &ArrayD<f32>) -> ArrayD<f32> {
        let factor = self.along * self.growth;
        combine(sample, newest, |x, output| self.kept * x - factor * output)
    }

    /// The weighted sum of the differences, if there are any.
    fn weighted(&self, weights: &[f32]) -> Option<ArrayD<f32>> {
        let mut pairs = self.differences.iter().zip(weights);
        let (first, weight) = pairs.next()?;
        let mut sum = first.mapv(|value| weight * value);
        for (difference, weight) in pairs {
            Zip::from(&mut sum).and(difference).for_each(|sum, value| *sum += weight * value);
        }
        Some(sum)
    }
}

/// e^x − 1, rounded once to f32.
fn exp_minus_one(x: f32) -> f32 {
    f64::from(x).exp_m1() as f32
}

/// Solves Σ_m r_m^k a_m = right_k for the weights a, by elimination with the largest pivot.
fn solved(ratios: &[f32], right: &[f32]) -> Vec<f32> {
    let size = ratios.len().min(right.len());
    let mut rows: Vec<Vec<f64>> = (0..size)
        .map(|power| {
            let mut row: Vec<f64> = ratios.iter().map(|ratio| f64::from(ratio.powi(power as i32))).collect();
            row.push(f64::from(right[power]));
            row
        })
        .collect();
    for column in 0..size {
        let pivot = (column..size).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs())).unwrap_or(column);
        rows.swap(column, pivot);
        let (above, below) = rows.split_at_mut(column + 1);
        let leading = &above[column];
        for row in below {
            let factor = row[column] / leading[column];
            for (value, lead) in row.iter_mut().zip(leading) {
                *value -= factor * lead;
            }
        }
    }
    let mut weights = vec![0.0_f64; size];
    for column in (0..size).rev() {
        let known: f64 = (column + 1..size).map(|later| rows[column][later] * weights[later]).sum();
        weights[column] = (rows[column][size] - known) / rows[column][column];
    }
    weights.into_iter().map(|weight| weight as f32).collect()
}

/// The timesteps and noise levels of the run, without the final level.
fn levels(config: &Config, run: &Run, table: &SigmaTable, shift: f64) -> Result<(Vec<i64>, Vec<f64>)> {
    let timesteps = multistep_timesteps(config, run.steps, config.num_train_timesteps)?;
    let (largest, smallest) = (f64::from(table.largest()), f64::from(table.smallest()));
    if let Some(sigmas) = spread(config, largest, smallest, run.steps) {
        let rounds = config.sigma_schedule == SigmaSchedule::Karras;
        let timestep_at = |sigma: &f64| {
            let timestep = table.timestep(*sigma);
            (if rounds { timestep.round_ties_even() } else { timestep }) as i64
        };
        return Ok((sigmas.iter().map(timestep_at).collect(), sigmas));
    }
    if config.use_flow_sigmas {
        let sigmas = shifted_levels(config.num_train_timesteps, shift, run.steps);
        let trained = config.num_train_timesteps as f64;
        return Ok((sigmas.iter().map(|sigma| (sigma * trained) as i64).collect(), sigmas));
    }
    let sigmas = timesteps.iter().map(|timestep| table.at(*timestep as f64)).collect();
    Ok((timesteps, sigmas))
}

impl Sampler for UniPc {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> Option<&[f32]> {
        Some(&self.sigmas)
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
        checked(self, index, prediction, sample, noise)?;
        self.sequence.advance(index)?;
        let (output, predicted_original) = self.converted(index, prediction, sample)?;
        let is_corrected = index > 0 && !self.config.disable_corrector.contains(&(index - 1));
        let sample = match &self.before {
            Some(before) if is_corrected => self.correct(index, before, &output)?,
            _ => sample.clone(),
        };
        if self.outputs.len() == self.config.solver_order {
            self.outputs.pop_front();
        }
        self.outputs.push_back(output);

        let left = self.timesteps.len() - index;
        let most = if self.config.lower_order_final { left } else { self.config.solver_order };
        let order = self.config.solver_order.min(most).min(self.outputs.len());
        let moved = self.predict(index, order, &sample)?;
        self.before = Some(Before { sample, order });
        Ok(Step { sample: moved, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        same_shape("noise", noise, original)?;
        Ok(self.level(index).mixed(original, noise))
    }
}
