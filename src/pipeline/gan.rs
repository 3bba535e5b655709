//! Style-based generator: a latent becomes a style, styles become a picture.
//!
//! T. Karras, S. Laine, T. Aila, 2018, "A Style-Based Generator Architecture for Generative Adversarial Networks",
//! arXiv:1812.04948: the mapping network (section 2), style mixing (section 3.1), truncation in style space (appendix B):
//! `w' = mean + ψ (w − mean)`. The adversarial game is I. Goodfellow et al., 2014, arXiv:1406.2661.

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, Axis, IxDyn, stack};

use super::job::{Job, Painted};
use super::observer::Observer;
use crate::bundle::{Family, Role, names};
use crate::random::Generator;
use crate::stage::{ClassLabels, call, check_shape, picture_shape};

/// Makes the pictures.
pub(super) fn generate(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
    let Family::Gan { latent_size, style_count, mean_styles, .. } = &job.bundle.family else {
        bail!("model {} is no style-based generator", job.bundle.name());
    };
    job.open(Role::Mapping, observer)?;
    job.open(Role::Synthesis, observer)?;
    let mut painted = Vec::new();
    for pictures in job.batches() {
        job.cancel.check()?;
        let labels = job.labels(pictures.clone());
        let latents = job.noise(pictures.clone()).draw(&[*latent_size])?;
        let classes: Vec<Option<usize>> = pictures.clone().map(|picture| job.request.class_of(picture)).collect();
        let style = style(job, &latents, &labels, mean_styles, &classes)?;
        let mut layers = vec![style; *style_count];
        if let Some(mix) = job.request.style_mix {
            let other = Generator::new(job.request.random_device, mix.seed).normals(*latent_size);
            let row = ArrayD::from_shape_vec(IxDyn(&[1, *latent_size]), other)?;
            let rows = vec![row.index_axis(Axis(0), 0); pictures.len()];
            let mixed = self::style(job, &stack(Axis(0), &rows)?, &labels, mean_styles, &classes)?;
            for layer in layers.iter_mut().skip(mix.from_layer.unwrap_or(style_count / 2)) {
                layer.clone_from(&mixed);
            }
        }
        let layers: Vec<_> = layers.iter().map(|layer| layer.view()).collect();
        let styles = stack(Axis(1), &layers)?;
        let samples = call(job.networks, Role::Synthesis, &[(names::STYLES, &styles)], &labels, &[names::SAMPLE], job.cancel)?;
        let samples = samples.into_iter().next().context("synthesis: gave nothing")?;
        check_shape(Role::Synthesis, "picture", &samples, &picture_shape(job.bundle))?;
        job.tell_of_pass(pictures.clone(), observer);
        painted.extend(job.painted(pictures, &samples, &latents, &[])?);
    }
    job.release(Role::Mapping);
    job.release(Role::Synthesis);
    Ok(painted)
}

/// The truncated style of each latent, `[B, W]` f32.
fn style(
    job: &mut Job<'_>,
    latents: &ArrayD<f32>,
    labels: &ClassLabels,
    mean_styles: &[Vec<f32>],
    classes: &[Option<usize>],
) -> Result<ArrayD<f32>> {
    let outputs = call(job.networks, Role::Mapping, &[(names::LATENT, latents)], labels, &[names::STYLES], job.cancel)?;
    let mut styles = outputs.into_iter().next().context("mapping: gave nothing")?;
    let width = mean_styles.first().map_or(0, Vec::len);
    check_shape(Role::Mapping, "style", &styles, &[width])?;
    let truncation = job.request.truncation;
    for (mut style, class) in styles.axis_iter_mut(Axis(0)).zip(classes) {
        let mean =
            class.and_then(|class| mean_styles.get(class)).or(mean_styles.first()).context("mapping: has no mean style")?;
        for (value, mean) in style.iter_mut().zip(mean) {
            *value = mean + truncation * (*value - mean);
        }
    }
    Ok(styles)
}
