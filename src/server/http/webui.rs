//! The interface of Stable Diffusion web UI: `/sdapi/v1`, as far as its clients use it to make pictures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::answer::{blocking, json_of};
use super::made::{Made, Waiting, plain_status};
use super::openapi::OfWebui;
use super::room::Room;
use super::webui_request::{Asked, WebuiRequest, of_object, samplers, schedulers};
use super::{App, Client, body, webui_defaults};
use crate::output::read_bytes;
use crate::server::catalogue::Model;
use crate::server::dispatcher::{Dispatcher, Listed};
use crate::server::job::{Job, JobEvent};
use crate::server::problem::{Code, Problem};

/// Of how many clients the model that they chose is remembered.
const MOST_CHOICES: usize = 1_024;
/// How many of the newest jobs are looked through for one that a client waits for.
const LOOKED_THROUGH: usize = 200;

type Answer = Result<Response<Body>, Problem>;

/// Addresses of lists of what Kiln has none of.
pub(super) const EMPTY_LISTS: [&str; 7] =
    ["/sd-vae", "/upscalers", "/latent-upscale-modes", "/loras", "/hypernetworks", "/face-restorers", "/prompt-styles"];

/// The model that each client chose with `/options`.
#[derive(Default)]
pub(in crate::server) struct Choices {
    models: Mutex<HashMap<String, String>>,
}

impl Choices {
    fn of(&self, client: &Client) -> Option<String> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner).get(&client.0).cloned()
    }

    fn choose(&self, client: &Client, model: String) {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        if models.len() >= MOST_CHOICES && !models.contains_key(&client.0) {
            models.clear();
        }
        models.insert(client.0.clone(), model);
    }
}

fn ok(value: &Value) -> Response<Body> {
    json_of(StatusCode::OK, value)
}

/// Makes images of a text.
#[utoipa::path(
    post, path = "/sdapi/v1/txt2img", tag = "webui", request_body = WebuiRequest,
    responses((status = 200, description = "The images", body = ImagesOfWebui), OfWebui)
)]
pub(super) async fn txt2img(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    make(app, client, request, false).await
}

/// Makes images of a text and an image.
#[utoipa::path(
    post, path = "/sdapi/v1/img2img", tag = "webui", request_body = WebuiRequest,
    responses((status = 200, description = "The images", body = ImagesOfWebui), OfWebui)
)]
pub(super) async fn img2img(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    make(app, client, request, true).await
}

async fn make(app: Arc<App>, client: Client, request: Request, from_picture: bool) -> Answer {
    let (object, room): (Map<String, Value>, Room) = body::object(&app, request).await?;
    let mut asked = of_object(object, from_picture)?;
    asked.wish.model = match asked.wish.model.take() {
        Some(title) => Some(named(&app.dispatcher, &title)?),
        None => app.choices.of(&client),
    };
    if asked.inverts_mask {
        let (app, mask) = (Arc::clone(&app), asked.attachments.mask.take());
        asked.attachments.mask = blocking(move || Ok(super::webui_request::inverted(&app.dispatcher, mask)?)).await?;
    }
    let (dispatcher, Asked { wish, attachments, sends_pictures, parameters, .. }) = (Arc::clone(&app), asked);
    let (wish, attachments) = blocking(move || {
        let wish = webui_defaults::give_way(&dispatcher.dispatcher, wish, &attachments);
        Ok((wish, attachments))
    })
    .await?;
    let waiting = Waiting::submit(&app, &client, wish, attachments, room).await?;
    let wish = waiting.job.wish.clone();
    let pictures = waiting.pictures(&app).await?;
    let texts: Vec<String> = pictures.iter().map(|Made { file, .. }| parameters_of(file)).collect();
    let seeds: Vec<u64> = pictures.iter().map(|Made { record, .. }| record.seed).collect();
    let first = pictures.first().map(|Made { record, .. }| (record.width, record.height)).unwrap_or_default();
    let info = json!({
        "prompt": wish.prompt, "all_prompts": vec![&wish.prompt; seeds.len()], "negative_prompt": wish.negative_prompt.as_deref().unwrap_or_default(),
        "seed": seeds.first(), "all_seeds": seeds, "width": first.0, "height": first.1, "steps": wish.steps, "cfg_scale": wish.guidance,
        "sampler_name": wish.sampler, "sd_model_name": wish.model, "batch_size": texts.len(), "denoising_strength": wish.strength,
        "infotexts": texts, "index_of_first_image": 0,
    });
    let files: Vec<String> =
        if sends_pictures { pictures.iter().map(|Made { file, .. }| STANDARD.encode(file)).collect() } else { Vec::new() };
    Ok(json_of(StatusCode::OK, &ImagesOfWebui { images: files, parameters, info: info.to_string() }))
}

/// Images that were made.
#[derive(Serialize, ToSchema)]
pub(super) struct ImagesOfWebui {
    /// PNG files in base64.
    images: Vec<String>,
    /// What was asked for.
    #[schema(value_type = Object)]
    parameters: Map<String, Value>,
    /// What was made, as JSON in a text.
    info: String,
}

/// The text that web UI and its kin put into pictures.
fn parameters_of(file: &[u8]) -> String {
    read_bytes(file, "picture").ok().and_then(|(parameters, _)| parameters).unwrap_or_default()
}

/// The jobs that `client` waits for, the oldest first.
fn live_jobs(app: &App, client: &Client) -> Result<Vec<Arc<Job>>, Problem> {
    let Listed { records, .. } = app.dispatcher.list(LOOKED_THROUGH, None)?;
    let own = records.iter().rev().filter(|record| record.client == client.0 && !record.state.is_end());
    Ok(own.filter_map(|record| app.dispatcher.live(&record.id)).collect())
}

/// How far the oldest job is that this client waits for.
#[utoipa::path(
    get, path = "/sdapi/v1/progress", tag = "webui",
    responses((status = 200, description = "The progress", body = serde_json::Value), OfWebui)
)]
pub(super) async fn progress(State(app): State<Arc<App>>, Extension(client): Extension<Client>) -> Answer {
    blocking(move || {
        let jobs = live_jobs(&app, &client)?;
        let (mut done, mut all, mut left_s, mut picture) = (0, 0, 0.0, None);
        if let Some(job) = jobs.first() {
            let present = job.present();
            if let Some(JobEvent::Step { step, steps, left_s: left }) = present.step {
                (done, all, left_s) = (step, steps, left);
            }
            if let Some(JobEvent::Preview { png, .. }) = present.preview {
                picture = Some(png.to_string());
            }
        }
        let share = if all > 0 { done as f64 / all as f64 } else { 0.0 };
        let name = jobs.first().map_or_else(String::new, |job| job.id.clone());
        Ok(ok(&json!({
            "progress": share, "eta_relative": left_s, "current_image": picture, "textinfo": null,
            "state": { "skipped": false, "interrupted": jobs.first().is_some_and(|job| job.cancel.is_cancelled()), "stopping_generation": false,
                "job": name, "job_count": jobs.len(), "job_no": 0, "job_timestamp": "0", "sampling_step": done, "sampling_steps": all },
        })))
    })
    .await
}

/// Stops what this client waits for.
#[utoipa::path(
    post, path = "/sdapi/v1/interrupt", tag = "webui",
    responses((status = 200, description = "They are stopped", body = serde_json::Value), OfWebui)
)]
pub(super) async fn interrupt(State(app): State<Arc<App>>, Extension(client): Extension<Client>) -> Answer {
    blocking(move || {
        for job in live_jobs(&app, &client)? {
            app.dispatcher.stop(&job, Problem::new(Code::Conflict, "it was interrupted by its client"));
        }
        Ok(ok(&json!({})))
    })
    .await
}

/// What lists of models call `model`.
fn title(model: &Model) -> String {
    format!("{} [{}]", model.name, short_hash(model))
}

fn hash(model: &Model) -> String {
    model.describe(false).sha256
}

fn short_hash(model: &Model) -> String {
    hash(model).chars().take(10).collect()
}

/// The name of the model that is meant by a title or a name.
fn named(dispatcher: &Dispatcher, text: &str) -> Result<String, Problem> {
    let models = dispatcher.catalogue.models();
    let found = models.iter().find(|model| model.name == text || title(model).eq_ignore_ascii_case(text));
    match found {
        Some(model) => Ok(model.name.clone()),
        None => Ok(dispatcher.catalogue.find(Some(text))?.name.clone()),
    }
}

/// Lists the models.
#[utoipa::path(
    get, path = "/sdapi/v1/sd-models", tag = "webui",
    responses((status = 200, description = "The models", body = serde_json::Value), OfWebui)
)]
pub(super) async fn sd_models(State(app): State<Arc<App>>) -> Response<Body> {
    let models = app.dispatcher.catalogue.models().iter();
    let listed: Vec<Value> = models
        .map(|model| json!({ "title": title(model), "model_name": model.name, "hash": short_hash(model), "sha256": hash(model), "filename": model.name, "config": null }))
        .collect();
    ok(&json!(listed))
}

/// The model of this client's requests.
#[utoipa::path(
    get, path = "/sdapi/v1/options", tag = "webui",
    responses((status = 200, description = "The options", body = serde_json::Value), OfWebui)
)]
pub(super) async fn options(State(app): State<Arc<App>>, Extension(client): Extension<Client>) -> Answer {
    let model = app.dispatcher.catalogue.find(app.choices.of(&client).as_deref())?;
    Ok(ok(&json!({ "sd_model_checkpoint": title(model), "sd_checkpoint_hash": hash(model), "samples_format": "png" })))
}

/// What a client may set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// The model of this client's further requests, by its title or name.
    sd_model_checkpoint: Option<String>,
}

/// Chooses the model of this client's further requests.
#[utoipa::path(
    post, path = "/sdapi/v1/options", tag = "webui", request_body = Options,
    responses((status = 200, description = "It is chosen", body = serde_json::Value), OfWebui)
)]
pub(super) async fn set_options(State(app): State<Arc<App>>, Extension(client): Extension<Client>, request: Request) -> Answer {
    let (Options { sd_model_checkpoint }, _) = body::object(&app, request).await?;
    if let Some(text) = sd_model_checkpoint {
        app.choices.choose(&client, named(&app.dispatcher, &text)?);
    }
    Ok(ok(&Value::Null))
}

/// A picture whose text is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Inspected {
    /// A PNG file in base64.
    image: String,
}

/// Tells the text of a PNG file.
#[utoipa::path(
    post, path = "/sdapi/v1/png-info", tag = "webui", request_body = Inspected,
    responses((status = 200, description = "The text", body = serde_json::Value), OfWebui)
)]
pub(super) async fn png_info(State(app): State<Arc<App>>, request: Request) -> Answer {
    let (Inspected { image }, room) = body::object(&app, request).await?;
    let file = super::webui_request::file_of("image", &image)?;
    blocking(move || {
        let _room = room;
        let (parameters, _) = read_bytes(&file, "image")?;
        let items = parameters.as_ref().map_or_else(|| json!({}), |text| json!({ "parameters": text }));
        Ok(ok(&json!({ "info": parameters.unwrap_or_default(), "items": items, "parameters": {} })))
    })
    .await
}

/// Lists the samplers.
#[utoipa::path(
    get, path = "/sdapi/v1/samplers", tag = "webui",
    responses((status = 200, description = "The samplers", body = serde_json::Value), OfWebui)
)]
pub(super) async fn list_samplers() -> Response<Body> {
    let listed: Vec<Value> = samplers().map(|name| json!({ "name": name, "aliases": [], "options": {} })).collect();
    ok(&json!(listed))
}

/// Lists the spreads of noise levels.
#[utoipa::path(
    get, path = "/sdapi/v1/schedulers", tag = "webui",
    responses((status = 200, description = "The spreads", body = serde_json::Value), OfWebui)
)]
pub(super) async fn list_schedulers() -> Response<Body> {
    let listed: Vec<Value> = schedulers().map(|name| json!({ "name": name, "label": name, "aliases": [] })).collect();
    ok(&json!(listed))
}

/// There are no scripts.
#[utoipa::path(
    get, path = "/sdapi/v1/scripts", tag = "webui",
    responses((status = 200, description = "None", body = serde_json::Value), OfWebui)
)]
pub(super) async fn scripts() -> Response<Body> {
    ok(&json!({ "txt2img": [], "img2img": [] }))
}

/// Lists of what Kiln has none of.
pub(super) async fn nothing() -> Response<Body> {
    ok(&json!([]))
}

/// The models are those of the server's start.
#[utoipa::path(
    post, path = "/sdapi/v1/refresh-checkpoints", tag = "webui",
    responses((status = 200, description = "Nothing", body = serde_json::Value), OfWebui)
)]
pub(super) async fn refresh() -> Response<Body> {
    ok(&Value::Null)
}

/// Why something was not done, as web UI's clients read it.
#[derive(Serialize, ToSchema)]
pub(super) struct WebuiProblem {
    /// For programs.
    error: &'static str,
    /// For people.
    detail: String,
    /// Always empty.
    body: &'static str,
    /// As `detail`.
    errors: String,
}

/// The status of a problem, as web UI's clients know it.
pub(super) fn status(code: Code) -> u16 {
    if code == Code::Refused { 422 } else { plain_status(code) }
}

/// A problem as an answer to web UI's clients.
pub(super) fn refusal(problem: &Problem) -> Response<Body> {
    let (detail, errors) = (problem.message.clone(), problem.message.clone());
    let told = WebuiProblem { error: problem.code.name(), detail, body: "", errors };
    json_of(StatusCode::from_u16(status(problem.code)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &told)
}
