//! LTX-Video: a transformer over a clip's latents, each of which stands for many pixels, follows a rectified flow; a decoder that was
//! distilled with it makes the last of the way.
//!
//! Y. HaCohen et al., 2025, "LTX-Video: Realtime Video Latent Diffusion", arXiv:2501.00103.
//!
//! In: a resolved request. Out: frames, each as soon as it is decoded. A clip that begins with a picture has its latents as the first
//! frame of latents, which the transformer is told is clean. Random numbers are drawn in the order of diffusers' `LTXPipeline` and
//! `LTXImageToVideoPipeline`: the picture's latents, the noise of all frames as one tensor, the noise that the decoder is given.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis, Slice};

use super::clip::{ClipModel, Filmed, FrameSink, frames_of, give, latent_shape};
use super::denoise::{Noise, denoise};
use super::input::draw_latents;
use super::job::Job;
use super::observer::{Event, Observer};
use super::predictor::Predictor;
use super::preview::Preview;
use super::texts::encode_texts;
use crate::bundle::Role;
use crate::request::Task;
use crate::stage::{ClipDecoder, Conditioning, Decoding, EncodedPicture, PreviewMap, TextEncoders, Transformer, encode_picture};

/// Makes the clip; see [`generate_clip`](super::generate_clip).
pub(super) fn film(
    job: &mut Job<'_>,
    encoders: &TextEncoders,
    preview_map: &mut Option<PreviewMap>,
    sink: &mut FrameSink<'_>,
    observer: &mut dyn Observer,
) -> Result<Filmed> {
    let frames = frames_of(job)?;
    let shape = latent_shape(job, &frames);
    let mut noise = job.noise(0..1);

    let conditioning = encode_texts(job, encoders, observer)?;
    let first = match encode_input(job, observer)? {
        Some(encoded) => Some(draw_latents(job.bundle, &encoded, &mut noise)?.insert_axis(Axis(2))),
        None => None,
    };
    let preview = Preview::prepare(job, preview_map, observer)?;
    let start = noise.draw(&shape)?;
    let (latents, timesteps) = denoise_clip(job, start, first.as_ref(), &conditioning, preview.as_ref(), &mut noise, observer)?;
    job.release(Role::Transformer);

    let mixed_in = match job.bundle.clip.as_ref().and_then(|clip| clip.decode_time) {
        Some(_) => Some(noise.draw(&shape)?),
        None => None,
    };
    let decoder = ClipDecoder::new(job.bundle, &latents, mixed_in.as_ref(), job.plan.clip_tile, job.plan.tile);
    let decoding = hand_out(job, decoder, sink, observer)?;
    job.release(Role::VaeDecoder);
    Ok(Filmed { latents: latents.index_axis_move(Axis(0), 0), timesteps, decoding })
}

/// Encodes the picture that the clip begins with; `None` without one.
fn encode_input(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Option<EncodedPicture>> {
    let Task::FirstFrame { input, .. } = &job.request.task else { return Ok(None) };
    job.open(Role::VaeEncoder, observer)?;
    let picture = input.to_tensor(job.bundle.geometry.picture_channels)?.insert_axis(Axis(0)).into_dyn();
    let encoded = encode_picture(job.bundle, job.networks, picture, job.cancel)?;
    job.release(Role::VaeEncoder);
    Ok(Some(encoded))
}

/// Makes the latents, `[1, C, F, h, w]` f32, out of `start`, standard normal; returns them and the timesteps of the calls.
///
/// * `first`: the first frame of latents, where it is given
fn denoise_clip(
    job: &mut Job<'_>,
    start: ArrayD<f32>,
    first: Option<&ArrayD<f32>>,
    conditioning: &Conditioning,
    preview: Option<&Preview>,
    noise: &mut Noise,
    observer: &mut dyn Observer,
) -> Result<(ArrayD<f32>, Vec<f32>)> {
    let frames = frames_of(job)?;
    let (bundle, request, cancel) = (job.bundle, job.request, job.cancel);
    let mut sampler = request.sampler()?.build(&request.run)?;
    let timesteps = sampler.timesteps().to_vec();
    ensure!(!timesteps.is_empty(), "sampler `{}` leaves no step to make", request.sampler_name());
    let mut start = start * sampler.init_noise_sigma();
    if let Some(first) = first {
        start.slice_axis_mut(Axis(2), Slice::from(..1)).assign(first);
    }
    job.open(Role::Transformer, observer)?;
    let transformer = Transformer::new(bundle, job.networks, job.plan.guidance_passes, conditioning, cancel)?;
    let transformer = transformer.with_given_frames(usize::from(first.is_some()));
    let mut model = ClipModel {
        denoiser: Predictor::Transformer(transformer),
        frames: &frames,
        bundle,
        networks: job.networks,
        given: first,
        preview,
        observer,
        cancel,
        begin: 0,
        steps: timesteps.len(),
    };
    let sample = denoise(&mut model, request, &mut *sampler, 0, start, noise, cancel)?;
    Ok((sample, timesteps))
}

/// Decodes the clip, whole or tile after tile, and hands out what each call gives before the next.
fn hand_out(
    job: &mut Job<'_>,
    mut decoder: ClipDecoder,
    sink: &mut FrameSink<'_>,
    observer: &mut dyn Observer,
) -> Result<Decoding> {
    let mut number = 0;
    job.open(Role::VaeDecoder, observer)?;
    loop {
        job.cancel.check()?;
        observer.event(Event::Decoding { picture: number });
        let decoded = decoder.decode(job.bundle, job.networks, job.cancel);
        let Some(decoded) = decoded.map_err(|error| error.context(format!("frame {number}")))? else { break };
        give(&decoded, &mut number, sink)?;
    }
    Ok(decoder.decoding())
}
