//! What a client asks for, as JSON: the body of a job, and what is kept of it so that it can be repeated.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::limits::Limits;
use super::problem::{Code, Problem};
use crate::output::FrameRate;
use crate::plan::Budget;
use crate::request::{Request, SamplerChoice};
use crate::{refusal, refuse};

/// Up to here every whole number has a floating-point number of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What a picture shall show and how it shall be made; what is left out is the model's own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// What the picture shows; of a model that knows classes, the class's name, or nothing.
    #[serde(default)]
    pub prompt: String,
    /// What it does not show; works only with guidance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Whether brackets are letters and a long prompt is cut; otherwise `(word:1.3)` and its kin weigh words.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_prompt: bool,
    /// A model by the name that `/bundles` lists; the server's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where the noise begins; picture `n` of several has `seed + n`. Drawn when left out.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    // The format that stands for this type by itself is that of half its range.
    #[schema(format = "uint64", maximum = 18446744073709551615_u64)]
    pub seed: Option<u64>,
    /// Denoising steps.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9007199254740992_u64)]
    pub steps: Option<usize>,
    /// Width and height in pixels, as `512x768`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Guidance scale; 1 is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f32>,
    /// Another sampler, such as `euler`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// The longest that making it may take, in seconds. Where the model was measured on the server's device the plan keeps to it or the job is refused; else it is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_s: Option<f64>,
    /// Whether a smaller picture will do where `within_s` asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_shrink: bool,
    /// Whether steps, guidance and a sampler are taken that the model was not made for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// How many pictures; 1 when left out.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9007199254740992_u64)]
    pub count: Option<usize>,
    /// How many frames a clip has; a model that makes clips takes it.
    #[serde(default, deserialize_with = "whole", skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 9007199254740992_u64)]
    pub frames: Option<usize>,
    /// How many frames of a clip are shown in a second, 0.1 to 100; a model that makes clips takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.1, maximum = 100)]
    pub fps: Option<f64>,
    /// How much of `picture` is made anew, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// How far a style keeps from the mean one, 0 to 1; a style-based generator takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<f32>,
    /// Deviation of the latents that are drawn; an autoencoder and a flow take it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// A picture to begin with: a PNG, JPEG or WebP file in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// Where `picture` may change, white may and black stays: a file as `picture` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Whether `preview` events are made; they are unless this is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previews: Option<bool>,
    /// The longest that the job may wait and run together, in seconds; the server's limit when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_s: Option<f64>,
}

/// The files of pictures that came with a wish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachments {
    /// A picture to begin with.
    pub picture: Option<Vec<u8>>,
    /// Where it may change.
    pub mask: Option<Vec<u8>>,
}

impl Attachments {
    /// How large the files are together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        [&self.picture, &self.mask].into_iter().flatten().map(|file| file.len() as u64).sum()
    }
}

impl Wish {
    /// Takes the pictures out, decoded from base64.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): one is no base64.
    pub fn take_attachments(&mut self) -> Result<Attachments> {
        fn bytes(name: &str, text: Option<String>) -> Result<Option<Vec<u8>>> {
            let Some(text) = text else { return Ok(None) };
            // Browsers hand out pictures as data addresses.
            let inner = match text.strip_prefix("data:") {
                Some(rest) => rest.split_once(";base64,").map(|(_, inner)| inner),
                None => Some(text.as_str()),
            };
            let decoded = inner.and_then(|inner| STANDARD.decode(inner.trim()).ok());
            decoded.map(Some).ok_or_else(|| refusal!("{name}: is no base64, expected a PNG, JPEG or WebP file in base64"))
        }
        Ok(Attachments { picture: bytes("picture", self.picture.take())?, mask: bytes("mask", self.mask.take())? })
    }

    /// The request that it stands for, but for its pictures.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): a value is beyond `limits`, or not of the form that is expected.
    pub fn request(&self, limits: &Limits) -> Result<Request> {
        for (name, text) in [("prompt", Some(&self.prompt)), ("negative_prompt", self.negative_prompt.as_ref())] {
            let characters = text.map_or(0, |text| text.chars().count());
            if characters > limits.prompt_characters {
                let message = format!("{name}: has {characters} characters, expected at most {}", limits.prompt_characters);
                return Err(Problem::new(Code::TooLarge, message).into());
            }
        }
        let size = self.size.as_deref().map(parse_size).transpose()?;
        let count = self.count.unwrap_or(1);
        if count == 0 || count > limits.count {
            refuse!("count: is {count}, expected 1 to {}", limits.count);
        }
        if let Some(steps) = self.steps.filter(|steps| *steps == 0 || *steps > limits.steps) {
            refuse!("steps: is {steps}, expected 1 to {}", limits.steps);
        }
        if let Some(frames) = self.frames.filter(|frames| *frames == 0 || *frames > limits.frames) {
            refuse!("frames: is {frames}, expected 1 to {}", limits.frames);
        }
        Ok(Request {
            frames: self.frames,
            frame_rate: self.rate()?,
            negative: self.negative_prompt.clone(),
            plain_prompt: self.plain_prompt,
            seed: self.seed,
            steps: self.steps,
            guidance: self.guidance,
            size,
            count,
            force: self.force,
            sampler: self.sampler.as_deref().map(SamplerChoice::named).transpose().context("sampler")?.unwrap_or_default(),
            strength: self.strength,
            truncation: self.truncation,
            temperature: self.temperature,
            ..Request::new(self.prompt.clone())
        })
    }

    /// How fast the frames of a clip follow each other, where it says so.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): it is no such speed.
    pub fn rate(&self) -> Result<Option<FrameRate>> {
        // Six places, beyond which a program's arithmetic alone says something.
        let rate = |fps: f64| format!("{fps:.6}").parse().context("fps");
        self.fps.map(rate).transpose()
    }

    /// The budget of time that it names.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): it is no time.
    pub fn budget(&self) -> Result<Budget> {
        let within_ms = positive("within_s", self.within_s)?.map(|seconds| seconds * 1_000.0);
        Ok(Budget { within_ms, may_shrink: self.may_shrink, ..Budget::default() })
    }

    /// The longest that it may wait and run together, in seconds.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): it is no time.
    pub fn deadline_s(&self, limits: &Limits) -> Result<f64> {
        Ok(positive("deadline_s", self.deadline_s)?.map_or(limits.deadline_s, |asked| asked.min(limits.deadline_s)))
    }
}

/// A whole number; some programs write 4 as `4.0`.
fn whole<'d, T: TryFrom<u64>, D: Deserializer<'d>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked before")]
    let of_fraction = |value: f64| (value.fract() == 0.0 && (0.0..=EXACT).contains(&value)).then_some(value as u64);
    let found = number.as_u64().or_else(|| number.as_f64().and_then(of_fraction)).and_then(|value| T::try_from(value).ok());
    found.map(Some).ok_or_else(|| D::Error::custom(format!("{number} is no whole number from 0 on")))
}

fn positive(name: &str, seconds: Option<f64>) -> Result<Option<f64>> {
    match seconds {
        Some(seconds) if !(seconds.is_finite() && seconds > 0.0) => refuse!("{name}: is {seconds}, expected seconds above 0"),
        seconds => Ok(seconds),
    }
}

fn parse_size(text: &str) -> Result<(u32, u32)> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let shown: String = text.chars().take(40).collect();
    sides.ok_or_else(|| refusal!("size: is {shown:?}, expected width and height as 512x768"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    #[test]
    fn what_is_left_out_stays_the_models_own() {
        let wish: Wish = serde_json::from_str(r#"{"prompt": "a red apple", "size": "64x32", "sampler": "euler"}"#).unwrap();
        let request = wish.request(&Limits::default()).unwrap();
        assert_eq!(
            (request.prompt.as_str(), request.size, request.count, request.steps),
            ("a red apple", Some((64, 32)), 1, None)
        );
        assert_eq!(serde_json::to_value(&wish).unwrap().as_object().unwrap().len(), 3, "defaults are not kept");
    }

    #[test]
    fn values_of_no_sense_are_refused() {
        let limits = Limits::default();
        let mut cases = 0;
        for body in [
            r#"{"size": "64"}"#,
            r#"{"size": "-1x2"}"#,
            r#"{"size": "99999999999x1"}"#,
            r#"{"count": 0}"#,
            r#"{"count": 9}"#,
            r#"{"steps": 0}"#,
            r#"{"steps": 1001}"#,
            r#"{"within_s": 0}"#,
            r#"{"within_s": -3}"#,
            r#"{"deadline_s": 0}"#,
            r#"{"frames": 0}"#,
            r#"{"frames": 241}"#,
            r#"{"fps": 0}"#,
            r#"{"fps": -1}"#,
            r#"{"fps": 1e9}"#,
            r#"{"fps": 1e300}"#,
            r#"{"fps": 0.00001}"#,
            r#"{"sampler": "../../etc"}"#,
            r#"{"picture": "?"}"#,
            r#"{"picture": "data:image/png,abc"}"#,
        ] {
            let mut wish: Wish = serde_json::from_str(body).unwrap();
            let outcome = (|| {
                wish.take_attachments()?;
                wish.budget()?;
                wish.deadline_s(&limits)?;
                wish.request(&limits)
            })();
            assert!(is_refusal(&outcome.expect_err(body)), "{body}");
            cases += 1;
        }
        assert_eq!(cases, 20);
        let wish: Wish = serde_json::from_str(r#"{"frames": 24.0, "fps": 12.5}"#).unwrap();
        let request = wish.request(&limits).unwrap();
        assert_eq!((request.frames, request.frame_rate), (Some(24), wish.rate().unwrap()));
        let sum = Wish { fps: Some(0.1 + 0.2), ..Wish::default() };
        assert_eq!(sum.rate().unwrap(), Some(FrameRate::new(3, 10).unwrap()));
        assert_eq!((wish.frames, wish.rate().unwrap()), (Some(24), Some(FrameRate::new(25, 2).unwrap())));
        let wish: Wish = serde_json::from_str(r#"{"steps": 4.0, "seed": 18446744073709551615, "count": null}"#).unwrap();
        assert_eq!((wish.steps, wish.seed, wish.count), (Some(4), Some(u64::MAX), None));
        for body in [
            r#"{"steps": 4.5}"#,
            r#"{"seed": 1e300}"#,
            r#"{"steps": -1}"#,
            r#"{"stepps": 4}"#,
            r#"{"seed": 1.5}"#,
            r#"{"guidance": "x"}"#,
            r#"{"within_s": NaN}"#,
        ] {
            assert!(serde_json::from_str::<Wish>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_data_address_is_a_picture_too() {
        for text in ["aGk=", " aGk= ", "data:image/png;base64,aGk="] {
            let mut wish = Wish { picture: Some(text.into()), ..Wish::default() };
            assert_eq!(wish.take_attachments().unwrap().picture.as_deref(), Some(b"hi".as_slice()));
            assert_eq!(wish.picture, None);
        }
    }
}
