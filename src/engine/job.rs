//! How an engine runs a plan, once for a request or once for each frame of a clip.

use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::safety::{WithoutPreviews, pass};
use super::{Engine, Generated, Made};
use crate::output::Picture;
use crate::pipeline::{self, Job, Observer, Painted};
use crate::plan::Plan;
use crate::refuse;
use crate::request::{Request, Resolved, Task};
use crate::runtime::Cancel;
use crate::stage::{ComponentTimes, Networks, PreviewMap, TextEncoders};

impl Engine {
    /// Draws each of `frames` anew as `request` says: picture to picture, all from the same noise.
    ///
    /// The first frame is `request`'s input; it decides the plan, which serves all. `each` is given one picture after the other, and its
    /// error ends the run.
    ///
    /// # Errors
    /// As [`Engine::generate`] and `each`; a refusal: `request` has no input or asks for several pictures. What `frames` fail with.
    /// [`HeldBack`](crate::error::HeldBack) by the safety checker, which sees each picture before `each` does.
    pub fn redraw(
        &mut self,
        request: &Request,
        frames: impl Iterator<Item = Result<Picture>>,
        observer: &mut dyn Observer,
        cancel: &Cancel,
        mut each: impl FnMut(Generated) -> Result<()>,
    ) -> Result<()> {
        let (mut resolved, plan) = self.plan(request)?;
        if resolved.count != 1 || matches!(resolved.task, Task::TextToPicture) {
            refuse!("frames: each is one picture out of another, and {} pictures out of none were asked for", resolved.count);
        }
        plan.warn(&resolved, &self.settings.budget);
        log_decisions(&plan);
        let mut checker = match self.safety_files()? {
            Some(files) => Some(self.take_checker(&files, &plan, cancel)?),
            None => None,
        };
        let mut unseen = WithoutPreviews(observer);
        let observer: &mut dyn Observer = if checker.is_some() { &mut unseen } else { unseen.0 };
        for frame in frames {
            let begun = Instant::now();
            resolved.task.set_input(frame?.resize(resolved.width, resolved.height)?);
            let (painted, times) = self.run_job(&resolved, &plan, cancel, |job, encoders, preview_map| {
                pipeline::generate(job, encoders, preview_map, observer)
            })?;
            ensure!(painted.len() == 1, "a frame became {} pictures", painted.len());
            let Painted { picture, latents, timesteps, decoding, .. } = painted.into_iter().next().context("no picture")?;
            if let Some(checker) = &mut checker {
                pass(checker, resolved.seed_of(0), &picture, cancel)?;
            }
            let total_ms = begun.elapsed().as_secs_f64() * 1000.0;
            let made = Made { index: 0, timesteps, decoding, times: &times, total_ms };
            let provenance = self.provenance(request, &resolved, &plan, made)?;
            each(Generated { picture, provenance, latents })?;
        }
        if let Some(checker) = checker {
            self.keep_checker(checker, &plan);
        }
        Ok(())
    }

    /// Tells of the plan and runs `work` with everything it needs; returns what it gives and what the components cost.
    pub(super) fn with_job<T>(
        &mut self,
        resolved: &Resolved,
        plan: &Plan,
        cancel: &Cancel,
        work: impl FnOnce(Job<'_>, &TextEncoders, &mut Option<PreviewMap>) -> Result<T>,
    ) -> Result<(T, Vec<ComponentTimes>)> {
        plan.warn(resolved, &self.settings.budget);
        log_decisions(plan);
        self.run_job(resolved, plan, cancel, work)
    }

    fn run_job<T>(
        &mut self,
        resolved: &Resolved,
        plan: &Plan,
        cancel: &Cancel,
        work: impl FnOnce(Job<'_>, &TextEncoders, &mut Option<PreviewMap>) -> Result<T>,
    ) -> Result<(T, Vec<ComponentTimes>)> {
        let networks = Networks::for_plan(&mut self.networks, &self.runtime, plan);
        networks.open_ahead(plan, cancel)?;
        let job = Job { bundle: &self.bundle, networks, request: resolved, plan, cancel };
        let outcome = work(job, &self.encoders, &mut self.preview_map);
        networks.end_ahead();
        let times = networks.take_times();
        if outcome.is_err() && !plan.keeps_components() {
            networks.close_all();
        }
        Ok((outcome?, times))
    }
}

fn log_decisions(plan: &Plan) {
    plan.decisions.iter().for_each(|made| log::info!("{}: {} ({})", made.what, made.choice, made.because));
}
