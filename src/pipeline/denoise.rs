//! The one loop: predict, step, predict, step.

use anyhow::Result;
use ndarray::{ArrayD, Axis, IxDyn, concatenate};

use crate::random::Generator;
use crate::runtime::Cancel;
use crate::sampler::{Sampler, Step};

/// Random numbers for a batch: each picture has a generator of its own, so that it is the same alone as among others.
pub(super) struct Noise {
    generators: Vec<Generator>,
}

impl Noise {
    pub(super) fn new(generators: Vec<Generator>) -> Self {
        Self { generators }
    }

    /// How many pictures draw from it.
    pub(super) fn batch(&self) -> usize {
        self.generators.len()
    }

    /// Draws standard normals of `[B, …shape]`, a row from each generator.
    pub(super) fn draw(&mut self, shape: &[usize]) -> Result<ArrayD<f32>> {
        let count: usize = shape.iter().product();
        let whole: Vec<usize> = std::iter::once(1).chain(shape.iter().copied()).collect();
        let rows: Vec<ArrayD<f32>> = self
            .generators
            .iter_mut()
            .map(|generator| ArrayD::from_shape_vec(IxDyn(&whole), generator.normals(count)))
            .collect::<Result<_, _>>()?;
        let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
        Ok(concatenate(Axis(0), &views)?)
    }
}

/// What a family puts into the loop.
pub(super) trait Model {
    /// Predicts for `sample`, `[B, C, …]` f32 as the sampler scaled it; returns the same shape.
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>>;

    /// Is given what the step after network call `index` made of it, and returns the sample that the next call begins with.
    fn after(&mut self, sampler: &dyn Sampler, index: usize, step: Step) -> Result<ArrayD<f32>> {
        let _ = (sampler, index);
        Ok(step.sample)
    }
}

/// Takes `sample`, `[B, C, …]` f32 at the noise level of network call `begin`, to a clean one; returns it, and the estimate of
/// it that was the last prediction's.
///
/// # Errors
/// The model or the sampler fails; the run was cancelled.
pub(super) fn denoise(
    model: &mut dyn Model,
    sampler: &mut dyn Sampler,
    begin: usize,
    mut sample: ArrayD<f32>,
    noise: &mut Noise,
    cancel: &Cancel,
) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
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
    Ok((sample, estimate))
}
