//! One contestant of a comparison: a bundle and how it is run; its time, its pictures, its memory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};

use super::device::DeviceArguments;
use crate::engine::Engine;
use crate::error::is_cancelled;
use crate::lineage::{Algorithm, RealPictures, Row, Run};
use crate::ode::Method;
use crate::output::Picture;
use crate::pipeline::{self, Event, LikelihoodKind, Observer};
use crate::request::Request;
use crate::runtime::Cancel;
use crate::tune::median;

/// A run of more steps is timed by this many at first.
const PROBE_STEPS: usize = 10;

/// Counts the steps of a solver that chooses them by itself.
struct StepsTaken(usize);

impl Observer for StepsTaken {
    fn event(&mut self, event: Event) {
        self.0 += usize::from(matches!(event, Event::Step { .. }));
    }
}

/// A bundle and how it is run to show an algorithm.
pub(super) struct Contestant<'t> {
    pub(super) algorithm: &'t Algorithm,
    pub(super) run: &'t Run,
    pub(super) folder: PathBuf,
    /// What one picture probably takes.
    pub(super) expected_ms: f64,
}

impl<'t> Contestant<'t> {
    pub(super) fn new(algorithm: &'t Algorithm, run: &'t Run, folder: PathBuf) -> Self {
        Self { algorithm, run, folder, expected_ms: 0.0 }
    }

    /// The bundle, and what is said of its run.
    pub(super) fn name(&self) -> String {
        let run = self.run;
        let parts = [
            Some(run.bundle.clone()),
            run.sampler.clone(),
            run.steps.map(|steps| steps.to_string()),
            run.eta.map(|eta| format!("eta {eta}")),
            run.truncation.map(|truncation| truncation.to_string()),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// The picture of `seed`, of `class` where the model knows it or reads.
    fn request(&self, engine: &Engine, seed: u64, class: Option<&String>) -> Result<Request> {
        let bundle = engine.bundle();
        let mut request = super::lineage::request_of(self.run, bundle)?;
        request.seed = Some(seed);
        if let Some(class) = class.filter(|class| bundle.takes_text() || bundle.classes.contains(class)) {
            request.prompt.clone_from(class);
        }
        Ok(request)
    }

    /// Loads the networks and finds out what a picture will take, by a few steps of many.
    pub(super) fn probe(&mut self, engine: &mut Engine, cancel: &Cancel) -> Result<()> {
        let mut request = self.request(engine, 0, None)?;
        let steps = engine.plan(&request)?.0.steps;
        let adaptive = request.sampler.method.is_some_and(Method::is_adaptive);
        let shorter = Request { steps: Some(PROBE_STEPS), ..request.clone() };
        let mut share = 1.0;
        if !adaptive && steps > PROBE_STEPS && engine.plan(&shorter).is_ok() {
            request = shorter;
            #[expect(clippy::cast_precision_loss, reason = "counts of steps")]
            let longer = steps as f64 / PROBE_STEPS as f64;
            share = longer;
        }
        engine.generate(&request, &mut (), cancel)?;
        let begun = Instant::now();
        engine.generate(&request, &mut (), cancel)?;
        self.expected_ms = begun.elapsed().as_secs_f64() * 1000.0 * share;
        Ok(())
    }

    /// Makes `count` pictures one by one, seeds from `seed`, each of its class in `classes` if any; `done` is told of each.
    pub(super) fn make(
        &self,
        engine: &mut Engine,
        (seed, count): (u64, usize),
        classes: &[String],
        done: &dyn Fn(usize),
        cancel: &Cancel,
    ) -> Result<(Row, Vec<Picture>)> {
        let (mut times, mut pictures, mut calls, mut steps) = (Vec::new(), Vec::new(), 0, 0);
        for number in 0..count {
            let request = self.request(engine, seed.wrapping_add(number as u64), classes.get(number))?;
            let begun = Instant::now();
            let mut counted = StepsTaken(0);
            let made = engine.generate(&request, &mut counted, cancel)?;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
            let made = made.into_iter().next().context("no picture was made")?;
            calls += made.provenance.components.iter().map(|component| component.calls).sum::<usize>();
            let adaptive = made.provenance.sampler.parse::<Method>().is_ok_and(Method::is_adaptive);
            steps = match made.provenance.timesteps.is_empty() {
                true => 0,
                false if adaptive => counted.0,
                false => made.provenance.steps,
            };
            pictures.push(made.picture);
            done(number + 1);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of calls and pictures")]
        let calls = calls as f64 / count.max(1) as f64;
        let row = Row {
            name: self.name(),
            algorithm: self.algorithm.name.clone(),
            title: self.algorithm.title.clone(),
            options: self.run.options(),
            calls,
            steps,
            picture_ms: median(&times),
            model_bytes: engine.bundle().size_bytes(),
            peak_memory_bytes: None,
            quality: None,
            bits_per_dimension: None,
            likelihood: None,
        };
        Ok((row, pictures))
    }

    /// The peak memory of a process of its own that opens the bundle and makes pictures under its own sampler: this process holds other models as well.
    pub(super) fn peak_memory_bytes(&self, engine: &Engine, runtime: Option<&Path>, device: &DeviceArguments) -> Option<u64> {
        let mut command = Command::new(std::env::current_exe().ok()?);
        command.arg("bench").arg(&self.folder).args(["--runs", "1", "--json"]).stdin(Stdio::null()).stderr(Stdio::null());
        let few = [Some(2), self.run.steps].into_iter().flatten().find(|steps| {
            super::lineage::request_of(self.run, engine.bundle())
                .is_ok_and(|request| engine.plan(&Request { steps: Some(*steps), ..request }).is_ok())
        });
        if let Some(steps) = few {
            command.args(["--steps", &steps.to_string()]);
        }
        if let Ok((_, plan)) = self.request(engine, 0, None).and_then(|request| engine.plan(&request)) {
            command.args(["--threads", &plan.threads.to_string()]);
        }
        command.args(device.to_arguments());
        if let Some(runtime) = runtime {
            command.arg("--runtime").arg(runtime);
        }
        let output = command.output().ok()?;
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        value.get("peak_memory_bytes")?.as_u64()
    }
}

/// Mean bits per dimension of `count` held-out pictures spread over all, each with its class, and what the figure is worth; `None` for a family
/// without a likelihood, or with `quick` for one whose likelihood takes a solver.
pub(super) fn bits_per_dimension(
    engine: &mut Engine,
    real: &RealPictures,
    count: usize,
    quick: bool,
    cancel: &Cancel,
) -> Result<Option<(f64, String)>> {
    let Some(kind) = pipeline::likelihood_kind(engine.bundle()) else { return Ok(None) };
    if count == 0 || (quick && kind == LikelihoodKind::Estimate) {
        return Ok(None);
    }
    let mut bits = Vec::new();
    let stride = (real.held_out.len() / count).max(1);
    for (number, picture) in real.held_out.iter().enumerate().step_by(stride).take(count) {
        let class = real.held_out_classes.get(number).filter(|class| engine.bundle().classes.contains(class));
        let request = Request { seed: Some(number as u64), ..Request::new(class.cloned().unwrap_or_default()) };
        match engine.likelihood(&request, picture, &mut (), cancel) {
            Ok(likelihood) => bits.push(likelihood.bits_per_dimension),
            Err(error) if is_cancelled(&error) => return Err(error),
            Err(error) => {
                log::warn!("no likelihood of {}: {error:#}", engine.bundle().name());
                return Ok(None);
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of pictures")]
    let mean = bits.iter().sum::<f64>() / bits.len().max(1) as f64;
    Ok((!bits.is_empty()).then(|| (mean, kind.to_string())))
}
