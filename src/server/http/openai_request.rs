//! What OpenAI's clients send with a request for images.

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::Field;
use crate::output::{Format, Picture, encode};
use crate::refuse;
use crate::request::Request;
use crate::server::dispatcher::Dispatcher;
use crate::server::problem::{Code, Problem};
use crate::server::wish::{Attachments, Wish};

/// The most partial pictures of a stream, as OpenAI has it.
const MOST_PARTIAL: u32 = 3;
/// Fields of a form that are numbers or `true` and `false`; the others are text.
const NOT_TEXT: [&str; 11] = [
    "n",
    "stream",
    "partial_images",
    "output_compression",
    "steps",
    "seed",
    "guidance",
    "within",
    "strength",
    "may_shrink",
    "force",
];

/// How pictures are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ResponseFormat {
    /// In the answer.
    B64Json,
    /// As an address of this server; it asks for the same token.
    Url,
}

/// A request for images. Kiln's own fields are `negative_prompt`, `seed`, `steps`, `guidance`, `sampler`, `strength`, `within`,
/// `may_shrink` and `force`.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageRequest {
    /// What the picture shows.
    pub(super) prompt: Option<String>,
    /// A model that `/v1/models` lists; the server's default when left out.
    pub(super) model: Option<String>,
    /// How many pictures.
    pub(super) n: Option<usize>,
    /// Width and height in pixels as `512x512`, or `auto`.
    pub(super) size: Option<String>,
    /// `b64_json` when left out.
    pub(super) response_format: Option<ResponseFormat>,
    /// Whether the answer is a stream of server-sent events.
    pub(super) stream: Option<bool>,
    /// How many partial pictures a stream has, 0 to 3.
    pub(super) partial_images: Option<u32>,
    /// `auto` and `standard` alone: `steps` decides.
    quality: Option<String>,
    /// `auto`, and `transparent` of a model whose pictures have opacity, else `opaque`.
    background: Option<String>,
    /// `png` alone.
    output_format: Option<String>,
    /// 100 alone.
    output_compression: Option<u32>,
    /// Ignored: the server's own policy holds.
    #[serde(rename = "moderation")]
    _moderation: Option<String>,
    /// Ignored.
    #[serde(rename = "user")]
    _user: Option<String>,
    /// Ignored.
    #[serde(rename = "safety_identifier")]
    _safety_identifier: Option<String>,
    /// What the picture does not show.
    negative_prompt: Option<String>,
    /// Where the noise begins.
    seed: Option<u64>,
    /// Denoising steps.
    steps: Option<usize>,
    /// Guidance scale; 1 is none.
    guidance: Option<f32>,
    /// Another sampler, such as `euler`.
    sampler: Option<String>,
    /// How much of a picture is made anew, above 0 to 1.
    strength: Option<f32>,
    /// The longest that making it may take, in seconds.
    within: Option<f64>,
    /// Whether a smaller picture will do where `within` asks for it.
    may_shrink: Option<bool>,
    /// Whether steps, guidance and a sampler are taken that the model was not made for.
    force: Option<bool>,
}

/// A form with an image, and in its other fields what a request for images has.
#[derive(ToSchema)]
#[expect(dead_code, reason = "stands for the parts of a form in the document alone")]
pub(super) struct ImageForm {
    /// A PNG, JPEG or WebP file.
    #[schema(value_type = String, format = Binary)]
    image: Vec<u8>,
    /// A PNG file that is clear where the image may change; of an edit alone.
    #[schema(value_type = Option<String>, format = Binary)]
    mask: Option<Vec<u8>>,
    /// See `ImageRequest`; the others likewise.
    prompt: Option<String>,
    model: Option<String>,
    n: Option<usize>,
    size: Option<String>,
    response_format: Option<ResponseFormat>,
    stream: Option<bool>,
    steps: Option<usize>,
    seed: Option<u64>,
    strength: Option<f32>,
}

impl ImageRequest {
    /// Refuses what Kiln has nothing for.
    ///
    /// * `has_opacity`: whether the model's pictures have
    ///
    /// # Errors
    /// A value is another than the one that Kiln can keep to.
    pub(super) fn check(&self, has_opacity: bool) -> Result<(), Problem> {
        let only: [(&str, &Option<String>, &[&str]); 3] = [
            ("quality", &self.quality, &["auto", "standard"]),
            ("background", &self.background, &["auto", if has_opacity { "transparent" } else { "opaque" }]),
            ("output_format", &self.output_format, &["png"]),
        ];
        for (name, value, known) in only {
            if value.as_deref().is_some_and(|value| !known.contains(&value)) {
                return Err(Problem::new(
                    Code::Refused,
                    format!("{name}: expected {}; this model has no other", known.join(" or ")),
                ));
            }
        }
        if self.output_compression.is_some_and(|percent| percent != 100) {
            return Err(Problem::new(Code::Refused, "output_compression: expected 100, as PNG files lose nothing"));
        }
        if self.partial_images.is_some_and(|count| count > MOST_PARTIAL) {
            return Err(Problem::new(Code::Refused, format!("partial_images: expected 0 to {MOST_PARTIAL}")));
        }
        Ok(())
    }

    /// The same in the server's own words.
    pub(super) fn wish(self) -> Wish {
        Wish {
            prompt: self.prompt.unwrap_or_default(),
            negative_prompt: self.negative_prompt,
            // OpenAI's models read sentences.
            plain_prompt: true,
            model: self.model,
            seed: self.seed,
            steps: self.steps,
            size: self.size.filter(|size| size != "auto"),
            guidance: self.guidance,
            sampler: self.sampler,
            within_s: self.within,
            may_shrink: self.may_shrink.unwrap_or(false),
            force: self.force.unwrap_or(false),
            count: self.n,
            strength: self.strength,
            ..Wish::default()
        }
    }
}

/// The request that a form holds, and its pictures.
///
/// # Errors
/// There is no picture or more than one, or a field is none that is known or of the form that is expected.
pub(super) fn of_form(fields: Vec<Field>) -> Result<(ImageRequest, Attachments), Problem> {
    let malformed = |message: String| Problem::new(Code::Malformed, message);
    let mut attachments = Attachments::default();
    let mut values = Map::new();
    for Field { name, bytes } in fields {
        let place = match name.as_str() {
            "image" | "image[]" => Some(&mut attachments.picture),
            "mask" => Some(&mut attachments.mask),
            _ => None,
        };
        let shown: String = name.chars().take(40).collect();
        if let Some(place) = place {
            if place.replace(bytes.to_vec()).is_some() {
                return Err(Problem::new(
                    Code::Refused,
                    format!("{shown}: is there twice, and this server begins with one picture"),
                ));
            }
            continue;
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed(format!("{shown}: is no text")))?;
        let value = if NOT_TEXT.contains(&name.as_str()) {
            let parsed = serde_json::from_str::<Value>(text).ok().filter(|value| value.is_number() || value.is_boolean());
            parsed.ok_or_else(|| malformed(format!("{shown}: is no number and neither true nor false")))?
        } else {
            Value::from(text)
        };
        if values.insert(name, value).is_some() {
            return Err(malformed(format!("{shown}: is there twice")));
        }
    }
    if attachments.picture.is_none() {
        return Err(malformed("image: is missing".to_owned()));
    }
    let asked = serde_json::from_value(Value::Object(values)).map_err(|error| malformed(format!("body: {error}")))?;
    Ok((asked, attachments))
}

/// A mask as Kiln has it, white where the picture may change, of one as OpenAI has it, clear there.
///
/// # Errors
/// It is no picture, larger than the limit, or has no transparency.
pub(super) fn mask_of(dispatcher: &Dispatcher, file: Vec<u8>) -> Result<Vec<u8>> {
    let mut holder = Request::new("");
    dispatcher.attach(&mut holder, &Attachments { picture: None, mask: Some(file) })?;
    let Some(mask) = holder.mask else { refuse!("mask: is no picture") };
    if mask.channels != 4 {
        refuse!("mask: has no transparency, expected a PNG file that is clear where the picture may change");
    }
    let pixels = mask.pixels.chunks_exact(4).flat_map(|pixel| [255 - pixel.last().copied().unwrap_or(255); 3]).collect();
    encode(&Picture::new(mask.width, mask.height, 3, pixels)?, None, Format::Png)
}
