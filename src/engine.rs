//! What the crate offers: a bundle opened once, pictures made from it as often as asked.
//!
//! In: a folder, settings, requests. Out: pictures with their provenance.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use ndarray::ArrayD;

use crate::bundle::Bundle;
use crate::output::{BundleId, ComponentRun, PROVENANCE_SCHEMA, Picture, Provenance};
use crate::pipeline::{LatentDiffusion, Observer};
use crate::plan::{Plan, Settings};
use crate::refuse;
use crate::request::{Request, Resolved, Task};
use crate::runtime::{Cancel, Runtime, logical_cores};
use crate::stage::{ComponentTimes, Networks, PreviewMap, TextEncoders};

/// Threads beyond the cores wait for each other in loops; this many still make a picture.
const MOST_THREADS_A_CORE: usize = 4;

/// A picture and what made it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The picture.
    pub picture: Picture,
    /// What made it; enough to make it again.
    pub provenance: Provenance,
    /// The latents it was decoded from, `[C, h, w]` f32 as the denoiser has them.
    pub latents: ArrayD<f32>,
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
    networks: Option<Networks>,
    preview_map: Option<PreviewMap>,
}

impl Engine {
    /// Reads and checks the bundle in `folder` and loads ONNX Runtime; no network is opened yet.
    ///
    /// `runtime` names the library's file; without it the usual places are searched, see [`Runtime::open`].
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`Runtime::open`]; a tokenizer of the bundle is broken; more threads are asked for than make sense.
    pub fn open(folder: &Path, settings: &Settings, runtime: Option<&Path>) -> Result<Self> {
        let (asked_for, cores) = (settings.threads.unwrap_or(1), logical_cores());
        if asked_for == 0 || asked_for > cores * MOST_THREADS_A_CORE {
            refuse!(
                "threads: is {asked_for}, expected 1 to {}: this device runs {cores} at once, and more wait for each other",
                cores * MOST_THREADS_A_CORE
            );
        }
        let bundle = Bundle::open(folder)?;
        let encoders = TextEncoders::open(&bundle)?;
        let runtime = Runtime::open(runtime)?;
        Ok(Self { runtime, bundle, encoders, settings: settings.clone(), networks: None, preview_map: None })
    }

    /// The bundle.
    #[must_use]
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The loaded ONNX Runtime.
    #[must_use]
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Decides how `request` would be carried out, without carrying it out.
    ///
    /// # Errors
    /// As [`Request::resolve`].
    pub fn plan(&self, request: &Request) -> Result<(Resolved, Plan)> {
        let resolved = request.resolve(&self.bundle)?;
        let plan = Plan::new(&self.bundle, &resolved, &self.settings);
        Ok((resolved, plan))
    }

    /// Makes the pictures of `request`.
    ///
    /// `observer` is told of progress; `cancel`, kept by another thread, stops the run within one kernel.
    ///
    /// # Errors
    /// As [`Request::resolve`], all the caller's fault; a component does not load, fails, or gives a non-finite or constant result;
    /// [`Cancelled`](crate::error::Cancelled) once `cancel` was used.
    pub fn generate(&mut self, request: &Request, observer: &mut dyn Observer, cancel: &Cancel) -> Result<Vec<Generated>> {
        let begun = Instant::now();
        let (resolved, plan) = self.plan(request)?;
        for decision in &plan.decisions {
            log::info!("{}: {} ({})", decision.what, decision.choice, decision.because);
        }
        let networks =
            self.networks.get_or_insert_with(|| Networks::new(Arc::clone(&self.runtime), &self.bundle, plan.network_options()));
        let painted = LatentDiffusion {
            bundle: &self.bundle,
            networks,
            encoders: &self.encoders,
            request: &resolved,
            plan: &plan,
            cancel,
            preview_map: &mut self.preview_map,
        }
        .run(observer);
        let times = networks.take_times();
        if painted.is_err() && !plan.keeps_components() {
            networks.close_all();
        }
        let painted = painted?;
        let total_ms = begun.elapsed().as_secs_f64() * 1000.0;
        painted
            .into_iter()
            .map(|painted| {
                let provenance = self.provenance(request, &resolved, &plan, &times, painted.seed, painted.timesteps, total_ms)?;
                Ok(Generated { picture: painted.picture, provenance, latents: painted.latents })
            })
            .collect()
    }

    #[expect(clippy::too_many_arguments, reason = "each is one source of the record")]
    fn provenance(
        &self,
        request: &Request,
        resolved: &Resolved,
        plan: &Plan,
        times: &[ComponentTimes],
        seed: u64,
        timesteps: Vec<f32>,
        total_ms: f64,
    ) -> Result<Provenance> {
        let bundle = &self.bundle;
        let card = bundle.card.as_ref();
        let components = times
            .iter()
            .map(|times| {
                let header = &bundle.component(times.role)?.header;
                Ok(ComponentRun {
                    role: times.role.to_string(),
                    provider: plan.provider.to_string(),
                    precision: header.precision.clone(),
                    load_ms: times.load_ms,
                    run_ms: times.run_ms,
                    calls: times.calls,
                })
            })
            .collect::<Result<_>>()?;
        let with_input = !matches!(resolved.task, Task::TextToPicture);
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
            family: card.and_then(|card| card.family.clone()).unwrap_or_else(|| "latent_diffusion".to_owned()),
            prompt: Some(resolved.prompt.clone()),
            negative: resolved.negative.clone(),
            seed,
            rng: resolved.random_device.to_string(),
            sampler: resolved.sampler.kind().name().to_owned(),
            sampler_overrides: request.sampler.to_map(),
            steps: resolved.steps,
            timesteps,
            guidance: resolved.guidance,
            eta,
            width: resolved.width,
            height: resolved.height,
            strength: with_input.then_some(resolved.strength),
            forced: request.force,
            input: None,
            input_sha256: None,
            mask: None,
            mask_sha256: None,
            threads: plan.threads,
            memory: plan.memory.to_string(),
            runtime: self.runtime.version().to_owned(),
            components,
            total_ms,
        })
    }

    /// Makes again what `provenance` records: the request that gives the same picture.
    ///
    /// Input picture and mask are the caller's to add; `provenance` names them.
    ///
    /// # Errors
    /// The record is of a sampler or a random generator that this version does not know.
    pub fn request_of(provenance: &Provenance) -> Result<Request> {
        Ok(Request {
            prompt: provenance.prompt.clone().unwrap_or_default(),
            negative: provenance.negative.clone(),
            seed: Some(provenance.seed),
            random_device: provenance.rng.parse().with_context(|| format!("random numbers of `{}`", provenance.rng))?,
            steps: Some(provenance.steps),
            guidance: Some(provenance.guidance),
            size: Some((provenance.width, provenance.height)),
            count: 1,
            sampler: crate::request::SamplerChoice::from_map(&provenance.sampler_overrides)?,
            input: None,
            mask: None,
            strength: provenance.strength,
            force: provenance.forced,
        })
    }
}
