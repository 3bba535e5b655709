//! What an operator and a page ask: is it alive, is it ready, how much it does, which models and which family tree there are.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use super::App;
use super::answer::{blocking, json_of};
use crate::lineage::Tree;
use crate::runtime::{Board, free_disk_bytes, peak_memory_bytes, resident_memory_bytes};
use crate::server::problem::Problem;

/// `GET /healthz`
pub(super) async fn health() -> Response<Body> {
    json_of(StatusCode::OK, &json!({ "alive": true }))
}

/// `GET /readyz`
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    match app.dispatcher.not_ready() {
        None => json_of(StatusCode::OK, &json!({ "ready": true })),
        // Without the reason: whoever asks here may have no token.
        Some(problem) => json_of(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "code": problem.code.name() })),
    }
}

/// `GET /bundles`
pub(super) async fn bundles(State(app): State<Arc<App>>) -> Response<Body> {
    let models = app.dispatcher.catalogue.models().iter().enumerate();
    let bundles: Vec<Value> = models.map(|(index, model)| model.describe(index == 0)).collect();
    json_of(StatusCode::OK, &json!({ "bundles": bundles }))
}

/// `GET /lineage`
pub(super) async fn lineage(State(app): State<Arc<App>>) -> Result<Response<Body>, Problem> {
    let tree = Tree::carried()?;
    let served: Vec<&str> = app.dispatcher.catalogue.models().iter().map(|model| model.name.as_str()).collect();
    let mut algorithms = Vec::new();
    for algorithm in tree.algorithms() {
        let mut value = serde_json::to_value(algorithm).map_err(anyhow::Error::from)?;
        value["children"] = tree.children(&algorithm.name).map(|child| child.name.clone()).collect();
        value["story"] = algorithm.paragraphs().collect();
        value["installed"] = json!(algorithm.runs.iter().any(|run| served.contains(&run.bundle.as_str())));
        algorithms.push(value);
    }
    Ok(json_of(StatusCode::OK, &json!({ "branches": tree.branches(), "algorithms": algorithms })))
}

/// `GET /status`
pub(super) async fn status(State(app): State<Arc<App>>) -> Result<Response<Body>, Problem> {
    blocking(move || {
        let dispatcher = &app.dispatcher;
        let (waiting, running) = dispatcher.load();
        let board = Board::read(Path::new("/"));
        let counters = &dispatcher.counters;
        let finished = counters.finished.load(Ordering::Relaxed);
        let busy_ms = counters.busy_ms.load(Ordering::Relaxed);
        let mean_s = (finished > 0).then(|| busy_ms as f64 / finished as f64 / 1_000.0);
        Ok(json_of(
            StatusCode::OK,
            &json!({
                "version": env!("CARGO_PKG_VERSION"), "draining": dispatcher.is_draining(),
                "not_ready": dispatcher.not_ready().map(|problem| problem.message),
                "queue": { "waiting": waiting, "running": running, "most": dispatcher.limits.queue },
                "jobs": { "accepted": counters.accepted.load(Ordering::Relaxed), "finished": finished, "failed": counters.failed.load(Ordering::Relaxed),
                    "stopped": counters.stopped.load(Ordering::Relaxed), "turned_away": counters.turned_away.load(Ordering::Relaxed), "mean_s": mean_s },
                "memory": { "resident_bytes": resident_memory_bytes(), "peak_bytes": peak_memory_bytes(), "machine": board.memory },
                "temperatures": board.temperatures, "free_disk_bytes": free_disk_bytes(dispatcher.store.folder()),
            }),
        ))
    })
    .await
}

/// `GET /metrics`, as Prometheus reads it.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let dispatcher = &app.dispatcher;
    let counters = &dispatcher.counters;
    let (waiting, running) = dispatcher.load();
    let mut text = String::new();
    let mut row = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(text, "# HELP kiln_{name} {help}\n# TYPE kiln_{name} {kind}\nkiln_{name} {value}");
    };
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
    row("jobs_accepted_total", "counter", "Jobs that were accepted.", count(&counters.accepted));
    row(
        "jobs_turned_away_total",
        "counter",
        "Jobs that were turned away because the queue was full.",
        count(&counters.turned_away),
    );
    row("jobs_finished_total", "counter", "Jobs that made their pictures.", count(&counters.finished));
    row("jobs_failed_total", "counter", "Jobs that failed.", count(&counters.failed));
    row("jobs_stopped_total", "counter", "Jobs that were stopped or interrupted.", count(&counters.stopped));
    row("pictures_total", "counter", "Pictures that were made.", count(&counters.pictures));
    row("busy_seconds_total", "counter", "Time that finished jobs ran.", count(&counters.busy_ms) / 1_000.0);
    row("queue_waiting", "gauge", "Jobs that wait.", waiting as f64);
    row("queue_running", "gauge", "Jobs that run.", running as f64);
    row("ready", "gauge", "1 where the server is ready.", f64::from(u8::from(dispatcher.not_ready().is_none())));
    if let Some(bytes) = resident_memory_bytes() {
        row("resident_memory_bytes", "gauge", "Memory that the process holds.", bytes as f64);
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
