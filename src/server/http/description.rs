//! A job as clients are told of it: what is kept, and where it stands now.

use serde::Serialize;
use utoipa::ToSchema;

use crate::server::job::{Failure, Job, JobEvent, PictureRecord, State};
use crate::server::store::Record;
use crate::server::wish::Wish;

/// A job.
#[derive(Serialize, ToSchema)]
pub(super) struct JobDescription {
    /// What it is called.
    id: String,
    /// Its number; later jobs have greater ones.
    number: i64,
    /// Where it stands.
    state: State,
    /// Who asked for it.
    client: String,
    /// Its model.
    model: String,
    /// What was asked for, with the seed that was drawn.
    wish: Wish,
    /// The job that it repeats.
    repeats: Option<String>,
    /// When it was accepted, in milliseconds of Unix time.
    created_ms: i64,
    /// When it began.
    started_ms: Option<i64>,
    /// When it ended.
    ended_ms: Option<i64>,
    /// Why there are no pictures.
    error: Option<Failure>,
    /// What of the wish has no effect, or may not hold; told as long as the job has not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// Its pictures, once it is finished.
    pictures: Vec<PictureRecord>,
    /// Where its events are.
    events: String,
    /// How many are before it; 0 is the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<usize>,
    /// How long it will probably wait yet, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_s: Option<f64>,
    /// How many steps are done.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<usize>,
    /// Of how many.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<usize>,
    /// How long the rest will probably take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_s: Option<f64>,
    /// How long it will probably run, in seconds, as long as it has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_s: Option<f64>,
}

/// Jobs from the newest on.
#[derive(Serialize, ToSchema)]
pub(super) struct JobList {
    /// The jobs.
    pub(super) jobs: Vec<JobDescription>,
    /// Ask with `before` for what is older; nothing where that may be all.
    pub(super) next: Option<i64>,
}

impl JobDescription {
    /// What is kept of a job; `live` is the job itself as long as it has not ended.
    pub(super) fn new(record: Record, live: Option<&Job>) -> Self {
        let (created_ms, started_ms, ended_ms) = record.times_ms;
        let mut description = Self {
            events: events_of(&record.id),
            id: record.id,
            number: record.number,
            state: record.state,
            client: record.client,
            model: record.model,
            wish: record.wish,
            repeats: record.repeats,
            created_ms,
            started_ms,
            ended_ms,
            error: record.error,
            pictures: record.pictures,
            warnings: Vec::new(),
            place: None,
            wait_s: None,
            step: None,
            steps: None,
            left_s: None,
            expected_s: None,
        };
        if let Some(job) = live.filter(|_| !description.state.is_end()) {
            description.look_at(job);
        }
        description
    }

    /// A job that was just taken in, which nothing has to be read for.
    pub(super) fn accepted(job: &Job) -> Self {
        let mut description = Self {
            id: job.id.clone(),
            number: job.number,
            state: State::Queued,
            client: job.client.clone(),
            model: job.kind.model.clone(),
            wish: job.wish.clone(),
            repeats: job.repeats.clone(),
            created_ms: job.created_ms,
            started_ms: None,
            ended_ms: None,
            error: None,
            pictures: Vec::new(),
            events: events_of(&job.id),
            warnings: Vec::new(),
            place: None,
            wait_s: None,
            step: None,
            steps: None,
            left_s: None,
            expected_s: None,
        };
        description.look_at(job);
        description
    }

    fn look_at(&mut self, job: &Job) {
        let present = job.present();
        if let JobEvent::State { state, place, wait_s } = present.state {
            // Its row does not yet say how it ended.
            self.state = if state.is_end() { State::Running } else { state };
            (self.place, self.wait_s) = (place, wait_s);
        }
        if let Some(JobEvent::Step { step, steps, left_s }) = present.step {
            (self.step, self.steps, self.left_s) = (Some(step), Some(steps), Some(left_s));
        }
        self.warnings.clone_from(&job.warnings);
        self.started_ms = present.started.map(|(_, ms)| ms);
        self.expected_s = Some(job.expected_ms / 1_000.0);
    }
}

fn events_of(id: &str) -> String {
    format!("/jobs/{id}/events")
}
