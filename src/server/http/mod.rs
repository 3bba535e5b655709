//! The server's interfaces over HTTP: which address does what.

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
use axum::routing::get;
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
        .merge(axum::Router::from(api_router()))
        .merge(empty_lists())
        .fallback(answer::nowhere)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), access::guard))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .layer(axum::middleware::from_fn(access::log_access))
        .with_state(app)
}

/// What programs ask for, with what the document says of it.
fn api_router() -> OpenApiRouter<Arc<App>> {
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
        .routes(routes!(openai::models))
        .routes(routes!(openai::show_model))
        .routes(routes!(openai::generations))
        .routes(routes!(openai::edits))
        .routes(routes!(openai::variations))
        .routes(routes!(webui::txt2img))
        .routes(routes!(webui::img2img))
        .routes(routes!(webui::progress))
        .routes(routes!(webui::interrupt))
        .routes(routes!(webui::options, webui::set_options))
        .routes(routes!(webui::png_info))
        .routes(routes!(webui::sd_models))
        .routes(routes!(webui::refresh))
        .routes(routes!(webui::list_samplers))
        .routes(routes!(webui::list_schedulers))
        .routes(routes!(webui::scripts))
}

/// Lists of what web UI has and Kiln has not; the document leaves them out.
fn empty_lists() -> Router<Arc<App>> {
    let list = |router: Router<Arc<App>>, name: &&str| router.route(&format!("/sdapi/v1{name}"), get(webui::nothing));
    webui::EMPTY_LISTS.iter().fold(Router::new(), list)
}

#[cfg(test)]
mod tests {
    #[test]
    fn routes_are_mounted_with_their_annotations() {
        // The page's files have no place in the document; everything else has.
        let mounted = concat!(".rou", "te(\"");
        let paths: Vec<&str> = include_str!("mod.rs").split(mounted).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(paths, ["/", "/page/{name}"]);
    }
}
