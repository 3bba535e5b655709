//! The server's own interface over HTTP: which address does what.

mod access;
mod answer;
mod body;
mod connection;
mod cors;
mod description;
mod dialect;
mod events;
mod jobs;
mod made;
mod openai;
mod openai_request;
mod openapi;
mod operator;
mod page;
mod room;
mod webui;
mod webui_defaults;
mod webui_request;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use access::{Access, Tokens};
pub(super) use connection::{Listener, accept};
pub use cors::check_origin;
pub(super) use room::Rooms;
pub(super) use webui::Choices;

use super::dispatcher::Dispatcher;

/// What the handlers share.
pub(super) struct App {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) access: Access,
    pub(super) patience: Duration,
    pub(super) log_prompts: bool,
    pub(super) choices: webui::Choices,
    pub(super) rooms: Rooms,
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
        .merge(axum::Router::from(own_router()))
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

/// The server's own interface, with what its document says of it.
fn own_router() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::Interface::openapi())
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::show, jobs::delete))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::repeat))
        .routes(routes!(events::events))
        .routes(routes!(jobs::picture))
        .routes(routes!(jobs::plan))
        .routes(routes!(operator::bundles))
        .routes(routes!(operator::lineage))
        .routes(routes!(operator::status))
        .routes(routes!(operator::health))
        .routes(routes!(operator::ready))
        .routes(routes!(operator::metrics))
        .routes(routes!(openapi::document))
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

#[cfg(test)]
mod tests {
    #[test]
    fn the_servers_own_routes_are_mounted_with_their_annotations() {
        // The page's files and other servers' interfaces have no place in the document; everything else has.
        let mounted = concat!(".rou", "te(\"");
        let paths: Vec<&str> = include_str!("mod.rs").split(mounted).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let of_web_ui = paths.iter().skip_while(|path| **path != "/txt2img").count();
        assert!(of_web_ui >= 11, "{paths:?}");
        for path in paths.iter().take(paths.len() - of_web_ui) {
            assert!(matches!(*path, "/" | "/page/{name}") || path.starts_with("/v1/"), "{path} is in no document");
        }
    }
}
