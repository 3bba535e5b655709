//! What a server is asked for, as the body of `POST /jobs`.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use crate::error::refuse;

/// A job; what is left out is the model's own, or the server's.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Wish {
    /// What the picture shows.
    pub prompt: String,
    /// What it does not show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Whether brackets are letters and a long prompt is cut.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain_prompt: bool,
    /// A model by the server's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Where the noise begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Denoising steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Width and height in pixels.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "size")]
    pub size: Option<(u32, u32)>,
    /// Guidance scale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<f32>,
    /// A sampler's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<String>,
    /// The longest that making it may take, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_s: Option<f64>,
    /// Whether a smaller picture will do.
    pub may_shrink: bool,
    /// Whether steps, guidance and a sampler are taken that the model was not made for.
    pub force: bool,
    /// How many pictures.
    pub count: usize,
    /// How many frames a clip has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// How much of `picture` is made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// How far a style keeps from the mean one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncation: Option<f32>,
    /// Deviation of the latents that are drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// The file of a picture to begin with.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "base64")]
    pub picture: Option<Vec<u8>>,
    /// The file of a picture that says where it may change.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "base64")]
    pub mask: Option<Vec<u8>>,
    /// Whether previews are made.
    pub previews: bool,
}

impl Wish {
    /// Makes sure that it can be sent.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): a number is none, which JSON has no word for.
    pub fn check(&self) -> Result<()> {
        let numbers = [
            ("guidance", self.guidance),
            ("strength", self.strength),
            ("truncation", self.truncation),
            ("temperature", self.temperature),
        ];
        for (name, number) in numbers {
            if let Some(number) = number.filter(|number| !number.is_finite()) {
                refuse!("{name}: is {number}, expected a number");
            }
        }
        Ok(())
    }

    /// The body of the request.
    ///
    /// # Errors
    /// As [`Wish::check`].
    pub(super) fn to_json(&self) -> Result<String> {
        self.check()?;
        Ok(serde_json::to_string(self)?)
    }
}

#[expect(clippy::ref_option, reason = "serde's form")]
fn size<S: Serializer>(size: &Option<(u32, u32)>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|(width, height)| format!("{width}x{height}")).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "serde's form")]
fn base64<S: Serializer>(file: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
    file.as_ref().map(|file| STANDARD.encode(file)).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    #[test]
    fn what_is_not_said_is_left_out() {
        let wish = Wish { prompt: "a red apple".into(), size: Some((64, 32)), guidance: Some(1.1), count: 1, ..Wish::default() };
        let json = r#"{"prompt":"a red apple","size":"64x32","guidance":1.1,"may_shrink":false,"force":false,"count":1,"previews":false}"#;
        assert_eq!(wish.to_json().unwrap(), json);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        let wish = Wish { strength: Some(f32::NAN), ..Wish::default() };
        assert!(is_refusal(&wish.to_json().unwrap_err()));
    }
}
