//! Wan: a transformer over a clip's patches follows a rectified flow in the latents of a causal autoencoder.
//!
//! Wan Team, 2025, "Wan: Open and Advanced Large-Scale Video Generative Models", arXiv:2503.20314.
//!
//! In: a resolved request. Out: frames, each as soon as it is decoded. More frames than the model was trained for are made in windows over
//! FreeNoise's noise, as AnimateDiff's are, in frames of latents. The noise of all frames is drawn as one tensor, as in diffusers'
//! `WanPipeline` and `WanImageToVideoPipeline`. Of the latter the picture is seen thrice: by an image encoder, as the first frame of a grey
//! clip that was encoded, and by a mask that says which frames of it are there.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice, concatenate};

use super::clip::{ClipModel, Filmed, FrameSink, frames_of, give, latent_shape};
use super::denoise::denoise;
use super::free_noise;
use super::job::Job;
use super::observer::{Event, Observer};
use super::predictor::Predictor;
use super::preview::Preview;
use super::safety_checker::clip_input;
use super::texts::encode_texts;
use crate::bundle::Role;
use crate::plan::Tile;
use crate::request::{Frames, Task};
use crate::stage::{
    CausalDecoder, CausalEncoder, Conditioning, Decoding, PreviewMap, TextEncoders, Transformer, decode_clip_in_tiles,
    encode_image,
};

/// Makes the clip; see [`generate_clip`](super::generate_clip).
pub(super) fn film(
    job: &mut Job<'_>,
    encoders: &TextEncoders,
    preview_map: &mut Option<PreviewMap>,
    sink: &mut FrameSink<'_>,
    observer: &mut dyn Observer,
) -> Result<Filmed> {
    let frames = frames_of(job)?;
    let mut conditioning = encode_texts(job, encoders, observer)?;
    encode_first_frame(job, &frames, &mut conditioning, observer)?;
    let preview = Preview::prepare(job, preview_map, observer)?;
    let (latents, timesteps) = denoise_clip(job, &frames, &conditioning, preview.as_ref(), observer)?;
    job.release(Role::Transformer);
    let decoding = hand_out(job, &latents, sink, observer)?;
    job.release(Role::VaeDecoder);
    Ok(Filmed { latents: latents.index_axis_move(Axis(0), 0), timesteps, decoding })
}

/// Encodes the picture that the clip goes on from, where there is one.
fn encode_first_frame(
    job: &mut Job<'_>,
    frames: &Frames,
    conditioning: &mut Conditioning,
    observer: &mut dyn Observer,
) -> Result<()> {
    let (bundle, cancel) = (job.bundle, job.cancel);
    let Task::FirstFrame { input, given } = &job.request.task else { return Ok(()) };
    let Some((shape, first_frame)) = bundle.clip.as_ref().and_then(|shape| Some((shape, shape.first_frame.as_ref()?))) else {
        return Ok(());
    };
    if let Some(preparation) = &first_frame.preparation {
        job.open(Role::ImageEncoder, observer)?;
        conditioning.image = Some(encode_image(job.networks, clip_input(preparation, given)?, cancel)?);
        job.release(Role::ImageEncoder);
    }
    let picture = input.to_tensor(bundle.geometry.picture_channels)?.insert_axis(Axis(0)).insert_axis(Axis(2)).into_dyn();
    let mut grey = picture.shape().to_vec();
    grey[2] = shape.frames_per_latent;
    let mut encoder = CausalEncoder::default();
    let mut latents = Vec::with_capacity(frames.latents);
    for at in 0..frames.latents {
        cancel.check()?;
        let role = encoder.role();
        job.open(role, observer)?;
        let part = if at == 0 { picture.clone() } else { ArrayD::zeros(IxDyn(&grey)) };
        latents.push(encoder.encode(bundle, job.networks, part, cancel)?);
        if role == Role::VaeEncoderFirst {
            job.release(role);
        }
    }
    job.release(Role::VaeEncoder);
    let views: Vec<ArrayViewD<'_, f32>> = latents.iter().map(|latents| latents.view()).collect();
    let latents = concatenate(Axis(2), &views)?;
    let mut mask = latents.shape().to_vec();
    mask[1] = shape.frames_per_latent;
    let mask = ArrayD::from_shape_fn(IxDyn(&mask), |at| f32::from(u8::from(at[2] == 0)));
    conditioning.first_frame = Some(concatenate(Axis(1), &[mask.view(), latents.view()])?);
    Ok(())
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
    let mut noise = job.noise(0..1);
    let start = free_noise::draw(&mut noise, &latent_shape(job, frames), frames.noise_window)? * sampler.init_noise_sigma();
    job.open(Role::Transformer, observer)?;
    let transformer = Transformer::new(bundle, job.networks, job.plan.guidance_passes, conditioning, cancel)?;
    let mut model = ClipModel {
        denoiser: Predictor::Transformer(transformer),
        frames,
        bundle,
        networks: job.networks,
        given: None,
        preview,
        observer,
        cancel,
        begin: 0,
        steps: timesteps.len(),
    };
    let sample = denoise(&mut model, request, &mut *sampler, 0, start, &mut noise, cancel)?;
    Ok((sample, timesteps))
}

/// Decodes `latents`, `[1, C, F, h, w]` f32, and hands out the frames; in tiles where the plan says so, or where memory runs out before any
/// frame was handed out.
fn hand_out(job: &mut Job<'_>, latents: &ArrayD<f32>, sink: &mut FrameSink<'_>, observer: &mut dyn Observer) -> Result<Decoding> {
    let longer = latents.len_of(Axis(3)).max(latents.len_of(Axis(4)));
    let mut decoding = Decoding { tile: job.plan.tile.filter(|tile| longer > tile.latents), ..Decoding::default() };
    let mut number = 0;
    loop {
        let outcome = match decoding.tile {
            Some(tile) => hand_out_tiles(job, latents, tile, &mut number, sink, observer),
            None => hand_out_in_turn(job, latents, &mut number, sink, observer),
        };
        match outcome {
            Ok(()) => return Ok(decoding),
            Err(error) if number > 0 => return Err(error),
            Err(error) => decoding.give_way(error, job.bundle, job.networks, longer)?,
        }
    }
}

/// Decodes one frame of latents after the other, and hands out what they give before the next are decoded.
///
/// * `number`: counts the frames that were handed out
fn hand_out_in_turn(
    job: &mut Job<'_>,
    latents: &ArrayD<f32>,
    number: &mut usize,
    sink: &mut FrameSink<'_>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut decoder = CausalDecoder::default();
    let mut held: Option<ArrayD<f32>> = None;
    let count = latents.len_of(Axis(2));
    for at in 0..count {
        job.cancel.check()?;
        let role = decoder.role();
        job.open(role, observer)?;
        let first = *number + usize::from(held.is_some());
        observer.event(Event::Decoding { picture: first });
        let frame = latents.slice_axis(Axis(2), Slice::from(at..=at)).to_owned();
        let decoded = decoder
            .decode(job.bundle, job.networks, &frame, job.cancel)
            .map_err(|error| error.context(format!("frame {first}")))?;
        if role == Role::VaeDecoderFirst {
            job.release(role);
            // Whether the memory is enough is known once more frames were decoded: the first of another way would not fit them.
            if count > 1 {
                held = Some(decoded);
                continue;
            }
        }
        for frames in held.take().into_iter().chain([decoded]) {
            give(&frames, number, sink)?;
        }
    }
    Ok(())
}

/// Decodes the clip tile by tile, and hands out its frames when all are there.
fn hand_out_tiles(
    job: &mut Job<'_>,
    latents: &ArrayD<f32>,
    tile: Tile,
    number: &mut usize,
    sink: &mut FrameSink<'_>,
    observer: &mut dyn Observer,
) -> Result<()> {
    job.cancel.check()?;
    job.open(Role::VaeDecoderFirst, observer)?;
    observer.event(Event::Decoding { picture: 0 });
    let keeps = job.plan.keeps_components();
    give(&decode_clip_in_tiles(job.bundle, job.networks, latents, tile, keeps, job.cancel)?, number, sink)
}
