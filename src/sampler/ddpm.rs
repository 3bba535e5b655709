//! Denoising diffusion probabilistic models (DDPM), ancestral sampling.
//!
//! J. Ho, A. Jain, P. Abbeel, 2020, arXiv:2006.11239. Uses eq. 4, 6, 7 and 15; learned variances from A. Nichol,
//! P. Dhariwal, 2021, arXiv:2102.09672, eq. 15.
//!
//! In: the denoiser's prediction at a timestep, and noise for every timestep above 0. Out: the sample at the next timestep.
//! Not here: drawing noise, guidance.
//!
//! | here                 | paper  | meaning                                     |
//! |----------------------|--------|---------------------------------------------|
//! | `alpha_bar`          | ᾱ_t    | signal kept at this timestep                |
//! | `alpha_bar_next`     | ᾱ_{t−1} | signal kept at the next, cleaner timestep  |
//! | `beta`               | β_t    | variance added between the two              |
//! | `variance`           | β̃_t   | variance of the cleaner sample given x₀     |

use anyhow::{Result, bail};
use ndarray::{ArrayD, Axis, Slice};

use super::config::Config;
use super::prediction::{clean, limited};
use super::schedule::{AlphaBars, as_f32, whole_falling, whole_timesteps};
use super::settings::Variance;
use super::sigma::{exponential, logarithm};
use super::{Run, Sampler, Step, checked_noise, combine, combine3, in_range, same_shape};

/// The variance is never taken below this, since its logarithm is taken.
const SMALLEST_VARIANCE: f32 = 1e-20;

pub(super) struct Ddpm {
    config: Config,
    alpha_bars: AlphaBars,
    timesteps: Vec<i64>,
    shown: Vec<f32>,
}

impl Ddpm {
    pub(super) fn new(config: &Config, run: &Run) -> Result<Self> {
        let alpha_bars = AlphaBars::new(config)?;
        let timesteps = match &run.timesteps {
            Some(timesteps) => whole_falling(config, timesteps)?,
            None => whole_timesteps(config, run.steps),
        };
        alpha_bars.check_visits(config, &timesteps)?;
        Ok(Self { shown: as_f32(&timesteps), config: config.clone(), alpha_bars, timesteps })
    }

    fn learns_variance(&self) -> bool {
        matches!(self.config.variance, Variance::Learned | Variance::LearnedRange)
    }

    /// Parts the prediction into that of the sample and that of the variance.
    fn parts(&self, prediction: &ArrayD<f32>, sample: &ArrayD<f32>) -> Result<(ArrayD<f32>, Option<ArrayD<f32>>)> {
        if !self.learns_variance() {
            same_shape("prediction", prediction, sample)?;
            return Ok((prediction.clone(), None));
        }
        let mut doubled = sample.shape().to_vec();
        match doubled.get_mut(1) {
            Some(channels) => *channels *= 2,
            None => bail!("the sample has shape {:?}, expected a batch and channels", sample.shape()),
        }
        if prediction.shape() != doubled {
            bail!("prediction has shape {:?}, a learned variance wants {doubled:?}", prediction.shape());
        }
        let channels = sample.shape()[1];
        let mean = prediction.slice_axis(Axis(1), Slice::from(..channels)).to_owned();
        let variance = prediction.slice_axis(Axis(1), Slice::from(channels..)).to_owned();
        Ok((mean, Some(variance)))
    }
}

impl Sampler for Ddpm {
    fn timesteps(&self) -> &[f32] {
        &self.shown
    }

    fn takes_noise(&self, index: usize) -> bool {
        self.timesteps.get(index).is_some_and(|timestep| *timestep > 0)
    }

    fn is_linear(&self) -> bool {
        !self.config.limits() && !self.learns_variance()
    }

    fn step(
        &mut self,
        index: usize,
        prediction: &ArrayD<f32>,
        sample: &ArrayD<f32>,
        noise: Option<&ArrayD<f32>>,
    ) -> Result<Step> {
        in_range(index, self.timesteps.len())?;
        let (prediction, learned) = self.parts(prediction, sample)?;
        let noise = checked_noise(self, index, sample, noise)?;

        let alpha_bar = self.alpha_bars.at(self.timesteps[index])?;
        let alpha_bar_next = match self.timesteps.get(index + 1) {
            Some(next) if *next >= 0 => self.alpha_bars.at(*next)?,
            _ => 1.0,
        };
        let (beta_bar, beta_bar_next) = (1.0 - alpha_bar, 1.0 - alpha_bar_next);
        let alpha = alpha_bar / alpha_bar_next;
        let beta = 1.0 - alpha;

        // eq. 15
        let predicted = clean(self.config.prediction, &prediction, sample, alpha_bar.sqrt(), beta_bar.sqrt());
        let predicted_original = limited(&self.config, predicted)?;
        // eq. 7, the mean
        let clean_factor = alpha_bar_next.sqrt() * beta / beta_bar;
        let sample_factor = alpha.sqrt() * beta_bar_next / beta_bar;
        let mean = combine(&predicted_original, sample, |clean, x| clean_factor * clean + sample_factor * x);

        let Some(noise) = noise else { return Ok(Step { sample: mean, predicted_original }) };
        // eq. 7, the variance
        let variance = (beta_bar_next / beta_bar * beta).max(SMALLEST_VARIANCE);
        let deviation = match self.config.variance {
            Variance::FixedSmallLog => exponential(0.5 * logarithm(variance)),
            Variance::FixedLarge | Variance::FixedLargeLog => beta.sqrt(),
            Variance::FixedSmall | Variance::Learned | Variance::LearnedRange => variance.sqrt(),
        };
        let sample = match (self.config.variance, learned) {
            (Variance::Learned, Some(learned)) => combine3(&mean, &learned, noise, |mean, v, noise| mean + v.sqrt() * noise),
            (Variance::LearnedRange, Some(learned)) => {
                let (smallest, largest) = (logarithm(variance), logarithm(beta));
                combine3(&mean, &learned, noise, |mean, v, noise| {
                    let share = (v + 1.0) / 2.0;
                    mean + exponential(0.5 * (share * largest + (1.0 - share) * smallest)) * noise
                })
            }
            _ => combine(&mean, noise, |mean, noise| mean + deviation * noise),
        };
        Ok(Step { sample, predicted_original })
    }

    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps.len())?;
        self.alpha_bars.add_noise(original, noise, self.timesteps[index])
    }
}
