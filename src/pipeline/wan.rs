//! Wan: a transformer over a clip's patches follows a rectified flow in the latents of a causal autoencoder.
//!
//! Wan Team, 2025, "Wan: Open and Advanced Large-Scale Video Generative Models", arXiv:2503.20314.
//!
//! In: a resolved request. Out: frames, each as soon as it is decoded. The noise of all frames is drawn as one tensor, as in diffusers'
//! `WanPipeline`.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis, Ix3, Slice};

use super::clip::{ClipModel, Filmed, FrameSink, frames_of};
use super::denoise::denoise;
use super::job::Job;
use super::observer::{Event, Observer};
use super::preview::Preview;
use super::texts::encode_texts;
use crate::bundle::Role;
use crate::output::Picture;
use crate::request::Frames;
use crate::stage::{CausalDecoder, Conditioning, Decoding, PreviewMap, TextEncoders, Transformer};

/// Makes the clip; see [`generate_clip`](super::generate_clip).
pub(super) fn film(
    job: &mut Job<'_>,
    encoders: &TextEncoders,
    preview_map: &mut Option<PreviewMap>,
    sink: &mut FrameSink<'_>,
    observer: &mut dyn Observer,
) -> Result<Filmed> {
    let frames = frames_of(job)?;
    let conditioning = encode_texts(job, encoders, observer)?;
    let preview = Preview::prepare(job, preview_map, observer)?;
    let (latents, timesteps) = denoise_clip(job, &frames, &conditioning, preview.as_ref(), observer)?;
    job.release(Role::Transformer);
    hand_out(job, &latents, sink, observer)?;
    job.release(Role::VaeDecoder);
    Ok(Filmed { latents: latents.index_axis_move(Axis(0), 0), timesteps, decoding: Decoding::default() })
}

/// Makes the latents, `[1, C, F, h, w]` f32; returns them and the timesteps of the calls.
fn denoise_clip(
    job: &mut Job<'_>,
    frames: &Frames,
    conditioning: &Conditioning,
    preview: Option<&Preview>,
    observer: &mut dyn Observer,
) -> Result<(ArrayD<f32>, Vec<f32>)> {
    let (bundle, request, cancel) = (job.bundle, job.request, job.cancel);
    let mut sampler = request.sampler()?.build(&request.run)?;
    let timesteps = sampler.timesteps().to_vec();
    ensure!(!timesteps.is_empty(), "sampler `{}` leaves no step to make", request.sampler_name());
    let side = bundle.geometry.pixels_per_latent;
    let mut noise = job.noise(0..1);
    let (height, width) = (request.height as usize / side, request.width as usize / side);
    let start = noise.draw(&[bundle.geometry.latent_channels, frames.latents, height, width])? * sampler.init_noise_sigma();
    job.open(Role::Transformer, observer)?;
    let mut transformer = Transformer::new(bundle, job.networks, job.plan.guidance_passes, conditioning, cancel)?;
    let mut model = ClipModel {
        predict: |networks: &mut _, sample: &ArrayD<f32>, timestep| transformer.predict(networks, sample, timestep, cancel),
        bundle,
        networks: job.networks,
        preview,
        observer,
        cancel,
        begin: 0,
        steps: timesteps.len(),
    };
    let (sample, _) = denoise(&mut model, &mut *sampler, 0, start, &mut noise, cancel)?;
    Ok((sample, timesteps))
}

/// Decodes `latents`, `[1, C, F, h, w]` f32, one frame of latents after the other, and hands out each frame of the clip before the next
/// latents are decoded.
fn hand_out(job: &mut Job<'_>, latents: &ArrayD<f32>, sink: &mut FrameSink<'_>, observer: &mut dyn Observer) -> Result<()> {
    let mut decoder = CausalDecoder::default();
    let mut number = 0;
    for at in 0..latents.len_of(Axis(2)) {
        job.cancel.check()?;
        let role = decoder.role();
        job.open(role, observer)?;
        observer.event(Event::Decoding { picture: number });
        let frame = latents.slice_axis(Axis(2), Slice::from(at..=at)).to_owned();
        let decoded = decoder
            .decode(job.bundle, job.networks, &frame, job.cancel)
            .map_err(|error| error.context(format!("frame {number}")))?;
        if role == Role::VaeDecoderFirst {
            job.release(role);
        }
        for picture in decoded.index_axis(Axis(0), 0).axis_iter(Axis(1)) {
            sink(Picture::from_tensor(picture.into_dimensionality::<Ix3>()?)?)?;
            number += 1;
        }
    }
    Ok(())
}
