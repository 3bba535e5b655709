//! The server's own interface over HTTP: which address does what.

mod access;
mod answer;
mod connection;
mod events;
mod jobs;
mod operator;
mod page;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use access::{Access, Tokens};
pub(super) use connection::{Listener, accept};

use super::dispatcher::Dispatcher;

/// What the handlers share.
pub(super) struct App {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) access: Access,
    pub(super) patience: Duration,
    pub(super) log_prompts: bool,
}

/// Who speaks on a connection: an address, or `local` on a Unix socket.
#[derive(Debug, Clone)]
pub(super) struct Peer(pub(super) String);

/// Among whom the workers are shared: a token's name, else the peer's address.
#[derive(Debug, Clone)]
pub(super) struct Client(pub(super) String);

pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::index))
        .route("/page/{name}", get(page::file))
        .route("/healthz", get(operator::health))
        .route("/readyz", get(operator::ready))
        .route("/metrics", get(operator::metrics))
        .route("/status", get(operator::status))
        .route("/bundles", get(operator::bundles))
        .route("/lineage", get(operator::lineage))
        .route("/plan", post(jobs::plan))
        .route("/jobs", post(jobs::submit).get(jobs::list))
        .route("/jobs/{id}", get(jobs::show).delete(jobs::delete))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/jobs/{id}/repeat", post(jobs::repeat))
        .route("/jobs/{id}/events", get(events::events))
        .route("/jobs/{id}/pictures/{n}", get(jobs::picture))
        .fallback(answer::nowhere)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), access::guard))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .layer(axum::middleware::from_fn(access::log_access))
        .with_state(app)
}
