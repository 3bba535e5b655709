//! What the samplers of score networks share: their settings, the Langevin corrector, configurations for a network's range.
//!
//! Y. Song, J. Sohl-Dickstein, D. P. Kingma, A. Kumar, S. Ermon, B. Poole, 2020, "Score-Based Generative Modeling through
//! Stochastic Differential Equations", arXiv:2011.13456. Uses algorithms 4 and 5 (the corrector) and eq. 29 and 33 (the
//! noise that is left at time t).
//!
//! In: a score ∇ log p_σ(x), noise. Out: a sample of the same noise level that fits the score better.
//! Not here: the predictors (`score_sde_ve`, `score_sde_vp`), annealing (`annealed_langevin`).
//!
//! The networks predict the score of x = x₀ + σ ε and are given σ itself as the timestep.
//!
//! | here                | paper | meaning                                              |
//! |---------------------|-------|------------------------------------------------------|
//! | `snr`               | r     | signal-to-noise ratio of a corrector's step          |
//! | `correct_steps`     | M     | corrector steps before each predictor step           |
//! | `alpha`             | α_i   | 1, or the signal's share that a step keeps (VP)      |
//! | `step_size`         | ε     | step size of a corrector's step                      |

use anyhow::{Result, bail};
use ndarray::{ArrayD, Axis, Zip};
use serde_json::{Map, Value, json};

use super::config::Config;
use super::kind::Kind;
use super::reader::Reader;

/// The most corrector steps, or steps for each level, that a configuration may ask for.
const MOST_STEPS: usize = 10_000;
/// β at the clean end of the variance-preserving process (appendix C).
const BETA_MIN: f64 = 0.1;

/// The keys that only samplers of score networks take.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) snr: f64,
    pub(super) correct_steps: usize,
    pub(super) sampling_eps: f64,
    pub(super) beta_min: f64,
    pub(super) beta_max: f64,
    pub(super) steps_per_level: usize,
    /// Nothing where it is to be found from the noise levels.
    pub(super) step_size: Option<f64>,
    pub(super) denoise: bool,
}

impl Settings {
    pub(super) fn read(reader: &Reader) -> Result<Self> {
        let positive = |number: f64| number.is_finite() && number > 0.0;
        // The class of variance preserving has no corrector in diffusers.
        let (correct_steps, sampling_eps) = if reader.kind == Kind::ScoreSdeVp { (0, 1e-3) } else { (1, 1e-5) };
        let settings = Self {
            snr: reader.number("snr", 0.15, "a positive number", positive)?,
            correct_steps: reader.whole("correct_steps", correct_steps, 0, MOST_STEPS)?,
            sampling_eps: reader
                .number("sampling_eps", sampling_eps, "a number between 0 and 1", |number| number > 0.0 && number < 1.0)?,
            beta_min: reader.number("beta_min", BETA_MIN, "a positive number", positive)?,
            beta_max: reader.number("beta_max", 20.0, "a positive number below 170", |number| number > 0.0 && number < 170.0)?,
            steps_per_level: reader.whole("steps_per_level", 5, 1, MOST_STEPS)?,
            step_size: reader.optional_number("step_size", "a positive number", positive)?,
            denoise: reader.flag("denoise", true)?,
        };
        if settings.beta_min > settings.beta_max {
            bail!("`beta_min` is {}, expected at most `beta_max`, which is {}", settings.beta_min, settings.beta_max);
        }
        Ok(settings)
    }
}

impl Config {
    /// Configures a sampler of score networks for a network trained at the noise levels from `sigma_min` to `sigma_max`.
    ///
    /// The variance-preserving process is given the β and the end at which its noise, seen as variance exploding, spans that
    /// range: σ² = e^{∫β} − 1 (eq. 33), which is β_max = 2 ln(1 + σ_max²) − β_min at t = 1.
    ///
    /// # Errors
    /// `kind` is not one of the samplers of score networks, or the levels are no positive numbers in rising order.
    pub fn for_score(kind: Kind, sigma_min: f64, sigma_max: f64) -> Result<Self> {
        if !kind.is_score() {
            bail!("sampler `{kind}` is not one for score networks, expected `ve`, `vp` or `langevin`");
        }
        if !(sigma_min > 0.0 && sigma_min < sigma_max && sigma_max.is_finite()) {
            bail!("the noise levels go from {sigma_min} to {sigma_max}, expected positive numbers, the smaller one first");
        }
        let keys = if kind == Kind::ScoreSdeVp {
            let spent = |sigma: f64| (sigma * sigma).ln_1p();
            // A small range is crossed at one rate.
            let beta_min = BETA_MIN.min(spent(sigma_max));
            let beta_max = 2.0 * spent(sigma_max) - beta_min;
            // The time at which ∫β = t² (β_max − β_min) / 2 + t β_min has come as far as σ_min.
            let root = (beta_min * beta_min + 2.0 * (beta_max - beta_min) * spent(sigma_min)).sqrt();
            let sampling_eps = 2.0 * spent(sigma_min) / (root + beta_min);
            json!({ "beta_min": beta_min, "beta_max": beta_max, "sampling_eps": sampling_eps })
        } else {
            json!({ "sigma_min": sigma_min, "sigma_max": sigma_max })
        };
        Self::read(kind, keys.as_object().cloned().unwrap_or_else(Map::<String, Value>::new))
    }
}

/// Takes one Langevin step at the sample's own noise level (algorithms 4 and 5).
///
/// The step size is found for each picture from its own norms, so that a picture is the same alone as among others; diffusers
/// takes the mean over the batch, which is the same for one picture.
///
/// # Errors
/// The score of a picture is zero everywhere or not finite.
pub(super) fn corrected(
    sample: &ArrayD<f32>,
    score: &ArrayD<f32>,
    noise: &ArrayD<f32>,
    snr: f64,
    alpha: f32,
) -> Result<ArrayD<f32>> {
    if sample.ndim() == 0 {
        bail!("the sample has no batch, expected one picture or more");
    }
    let mut moved = sample.clone();
    let pictures = moved.axis_iter_mut(Axis(0)).zip(score.axis_iter(Axis(0))).zip(noise.axis_iter(Axis(0)));
    for (number, ((mut picture, score), noise)) in pictures.enumerate() {
        let norm = |values: &ndarray::ArrayViewD<'_, f32>| {
            values.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt()
        };
        let (of_score, of_noise) = (norm(&score), norm(&noise));
        let step_size = ((snr * of_noise / of_score).powi(2) * 2.0) as f32 * alpha;
        if !step_size.is_finite() {
            bail!(
                "the score of picture {number} has norm {of_score}, expected a positive one, from which the corrector takes its step"
            );
        }
        let spread = (step_size * 2.0).sqrt();
        Zip::from(&mut picture).and(&score).and(&noise).for_each(|x, score, noise| *x = *x + step_size * score + spread * noise);
    }
    Ok(moved)
}
