//! Variational autoencoder: one pass from the prior to a picture.
//!
//! D. P. Kingma, M. Welling, 2013, "Auto-Encoding Variational Bayes", arXiv:1312.6114. A latent is drawn from N(0, I) and decoded;
//! a picture's lower bound is eq. 7, with a Gaussian about the decoder's picture (O. Rybkin, K. Daniilidis, S. Levine, 2020,
//! "Simple and Effective VAE Training with Calibrated Decoders", arXiv:2006.13202).

use anyhow::{Result, bail};
use ndarray::{ArrayD, Zip};

use super::job::{Inverted, Job, Painted};
use super::observer::Observer;
use super::one_pass;
use crate::bundle::{Family, Role, names};
use crate::stage::{ClassLabels, call, check_shape};

/// Makes the pictures.
pub(super) fn generate(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    one_pass::generate(job, facts(job)?.0, observer)
}

/// Encodes `picture`, `[1, C, H, W]` f32 in [-1, 1], as the mean of its latents, and decodes that.
pub(super) fn invert(job: &mut Job<'_>, picture: &ArrayD<f32>) -> Result<Inverted> {
    let labels = job.labels(0..1);
    let (mean, _) = encode(job, picture, &labels)?;
    one_pass::inverted(job, mean, &labels)
}

/// The evidence lower bound of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats: eq. 7 with the
/// request's number of latents, drawn one after the other from the seed.
pub(super) fn log_likelihood(job: &mut Job<'_>, picture: &ArrayD<f32>) -> Result<f64> {
    let (latent_size, deviation) = facts(job)?;
    let labels = job.labels(0..1);
    let (mean, log_variance) = encode(job, picture, &labels)?;
    let variance = f64::from(deviation) * f64::from(deviation);
    let normalizer = 0.5 * (std::f64::consts::TAU * variance).ln();
    let mut noise = job.noise(0..1);
    let mut reconstruction = 0.0;
    for _ in 0..job.request.samples {
        let mut latent = noise.draw(&[latent_size])?;
        Zip::from(&mut latent)
            .and(&mean)
            .and(&log_variance)
            .for_each(|value, mean, log_variance| *value = mean + (0.5 * log_variance).exp() * *value);
        let decoded = one_pass::decode(job, &latent, &labels)?;
        let log_density =
            |(decoded, value): (&f32, &f32)| -normalizer - (f64::from(*value) - f64::from(*decoded)).powi(2) / (2.0 * variance);
        reconstruction += decoded.iter().zip(picture).map(log_density).sum::<f64>();
    }
    job.release(Role::Decoder);
    let divergence: f64 = mean
        .iter()
        .zip(&log_variance)
        .map(|(mean, log_variance)| {
            let (mean, log_variance) = (f64::from(*mean), f64::from(*log_variance));
            0.5 * (mean * mean + log_variance.exp() - 1.0 - log_variance)
        })
        .sum();
    #[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
    let samples = job.request.samples as f64;
    Ok(reconstruction / samples - divergence)
}

fn facts(job: &Job<'_>) -> Result<(usize, f32)> {
    match job.bundle.family {
        Family::Vae { latent_size, deviation } => Ok((latent_size, deviation)),
        _ => bail!("model {} is no variational autoencoder", job.bundle.name()),
    }
}

fn encode(job: &mut Job<'_>, picture: &ArrayD<f32>, labels: &ClassLabels) -> Result<(ArrayD<f32>, ArrayD<f32>)> {
    let (latent_size, _) = facts(job)?;
    let wanted = [names::MEAN, names::LOG_VARIANCE];
    let mut outputs = call(job.networks, Role::Encoder, &[(names::PICTURE, picture)], labels, &wanted, job.cancel)?.into_iter();
    job.release(Role::Encoder);
    let (Some(mean), Some(log_variance)) = (outputs.next(), outputs.next()) else { bail!("encoder: gave nothing") };
    check_shape(Role::Encoder, "mean", &mean, &[latent_size])?;
    check_shape(Role::Encoder, "variance", &log_variance, &[latent_size])?;
    Ok((mean, log_variance))
}
