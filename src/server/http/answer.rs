//! Problems and JSON as responses.

use std::any::Any;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;

use super::openapi::{ProblemBody, ProblemDetails};
use crate::server::problem::{Code, Problem};

/// JSON that nobody keeps.
pub(super) fn json_of(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let body = match serde_json::to_vec(value) {
        Ok(body) => body,
        Err(error) => return Problem::new(Code::Internal, error.to_string()).into_response(),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        if self.code == Code::Internal {
            log::error!("{}", self.message);
        }
        let status = StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let error = ProblemDetails { code: self.code, message: self.message.clone() };
        let mut response = json_of(status, &ProblemBody { error });
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.code == Code::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // Other interfaces tell it in their own words; see `dialect.rs`.
        response.extensions_mut().insert(self);
        response
    }
}

pub(super) async fn nowhere() -> Problem {
    Problem::new(Code::NotFound, "there is nothing at this address")
}

pub(super) async fn no_such_method() -> Problem {
    Problem::new(Code::MethodNotAllowed, "this address does not take this method")
}

pub(super) fn panicked(_: Box<dyn Any + Send + 'static>) -> Response<Body> {
    Problem::new(Code::Internal, "the request ended in a panic, which is a fault of Kiln's").into_response()
}

/// Runs `work`, which waits for the disk, where it holds up nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Problem::new(Code::Internal, "the request ended in a panic, which is a fault of Kiln's")),
    }
}
