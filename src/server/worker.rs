//! One thread for each device: keeps models open, carries out one job after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::dispatcher::Dispatcher;
use super::film::film;
use super::job::{Job, JobEvent};
use super::store::NewPicture;
use crate::engine::{Engine, Generated};
use crate::error::{is_cancelled, is_refusal};
use crate::output::{Format, Picture, encode};
use crate::pipeline::{Event, Observer};
use crate::plan::Settings;
use crate::request::Request;
use crate::runtime::Cancel;

/// A device and the models that are open on it.
pub(super) struct Worker {
    dispatcher: Arc<Dispatcher>,
    settings: Settings,
    runtime: Option<PathBuf>,
    /// The one that was used last stands last.
    engines: Vec<(String, Engine)>,
}

/// What a job came to.
struct Made {
    pictures: Vec<NewPicture>,
    /// Whether its model was open when it began.
    found_open: bool,
}

impl Worker {
    /// No model is open yet.
    #[must_use]
    pub(super) fn new(dispatcher: Arc<Dispatcher>, settings: Settings, runtime: Option<PathBuf>) -> Self {
        Self { dispatcher, settings, runtime, engines: Vec::new() }
    }

    /// Carries out jobs until the server ends.
    pub(super) fn run(mut self) {
        let dispatcher = Arc::clone(&self.dispatcher);
        while let Some(job) = dispatcher.next() {
            match self.carry_out(&job) {
                Ok(Made { pictures, found_open }) => {
                    dispatcher.set_failing(&job.kind.model, None);
                    dispatcher.finish(&job, &pictures, found_open);
                }
                Err(error) if is_cancelled(&error) || job.cancel.is_cancelled() => {
                    dispatcher.end(&job, job.stopped_state(), job.stopped_by());
                }
                Err(error) => {
                    if !is_refusal(&error) {
                        log::error!("job {}: {error:#}", job.id);
                        dispatcher.set_failing(&job.kind.model, Some(format!("{error:#}")));
                    }
                    dispatcher.end(&job, super::job::State::Failed, Some(error.into()));
                }
            }
        }
    }

    /// Makes the pictures of a job; what fails is opened anew and tried once more.
    fn carry_out(&mut self, job: &Job) -> Result<Made> {
        let mut request = job.request.clone();
        if job.has_attachments {
            self.dispatcher.attach(&mut request, &self.dispatcher.store.attachments(job.number)?)?;
        }
        let made = match self.generate(job, &request) {
            Err(error) if !is_cancelled(&error) && !is_refusal(&error) && !job.cancel.is_cancelled() => {
                log::warn!("job {}: {error:#}; the model is opened anew", job.id);
                self.engines.retain(|(name, _)| *name != job.kind.model);
                self.generate(job, &request)?
            }
            outcome => outcome?,
        };
        job.set_made()?;
        Ok(made)
    }

    fn generate(&mut self, job: &Job, request: &Request) -> Result<Made> {
        let (name, mut engine) = self.take_engine(&job.kind.model)?;
        engine.set_budget(job.budget);
        let found_open = !engine.open_components().is_empty();
        let mut watcher = Watcher { job, begun: Instant::now() };
        // A panic must not take the thread with it; the engine it happened in is not used again.
        let outcome = catch_unwind(AssertUnwindSafe(|| pictures(&mut engine, request, &mut watcher, &job.cancel)));
        match outcome {
            Ok(outcome) => {
                self.dispatcher.set_open(&name, engine.open_components());
                self.engines.push((name, engine));
                outcome.map(|pictures| Made { pictures, found_open })
            }
            Err(_) => {
                self.dispatcher.set_open(&name, Vec::new());
                Err(anyhow!("the run ended in a panic, which is a fault of Kiln's"))
            }
        }
    }

    /// The engine of a model, taken out of those that are open, or opened; others give way.
    fn take_engine(&mut self, model: &str) -> Result<(String, Engine)> {
        if let Some(position) = self.engines.iter().position(|(name, _)| name == model) {
            return Ok(self.engines.remove(position));
        }
        while self.engines.len() >= self.dispatcher.limits.resident_models {
            let (name, _) = self.engines.remove(0);
            self.dispatcher.set_open(&name, Vec::new());
        }
        let found = self.dispatcher.catalogue.find(Some(model))?;
        let mut engine = Engine::open(&found.folder, &self.settings, self.runtime.as_deref())?;
        engine.set_measurements(found.measurements().cloned());
        Ok((model.to_owned(), engine))
    }
}

/// The files of what a request asks for.
fn pictures(engine: &mut Engine, request: &Request, observer: &mut dyn Observer, cancel: &Cancel) -> Result<Vec<NewPicture>> {
    if engine.bundle().makes_clips() {
        return film(engine, request, observer, cancel);
    }
    let made = engine.generate(request, observer, cancel)?.into_iter();
    made.map(|Generated { picture, mut provenance, .. }| {
        // A picture goes to strangers: it tells nothing of this device's folders.
        provenance.bundle.path = None;
        let file = encode(&picture, Some(&provenance), Format::Png)?;
        Ok(NewPicture { file, seed: provenance.seed, size: (picture.width, picture.height) })
    })
    .collect()
}

/// Tells a job's watchers of its run.
struct Watcher<'a> {
    job: &'a Job,
    /// When the steps began.
    begun: Instant,
}

impl Observer for Watcher<'_> {
    fn event(&mut self, event: Event) {
        match event {
            Event::Loaded { .. } => self.begun = Instant::now(),
            Event::Step { step, steps, picture, pictures } => {
                let (done, all) = (picture * steps + step, steps * pictures);
                let per_step_s = self.begun.elapsed().as_secs_f64() / done.max(1) as f64;
                let left_s = (per_step_s * all.saturating_sub(done) as f64 * 1_000.0).round() / 1_000.0;
                self.job.tell(JobEvent::Step { step: done, steps: all, left_s });
            }
            Event::Loading { .. } | Event::Decoding { .. } => {}
        }
    }

    fn wants_preview(&self) -> bool {
        self.job.wish.previews.unwrap_or(true)
    }

    fn preview(&mut self, step: usize, picture: &Picture) -> Result<()> {
        // Nobody pays for a picture that nobody sees.
        if self.job.is_watched() {
            let png = STANDARD.encode(encode(picture, None, Format::Png)?).into();
            self.job.tell(JobEvent::Preview { step, png });
        }
        Ok(())
    }
}
