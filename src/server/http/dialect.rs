//! Problems in the words of the interface that was spoken to.

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};

use super::{openai, webui};
use crate::server::problem::Problem;

/// A response to a request of `path`; a problem is told as the clients of that interface read it.
pub(super) fn told(path: &str, response: Response<Body>) -> Response<Body> {
    let Some(problem) = response.extensions().get::<Problem>() else { return response };
    let other = if path.starts_with("/v1/") {
        openai::refusal(problem)
    } else if path.starts_with("/sdapi/") {
        webui::refusal(problem)
    } else {
        return response;
    };
    let (mut head, body) = other.into_parts();
    // Such as when to come back, and what credentials are expected.
    for (name, value) in response.headers() {
        if *name != CONTENT_LENGTH && *name != CONTENT_TYPE {
            head.headers.insert(name.clone(), value.clone());
        }
    }
    Response::from_parts(head, body)
}
