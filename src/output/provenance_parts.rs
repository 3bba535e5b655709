//! Parts of a picture's provenance: which model, what one component did, which place on a walk, which clip.

use serde::{Deserialize, Serialize};

use super::clip::FrameRate;

/// A place on the way from one seed's noise to another's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WalkPlace {
    /// The seed at the end of the way.
    pub to: u64,
    /// The share of the way, 0 to 1.
    pub share: f32,
}

/// How pictures follow each other in a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipRecord {
    /// Pictures that were made.
    pub frames: usize,
    /// How many are shown in a second.
    pub frames_per_second: FrameRate,
    /// Whether they are shown backwards after the last.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bounce: bool,
}

/// A network that enlarged the picture when it was finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpscaleRecord {
    /// The name in its card, or of its folder or file.
    pub name: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
    /// How many times as large it made the picture, each way.
    pub factor: usize,
}

/// A word with vectors of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingId {
    /// The word.
    pub name: String,
    /// SHA-256 of its file, hexadecimal.
    pub sha256: String,
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
    /// The execution provider that ran it, such as `openvino`; `openvino+cpu` where the processor ran a part.
    pub provider: String,
    /// The type of its weights, such as `f32`.
    pub precision: String,
    /// The file in its folder, where it was not the plain `model.onnx`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Time to load it, in milliseconds.
    pub load_ms: f64,
    /// Time of all its calls together, in milliseconds.
    pub run_ms: f64,
    /// How often it was called.
    pub calls: usize,
}
