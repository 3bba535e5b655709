//! The one loop: predict, step, predict, step.

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, Axis, IxDyn, concatenate};

use super::on_device::denoise_on_device;
use crate::random::Generator;
use crate::request::Resolved;
use crate::runtime::Cancel;
use crate::sampler::{Sampler, Step};
use crate::stage::{DeviceDenoiser, Networks};

/// Where a picture's random numbers come from.
pub(super) enum Source {
    /// One seed's generator.
    Seed(Generator),
    /// The way from one seed's generator to another's, and where on it, 0 to 1.
    Between(Generator, Generator, f32),
}

impl Source {
    fn draw(&mut self, count: usize) -> Vec<f32> {
        match self {
            Self::Seed(generator) => generator.normals(count),
            Self::Between(from, to, share) => between(&from.normals(count), &to.normals(count), *share),
        }
    }
}

/// Random numbers for a batch: each picture has a source of its own, so that it is the same alone as among others.
pub(super) struct Noise {
    sources: Vec<Source>,
}

impl Noise {
    pub(super) fn new(sources: Vec<Source>) -> Self {
        Self { sources }
    }

    /// How many pictures draw from it.
    pub(super) fn batch(&self) -> usize {
        self.sources.len()
    }

    /// Draws an order of the numbers below `count` from the first source's seed.
    pub(super) fn permutation(&mut self, count: usize) -> Result<Vec<usize>> {
        match self.sources.first_mut() {
            Some(Source::Seed(generator)) => {
                generator.permutation(count).context("only the processor's random numbers can be put into an order")
            }
            _ => bail!("an order is drawn from one seed alone"),
        }
    }

    /// Draws standard normals of `[B, …shape]`, a row from each source.
    pub(super) fn draw(&mut self, shape: &[usize]) -> Result<ArrayD<f32>> {
        let count: usize = shape.iter().product();
        let whole: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
        let rows: Vec<ArrayD<f32>> = self
            .sources
            .iter_mut()
            .map(|source| ArrayD::from_shape_vec(IxDyn(&whole), source.draw(count)))
            .collect::<Result<_, _>>()?;
        let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
        Ok(concatenate(Axis(0), &views)?)
    }
}

/// The point at `share` of the arc from `from` to `to`; a straight line where they lie along one.
fn between(from: &[f32], to: &[f32], share: f32) -> Vec<f32> {
    let dot = |left: &[f32], right: &[f32]| -> f64 {
        left.iter().zip(right).map(|(left, right)| f64::from(*left) * f64::from(*right)).sum()
    };
    let lengths = (dot(from, from) * dot(to, to)).sqrt();
    let angle = if lengths > 0.0 { (dot(from, to) / lengths).clamp(-1.0, 1.0).acos() } else { 0.0 };
    let share = f64::from(share);
    let (of_from, of_to) = if angle.sin() > 1e-6 {
        (((1.0 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin())
    } else {
        (1.0 - share, share)
    };
    #[expect(clippy::cast_possible_truncation, reason = "noise is f32")]
    from.iter().zip(to).map(|(from, to)| (f64::from(*from) * of_from + f64::from(*to) * of_to) as f32).collect()
}

/// What a family puts into the loop.
pub(super) trait Model {
    /// Predicts for `sample`, `[B, C, …]` f32 as the sampler scaled it; returns the same shape.
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>>;

    /// Is given what the step after network call `index` made of it, and returns the sample that the next call begins with.
    fn after(&mut self, sampler: &dyn Sampler, index: usize, step: Step) -> Result<ArrayD<f32>> {
        let _ = sampler;
        self.look(index, Some(&step.predicted_original))?;
        Ok(step.sample)
    }

    /// Is told that the step after network call `index` was made, and shown the estimate of the clean sample that there is then.
    fn look(&mut self, index: usize, estimate: Option<&ArrayD<f32>>) -> Result<()>;

    /// Whether each estimate is wanted.
    fn wants_estimate(&self) -> bool {
        false
    }

    /// Whether the estimate that was the last prediction's is what comes out, in place of the last sample.
    fn ends_with_estimate(&self) -> bool {
        false
    }

    /// The denoiser, where nothing but the sampler changes a sample between its calls.
    fn on_device(&mut self) -> Option<(&mut dyn DeviceDenoiser, &mut Networks)> {
        None
    }
}

/// Takes `sample`, `[B, C, …]` f32 at the noise level of network call `begin`, to a clean one.
///
/// # Errors
/// The model or the sampler fails; the run was cancelled.
pub(super) fn denoise(
    model: &mut dyn Model,
    request: &Resolved,
    sampler: &mut dyn Sampler,
    begin: usize,
    mut sample: ArrayD<f32>,
    noise: &mut Noise,
    cancel: &Cancel,
) -> Result<ArrayD<f32>> {
    if let Some(denoised) = denoise_on_device(model, request, begin, &sample, noise, cancel)? {
        return Ok(denoised);
    }
    let timesteps = sampler.timesteps().to_vec();
    let mut estimate = sample.clone();
    for (index, timestep) in timesteps.into_iter().enumerate().skip(begin) {
        cancel.check()?;
        let scaled = sampler.scale_model_input(&sample, index)?;
        let prediction = model.predict(&scaled, timestep)?;
        let fresh = match sampler.takes_noise(index) {
            true => Some(noise.draw(&sample.shape()[1..])?),
            false => None,
        };
        let step = sampler.step(index, &prediction, &sample, fresh.as_ref())?;
        estimate.clone_from(&step.predicted_original);
        sample = model.after(sampler, index, step)?;
    }
    Ok(if model.ends_with_estimate() { estimate } else { sample })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Device;

    #[test]
    fn a_walk_begins_and_ends_at_its_seeds_and_keeps_the_length() {
        let seed = |seed| Generator::new(Device::Cpu, seed);
        let draw = |share| Source::Between(seed(1), seed(2), share).draw(4096);
        let difference = |left: &[f32], right: &[f32]| {
            left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0_f32, f32::max)
        };
        assert!(difference(&draw(0.0), &seed(1).normals(4096)) < 1e-6);
        assert!(difference(&draw(1.0), &seed(2).normals(4096)) < 1e-6);
        let square: f32 = draw(0.5).iter().map(|value| value * value).sum();
        assert!((square / 4096.0 - 1.0).abs() < 0.1, "{square}");
        let same = Source::Between(seed(1), seed(1), 0.3).draw(64);
        assert!(difference(&same, &seed(1).normals(64)) < 1e-6);
    }
}
