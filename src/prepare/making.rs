//! Prepares one component: makes it, holds it against the original, times both, and lays it on the shelf in one step.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use ndarray::ArrayD;

use super::key::{FileState, PreparedKey};
use super::packing::is_aligned;
use super::shelf::{
    KEPT, MANIFEST, MadeFile, Manifest, NETWORK, PREPARED_SCHEMA, PreparedShelf, WEIGHTS, folder_bytes, is_by_shape,
    main_provider, prepares,
};
use crate::bundle::{Bundle, Role, sha256_of_file};
use crate::plan::Assignment;
use crate::refuse;
use crate::runtime::{Cancel, Dimensions, Kept, Network, NetworkOptions, Provider, Runtime, Tensor};
use crate::tune::{Configuration, inputs};

/// Beginning of the names of folders that are being filled.
pub(super) const UNFINISHED: &str = ".making-";
/// A folder that was begun this long ago is filled by nobody any more.
const STILL_AT_WORK: Duration = Duration::from_secs(3600);

/// What became of one component.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The component.
    pub role: Role,
    /// Where it lies.
    pub folder: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Opening the bundle's own file, in milliseconds.
    pub load_before_ms: f64,
    /// Opening what was made, in milliseconds.
    pub load_after_ms: f64,
    /// Whether it was there already, under the same key.
    pub was_there: bool,
}

/// For what a component is prepared, beside the machine.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Threads within one operator.
    pub threads: usize,
    /// Width and height of the picture in pixels.
    pub size: (u32, u32),
    /// Make it again though it is there.
    pub again: bool,
}

/// Prepares the component of `role` as `assignment` has it opened.
///
/// # Errors
/// A refusal: nothing can be prepared for its provider. The provider does not take the network; the shelf's folder takes no files or
/// the disk is full, and then what was there stays; what was made gives other numbers than the original; the run was cancelled.
pub fn prepare(
    bundle: &Bundle,
    role: Role,
    assignment: &Assignment,
    runtime: &Runtime,
    shelf: &PreparedShelf,
    wanted: Wanted,
    cancel: &Cancel,
) -> Result<Prepared> {
    let provider = main_provider(assignment);
    if !prepares(provider) {
        let able: Vec<&str> = Provider::ALL.into_iter().filter(|provider| prepares(*provider)).map(Provider::name).collect();
        refuse!("--provider {provider}: keeps nothing that could be prepared; of {} something is kept", able.join(", "));
    }
    let component = bundle.component(role)?;
    let configuration = Configuration {
        role: role.folder().to_owned(),
        provider: provider.name().to_owned(),
        precision: assignment.precision.clone(),
        threads: wanted.threads,
        width: wanted.size.0,
        height: wanted.size.1,
        batch: bundle.geometry.fixed_batch.unwrap_or(1),
    };
    let given = inputs(bundle, component, &configuration)?;
    let given: Vec<(&str, &Tensor)> = given.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let dimensions = match is_by_shape(assignment) {
        true => Dimensions::of(&assignment.inputs, &given).with_context(|| format!("{role}: {}", assignment.path.display()))?,
        false => Dimensions::default(),
    };
    let key = shelf.key(role, assignment, dimensions.clone())?;
    if !wanted.again
        && let Ok(Some((folder, manifest))) = shelf.find(&key)
    {
        let Manifest { load_before_ms, load_after_ms, .. } = manifest;
        return Ok(Prepared { role, size_bytes: folder_bytes(&folder), folder, load_before_ms, load_after_ms, was_there: true });
    }
    fs::create_dir_all(shelf.folder()).with_context(|| format!("{}: cannot be made", shelf.folder().display()))?;
    remove_unfinished(shelf.folder());
    let making = tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempdir_in(shelf.folder())
        .with_context(|| format!("{}: takes no files", shelf.folder().display()))?;
    let mut options = NetworkOptions {
        threads: wanted.threads,
        providers: assignment.providers.clone(),
        fallback: assignment.fallback,
        dimensions,
        ..NetworkOptions::default()
    };
    let before = once(runtime, &assignment.path, &options, &given, cancel)?;
    let network = making.path().join(NETWORK);
    match provider.facts().kept {
        Kept::Context => {
            Network::save_compiled(runtime, &assignment.path, &network, &options, cancel)?;
            options.prepared = Some(network);
        }
        Kept::InFolder(_) => {
            let kept = making.path().join(KEPT);
            fs::create_dir(&kept).with_context(|| kept.display().to_string())?;
            options.providers.first_mut().context("no provider")?.keep_in(&kept);
            once(runtime, &assignment.path, &options, &given, cancel)?;
            ensure!(folder_bytes(&kept) > 0, "{role}: {provider} kept nothing of it, so there is nothing to prepare");
        }
        Kept::Nothing => {
            save(runtime, &assignment.path, &network, cancel)?;
            options.prepared = Some(network);
        }
    }
    let after = once(runtime, &assignment.path, &options, &given, cancel)?;
    ensure!(after.used_prepared == options.prepared.is_some(), "{role}: what was made does not open; it was not kept");
    let apart = apart(&before.outputs, &after.outputs);
    ensure!(
        apart <= provider.facts().tolerance,
        "{role}: what was made gives other numbers than {}, {apart:e} apart where {:e} is allowed; it was not kept",
        assignment.path.display(),
        provider.facts().tolerance
    );
    let manifest = Manifest {
        schema: PREPARED_SCHEMA,
        key: key.clone(),
        files: made_files(making.path())?,
        load_before_ms: before.load_ms,
        load_after_ms: after.load_ms,
    };
    let folder = lay_down(making, &manifest, shelf, &key)?;
    shelf.remove_stale(&key)?;
    Ok(Prepared {
        role,
        size_bytes: folder_bytes(&folder),
        folder,
        load_before_ms: before.load_ms,
        load_after_ms: after.load_ms,
        was_there: false,
    })
}

/// Saves the optimised network, with packed weights where they lie well.
fn save(runtime: &Runtime, path: &Path, network: &Path, cancel: &Cancel) -> Result<()> {
    let weights = network.with_file_name(WEIGHTS);
    Network::save_optimised(runtime, path, network, WEIGHTS, true, cancel)?;
    if !is_aligned(&fs::read(network).with_context(|| network.display().to_string())?) {
        let gone = |path: &Path| fs::remove_file(path).with_context(|| path.display().to_string());
        gone(network)?;
        gone(&weights)?;
        Network::save_optimised(runtime, path, network, WEIGHTS, false, cancel)?;
    }
    if !weights.is_file() {
        // A network whose tensors are all small keeps them within itself.
        fs::write(&weights, []).with_context(|| weights.display().to_string())?;
    }
    Ok(())
}

/// A network opened and called once.
struct Once {
    load_ms: f64,
    used_prepared: bool,
    outputs: Vec<ArrayD<f32>>,
}

/// The largest difference between outputs, as a share of the largest value; 0 where every bit is the same.
fn apart(before: &[ArrayD<f32>], after: &[ArrayD<f32>]) -> f32 {
    let pairs = || before.iter().flatten().zip(after.iter().flatten());
    if before.len() == after.len() && pairs().all(|(before, after)| before.to_bits() == after.to_bits()) {
        return 0.0;
    }
    let largest = before.iter().flatten().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let difference = |(before, after): (&f32, &f32)| (before - after).abs() / largest;
    pairs().map(difference).fold(f32::MIN_POSITIVE, |most, share| if share.is_nan() { f32::INFINITY } else { most.max(share) })
}

fn once(runtime: &Runtime, path: &Path, options: &NetworkOptions, given: &[(&str, &Tensor)], cancel: &Cancel) -> Result<Once> {
    let mut network = Network::open(runtime, path, options, cancel)?;
    let names: Vec<String> = network.outputs().iter().map(|port| port.name.clone()).collect();
    let wanted: Vec<&str> = names.iter().map(String::as_str).collect();
    let outputs = network.run(given, &wanted, cancel)?;
    Ok(Once { load_ms: network.load_time().as_secs_f64() * 1000.0, used_prepared: network.is_prepared(), outputs })
}

/// Removes what processes left that were ended while they were at it; what was begun within the last hour may still be at work.
fn remove_unfinished(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
        let is_old = age.is_some_and(|age| age > STILL_AT_WORK);
        if is_old && entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            let removed = fs::remove_dir_all(entry.path());
            removed.unwrap_or_else(|error| log::debug!("{}: {error}", entry.path().display()));
        }
    }
}

/// The files that were made, written to the disk for good.
fn made_files(folder: &Path) -> Result<Vec<MadeFile>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            let inner = fs::read_dir(entry.path())?.flatten().filter(|entry| entry.path().is_file());
            names.extend(inner.map(|inner| format!("{name}/{}", inner.file_name().to_string_lossy())));
        } else {
            names.push(name);
        }
    }
    names.sort();
    let made = |name: &String| -> Result<MadeFile> {
        let path = folder.join(name);
        fs::File::open(&path).and_then(|file| file.sync_all()).with_context(|| path.display().to_string())?;
        Ok(MadeFile { state: FileState::read(folder, name)?, sha256: sha256_of_file(&path)? })
    };
    names.iter().map(made).collect()
}

/// Gives the folder its name in one step, so that there is never half of one; returns where it lies now.
fn lay_down(making: tempfile::TempDir, manifest: &Manifest, shelf: &PreparedShelf, key: &PreparedKey) -> Result<PathBuf> {
    let path = making.path().join(MANIFEST);
    fs::write(&path, serde_json::to_vec_pretty(manifest)?).with_context(|| path.display().to_string())?;
    fs::File::open(&path).and_then(|file| file.sync_all()).with_context(|| path.display().to_string())?;
    let folder = shelf.folder().join(key.folder_name()?);
    for _ in 0..2 {
        if fs::rename(making.path(), &folder).is_ok() {
            // It has another name now, under which nothing removes it.
            let _ = making.keep();
            return Ok(folder);
        }
        // What lies there is of this key: another process was quicker, or it was asked for again, or is not to be believed.
        if folder.is_dir() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        } else if fs::symlink_metadata(&folder).is_ok() {
            fs::remove_file(&folder).with_context(|| folder.display().to_string())?;
        }
    }
    Err(anyhow!("{}: something else lies there and comes back; end the other `kiln prepare` first", folder.display()))
}
