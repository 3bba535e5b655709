//! Clips: how many frames a model makes, as its export, its configuration and its card agree on it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::card::Card;
use super::component::{Component, Role};
use super::family::Architecture;
use super::names;

/// Frames that motion modules are trained on where nothing says it, and how far apart windows of that length begin.
const USUAL_FRAMES: usize = 16;
/// Windows begin a quarter of their length apart, as in diffusers' FreeNoise.
const WINDOWS_IN_LENGTH: usize = 4;
/// Frames of one call; more would fill the memory before a network is asked.
const MOST_FRAMES_IN_CALL: u64 = 1024;
/// Shown in a second where the card does not say: what the motion modules were trained on.
const ANIMATEDIFF_FRAMES_PER_SECOND: u32 = 8;

/// Frames that a network sees at once, and how far apart two such windows begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Frames in it.
    pub length: usize,
    /// From the first frame of one to the first of the next.
    pub stride: usize,
}

/// The frames of a model's clips.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The window for clips of more frames than fit into one call; `None` where no number is too many, or where the export has
    /// windows inside it.
    pub window: Option<Window>,
    /// The most frames that are made without windows.
    pub whole: usize,
    /// The windows that the export has inside its motion modules.
    pub inner_window: Option<Window>,
}

impl ClipShape {
    /// Reads what the components and the card say; `None` for an architecture of pictures.
    pub(super) fn read(
        architecture: Architecture,
        components: &BTreeMap<Role, Component>,
        card: Option<&Card>,
    ) -> Result<Option<Self>> {
        if !architecture.makes_clips() {
            return Ok(None);
        }
        let denoiser = components.get(&architecture.denoiser()).context("there is no denoiser")?;
        let port = denoiser.input(names::SAMPLE).context("the denoiser has no input for latents")?;
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
        }))
    }

    /// Frames of latents that a call of the denoiser has when nobody says how long the clip is.
    #[must_use]
    pub fn usual_latents(&self) -> usize {
        let latents = (self.default_frames - 1) / self.frames_per_latent.max(1) + 1;
        self.fixed.unwrap_or(latents.min(self.whole))
    }

    /// The counts of frames that the model can make next to `frames`: the one below and the one above, where there are such.
    #[must_use]
    pub fn near(&self, frames: usize) -> (usize, usize) {
        let unit = self.frames_per_latent;
        let below = frames.saturating_sub(1) / unit * unit + 1;
        (below, below + unit)
    }
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
