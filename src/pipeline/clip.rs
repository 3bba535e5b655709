//! What every family of clips shares: the frames on their way out, and what the loop is given.

use anyhow::{Context, Result};
use ndarray::{ArrayD, Axis, Ix3, Slice};

use super::denoise::Model;
use super::free_noise;
use super::job::Job;
use super::observer::{Event, Observer};
use super::predictor::Predictor;
use super::preview::Preview;
use crate::bundle::Bundle;
use crate::output::Picture;
use crate::request::Frames;
use crate::runtime::Cancel;
use crate::sampler::{Sampler, Step};
use crate::stage::{Decoding, DeviceDenoiser, Networks};

/// Takes finished frames, one after the other; what it fails with ends the run.
pub type FrameSink<'a> = dyn FnMut(Picture) -> Result<()> + 'a;

/// A clip whose frames were handed out.
#[derive(Debug, Clone)]
pub struct Filmed {
    /// What it was decoded from, `[C, F, h, w]` f32 as the denoiser has them.
    pub latents: ArrayD<f32>,
    /// The timesteps at which the denoiser was called.
    pub timesteps: Vec<f32>,
    /// How its latents were decoded.
    pub decoding: Decoding,
}

/// The frames that `job` asks for.
pub(super) fn frames_of(job: &Job<'_>) -> Result<Frames> {
    job.request.frames.with_context(|| format!("model {} is asked for pictures, expected a clip", job.bundle.name()))
}

/// The shape of a clip's latents, `[C, F, h, w]`.
pub(super) fn latent_shape(job: &Job<'_>, frames: &Frames) -> [usize; 4] {
    let geometry = &job.bundle.geometry;
    let side = |pixels: u32| pixels as usize / geometry.pixels_per_latent;
    [geometry.latent_channels, frames.latents, side(job.request.height), side(job.request.width)]
}

/// Hands out `frames`, `[1, 3 or 4, n, H, W]` f32.
///
/// * `number`: counts the frames, each before the sink has it: a sink that runs out of memory is no reason to decode again
pub(super) fn give(frames: &ArrayD<f32>, number: &mut usize, sink: &mut FrameSink<'_>) -> Result<()> {
    for picture in frames.index_axis(Axis(0), 0).axis_iter(Axis(1)) {
        let picture = Picture::from_tensor(picture.into_dimensionality::<Ix3>()?)?;
        *number += 1;
        sink(picture)?;
    }
    Ok(())
}

/// What the loop is given: what predicts, and what happens between its calls.
pub(super) struct ClipModel<'a> {
    pub(super) denoiser: Predictor<'a>,
    pub(super) frames: &'a Frames,
    pub(super) bundle: &'a Bundle,
    pub(super) networks: &'a mut Networks,
    /// The first frames of latents, `[1, C, n, h, w]` f32, where they are given rather than made: they stay as they are.
    pub(super) given: Option<&'a ArrayD<f32>>,
    pub(super) preview: Option<&'a Preview>,
    pub(super) observer: &'a mut dyn Observer,
    pub(super) cancel: &'a Cancel,
    pub(super) begin: usize,
    pub(super) steps: usize,
}

impl Model for ClipModel<'_> {
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>> {
        free_noise::in_windows(self.frames, sample, |part| {
            self.cancel.check()?;
            self.denoiser.predict(self.networks, part, timestep, None, self.cancel)
        })
    }

    fn after(&mut self, _: &dyn Sampler, index: usize, mut step: Step) -> Result<ArrayD<f32>> {
        if let Some(given) = self.given {
            for clip in [&mut step.sample, &mut step.predicted_original] {
                clip.slice_axis_mut(Axis(2), Slice::from(..given.len_of(Axis(2)))).assign(given);
            }
        }
        self.look(index, Some(&step.predicted_original))?;
        Ok(step.sample)
    }

    fn look(&mut self, index: usize, estimate: Option<&ArrayD<f32>>) -> Result<()> {
        let done = index + 1 - self.begin;
        self.observer.event(Event::Step { step: done, steps: self.steps, picture: 0, pictures: 1 });
        if let (Some(preview), Some(clip)) = (self.preview, estimate) {
            // The frame in the middle stands for the clip.
            let frame = clip.index_axis(Axis(2), clip.len_of(Axis(2)) / 2).to_owned();
            let picture = preview.show(self.bundle, self.networks, &frame, self.cancel)?;
            self.observer.preview(done, &picture)?;
        }
        Ok(())
    }

    fn wants_estimate(&self) -> bool {
        self.preview.is_some()
    }

    fn on_device(&mut self) -> Option<(&mut dyn DeviceDenoiser, &mut Networks)> {
        if self.given.is_some() || self.frames.window.is_some() {
            return None;
        }
        Some((self.denoiser.on_device()?, self.networks))
    }
}
