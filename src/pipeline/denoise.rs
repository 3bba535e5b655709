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

/// One run of the loop.
pub(super) struct Denoise<'a> {
    pub(super) sampler: &'a mut dyn Sampler,
    /// Index of the first network call; above 0 when a picture was taken in.
    pub(super) begin: usize,
    pub(super) noise: &'a mut Noise,
    pub(super) cancel: &'a Cancel,
}

impl Denoise<'_> {
    /// Takes `sample`, `[B, C, …]` f32 at the noise level of the first call, to a clean one.
    ///
    /// `predict` is given the scaled sample and the timestep; `after` is given the sampler, the index of the call that was made
    /// and what the step gave, and may change the sample.
    ///
    /// # Errors
    /// `predict`, the sampler or `after` fails; the run was cancelled.
    pub(super) fn run(
        self,
        mut sample: ArrayD<f32>,
        mut predict: impl FnMut(&ArrayD<f32>, f32) -> Result<ArrayD<f32>>,
        mut after: impl FnMut(&dyn Sampler, usize, Step) -> Result<ArrayD<f32>>,
    ) -> Result<ArrayD<f32>> {
        let timesteps = self.sampler.timesteps().to_vec();
        for (index, timestep) in timesteps.into_iter().enumerate().skip(self.begin) {
            self.cancel.check()?;
            let scaled = self.sampler.scale_model_input(&sample, index)?;
            let prediction = predict(&scaled, timestep)?;
            let noise = match self.sampler.takes_noise(index) {
                true => Some(self.noise.draw(&sample.shape()[1..])?),
                false => None,
            };
            let step = self.sampler.step(index, &prediction, &sample, noise.as_ref())?;
            sample = after(&*self.sampler, index, step)?;
        }
        Ok(sample)
    }
}
