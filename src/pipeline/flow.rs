//! Normalizing flow: an invertible network between pictures and normal latents.
//!
//! L. Dinh, J. Sohl-Dickstein, S. Bengio, 2016, "Density estimation using Real NVP", arXiv:1605.08803; D. P. Kingma, P. Dhariwal,
//! 2018, "Glow: Generative Flow with Invertible 1x1 Convolutions", arXiv:1807.03039, also for the temperature. A picture's
//! likelihood is exact: `ln p(x) = ln N(z; 0, I) + ln |det dz/dx|` (Real NVP, eq. 2).

use anyhow::{Context, Result, bail};
use ndarray::ArrayD;

use super::job::{Inverted, Job, Painted};
use super::observer::Observer;
use super::one_pass;
use crate::bundle::{Family, Role, names};
use crate::stage::{ClassLabels, call, check_shape};

/// Makes the pictures.
pub(super) fn generate(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    one_pass::generate(job, latent_size(job)?, observer)
}

/// The latent of `picture`, `[1, C, H, W]` f32 in [-1, 1], and the picture that it gives again.
pub(super) fn invert(job: &mut Job<'_>, picture: &ArrayD<f32>) -> Result<Inverted> {
    let labels = job.labels(0..1);
    let (latent, _) = encode(job, picture, &labels)?;
    one_pass::inverted(job, latent, &labels)
}

/// The log-likelihood of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats.
pub(super) fn log_likelihood(job: &mut Job<'_>, picture: &ArrayD<f32>) -> Result<f64> {
    let labels = job.labels(0..1);
    let (latent, log_determinant) = encode(job, picture, &labels)?;
    let log_prior: f64 = latent.iter().map(|value| -0.5 * (f64::from(*value).powi(2) + std::f64::consts::TAU.ln())).sum();
    Ok(log_prior + log_determinant)
}

fn latent_size(job: &Job<'_>) -> Result<usize> {
    match job.bundle.family {
        Family::Flow { latent_size, .. } => Ok(latent_size),
        _ => bail!("model {} is no normalizing flow", job.bundle.name()),
    }
}

fn encode(job: &mut Job<'_>, picture: &ArrayD<f32>, labels: &ClassLabels) -> Result<(ArrayD<f32>, f64)> {
    let wanted = [names::LATENT, names::LOG_DETERMINANT];
    let mut outputs = call(job.networks, Role::Encoder, &[(names::PICTURE, picture)], labels, &wanted, job.cancel)?.into_iter();
    job.release(Role::Encoder);
    let (Some(latent), Some(log_determinant)) = (outputs.next(), outputs.next()) else { bail!("encoder: gave nothing") };
    check_shape(Role::Encoder, "latent", &latent, &[latent_size(job)?])?;
    check_shape(Role::Encoder, "log-determinant", &log_determinant, &[])?;
    let log_determinant = log_determinant.first().context("encoder: gave no log-determinant")?;
    Ok((latent, f64::from(*log_determinant)))
}
