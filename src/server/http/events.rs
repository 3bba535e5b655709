//! What happens to a job, as server-sent events.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use futures_util::stream::unfold;
use serde::Deserialize;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::answer::blocking;
use super::jobs::find;
use super::openapi::{Locked, OfJob, ProblemBody};
use crate::server::dispatcher::Dispatcher;
use crate::server::job::{Job, JobEvent, Present};
use crate::server::problem::{Code, Problem};

/// A comment after this time without an event: a client that is gone is found out by it.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(5);

/// Stops a job when it is dropped before the job has ended: whoever asked for it is gone.
pub(super) struct Owner {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) job: Arc<Job>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.job.present().end.is_some() {
            return;
        }
        let (dispatcher, job) = (Arc::clone(&self.dispatcher), Arc::clone(&self.job));
        let stop = move || dispatcher.stop(&job, Problem::new(Code::Conflict, "the client that owned it went away"));
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(stop)),
            Err(_) => stop(),
        }
    }
}

struct Watching {
    due: VecDeque<JobEvent>,
    events: Receiver<JobEvent>,
    job: Arc<Job>,
    ended: bool,
    _owner: Option<Owner>,
}

/// How a job is watched.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Watch {
    /// Whether the job is stopped when this connection ends before it does.
    #[serde(default)]
    own: bool,
}

/// A server-sent event as it is written.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for lines of text in the document alone")]
pub(super) struct EventLines {
    /// `state`, `step`, `preview` or `end`.
    event: String,
    /// A `JobEvent` as JSON.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// What happens to a job, as server-sent events: `state`, `step`, `preview` and at last `end`; first of all where it stands.
#[utoipa::path(
    get, path = "/jobs/{id}/events", tag = "jobs", params(("id" = String, Path, description = "The job's name"), Watch),
    responses(
        (status = 200, description = "The events", content_type = "text/event-stream", body = EventLines),
        (status = 400, description = "`malformed`", body = ProblemBody),
        OfJob, Locked
    )
)]
pub(super) async fn events(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    query: Result<Query<Watch>, axum::extract::rejection::QueryRejection>,
) -> Result<Response<Body>, Problem> {
    let Query(Watch { own }) = query.map_err(|error| Problem::new(Code::Malformed, error.to_string()))?;
    let Some(job) = app.dispatcher.live(&id) else {
        let record = blocking(move || find(&app, &id)).await?;
        let text = [
            JobEvent::State { state: record.state, place: None, wait_s: None },
            JobEvent::End { state: record.state, pictures: record.pictures, error: record.error },
        ];
        let bytes: Vec<u8> = text.iter().flat_map(written).collect();
        return Ok(response(Body::from(bytes)));
    };
    let (present, events) = job.watch();
    let owner = own.then(|| Owner { dispatcher: Arc::clone(&app.dispatcher), job: Arc::clone(&job) });
    let watching = Watching { due: due(present), events, job, ended: false, _owner: owner };
    let stream = unfold(watching, |mut watching| async move {
        let bytes = next(&mut watching).await?;
        Some((Ok::<Bytes, Infallible>(bytes.into()), watching))
    });
    Ok(response(Body::from_stream(stream)))
}

fn due(present: Present) -> VecDeque<JobEvent> {
    [Some(present.state), present.step, present.preview, present.end].into_iter().flatten().collect()
}

async fn next(watching: &mut Watching) -> Option<Vec<u8>> {
    if watching.ended {
        return None;
    }
    loop {
        if let Some(event) = watching.due.pop_front() {
            watching.ended = matches!(event, JobEvent::End { .. });
            return Some(written(&event));
        }
        match tokio::time::timeout(HEARTBEAT, watching.events.recv()).await {
            Err(_) => return Some(b": alive\n\n".to_vec()),
            Ok(Ok(event)) => watching.due.push_back(event),
            // A watcher that is too slow for every event is told the present.
            Ok(Err(RecvError::Lagged(_))) => {
                let (present, events) = watching.job.watch();
                (watching.due, watching.events) = (due(present), events);
            }
            Ok(Err(RecvError::Closed)) => return None,
        }
    }
}

fn written(event: &JobEvent) -> Vec<u8> {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("event: {}\ndata: {data}\n\n", event.name()).into_bytes()
}

fn response(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
