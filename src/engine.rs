//! What the crate offers: a bundle opened once, pictures made from it as often as asked.
//!
//! In: a folder, settings, requests. Out: pictures with their provenance.

mod budget;
mod clip;
mod inversion_record;
mod job;
mod record;
mod safety;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
pub use clip::{ClipBeginning, GeneratedClip};
use ndarray::{ArrayD, Axis};

use crate::bundle::{Bundle, Family, Role};
use crate::output::{BundleId, ComponentRun, PROVENANCE_SCHEMA, Picture, Provenance, WalkPlace};
use crate::pipeline::{self, Inverted, Likelihood, Observer, Painted, SafetyChecker, log_mean};
use crate::plan::{Assignments, Measurements, Plan, Settings};
use crate::request::{ClassChoice, Request, Resolved};
use crate::runtime::{Cancel, Runtime};

use crate::stage::{ComponentTimes, Decoding, Networks, PreviewMap, TextEncoders};

/// A picture and what made it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The picture.
    pub picture: Picture,
    /// What made it; enough to make it again.
    pub provenance: Provenance,
    /// What it was decoded from: latents `[C, h, w]` f32 as the denoiser has them, or a latent vector `[D]`.
    pub latents: ArrayD<f32>,
}

/// What a run tells of one of its pictures.
struct Made<'a> {
    index: usize,
    timesteps: Vec<f32>,
    decoding: Decoding,
    times: &'a [ComponentTimes],
    total_ms: f64,
}

/// A bundle opened for making pictures.
///
/// Networks are loaded when a request first needs them, and stay unless the settings ask for low memory.
///
/// ```no_run
/// use std::path::Path;
/// use kiln::{Cancel, Engine, Request, Settings};
///
/// let mut engine = Engine::open(Path::new("models/sticker"), &Settings::default(), None)?;
/// let request = Request { seed: Some(42), ..Request::new("a smiling sun") };
/// let made = engine.generate(&request, &mut (), &Cancel::new())?;
/// assert_eq!(made[0].provenance.seed, 42);
/// # Ok::<(), anyhow::Error>(())
/// ```
pub struct Engine {
    runtime: Arc<Runtime>,
    bundle: Bundle,
    encoders: TextEncoders,
    settings: Settings,
    assignments: Assignments,
    networks: Option<Networks>,
    preview_map: Option<PreviewMap>,
    measurements: Option<Measurements>,
    safety_checker: Option<SafetyChecker>,
}

impl Engine {
    /// Reads and checks the bundle in `folder` and loads ONNX Runtime; no network is opened yet.
    ///
    /// `runtime` names the library's file; without it the usual places are searched, see [`Runtime::open`].
    ///
    /// # Errors
    /// As [`Bundle::open`], [`Runtime::open`] and [`Assignments::new`]; a tokenizer of the bundle is broken.
    pub fn open(folder: &Path, settings: &Settings, runtime: Option<&Path>) -> Result<Self> {
        let bundle = settings.open_bundle(folder)?;
        let encoders = TextEncoders::open(&bundle, &settings.embeddings)?;
        let runtime = Runtime::open(runtime)?;
        let mut assignments = Assignments::new(&bundle, settings, &runtime)?;
        crate::prepare::apply(settings, &bundle, &runtime, &mut assignments);
        let settings = settings.clone();
        let (networks, preview_map, measurements, safety_checker) = (None, None, None, None);
        Ok(Self { runtime, bundle, encoders, settings, assignments, networks, preview_map, measurements, safety_checker })
    }

    /// The bundle.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// Which provider runs which component, from which file.
    #[must_use]
    pub fn assignments(&self) -> &Assignments {
        &self.assignments
    }

    /// The loaded ONNX Runtime.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Decides how `request` would be carried out, without carrying it out.
    ///
    /// # Errors
    /// As [`Plan::within`].
    pub fn plan(&self, request: &Request) -> Result<(Resolved, Plan)> {
        let open = self.open_components();
        Plan::within(&self.bundle, request, &self.settings, &self.assignments, self.measurements.as_ref(), &open)
    }

    /// The components that are open, for whatever shapes.
    #[must_use]
    pub fn open_components(&self) -> Vec<Role> {
        self.networks.as_ref().map(Networks::open_for_all_shapes).unwrap_or_default()
    }

    /// Makes the pictures of `request`.
    ///
    /// `observer` is told of progress; `cancel`, kept by another thread, stops the run within one kernel.
    ///
    /// # Errors
    /// As [`Request::resolve`], all the caller's fault; a component does not load, fails, or gives a non-finite or constant result;
    /// [`Cancelled`](crate::error::Cancelled) once `cancel` was used; [`HeldBack`](crate::error::HeldBack) by the safety checker.
    pub fn generate(&mut self, request: &Request, observer: &mut dyn Observer, cancel: &Cancel) -> Result<Vec<Generated>> {
        let begun = Instant::now();
        let (resolved, plan) = self.plan(request)?;
        let safety = self.safety_files()?;
        let mut unseen = safety::WithoutPreviews(observer);
        let observer: &mut dyn Observer = if safety.is_some() { &mut unseen } else { unseen.0 };
        let (painted, times) = self.with_job(&resolved, &plan, cancel, |job, encoders, preview_map| {
            pipeline::generate(job, encoders, preview_map, observer)
        })?;
        if let Some(files) = &safety {
            let pictures = painted.iter().enumerate().map(|(index, made)| (resolved.seed_of(index), &made.picture));
            self.check_safety(files, &plan, pictures, cancel)?;
        }
        let total_ms = begun.elapsed().as_secs_f64() * 1000.0;
        painted
            .into_iter()
            .enumerate()
            .map(|(index, Painted { picture, latents, timesteps, decoding, .. })| {
                let made = Made { index, timesteps, decoding, times: &times, total_ms };
                Ok(Generated { picture, provenance: self.provenance(request, &resolved, &plan, made)?, latents })
            })
            .collect()
    }

    /// Decides how the latent of a picture would be found, as [`Engine::plan`] does for making one.
    ///
    /// # Errors
    /// As [`Request::resolve`], or refusals: the family has no way back; a sampler was named whose steps cannot be made backwards.
    pub fn plan_inversion(&self, request: &Request) -> Result<(Resolved, Plan)> {
        pipeline::check_invertible(&self.bundle)?;
        let request = pipeline::inversion_request(&self.bundle, request);
        let (mut resolved, plan) = self.plan(&request)?;
        pipeline::check_steps_back(&self.bundle, &request, &resolved)?;
        // A seed says where random numbers begin, and nothing of what a picture that is there already shows.
        if let (Some(null), true) = (self.bundle.null_class, request.prompt.trim().is_empty()) {
            resolved.class = Some(ClassChoice::One(null));
        }
        Ok((resolved, plan))
    }

    /// Finds the latent of `picture` and makes the picture from it again.
    ///
    /// `request` says the class (see [`Engine::inversion_class`]), the seed, the steps, the guidance (1, which is none, where it says
    /// nothing) and the sampler; its count and its own input are not looked at. The picture is brought to the model's size.
    ///
    /// # Errors
    /// As [`Engine::plan_inversion`] and [`Engine::generate`].
    pub fn invert(
        &mut self,
        request: &Request,
        picture: &Picture,
        observer: &mut dyn Observer,
        cancel: &Cancel,
    ) -> Result<Inverted> {
        let prompt = self.inversion_class(request, picture, observer, cancel)?.unwrap_or_default();
        let (resolved, plan) = self.plan_inversion(&Request { prompt, ..request.clone() })?;
        let pixels = self.pixels(picture)?;
        let (inverted, _) =
            self.with_job(&resolved, &plan, cancel, |mut job, _, _| pipeline::invert(&mut job, &pixels, observer))?;
        Ok(inverted)
    }

    /// The class that [`Engine::invert`] tells the model; `None` for a model that knows none, or where it is told that there is none.
    ///
    /// It is the one that `request` names; else the likeliest, of a model with a likelihood; else none, where the model has a label for
    /// that; else the seed's, as for a new picture.
    ///
    /// # Errors
    /// As [`Engine::invert`].
    pub fn inversion_class(
        &mut self,
        request: &Request,
        picture: &Picture,
        observer: &mut dyn Observer,
        cancel: &Cancel,
    ) -> Result<Option<String>> {
        let (resolved, _) = self.plan_inversion(request)?;
        if request.prompt.trim().is_empty() && pipeline::likelihood_kind(&self.bundle).is_some() {
            return Ok(self.likeliest(request, picture, observer, cancel)?.map(|(class, _)| class));
        }
        Ok(resolved.class_of(0).and_then(|class| self.bundle.classes.get(class)).cloned())
    }

    /// Decides how a likelihood would be found, as [`Engine::plan`] does for making a picture.
    ///
    /// # Errors
    /// As [`Request::resolve`], or refusals: the family has no likelihood; a sampler was named that is no solver.
    pub fn plan_likelihood(&self, request: &Request) -> Result<(Resolved, Plan)> {
        pipeline::check_likelihood(&self.bundle)?;
        let request = pipeline::likelihood_request(&self.bundle, request);
        let (resolved, plan) = self.plan(&request)?;
        pipeline::check_solver(&self.bundle, &request, &resolved)?;
        Ok((resolved, plan))
    }

    /// How likely the model finds `picture`, which is brought to its size: its density at the middles of the cells that the 8-bit values
    /// stand for, times the cells' size.
    ///
    /// Without a class in `request`, the mean over the classes. The seed is that of an autoencoder's latent or of a random trace.
    ///
    /// # Errors
    /// As [`Engine::plan_likelihood`] and [`Engine::generate`].
    pub fn likelihood(
        &mut self,
        request: &Request,
        picture: &Picture,
        observer: &mut dyn Observer,
        cancel: &Cancel,
    ) -> Result<Likelihood> {
        let kind = pipeline::likelihood_kind(&self.bundle);
        let nats = match (kind, request.prompt.trim().is_empty()) {
            (Some(_), true) if !self.bundle.classes.is_empty() => {
                let of_classes = self.of_classes(request, picture, observer, cancel)?;
                log_mean(&of_classes.iter().map(|(_, nats)| *nats).collect::<Vec<_>>())
            }
            _ => self.log_likelihood(request, picture, observer, cancel)?,
        };
        let kind = kind.context("the family has no likelihood")?;
        Ok(Likelihood::new(nats, self.pixels(picture)?.len(), kind))
    }

    /// The class that makes `picture` likeliest, with its log-likelihood; `None` for a model that knows none.
    ///
    /// # Errors
    /// As [`Engine::likelihood`]; `request` names the class already.
    pub fn likeliest(
        &mut self,
        request: &Request,
        picture: &Picture,
        observer: &mut dyn Observer,
        cancel: &Cancel,
    ) -> Result<Option<(String, f64)>> {
        let of_classes = self.of_classes(request, picture, observer, cancel)?;
        Ok(of_classes.into_iter().max_by(|left, right| left.1.total_cmp(&right.1)))
    }

    /// The log-likelihood of `picture` under each class.
    fn of_classes(
        &mut self,
        request: &Request,
        picture: &Picture,
        observer: &mut dyn Observer,
        cancel: &Cancel,
    ) -> Result<Vec<(String, f64)>> {
        let classes = self.bundle.classes.clone();
        classes
            .into_iter()
            .map(|class| {
                let request = Request { prompt: class.clone(), ..request.clone() };
                Ok((class, self.log_likelihood(&request, picture, observer, cancel)?))
            })
            .collect()
    }

    fn log_likelihood(
        &mut self,
        request: &Request,
        picture: &Picture,
        observer: &mut dyn Observer,
        cancel: &Cancel,
    ) -> Result<f64> {
        let (resolved, plan) = self.plan_likelihood(request)?;
        // From the ends of [-1, 1], where 0 and 255 lie, to the middles of 256 cells.
        let pixels = self.pixels(picture)? * (255.0 / 256.0);
        let (nats, _) =
            self.with_job(&resolved, &plan, cancel, |mut job, _, _| pipeline::log_likelihood(&mut job, &pixels, observer))?;
        Ok(nats)
    }

    /// `picture` as the model's networks see it: `[1, C, H, W]` f32 in [-1, 1].
    fn pixels(&self, picture: &Picture) -> Result<ArrayD<f32>> {
        let (width, height) = self.bundle.default_size();
        let tensor = picture.resize(width, height)?.to_tensor(self.bundle.geometry.picture_channels)?;
        Ok(tensor.insert_axis(Axis(0)).into_dyn())
    }

    fn provenance(&self, request: &Request, resolved: &Resolved, plan: &Plan, made: Made<'_>) -> Result<Provenance> {
        let bundle = &self.bundle;
        let card = bundle.card.as_ref();
        let components = made
            .times
            .iter()
            .map(|times| {
                let assignment = plan.assignments.of(times.role).with_context(|| format!("the plan has no {}", times.role))?;
                Ok(ComponentRun {
                    role: times.role.to_string(),
                    provider: times.provider.clone(),
                    precision: assignment.precision.clone(),
                    file: assignment.variant.clone(),
                    load_ms: times.load_ms,
                    run_ms: times.run_ms,
                    calls: times.calls,
                })
            })
            .collect::<Result<_>>()?;
        let class = resolved.class_of(made.index).and_then(|class| bundle.classes.get(class)).cloned();
        let has_temperature = matches!(bundle.family, Family::Vae { .. } | Family::Flow { .. });
        #[expect(clippy::cast_possible_truncation, reason = "a share between 0 and 1")]
        let eta = resolved.run.eta.map(|eta| eta as f32);
        Ok(Provenance {
            schema: PROVENANCE_SCHEMA,
            kiln: env!("CARGO_PKG_VERSION").to_owned(),
            bundle: BundleId {
                name: bundle.name(),
                version: card.and_then(|card| card.version.clone()),
                sha256: Some(bundle.fingerprint.clone()),
                path: Some(bundle.folder.display().to_string()),
            },
            family: card.and_then(|card| card.family.clone()).unwrap_or_else(|| bundle.family.name().to_owned()),
            prompt: if bundle.takes_text() { Some(resolved.prompt.clone()) } else { class },
            negative: resolved.negative.clone(),
            embeddings: self.words(&[&resolved.prompt, resolved.negative.as_deref().unwrap_or_default()]),
            plain_prompt: bundle.takes_text().then_some(resolved.plain_prompt),
            seed: resolved.seed_of(made.index),
            rng: resolved.random_device.to_string(),
            sampler: resolved.sampler_name(),
            sampler_overrides: request.sampler.to_map(),
            steps: resolved.steps,
            timesteps: made.timesteps,
            guidance: resolved.guidance,
            eta,
            truncation: matches!(bundle.family, Family::Gan { .. }).then_some(resolved.truncation),
            style_mix: resolved.style_mix.map(|mix| mix.to_string()),
            temperature: has_temperature.then_some(resolved.temperature),
            walk: resolved.toward(made.index).map(|(to, share)| WalkPlace { to, share }),
            clip: None,
            inversion: false,
            width: resolved.width,
            height: resolved.height,
            strength: resolved.task.has_strength().then_some(resolved.strength),
            forced: request.force,
            input: None,
            input_sha256: None,
            mask: None,
            mask_sha256: None,
            control: None,
            control_sha256: None,
            control_scale: resolved.control.as_ref().map(|control| control.scale),
            threads: plan.threads,
            memory: plan.memory.to_string(),
            decoder: (plan.decoder == Role::TinyDecoder).then(|| "tiny".to_owned()),
            tile: made.decoding.tile.map(|tile| u32::try_from(tile.pixels())).transpose()?,
            upscale: Vec::new(),
            clip_tiles: made.decoding.clip_tile.is_some(),
            ran_out_of_memory: made.decoding.ran_out_of_memory,
            runtime: self.runtime.version().to_owned(),
            components,
            total_ms: made.total_ms,
        })
    }
}
