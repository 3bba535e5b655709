//! Turns a request and the device's limits into decisions, each with its reason.
//!
//! In: a bundle, a resolved request, settings. Out: a [`Plan`] that the pipeline carries out and the provenance records.

mod assignment;
mod budget;
mod candidate;
mod decoder;
mod fit;
mod forecast;
mod measurement_key;
mod measurements;
mod memory;
mod tiling;
mod time;
mod wish;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;

pub use assignment::{Assignment, Assignments};
pub use budget::{Budget, memory_text, parse_bytes, parse_time, time_text};
pub use decoder::DecoderChoice;
pub use forecast::{ComponentForecast, Forecast};
pub use measurement_key::MeasurementKey;
pub use measurements::{Around, MEASUREMENTS_SCHEMA, Measurement, Measurements, Wanted};
pub use tiling::{ClipTile, Tile, TileChoice};
pub use wish::{PrecisionWish, ProviderWish, Wish};

use crate::bundle::{Architecture, Bundle, Role};
use crate::request::Resolved;
use crate::runtime::{Dimensions, NetworkOptions, Provider, logical_cores};
use crate::{refusal, refuse};

/// How much memory may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Each component is loaded when it is needed and dropped after; freed memory goes back to the system.
    Low,
    /// Everything stays resident.
    #[default]
    Normal,
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
        })
    }
}

impl FromStr for Memory {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "low" => Ok(Self::Low),
            "normal" => Ok(Self::Normal),
            other => Err(format!("is `{other}`, expected low or normal")),
        }
    }
}

/// What a person sets once for all requests.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Threads within one operator; all cores when not given.
    pub threads: Option<usize>,
    /// How much memory may be held.
    pub memory: Memory,
    /// Whether latents are decoded in tiles.
    pub tile: TileChoice,
    /// Which decoder makes the finished picture.
    pub decoder: DecoderChoice,
    /// What a picture may take.
    pub budget: Budget,
    /// Whether somebody will want to see pictures as they develop, so that what shows them is counted.
    pub previews: bool,
    /// Where components run.
    pub providers: ProviderWish,
    /// Let the processor run what a provider that was asked for does not take.
    pub allow_fallback: bool,
    /// Which files of components run.
    pub precisions: PrecisionWish,
    /// A plugin that brings a provider.
    pub provider_library: Option<PathBuf>,
    /// Files of new words for prompts (textual inversion), each as `FILE` or `NAME=FILE`.
    pub embeddings: Vec<String>,
    /// The cache in which networks that were prepared are looked for; without it none is.
    pub prepared: Option<PathBuf>,
    /// Which safety checker pictures have to pass.
    pub safety: SafetyChoice,
}

/// Which safety checker pictures have to pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SafetyChoice {
    /// The bundle's, where it came with one.
    #[default]
    Own,
    /// None.
    Off,
    /// That of another folder, whatever the bundle.
    Folder(PathBuf),
}

/// Threads beyond the cores wait for each other in loops; this many still make a picture.
const MOST_THREADS_A_CORE: usize = 4;

impl Settings {
    /// Makes sure that they make sense on this device.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): more threads are asked for than make sense, or none.
    pub fn check(&self) -> Result<()> {
        let (asked_for, cores) = (self.threads.unwrap_or(1), logical_cores());
        if asked_for == 0 || asked_for > cores * MOST_THREADS_A_CORE {
            refuse!(
                "threads: is {asked_for}, expected 1 to {}: this device runs {cores} at once, and more wait for each other",
                cores * MOST_THREADS_A_CORE
            );
        }
        Ok(())
    }
}

/// How the pass without the prompt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuidancePasses {
    /// There is none.
    One,
    /// Both passes in one call of twice the batch.
    BatchOfTwo,
    /// One call after the other.
    TwoRuns,
}

impl fmt::Display for GuidancePasses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::One => "one pass",
            Self::BatchOfTwo => "one batch of two",
            Self::TwoRuns => "two runs",
        })
    }
}

/// One decision of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub what: &'static str,
    /// How.
    pub choice: String,
    /// Why.
    pub because: String,
}

/// What will be done, and why so.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Threads within one operator.
    pub threads: usize,
    /// How much memory may be held.
    pub memory: Memory,
    /// Where each component runs, from which file.
    pub assignments: Assignments,
    /// How the pass without the prompt is made.
    pub guidance_passes: GuidancePasses,
    /// Pictures that go through the networks together.
    pub batch: usize,
    /// Whether what shows pictures as they develop is counted.
    pub previews: bool,
    /// The decoder that makes the finished picture.
    pub decoder: Role,
    /// The tiles in which latents are decoded; `None` for the whole picture at once.
    pub tile: Option<Tile>,
    /// The tiles of time in which a clip is decoded; `None` for the whole clip at once, or frame by frame.
    pub clip_tile: Option<ClipTile>,
    /// Whether components are opened by other threads while the first runs.
    pub opens_ahead: bool,
    /// What it will take; nothing is known before [`Plan::within`].
    pub forecast: Forecast,
    /// Every decision with its reason.
    pub decisions: Vec<Decision>,
}

impl Plan {
    /// Decides how `request` is carried out.
    ///
    /// # Errors
    /// As [`Tile::of_pixels`], where tiles are asked for.
    pub fn new(bundle: &Bundle, request: &Resolved, settings: &Settings, assignments: &Assignments) -> Result<Self> {
        let mut decisions = assignments.decisions.clone();
        let mut decide = |what, choice: String, because: &str| {
            decisions.push(Decision { what, choice, because: because.to_owned() });
        };
        decide("size", format!("{}x{}", request.width, request.height), "asked for, or the model's own");
        if let Some(frames) = &request.frames {
            decide("frames", frames.count.to_string(), "asked for, or the model's own");
            if let Some(window) = frames.window {
                let because = "more frames than the model takes at once: the windows overlap and share their noise";
                let length = bundle.clip.as_ref().map_or(window.length, |shape| shape.frames_of(window.length));
                decide("windows", format!("{} of {length} frames", frames.windows().len()), because);
            }
        }
        if request.sampler.is_some() || request.solver.is_some() {
            decide("steps", request.steps.to_string(), "asked for, or the model's own");
        }
        let provider = assignments.main_provider();
        let threads = settings.threads.unwrap_or_else(logical_cores).max(1);
        decide("threads", threads.to_string(), if settings.threads.is_some() { "asked for" } else { "all cores of the device" });
        let memory = settings.memory;
        decide(
            "components",
            if memory == Memory::Low { "dropped after use" } else { "stay resident" }.into(),
            if memory == Memory::Low { "low memory was asked for" } else { "the next picture then begins at once" },
        );

        let fixed = bundle.geometry.fixed_batch;
        let guided = request.guidance > 1.0 && !bundle.takes_guidance_embedding();
        let (guidance_passes, because) = if !guided {
            (GuidancePasses::One, "guidance is 1 or an embedding of the denoiser")
        } else if fixed.is_some_and(|fixed| fixed < 2) {
            (GuidancePasses::TwoRuns, "the export takes one picture at a time")
        } else if memory == Memory::Low {
            (GuidancePasses::TwoRuns, "half the memory in the denoiser")
        } else if provider.facts().takes_fixed_shapes {
            (GuidancePasses::TwoRuns, "the provider takes fixed shapes, and one serves with guidance and without")
        } else {
            (GuidancePasses::BatchOfTwo, "one call costs less than two")
        };
        decide("guidance", guidance_passes.to_string(), because);

        let per_picture = if guidance_passes == GuidancePasses::BatchOfTwo { 2 } else { 1 };
        let (batch, because) = if let Some(fixed) = fixed {
            ((fixed / per_picture).clamp(1, request.count), "the export's batch is fixed")
        } else if provider.gains_from_batches() && memory == Memory::Normal {
            (request.count.min(4), "the provider gains from batches")
        } else {
            (1, "one after the other takes less memory and no more time, and each picture is the same alone as among others")
        };
        decide("batch", batch.to_string(), because);
        let (decoder, because) = settings.decoder.role(bundle)?;
        if bundle.components.contains_key(&Role::TinyDecoder) {
            decide("decoder", decoder.to_string(), because);
        }
        let tile = settings.tile.pixels().map(|pixels| Tile::of_pixels(bundle, pixels)).transpose()?;
        let clip_tile = settings.tile.cuts_time().then(|| clip_tile_of(bundle)).transpose()?;
        let latents = request.frames.map_or(1, |frames| frames.latents);
        let clip_tile = clip_tile.filter(|tile| tile.cuts(latents));
        let decodes_whole = bundle.architecture().is_some_and(Architecture::decodes_whole_clips);
        // A picture within one tile is decoded whole, and a recorded plan says what was done.
        let tile = tile.filter(|tile| request.width.max(request.height) as usize > tile.pixels());
        if bundle.components.contains_key(&Role::VaeDecoder) {
            let because = match (settings.tile, tile) {
                (TileChoice::Frames, _) if clip_tile.is_none() => "the clip is within one tile",
                (TileChoice::Auto | TileChoice::Off, None) if bundle.components.contains_key(&Role::VaeDecoderFirst) => {
                    "the decoder remembers what it needs of earlier frames"
                }
                (TileChoice::Auto, _) if settings.budget.memory_bytes.is_none() => "no memory budget was given",
                (TileChoice::Auto, _) => "the memory does not ask for tiles",
                (TileChoice::Off | TileChoice::Frames, _) | (_, Some(_)) => "asked for",
                (TileChoice::PixelsAndFrames(_), None) if clip_tile.is_some() => "the sides are within one tile",
                (TileChoice::PixelsAndFrames(_), None) => "the clip is within one tile",
                (TileChoice::Pixels(_), None) => "the picture is within one tile",
            };
            let whole = match (bundle.components.contains_key(&Role::VaeDecoderFirst), &request.frames) {
                (true, _) => "one frame of latents after the other",
                (false, Some(_)) if decodes_whole => "the whole clip at once",
                (false, Some(_)) => "frame by frame",
                (false, None) => "the whole picture at once",
            };
            let tiles = [clip_tile.map(|tile| tile.to_string()), tile.map(|tile| tile.to_string())];
            let tiles: Vec<String> = tiles.into_iter().flatten().collect();
            decide("decoding", if tiles.is_empty() { whole.to_owned() } else { tiles.join("; each in ") }, because);
        }
        Ok(Self {
            threads,
            memory,
            assignments: assignments.clone(),
            guidance_passes,
            batch,
            previews: settings.previews,
            decoder,
            tile,
            clip_tile,
            opens_ahead: false,
            forecast: Forecast::default(),
            decisions,
        })
    }

    /// How the network of `role` is opened under this plan, where no size is fixed for its open dimensions.
    #[must_use]
    pub fn network_options(&self, role: Role) -> NetworkOptions {
        let assignment = self.assignments.of(role);
        NetworkOptions {
            threads: self.threads,
            memory_arena: self.memory == Memory::Normal,
            providers: assignment.map(|assignment| assignment.providers.clone()).unwrap_or_default(),
            fallback: assignment.map(|assignment| assignment.fallback).unwrap_or_default(),
            dimensions: Dimensions::default(),
            prepared: assignment.and_then(|assignment| assignment.prepared_for(&Dimensions::default())),
            token_vectors: false,
        }
    }

    /// What of `request` has no effect, and where a time within `budget` is an estimate.
    #[must_use]
    pub fn warnings(&self, request: &Resolved, budget: &Budget) -> Vec<String> {
        let mut warnings = request.warnings.clone();
        let Some(within) = budget.within_ms.filter(|_| !self.forecast.is_measured) else { return warnings };
        warnings.push(match self.forecast.time_ms.filter(|time| *time > within) {
            Some(time) => format!(
                "--within (a job's `within_s`): {} may not be enough: the quickest way that is allowed takes {}, which is an estimate, so it is made all the same; \
                 `kiln tune MODEL` measures",
                time_text(within),
                time_text(time)
            ),
            None => {
                "--within (a job's `within_s`): the time is an estimate, and nothing stops a run that takes longer; `kiln tune MODEL` measures".to_owned()
            }
        });
        warnings
    }

    /// Tells the [`Plan::warnings`] before `request` is carried out.
    pub fn warn(&self, request: &Resolved, budget: &Budget) {
        self.warnings(request, budget).iter().for_each(|warning| log::warn!("{warning}"));
    }

    /// The components that other threads open while the first runs, in the order of use.
    #[must_use]
    pub fn opened_ahead(&self) -> Vec<Role> {
        let roles = self.forecast.components.iter().skip(1).map(|component| component.role);
        if self.opens_ahead { roles.collect() } else { Vec::new() }
    }

    /// Whether other threads may open components while the first runs: where all stay open, and the processor, of which there are cores to
    /// spare, is what they are opened on.
    fn may_open_ahead(&self) -> bool {
        let on_processor = self.assignments.iter().all(|(role, _)| self.assignments.provider_of(role) == Provider::Cpu);
        self.memory == Memory::Normal && self.threads > 1 && on_processor
    }

    /// Whether components stay open between requests.
    #[must_use]
    pub fn keeps_components(&self) -> bool {
        self.memory == Memory::Normal
    }
}

/// The tiles of time for `bundle`, which were asked for.
fn clip_tile_of(bundle: &Bundle) -> Result<ClipTile> {
    ClipTile::of(bundle).ok_or_else(|| {
        let name = bundle.name();
        refusal!("tile: says `frames`, and the decoder of model {name} takes no clip of another length whole; leave it out")
    })
}
