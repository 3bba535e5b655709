//! AnimateDiff: a latent diffusion model of pictures with motion modules between its blocks makes all frames of a clip at once.
//!
//! Y. Guo, C. Yang, A. Rao, Z. Liang, Y. Wang, Y. Qiao, M. Agrawala, D. Lin, B. Dai, 2023, "AnimateDiff: Animate Your Personalized
//! Text-to-Image Diffusion Models without Specific Tuning", arXiv:2307.04725. Distilled: S. Lin, X. Yang, 2024,
//! "AnimateDiff-Lightning", arXiv:2403.12706; F.-Y. Wang et al., 2024, "AnimateLCM", arXiv:2402.00769.
//!
//! In: a resolved request. Out: frames, each as soon as it is decoded. Random numbers are drawn in the order of diffusers'
//! `AnimateDiffPipeline`: the noise of all frames as one tensor; and of its `AnimateDiffVideoToVideoPipeline`, where each frame begins
//! with one of a clip, or all with one picture: their latents, sixteen frames at a time, then the noise with the frames before the channels.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, ArrayViewD, Axis, Ix3, IxDyn, concatenate};

use super::clip::{ClipModel, Filmed, FrameSink, frames_of, latent_shape};
use super::denoise::{Noise, denoise};
use super::free_noise;
use super::input::draw_each;
use super::job::Job;
use super::latent_diffusion::begin_index;
use super::observer::{Event, Observer};
use super::predictor::Predictor;
use super::preview::Preview;
use super::texts::encode_texts;
use crate::bundle::Role;
use crate::output::Picture;
use crate::request::{Frames, Task};
use crate::sampler::Sampler;
use crate::stage::{
    Conditioning, Decoding, Denoiser, EncodedPicture, PreviewMap, TextEncoders, decode_within_memory, encode_picture,
};

/// Frames whose latents diffusers draws in one piece.
const FRAMES_AT_ONCE: usize = 16;

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
    let inputs = encode_inputs(job, observer)?;
    let preview = Preview::prepare(job, preview_map, observer)?;
    let (latents, timesteps) = denoise_clip(job, &frames, &conditioning, &inputs, preview.as_ref(), observer)?;
    job.release(Role::Unet);
    job.release(Role::PreviewDecoder);
    job.release(Role::TinyDecoder);
    let decoding = hand_out(job, &latents, sink, observer)?;
    job.release(job.plan.decoder);
    Ok(Filmed { latents: latents.index_axis_move(Axis(0), 0), timesteps, decoding })
}

/// Encodes what the frames begin with: one picture for all, or one for each; nothing where they begin with noise.
fn encode_inputs(job: &mut Job<'_>, observer: &mut dyn Observer) -> Result<Vec<EncodedPicture>> {
    let pictures: &[Picture] = match &job.request.task {
        Task::PictureToPicture { input } => std::slice::from_ref(input),
        Task::ClipToClip { frames, .. } => frames,
        _ => return Ok(Vec::new()),
    };
    job.open(Role::VaeEncoder, observer)?;
    let mut encoded = Vec::with_capacity(pictures.len());
    for picture in pictures {
        job.cancel.check()?;
        let picture = picture.to_tensor(job.bundle.geometry.picture_channels)?.insert_axis(Axis(0)).into_dyn();
        encoded.push(encode_picture(job.bundle, job.networks, picture, job.cancel)?);
    }
    job.release(Role::VaeEncoder);
    Ok(encoded)
}

/// Makes the latents, `[1, C, F, h, w]` f32; returns them and the timesteps of the calls.
fn denoise_clip(
    job: &mut Job<'_>,
    frames: &Frames,
    conditioning: &Conditioning,
    inputs: &[EncodedPicture],
    preview: Option<&Preview>,
    observer: &mut dyn Observer,
) -> Result<(ArrayD<f32>, Vec<f32>)> {
    let (bundle, request, cancel) = (job.bundle, job.request, job.cancel);
    let mut sampler = request.sampler()?.build(&request.run)?;
    let begin = begin_index(bundle, &*sampler, request);
    let timesteps = sampler.timesteps().get(begin..).unwrap_or_default().to_vec();
    ensure!(!timesteps.is_empty(), "sampler `{}` leaves no step to make", request.sampler_name());

    let mut noise = job.noise(0..1);
    let shape = latent_shape(job, frames);
    let start = match inputs {
        [] => free_noise::draw(&mut noise, &shape, frames.noise_window)? * sampler.init_noise_sigma(),
        inputs => start_with(inputs, &*sampler, begin, job, &shape, &mut noise)?,
    };
    job.open(Role::Unet, observer)?;
    let denoiser = Denoiser::new(bundle, job.networks, conditioning.passes(job.plan.guidance_passes), conditioning, cancel)?;
    let mut model = ClipModel {
        denoiser: Predictor::Unet(denoiser),
        frames,
        bundle,
        networks: job.networks,
        given: None,
        preview,
        observer,
        cancel,
        begin,
        steps: timesteps.len(),
    };
    let sample = denoise(&mut model, request, &mut *sampler, begin, start, &mut noise, cancel)?;
    Ok((sample, timesteps))
}

/// The clip whose frames are `inputs`, the last again for those beyond it, at the noise level of network call `begin`.
fn start_with(
    inputs: &[EncodedPicture],
    sampler: &dyn Sampler,
    begin: usize,
    job: &Job<'_>,
    shape: &[usize; 4],
    noise: &mut Noise,
) -> Result<ArrayD<f32>> {
    let &[channels, count, height, width] = shape;
    let mut rows = Vec::with_capacity(count);
    for first in (0..count).step_by(FRAMES_AT_ONCE) {
        let drawn = FRAMES_AT_ONCE.min(count - first);
        let of_frame = |at: usize| inputs.get(at).or(inputs.last()).context("a clip begins with nothing");
        let encoded = (first..first + drawn).map(of_frame).collect::<Result<Vec<_>>>()?;
        let normals = || Ok(noise.draw(&[drawn, channels, height, width])?.index_axis_move(Axis(0), 0));
        rows.push(draw_each(job.bundle, &encoded, normals)?);
    }
    let views: Vec<ArrayViewD<'_, f32>> = rows.iter().map(|row| row.view()).collect();
    let picture = concatenate(Axis(0), &views)?.insert_axis(Axis(0));
    let fresh = noise.draw(&[count, channels, height, width])?;
    let start = sampler.add_noise(&picture, &fresh, begin)?;
    Ok(start.permuted_axes(IxDyn(&[0, 2, 1, 3, 4])).as_standard_layout().into_owned())
}

/// Decodes `latents`, `[1, C, F, h, w]` f32, frame by frame, and hands each out before the next is decoded.
fn hand_out(job: &mut Job<'_>, latents: &ArrayD<f32>, sink: &mut FrameSink<'_>, observer: &mut dyn Observer) -> Result<Decoding> {
    // What was too large for the memory once is not tried again for the next frame.
    let mut decoding = Decoding { tile: job.plan.tile, ..Decoding::default() };
    for (number, frame) in latents.axis_iter(Axis(2)).enumerate() {
        job.cancel.check()?;
        observer.event(Event::Decoding { picture: number });
        job.open(job.plan.decoder, observer)?;
        let Job { bundle, networks, plan, cancel, .. } = &mut *job;
        let pictures = decode_within_memory(bundle, plan.decoder, networks, &frame.to_owned(), &mut decoding, cancel)
            .map_err(|error| error.context(format!("frame {number}")))?;
        sink(Picture::from_tensor(pictures.index_axis(Axis(0), 0).into_dimensionality::<Ix3>()?)?)?;
    }
    Ok(decoding)
}
