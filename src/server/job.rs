//! One job: what was asked for, where it stands, who is told of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;
use utoipa::ToSchema;

use super::problem::{Code, Problem};
use super::speed::Kind;
use super::wish::Wish;
use crate::plan::Budget;
use crate::request::Request;
use crate::runtime::Cancel;

/// Events that a slow watcher may be behind; beyond, it is told the present state instead.
const EVENTS_KEPT: usize = 128;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits.
    Queued,
    /// Its pictures are being made.
    Running,
    /// Its pictures are there.
    Finished,
    /// It could not be carried out.
    Failed,
    /// It was stopped.
    Cancelled,
    /// The server ended before it did.
    Interrupted,
}

impl State {
    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }

    /// The word for it in JSON and in the database.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A finished picture of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PictureRecord {
    /// Its number within the job, from 0.
    pub n: usize,
    /// Where it is served.
    pub url: String,
    /// The seed that gives this very picture.
    pub seed: u64,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The file's size in bytes.
    pub bytes: u64,
}

/// Why a job has no pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Failure {
    /// As [`Code::name`].
    pub code: String,
    /// For people.
    pub message: String,
}

/// What happens to a job, as its watchers are told.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum JobEvent {
    /// It stands elsewhere, or its place in the queue has changed.
    State {
        /// Where it stands.
        state: State,
        /// How many are before it; 0 is the next.
        #[serde(skip_serializing_if = "Option::is_none")]
        place: Option<usize>,
        /// How long it will probably wait yet, in seconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        wait_s: Option<f64>,
    },
    /// A step is done.
    Step {
        /// How many are done, over all pictures.
        step: usize,
        /// Of how many.
        steps: usize,
        /// How long the rest will probably take, in seconds.
        left_s: f64,
    },
    /// The picture as it stands.
    Preview {
        /// After which step.
        step: usize,
        /// A PNG file in base64.
        #[serde(serialize_with = "shared")]
        #[schema(value_type = String)]
        png: Arc<str>,
    },
    /// Nothing more will happen.
    End {
        /// How it ended.
        state: State,
        /// Its pictures.
        pictures: Vec<PictureRecord>,
        /// Why there are none.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
    },
}

fn shared<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl JobEvent {
    /// The name of the server-sent event.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::State { .. } => "state",
            Self::Step { .. } => "step",
            Self::Preview { .. } => "preview",
            Self::End { .. } => "end",
        }
    }
}

/// The present: what a watcher that comes late is told first.
#[derive(Debug, Clone)]
pub struct Present {
    /// Where the job stands, as a `state` event.
    pub state: JobEvent,
    /// The last step.
    pub step: Option<JobEvent>,
    /// The last preview.
    pub preview: Option<JobEvent>,
    /// How it ended.
    pub end: Option<JobEvent>,
    /// When it began to run.
    pub started: Option<(Instant, i64)>,
}

/// A job that has not ended, or that somebody still looks at.
pub struct Job {
    /// What it is called; nobody guesses it.
    pub id: String,
    /// Its number in the database.
    pub number: i64,
    /// Who asked for it.
    pub client: String,
    /// The job that it repeats.
    pub repeats: Option<String>,
    /// What was asked for, its seed filled in, without its pictures.
    pub wish: Wish,
    /// Whether pictures came with it; the store has them.
    pub has_attachments: bool,
    /// The same for the engine, without its pictures.
    pub request: Request,
    /// What it may take.
    pub budget: Budget,
    /// What decides how long it takes.
    pub kind: Kind,
    /// What of the wish has no effect, or may not hold.
    pub warnings: Vec<String>,
    /// How long it will probably run, in milliseconds.
    pub expected_ms: f64,
    /// The room on the disk that its pictures may take, in bytes.
    pub room_bytes: u64,
    /// When its time is up.
    pub deadline: Instant,
    /// When it was accepted, in milliseconds of Unix time.
    pub created_ms: i64,
    /// Stops it.
    pub cancel: Cancel,
    course: Mutex<Course>,
    present: Mutex<Present>,
    events: broadcast::Sender<JobEvent>,
}

/// What decides whether a job is still to be stopped.
#[derive(Default)]
struct Course {
    stopped_by: Option<Problem>,
    is_made: bool,
}

/// What a [`Job`] is made of.
pub struct NewJob {
    /// See [`Job::id`]; the others likewise.
    pub id: String,
    /// See [`Job::number`].
    pub number: i64,
    /// See [`Job::client`].
    pub client: String,
    /// See [`Job::repeats`].
    pub repeats: Option<String>,
    /// See [`Job::wish`].
    pub wish: Wish,
    /// See [`Job::has_attachments`].
    pub has_attachments: bool,
    /// See [`Job::request`].
    pub request: Request,
    /// See [`Job::budget`].
    pub budget: Budget,
    /// See [`Job::kind`].
    pub kind: Kind,
    /// See [`Job::warnings`].
    pub warnings: Vec<String>,
    /// See [`Job::expected_ms`].
    pub expected_ms: f64,
    /// See [`Job::room_bytes`].
    pub room_bytes: u64,
    /// See [`Job::deadline`].
    pub deadline: Instant,
    /// See [`Job::created_ms`].
    pub created_ms: i64,
}

impl Job {
    /// A job that waits.
    #[must_use]
    pub fn new(new: NewJob) -> Arc<Self> {
        let NewJob { id, number, client, repeats, wish, has_attachments, request, budget, kind, warnings, .. } = new;
        let NewJob { expected_ms, room_bytes, deadline, created_ms, .. } = new;
        let state = JobEvent::State { state: State::Queued, place: None, wait_s: None };
        Arc::new(Self {
            id,
            number,
            client,
            repeats,
            wish,
            has_attachments,
            request,
            budget,
            kind,
            warnings,
            expected_ms,
            room_bytes,
            deadline,
            created_ms,
            cancel: Cancel::new(),
            course: Mutex::default(),
            present: Mutex::new(Present { state, step: None, preview: None, end: None, started: None }),
            events: broadcast::Sender::new(EVENTS_KEPT),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the watchers, and whoever comes later.
    pub fn tell(&self, event: JobEvent) {
        let mut present = self.lock();
        if present.end.is_some() {
            return;
        }
        match &event {
            JobEvent::State { state, .. } => {
                if *state == State::Running && present.started.is_none() {
                    present.started = Some((Instant::now(), now_ms()));
                }
                present.state = event.clone();
            }
            JobEvent::Step { .. } => present.step = Some(event.clone()),
            JobEvent::Preview { .. } => present.preview = Some(event.clone()),
            JobEvent::End { state, .. } => {
                present.state = JobEvent::State { state: *state, place: None, wait_s: None };
                present.end = Some(event.clone());
                present.preview = None;
            }
        }
        // Under the lock, so that a new watcher sees each event once; nobody listening is no fault.
        let _ = self.events.send(event);
    }

    /// The present, and every event from now on.
    #[must_use]
    pub fn watch(&self) -> (Present, broadcast::Receiver<JobEvent>) {
        let present = self.lock();
        (present.clone(), self.events.subscribe())
    }

    /// The present.
    #[must_use]
    pub fn present(&self) -> Present {
        self.lock().clone()
    }

    /// Whether anybody looks on.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.events.receiver_count() > 0
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops it; of several reasons the first counts. Once its pictures are made, its deadline is none.
    pub fn stop(&self, why: Problem) {
        let mut course = self.course();
        if course.is_made && why.code == Code::Deadline {
            return;
        }
        course.stopped_by.get_or_insert(why);
        self.cancel.cancel();
    }

    /// Says that its pictures are made.
    ///
    /// # Errors
    /// It was stopped before.
    pub fn set_made(&self) -> Result<()> {
        let mut course = self.course();
        self.cancel.check()?;
        course.is_made = true;
        Ok(())
    }

    /// Whether its pictures are made.
    #[must_use]
    pub fn is_made(&self) -> bool {
        self.course().is_made
    }

    /// Why it was stopped.
    #[must_use]
    pub fn stopped_by(&self) -> Option<Problem> {
        self.course().stopped_by.clone()
    }

    /// How it ends after it was stopped.
    #[must_use]
    pub fn stopped_state(&self) -> State {
        match self.stopped_by().map(|why| why.code) {
            Some(Code::Interrupted) => State::Interrupted,
            Some(Code::Deadline) => State::Failed,
            _ => State::Cancelled,
        }
    }
}

/// Unix time in milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
