//! What a person asked for, and what it comes to for one bundle.
//!
//! In: a [`Request`] with gaps, from the command line, a server or a program. Out: a [`Resolved`] request without gaps, checked
//! against the bundle: it cannot fail for the caller's fault later. Not here: how it is carried out (`plan`, `pipeline`).

mod again;
mod control;
mod family;
mod frames;
mod levels;
mod resolve;
mod sampler_choice;
mod size;
mod task;
mod walk;

use std::sync::Arc;

use anyhow::{Context, Result};

pub use family::{ClassChoice, Solver, StyleMix};
pub use frames::Frames;
pub use resolve::steps_taken;
pub(crate) use resolve::widen;
pub use sampler_choice::SamplerChoice;
pub use size::size_of;
pub use task::Task;
pub use walk::{LARGEST_WALK, Walk};

use crate::output::{FrameRate, Picture};
use crate::random::Device;
use crate::sampler;

/// Most pictures in one request.
pub const LARGEST_COUNT: usize = 1000;
/// Longest side of a picture in pixels.
pub const LONGEST_SIDE: u32 = 4096;

/// What to make; `Request::new(prompt)` and a change of the fields that matter.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// What the picture shows; of a model that knows classes, the class's name, or nothing for each in its turn.
    pub prompt: String,
    /// What it does not show; works only with guidance.
    pub negative: Option<String>,
    /// Read brackets as letters and cut what is longer than the text encoder's length, as diffusers does. Otherwise `(word:1.3)` and its kin
    /// weigh words, and a long prompt is read in chunks, as Stable Diffusion web UI does.
    pub plain_prompt: bool,
    /// Where its noise begins; picture `i` of several has `seed + i`. Drawn when not given.
    pub seed: Option<u64>,
    /// Whose random numbers: torch's on the processor, or torch's on CUDA.
    pub random_device: Device,
    /// Denoising steps; the model's own default when not given.
    pub steps: Option<usize>,
    /// Guidance scale; 1 is none.
    pub guidance: Option<f32>,
    /// Width and height in pixels.
    pub size: Option<(u32, u32)>,
    /// How many pictures; 0 is read as 1.
    pub count: usize,
    /// Another sampler, or another way to run the model's own.
    pub sampler: SamplerChoice,
    /// A picture to begin with.
    pub input: Option<Picture>,
    /// The frames of a clip to begin with, for a model that makes clips out of clips; empty for none.
    pub input_frames: Arc<[Picture]>,
    /// Where the input picture may change: white may, black stays.
    pub mask: Option<Picture>,
    /// How much of the input picture is made anew, above 0 to 1.
    pub strength: Option<f32>,
    /// A picture that steers the denoiser of a model with a ControlNet, such as edges or a depth map.
    pub control: Option<Picture>,
    /// How strongly it steers; 1 when not given.
    pub control_scale: Option<f32>,
    /// How far a style keeps from the mean one, 0 (the mean) to 1 (all of it); a style-based generator takes it.
    pub truncation: Option<f32>,
    /// Another seed's style for the later layers of a style-based generator.
    pub style_mix: Option<StyleMix>,
    /// Deviation of the latents that are drawn, 1 as trained; an autoencoder and a flow take it.
    pub temperature: Option<f32>,
    /// Pictures on the way from the seed's noise to another seed's; takes the place of `count`.
    pub walk: Option<Walk>,
    /// Frames of a clip; the model's own default when not given. A model of pictures takes none.
    pub frames: Option<usize>,
    /// Frames that are shown in a second; the model's own when not given. Some models are told of it, and move as fast as it asks.
    pub frame_rate: Option<FrameRate>,
    /// Latents or trace probes that a likelihood is the mean over; 1 when not given.
    pub samples: Option<usize>,
    /// Take steps and guidance that the model was not made for.
    pub force: bool,
}

impl Request {
    /// A request for one picture of `prompt`, all else by the model's defaults.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), count: 1, ..Self::default() }
    }
}

/// A picture that steers a denoiser.
#[derive(Debug, Clone)]
pub struct Control {
    /// The picture at the request's size.
    pub picture: Picture,
    /// How strongly it steers.
    pub scale: f32,
}

/// A request without gaps, fit for one bundle.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// See [`Request::prompt`].
    pub prompt: String,
    /// See [`Request::negative`]; `None` where guidance makes no use of it.
    pub negative: Option<String>,
    /// See [`Request::plain_prompt`]; models that read sentences take no weights.
    pub plain_prompt: bool,
    /// Seed of the first picture.
    pub seed: u64,
    /// See [`Request::random_device`].
    pub random_device: Device,
    /// Denoising steps of the full way; an input picture enters it later.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How many pictures, at least 1.
    pub count: usize,
    /// The sampler's configuration with the person's changes; `None` where there are no steps, or a solver makes them.
    pub sampler: Option<sampler::Config>,
    /// What the run asks of it.
    pub run: sampler::Run,
    /// What integrates a field; `None` where a sampler makes the steps, or there are none.
    pub solver: Option<Solver>,
    /// The class of each picture; `None` where the model knows none.
    pub class: Option<ClassChoice>,
    /// See [`Request::truncation`].
    pub truncation: f32,
    /// See [`Request::style_mix`].
    pub style_mix: Option<StyleMix>,
    /// See [`Request::temperature`].
    pub temperature: f32,
    /// See [`Request::walk`].
    pub walk: Option<Walk>,
    /// The frames of the clip; `None` where pictures are made.
    pub frames: Option<Frames>,
    /// See [`Request::samples`], at least 1.
    pub samples: usize,
    /// What is made out of what.
    pub task: Task,
    /// What steers the denoiser.
    pub control: Option<Control>,
    /// How much of an input picture is made anew; 1 without one.
    pub strength: f32,
    /// What of the request has no effect or another than one may think; for whoever carries it out to tell, once.
    pub warnings: Vec<String>,
}

impl Resolved {
    /// The seed of picture `index`; all pictures of a walk begin at one.
    #[must_use]
    pub fn seed_of(&self, index: usize) -> u64 {
        if self.walk.is_some() { self.seed } else { self.seed.wrapping_add(index as u64) }
    }

    /// Where picture `index` stands on a walk: the seed it goes to, and the share of the way.
    #[must_use]
    pub fn toward(&self, index: usize) -> Option<(u64, f32)> {
        let walk = self.walk.as_ref()?;
        walk.shares.get(index).map(|share| (walk.to, *share))
    }

    /// The class of picture `index`.
    #[must_use]
    pub fn class_of(&self, index: usize) -> Option<usize> {
        self.class.map(|class| class.of_seed(self.seed_of(index)))
    }

    /// The sampler's configuration.
    ///
    /// # Errors
    /// The run has none.
    pub fn sampler(&self) -> Result<&sampler::Config> {
        self.sampler.as_ref().context("this run has no sampler")
    }

    /// What makes the steps, by name, as provenance has it.
    #[must_use]
    pub fn sampler_name(&self) -> String {
        match (&self.sampler, &self.solver) {
            (Some(config), _) => config.kind().name().to_owned(),
            (None, Some(solver)) => solver.method.to_string(),
            (None, None) => "none".to_owned(),
        }
    }
}
