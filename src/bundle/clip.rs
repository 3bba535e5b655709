//! Clips: how many frames a model makes, as its export, its configuration and its card agree on it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::card::{Card, ClipHabits};
use super::component::{Component, Role};
use super::family::Architecture;
use super::first_frame::FirstFrame;
use super::names;
use crate::runtime::Port;

/// Frames that motion modules are trained on where nothing says it, and how far apart windows of that length begin.
const USUAL_FRAMES: usize = 16;
/// Windows begin a quarter of their length apart, as in diffusers' FreeNoise.
const WINDOWS_IN_LENGTH: usize = 4;
/// Frames of one call; more would fill the memory before a network is asked.
const MOST_FRAMES_IN_CALL: u64 = 1024;
/// Shown in a second where the card does not say: what the motion modules were trained on.
const ANIMATEDIFF_FRAMES_PER_SECOND: u32 = 8;

/// Of Wan, where its configuration and card do not say.
const WAN_FRAMES_PER_LATENT: usize = 4;
const WAN_FRAMES: usize = 81;
const WAN_FRAMES_PER_SECOND: u32 = 16;

/// Of LTX-Video, where its configuration and card do not say.
const LTX_FRAMES_PER_LATENT: usize = 8;
const LTX_FRAMES: usize = 161;
const LTX_FRAMES_PER_SECOND: u32 = 25;

/// What a decoder that was distilled to end the way of the latents itself is told and given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DecodeTime {
    /// Where it is told that the latents stand, 0 (clean) to 1.
    pub timestep: f32,
    /// The share of noise that is mixed into them, 0 to 1.
    pub noise_scale: f32,
}

/// Frames that a network sees at once, and how far apart two such windows begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Frames in it.
    pub length: usize,
    /// From the first frame of one to the first of the next.
    pub stride: usize,
}

/// The frames of a model's clips.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipShape {
    /// Frames that a frame of latents stands for, but for the first, which stands for one.
    pub frames_per_latent: usize,
    /// The counts that it was trained for, ascending; empty where the card does not say.
    pub trained: Vec<usize>,
    /// Made when nobody says.
    pub default_frames: usize,
    /// Shown in a second when nobody says.
    pub frames_per_second: u32,
    /// Frames of latents when the export takes no other count.
    pub fixed: Option<usize>,
    /// The window for clips of more frames than fit into one call, in frames of latents; `None` where no number is too many, or where the
    /// export has windows inside it.
    pub window: Option<Window>,
    /// The most frames of latents that are made without windows.
    pub whole: usize,
    /// The windows that the export has inside its motion modules.
    pub inner_window: Option<Window>,
    /// How the denoiser sees the picture that a clip begins with; `None` where it sees the latents alone.
    pub first_frame: Option<FirstFrame>,
    /// What its decoder is told, where it takes a timestep.
    pub decode_time: Option<DecodeTime>,
}

impl ClipShape {
    /// Reads what the components and the card say; `None` for an architecture of pictures.
    pub(super) fn read(
        architecture: Architecture,
        class_name: &str,
        components: &BTreeMap<Role, Component>,
        card: Option<&Card>,
    ) -> Result<Option<Self>> {
        if !architecture.makes_clips() {
            return Ok(None);
        }
        let denoiser = components.get(&architecture.denoiser()).context("there is no denoiser")?;
        let port = denoiser.input(names::SAMPLE).or_else(|| denoiser.input(names::HIDDEN_STATES));
        let port = port.context("the denoiser has no input for latents")?;
        let fixed = port.shape.get(2).copied().flatten();
        ensure!(
            fixed.is_none_or(|fixed| fixed as u64 <= MOST_FRAMES_IN_CALL),
            "{}/model.onnx: input `{}` is {}, expected at most {MOST_FRAMES_IN_CALL} frames",
            denoiser.role,
            port.name,
            port.shape_text()
        );
        let habits = card.map(|card| &card.clip);
        let mut trained = habits.map(|habits| habits.frames.clone()).unwrap_or_default();
        trained.sort_unstable();
        trained.dedup();
        if architecture == Architecture::Wan {
            let first = components.get(&Role::VaeDecoderFirst).context("there is no vae_decoder_first/model.onnx")?;
            let decoder = components.get(&Role::VaeDecoder).context("there is no vae_decoder/model.onnx")?;
            check_memory(first, decoder)?;
        }
        if architecture.decodes_clips() {
            let first_frame = match architecture {
                Architecture::Wan => FirstFrame::read(class_name, components)?,
                _ => None,
            };
            return Self::of_latents(architecture, components, fixed, trained, habits, first_frame).map(Some);
        }
        let places = denoiser.integer("motion_max_seq_length", 1..=MOST_FRAMES_IN_CALL)?;
        let inner_window = inner_window(denoiser, fixed, places)?;
        let most = trained.last().copied();
        if let (Some(most), Some(places), None) = (most, places, inner_window) {
            ensure!(
                most <= places,
                "`clip.frames` holds {most}, and {}/config.json says `motion_max_seq_length` {places}",
                denoiser.role
            );
        }
        if let (Some(fixed), Some(other)) = (fixed, trained.iter().find(|count| Some(**count) != fixed)) {
            ensure!(false, "`clip.frames` holds {other}, and the export takes {fixed} frames only");
        }
        let length = fixed.or(most).unwrap_or(USUAL_FRAMES.min(places.unwrap_or(USUAL_FRAMES)));
        let whole = fixed.or(most).or(places).unwrap_or(USUAL_FRAMES);
        let default_frames = habits.and_then(|habits| habits.default_frames).unwrap_or(length);
        ensure!(
            inner_window.is_none() || Some(default_frames) == fixed,
            "`clip.default_frames` is {default_frames}, and the export takes {whole} frames only"
        );
        let window = Window { length, stride: (length / WINDOWS_IN_LENGTH).max(1) };
        Ok(Some(Self {
            frames_per_latent: 1,
            trained,
            default_frames,
            frames_per_second: habits.and_then(|habits| habits.fps).unwrap_or(ANIMATEDIFF_FRAMES_PER_SECOND),
            fixed,
            // One frame has no neighbour to agree with.
            window: (inner_window.is_none() && length > 1).then_some(window),
            whole,
            inner_window,
            first_frame: None,
            decode_time: None,
        }))
    }

    /// Of a model whose latents have fewer frames than its clip: one frame, then as many as a frame of latents stands for.
    fn of_latents(
        architecture: Architecture,
        components: &BTreeMap<Role, Component>,
        fixed: Option<usize>,
        trained: Vec<usize>,
        habits: Option<&ClipHabits>,
        first_frame: Option<FirstFrame>,
    ) -> Result<Self> {
        let decoder = components.get(&Role::VaeDecoder).context("there is no vae_decoder/model.onnx")?;
        let (key, usual, usual_frames, usual_rate) = match architecture {
            Architecture::Ltx => ("temporal_compression_ratio", LTX_FRAMES_PER_LATENT, LTX_FRAMES, LTX_FRAMES_PER_SECOND),
            _ => ("scale_factor_temporal", WAN_FRAMES_PER_LATENT, WAN_FRAMES, WAN_FRAMES_PER_SECOND),
        };
        let frames_per_latent = decoder.integer(key, 1..=64)?.unwrap_or(usual);
        let frames = fixed.map(|latents| (latents - 1) * frames_per_latent + 1);
        let said = habits.and_then(|habits| habits.default_frames);
        let default_frames = said.or(frames).or(trained.last().copied()).unwrap_or(usual_frames);
        for (key, count) in trained.iter().map(|count| ("frames", count)).chain([("default_frames", &default_frames)]) {
            ensure!(
                (count - 1).is_multiple_of(frames_per_latent) && frames.is_none_or(|frames| frames == *count),
                "`clip.{key}` holds {count}, expected {}",
                match frames {
                    Some(frames) => format!("{frames}, the only number that the export takes"),
                    None => format!("a multiple of {frames_per_latent} and one more"),
                }
            );
        }
        // A window further on has no first frame to go on from.
        let length = fixed.unwrap_or((trained.last().copied().unwrap_or(usual_frames) - 1) / frames_per_latent + 1);
        let window = Window { length, stride: (length / WINDOWS_IN_LENGTH).max(1) };
        // LTX-Video's are made whole.
        let in_windows = architecture == Architecture::Wan && first_frame.is_none();
        let window = (in_windows && length > 1).then_some(window);
        Ok(Self {
            frames_per_latent,
            trained,
            default_frames,
            frames_per_second: habits.and_then(|habits| habits.fps).unwrap_or(usual_rate),
            fixed,
            window,
            whole: window.map_or(usize::MAX, |window| window.length),
            inner_window: None,
            first_frame,
            decode_time: decode_time(decoder)?,
        })
    }

    /// Frames of latents that a call of the denoiser has when nobody says how long the clip is.
    #[must_use]
    pub fn usual_latents(&self) -> usize {
        let latents = (self.default_frames - 1) / self.frames_per_latent.max(1) + 1;
        self.fixed.unwrap_or(latents.min(self.whole))
    }

    /// The frames that `latents` frames of latents stand for.
    #[must_use]
    pub fn frames_of(&self, latents: usize) -> usize {
        latents.saturating_sub(1).saturating_mul(self.frames_per_latent).saturating_add(1)
    }

    /// The counts of frames that the model can make next to `frames`: the one below and the one above, where there are such.
    #[must_use]
    pub fn near(&self, frames: usize) -> (usize, usize) {
        let unit = self.frames_per_latent;
        let below = frames.saturating_sub(1) / unit * unit + 1;
        (below, below.saturating_add(unit))
    }
}

/// Frames that a frame of latents of a causal `decoder` stands for.
pub(super) fn frames_per_latent(decoder: &Component) -> Result<usize> {
    Ok(decoder.integer("scale_factor_temporal", 1..=64)?.unwrap_or(WAN_FRAMES_PER_LATENT))
}

/// What a decoder that takes a timestep is told, as its configuration says, else what diffusers' pipelines say where nobody does.
fn decode_time(decoder: &Component) -> Result<Option<DecodeTime>> {
    if decoder.input(names::TIMESTEP).is_none() {
        return Ok(None);
    }
    let share = |key: &str| -> Result<Option<f32>> {
        let found = decoder.number(key)?;
        if let Some(value) = found {
            ensure!((0.0..=1.0).contains(&value), "{}/config.json: `{key}` is {value}, expected 0 to 1", decoder.role);
        }
        Ok(found)
    };
    let timestep = share("decode_timestep")?.unwrap_or(0.0);
    Ok(Some(DecodeTime { timestep, noise_scale: share("decode_noise_scale")?.unwrap_or(timestep) }))
}

/// The network of what comes further in a clip takes and gives what the network of its first frame gives.
pub(super) fn check_memory(first: &Component, further: &Component) -> Result<()> {
    let of = |ports: &[Port], prefix: &str| -> BTreeMap<String, Vec<Option<usize>>> {
        let numbered = |port: &Port| Some((port.name.strip_prefix(prefix)?.to_owned(), port.shape.clone()));
        ports.iter().filter_map(numbered).collect()
    };
    let past = of(&further.header.inputs, names::PAST);
    ensure!(!past.is_empty(), "{}/model.onnx: remembers nothing, expected inputs `{}0` and on", further.role, names::PAST);
    for (role, given) in
        [(first.role, of(&first.header.outputs, names::PRESENT)), (further.role, of(&further.header.outputs, names::PRESENT))]
    {
        let agrees = |(number, shape): (&String, &Vec<Option<usize>>)| {
            given.get(number).is_some_and(|found| {
                found.len() == shape.len()
                    && found.iter().zip(shape).all(|(left, right)| left.is_none() || right.is_none() || left == right)
            })
        };
        ensure!(
            given.len() == past.len() && past.iter().all(agrees),
            "{role}/model.onnx: gives {} outputs `{}…`, and {}/model.onnx takes {} inputs `{}…` of other shapes or numbers: they are of two exports",
            given.len(),
            names::PRESENT,
            further.role,
            past.len(),
            names::PAST
        );
    }
    Ok(())
}

/// The windows that the recipe says it left inside the motion modules.
fn inner_window(denoiser: &Component, fixed: Option<usize>, places: Option<usize>) -> Result<Option<Window>> {
    let number = |key: &str| denoiser.integer(key, 1..=MOST_FRAMES_IN_CALL);
    let Some(length) = number("free_noise_context_length")? else { return Ok(None) };
    let stride = number("free_noise_context_stride")?.unwrap_or((length / WINDOWS_IN_LENGTH).max(1));
    let role = denoiser.role;
    let fixed = fixed.with_context(|| {
        format!("{role}/config.json: says `free_noise_context_length`, and the export leaves the frames open")
    })?;
    ensure!(
        stride <= length && length <= fixed && places.is_none_or(|places| length <= places),
        "{role}/config.json: windows of {length} frames every {stride} do not fit {fixed} frames{}",
        places.map_or_else(String::new, |places| format!(" and `motion_max_seq_length` {places}"))
    );
    Ok(Some(Window { length, stride }))
}
