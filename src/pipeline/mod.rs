//! Families: which stages make a picture, in which order, with which sampler.
//!
//! In: a bundle, a resolved request, a plan. Out: pictures. Not here: file formats, the command line, ONNX Runtime.

mod animate_diff;
mod clip;
mod continuous_flow;
mod denoise;
mod diffusion;
mod field;
mod flow;
mod free_noise;
mod gan;
mod input;
mod integrated;
mod inversion;
mod job;
mod latent_diffusion;
mod likelihood;
mod ltx;
mod observer;
mod on_device;
mod one_pass;
mod predictor;
mod preview;
mod safety_checker;
mod sana_sprint;
mod score;
mod texts;
mod vae;
mod wan;

pub use clip::{Filmed, FrameSink};
pub use inversion::{Again, Difference};
pub(crate) use inversion::{check_solver, check_steps_back, inversion_request};
pub use job::{Inverted, Job, Painted};
pub use latent_diffusion::LatentDiffusion;
pub(crate) use likelihood::likelihood_request;
pub use likelihood::{Likelihood, LikelihoodKind, log_mean};
pub use observer::{Event, Observer};
pub use safety_checker::{SafetyChecker, clip_input};

use anyhow::Result;
use ndarray::ArrayD;

use crate::bundle::{Architecture, Bundle, Family};
use crate::refusal;
use crate::sampler::Kind;
use crate::stage::{PreviewMap, TextEncoders};

/// Makes the pictures of `job`.
///
/// * `encoders`, `preview_map`: of a family that takes text
///
/// # Errors
/// A component does not load or fails, gives a non-finite or constant result, or the run was cancelled.
pub fn generate(
    mut job: Job<'_>,
    encoders: &TextEncoders,
    preview_map: &mut Option<PreviewMap>,
    observer: &mut dyn Observer,
) -> Result<Vec<Painted>> {
    match &job.bundle.family {
        Family::LatentDiffusion(architecture) if architecture.makes_clips() => Err(refusal!(
            "model {} makes clips and no single pictures; `Engine::generate_clip` and `kiln generate` with a clip's format make one",
            job.bundle.name()
        )),
        Family::LatentDiffusion(_) => LatentDiffusion { job, encoders, preview_map }.run(observer),
        Family::Vae { .. } => vae::generate(&mut job, observer),
        Family::Gan { .. } => gan::generate(&mut job, observer),
        Family::Flow { .. } => flow::generate(&mut job, observer),
        Family::Diffusion => diffusion::generate(&mut job, observer),
        Family::ContinuousFlow => continuous_flow::generate(&mut job, observer),
        Family::Score { .. } => score::generate(&mut job, observer),
    }
}

/// Makes the clip of `job`; `sink` is handed each frame as soon as it is decoded.
///
/// * `encoders`, `preview_map`: as for [`generate`]
///
/// # Errors
/// As [`generate`]; the model makes no clips (a refusal); `sink` fails.
pub fn generate_clip(
    mut job: Job<'_>,
    encoders: &TextEncoders,
    preview_map: &mut Option<PreviewMap>,
    sink: &mut FrameSink<'_>,
    observer: &mut dyn Observer,
) -> Result<Filmed> {
    match &job.bundle.family {
        Family::LatentDiffusion(Architecture::AnimateDiff) => animate_diff::film(&mut job, encoders, preview_map, sink, observer),
        Family::LatentDiffusion(Architecture::Wan) => wan::film(&mut job, encoders, preview_map, sink, observer),
        Family::LatentDiffusion(Architecture::Ltx) => ltx::film(&mut job, encoders, preview_map, sink, observer),
        _ => Err(refusal!("model {} makes pictures and no clips", job.bundle.name())),
    }
}

/// Finds the latent of `picture`, `[1, C, H, W]` f32 in [-1, 1], and the picture that it gives again.
///
/// # Errors
/// The family has no way back (a refusal); otherwise as [`generate`].
pub fn invert(job: &mut Job<'_>, picture: &ArrayD<f32>, observer: &mut dyn Observer) -> Result<Inverted> {
    match &job.bundle.family {
        Family::Vae { .. } => vae::invert(job, picture),
        Family::Flow { .. } => flow::invert(job, picture),
        Family::ContinuousFlow => continuous_flow::invert(job, picture, observer),
        Family::Score { .. } => score::invert(job, picture, observer),
        Family::Diffusion => diffusion::invert(job, picture, observer),
        Family::LatentDiffusion(_) | Family::Gan { .. } => Err(no_way_back(job.bundle)),
    }
}

/// Makes sure that [`invert`] works for `bundle`.
///
/// # Errors
/// A refusal: the family has no way back.
pub fn check_invertible(bundle: &Bundle) -> Result<()> {
    match bundle.family {
        Family::LatentDiffusion(_) | Family::Gan { .. } => Err(no_way_back(bundle)),
        // A consistency model jumps to the picture from any noise: it has no steps to make backwards.
        Family::Diffusion
            if !bundle.scheduler.as_ref().is_some_and(|config| config.suits(Kind::Ddim) && config.kind() != Kind::Lcm) =>
        {
            Err(no_way_back(bundle))
        }
        _ => Ok(()),
    }
}

fn no_way_back(bundle: &Bundle) -> anyhow::Error {
    refusal!("model {} has no way from a picture back to a latent; vae, flow, cnf, score and ddpm have", bundle.name())
}

/// The logarithm of the likelihood of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats, under the class of `job`.
///
/// # Errors
/// The family has no likelihood (a refusal); otherwise as [`generate`].
pub fn log_likelihood(job: &mut Job<'_>, picture: &ArrayD<f32>, observer: &mut dyn Observer) -> Result<f64> {
    match &job.bundle.family {
        Family::Vae { .. } => vae::log_likelihood(job, picture),
        Family::Flow { .. } => flow::log_likelihood(job, picture),
        Family::ContinuousFlow => continuous_flow::log_likelihood(job, picture, observer),
        Family::Score { .. } => score::log_likelihood(job, picture, observer),
        Family::LatentDiffusion(_) | Family::Gan { .. } | Family::Diffusion => Err(no_likelihood(job.bundle)),
    }
}

/// Makes sure that [`log_likelihood`] works for `bundle`; says what it will be worth.
///
/// # Errors
/// A refusal: the family has no likelihood.
pub fn check_likelihood(bundle: &Bundle) -> Result<LikelihoodKind> {
    likelihood_kind(bundle).ok_or_else(|| no_likelihood(bundle))
}

fn no_likelihood(bundle: &Bundle) -> anyhow::Error {
    refusal!("model {} has no likelihood; vae, flow, cnf and score have", bundle.name())
}

/// What the likelihoods of `bundle` are; `None` where it has none.
#[must_use]
pub fn likelihood_kind(bundle: &Bundle) -> Option<LikelihoodKind> {
    match bundle.family {
        Family::Vae { .. } => Some(LikelihoodKind::LowerBound),
        Family::Flow { .. } => Some(LikelihoodKind::Exact),
        Family::ContinuousFlow | Family::Score { .. } => Some(LikelihoodKind::Estimate),
        Family::LatentDiffusion(_) | Family::Gan { .. } | Family::Diffusion => None,
    }
}
