//! Diffusion of pixels: a denoiser without an autoencoder, under any sampler that suits it.
//!
//! J. Ho, A. Jain, P. Abbeel, 2020, "Denoising Diffusion Probabilistic Models", arXiv:2006.11239 (ancestral, a call for each of a
//! thousand timesteps); J. Song, C. Meng, S. Ermon, 2020, "Denoising Diffusion Implicit Models", arXiv:2010.02502 (ten to fifty,
//! and the way back, section 4.3); T. Salimans, J. Ho, 2022, "Progressive Distillation for Fast Sampling of Diffusion Models",
//! arXiv:2202.00512 (eight to one); Y. Song, P. Dhariwal, M. Chen, I. Sutskever, 2023, "Consistency Models", arXiv:2303.01469
//! (one or two). They differ in the network's weights and in the sampler, and share this file.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis};

use super::denoise::{Model, denoise};
use super::job::{Inverted, Job, Painted};
use super::observer::{Event, Observer};
use crate::bundle::Role;
use crate::output::Picture;
use crate::refuse;
use crate::runtime::Cancel;
use crate::sampler;
use crate::stage::{ClassDenoiser, ClassLabels, Networks, picture_shape};

/// Makes the pictures.
pub(super) fn generate(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    let (cancel, request) = (job.cancel, job.request);
    job.open(Role::Unet, observer)?;
    let mut painted = Vec::new();
    for pictures in job.batches() {
        let mut sampler = job.request.sampler()?.build(&job.request.run)?;
        let timesteps = sampler.timesteps().to_vec();
        let mut noise = job.noise(pictures.clone());
        let start = noise.draw(&picture_shape(job.bundle))? * sampler.init_noise_sigma();
        let mut model = PixelModel::new(job, job.labels(pictures.clone()), pictures.start, timesteps.len(), observer)?;
        let sample = denoise(&mut model, request, &mut *sampler, 0, start, &mut noise, cancel)?;
        painted.extend(job.painted(pictures, &sample, &sample, &timesteps)?);
    }
    job.release(Role::Unet);
    Ok(painted)
}

/// The noise that DDIM makes of `picture`, `[1, C, H, W]` f32 in [-1, 1], by its steps backwards, and the picture that its steps
/// forwards make of that.
pub(super) fn invert(job: &mut Job<'_>, picture: &ArrayD<f32>, observer: &mut dyn Observer) -> Result<Inverted> {
    let config = job.request.sampler()?;
    if config.kind() != sampler::Kind::Ddim {
        refuse!("sampler: is `{}`, expected `ddim`, whose steps can be made backwards", config.kind());
    }
    let (cancel, request) = (job.cancel, job.request);
    job.open(Role::Unet, observer)?;
    let labels = job.labels(0..1);
    let backwards = config.with_kind(sampler::Kind::DdimInverse)?;
    let mut sampler = backwards.build(&job.request.run)?;
    let steps = sampler.timesteps().len();
    let mut noise = job.noise(0..1);
    let mut model = PixelModel::new(job, labels.clone(), 0, steps, observer)?;
    let latent = denoise(&mut model, request, &mut *sampler, 0, picture.clone(), &mut noise, cancel)?;
    let mut sampler = config.build(&job.request.run)?;
    let mut model = PixelModel::new(job, labels, 0, steps, observer)?;
    let again = denoise(&mut model, request, &mut *sampler, 0, latent.clone(), &mut noise, cancel)?;
    job.release(Role::Unet);
    Ok(Inverted { latent: latent.index_axis_move(Axis(0), 0), again: again.index_axis_move(Axis(0), 0) })
}

/// What the loop is given: the denoiser, and what happens between its calls.
struct PixelModel<'a> {
    denoiser: ClassDenoiser,
    networks: &'a mut Networks,
    labels: ClassLabels,
    observer: &'a mut dyn Observer,
    cancel: &'a Cancel,
    picture: usize,
    pictures: usize,
    steps: usize,
}

impl<'a> PixelModel<'a> {
    /// * `picture`: the first of the batch
    /// * `steps`: network calls of the run
    fn new(
        job: &'a mut Job<'_>,
        labels: ClassLabels,
        picture: usize,
        steps: usize,
        observer: &'a mut dyn Observer,
    ) -> Result<Self> {
        let request = job.request;
        let denoiser =
            ClassDenoiser::new(job.bundle, job.networks, job.plan.guidance_passes, request.guidance, request.steps, job.cancel)?;
        let (networks, cancel, pictures) = (&mut *job.networks, job.cancel, request.count);
        Ok(Self { denoiser, networks, labels, observer, cancel, picture, pictures, steps })
    }
}

impl Model for PixelModel<'_> {
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>> {
        self.denoiser.predict(self.networks, sample, timestep, &self.labels, self.cancel)
    }

    fn look(&mut self, index: usize, estimate: Option<&ArrayD<f32>>) -> Result<()> {
        let done = index + 1;
        self.observer.event(Event::Step { step: done, steps: self.steps, picture: self.picture, pictures: self.pictures });
        if let Some(estimate) = estimate.filter(|_| self.observer.wants_preview()) {
            let estimate = estimate.index_axis(Axis(0), 0);
            ensure!(estimate.ndim() == 3, "the estimate has {} dimensions, expected 3", estimate.ndim());
            let picture = Picture::from_tensor(estimate.into_dimensionality()?)?;
            self.observer.preview(done, &picture)?;
        }
        Ok(())
    }
}
