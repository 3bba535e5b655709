//! The network of a loop in latents, whichever kind it is.

use anyhow::Result;
use ndarray::ArrayD;

use super::sana_sprint::TrigFlow;
use crate::runtime::Cancel;
use crate::stage::{Denoiser, DeviceDenoiser, MaskChannels, Networks, Transformer};

/// What predicts.
pub(super) enum Predictor<'a> {
    Unet(Denoiser<'a>),
    Transformer(Transformer<'a>),
    Sprint(Transformer<'a>, TrigFlow),
}

impl Predictor<'_> {
    /// Predicts for `sample`, `[B, C, …]` f32; see [`Denoiser::predict`].
    pub(super) fn predict(
        &mut self,
        networks: &mut Networks,
        sample: &ArrayD<f32>,
        timestep: f32,
        mask: Option<&MaskChannels>,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        match self {
            Self::Unet(denoiser) => denoiser.predict(networks, sample, timestep, mask, cancel),
            Self::Transformer(transformer) => transformer.predict(networks, sample, timestep, cancel),
            Self::Sprint(transformer, path) => {
                path.predict(sample, timestep, |given, share| transformer.predict(networks, given, share, cancel))
            }
        }
    }

    /// It, where the network alone lies between a sample and its prediction.
    pub(super) fn on_device(&mut self) -> Option<&mut dyn DeviceDenoiser> {
        match self {
            Self::Unet(denoiser) => Some(denoiser),
            Self::Transformer(transformer) => Some(transformer),
            Self::Sprint(..) => None,
        }
    }
}
