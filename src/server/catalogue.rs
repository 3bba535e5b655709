//! The models that are served, and the plans that are made of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::problem::{Code, Problem};
use crate::bundle::{Bundle, Role, ShelvedBundle};
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
    /// # Errors
    /// As [`Plan::within`].
    pub fn plan(&self, request: &Request, budget: Budget) -> Result<(Resolved, Plan)> {
        let settings = Settings { budget, ..self.settings.clone() };
        Plan::within(&self.bundle, request, &settings, &self.assignments, self.measurements.as_ref())
    }

    /// The measurements that its plans are made with.
    #[must_use]
    pub fn measurements(&self) -> Option<&Measurements> {
        self.measurements.as_ref()
    }

    /// What a client may know of it.
    #[must_use]
    pub fn describe(&self, is_default: bool) -> Value {
        let bundle = &self.bundle;
        let card = bundle.card.as_ref();
        let habits = &bundle.habits;
        let (width, height) = bundle.default_size();
        let has_encoder = bundle.takes_text() && bundle.components.contains_key(&Role::VaeEncoder);
        json!({
            "name": self.name, "default": is_default, "version": card.and_then(|card| card.version.clone()),
            "description": card.and_then(|card| card.description.clone()), "licence": card.and_then(|card| card.licence.clone()),
            "attribution": card.map(|card| card.attribution.clone()).unwrap_or_default(), "family": bundle.family.name(),
            "takes_prompt": bundle.takes_text(), "takes_picture": has_encoder && !bundle.takes_mask(), "takes_mask": has_encoder,
            "classes": bundle.classes, "sampler": bundle.scheduler.as_ref().map(|config| config.kind().name()),
            "steps": { "trained": habits.trained_steps, "default": habits.default_steps, "largest": habits.largest_steps },
            "guidance": { "default": habits.guidance, "without": habits.without_guidance },
            "size": { "width": width, "height": height, "fixed": bundle.geometry.fixed_size.is_some(), "multiple_of": bundle.geometry.side_unit },
            "size_bytes": bundle.size_bytes(), "sha256": bundle.fingerprint,
        })
    }
}

/// A plan as JSON.
#[must_use]
pub fn plan_json(model: &Model, resolved: &Resolved, plan: &Plan) -> Value {
    let decisions: Vec<Value> =
        plan.decisions.iter().map(|made| json!({ "what": made.what, "choice": made.choice, "because": made.because })).collect();
    json!({
        "model": model.name, "width": resolved.width, "height": resolved.height, "count": resolved.count, "steps": resolved.steps,
        "guidance": resolved.guidance, "sampler": resolved.sampler_name(), "expected_memory_bytes": plan.forecast.memory_bytes,
        "forecast_time_s": plan.forecast.time_ms.map(|time_ms| time_ms / 1_000.0), "measured": plan.forecast.is_measured, "decisions": decisions,
    })
}
