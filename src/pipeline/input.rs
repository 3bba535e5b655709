//! A picture taken in: encoded once, then drawn anew for each batch of pictures that begin with it.
//!
//! Random numbers are drawn in the order of diffusers' picture-to-picture and inpainting pipelines: the picture's latents, the
//! noise it is buried in, the latents of the picture with the masked part taken out.

use anyhow::{Context, Result, bail};
use ndarray::{Array3, ArrayD, Axis, IxDyn, concatenate};

use super::denoise::Noise;
use crate::bundle::Bundle;
use crate::request::{Resolved, Task};
use crate::runtime::Cancel;
use crate::sampler::Sampler;
use crate::stage::{EncodedPicture, MaskChannels, Networks, encode_picture};

/// What the encoder says of a request's input; nothing for a request without one.
#[derive(Default)]
pub(super) struct Input {
    picture: Option<EncodedPicture>,
    /// `[1, 1, h, w]` f32, 1 where the picture is made anew.
    mask: Option<ArrayD<f32>>,
    /// The picture with the masked part taken out. A plain denoiser does not look at it, and yet it is drawn from.
    masked: Option<EncodedPicture>,
}

/// Where a batch of pictures begins.
pub(super) struct Start {
    /// `[B, C, h, w]` f32 at the noise level of the first network call.
    pub(super) sample: ArrayD<f32>,
    /// What an inpainting denoiser sees beside the latents.
    pub(super) mask_channels: Option<MaskChannels>,
    /// What is put back after each step where the denoiser does not see the mask.
    pub(super) kept: Option<Kept>,
}

/// The part of a picture that stays.
pub(super) struct Kept {
    mask: ArrayD<f32>,
    latents: ArrayD<f32>,
    noise: ArrayD<f32>,
}

impl Input {
    /// Encodes the input of `request`.
    pub(super) fn encode(bundle: &Bundle, networks: &mut Networks, request: &Resolved, cancel: &Cancel) -> Result<Self> {
        let (input, mask) = match &request.task {
            Task::TextToPicture => return Ok(Self::default()),
            Task::PictureToPicture { input } => (input, None),
            Task::Inpaint { input, mask } => (input, Some(mask)),
            Task::FirstFrame { .. } | Task::ClipToClip { .. } => {
                bail!("model {}: makes pictures, and a clip is asked for", bundle.name())
            }
        };
        let mut encode = |picture: Array3<f32>| encode_picture(bundle, networks, picture.insert_axis(Axis(0)).into_dyn(), cancel);
        let picture = input.to_tensor(bundle.geometry.picture_channels)?;
        // diffusers leaves this encoding out where an inpainting model begins from pure noise.
        let encoded = match bundle.takes_mask() && request.strength >= 1.0 {
            true => None,
            false => Some(encode(picture.clone())?),
        };
        let Some(pixels) = mask else { return Ok(Self { picture: encoded, mask: None, masked: None }) };
        let mut rest = picture;
        for mut plane in rest.axis_iter_mut(Axis(0)) {
            plane.zip_mut_with(&pixels.index_axis(Axis(0), 0), |value, mask| *value *= f32::from(*mask < 0.5));
        }
        let mask = mask_of_latents(pixels, bundle.geometry.pixels_per_latent);
        Ok(Self { picture: encoded, mask: Some(mask), masked: Some(encode(rest)?) })
    }

    /// Draws what a batch begins with.
    ///
    /// * `shape`: of one picture's latents, `[C, h, w]`
    /// * `begin`: index of the first network call
    pub(super) fn start(
        &self,
        bundle: &Bundle,
        request: &Resolved,
        sampler: &dyn Sampler,
        begin: usize,
        shape: &[usize; 3],
        noise: &mut Noise,
    ) -> Result<Start> {
        let draw = |encoded: Option<&EncodedPicture>, noise: &mut Noise| {
            encoded.map(|encoded| draw_latents(bundle, encoded, noise)).transpose()
        };
        let picture = draw(self.picture.as_ref(), noise)?;
        let fresh = noise.draw(shape)?;
        let masked = draw(self.masked.as_ref(), noise)?;
        let from_noise = match &request.task {
            Task::TextToPicture => true,
            Task::PictureToPicture { .. } | Task::FirstFrame { .. } | Task::ClipToClip { .. } => false,
            Task::Inpaint { .. } => request.strength >= 1.0,
        };
        let sample = match &picture {
            Some(latents) if !from_noise => sampler.add_noise(latents, &fresh, begin)?,
            _ => {
                let sigma = sampler.init_noise_sigma();
                fresh.mapv(|value| value * sigma)
            }
        };
        let (mut mask_channels, mut kept) = (None, None);
        if let Some(mask) = &self.mask {
            let whole = IxDyn(&[noise.batch(), 1, shape[1], shape[2]]);
            let mask = mask.broadcast(whole).context("mask and latents differ in size")?.to_owned();
            match (bundle.takes_mask(), masked, picture) {
                (true, Some(masked_latents), _) => mask_channels = Some(MaskChannels { mask, masked_latents }),
                (false, _, Some(latents)) => kept = Some(Kept { mask, latents, noise: fresh }),
                _ => {}
            }
        }
        Ok(Start { sample, mask_channels, kept })
    }
}

impl Kept {
    /// Puts what stays back into `sample`, at the noise level of network call `next`; clean when there is none.
    pub(super) fn put_back(&self, sample: &ArrayD<f32>, sampler: &dyn Sampler, next: usize) -> Result<ArrayD<f32>> {
        let stays = match next < sampler.timesteps().len() {
            true => sampler.add_noise(&self.latents, &self.noise, next)?,
            false => self.latents.clone(),
        };
        Ok(stays * &(1.0 - &self.mask) + &(sample * &self.mask))
    }
}

/// Draws latents for each picture of a batch out of one encoding, `[B, C, h, w]` f32.
pub(super) fn draw_latents(bundle: &Bundle, encoded: &EncodedPicture, noise: &mut Noise) -> Result<ArrayD<f32>> {
    draw_each(bundle, &vec![encoded; noise.batch()], || noise.draw(&encoded.shape()[1..]))
}

/// Draws latents out of each of `encoded`, `[N, C, h, w]` f32.
///
/// * `normals`: draws as many from the generators; it is not asked where an export drew by itself
pub(super) fn draw_each(
    bundle: &Bundle,
    encoded: &[&EncodedPicture],
    normals: impl FnOnce() -> Result<ArrayD<f32>>,
) -> Result<ArrayD<f32>> {
    let first = encoded.first().context("there is no picture to draw latents of")?;
    let mut shape = first.shape().to_vec();
    shape[0] = encoded.len();
    let normals = match first {
        EncodedPicture::Distribution { .. } => normals()?,
        EncodedPicture::Drawn(_) => ArrayD::zeros(IxDyn(&shape)),
    };
    let rows: Vec<ArrayD<f32>> = normals
        .axis_chunks_iter(Axis(0), 1)
        .zip(encoded)
        .map(|(row, encoded)| encoded.draw(&row.to_owned(), &bundle.geometry.scaling))
        .collect::<Result<_>>()?;
    let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
    Ok(concatenate(Axis(0), &views)?)
}

/// The mask at the latents' size: of each patch the first pixel, as nearest-neighbour interpolation has it.
fn mask_of_latents(pixels: &Array3<f32>, side: usize) -> ArrayD<f32> {
    let (_, height, width) = pixels.dim();
    ArrayD::from_shape_fn(IxDyn(&[1, 1, height / side, width / side]), |at| pixels[[0, at[2] * side, at[3] * side]])
}
