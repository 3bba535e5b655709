//! What a prepared network belongs to: the file it was made of, and the machine it was made for.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::bundle::sha256_of_bytes;
use crate::runtime::{Board, Dimensions, Processor, Provider, Runtime, library_identity};

/// A file as it was when something was made of it: cheap to hold against the file of today, where a checksum of gigabytes is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// Its name within its folder.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last written, in nanoseconds since 1970.
    pub modified_ns: u64,
}

impl FileState {
    /// The state of the file `name` in `folder`, links followed.
    ///
    /// # Errors
    /// There is no such file.
    pub fn read(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let metadata = std::fs::metadata(&path).with_context(|| path.display().to_string())?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ns = modified.and_then(|time| u64::try_from(time.as_nanos()).ok()).unwrap_or_default();
        Ok(Self { name: name.to_owned(), size_bytes: metadata.len(), modified_ns })
    }
}

/// What a prepared network belongs to; where one part differs, another one is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreparedKey {
    /// The bundle's fingerprint.
    pub bundle: String,
    /// The component's role.
    pub role: String,
    /// The network's file and those of its weights.
    pub files: Vec<FileState>,
    /// The providers with their options, the most wanted first.
    pub providers: Vec<String>,
    /// The sizes that its open dimensions were fixed to.
    #[serde(default, skip_serializing_if = "Dimensions::is_empty")]
    pub dimensions: Dimensions,
    /// ONNX Runtime's version and its file, and the plugin's.
    pub runtime: String,
    /// The processor with its instructions; for another provider the machine with its drivers.
    pub device: String,
}

impl PreparedKey {
    /// The name of its folder.
    ///
    /// # Errors
    /// The key cannot be written as JSON.
    pub fn folder_name(&self) -> Result<String> {
        let sum = sha256_of_bytes(&serde_json::to_vec(self)?);
        Ok(format!("{}{}", self.kind(), sum.chars().take(16).collect::<String>()))
    }

    /// How the names of folders begin that hold the same component for the same provider.
    pub(super) fn kind(&self) -> String {
        let provider = self.providers.first().and_then(|setup| setup.split(':').next()).unwrap_or("cpu");
        format!("{}-{provider}-", self.role)
    }
}

/// The states of the network `path` and of what may hold its weights: every file beside it that is no other network.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn source_files(path: &Path) -> Result<Vec<FileState>> {
    let folder = path.parent().context("the network lies in no folder")?;
    let own = path.file_name().and_then(|name| name.to_str()).context("the network's name is no text")?;
    let mut files = vec![FileState::read(folder, own)?];
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_other = name.ends_with(".onnx") || name.ends_with(".json") || name.ends_with(".toml");
        if name != own && !is_other && entry.path().is_file() {
            files.push(FileState::read(folder, &name)?);
        }
    }
    files.sort();
    Ok(files)
}

/// ONNX Runtime's version, and its file as it is today.
pub(super) fn runtime_identity(runtime: &Runtime) -> String {
    format!("{} {}", library_identity(runtime.version(), runtime.path()), runtime.path().display())
}

/// The file of the plugin as it is today, behind a blank; nothing where there is none.
pub(super) fn plugin_identity(runtime: &Runtime) -> String {
    let text = |path: PathBuf| format!(" plugin{}", library_identity("", &path));
    runtime.plugin().map(text).unwrap_or_default()
}

/// What a network that was made for `provider` depends on: weights that were packed for a processor's instructions run on no other.
pub(super) fn device_identity(provider: Provider) -> String {
    let root = Path::new("/");
    if provider != Provider::Cpu {
        return Board::of_measurements(root).identity();
    }
    let processor: Processor = Board::processor_of(root);
    let features = processor.features.as_ref().map(|features| features.value.join(" ")).unwrap_or_default();
    format!("{} {} {features}", std::env::consts::ARCH, processor.text())
}
