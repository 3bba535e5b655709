//! What families with a field make of a job: pictures, latents, likelihoods, each by following the field.
//!
//! In: a job, and the family's [`Equation`]. Out: pictures, latents, nats. Progress and previews go to the observer.
//! Not here: what the network means (`continuous_flow`, `score`), the likelihood's arithmetic (`field`).

use std::ops::Range;

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis, concatenate};

use super::field::{Equation, Network, follow, in_parts, log_density};
use super::job::{Inverted, Job, Painted};
use super::observer::{Event, Observer};
use crate::bundle::Role;
use crate::ode::{self, Method, State};
use crate::output::Picture;
use crate::plan::{GuidancePasses, Memory};
use crate::request::Solver;
use crate::runtime::Cancel;
use crate::stage::{ClassDenoiser, ClassLabels, Networks, picture_shape};

/// What follows the field where a run's steps are those of the bundle's own sampler.
const OTHERWISE: Solver = Solver { method: Method::Heun, tolerance: 1e-3 };
/// Rows of one network call, of which a likelihood has two for each probe and one more; what it holds grows with them.
const MOST_ROWS: usize = 9;
/// As many with low memory.
const FEWEST_ROWS: usize = 3;
/// Parts that the progress of a solver with steps of its own is told in.
const PARTS: usize = 100;

/// Makes the pictures.
pub(super) fn generate(job: &mut Job<'_>, equation: &dyn Equation, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    let solver = job.request.solver.unwrap_or(OTHERWISE);
    job.open(Role::Unet, observer)?;
    let (picture, noise) = equation.ends();
    let times = ode::evenly(noise, picture, job.request.steps);
    let mut painted = Vec::new();
    for batch in job.batches() {
        // Steps of a solver's own choice are chosen for each picture, so that it is the same alone as among others.
        let size = if solver.method.is_adaptive() { 1 } else { batch.len().max(1) };
        for first in batch.clone().step_by(size) {
            let pictures = first..batch.end.min(first + size);
            #[expect(clippy::cast_possible_truncation, reason = "samples are f32")]
            let deviation = equation.noise_deviation() as f32;
            let start = job.noise(pictures.clone()).draw(&picture_shape(job.bundle))? * deviation;
            let mut network = JobNetwork::new(job, pictures.clone(), solver, false, observer)?;
            let solution = follow(equation, &mut network, solver, &times, &State::new(start), None)?;
            let (sample, timesteps) = (solution.state.sample, network.timesteps);
            painted.extend(job.painted(pictures, &sample, &sample, &timesteps)?);
        }
    }
    job.release(Role::Unet);
    Ok(painted)
}

/// The noise that the way back makes of `picture`, `[1, C, H, W]` f32 in [-1, 1], and the picture that it gives again.
pub(super) fn invert(
    job: &mut Job<'_>,
    equation: &dyn Equation,
    picture: &ArrayD<f32>,
    observer: &mut dyn Observer,
) -> Result<Inverted> {
    let solver = job.request.solver.unwrap_or(OTHERWISE);
    job.open(Role::Unet, observer)?;
    let (clean, noise) = equation.ends();
    let mut way = |from: f64, to: f64, start: &ArrayD<f32>| {
        let times = ode::evenly(from, to, job.request.steps);
        let mut network = JobNetwork::new(job, 0..1, solver, false, observer)?;
        Ok::<_, anyhow::Error>(follow(equation, &mut network, solver, &times, &State::new(start.clone()), None)?.state.sample)
    };
    let latent = way(clean, noise, picture)?;
    let again = way(noise, clean, &latent)?;
    job.release(Role::Unet);
    Ok(Inverted { latent: latent.index_axis_move(Axis(0), 0), again: again.index_axis_move(Axis(0), 0) })
}

/// The log-likelihood of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats; its probes are drawn from the seed, and guidance, which is
/// no part of the model's density, is left out.
pub(super) fn log_likelihood(
    job: &mut Job<'_>,
    equation: &dyn Equation,
    picture: &ArrayD<f32>,
    observer: &mut dyn Observer,
) -> Result<f64> {
    let solver = job.request.solver.unwrap_or(OTHERWISE);
    job.open(Role::Unet, observer)?;
    let mut noise = job.noise(0..1);
    let draws: Vec<ArrayD<f32>> =
        (0..job.request.samples).map(|_| noise.draw(&picture_shape(job.bundle))).collect::<Result<_, _>>()?;
    let views: Vec<_> = draws.iter().map(|draw| draw.view()).collect();
    let probes = concatenate(Axis(0), &views)?.mapv(|value| if value < 0.0 { -1.0 } else { 1.0 });
    let steps = job.request.steps;
    let mut network = JobNetwork::new(job, 0..1, solver, true, observer)?;
    let nats = log_density(equation, &mut network, solver, steps, picture, &probes)?;
    job.release(Role::Unet);
    Ok(nats)
}

/// A job's network, its observer, and what it was told.
struct JobNetwork<'a> {
    denoiser: ClassDenoiser,
    networks: &'a mut Networks,
    /// Of each picture of the batch; none where the model knows none.
    classes: Vec<usize>,
    batch: usize,
    /// Rows of one call, and whether each has as many.
    most_rows: usize,
    is_fixed: bool,
    observer: &'a mut dyn Observer,
    cancel: &'a Cancel,
    picture: usize,
    pictures: usize,
    /// Nothing where the solver chooses.
    steps: Option<usize>,
    timesteps: Vec<f32>,
}

impl<'a> JobNetwork<'a> {
    /// * `plain`: without guidance
    fn new(
        job: &'a mut Job<'_>,
        pictures: Range<usize>,
        solver: Solver,
        plain: bool,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let request = job.request;
        let (passes, guidance) = if plain { (GuidancePasses::One, 1.0) } else { (job.plan.guidance_passes, request.guidance) };
        let denoiser = ClassDenoiser::new(job.bundle, job.networks, passes, guidance, request.steps, job.cancel)?;
        let batch = pictures.len().max(1);
        let a_row = if passes == GuidancePasses::BatchOfTwo { 2 } else { 1 };
        let (most_rows, is_fixed) = match job.bundle.geometry.fixed_batch {
            Some(fixed) => ((fixed / a_row).max(1), true),
            None if job.plan.memory == Memory::Low => (FEWEST_ROWS, false),
            None => (MOST_ROWS, false),
        };
        Ok(Self {
            denoiser,
            classes: pictures.clone().filter_map(|picture| request.class_of(picture)).collect(),
            networks: &mut *job.networks,
            batch,
            most_rows,
            is_fixed,
            observer,
            cancel: job.cancel,
            picture: pictures.start,
            pictures: request.count,
            steps: (!solver.method.is_adaptive()).then_some(request.steps),
            timesteps: Vec::new(),
        })
    }
}

impl Network for JobNetwork<'_> {
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>> {
        self.cancel.check()?;
        self.timesteps.push(timestep);
        in_parts(sample, self.most_rows, self.is_fixed, |rows, numbers| {
            let classes = numbers.iter().filter_map(|number| self.classes.get(number % self.batch)).copied();
            self.denoiser.predict(self.networks, rows, timestep, &ClassLabels::new(classes.collect()), self.cancel)
        })
    }

    fn stepped(&mut self, step: usize, part: f64, estimate: &dyn Fn() -> Option<ArrayD<f32>>) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the way, from 0 to 1")]
        let (done, steps) = match self.steps {
            Some(steps) => (step, steps),
            None => ((part.clamp(0.0, 1.0) * PARTS as f64).round().max(1.0) as usize, PARTS),
        };
        self.observer.event(Event::Step { step: done, steps, picture: self.picture, pictures: self.pictures });
        if self.observer.wants_preview()
            && let Some(estimate) = estimate()
        {
            let estimate = estimate.index_axis_move(Axis(0), 0);
            ensure!(estimate.ndim() == 3, "the estimate has {} dimensions, expected 3", estimate.ndim());
            self.observer.preview(done, &Picture::from_tensor(estimate.view().into_dimensionality()?)?)?;
        }
        Ok(())
    }
}
