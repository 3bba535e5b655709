//! What made a picture, written into it and read back.
//!
//! Two texts go into a PNG file. `kiln` is the JSON of [`Provenance`], from which the picture can be made again; `parameters` is
//! the customary text that Automatic1111's web UI began and that galleries and other generators read.
//!
//! Not here: how texts lie in a file (`text_chunk.rs`), and gathering the facts.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::decoder::read_limited;
use super::text_chunk;
use crate::{refusal, refuse};

/// The version of the JSON; a reader refuses another one.
pub const PROVENANCE_SCHEMA: u32 = 1;
/// Keyword of the customary text.
pub(super) const PARAMETERS: &str = "parameters";
/// Keyword of the JSON.
pub(super) const KILN: &str = "kiln";

/// What made a picture.
///
/// What a reader does not know is ignored, and what is optional may be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// [`PROVENANCE_SCHEMA`].
    pub schema: u32,
    /// The version of Kiln.
    pub kiln: String,
    /// The model folder.
    pub bundle: BundleId,
    /// The algorithm, such as `latent_diffusion`.
    pub family: String,
    /// The prompt; `None` for a model that takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The negative prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// The seed that gives this very picture, also when it is one of several.
    pub seed: u64,
    /// Whose random numbers: `cpu` or `cuda`.
    pub rng: String,
    /// The sampler, such as `euler`.
    pub sampler: String,
    /// What the person changed in the sampler's configuration.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub sampler_overrides: serde_json::Map<String, serde_json::Value>,
    /// Steps asked for.
    pub steps: usize,
    /// Training timesteps visited, noisiest first.
    #[serde(default)]
    pub timesteps: Vec<f32>,
    /// Scale of classifier-free guidance; 1 is none.
    pub guidance: f32,
    /// Noise put back by DDIM and its kin, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f32>,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How much of the input picture was repainted, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// Path of the input picture as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// SHA-256 of the input picture's file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_sha256: Option<String>,
    /// Path of the mask as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// SHA-256 of the mask's file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_sha256: Option<String>,
    /// Threads of the runtime within one operator.
    #[serde(default)]
    pub threads: usize,
    /// `low` or `normal`.
    #[serde(default)]
    pub memory: String,
    /// Version of ONNX Runtime.
    #[serde(default)]
    pub runtime: String,
    /// What ran, in the order of its first run.
    #[serde(default)]
    pub components: Vec<ComponentRun>,
    /// From the request to the finished pixels, in milliseconds.
    #[serde(default)]
    pub total_ms: f64,
}

/// Which model folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleId {
    /// The name in its card, or of its folder.
    pub name: String,
    /// The version in its card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// SHA-256 over its files, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Where it lay, as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// How one component ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ComponentRun {
    /// The role, such as `unet`.
    pub role: String,
    /// The execution provider.
    pub provider: String,
    /// The type of its tensors, such as `float32`.
    pub precision: String,
    /// Time to load it, in milliseconds.
    pub load_ms: f64,
    /// Time of all its calls together, in milliseconds.
    pub run_ms: f64,
    /// How often it was called.
    pub calls: usize,
}

impl Provenance {
    /// Gives the customary text: prompt, negative prompt, and a line of settings.
    #[must_use]
    pub fn parameters(&self) -> String {
        let mut text = String::new();
        if let Some(prompt) = &self.prompt {
            text.push_str(prompt);
            text.push('\n');
        }
        if let Some(negative) = self.negative.as_ref().filter(|negative| !negative.is_empty()) {
            text.push_str("Negative prompt: ");
            text.push_str(negative);
            text.push('\n');
        }
        let Self { steps, sampler, guidance, seed, width, height, .. } = self;
        // Writing into a string does not fail.
        let _ = write!(text, "Steps: {steps}, Sampler: {}, CFG scale: {guidance}, Seed: {seed}", quoted(sampler));
        let _ = write!(text, ", Size: {width}x{height}");
        if let Some(strength) = self.strength {
            let _ = write!(text, ", Denoising strength: {strength}");
        }
        let _ = write!(text, ", Model: {}", quoted(&self.bundle.name));
        if let Some(hash) = self.bundle.sha256.as_ref().and_then(|hash| hash.get(..10)) {
            let _ = write!(text, ", Model hash: {}", quoted(hash));
        }
        let _ = write!(text, ", Version: {}", quoted(&format!("kiln {}", self.kiln)));
        text
    }

    /// Gives the JSON on one line.
    ///
    /// # Errors
    /// None that a [`Provenance`] can cause.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Reads the JSON; `name` is what messages call the file it came from.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): `text` is not this JSON, or of another schema.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        /// Read first, since another schema may differ in everything else.
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let broken = |error| refusal!("provenance in {name} is broken: {error}");
        let head: Head = serde_json::from_str(text).map_err(broken)?;
        if head.schema != PROVENANCE_SCHEMA {
            refuse!("provenance in {name} is of schema {}, expected {PROVENANCE_SCHEMA}; use a newer kiln", head.schema);
        }
        serde_json::from_str(text).map_err(broken)
    }
}

/// Puts a value in quotes where its letters would end it early.
fn quoted(value: &str) -> String {
    if value.contains([',', ':', '\n', '"']) { serde_json::Value::from(value).to_string() } else { value.to_owned() }
}

/// Reads what made the PNG file `path`: the customary text and Kiln's own, each `None` where the file has none.
///
/// # Errors
/// Each is a [`Refusal`](crate::error::Refusal): `path` is not readable, no PNG file, broken before its pixels begin, holds more
/// text than is sensible, or its JSON is not Kiln's.
pub fn read(path: &Path) -> Result<(Option<String>, Option<Provenance>)> {
    let bytes = read_limited(path)?;
    let name = path.display().to_string();
    let [parameters, json] = text_chunk::decode(&bytes, [PARAMETERS, KILN], &name)?;
    let provenance = json.map(|json| Provenance::from_json(&json, &name)).transpose()?;
    Ok((parameters, provenance))
}
