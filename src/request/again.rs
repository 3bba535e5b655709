//! The request that makes a picture again, out of the picture's provenance.

use std::sync::Arc;

use anyhow::{Context, Result};

use super::{Request, SamplerChoice, Walk};
use crate::ode::Method;
use crate::output::Provenance;
use crate::{refusal, refuse};

impl Request {
    /// See [`Engine::request_of`](crate::Engine::request_of).
    pub(crate) fn of_provenance(provenance: &Provenance) -> Result<Self> {
        if provenance.inversion {
            refuse!(
                "provenance: the picture is one that was read and made again from its latent; `kiln show` says how to repeat that"
            );
        }
        Ok(Self {
            prompt: provenance.prompt.clone().unwrap_or_default(),
            negative: provenance.negative.clone(),
            // A record that does not say is of a version that knew no weights.
            plain_prompt: provenance.plain_prompt.unwrap_or(true),
            seed: Some(provenance.seed),
            random_device: provenance.rng.parse().with_context(|| format!("random numbers of `{}`", provenance.rng))?,
            // A solver that chooses its own steps is not told how many.
            steps: Some(provenance.steps).filter(|_| provenance.sampler != Method::DormandPrince.to_string()),
            guidance: Some(provenance.guidance),
            size: Some((provenance.width, provenance.height)),
            count: 1,
            sampler: SamplerChoice::from_map(&provenance.sampler_overrides)?,
            input: None,
            input_frames: Arc::default(),
            mask: None,
            strength: provenance.strength,
            control: None,
            control_scale: provenance.control_scale,
            truncation: provenance.truncation,
            style_mix: match &provenance.style_mix {
                Some(mix) => Some(mix.parse().map_err(|error| refusal!("provenance: `style_mix` {error}"))?),
                None => None,
            },
            temperature: provenance.temperature,
            walk: match (provenance.walk, provenance.clip) {
                (Some(walk), Some(clip)) => Some(Walk::new(walk.to, clip.frames).context("provenance: `clip`")?),
                (Some(walk), None) => Some(Walk { to: walk.to, shares: vec![walk.share] }),
                (None, _) => None,
            },
            // Of a walk the clip's frames are its places.
            frames: provenance.clip.filter(|_| provenance.walk.is_none()).map(|clip| clip.frames),
            frame_rate: provenance.clip.filter(|_| provenance.walk.is_none()).map(|clip| clip.frames_per_second),
            samples: None,
            force: provenance.forced,
        })
    }
}
