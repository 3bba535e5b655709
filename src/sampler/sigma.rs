//! Noise levels σ: the table over the training timesteps, and the ways to spread a run over it.
//!
//! T. Karras et al., 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", arXiv:2206.00364, eq. 5;
//! C. Lu et al., 2022, "DPM-Solver", arXiv:2206.00927 (even steps in λ);
//! H. Lee et al., 2024, "Beta Sampling is All You Need", arXiv:2407.12173 (quantiles of a Beta distribution).
//!
//! In: ᾱ per timestep, and the largest and smallest level. Out: levels in falling order, and timesteps for them.
//! Not here: the shift of flow matching (`flow_match_euler`).
//!
//! | here        | paper    | meaning                             |
//! |-------------|----------|-------------------------------------|
//! | `sigma`     | σ        | √((1 − ᾱ) / ᾱ), noise over signal   |
//! | `RHO`       | ρ        | how far the spread leans to small σ |
//! | −`log_sigma` | λ       | half the logarithm of the signal-to-noise ratio |

use anyhow::{Result, bail};
use ndarray::ArrayD;

use super::config::Config;
use super::schedule::{AlphaBars, evenly};
use super::settings::SigmaSchedule;
use super::{combine, in_range, same_shape};
use crate::refuse;

/// The exponent that Karras et al. found to work for pictures.
const RHO: f64 = 7.0;

/// σ and its logarithm for every training timestep, cleanest first.
#[derive(Debug, Clone)]
pub(super) struct SigmaTable {
    pub(super) sigmas: Vec<f32>,
    logarithms: Vec<f32>,
}

impl SigmaTable {
    pub(super) fn new(alpha_bars: &AlphaBars) -> Self {
        let sigmas: Vec<f32> = alpha_bars.values().iter().map(|alpha_bar| ((1.0 - alpha_bar) / alpha_bar).sqrt()).collect();
        let logarithms = sigmas.iter().map(|sigma| logarithm(*sigma)).collect();
        Self { sigmas, logarithms }
    }

    /// The level of the cleanest timestep.
    pub(super) fn smallest(&self) -> f32 {
        self.sigmas.first().copied().unwrap_or(f32::NAN)
    }

    /// The level of the noisiest timestep.
    pub(super) fn largest(&self) -> f32 {
        self.sigmas.last().copied().unwrap_or(f32::NAN)
    }

    /// The level at `timestep`, on the straight line between its neighbours; outside the table the nearest entry.
    pub(super) fn at(&self, timestep: f64) -> f64 {
        let last = self.sigmas.len().saturating_sub(1);
        if timestep.is_nan() || timestep <= 0.0 {
            return f64::from(self.smallest());
        }
        let below = timestep.floor() as usize;
        if below >= last {
            return f64::from(self.largest());
        }
        let (low, high) = (f64::from(self.sigmas[below]), f64::from(self.sigmas[below + 1]));
        (high - low) * (timestep - below as f64) + low
    }

    /// The timestep at which the level is `sigma`, on the straight line between the logarithms of its neighbours.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        self.between(log_sigma, |low, high| (f64::from(low) - log_sigma) / f64::from(low - high))
    }

    /// As [`SigmaTable::timestep`] for a level given in f32, whose share diffusers computes in f32.
    pub(super) fn timestep_f32(&self, sigma: f32) -> f64 {
        let log_sigma = logarithm(sigma.max(1e-10));
        self.between(f64::from(log_sigma), |low, high| f64::from((low - log_sigma) / (low - high)))
    }

    fn between(&self, log_sigma: f64, share: impl Fn(f32, f32) -> f64) -> f64 {
        if self.logarithms.len() < 2 {
            return 0.0;
        }
        let reached = self.logarithms.iter().rposition(|entry| log_sigma - f64::from(*entry) >= 0.0).unwrap_or(0);
        let below = reached.min(self.logarithms.len() - 2);
        let share = share(self.logarithms[below], self.logarithms[below + 1]).clamp(0.0, 1.0);
        (1.0 - share) * below as f64 + share * (below + 1) as f64
    }
}

/// The logarithm rounded once to f32, so that it is the same on every processor.
pub(super) fn logarithm(value: f32) -> f32 {
    f64::from(value).ln() as f32
}

/// The exponential rounded once to f32, so that it is the same on every processor.
pub(super) fn exponential(exponent: f32) -> f32 {
    f64::from(exponent).exp() as f32
}

/// Spreads `steps` levels over the run's own range, `largest` to `smallest`, or over the one that `config` states;
/// [`SigmaSchedule::Plain`] has no rule of its own.
pub(super) fn spread(config: &Config, largest: f64, smallest: f64, steps: usize) -> Option<Vec<f64>> {
    let (largest, smallest) = (config.sigma_max.unwrap_or(largest), config.sigma_min.unwrap_or(smallest));
    match config.sigma_schedule {
        SigmaSchedule::Plain => None,
        SigmaSchedule::Karras => Some(karras(&evenly(0.0, 1.0, steps), largest, smallest, RHO)),
        SigmaSchedule::Exponential => Some(evenly(largest.ln(), smallest.ln(), steps).into_iter().map(f64::exp).collect()),
        SigmaSchedule::Beta => Some(
            evenly(0.0, 1.0, steps).into_iter().map(|ramp| smallest + beta_quantile(1.0 - ramp) * (largest - smallest)).collect(),
        ),
    }
}

/// Levels at the places `ramp` (0 largest, 1 smallest) of an even spread in σ^(1/ρ).
pub(super) fn karras(ramp: &[f64], largest: f64, smallest: f64, rho: f64) -> Vec<f64> {
    let (from, to) = (largest.powf(1.0 / rho), smallest.powf(1.0 / rho));
    ramp.iter().map(|place| (from + place * (to - from)).powf(rho)).collect()
}

/// Passes noise levels on if all of them are finite.
pub(super) fn all_finite(sigmas: Vec<f32>) -> Result<Vec<f32>> {
    match sigmas.iter().position(|sigma| !sigma.is_finite()) {
        Some(position) => bail!("the noise level of step {position} is {}, expected a finite number", sigmas[position]),
        None => Ok(sigmas),
    }
}

/// Passes the noise levels of a multistep solver on if it can divide by the steps between them.
pub(super) fn all_apart(sigmas: Vec<f32>, is_flow: bool) -> Result<Vec<f32>> {
    let sigmas = all_finite(sigmas)?;
    let Some((_, visited)) = sigmas.split_last() else { bail!("no noise levels, expected at least one") };
    if is_flow && let Some(sigma) = visited.iter().find(|sigma| **sigma >= 1.0) {
        bail!(
            "the noise levels reach {sigma}, expected less than 1, since `use_flow_sigmas` is true; is another spread set as well?"
        );
    }
    if visited.windows(2).any(|pair| pair[1] >= pair[0]) {
        refuse!("there are {} steps, so many that two noise levels coincide; use fewer", visited.len());
    }
    Ok(sigmas)
}

/// Mixes noise into `original` to the level `sigmas[index]`.
pub(super) fn add_noise(
    sigmas: &[f32],
    steps: usize,
    original: &ArrayD<f32>,
    noise: &ArrayD<f32>,
    index: usize,
) -> Result<ArrayD<f32>> {
    in_range(index, steps)?;
    same_shape("noise", noise, original)?;
    let sigma = sigmas[index];
    Ok(combine(original, noise, |clean, noise| clean + noise * sigma))
}

/// Scales a sample of variance 1 + σ² to variance 1.
pub(super) fn to_unit_variance(sample: &ArrayD<f32>, sigma: f32) -> ArrayD<f32> {
    let deviation = (sigma * sigma + 1.0).sqrt();
    sample.mapv(|value| value / deviation)
}

/// A noise level of the multistep solvers, which work on samples of the form `signal` x₀ + `spread` ε.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub(super) sigma: f32,
    pub(super) signal: f32,
    pub(super) spread: f32,
    pub(super) lambda: f32,
}

impl Level {
    /// Takes `sigma` for spread over signal or, with `is_flow`, for the share of noise.
    pub(super) fn new(sigma: f32, is_flow: bool) -> Self {
        let (signal, spread) = if is_flow {
            (1.0 - sigma, sigma)
        } else {
            let signal = 1.0 / (sigma * sigma + 1.0).sqrt();
            (signal, sigma * signal)
        };
        Self { sigma, signal, spread, lambda: logarithm(signal) - logarithm(spread) }
    }

    /// Mixes noise into `original` to this level.
    pub(super) fn mixed(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>) -> ArrayD<f32> {
        combine(original, noise, |clean, noise| self.signal * clean + self.spread * noise)
    }
}

/// The levels of flow matching as the multistep solvers spread them: evenly from the noisiest towards 0, which is left out,
/// then shifted.
pub(super) fn shifted_levels(num_train_timesteps: usize, shift: f64, steps: usize) -> Vec<f64> {
    evenly(1.0, 1.0 / num_train_timesteps as f64, steps + 1)
        .into_iter()
        .skip(1)
        .rev()
        .map(|signal| {
            let sigma = 1.0 - signal;
            shift * sigma / (1.0 + (shift - 1.0) * sigma)
        })
        .collect()
}

/// The shape parameter of the Beta distribution, on both sides.
const SHAPE: f64 = 0.6;

/// B(0.6, 0.6) = Γ(0.6)² / Γ(1.2).
const BETA_FUNCTION: f64 = 2.415_344_208_002_472_3;

/// The place below which a share `probability` of a Beta(0.6, 0.6) distribution lies.
fn beta_quantile(probability: f64) -> f64 {
    if probability <= 0.0 {
        return 0.0;
    }
    if probability >= 1.0 {
        return 1.0;
    }
    // The distribution is its own mirror image, and near 0 a place keeps all its digits.
    if probability > 0.5 {
        return 1.0 - beta_quantile(1.0 - probability);
    }
    // Bisection in log x: the distribution function grows like a power of x there, so 64 halvings reach full precision.
    let (mut low, mut high) = (-745.0_f64, 0.5_f64.ln());
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if beta_distribution(middle.exp()) < probability { low = middle } else { high = middle }
    }
    (0.5 * (low + high)).exp()
}

/// The share of a Beta(0.6, 0.6) distribution that lies below `x`, for `x` at most one half.
///
/// x^a / (a B(a, b)) · ₂F₁(a, 1 − b; a + 1; x), whose series converges like 2⁻ⁿ there.
fn beta_distribution(x: f64) -> f64 {
    let (mut term, mut sum) = (1.0, 1.0);
    for order in 0..200 {
        let n = f64::from(order);
        term *= (SHAPE + n) * (1.0 - SHAPE + n) / ((SHAPE + 1.0 + n) * (n + 1.0)) * x;
        sum += term;
        if term < sum * f64::EPSILON * 0.1 {
            break;
        }
    }
    x.powf(SHAPE) / (SHAPE * BETA_FUNCTION) * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beta_quantile_undoes_the_distribution() {
        assert_eq!(beta_quantile(0.0), 0.0);
        assert_eq!(beta_quantile(1.0), 1.0);
        assert!((beta_quantile(0.5) - 0.5).abs() < 1e-14);
        for thousandth in 1..500 {
            let probability = f64::from(thousandth) / 1000.0;
            let back = beta_distribution(beta_quantile(probability));
            assert!((back - probability).abs() < 1e-13, "{probability} became {back}");
        }
    }
}
