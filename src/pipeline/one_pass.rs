//! One pass of a decoder from a normal latent to a picture: what the variational autoencoder and the normalizing flow share.

use anyhow::{Result, bail};
use ndarray::{ArrayD, Axis};

use super::job::{Inverted, Job, Painted};
use super::observer::Observer;
use crate::bundle::{Role, names};
use crate::stage::{ClassLabels, call, check_shape, picture_shape};

/// Makes the pictures of latents with `latent_size` values each, drawn from N(0, t²) for the request's temperature t.
pub(super) fn generate(job: &mut Job<'_>, latent_size: usize, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    job.open(Role::Decoder, observer)?;
    let mut painted = Vec::new();
    for pictures in job.batches() {
        job.cancel.check()?;
        let latents = job.noise(pictures.clone()).draw(&[latent_size])? * job.request.temperature;
        let samples = decode(job, &latents, &job.labels(pictures.clone()))?;
        job.tell_of_pass(pictures.clone(), observer);
        painted.extend(job.painted(pictures, &samples, &latents, &[])?);
    }
    job.release(Role::Decoder);
    Ok(painted)
}

/// The picture that `latent`, `[1, L]` f32, gives again, and both without their batch.
pub(super) fn inverted(job: &mut Job<'_>, latent: ArrayD<f32>, labels: &ClassLabels) -> Result<Inverted> {
    let again = decode(job, &latent, labels)?;
    job.release(Role::Decoder);
    Ok(Inverted { latent: latent.index_axis_move(Axis(0), 0), again: again.index_axis_move(Axis(0), 0) })
}

/// The pictures of `latents`, `[B, L]` f32: `[B, C, H, W]` f32 in [-1, 1].
pub(super) fn decode(job: &mut Job<'_>, latents: &ArrayD<f32>, labels: &ClassLabels) -> Result<ArrayD<f32>> {
    let mut outputs = call(job.networks, Role::Decoder, &[(names::LATENT, latents)], labels, &[names::SAMPLE], job.cancel)?;
    let Some(samples) = outputs.pop() else { bail!("decoder: gave nothing") };
    check_shape(Role::Decoder, "picture", &samples, &picture_shape(job.bundle))?;
    Ok(samples)
}
