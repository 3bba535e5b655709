//! Bodies of requests, read within their limits of size and time.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use serde::de::DeserializeOwned;

use super::App;
use super::room::Room;
use crate::server::problem::{Code, Problem};

/// The most fields of a form.
const MOST_FIELDS: usize = 64;

/// A field of a form: its name, and its text or file.
pub(super) struct Field {
    pub(super) name: String,
    pub(super) bytes: Bytes,
}

/// The body, which is declared as `media_type`, and its room in memory.
async fn read(app: &App, request: Request, media_type: &str) -> Result<(Bytes, Room), Problem> {
    let declared = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A form of another site's page cannot declare JSON without being asked for leave first.
    if !declared.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type) {
        return Err(Problem::new(Code::UnsupportedMediaType, format!("Content-Type: expected {media_type}")));
    }
    let most = app.dispatcher.limits.body_bytes;
    let too_large = || Problem::new(Code::TooLarge, format!("body: is larger than {most} bytes"));
    let length =
        request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let mut room = app.rooms.take(length.map_or(most, |length| usize::try_from(length).unwrap_or(most))).await?;
    match tokio::time::timeout(app.patience, to_bytes(request.into_body(), most)).await {
        Err(_) => Err(Problem::new(Code::RequestTimeout, "body: did not come in time")),
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(Code::Malformed, format!("body: {error}"))),
        Ok(Ok(bytes)) => {
            room.shrink(bytes.len());
            Ok((bytes, room))
        }
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A JSON object, and the room in memory of its body: to be kept as long as what is large in it.
///
/// # Errors
/// There is no room. The body is too large, late, not declared as JSON, no JSON or of another shape.
pub(super) async fn object<T: DeserializeOwned>(app: &App, request: Request) -> Result<(T, Room), Problem> {
    let (bytes, room) = read(app, request, "application/json").await?;
    // Serde would read a list as the fields in their order.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::new(Code::Malformed, "body: expected a JSON object, such as {\"prompt\": \"a red apple\"}"));
    }
    let object = serde_json::from_slice(&bytes).map_err(|error| Problem::new(Code::Malformed, format!("body: {error}")))?;
    Ok((object, room))
}

/// The fields of a form with files, and the room in memory of its body.
///
/// # Errors
/// There is no room. The body is too large, late, no such form, or has too many fields.
pub(super) async fn form(app: &App, request: Request) -> Result<(Vec<Field>, Room), Problem> {
    let malformed = |error: &dyn std::fmt::Display| Problem::new(Code::Malformed, format!("body: {error}"));
    let declared = request.headers().get(CONTENT_TYPE).cloned();
    let (bytes, room) = read(app, request, "multipart/form-data").await?;
    let mut whole = Request::new(axum::body::Body::from(bytes));
    if let Some(declared) = declared {
        whole.headers_mut().insert(CONTENT_TYPE, declared);
    }
    // The limit of size has been kept to already.
    axum::extract::DefaultBodyLimit::disable().apply(&mut whole);
    let mut multipart = Multipart::from_request(whole, &()).await.map_err(|error| malformed(&error))?;
    let mut fields = Vec::new();
    while let Some(field) = multipart.next_field().await.map_err(|error| malformed(&error.body_text()))? {
        if fields.len() == MOST_FIELDS {
            return Err(Problem::new(Code::Malformed, format!("body: has more than {MOST_FIELDS} fields")));
        }
        let Some(name) = field.name().map(str::to_owned) else {
            return Err(Problem::new(Code::Malformed, "body: a field has no name"));
        };
        let bytes = field.bytes().await.map_err(|error| malformed(&error.body_text()))?;
        fields.push(Field { name, bytes });
    }
    Ok((fields, room))
}
