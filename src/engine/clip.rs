//! Clips: made as pictures are, and handed out frame by frame.

use std::time::Instant;

use anyhow::Result;
use ndarray::ArrayD;

use super::safety::{WithoutPreviews, pass};
use super::{Engine, Made};
use crate::output::{ClipHead, ClipRecord, Picture, Provenance};
use crate::pipeline::{self, Filmed, Observer};
use crate::refuse;
use crate::request::Request;
use crate::runtime::Cancel;

/// A clip whose frames were handed out, and what made it.
#[derive(Debug, Clone)]
pub struct GeneratedClip {
    /// How many frames there were.
    pub frames: usize,
    /// What made it; enough to make it again.
    pub provenance: Provenance,
    /// What it was decoded from: latents `[C, F, h, w]` f32 as the denoiser has them.
    pub latents: ArrayD<f32>,
}

/// A clip that is about to be made.
#[derive(Debug, Clone)]
pub struct ClipBeginning {
    /// What was asked for, with the seed.
    pub request: Request,
    /// The seed; where nobody chose one it was drawn here, once.
    pub seed: u64,
    /// How many frames there will be.
    pub frames: usize,
    /// What is known of its file before the first.
    pub head: ClipHead,
}

impl Engine {
    /// Decides what has to be known of the clip of `request` before its file is begun.
    ///
    /// # Errors
    /// As [`Engine::plan`]; the model makes no clips (a refusal).
    pub fn begin_clip(&self, request: &Request) -> Result<ClipBeginning> {
        let (resolved, _) = self.plan(request)?;
        let Some(frames) = resolved.frames else { refuse!("model {} makes pictures and no clips", self.bundle().name()) };
        let channels = self.bundle().geometry.picture_channels.max(3);
        let head = ClipHead::new(resolved.width, resolved.height, channels, frames.rate);
        let request = Request { seed: Some(resolved.seed), ..request.clone() };
        Ok(ClipBeginning { request, seed: resolved.seed, frames: frames.count, head })
    }

    /// Makes the clip of `request`; `sink` is handed each frame as soon as it is decoded, so that memory does not grow with length.
    ///
    /// `observer` is told of progress; `cancel`, kept by another thread, stops the run within one kernel.
    ///
    /// # Errors
    /// As [`Request::resolve`], all the caller's fault; the model makes no clips (a refusal); a component does not load, fails, or
    /// gives a non-finite or constant result; `sink` fails; [`Cancelled`](crate::error::Cancelled) once `cancel` was used;
    /// [`HeldBack`](crate::error::HeldBack) by the safety checker, which sees each frame before `sink` does.
    pub fn generate_clip(
        &mut self,
        request: &Request,
        mut sink: impl FnMut(Picture) -> Result<()>,
        observer: &mut dyn Observer,
        cancel: &Cancel,
    ) -> Result<GeneratedClip> {
        let begun = Instant::now();
        let (resolved, plan) = self.plan(request)?;
        let mut checker = match self.safety_files()? {
            Some(files) => Some(self.take_checker(&files, &plan, cancel)?),
            None => None,
        };
        let mut unseen = WithoutPreviews(observer);
        let observer: &mut dyn Observer = if checker.is_some() { &mut unseen } else { unseen.0 };
        let seed = resolved.seed_of(0);
        let mut checked = |frame: Picture| {
            checker.as_mut().map_or(Ok(()), |checker| pass(checker, seed, &frame, cancel))?;
            sink(frame)
        };
        let (filmed, times) = self.with_job(&resolved, &plan, cancel, |job, encoders, preview_map| {
            pipeline::generate_clip(job, encoders, preview_map, &mut checked, observer)
        })?;
        if let Some(checker) = checker {
            self.keep_checker(checker, &plan);
        }
        let total_ms = begun.elapsed().as_secs_f64() * 1000.0;
        let Filmed { latents, timesteps, decoding } = filmed;
        let made = Made { index: 0, timesteps, decoding, times: &times, total_ms };
        let mut provenance = self.provenance(request, &resolved, &plan, made)?;
        let frames = resolved.frames.map_or(0, |frames| frames.count);
        let rate = resolved.frames.map(|frames| frames.rate);
        // Whoever writes the clip may show it at another rate, and says so.
        provenance.clip = rate.map(|frames_per_second| ClipRecord { frames, frames_per_second, bounce: false });
        Ok(GeneratedClip { frames, provenance, latents })
    }
}
