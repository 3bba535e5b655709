//! What a picture is asked for with: the arguments that `kiln generate` and `kiln plan` share.

#[cfg(feature = "client")]
mod distant;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::clip;
use super::device::{DeviceArguments, SafetyArguments};
use super::film::Film;
use super::frames::Frames;
use super::record::{Inputs, Record};
use crate::bundle::{Bundle, Shelf};
use crate::output::Picture;
use crate::plan::{Budget, DecoderChoice, Memory, Settings, TileChoice, parse_bytes, parse_time};
use crate::request::{Request, SamplerChoice, StyleMix};
use crate::{refusal, refuse, sampler};

#[derive(Debug, clap::Args)]
pub(super) struct RequestArguments {
    /// What the picture shows; of a model that knows classes, a class, or nothing for each in its turn
    prompt: Option<String>,

    /// The model: a folder, or a name that `kiln models` lists [default: sticker]
    #[arg(long, short, value_name = "DIR")]
    pub(super) model: Option<PathBuf>,

    /// What the picture does not show
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,

    /// Read brackets as letters, and cut a prompt that is longer than the text encoder reads; otherwise (word:1.3) and (word) weigh a word,
    /// square brackets make it lighter, a backslash keeps a bracket, and a long prompt is read in chunks
    #[arg(long)]
    plain_prompt: bool,

    /// A word that the model learned afterwards (textual inversion, safetensors); it is called as the file says or is called; may be repeated
    #[arg(long, value_name = "[NAME=]FILE")]
    embedding: Vec<String>,

    /// Where its noise begins: the same seed makes the same picture [default: drawn]
    #[arg(long, short, value_name = "N", allow_negative_numbers = true, value_parser = super::number::whole::<u64>)]
    seed: Option<u64>,

    /// Denoising steps [default: the model's own]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    steps: Option<usize>,

    /// How strictly the prompt is followed; 1 is without guidance [default: the model's own]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance: Option<f32>,

    /// Width and height in pixels, as 512x768 [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = super::number::size)]
    size: Option<(u32, u32)>,

    /// How many pictures; each has the seed after the one before, and its seed in its name
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    count: u32,

    /// Another sampler, such as euler, ddim, dpm++-karras, unipc; for a field also rk4, dopri5 [default: the model's own]
    #[arg(long, value_name = "NAME", help_heading = "Sampler")]
    sampler: Option<String>,

    /// How timesteps are spaced: linspace, leading or trailing
    #[arg(long, value_name = "RULE", help_heading = "Sampler")]
    spacing: Option<String>,

    /// Shift of the noise levels of a flow-matching model
    #[arg(long, value_name = "X", help_heading = "Sampler", allow_negative_numbers = true)]
    shift: Option<f64>,

    /// Timesteps of your own, as 999,749,499,249
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Sampler", allow_hyphen_values = true)]
    timesteps: Option<Vec<f32>>,

    /// Noise levels of your own, as 1,0.75,0.5,0.25 (euler wants the last, 0, as well)
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        help_heading = "Sampler",
        conflicts_with = "timesteps",
        allow_hyphen_values = true
    )]
    sigmas: Option<Vec<f32>>,

    /// Error that a step may have, for a solver that chooses its own steps (dopri5) [default: 0.001]
    #[arg(long, value_name = "X", help_heading = "Sampler", allow_negative_numbers = true)]
    tolerance: Option<f32>,

    /// Share of fresh noise at each step, 0 to 1 (ddim, tcd)
    #[arg(long, value_name = "X", help_heading = "Sampler", allow_negative_numbers = true)]
    eta: Option<f64>,

    /// Whose random numbers a seed stands for: torch's on cpu or on cuda [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = "Sampler")]
    rng: Option<String>,

    /// A picture to begin with; it is brought to the size of the new one. Or a clip (.gif, animated .png or .webp, .y4m, a folder of
    /// numbered .png): each frame is drawn anew from the same noise; by a model that makes clips, all of them together
    #[arg(long, short, value_name = "FILE", help_heading = "Picture to picture")]
    input: Option<PathBuf>,

    /// Where the input picture may change: white may, black stays; opacity is not looked at
    #[arg(long, value_name = "FILE", help_heading = "Picture to picture")]
    mask: Option<PathBuf>,

    /// How much of the input picture is made anew, above 0 to 1 [default: 0.8, with a mask 1; SDXL 0.3 and 0.9999]
    #[arg(long, value_name = "X", help_heading = "Picture to picture", allow_negative_numbers = true)]
    strength: Option<f32>,

    /// A picture that steers a model with a ControlNet, such as edges or a depth map; it is brought to the size of the new one
    #[arg(long, value_name = "FILE", help_heading = "Picture to picture")]
    control: Option<PathBuf>,

    /// How strongly it steers, 0 to 10 [default: 1]
    #[arg(long, value_name = "X", help_heading = "Picture to picture", allow_negative_numbers = true)]
    control_scale: Option<f32>,

    /// How far a style keeps from the mean one: 0 is the mean picture, 1 all that was learned (gan) [default: the model's own]
    #[arg(long, value_name = "X", help_heading = "Families", allow_negative_numbers = true)]
    truncation: Option<f32>,

    /// Take the later layers' style from another seed, as 7 or 7:4, the layer it begins at (gan)
    #[arg(long, value_name = "SEED[:LAYER]", help_heading = "Families", allow_hyphen_values = true)]
    style_mix: Option<StyleMix>,

    /// Deviation of the latent that is drawn: below 1 nearer to the commonest picture (vae, flow) [default: the model's own]
    #[arg(long, value_name = "X", help_heading = "Families", allow_negative_numbers = true)]
    temperature: Option<f32>,

    #[command(flatten)]
    clip: clip::ClipArguments,

    /// Repeat the picture or the clip that this PNG or GIF holds; other options change it
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Write the picture to this file as it develops, after each step and when it is done
    #[arg(long, value_name = "FILE")]
    pub(super) preview: Option<PathBuf>,

    #[command(flatten)]
    safety: SafetyArguments,

    #[command(flatten)]
    device: DeviceArguments,

    /// low: load each component when it is needed and drop it after; normal: keep all; or the most to hold, such as 2GiB or
    /// 900MiB [default: normal]
    #[arg(long, value_name = "low|normal|SIZE", help_heading = "Device", value_parser = MemoryWish::parse)]
    memory: Option<MemoryWish>,

    /// The longest that it may take, loading included, such as 500ms, 2s or 1m30s
    #[arg(long, value_name = "TIME", help_heading = "Device", value_parser = parse_time)]
    within: Option<f64>,

    /// Make a smaller picture where --memory or --within asks for it
    #[arg(long, help_heading = "Device")]
    may_shrink: bool,

    /// Which decoder makes the finished picture: full, tiny (quicker and smaller, where the model has one), or the folder of a tiny one; auto:
    /// tiny where --memory or --within asks for it [default: auto]
    #[arg(long, value_name = "full|tiny|auto|DIR", help_heading = "Device", value_parser = parse_decoder)]
    decoder: Option<DecoderChoice>,

    /// Decode latents in tiles of this side in pixels, a clip that its decoder sees whole in tiles of 16 frames (frames), or of both (256,frames); auto: where --memory asks for it, or where memory runs out and the system does not end the process [default: auto]
    #[arg(long, value_name = "N|frames|N,frames|off|auto", help_heading = "Device", value_parser = parse_tile, allow_negative_numbers = true)]
    tile: Option<TileChoice>,

    /// Take steps, guidance or a sampler that the model was not made for
    #[arg(long)]
    pub(super) force: bool,
}

/// What was asked for, read but for the model.
pub(super) struct Asked {
    /// The picture that is to be made again.
    pub(super) record: Option<Record>,
    /// Where the model lies.
    pub(super) folder: PathBuf,
    pub(super) request: Request,
    /// How the pictures are put together, where a clip is asked for.
    pub(super) clip: Option<clip::Wish>,
    /// How a clip is made, where the model makes clips.
    pub(super) film: Option<Film>,
    /// The frames that are drawn anew, where a clip goes in; the first is the request's input.
    pub(super) frames: Option<Frames>,
    /// The pictures that go in.
    pub(super) inputs: Inputs,
    pub(super) settings: Settings,
}

impl RequestArguments {
    /// Tells where the prompt is a model, which most verbs take in its place.
    pub(super) fn warn_of_a_model_as_prompt(&self) {
        let prompt =
            self.prompt.as_deref().filter(|_| self.model.is_none() && self.from.is_none()).map(str::trim).unwrap_or_default();
        if !prompt.is_empty() && Shelf::usual().find(Some(Path::new(prompt))).is_ok() {
            log::warn!("the prompt `{prompt}` is the name of a model; --model {prompt} means the model");
        }
    }

    /// Reads the record and the pictures that are named, and puts together what is asked for.
    pub(super) fn read(&self) -> Result<Asked> {
        let record = self.from.as_deref().map(Record::open).transpose()?;
        let folder = match record.as_ref().filter(|_| self.model.is_none()) {
            Some(record) => record.model_folder()?,
            None => Shelf::usual().find(self.model.as_deref())?,
        };
        let base = record.as_ref().map(Record::request).transpose()?.unwrap_or_default();
        let inputs = Inputs::of(self.input.as_deref(), self.mask.as_deref(), self.control.as_deref(), record.as_ref())?;
        let recorded = record.as_ref().and_then(Record::clip);
        let count = usize::try_from(self.count)?;
        let makes_clips = Bundle::is_of_clips(&folder);
        let (mut frames, mut taken) = (None, None);
        let input = match inputs.clip()? {
            Some(reader) if makes_clips => {
                let bundle = Bundle::open(&folder)?;
                taken = Some(self.clip.taken(reader, recorded, &bundle, self.size.or(base.size))?);
                None
            }
            Some(reader) => Some(frames.insert(self.clip.frames(reader, count, recorded)?).first().clone()),
            None => inputs.input()?,
        };
        let mut request = self.request(base, input, &inputs)?;
        let (mut clip, mut film) = (None, None);
        // The record of a clip that was drawn frame by frame counts them, and each is a picture of its own.
        request.frames = request.frames.filter(|_| makes_clips);
        match (makes_clips, &frames) {
            (true, _) => {
                let (mut wish, frames) = self.clip.film(recorded)?;
                request.frames = frames.or(request.frames);
                if let Some(taken) = taken {
                    wish.rate = wish.rate.or(taken.rate);
                    request.input_frames = taken.frames;
                }
                film = Some(wish);
            }
            (false, Some(_)) => {}
            // What was drawn from a clip and now begins with a picture becomes a picture.
            (false, None) => clip = self.clip.wish(self.seed, request.count, recorded.filter(|_| request.walk.is_some()))?,
        }
        if let Some(clip) = &clip {
            clip.put_into(&mut request)?;
        } else if request.walk.is_some() && request.count > 1 {
            refuse!("--count: is {}, and the picture of --from stands at one place between two seeds", request.count);
        }
        let of_device = self.device.settings()?;
        let memory = MemoryWish::mode(self.memory).or(record.as_ref().and_then(Record::memory));
        let settings = Settings {
            threads: self.device.threads.map(usize::from).or(record.as_ref().and_then(Record::threads)),
            memory: memory.unwrap_or_default(),
            budget: Budget {
                within_ms: self.within,
                memory_bytes: MemoryWish::budget(self.memory),
                may_shrink: self.may_shrink,
                minds_free_memory: self.memory.is_none() && memory != Some(Memory::Low),
            },
            previews: self.preview.is_some(),
            safety: self.safety.choice(),
            embeddings: self.embedding.clone(),
            tile: self.tile.or(record.as_ref().and_then(Record::tile)).unwrap_or_default(),
            decoder: self.decoder.clone().or(record.as_ref().and_then(Record::decoder)).unwrap_or_default(),
            precisions: match record.as_ref().filter(|_| self.device.precision.is_none()) {
                Some(record) => record.precisions(&folder)?,
                None => of_device.precisions.clone(),
            },
            providers: match record.as_ref().filter(|_| self.device.provider.is_none()) {
                Some(record) => record.providers()?,
                None => of_device.providers.clone(),
            },
            ..of_device
        };
        Ok(Asked { record, folder, request, clip, film, frames, inputs, settings })
    }

    /// Whether there is something to make a picture of, for a model that takes a prompt.
    pub(super) fn says_something(&self) -> bool {
        self.prompt.is_some() || self.from.is_some() || self.input.is_some()
    }

    /// What was asked for; what was not said is `base`'s.
    fn request(&self, base: Request, input: Option<Picture>, inputs: &Inputs) -> Result<Request> {
        let rng = self.rng.as_ref().map(|rng| rng.parse().map_err(|error| refusal!("--rng: {error}"))).transpose()?;
        // Of steps, timesteps and noise levels the one that is said takes the place of the ones that are not.
        let says_levels = self.timesteps.is_some() || self.sigmas.is_some();
        let base_levels = base.sampler.run.timesteps.is_some() || base.sampler.run.sigmas.is_some();
        let base_steps = base.steps.filter(|_| !says_levels && (self.steps.is_none() || !base_levels));
        Ok(Request {
            prompt: self.prompt.clone().unwrap_or(base.prompt),
            // Another prompt than the recorded one is a new one.
            plain_prompt: self.plain_prompt || (base.plain_prompt && self.prompt.is_none()),
            negative: self.negative.clone().or(base.negative),
            seed: self.seed.or(base.seed),
            random_device: rng.unwrap_or(base.random_device),
            steps: self.steps.or(base_steps),
            guidance: self.guidance.or(base.guidance),
            size: self.size.or(base.size),
            count: usize::try_from(self.count)?,
            sampler: self.sampler_choice(base.sampler)?,
            input,
            input_frames: Arc::default(),
            mask: inputs.mask()?,
            strength: self.strength.or(base.strength),
            control: inputs.control()?,
            control_scale: self.control_scale.or(base.control_scale),
            truncation: self.truncation.or(base.truncation),
            style_mix: self.style_mix.or(base.style_mix),
            temperature: self.temperature.or(base.temperature),
            walk: base.walk,
            frames: base.frames,
            frame_rate: base.frame_rate,
            samples: None,
            force: self.force || base.force,
        })
    }

    fn sampler_choice(&self, base: SamplerChoice) -> Result<SamplerChoice> {
        fn word<T: std::str::FromStr<Err = anyhow::Error>>(flag: &str, text: Option<&String>) -> Result<Option<T>> {
            text.map(|text| text.parse().with_context(|| flag.to_owned())).transpose()
        }
        let named = self.sampler.as_deref().map(SamplerChoice::named).transpose().context("--sampler")?;
        let (choice, method) = named.map_or((base.choice, base.method), |named| (named.choice, named.method));
        let keeps_levels = self.steps.is_none() && self.timesteps.is_none() && self.sigmas.is_none();
        Ok(SamplerChoice {
            config: base.config,
            choice,
            method,
            tolerance: self.tolerance.or(base.tolerance),
            run: sampler::Run {
                timesteps: self.timesteps.clone().or(base.run.timesteps.filter(|_| keeps_levels)),
                sigmas: self.sigmas.clone().or(base.run.sigmas.filter(|_| keeps_levels)),
                eta: self.eta.or(base.run.eta),
                spacing: word("--spacing", self.spacing.as_ref())?.or(base.run.spacing),
                shift: self.shift.or(base.run.shift),
                ..base.run
            },
        })
    }
}

/// What `--memory` takes: a way to keep components, or a budget.
#[derive(Debug, Clone, Copy)]
pub(super) enum MemoryWish {
    Mode(Memory),
    Budget(u64),
}

impl MemoryWish {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(mode) => Ok(Self::Mode(mode)),
            Err(_) => parse_bytes(text).map(Self::Budget).map_err(|error| format!("{error}, or low or normal")),
        }
    }

    pub(super) fn mode(wish: Option<Self>) -> Option<Memory> {
        match wish? {
            Self::Mode(memory) => Some(memory),
            Self::Budget(_) => None,
        }
    }

    pub(super) fn budget(wish: Option<Self>) -> Option<u64> {
        match wish? {
            Self::Mode(_) => None,
            Self::Budget(bytes) => Some(bytes),
        }
    }
}

pub(super) fn parse_memory(text: &str) -> Result<Memory, String> {
    text.parse()
}

pub(super) fn parse_decoder(text: &str) -> Result<DecoderChoice, String> {
    text.parse()
}

pub(super) fn parse_tile(text: &str) -> Result<TileChoice, String> {
    text.parse()
}
