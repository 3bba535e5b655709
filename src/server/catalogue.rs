//! The models that are served, and the plans that are made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::{Code, Problem};
use crate::bundle::{Architecture, Bundle, Role, ShelvedBundle};
use crate::plan::{Assignments, Budget, Measurements, Plan, Settings};
use crate::refuse;
use crate::request::{Request, Resolved};
use crate::runtime::Runtime;

/// Finds what was measured of a bundle on this device.
pub type FindMeasurements = Arc<dyn Fn(&Bundle, &Runtime) -> Option<Measurements> + Send + Sync>;

/// One model.
pub struct Model {
    /// What requests call it.
    pub name: String,
    /// Where it lies.
    pub folder: PathBuf,
    bundle: Bundle,
    settings: Settings,
    assignments: Assignments,
    measurements: Option<Measurements>,
}

/// Every model that is served; requests name them, and never folders.
pub struct Catalogue {
    models: Vec<Model>,
}

impl Catalogue {
    /// Reads and checks the bundles; the first is the one that requests mean which name none.
    ///
    /// * `settings`: of the device that plans are made for
    ///
    /// # Errors
    /// There is none, two have one name, or one is refused or does not fit the device.
    pub fn open(shelved: &[ShelvedBundle], settings: &Settings, runtime: Option<&Path>, find: &FindMeasurements) -> Result<Self> {
        let runtime = Runtime::open(runtime)?;
        let mut models: Vec<Model> = Vec::new();
        for ShelvedBundle { name, folder } in shelved {
            if models.iter().any(|model| model.name == *name) {
                refuse!("model {name}: is named twice, and requests could not tell the two apart");
            }
            let bundle = Bundle::open(folder)?;
            let assignments = Assignments::new(&bundle, settings, &runtime).with_context(|| format!("model {name}"))?;
            let measurements = find(&bundle, &runtime);
            let (name, folder, settings) = (name.clone(), folder.clone(), settings.clone());
            models.push(Model { name, folder, bundle, settings, assignments, measurements });
        }
        if models.is_empty() {
            refuse!("no model is there to serve; name one with --model, or in KILN_MODELS the folder in which your models lie");
        }
        Ok(Self { models })
    }

    /// The models, the default first.
    #[must_use]
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model called `name`; without a name the default.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn find(&self, name: Option<&str>) -> Result<&Model, Problem> {
        let found = match name {
            Some(name) => self.models.iter().find(|model| model.name == name),
            None => self.models.first(),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
            Problem::new(Code::NotFound, format!("model: there is none of that name; known are {}", names.join(", ")))
        })
    }
}

impl Model {
    /// Decides how `request` would be carried out within `budget`.
    ///
    /// * `open`: the components that are open already
    ///
    /// # Errors
    /// As [`Plan::within`]; several clips at once (a refusal).
    pub fn plan(&self, request: &Request, budget: Budget, open: &[Role]) -> Result<(Resolved, Plan)> {
        if self.bundle.makes_clips() && request.count > 1 {
            refuse!("count: is {}, and model {} makes one clip at a time; ask for each by itself", request.count, self.name);
        }
        let settings = Settings { budget, ..self.settings.clone() };
        Plan::within(&self.bundle, request, &settings, &self.assignments, self.measurements.as_ref(), open)
    }

    /// Whether what it makes are clips.
    #[must_use]
    pub fn makes_clips(&self) -> bool {
        self.bundle.makes_clips()
    }

    /// Whether its pictures have opacity.
    #[must_use]
    pub fn has_opacity(&self) -> bool {
        self.bundle.geometry.picture_channels == 4
    }

    /// The measurements that its plans are made with.
    #[must_use]
    pub fn measurements(&self) -> Option<&Measurements> {
        self.measurements.as_ref()
    }

    /// What a client may know of it.
    #[must_use]
    pub fn describe(&self, is_default: bool) -> BundleDescription {
        let bundle = &self.bundle;
        let card = bundle.card.as_ref();
        let habits = &bundle.habits;
        let (width, height) = bundle.default_size();
        let has_encoder = bundle.takes_text() && bundle.components.contains_key(&Role::VaeEncoder);
        let (begins, paints) = bundle.architecture().map_or((false, false), Architecture::takes_pictures);
        let goes_on = bundle.goes_on_from_picture();
        let sees_none = bundle.architecture() == Some(Architecture::Wan) && !goes_on;
        BundleDescription {
            name: self.name.clone(),
            default: is_default,
            version: card.and_then(|card| card.version.clone()),
            description: card.and_then(|card| card.description.clone()),
            licence: card.and_then(|card| card.licence.clone()),
            attribution: card.map(|card| card.attribution.clone()).unwrap_or_default(),
            family: bundle.family.name().to_owned(),
            takes_prompt: bundle.takes_text(),
            takes_picture: has_encoder && begins && !sees_none && !bundle.takes_mask(),
            takes_mask: has_encoder && paints && !bundle.makes_clips(),
            needs_picture: goes_on || bundle.takes_mask(),
            clip: bundle
                .clip
                .as_ref()
                .map(|shape| ClipHabits { frames: shape.default_frames, frames_per_second: shape.frames_per_second }),
            classes: bundle.classes.clone(),
            sampler: bundle.scheduler.as_ref().map(|config| config.kind().name().to_owned()),
            steps: StepHabits {
                trained: habits.trained_steps.clone(),
                default: habits.default_steps,
                largest: habits.largest_steps,
            },
            guidance: GuidanceHabits { default: habits.guidance, without: habits.without_guidance },
            size: SizeHabits {
                width,
                height,
                fixed: bundle.geometry.fixed_size.is_some(),
                multiple_of: bundle.geometry.side_unit,
            },
            size_bytes: bundle.size_bytes(),
            sha256: bundle.fingerprint.clone(),
        }
    }
}

/// What a client may know of a model.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BundleDescription {
    /// What requests call it.
    pub name: String,
    /// Whether it is meant by requests that name none.
    pub default: bool,
    /// Its version, as its card says.
    pub version: Option<String>,
    /// What it is, as its card says.
    pub description: Option<String>,
    /// Its licence, as its card says.
    pub licence: Option<String>,
    /// Whom to name beside its pictures.
    pub attribution: Vec<String>,
    /// Its algorithm.
    pub family: String,
    /// Whether its pictures follow a text.
    pub takes_prompt: bool,
    /// Whether it begins with a picture.
    pub takes_picture: bool,
    /// Whether it makes a part of a picture anew.
    pub takes_mask: bool,
    /// Whether it does nothing without a picture.
    pub needs_picture: bool,
    /// What its clips are; nothing of a model of pictures. A clip is an animated PNG file.
    pub clip: Option<ClipHabits>,
    /// The classes that it knows; a prompt names one.
    pub classes: Vec<String>,
    /// Its own sampler.
    pub sampler: Option<String>,
    /// The steps that it takes.
    pub steps: StepHabits,
    /// Its guidance.
    pub guidance: GuidanceHabits,
    /// The sizes of its pictures.
    pub size: SizeHabits,
    /// The size of its files in bytes.
    pub size_bytes: u64,
    /// What it is recognised by.
    pub sha256: String,
}

/// The clips of a model.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ClipHabits {
    /// How many frames a clip has, where nobody says it.
    pub frames: usize,
    /// How many are shown in a second, where nobody says it.
    pub frames_per_second: u32,
}

/// The steps that a model takes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StepHabits {
    /// Those that it was distilled for; empty where any will do.
    pub trained: Vec<usize>,
    /// Taken when nobody says.
    pub default: usize,
    /// The most.
    pub largest: usize,
}

/// The guidance of a model.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GuidanceHabits {
    /// Taken when nobody says.
    pub default: f32,
    /// Whether it was distilled without any.
    pub without: bool,
}

/// The sizes of a model's pictures, in pixels.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SizeHabits {
    /// Width when nobody says.
    pub width: u32,
    /// Height when nobody says.
    pub height: u32,
    /// Whether there is no other.
    pub fixed: bool,
    /// What both sides are multiples of.
    pub multiple_of: u32,
}

/// How a wish would be carried out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PlanDescription {
    /// The model.
    pub model: String,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Pictures.
    pub count: usize,
    /// Denoising steps.
    pub steps: usize,
    /// Guidance scale; 1 is none.
    pub guidance: f32,
    /// The sampler.
    pub sampler: String,
    /// The peak of memory that is expected, in bytes.
    pub expected_memory_bytes: u64,
    /// The time that the plan forecasts, in seconds.
    pub forecast_time_s: Option<f64>,
    /// Whether the forecast stands on measurements of this device.
    pub measured: bool,
    /// What of the wish has no effect, or may not hold.
    pub warnings: Vec<String>,
    /// What was decided, and why.
    pub decisions: Vec<DecisionDescription>,
    /// How long it will probably run, in seconds: as jobs of its kind did, else as forecast.
    pub expected_time_s: f64,
}

/// One decision of a plan.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DecisionDescription {
    /// What is decided.
    pub what: String,
    /// How.
    pub choice: String,
    /// Why.
    pub because: String,
}

/// A plan as clients are told of it.
///
/// * `warnings`: [`Plan::warnings`]
/// * `expected_ms`: how long it will probably run, in milliseconds
#[must_use]
pub fn describe_plan(
    model: &Model,
    resolved: &Resolved,
    plan: &Plan,
    warnings: Vec<String>,
    expected_ms: f64,
) -> PlanDescription {
    let decisions = plan.decisions.iter().map(|made| DecisionDescription {
        what: made.what.to_owned(),
        choice: made.choice.clone(),
        because: made.because.clone(),
    });
    PlanDescription {
        model: model.name.clone(),
        width: resolved.width,
        height: resolved.height,
        count: resolved.count,
        steps: resolved.steps,
        guidance: resolved.guidance,
        sampler: resolved.sampler_name(),
        expected_memory_bytes: plan.forecast.memory_bytes,
        forecast_time_s: plan.forecast.time_ms.map(|time_ms| time_ms / 1_000.0),
        measured: plan.forecast.is_measured,
        warnings,
        decisions: decisions.collect(),
        expected_time_s: expected_ms / 1_000.0,
    }
}
