//! Jobs over HTTP: asked for, looked at, stopped, repeated, deleted; their pictures; plans.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{blocking, json_of};
use super::{App, Client, body};
use crate::server::catalogue::plan_json;
use crate::server::job::{JobEvent, State as JobState};
use crate::server::problem::{Code, Problem};
use crate::server::speed::Kind;
use crate::server::store::Record;
use crate::server::wish::{Attachments, Wish};

const MOST_LISTED: usize = 200;
const USUALLY_LISTED: usize = 50;

type Answer = Result<Response<Body>, Problem>;

/// Reads the body of a request within its limits of size and time.
async fn wish_of(app: &App, request: Request) -> Result<(Wish, Attachments), Problem> {
    let mut wish: Wish = body::object(app, request).await?;
    let attachments = wish.take_attachments()?;
    Ok((wish, attachments))
}

/// `POST /jobs`
pub(super) async fn submit(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    let (wish, attachments) = wish_of(&app, request).await?;
    if app.log_prompts {
        log::info!(target: "kiln::prompts", "client={} prompt={:?}", client.0, wish.prompt);
    }
    blocking(move || {
        let job = app.dispatcher.submit(&client.0, wish, attachments, None)?;
        Ok(json_of(StatusCode::ACCEPTED, &value_of(&app, &find(&app, &job.id)?)))
    })
    .await
}

/// `POST /plan`
pub(super) async fn plan(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (wish, attachments) = wish_of(&app, request).await?;
    blocking(move || {
        let dispatcher = &app.dispatcher;
        let (_, _, resolved, plan) = dispatcher.plan(&wish, &attachments)?;
        let model = dispatcher.catalogue.find(wish.model.as_deref())?;
        let mut value = plan_json(model, &resolved, &plan);
        let kind = Kind {
            model: model.name.clone(),
            size: (resolved.width, resolved.height),
            steps: resolved.steps,
            count: resolved.count,
        };
        value["expected_time_s"] = json!(dispatcher.speeds.expect_ms(&kind, plan.forecast.time_ms) / 1_000.0);
        Ok(json_of(StatusCode::OK, &value))
    })
    .await
}

fn number<T: std::str::FromStr>(query: &HashMap<String, String>, name: &str) -> Result<Option<T>, Problem> {
    let Some(text) = query.get(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Problem::new(Code::Malformed, format!("{name}: expected a number")))
}

/// `GET /jobs?limit&before`
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<HashMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|error| Problem::new(Code::Malformed, error.to_string()))?;
    let limit = number::<usize>(&query, "limit")?.unwrap_or(USUALLY_LISTED).clamp(1, MOST_LISTED);
    let before = number::<i64>(&query, "before")?;
    blocking(move || {
        let records = app.dispatcher.store.list(limit, before)?;
        let jobs: Vec<Value> = records.iter().map(|record| value_of(&app, record)).collect();
        let next = if records.len() == limit { records.last().map(|record| record.number) } else { None };
        Ok(json_of(StatusCode::OK, &json!({ "jobs": jobs, "next": next })))
    })
    .await
}

/// `GET /jobs/{id}`
pub(super) async fn show(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    blocking(move || Ok(json_of(StatusCode::OK, &value_of(&app, &find(&app, &id)?)))).await
}

/// `POST /jobs/{id}/cancel`; a job that has ended stays as it is.
pub(super) async fn cancel(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        if let Some(job) = app.dispatcher.live(&id) {
            app.dispatcher.stop(&job, Problem::new(Code::Conflict, "it was stopped by a client"));
        }
        Ok(json_of(StatusCode::OK, &value_of(&app, &find(&app, &id)?)))
    })
    .await
}

/// `POST /jobs/{id}/repeat`
pub(super) async fn repeat(State(app): State<Arc<App>>, Extension(client): Extension<Client>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let job = app.dispatcher.repeat(&client.0, &find(&app, &id)?)?;
        Ok(json_of(StatusCode::ACCEPTED, &value_of(&app, &find(&app, &job.id)?)))
    })
    .await
}

/// `DELETE /jobs/{id}`
pub(super) async fn delete(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let record = find(&app, &id)?;
        if !record.state.is_end() {
            return Err(Problem::new(Code::Conflict, "the job has not ended; cancel it first"));
        }
        app.dispatcher.store.delete(&record)?;
        Ok(json_of(StatusCode::OK, &json!({ "id": id, "deleted": true })))
    })
    .await
}

/// `GET /jobs/{id}/pictures/{n}`
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
    app.dispatcher.store.find(id)?.ok_or_else(|| Problem::new(Code::NotFound, "there is no such job"))
}

/// A job as JSON: what is kept of it, and where it stands now.
fn value_of(app: &App, record: &Record) -> Value {
    let (created_ms, started_ms, ended_ms) = record.times_ms;
    let mut value = json!({
        "id": record.id, "number": record.number, "state": record.state, "client": record.client, "model": record.model, "wish": record.wish,
        "repeats": record.repeats, "created_ms": created_ms, "started_ms": started_ms, "ended_ms": ended_ms, "error": record.error,
        "pictures": record.pictures, "events": format!("/jobs/{}/events", record.id),
    });
    if let Some(job) = app.dispatcher.live(&record.id).filter(|_| !record.state.is_end()) {
        let present = job.present();
        if let JobEvent::State { state, place, wait_s } = present.state {
            value["state"] = json!(if state.is_end() { JobState::Running } else { state });
            value["place"] = json!(place);
            value["wait_s"] = json!(wait_s);
        }
        if let Some(JobEvent::Step { step, steps, left_s }) = present.step {
            value["step"] = json!(step);
            value["steps"] = json!(steps);
            value["left_s"] = json!(left_s);
        }
        value["expected_s"] = json!(job.expected_ms / 1_000.0);
        value["started_ms"] = json!(present.started.map(|(_, ms)| ms));
    }
    value
}
