//! Pages of other sites that the operator lets in (`--cors`); without one nothing of this is there.

use anyhow::Result;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::Access;
use crate::refuse;

/// Makes sure that `origin` is one as browsers send it.
///
/// # Errors
/// A [`Refusal`](crate::error::Refusal): it is not `http://` or `https://` with a name, a port at most, and nothing more.
pub fn check_origin(origin: &str) -> Result<()> {
    let name = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-.:[]".contains(letter))
    };
    if !name.is_some_and(is_name) {
        refuse!(
            "--cors {origin:?}: is no origin, expected one such as https://kiosk.example, in small letters and without a path"
        );
    }
    Ok(())
}

/// The origin of a request, where it is let in.
pub(super) fn origin(access: &Access, headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    access.allows_origin(origin.to_str().ok()?).then(|| origin.clone())
}

/// Whether a browser asks for leave to send a request.
pub(super) fn is_preflight(request: &Request) -> bool {
    *request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a browser may send.
pub(super) fn leave() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

/// Lets pages of `origin` read an answer.
pub(super) fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.insert(VARY, HeaderValue::from_static("origin"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("cross-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_name_and_nothing_more() {
        for origin in ["https://kiosk.example", "http://localhost:3000", "http://[::1]:80"] {
            assert!(check_origin(origin).is_ok(), "{origin}");
        }
        for origin in
            ["", "*", "null", "kiosk.example", "https://", "https://kiosk.example/", "ftp://a", "https://a b", "HTTPS://A"]
        {
            assert!(check_origin(origin).is_err(), "{origin}");
        }
    }
}
