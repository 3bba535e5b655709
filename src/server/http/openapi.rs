//! The server's interfaces as an OpenAPI document, out of the annotations beside the handlers.
//!
//! A handler is mounted through `routes!`, which takes its address and method out of its annotation, so that routes and document cannot
//! differ. Of other servers' interfaces it says what Kiln does with them. Not here: the page's files.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use serde::Serialize;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use super::made::plain_status;
use super::openai::OpenaiProblem;
use super::webui::{self, WebuiProblem};
use crate::server::job::JobEvent;
use crate::server::problem::Code;

/// What the document says of the interface as a whole.
#[derive(OpenApi)]
#[openapi(
    info(title = "Kiln", description = "Pictures made on the device itself: jobs, what becomes of them, what there is to make them with."),
    security((), ("token" = [])),
    modifiers(&Token),
    components(schemas(ProblemBody, JobEvent, OpenaiProblem, WebuiProblem)),
    tags(
        (name = "jobs", description = "Pictures: asked for, watched, fetched, stopped, made again."),
        (name = "models", description = "What pictures are made with, and how they would be made."),
        (name = "operation", description = "How the server is."),
        (name = "openai", description = "Images as clients of OpenAI's interface ask for them."),
        (name = "webui", description = "Images as clients of Stable Diffusion web UI ask for them."),
    ),
)]
pub(super) struct Interface;

/// A token is asked for where the operator has set one.
struct Token;

impl Modify for Token {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// Why something was not done.
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemBody {
    pub(super) error: ProblemDetails,
}

/// A word for programs, a sentence for people.
#[derive(Serialize, ToSchema)]
pub(super) struct ProblemDetails {
    pub(super) code: Code,
    pub(super) message: String,
}

/// Problems of everything that asks for a token.
pub(super) struct Locked;
/// Of what is about one job.
pub(super) struct OfJob;
/// Of what changes something.
pub(super) struct Changing;
/// Of a wish that is sent.
pub(super) struct Wishing;
/// Of a job that is to be taken in.
pub(super) struct Accepting;

impl IntoResponses for Locked {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[Code::Unauthorized, Code::UnknownHost, Code::Internal])
    }
}

impl IntoResponses for OfJob {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[Code::NotFound])
    }
}

impl IntoResponses for Changing {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[Code::ForeignOrigin])
    }
}

impl IntoResponses for Wishing {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[
            Code::Malformed,
            Code::NotFound,
            Code::TooLarge,
            Code::UnsupportedMediaType,
            Code::RequestTimeout,
            Code::Refused,
            Code::Policy,
            Code::Busy,
        ])
    }
}

impl IntoResponses for Accepting {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems(&[Code::QueueFull, Code::Draining, Code::DiskFull])
    }
}

/// Every problem, as OpenAI's clients are told of it.
pub(super) struct OfOpenai;
/// The same for web UI's.
pub(super) struct OfWebui;

impl IntoResponses for OfOpenai {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems_as(&Code::ALL, "OpenaiProblem", plain_status)
    }
}

impl IntoResponses for OfWebui {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        problems_as(&Code::ALL, "WebuiProblem", webui::status)
    }
}

/// Responses that carry `codes`, by status.
fn problems(codes: &[Code]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    problems_as(codes, "ProblemBody", Code::status)
}

/// Responses with a body of `schema` that carry `codes`, by the status that `status_of` gives them.
fn problems_as(
    codes: &[Code],
    schema: &str,
    status_of: impl Fn(Code) -> u16,
) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let mut words: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in codes {
        words.entry(status_of(*code)).or_default().push(format!("`{}`", code.name()));
    }
    let response = |(status, words): (u16, Vec<String>)| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
        let response = ResponseBuilder::new().description(words.join(" or ")).content("application/json", content);
        (status.to_string(), response.build().into())
    };
    words.into_iter().map(response).collect()
}

static DOCUMENT: LazyLock<Bytes> =
    LazyLock::new(|| serde_json::to_vec(&super::api_router().into_openapi()).unwrap_or_default().into());

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", responses((status = 200, description = "The interface", body = serde_json::Value)))]
pub(super) async fn document() -> Response<Body> {
    let mut response = Response::new(Body::from(DOCUMENT.clone()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
