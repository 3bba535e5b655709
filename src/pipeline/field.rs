//! Families whose network is the field of a differential equation: sampling, the way back, and the likelihood along it.
//!
//! R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, 2018, "Neural Ordinary Differential Equations", arXiv:1806.07366,
//! theorem 1 (d ln p / dt = −div f); W. Grathwohl et al., 2018, "FFJORD: Free-form Continuous Dynamics for Scalable Reversible
//! Generative Models", arXiv:1810.01367, eq. 4 and section 3.1; M. F. Hutchinson, 1989, "A stochastic estimator of the trace of
//! the influence matrix" (div f is the mean of εᵀ (∂f/∂x) ε over signs ε).
//!
//! In: an [`Equation`], which says what a family's network means, and a [`Network`]. Out: pictures, latents, nats.
//! Not here: the families themselves (`continuous_flow`, `score`), the methods (`ode`), samplers with steps of their own.
//!
//! The network has no derivative to ask for, so (∂f/∂x) ε is the central difference (f(x + wε) − f(x − wε)) / 2w. Its error falls with w²
//! and is small where w is a small part of the noise in x; the network's rounding, divided by 2w, grows as w falls. The same ε
//! serve the whole way, as FFJORD has it, so that the equation stays one.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, Axis, Slice, concatenate};

use super::job::{Inverted, Job, Painted};
use super::observer::{Event, Observer};
use crate::bundle::Role;
use crate::ode::{self, Control, Method, Reached, Solution, State, System};
use crate::output::Picture;
use crate::plan::GuidancePasses;
use crate::request::Solver;
use crate::runtime::Cancel;
use crate::stage::{ClassDenoiser, ClassLabels, Networks, picture_shape};

/// What follows the field where a run's steps are a sampler's.
const OTHERWISE: Solver = Solver { method: Method::Heun, tolerance: 1e-3 };
/// Parts that the progress of a solver with steps of its own is told in.
const PARTS: usize = 100;

/// What a family's network says of the way between pictures and noise.
pub(super) trait Equation {
    /// The times at which pictures and noise lie.
    fn ends(&self) -> (f64, f64);

    /// The deviation of the noise at its end.
    fn noise_deviation(&self) -> f64;

    /// What the network is told at `time`.
    fn timestep(&self, time: f64) -> f32;

    /// dx/dt of the network's prediction at `time`.
    fn slope(&self, time: f64, prediction: ArrayD<f32>) -> ArrayD<f32>;

    /// The clean picture that `slope` at `sample` points to, for previews.
    fn estimate(&self, time: f64, sample: &ArrayD<f32>, slope: &ArrayD<f32>) -> ArrayD<f32>;

    /// How far from a sample at `time` its neighbours are taken whose difference tells the derivative.
    fn width(&self, time: f64) -> f64;

    /// The times of a likelihood by `steps` steps, from a picture to noise.
    fn likelihood_times(&self, steps: usize) -> Vec<f64> {
        let (picture, noise) = self.ends();
        ode::evenly(picture, noise, steps)
    }
}

/// What is asked along the way.
pub(super) trait Network {
    /// Predicts for `sample`, `[N, C, H, W]` f32 whose rows are one batch or several of it.
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>>;

    /// Is told how many steps are done, which part of the way that is, and the clean picture that the last call pointed to.
    fn stepped(&mut self, step: usize, part: f64, estimate: &dyn Fn() -> Option<ArrayD<f32>>) -> Result<()> {
        let _ = (step, part, estimate);
        Ok(())
    }
}

/// An equation with its network, as the solvers see it.
struct Field<'a> {
    equation: &'a dyn Equation,
    network: &'a mut dyn Network,
    /// Signs, `[S, C, H, W]` f32, where the divergence is to be integrated along.
    probes: Option<&'a ArrayD<f32>>,
    ends: (f64, f64),
    /// Where the network was last asked, and its answer.
    last: Option<(f64, ArrayD<f32>, ArrayD<f32>)>,
}

impl System for Field<'_> {
    fn slope(&mut self, time: f64, state: &State) -> Result<State> {
        let sample = &state.sample;
        let timestep = self.equation.timestep(time);
        let Some(probes) = self.probes else {
            let slope = self.equation.slope(time, self.network.predict(sample, timestep)?);
            self.last = Some((time, sample.clone(), slope.clone()));
            return Ok(State::new(slope));
        };
        #[expect(clippy::cast_possible_truncation, reason = "a small number among f32")]
        let apart = probes * self.equation.width(time) as f32;
        let (count, doubled) = (probes.len_of(Axis(0)), 2.0 * self.equation.width(time));
        let rows = concatenate(Axis(0), &[sample.view(), (sample + &apart).view(), (sample - &apart).view()])?;
        let slopes = self.equation.slope(time, self.network.predict(&rows, timestep)?);
        ensure!(slopes.shape() == rows.shape(), "the slopes have shape {:?}, expected {:?}", slopes.shape(), rows.shape());
        let part = |first: usize, rows: usize| slopes.slice_axis(Axis(0), Slice::from(first..first + rows));
        let (above, below) = (part(1, count), part(1 + count, count));
        let products = above
            .iter()
            .zip(&below)
            .zip(probes)
            .map(|((above, below), probe)| (f64::from(*above) - f64::from(*below)) * f64::from(*probe));
        #[expect(clippy::cast_precision_loss, reason = "a few probes")]
        let divergence = products.sum::<f64>() / (doubled * count as f64);
        Ok(State { sample: part(0, 1).to_owned(), integrals: vec![divergence] })
    }

    fn stepped(&mut self, reached: Reached<'_>) -> Result<()> {
        let (first, last) = self.ends;
        let part = (reached.time - first) / (last - first);
        let (equation, last) = (self.equation, &self.last);
        let estimate = || last.as_ref().map(|(time, sample, slope)| equation.estimate(*time, sample, slope));
        self.network.stepped(reached.steps, part, &estimate)
    }
}

/// Follows `equation` from `start` through `times`, of which a solver that chooses its own takes the ends.
fn follow(
    equation: &dyn Equation,
    network: &mut dyn Network,
    solver: Solver,
    times: &[f64],
    start: &State,
    probes: Option<&ArrayD<f32>>,
) -> Result<Solution> {
    let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else {
        anyhow::bail!("the way has no times")
    };
    let mut field = Field { equation, network, probes, ends: (first, last), last: None };
    if solver.method.is_adaptive() {
        ode::integrate_within(&Control::new(f64::from(solver.tolerance)), first, last, start, &mut field)
    } else {
        ode::integrate(solver.method, times, start, &mut field)
    }
}

/// The log-likelihood of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats: that of the noise at the end of the way, and the divergence
/// along it.
///
/// * `probes`: signs, `[S, C, H, W]` f32; the divergence is the mean over them
pub(super) fn log_density(
    equation: &dyn Equation,
    network: &mut dyn Network,
    solver: Solver,
    steps: usize,
    picture: &ArrayD<f32>,
    probes: &ArrayD<f32>,
) -> Result<f64> {
    let start = State { sample: picture.clone(), integrals: vec![0.0] };
    let solution = follow(equation, network, solver, &equation.likelihood_times(steps), &start, Some(probes))?;
    let divergence = solution.state.integrals.first().context("the solver has lost the divergence")?;
    let deviation = equation.noise_deviation();
    let normalizer = deviation.ln() + 0.5 * std::f64::consts::TAU.ln();
    let prior: f64 = solution.state.sample.iter().map(|x| -0.5 * (f64::from(*x) / deviation).powi(2) - normalizer).sum();
    Ok(prior + divergence)
}

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
    labels: ClassLabels,
    batch: usize,
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
        pictures: std::ops::Range<usize>,
        solver: Solver,
        plain: bool,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let request = job.request;
        let (passes, guidance) = if plain { (GuidancePasses::One, 1.0) } else { (job.plan.guidance_passes, request.guidance) };
        let denoiser = ClassDenoiser::new(job.bundle, job.networks, passes, guidance, request.steps, job.cancel)?;
        Ok(Self {
            denoiser,
            labels: job.labels(pictures.clone()),
            networks: &mut *job.networks,
            batch: pictures.len(),
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
        let times = sample.len_of(Axis(0)) / self.batch.max(1);
        let labels = (1..times).fold(self.labels.clone(), |labels, _| labels.followed_by(&self.labels));
        self.denoiser.predict(self.networks, sample, timestep, &labels, self.cancel)
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
