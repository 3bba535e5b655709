//! The images of OpenAI's interface: what a client of theirs asks for as a [`Wish`], and pictures as it expects them.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::unfold;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answer::{blocking, json_of};
use super::body;
use super::events::EventLines;
use super::made::{Made, Waiting, made, plain_status};
use super::openai_request::{ImageForm, ImageRequest, ResponseFormat, of_form};
use super::openapi::OfOpenai;
use super::room::Room;
use super::{App, Client};
use crate::server::job::{JobEvent, now_ms};
use crate::server::problem::{Code, Problem};
use crate::server::wish::{Attachments, Wish};

type Answer = Result<Response<Body>, Problem>;

/// Makes images of a text.
#[utoipa::path(
    post, path = "/v1/images/generations", tag = "openai", request_body = ImageRequest,
    responses((status = 200, description = "The images, or with `stream` events of them", content((ImagesAnswer = "application/json"), (EventLines = "text/event-stream"))), OfOpenai)
)]
pub(super) async fn generations(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    let headers = request.headers().clone();
    let (asked, room): (ImageRequest, Room) = body::object(&app, request).await?;
    if asked.prompt.is_none() {
        return Err(Problem::new(Code::Malformed, "prompt: is missing"));
    }
    answer(app, client, &headers, asked, (Attachments::default(), room), "image_generation").await
}

/// Makes images of a text and an image.
#[utoipa::path(
    post, path = "/v1/images/edits", tag = "openai", request_body(content = ImageForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The images, or with `stream` events of them", content((ImagesAnswer = "application/json"), (EventLines = "text/event-stream"))), OfOpenai)
)]
pub(super) async fn edits(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    let headers = request.headers().clone();
    let (fields, room) = body::form(&app, request).await?;
    let (asked, mut attachments) = of_form(fields)?;
    if asked.prompt.is_none() {
        return Err(Problem::new(Code::Malformed, "prompt: is missing"));
    }
    if let Some(mask) = attachments.mask.take() {
        let app = Arc::clone(&app);
        attachments.mask = Some(blocking(move || Ok(super::openai_request::mask_of(&app.dispatcher, mask)?)).await?);
    }
    answer(app, client, &headers, asked, (attachments, room), "image_edit").await
}

/// Makes images of an image.
#[utoipa::path(
    post, path = "/v1/images/variations", tag = "openai", request_body(content = ImageForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "The images, or with `stream` events of them", content((ImagesAnswer = "application/json"), (EventLines = "text/event-stream"))), OfOpenai)
)]
pub(super) async fn variations(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    let headers = request.headers().clone();
    let (fields, room) = body::form(&app, request).await?;
    let (asked, attachments) = of_form(fields)?;
    if attachments.mask.is_some() {
        return Err(Problem::new(Code::Malformed, "mask: a variation takes none; /v1/images/edits does"));
    }
    answer(app, client, &headers, asked, (attachments, room), "image_edit").await
}

async fn answer(
    app: Arc<App>,
    client: Client,
    headers: &HeaderMap,
    asked: ImageRequest,
    (attachments, room): (Attachments, Room),
    kind: &'static str,
) -> Answer {
    asked.check(app.dispatcher.catalogue.find(asked.model.as_deref())?.has_opacity())?;
    let stream = asked.stream.unwrap_or(false);
    let partial = if stream { asked.partial_images.unwrap_or(0) } else { 0 };
    let format = asked.response_format.unwrap_or(ResponseFormat::B64Json);
    if stream && format == ResponseFormat::Url {
        return Err(Problem::new(Code::Refused, "response_format: a stream holds its pictures, expected b64_json"));
    }
    let wish = Wish { previews: Some(partial > 0), ..asked.wish() };
    let waiting = Waiting::submit(&app, &client, wish, attachments, room).await?;
    if stream {
        return Ok(streamed(app, waiting, partial, kind));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned();
    let pictures = waiting.pictures(&app).await?;
    let size = pictures.first().map(|Made { record, .. }| format!("{}x{}", record.width, record.height));
    let data = pictures.into_iter().map(|Made { record, file }| match format {
        ResponseFormat::B64Json => ImageData { b64_json: Some(STANDARD.encode(file)), url: None },
        ResponseFormat::Url => ImageData { b64_json: None, url: Some(format!("http://{host}{}", record.url)) },
    });
    let answer = ImagesAnswer { created: now_ms() / 1_000, data: data.collect(), size, output_format: "png" };
    Ok(json_of(StatusCode::OK, &answer))
}

/// Images that were made.
#[derive(Serialize, ToSchema)]
pub(super) struct ImagesAnswer {
    /// When, in seconds of Unix time.
    created: i64,
    /// The images.
    data: Vec<ImageData>,
    /// Width and height in pixels, as `512x512`.
    size: Option<String>,
    /// Always `png`.
    output_format: &'static str,
}

/// One image: its file or its address, as `response_format` says.
#[derive(Serialize, ToSchema)]
struct ImageData {
    /// A PNG file in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
    /// Where it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
}

/// What a stream has told, and what it will.
struct Stream {
    app: Arc<App>,
    waiting: Waiting,
    kind: &'static str,
    /// How many partial pictures are wanted, and were sent.
    partial: (u32, u32),
    /// Steps that are done, and all.
    steps: (usize, usize),
    ended: bool,
}

fn streamed(app: Arc<App>, waiting: Waiting, partial: u32, kind: &'static str) -> Response<Body> {
    let stream = Stream { app, waiting, kind, partial: (partial, 0), steps: (0, 0), ended: false };
    let stream = unfold(stream, |mut stream| async move {
        let bytes = next(&mut stream).await?;
        Some((Ok::<Bytes, Infallible>(bytes.into()), stream))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn next(stream: &mut Stream) -> Option<String> {
    if stream.ended {
        return None;
    }
    loop {
        let event = match tokio::time::timeout(super::events::HEARTBEAT, stream.waiting.next()).await {
            // A client that is gone is found out by it.
            Err(_) => return Some(": alive\n\n".to_owned()),
            Ok(event) => event?,
        };
        match event {
            JobEvent::Step { step, steps, .. } => stream.steps = (step, steps),
            JobEvent::Preview { png, .. } => {
                let ((wanted, sent), (done, all)) = (stream.partial, stream.steps);
                // The previews of a run are many; those that are sent are spread over it.
                if sent < wanted && done * (wanted as usize + 1) >= all * (sent as usize + 1) {
                    stream.partial.1 += 1;
                    let size = side_of(&png);
                    return Some(told(stream.kind, "partial_image", &png, size, json!({ "partial_image_index": sent })));
                }
            }
            JobEvent::End { state, pictures, error } => {
                stream.ended = true;
                return Some(match made(&stream.app, &stream.waiting.job.id, state, pictures, error).await {
                    Ok(pictures) => pictures.into_iter().map(|picture| completed(stream.kind, &picture)).collect(),
                    Err(problem) => {
                        let told = serde_json::to_string(&error_of(&problem)).unwrap_or_default();
                        format!("event: error\ndata: {told}\n\n")
                    }
                });
            }
            JobEvent::State { .. } => {}
        }
    }
}

fn completed(kind: &str, Made { record, file }: &Made) -> String {
    // Kiln counts no tokens; the clients' types have the field.
    let usage = json!({ "usage": { "input_tokens": 0, "output_tokens": 0, "total_tokens": 0,
        "input_tokens_details": { "text_tokens": 0, "image_tokens": 0 } } });
    told(kind, "completed", &STANDARD.encode(file), Some((record.width, record.height)), usage)
}

fn told(kind: &str, what: &str, png: &str, size: Option<(u32, u32)>, more: Value) -> String {
    let name = format!("{kind}.{what}");
    let size = size.map(|(width, height)| format!("{width}x{height}"));
    let mut value = json!({ "type": name, "b64_json": png, "created_at": now_ms() / 1_000, "size": size.as_deref().unwrap_or("auto"),
        "quality": "auto", "background": "auto", "output_format": "png" });
    if let (Some(value), Value::Object(mut more)) = (value.as_object_mut(), more) {
        value.append(&mut more);
    }
    format!("event: {name}\ndata: {value}\n\n")
}

/// The sides of a PNG file in base64: they are the first thing that its header says.
fn side_of(png: &str) -> Option<(u32, u32)> {
    let head = STANDARD.decode(png.get(..32)?).ok()?;
    let side = |at: usize| Some(u32::from_be_bytes(head.get(at..at + 4)?.try_into().ok()?));
    Some((side(16)?, side(20)?))
}

/// A model, as OpenAI's clients know one.
#[derive(Serialize, ToSchema)]
struct ModelAnswer {
    /// What requests call it.
    id: String,
    /// Always `model`.
    object: &'static str,
    /// Always 0.
    created: i64,
    /// Always `kiln`.
    owned_by: &'static str,
}

impl ModelAnswer {
    fn new(name: &str) -> Self {
        Self { id: name.to_owned(), object: "model", created: 0, owned_by: "kiln" }
    }
}

/// The models.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelsAnswer {
    /// Always `list`.
    object: &'static str,
    /// The default first.
    data: Vec<ModelAnswer>,
}

/// Lists the models.
#[utoipa::path(
    get, path = "/v1/models", tag = "openai",
    responses((status = 200, description = "The models", body = ModelsAnswer), OfOpenai)
)]
pub(super) async fn models(State(app): State<Arc<App>>) -> Response<Body> {
    let data = app.dispatcher.catalogue.models().iter().map(|served| ModelAnswer::new(&served.name)).collect();
    json_of(StatusCode::OK, &ModelsAnswer { object: "list", data })
}

/// Says that a model is there.
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai", params(("id" = String, Path, description = "The model's name")),
    responses((status = 200, description = "The model", body = ModelAnswer), OfOpenai)
)]
pub(super) async fn show_model(State(app): State<Arc<App>>, Path(id): Path<String>) -> Answer {
    let found = app.dispatcher.catalogue.find(Some(&id))?;
    Ok(json_of(StatusCode::OK, &ModelAnswer::new(&found.name)))
}

/// Why something was not done, as OpenAI's clients read it.
#[derive(Serialize, ToSchema)]
pub(super) struct OpenaiProblem {
    error: OpenaiProblemDetails,
}

/// A word for programs, a sentence for people.
#[derive(Serialize, ToSchema)]
struct OpenaiProblemDetails {
    /// For people.
    message: String,
    /// Whose fault it is.
    r#type: &'static str,
    /// The value that it is about.
    param: Option<String>,
    /// For programs.
    code: &'static str,
}

fn error_of(problem: &Problem) -> OpenaiProblem {
    let kind = match plain_status(problem.code) {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let code = match problem.code {
        Code::Unauthorized => "invalid_api_key",
        Code::Policy => "content_policy_violation",
        Code::NotFound if problem.message.starts_with("model: ") => "model_not_found",
        code => code.name(),
    };
    // Messages begin with the name of the value that they are about.
    let named = problem.message.split_once(": ").map(|(name, _)| name);
    let param = named.filter(|name| !name.is_empty() && name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_'));
    let param = param.filter(|name| *name != "body").map(str::to_owned);
    OpenaiProblem { error: OpenaiProblemDetails { message: problem.message.clone(), r#type: kind, param, code } }
}

/// A problem as an answer to OpenAI's clients.
pub(super) fn refusal(problem: &Problem) -> Response<Body> {
    json_of(StatusCode::from_u16(plain_status(problem.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &error_of(problem))
}
