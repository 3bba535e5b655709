//! Jobs over HTTP: asked for, looked at, stopped, repeated, deleted; their pictures; plans.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::{blocking, json_of};
use super::description::{JobDescription, JobList};
use super::openapi::{Accepting, Changing, Locked, OfJob, ProblemBody, Wishing};
use super::room::Room;
use super::{App, Client, body};
use crate::error::PROMPTS;
use crate::server::catalogue::{PlanDescription, describe_plan};
use crate::server::dispatcher::Listed;
use crate::server::problem::{Code, Problem};
use crate::server::speed::Kind;
use crate::server::store::Record;
use crate::server::wish::{Attachments, Wish};

const MOST_LISTED: usize = 200;
const USUALLY_LISTED: usize = 50;

type Answer = Result<Response<Body>, Problem>;

/// Reads the body of a request within its limits of size and time; with its room in memory.
async fn wish_of(app: &App, request: Request) -> Result<(Wish, Attachments, Room), Problem> {
    let (mut wish, room): (Wish, Room) = body::object(app, request).await?;
    let attachments = wish.take_attachments()?;
    Ok((wish, attachments, room))
}

/// Takes a job in; once this is answered, the job survives the machine's power.
#[utoipa::path(
    post, path = "/jobs", tag = "jobs", request_body = Wish,
    responses((status = 202, description = "The job", body = JobDescription), Wishing, Accepting, Changing, Locked)
)]
pub(super) async fn submit(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    let (wish, attachments, room) = wish_of(&app, request).await?;
    if app.log_prompts {
        log::info!(target: PROMPTS, "client={} prompt={:?}", client.0, wish.prompt);
    }
    blocking(move || {
        let _room = room;
        let job = app.dispatcher.submit(&client.0, wish, attachments, None)?;
        Ok(json_of(StatusCode::ACCEPTED, &JobDescription::accepted(&job)))
    })
    .await
}

/// Says how a job would be carried out, or why it would be refused.
#[utoipa::path(
    post, path = "/plan", tag = "models", request_body = Wish,
    responses((status = 200, description = "The plan", body = PlanDescription), Wishing, Changing, Locked)
)]
pub(super) async fn plan(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (wish, attachments, room) = wish_of(&app, request).await?;
    blocking(move || {
        let _room = room;
        let dispatcher = &app.dispatcher;
        let (_, budget, resolved, plan) = dispatcher.plan(&wish, &attachments)?;
        let model = dispatcher.catalogue.find(wish.model.as_deref())?;
        let expected_ms = dispatcher.speeds.expect_ms(&Kind::of(&model.name, &resolved), plan.forecast.time_ms);
        Ok(json_of(StatusCode::OK, &describe_plan(model, &resolved, &plan, plan.warnings(&resolved, &budget), expected_ms)))
    })
    .await
}

/// Which jobs are listed.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// How many; 50 when left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// Jobs older than the one of this number.
    before: Option<i64>,
}

/// Lists jobs from the newest on.
#[utoipa::path(
    get, path = "/jobs", tag = "jobs", params(Part),
    responses((status = 200, description = "The jobs", body = JobList), (status = 400, description = "`malformed`", body = ProblemBody), Locked)
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<Part>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let malformed = |message: String| Problem::new(Code::Malformed, message);
    let Query(Part { limit, before }) = query.map_err(|error| malformed(error.to_string()))?;
    let limit = limit.unwrap_or(USUALLY_LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(malformed(format!("limit: is {limit}, expected 1 to {MOST_LISTED}")));
    }
    blocking(move || {
        let Listed { records, next } = app.dispatcher.list(limit, before)?;
        let jobs = records.into_iter().map(|record| described(&app, record)).collect();
        Ok(json_of(StatusCode::OK, &JobList { jobs, next }))
    })
    .await
}

/// Says where a job stands.
#[utoipa::path(
    get, path = "/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job's name")),
    responses((status = 200, description = "The job", body = JobDescription), OfJob, Locked)
)]
pub(super) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    blocking(move || Ok(json_of(StatusCode::OK, &described(&app, find(&app, &id)?)))).await
}

/// Stops a job within one kernel; one that has ended stays as it is.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path, description = "The job's name")),
    responses((status = 200, description = "The job", body = JobDescription), OfJob, Changing, Locked)
)]
pub(super) async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        if let Some(job) = app.dispatcher.live(&id) {
            app.dispatcher.stop(&job, Problem::new(Code::Conflict, "it was stopped by a client"));
        }
        Ok(json_of(StatusCode::OK, &described(&app, find(&app, &id)?)))
    })
    .await
}

/// Takes in a job with the same wish and the same seed.
#[utoipa::path(
    post, path = "/jobs/{id}/repeat", tag = "jobs", params(("id" = String, Path, description = "The job's name")),
    responses(
        (status = 202, description = "The new job", body = JobDescription),
        (status = 422, description = "`refused` or `policy`: the server has other limits or models since", body = ProblemBody),
        OfJob, Accepting, Changing, Locked
    )
)]
pub(super) async fn repeat(State(app): State<Arc<App>>, Extension(client): Extension<Client>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let job = app.dispatcher.repeat(&client.0, &find(&app, &id)?)?;
        Ok(json_of(StatusCode::ACCEPTED, &JobDescription::accepted(&job)))
    })
    .await
}

/// That a job is forgotten.
#[derive(Serialize, ToSchema)]
pub(super) struct Deleted {
    /// The job.
    id: String,
    /// Always true.
    deleted: bool,
}

/// Forgets an ended job and its pictures.
#[utoipa::path(
    delete, path = "/jobs/{id}", tag = "jobs", params(("id" = String, Path, description = "The job's name")),
    responses(
        (status = 200, description = "It is gone", body = Deleted),
        (status = 409, description = "`conflict`: it has not ended", body = ProblemBody),
        OfJob, Changing, Locked
    )
)]
pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let record = find(&app, &id)?;
        if !record.state.is_end() {
            return Err(Problem::new(Code::Conflict, "the job has not ended; cancel it first"));
        }
        app.dispatcher.delete(&record)?;
        Ok(json_of(StatusCode::OK, &Deleted { id, deleted: true }))
    })
    .await
}

/// A picture as a PNG file, with what made it in its text.
#[utoipa::path(
    get, path = "/jobs/{id}/pictures/{n}", tag = "jobs",
    params(("id" = String, Path, description = "The job's name"), ("n" = usize, Path, description = "The picture's number, from 0")),
    responses((status = 200, description = "The file", content_type = "image/png", body = Vec<u8>), OfJob, Locked)
)]
pub(super) async fn picture(State(app): State<Arc<App>>, Path((id, n)): Path<(String, String)>) -> Answer {
    blocking(move || {
        let none = || Problem::new(Code::NotFound, "there is no such picture");
        let n: usize = n.parse().map_err(|_| none())?;
        let record = find(&app, &id)?;
        let file = app.dispatcher.store.picture(&record, n)?.ok_or_else(none)?;
        let mut response = Response::new(Body::from(file));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
        // A picture never changes; whoever may see it keeps it.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
        Ok(response)
    })
    .await
}

pub(super) fn find(app: &App, id: &str) -> Result<Record, Problem> {
    app.dispatcher.find(id)?.ok_or_else(|| Problem::new(Code::NotFound, "there is no such job"))
}

/// A job as clients are told of it.
fn described(app: &App, record: Record) -> JobDescription {
    let live = app.dispatcher.live(&record.id);
    JobDescription::new(record, live.as_deref())
}
