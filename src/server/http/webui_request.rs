//! What clients of Stable Diffusion web UI send: a few values that decide, and many that are at rest.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::output::{Format, encode};
use crate::request::Request;
use crate::server::dispatcher::Dispatcher;
use crate::server::problem::{Code, Problem};
use crate::server::wish::{Attachments, Wish};

/// The model's own sampler, whatever it is.
const OWN_SAMPLER: &str = "Automatic";
/// Samplers by web UI's names, and Kiln's.
const SAMPLERS: [(&str, &str); 9] = [
    ("Euler a", "euler-ancestral"),
    ("Euler", "euler"),
    ("Heun", "heun"),
    ("DDIM", "ddim"),
    ("PLMS", "pndm"),
    ("UniPC", "unipc"),
    ("LCM", "lcm"),
    ("DPM++ 2M", "dpm++"),
    ("DPM++ 2M SDE", "sde-dpm++"),
];
/// How noise levels are spread.
const SCHEDULERS: [&str; 4] = ["automatic", "karras", "exponential", "beta"];

/// Values that change nothing of what Kiln makes, whatever they are; `hr_` and what follows belongs to `enable_hr`.
const IGNORED: [&str; 25] = [
    "do_not_save_samples",
    "do_not_save_grid",
    "save_images",
    "override_settings_restore_afterwards",
    "subseed",
    "eta",
    "s_churn",
    "s_tmax",
    "s_tmin",
    "s_noise",
    "hr_scale",
    "hr_upscaler",
    "hr_second_pass_steps",
    "hr_resize_x",
    "hr_resize_y",
    "hr_checkpoint_name",
    "hr_sampler_name",
    "hr_scheduler",
    "hr_prompt",
    "hr_negative_prompt",
    "include_init_images",
    "mask_blur",
    "inpainting_fill",
    "inpaint_full_res",
    "inpaint_full_res_padding",
];
/// Values that would change the picture, and are refused unless they are at rest: empty, 0, -1 or false.
const AT_REST: [&str; 16] = [
    "enable_hr",
    "restore_faces",
    "tiling",
    "styles",
    "subseed_strength",
    "seed_resize_from_h",
    "seed_resize_from_w",
    "firstphase_width",
    "firstphase_height",
    "script_name",
    "script_args",
    "resize_mode",
    "refiner_checkpoint",
    "refiner_switch_at",
    "comments",
    "firstpass_image",
];

/// The values that decide.
#[derive(Default, Deserialize, ToSchema)]
pub(super) struct WebuiRequest {
    /// What the picture shows.
    prompt: Option<String>,
    /// What it does not show.
    negative_prompt: Option<String>,
    /// Where the noise begins; -1 draws it.
    seed: Option<i64>,
    /// Denoising steps.
    steps: Option<usize>,
    /// Guidance scale.
    cfg_scale: Option<f32>,
    /// Pixels in a row.
    width: Option<u32>,
    /// Rows.
    height: Option<u32>,
    /// A sampler that `samplers` lists, or by Kiln's own name.
    sampler_name: Option<String>,
    /// As `sampler_name`, which is preferred.
    sampler_index: Option<String>,
    /// How noise levels are spread, as `schedulers` lists.
    scheduler: Option<String>,
    /// Pictures of a batch; times `n_iter`.
    batch_size: Option<usize>,
    /// Batches.
    n_iter: Option<usize>,
    /// How much of a picture is made anew; of `img2img` alone.
    denoising_strength: Option<f32>,
    /// The picture to begin with, one, in base64.
    init_images: Option<Vec<String>>,
    /// White where the picture may change.
    mask: Option<String>,
    /// Whether it is black where the picture may change.
    inpainting_mask_invert: Option<u8>,
    /// Whether the answer holds the pictures.
    send_images: Option<bool>,
    /// `sd_model_checkpoint` alone.
    #[schema(value_type = Option<Object>)]
    override_settings: Option<Map<String, Value>>,
    /// The longest that making it may take, in seconds; Kiln's own.
    within: Option<f64>,
}

const DECIDE: [&str; 19] = [
    "prompt",
    "negative_prompt",
    "seed",
    "steps",
    "cfg_scale",
    "width",
    "height",
    "sampler_name",
    "sampler_index",
    "scheduler",
    "batch_size",
    "n_iter",
    "denoising_strength",
    "init_images",
    "mask",
    "inpainting_mask_invert",
    "send_images",
    "override_settings",
    "within",
];

/// A request in the server's own words.
pub(super) struct Asked {
    pub(super) wish: Wish,
    pub(super) attachments: Attachments,
    pub(super) inverts_mask: bool,
    pub(super) sends_pictures: bool,
    /// What is told back of the request: everything but pictures.
    pub(super) parameters: Map<String, Value>,
}

/// The names of samplers.
pub(super) fn samplers() -> impl Iterator<Item = &'static str> {
    std::iter::once(OWN_SAMPLER).chain(SAMPLERS.iter().map(|(name, _)| *name))
}

/// The names of spreads of noise levels.
pub(super) fn schedulers() -> impl Iterator<Item = &'static str> {
    SCHEDULERS.into_iter()
}

fn is_at_rest(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64().is_some_and(|number| number == 0.0 || number == -1.0),
        Value::String(text) => matches!(text.as_str(), "" | "None"),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(true) => false,
    }
}

/// Scripts that run of themselves are at rest where they are handed nothing, or `[false]`.
fn is_script_at_rest(script: &Value) -> bool {
    let arguments = script.get("args").and_then(Value::as_array);
    is_at_rest(script) || arguments.is_some_and(|arguments| arguments.iter().all(is_at_rest))
}

/// Reads the body of `txt2img`, or of `img2img` where it is `from_picture`.
///
/// # Errors
/// A value is of another shape, would change the picture in a way that Kiln has not, or is unknown.
pub(super) fn of_object(mut object: Map<String, Value>, from_picture: bool) -> Result<Asked, Problem> {
    for (name, value) in &object {
        let is_neutral = match name.as_str() {
            "alwayson_scripts" => value.as_object().map_or(value.is_null(), |scripts| scripts.values().all(is_script_at_rest)),
            // Of models that are guided by a picture too; the others ignore it.
            "image_cfg_scale" => true,
            "initial_noise_multiplier" => is_at_rest(value) || value.as_f64() == Some(1.0),
            name if DECIDE.contains(&name) || IGNORED.contains(&name) => true,
            name if AT_REST.contains(&name) => is_at_rest(value),
            _ => false,
        };
        if !is_neutral {
            let shown: String = name.chars().take(40).collect();
            return Err(Problem::new(Code::Refused, format!("{shown}: this server has nothing for it; leave it out")));
        }
    }
    let malformed = |error: serde_json::Error| Problem::new(Code::Malformed, format!("body: {error}"));
    let asked: WebuiRequest = serde_json::from_value(Value::Object(object.clone())).map_err(malformed)?;
    object.retain(|name, _| !matches!(name.as_str(), "init_images" | "mask"));
    let attachments = attachments(&asked, from_picture)?;
    let seed = match asked.seed {
        Some(seed) if seed < -1 => return Err(Problem::new(Code::Refused, "seed: expected 0 or more, or -1 for any")),
        seed => seed.and_then(|seed| u64::try_from(seed).ok()),
    };
    let (batch, batches) = (asked.batch_size.unwrap_or(1), asked.n_iter.unwrap_or(1));
    let size = match (asked.width, asked.height) {
        (Some(width), Some(height)) => Some(format!("{width}x{height}")),
        (None, None) => None,
        _ => return Err(Problem::new(Code::Refused, "width: expected both width and height, or neither")),
    };
    let wish = Wish {
        prompt: asked.prompt.unwrap_or_default(),
        negative_prompt: asked.negative_prompt.filter(|text| !text.is_empty()),
        model: model_of(asked.override_settings)?,
        seed,
        steps: asked.steps,
        size,
        guidance: asked.cfg_scale,
        sampler: sampler_of(asked.sampler_name.or(asked.sampler_index), asked.scheduler),
        within_s: asked.within,
        count: Some(batch.saturating_mul(batches)),
        strength: asked.denoising_strength.filter(|_| from_picture),
        ..Wish::default()
    };
    let inverts_mask = asked.inpainting_mask_invert == Some(1);
    Ok(Asked { wish, attachments, inverts_mask, sends_pictures: asked.send_images.unwrap_or(true), parameters: object })
}

fn model_of(settings: Option<Map<String, Value>>) -> Result<Option<String>, Problem> {
    let mut model = None;
    for (name, value) in settings.unwrap_or_default() {
        let text = value.as_str().filter(|_| name == "sd_model_checkpoint");
        let Some(text) = text else {
            return Err(Problem::new(Code::Refused, "override_settings: expected sd_model_checkpoint and nothing else"));
        };
        model = Some(text.to_owned());
    }
    Ok(model)
}

fn sampler_of(name: Option<String>, scheduler: Option<String>) -> Option<String> {
    let name = name.filter(|name| !name.is_empty() && name != OWN_SAMPLER)?;
    let known = SAMPLERS.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(&name)).map(|(_, own)| (*own).to_owned());
    let sampler = known.unwrap_or(name);
    match scheduler.map(|scheduler| scheduler.to_ascii_lowercase()) {
        Some(scheduler) if !matches!(scheduler.as_str(), "" | "automatic") => Some(format!("{sampler}-{scheduler}")),
        _ => Some(sampler),
    }
}

fn attachments(asked: &WebuiRequest, from_picture: bool) -> Result<Attachments, Problem> {
    let pictures = asked.init_images.as_deref().unwrap_or_default();
    if !from_picture {
        if !pictures.is_empty() || asked.mask.is_some() {
            return Err(Problem::new(Code::Refused, "init_images: txt2img takes no picture; img2img does"));
        }
        return Ok(Attachments::default());
    }
    let [picture] = pictures else {
        return Err(Problem::new(Code::Refused, format!("init_images: holds {} pictures, expected 1", pictures.len())));
    };
    let mask = asked.mask.as_deref().map(|mask| file_of("mask", mask)).transpose()?;
    Ok(Attachments { picture: Some(file_of("init_images", picture)?), mask })
}

/// The file that a text holds in base64, with the head of a data address or without.
///
/// # Errors
/// It is no base64.
pub(super) fn file_of(name: &str, text: &str) -> Result<Vec<u8>, Problem> {
    let inner = text.split_once(";base64,").map_or(text, |(_, inner)| inner);
    STANDARD.decode(inner.trim()).map_err(|_| Problem::new(Code::Refused, format!("{name}: is no base64")))
}

/// A mask that is black where it was white.
///
/// # Errors
/// It is no picture or larger than the limit.
pub(super) fn inverted(dispatcher: &Dispatcher, mask: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
    let mut holder = Request::new("");
    dispatcher.attach(&mut holder, &Attachments { picture: None, mask })?;
    let Some(mask) = holder.mask else { return Ok(None) };
    let mut mask = mask.on_white();
    mask.pixels.iter_mut().for_each(|value| *value = 255 - *value);
    Ok(Some(encode(&mask, None, Format::Png)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_a_request_has_one_place() {
        let mut names: Vec<&str> = DECIDE.iter().chain(&IGNORED).chain(&AT_REST).copied().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!((names.len(), count), (60, 60));
    }

    #[test]
    fn samplers_go_by_their_names_in_web_ui_or_kiln() {
        for (name, scheduler, expected) in [
            ("Euler a", "automatic", Some("euler-ancestral")),
            ("DPM++ 2M", "Karras", Some("dpm++-karras")),
            ("ddpm", "", Some("ddpm")),
            ("Automatic", "karras", None),
        ] {
            assert_eq!(sampler_of(Some(name.into()), Some(scheduler.into())).as_deref(), expected, "{name}");
        }
        for (_, own) in SAMPLERS {
            assert!(crate::request::SamplerChoice::named(own).is_ok(), "{own}");
        }
    }
}
