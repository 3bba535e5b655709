//! The server's own interface over HTTP: which address does what.

mod access;
mod answer;
mod body;
mod connection;
mod cors;
mod dialect;
mod events;
mod jobs;
mod made;
mod openai;
mod openai_request;
mod operator;
mod page;
mod webui;
mod webui_defaults;
mod webui_request;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

pub use access::{Access, Tokens};
pub(super) use connection::{Listener, accept};
pub use cors::check_origin;
pub(super) use webui::Choices;

use super::dispatcher::Dispatcher;

/// What the handlers share.
pub(super) struct App {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) access: Access,
    pub(super) patience: Duration,
    pub(super) log_prompts: bool,
    pub(super) choices: webui::Choices,
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
        .route("/v1/models", get(openai::models))
        .route("/v1/models/{id}", get(openai::show_model))
        .route("/v1/images/generations", post(openai::generations))
        .route("/v1/images/edits", post(openai::edits))
        .route("/v1/images/variations", post(openai::variations))
        .nest("/sdapi/v1", webui_router())
        .fallback(answer::nowhere)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), access::guard))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .layer(axum::middleware::from_fn(access::log_access))
        .with_state(app)
}

/// The interface of Stable Diffusion web UI.
fn webui_router() -> Router<Arc<App>> {
    let router = Router::new()
        .route("/txt2img", post(webui::txt2img))
        .route("/img2img", post(webui::img2img))
        .route("/progress", get(webui::progress))
        .route("/interrupt", post(webui::interrupt))
        .route("/options", get(webui::options).post(webui::set_options))
        .route("/png-info", post(webui::png_info))
        .route("/sd-models", get(webui::sd_models))
        .route("/refresh-checkpoints", post(webui::refresh))
        .route("/samplers", get(webui::list_samplers))
        .route("/schedulers", get(webui::list_schedulers))
        .route("/scripts", get(webui::scripts));
    webui::EMPTY_LISTS.iter().fold(router, |router, path| router.route(path, get(webui::nothing)))
}
