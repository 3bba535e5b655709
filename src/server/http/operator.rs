//! What an operator and a page ask: is it alive, is it ready, how much it does, which models and which family tree there are.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::answer::{blocking, json_of};
use super::openapi::Locked;
use crate::lineage::{Branch, Paper, Run, Tree};
use crate::runtime::{MachineMemory, Temperature, free_disk_bytes, peak_memory_bytes, resident_memory_bytes};
use crate::server::catalogue::BundleDescription;
use crate::server::problem::{Code, Problem};

/// Whether the process answers.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// Always true.
    alive: bool,
}

/// Says that the server lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, description = "It lives", body = Health)))]
pub(super) async fn health() -> Response<Body> {
    json_of(StatusCode::OK, &Health { alive: true })
}

/// Whether jobs are taken and succeed.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Whether it is ready.
    ready: bool,
    /// Why it is not; without the reason, as whoever asks here may have no token.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<Code>,
}

/// Says whether the server is ready.
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses(
        (status = 200, description = "It is", body = Readiness),
        (status = 503, description = "It ends, has no room on its disk, or a model fails", body = Readiness)
    )
)]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response<Body> {
    match app.dispatcher.not_ready() {
        None => json_of(StatusCode::OK, &Readiness { ready: true, code: None }),
        Some(problem) => json_of(StatusCode::SERVICE_UNAVAILABLE, &Readiness { ready: false, code: Some(problem.code) }),
    }
}

/// The models.
#[derive(Serialize, ToSchema)]
pub(super) struct Bundles {
    /// The default first.
    bundles: Vec<BundleDescription>,
}

/// Lists the models.
#[utoipa::path(get, path = "/bundles", tag = "models", responses((status = 200, description = "The models", body = Bundles), Locked))]
pub(super) async fn bundles(State(app): State<Arc<App>>) -> Response<Body> {
    let models = app.dispatcher.catalogue.models().iter().enumerate();
    json_of(StatusCode::OK, &Bundles { bundles: models.map(|(index, model)| model.describe(index == 0)).collect() })
}

/// The family tree of generative models.
#[derive(Serialize, ToSchema)]
pub(super) struct Lineage {
    /// Its branches.
    branches: Vec<Branch>,
    /// Its nodes, the oldest first.
    algorithms: Vec<Node>,
}

/// A node of the family tree.
#[derive(Serialize, ToSchema)]
pub(super) struct Node {
    /// What it is called.
    name: String,
    /// As people call it.
    title: String,
    /// When it was published.
    year: u16,
    /// The branch on which it grows.
    branch: String,
    /// What it grew from.
    parents: Vec<String>,
    /// What grew from it.
    children: Vec<String>,
    /// Where it was published.
    paper: Paper,
    /// What it changed, in one sentence.
    changed: String,
    /// Its formula.
    formula: String,
    /// How often its network is called for a picture.
    calls: Option<String>,
    /// What shows it.
    runs: Vec<Run>,
    /// Its story, a paragraph each.
    story: Vec<String>,
    /// Whether a model that is served shows it.
    installed: bool,
}

/// Tells the family tree.
#[utoipa::path(get, path = "/lineage", tag = "models", responses((status = 200, description = "The tree", body = Lineage), Locked))]
pub(super) async fn lineage(State(app): State<Arc<App>>) -> Result<Response<Body>, Problem> {
    let tree = Tree::carried()?;
    let served: Vec<&str> = app.dispatcher.catalogue.models().iter().map(|model| model.name.as_str()).collect();
    let algorithms = tree.algorithms().iter().map(|algorithm| Node {
        children: tree.children(&algorithm.name).map(|child| child.name.clone()).collect(),
        story: algorithm.paragraphs().collect(),
        installed: algorithm.runs.iter().any(|run| served.contains(&run.bundle.as_str())),
        name: algorithm.name.clone(),
        title: algorithm.title.clone(),
        year: algorithm.year,
        branch: algorithm.branch.clone(),
        parents: algorithm.parents.clone(),
        paper: algorithm.paper.clone(),
        changed: algorithm.changed.clone(),
        formula: algorithm.formula.clone(),
        calls: algorithm.calls.clone(),
        runs: algorithm.runs.clone(),
    });
    let algorithms = algorithms.collect();
    Ok(json_of(StatusCode::OK, &Lineage { branches: tree.branches().to_vec(), algorithms }))
}

/// How the server is.
#[derive(Serialize, ToSchema)]
pub(super) struct Status {
    /// Kiln's version.
    version: String,
    /// Whether it is about to end.
    draining: bool,
    /// Why it is not ready, if it is not.
    not_ready: Option<String>,
    /// Jobs that wait and run.
    queue: QueueStatus,
    /// Jobs since the start.
    jobs: JobCounts,
    /// Memory.
    memory: MemoryStatus,
    /// What is measured on the board.
    temperatures: Vec<Temperature>,
    /// Room where the server keeps its state, in bytes.
    free_disk_bytes: Option<u64>,
}

/// Jobs that wait and run.
#[derive(Serialize, ToSchema)]
pub(super) struct QueueStatus {
    /// Jobs that wait.
    waiting: usize,
    /// Jobs that run.
    running: usize,
    /// The most that may wait.
    most: usize,
}

/// Jobs since the start.
#[derive(Serialize, ToSchema)]
pub(super) struct JobCounts {
    /// Accepted.
    accepted: u64,
    /// Finished.
    finished: u64,
    /// Failed.
    failed: u64,
    /// Stopped or interrupted.
    stopped: u64,
    /// Turned away because the queue was full.
    turned_away: u64,
    /// How long finished ones ran in the mean, in seconds.
    mean_s: Option<f64>,
}

/// Memory of the process and of the machine.
#[derive(Serialize, ToSchema)]
pub(super) struct MemoryStatus {
    /// What the process holds, in bytes.
    resident_bytes: Option<u64>,
    /// The most that it held, in bytes.
    peak_bytes: Option<u64>,
    /// The machine's.
    machine: MachineMemory,
}

/// Says how the server is: queue, counts, memory, temperatures.
#[utoipa::path(get, path = "/status", tag = "operation", responses((status = 200, description = "How it is", body = Status), Locked))]
pub(super) async fn status(State(app): State<Arc<App>>) -> Result<Response<Body>, Problem> {
    blocking(move || {
        let dispatcher = &app.dispatcher;
        let (waiting, running) = dispatcher.load();
        // Not the whole board: reading the processor takes some machines longer than a page waits.
        let root = Path::new("/");
        let counters = &dispatcher.counters;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let finished = count(&counters.finished);
        let mean_s = (finished > 0).then(|| count(&counters.busy_ms) as f64 / finished as f64 / 1_000.0);
        let status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: dispatcher.is_draining(),
            not_ready: dispatcher.not_ready().map(|problem| problem.message),
            queue: QueueStatus { waiting, running, most: dispatcher.limits.queue },
            jobs: JobCounts {
                accepted: count(&counters.accepted),
                finished,
                failed: count(&counters.failed),
                stopped: count(&counters.stopped),
                turned_away: count(&counters.turned_away),
                mean_s,
            },
            memory: MemoryStatus {
                resident_bytes: resident_memory_bytes(),
                peak_bytes: peak_memory_bytes(),
                machine: MachineMemory::of_machine(root),
            },
            temperatures: Temperature::of_machine(root),
            free_disk_bytes: free_disk_bytes(dispatcher.store.folder()),
        };
        Ok(json_of(StatusCode::OK, &status))
    })
    .await
}

/// Counts and gauges, as Prometheus reads them.
#[utoipa::path(
    get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "The figures", content_type = "text/plain", body = String), Locked)
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response<Body> {
    let dispatcher = &app.dispatcher;
    let counters = &dispatcher.counters;
    let (waiting, running) = dispatcher.load();
    let mut text = String::new();
    let mut row = |name: &str, kind: &str, help: &str, value: f64| {
        let _ = writeln!(text, "# HELP kiln_{name} {help}\n# TYPE kiln_{name} {kind}\nkiln_{name} {value}");
    };
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
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
