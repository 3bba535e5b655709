//! A picture into latents.
//!
//! In: a picture in [-1, 1]. Out: the distribution of its latents, or latents that an older export drew by itself.

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, Axis, Slice};

use super::networks::Networks;
use crate::bundle::{Bundle, LatentScaling, Role, find, names};
use crate::runtime::{Cancel, Tensor};

/// diffusers clamps the logarithm of the variance to this range.
const LOG_VARIANCE: (f32, f32) = (-30.0, 20.0);

/// What an encoder says of one picture, `[1, C, h, w]` f32 each, not yet scaled for the denoiser.
#[derive(Debug, Clone)]
pub enum EncodedPicture {
    /// Mean and standard deviation, from which latents are drawn.
    Distribution {
        /// Mean.
        mean: ArrayD<f32>,
        /// Standard deviation.
        deviation: ArrayD<f32>,
    },
    /// Latents that the export drew.
    Drawn(ArrayD<f32>),
}

impl EncodedPicture {
    /// The shape of the latents.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Distribution { mean, .. } => mean.shape(),
            Self::Drawn(latents) => latents.shape(),
        }
    }

    /// Latents for the denoiser, `[1, C, h, w]` f32: drawn with `noise` (standard normal, same shape) and scaled.
    ///
    /// # Errors
    /// `noise` has another shape.
    pub fn draw(&self, noise: &ArrayD<f32>, scaling: &LatentScaling) -> Result<ArrayD<f32>> {
        ensure!(noise.shape() == self.shape(), "noise has shape {:?}, expected {:?}", noise.shape(), self.shape());
        let latents = match self {
            Self::Distribution { mean, deviation } => mean + &(deviation * noise),
            Self::Drawn(latents) => latents.clone(),
        };
        Ok(scaled(latents, scaling))
    }
}

/// Latents as the denoiser has them, out of the autoencoder's: channels in axis 1.
pub(super) fn scaled(mut latents: ArrayD<f32>, scaling: &LatentScaling) -> ArrayD<f32> {
    for (index, mut channel) in latents.axis_iter_mut(Axis(1)).enumerate() {
        let (shift, deviation) = scaling.of_channel(index);
        channel.mapv_inplace(|value| (value - shift) * scaling.factor / deviation);
    }
    latents
}

/// Encodes one picture, `[1, C, H, W]` f32 in [-1, 1].
///
/// # Errors
/// The encoder fails, or gives something that is neither latents nor their parameters.
pub fn encode_picture(bundle: &Bundle, networks: &mut Networks, picture: ArrayD<f32>, cancel: &Cancel) -> Result<EncodedPicture> {
    let role = Role::VaeEncoder;
    let input =
        find(networks.inputs(role, cancel)?, names::PICTURE).context("vae_encoder: has no input for a picture")?.name.clone();
    let outputs = networks.outputs(role, cancel)?;
    let output =
        find(outputs, names::LATENT_PARAMETERS).or_else(|| find(outputs, names::DRAWN_LATENT)).or_else(|| outputs.first());
    let output = output.context("vae_encoder: has no output")?.name.clone();
    let tensor = Tensor::from(picture);
    let encoded = networks.run(role, &[(&input, &tensor)], &[&output], cancel)?.pop().context("vae_encoder: gave nothing")?;
    let (channels, side) = (bundle.geometry.latent_channels, bundle.geometry.pixels_per_latent);
    let sides = [tensor.shape()[2] / side, tensor.shape()[3] / side];
    ensure!(
        encoded.ndim() == 4 && encoded.shape()[2..] == sides,
        "vae_encoder: gave latents of shape {:?}, expected {sides:?} at {side} pixels to a latent",
        encoded.shape()
    );
    match encoded.shape() {
        [1, found, _, _] if *found == 2 * channels => {
            let part = |from: usize| encoded.slice_axis(Axis(1), Slice::from(from..from + channels)).to_owned();
            let (mean, logarithm) = (part(0), part(channels));
            let deviation = logarithm.mapv(|value| (0.5 * value.clamp(LOG_VARIANCE.0, LOG_VARIANCE.1)).exp());
            Ok(EncodedPicture::Distribution { mean, deviation })
        }
        [1, found, _, _] if *found == channels => {
            if bundle.component(role)?.header.draws_random {
                log::warn!(
                    "vae_encoder: this older export draws random numbers by itself, so the same seed makes another picture each time"
                );
            }
            Ok(EncodedPicture::Drawn(encoded))
        }
        shape => bail!("vae_encoder: gave {shape:?}, expected [1, {channels} or {}, height, width]", 2 * channels),
    }
}
