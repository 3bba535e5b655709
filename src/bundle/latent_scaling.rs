//! What stands between the denoiser's latents and the autoencoder's.

use anyhow::{Result, ensure};

use super::component::{Component, Role};
use super::geometry::agree;
use super::names;

/// The factor of diffusers' `AutoencoderKL` where a configuration does not say one.
pub(super) const DEFAULT_SCALING_FACTOR: f32 = 0.18215;

/// What stands between the denoiser's latents and the autoencoder's.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentScaling {
    /// `latent = (autoencoder's - shift) * factor`.
    pub factor: f32,
    /// See `factor`.
    pub shift: f32,
    /// Mean and standard deviation of each channel, where the configuration has them; they take the place of `shift`.
    pub statistics: Option<(Vec<f32>, Vec<f32>)>,
}

impl LatentScaling {
    /// None.
    pub(super) const NONE: Self = Self { factor: 1.0, shift: 0.0, statistics: None };

    /// That of a small decoder, which takes the denoiser's latents as they are unless its configuration says otherwise.
    ///
    /// # Errors
    /// Its configuration is broken, or of latents of another number of channels.
    pub(super) fn of_small(decoder: &Component, channels: usize) -> Result<Self> {
        let port = decoder.input(names::LATENT).and_then(|port| port.shape.get(1).copied().flatten());
        let taken = agree(decoder.role.folder(), "latent_channels", decoder.integer("latent_channels", 1..=1024)?, port)?;
        ensure!(
            taken.is_none_or(|taken| taken == channels),
            "{} takes latents of {} channels, and the denoiser's have {channels}: they are of two models",
            decoder.role,
            taken.unwrap_or_default()
        );
        Self::of(decoder, 1.0, channels)
    }

    /// What a latent's `channel` is shifted by, and what it is divided by beside `factor`: `latent = (autoencoder's - shift) *
    /// factor / deviation`.
    #[must_use]
    pub fn of_channel(&self, channel: usize) -> (f32, f32) {
        let found = self
            .statistics
            .as_ref()
            .and_then(|(mean, deviation)| mean.get(channel).copied().zip(deviation.get(channel).copied()));
        found.unwrap_or((self.shift, 1.0))
    }

    pub(super) fn of(component: &Component, default: f32, channels: usize) -> Result<Self> {
        let factor = match component.number("scaling_factor")? {
            Some(factor) => factor,
            None => {
                if component.role == Role::VaeDecoder && default != 1.0 {
                    log::warn!("{}/config.json: `scaling_factor` is missing, and {default} is taken", component.role);
                }
                default
            }
        };
        ensure!(factor > 0.0 && factor < 1e6, "{}/config.json: `scaling_factor` is {factor}, expected above 0", component.role);
        let shift = component.number("shift_factor")?.unwrap_or(0.0);
        let statistics = match (numbers(component, "latents_mean")?, numbers(component, "latents_std")?) {
            (Some(mean), Some(deviation)) => {
                ensure!(
                    mean.len() == channels && deviation.len() == channels && deviation.iter().all(|value| *value > 0.0),
                    "{}/config.json: `latents_mean` has {} values and `latents_std` {}, expected {channels} each, and deviations above 0",
                    component.role,
                    mean.len(),
                    deviation.len()
                );
                Some((mean, deviation))
            }
            _ => None,
        };
        Ok(Self { factor, shift, statistics })
    }
}

fn numbers(component: &Component, key: &str) -> Result<Option<Vec<f32>>> {
    let Some(value) = component.value(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let values = value.as_array().map(|values| values.iter().map(|value| value.as_f64()).collect::<Option<Vec<f64>>>());
    #[expect(clippy::cast_possible_truncation, reason = "Kiln computes in f32")]
    match values {
        Some(Some(values)) if values.len() <= 1024 => Ok(Some(values.into_iter().map(|value| value as f32).collect())),
        _ => anyhow::bail!("{}/config.json: `{key}` is not a list of at most 1024 numbers", component.role),
    }
}
