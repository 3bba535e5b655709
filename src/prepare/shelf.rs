//! The folder of prepared networks in a user's cache: finding, listing, clearing.
//!
//! It may be of anybody's making. What lies there is believed when its manifest names this key and its files are as they were when they
//! were made, by size and time of writing: the trust that the bundle's own files have when they are opened. `check` reads them whole.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::key::{FileState, PreparedKey, device_identity, plugin_identity, runtime_identity, source_files};
use super::making::UNFINISHED;
use crate::bundle::{Bundle, Role, sha256_of_file};
use crate::plan::{Assignment, Assignments};
use crate::runtime::{Dimensions, Kept, Port, Provider, ProviderSetup, Runtime};

/// The layout of a manifest; another number is another layout.
pub const PREPARED_SCHEMA: u32 = 1;
/// Where prepared networks lie in the user's cache.
const FOLDER: &str = "kiln/prepared";
/// The file that says what lies beside it.
pub(super) const MANIFEST: &str = "manifest.json";
/// A network that is optimised already, and its weights.
pub(super) const NETWORK: &str = "model.onnx";
pub(super) const WEIGHTS: &str = "weights.bin";
/// The folder that a provider fills by itself.
pub(super) const KEPT: &str = "kept";
/// A manifest has some kilobytes.
const LARGEST_MANIFEST_BYTES: u64 = 1 << 20;

/// What was made, with the checksum that `check` holds against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeFile {
    /// Its state when it was made.
    pub state: FileState,
    /// Its SHA-256.
    pub sha256: String,
}

/// What lies in the folder of one prepared network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`PREPARED_SCHEMA`].
    pub schema: u32,
    /// What it belongs to.
    pub key: PreparedKey,
    /// The files, by their place within the folder.
    pub files: Vec<MadeFile>,
    /// Opening the bundle's own file when this was made, in milliseconds.
    pub load_before_ms: f64,
    /// Opening what was made, in milliseconds.
    pub load_after_ms: f64,
}

/// One prepared network, listed.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its folder.
    pub folder: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// What its manifest says; why it cannot be believed.
    pub manifest: Result<Manifest, String>,
}

/// The prepared networks of one bundle for one runtime.
#[derive(Debug, Clone)]
pub struct PreparedShelf {
    folder: PathBuf,
    bundle: String,
    runtime: String,
    plugin: String,
}

impl PreparedShelf {
    /// Those of `bundle` in the folder that applications keep their caches in.
    #[must_use]
    pub fn new(cache: &Path, bundle: &Bundle, runtime: &Runtime) -> Self {
        let folder = cache.join(FOLDER).join(bundle.fingerprint.chars().take(16).collect::<String>());
        let plugin = plugin_identity(runtime);
        Self { folder, bundle: bundle.fingerprint.clone(), runtime: runtime_identity(runtime), plugin }
    }

    /// Where they lie.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The key of what would be prepared for `assignment`, with its open dimensions fixed to `dimensions`.
    pub(super) fn key(&self, role: Role, assignment: &Assignment, dimensions: Dimensions) -> Result<PreparedKey> {
        let provider = main_provider(assignment);
        // No plugin has a part in what is done on the processor.
        let plugin = if provider == Provider::Cpu { "" } else { &self.plugin };
        Ok(PreparedKey {
            bundle: self.bundle.clone(),
            role: role.folder().to_owned(),
            files: source_files(&assignment.path)?,
            providers: assignment.providers.iter().map(ToString::to_string).collect(),
            dimensions,
            runtime: format!("{}{plugin}", self.runtime),
            device: device_identity(provider),
        })
    }

    /// The folder and the manifest of what was prepared under `key`; `None` where nothing was.
    ///
    /// # Errors
    /// Something lies there and is not to be believed.
    pub(super) fn find(&self, key: &PreparedKey) -> Result<Option<(PathBuf, Manifest)>> {
        let folder = self.folder.join(key.folder_name()?);
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => bail!("{}: is not a folder", folder.display()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| folder.display().to_string()),
        }
        let manifest = believed(&folder)?;
        ensure!(manifest.key == *key, "{}: is of another bundle, runtime or device", folder.display());
        Ok(Some((folder, manifest)))
    }

    /// Has each component of `assignments` opened as it was prepared, where it was and still fits; says at level `info` which are.
    pub fn apply(&self, assignments: &mut Assignments) {
        // A machine's name takes longer to find out than that nothing was ever prepared.
        if !self.folder.is_dir() {
            return;
        }
        for (role, assignment) in assignments.iter_mut() {
            let found = match is_by_shape(assignment) {
                true => self.find_shapes(role, assignment),
                false => self.key(role, assignment, Dimensions::default()).and_then(|key| self.find(&key)).map(Vec::from_iter),
            };
            match found {
                Ok(found) if !found.is_empty() => {
                    for (folder, manifest) in found {
                        log::info!("{role}: as prepared in {}", folder.display());
                        if let (Kept::InFolder(_), Some(setup)) =
                            (main_provider(assignment).facts().kept, assignment.providers.first_mut())
                        {
                            setup.keep_in(&folder.join(KEPT));
                        } else {
                            assignment.prepared.push((manifest.key.dimensions, folder.join(NETWORK)));
                        }
                    }
                }
                Ok(_) if self.was_prepared(role) => {
                    log::info!(
                        "{role}: was prepared for another file, runtime, provider or machine; `kiln prepare` does it anew"
                    );
                }
                Ok(_) => {}
                Err(error) => log::warn!("{role}: what was prepared is left aside: {error:#}; `kiln prepare` makes it anew"),
            }
        }
    }

    /// What was prepared for `assignment`, each time for other shapes; what is not to be believed is told and left out.
    fn find_shapes(&self, role: Role, assignment: &Assignment) -> Result<Vec<(PathBuf, Manifest)>> {
        let any = self.key(role, assignment, Dimensions::default())?;
        let beginning = any.kind();
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder).with_context(|| self.folder.display().to_string())?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with(&beginning) {
                continue;
            }
            match believed(&entry.path()) {
                Ok(manifest) if (PreparedKey { dimensions: Dimensions::default(), ..manifest.key.clone() }) == any => {
                    found.push((entry.path(), manifest));
                }
                Ok(_) => {}
                Err(error) => log::warn!("{role}: what was prepared is left aside: {error:#}; `kiln prepare` makes it anew"),
            }
        }
        Ok(found)
    }

    fn was_prepared(&self, role: Role) -> bool {
        let beginning = format!("{role}-");
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&beginning))
    }

    /// Removes what was prepared for the role on the provider of `key` and is not of `key`: it is of no use any more. What differs in its shapes
    /// alone stays.
    pub(super) fn remove_stale(&self, key: &PreparedKey) -> Result<()> {
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let is_of_kind = entry.file_name().to_string_lossy().starts_with(&key.kind());
            let is_of_key = || {
                let manifest = believed(&entry.path()).ok()?;
                Some(PreparedKey { dimensions: key.dimensions.clone(), ..manifest.key } == *key)
            };
            if is_of_kind && is_of_key() != Some(true) {
                fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
            }
        }
        Ok(())
    }
}

/// Everything that was prepared for any bundle, runtime and machine, by folder.
///
/// * `cache`: the folder that applications keep their caches in
#[must_use]
pub fn list(cache: &Path) -> Vec<Listed> {
    let folders = |folder: &Path| {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir())
    };
    let is_finished = |folder: &PathBuf| !folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(UNFINISHED));
    let mut found: Vec<Listed> = folders(&cache.join(FOLDER))
        .flat_map(|bundle| folders(&bundle).filter(is_finished).collect::<Vec<_>>())
        .map(|folder| Listed {
            size_bytes: folder_bytes(&folder),
            manifest: believed(&folder).map_err(|error| format!("{error:#}")),
            folder,
        })
        .collect();
    found.sort_by(|left, right| left.folder.cmp(&right.folder));
    found
}

/// Removes everything that was prepared; returns how many bytes that was.
///
/// # Errors
/// A file cannot be removed.
pub fn clear(cache: &Path) -> Result<u64> {
    let folder = cache.join(FOLDER);
    let bytes = folder_bytes(&folder);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| folder.display().to_string()),
        _ => Ok(bytes),
    }
}

/// Reads every file of a prepared network, but for those that a provider keeps, and holds it against its checksum.
///
/// # Errors
/// The manifest is not to be believed; a file is another than was made.
pub fn check(folder: &Path) -> Result<()> {
    for file in believed(folder)?.files.into_iter().filter(|file| !is_kept(&file.state.name)) {
        let path = folder.join(&file.state.name);
        ensure!(sha256_of_file(&path)? == file.sha256, "{}: is not what was made; `kiln prepare` makes it anew", path.display());
    }
    Ok(())
}

/// The provider that a component is prepared for.
pub(super) fn main_provider(assignment: &Assignment) -> Provider {
    assignment.providers.first().map_or(Provider::Cpu, ProviderSetup::provider)
}

/// Whether anything can be prepared for `provider`.
pub(super) fn prepares(provider: Provider) -> bool {
    provider == Provider::Cpu || provider.facts().kept != Kept::Nothing
}

/// Whether it is prepared for one shape at a time.
pub(super) fn is_by_shape(assignment: &Assignment) -> bool {
    main_provider(assignment).facts().takes_fixed_shapes && assignment.inputs.iter().any(Port::is_open)
}

/// The manifest of `folder`, with files that are as they were.
fn believed(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let read = || -> Result<Manifest> {
        // A pipe in its place would be waited for without end.
        ensure!(fs::symlink_metadata(&path)?.is_file(), "is not a file");
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(LARGEST_MANIFEST_BYTES + 1).read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 <= LARGEST_MANIFEST_BYTES, "is larger than {LARGEST_MANIFEST_BYTES} bytes");
        let manifest: Manifest = serde_json::from_slice(&bytes)?;
        ensure!(manifest.schema == PREPARED_SCHEMA, "its `schema` is {}, expected {PREPARED_SCHEMA}", manifest.schema);
        Ok(manifest)
    };
    let manifest = read().with_context(|| path.display().to_string())?;
    for MadeFile { state, .. } in &manifest.files {
        let is_within = Path::new(&state.name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        ensure!(is_within, "{}: names {:?}, expected files within the folder", path.display(), state.name);
        let file = folder.join(&state.name);
        let found = fs::symlink_metadata(&file).with_context(|| file.display().to_string())?;
        ensure!(found.is_file(), "{}: is not a file", file.display());
        // What a provider keeps it may write anew, and it checks that by itself.
        let is_as_made = is_kept(&state.name) || FileState::read(folder, &state.name)? == *state;
        ensure!(is_as_made, "{}: was changed after it was made", file.display());
    }
    ensure!(!manifest.files.is_empty(), "{}: names no file", path.display());
    Ok(manifest)
}

/// Whether a provider keeps the file of this name.
fn is_kept(name: &str) -> bool {
    name.split('/').next() == Some(KEPT)
}

/// Bytes of all files below `folder`, links not followed.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => folder_bytes(&entry.path()),
            Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |metadata| metadata.len()),
            _ => 0,
        })
        .sum()
}
