//! What a run of a sampler is told beside what a person says: the size of what is made, and the levels that weights want.

use crate::bundle::{Architecture, Bundle};
use crate::sampler;

/// Gives as many steps as the card has timesteps for those that the weights were distilled at, unless a person gives their own.
pub(super) fn with_trained_timesteps(run: &sampler::Run, bundle: &Bundle) -> Option<sampler::Run> {
    let timesteps = &bundle.card.as_ref()?.steps.timesteps;
    let fits = timesteps.len() == run.steps && run.timesteps.is_none() && run.sigmas.is_none();
    (fits && !timesteps.is_empty()).then(|| sampler::Run { timesteps: Some(timesteps.clone()), ..run.clone() })
}

/// Tells a sampler with dynamic shifting how large the picture is, in patches of two by two latents; and gives a packed
/// transformer the noise levels that it is published with.
///
/// * `latents`: frames of latents of a clip whose every latent is a patch
pub(super) fn with_patches(
    mut run: sampler::Run,
    config: &sampler::Config,
    bundle: &Bundle,
    (width, height): (u32, u32),
    latents: Option<usize>,
) -> sampler::Run {
    if config.uses_dynamic_shifting() && run.image_sequence_length.is_none() {
        let side = if latents.is_some() { 1 } else { 2 };
        let patches = |pixels: u32| pixels as usize / bundle.geometry.pixels_per_latent / side;
        run.image_sequence_length = Some(latents.unwrap_or(1) * patches(width) * patches(height));
    }
    let takes_levels = matches!(config.kind(), sampler::Kind::FlowMatchEuler | sampler::Kind::FlowMatchLcm);
    let has_levels = matches!(bundle.architecture(), Some(Architecture::Flux | Architecture::Ltx));
    if has_levels && takes_levels && run.timesteps.is_none() && run.sigmas.is_none() {
        run.sigmas = Some(sampler::linear_sigmas(run.steps));
    }
    run
}
