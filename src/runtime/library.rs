//! Finds and loads the ONNX Runtime library, once per process.
//!
//! In: an explicit file or nothing. Out: a [`Runtime`] that sessions are opened in. The order: the file that was named,
//! `ORT_DYLIB_PATH`, beside the executable, `../lib/kiln` from there, the system's own paths. A file that was named and
//! does not load is an error at once; among the others the first that loads is taken.

use std::env;
use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use ort::AsPointer;
use ort::device::Device;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;

use super::device::logical_cores;
use super::one_line;
use crate::refusal;

/// The oldest ONNX Runtime that can be loaded: the level of `ort`'s `api-` feature in `Cargo.toml`.
pub const OLDEST_RUNTIME: &str = "1.22";

/// File names under which the library is looked for in a folder, in this order.
const FILE_NAMES: [&str; 2] = if cfg!(target_os = "windows") {
    ["onnxruntime.dll", "onnxruntime.dll"]
} else if cfg!(target_os = "macos") {
    ["libonnxruntime.dylib", "libonnxruntime.1.dylib"]
} else {
    ["libonnxruntime.so", "libonnxruntime.so.1"]
};

/// A loaded ONNX Runtime.
///
/// One per process: ONNX Runtime keeps one environment, and a library once loaded stays.
pub struct Runtime {
    pub(super) environment: Environment,
    /// How many threads the networks share that ask for as many; any other number of threads is a network's own.
    pub(super) shared_threads: usize,
    /// Plugins that were registered, which stay as long as the process.
    pub(super) plugins: Mutex<Vec<PathBuf>>,
    path: PathBuf,
    version: String,
    passed_over: Vec<(PathBuf, String)>,
}

static LOADED: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);

impl Runtime {
    /// Loads the library, or returns the one that this process has loaded already.
    ///
    /// `named` is the file that a person gave (`--runtime`); it stands before `ORT_DYLIB_PATH` and all that is searched.
    ///
    /// A program with this crate sets `ORT_DISABLE_TELEMETRY=1` before it starts a thread, as `kiln` does: on Linux the library opens
    /// a database in the user's cache as it is loaded, and what is set here by its interface comes after that.
    ///
    /// # Errors
    /// `named` or `ORT_DYLIB_PATH` does not exist, is no ONNX Runtime, or is older than [`OLDEST_RUNTIME`]; no library was found
    /// (the message lists where it was looked for, and why each was not taken); another library is loaded already.
    pub fn open(named: Option<&Path>) -> Result<Arc<Self>> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return match named {
                Some(path) if !same_file(path, &runtime.path) => Err(anyhow!(
                    "ONNX Runtime {}: this process has loaded {} already, and holds one library only",
                    path.display(),
                    runtime.path.display()
                )),
                _ => Ok(Arc::clone(runtime)),
            };
        }
        let runtime = Arc::new(Self::load(named)?);
        log::info!("ONNX Runtime {} from {}", runtime.version, runtime.path.display());
        *loaded = Some(Arc::clone(&runtime));
        Ok(runtime)
    }

    /// The version of the library, such as `1.31.1`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The file that was loaded; a bare name when the system's loader found it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The plugin that was registered first.
    #[must_use]
    pub fn plugin(&self) -> Option<PathBuf> {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner).first().cloned()
    }

    /// Places that were looked at before, and why each was not taken.
    #[must_use]
    pub fn passed_over(&self) -> &[(PathBuf, String)] {
        &self.passed_over
    }

    fn load(named: Option<&Path>) -> Result<Self> {
        if let Some(path) = named {
            return attempt(path, false).map_err(|why| {
                refusal!("--runtime {}: {why}; expected an ONNX Runtime library, {OLDEST_RUNTIME} or newer", path.display())
            });
        }
        if let Some(path) = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            return attempt(&path, false).map_err(|why| {
                refusal!("ORT_DYLIB_PATH={}: {why}; expected an ONNX Runtime library, {OLDEST_RUNTIME} or newer", path.display())
            });
        }
        let mut tried = Vec::new();
        for (path, by_loader) in candidates() {
            match attempt(&path, by_loader) {
                Ok(runtime) => return Ok(Self { passed_over: tried, ..runtime }),
                Err(why) => tried.push((path, why)),
            }
        }
        Err(anyhow!(
            "no ONNX Runtime library ({OLDEST_RUNTIME} or newer) was found; looked for\n{}\ngive one with --runtime FILE or ORT_DYLIB_PATH, \
             or lay libonnxruntime.so beside the kiln binary (the Python wheel `onnxruntime` holds it under onnxruntime/capi/)",
            tried.iter().map(|(path, why)| format!("  {}: {why}", path.display())).collect::<Vec<_>>().join("\n")
        ))
    }
}

/// The places that are searched, and whether the system's loader resolves the name.
fn candidates() -> Vec<(PathBuf, bool)> {
    let mut places = Vec::new();
    // The link is resolved: an installed `kiln` is often a link into the folder that holds the library.
    let executable = env::current_exe().and_then(std::fs::canonicalize).ok();
    if let Some(folder) = executable.as_deref().and_then(Path::parent) {
        for name in FILE_NAMES {
            places.push((folder.join(name), false));
        }
        for name in FILE_NAMES {
            places.push((folder.join("../lib/kiln").join(name), false));
        }
    }
    for name in FILE_NAMES {
        places.push((PathBuf::from(name), true));
    }
    places.dedup();
    places
}

/// Says in a few words why the file at `path` is no library that could be loaded.
pub(super) fn check_file(path: &Path) -> Result<(), String> {
    if !path.exists() {
        return Err("is not there".into());
    }
    if !path.is_file() {
        return Err("is not a file".into());
    }
    #[cfg(unix)]
    super::elf::check_whole(path)?;
    Ok(())
}

/// Loads one file, or says in a few words why not.
fn attempt(path: &Path, by_loader: bool) -> Result<Runtime, String> {
    if !by_loader {
        check_file(path)?;
    }
    // The loader searches its own paths for a name without a slash, and `ort` looks beside the executable first.
    let path = if by_loader { path.to_path_buf() } else { std::path::absolute(path).map_err(|error| error.to_string())? };
    let (version, _loaded) = version(&path)?;
    let told = |error: ort::Error| one_line(&error.to_string());
    let builder = ort::init_from(&path).map_err(|error| one_line(&error.to_string()))?;
    // Networks run one after the other. Each with threads of its own, those of the last would still spin, waiting for work, on the cores
    // that the next needs.
    let shared_threads = logical_cores();
    let threads =
        GlobalThreadPoolOptions::default().with_intra_threads(shared_threads).and_then(|pool| pool.with_inter_threads(1));
    let environment = builder
        .with_name("kiln")
        .with_global_thread_pool(threads.map_err(told)?)
        .with_telemetry(false)
        .with_logger(Arc::new(|level, category, _, location, message| forward(level, category, location, message)))
        .build()
        .map_err(told)?;
    environment.set_log_level(match log::max_level() {
        log::LevelFilter::Trace => LogLevel::Verbose,
        log::LevelFilter::Debug => LogLevel::Info,
        log::LevelFilter::Info | log::LevelFilter::Warn => LogLevel::Warning,
        _ => LogLevel::Error,
    });
    Ok(Runtime { environment, shared_threads, plugins: Mutex::default(), path, version, passed_over: Vec::new() })
}

/// Hands a message of ONNX Runtime to the program's own log.
pub(super) fn forward(level: LogLevel, category: &str, location: &str, message: &str) {
    log::log!(target: "onnxruntime", log_level(level), "{category} {location}: {message}");
}

/// ONNX Runtime speaks of every node it moves at "info" and of its own habits at "warning": each a level lower here.
fn log_level(level: LogLevel) -> log::Level {
    match level {
        LogLevel::Verbose => log::Level::Trace,
        LogLevel::Info => log::Level::Debug,
        LogLevel::Warning => log::Level::Info,
        LogLevel::Error | LogLevel::Fatal => log::Level::Warn,
    }
}

/// Asks a library for its version. `ort` does so for its own check, keeps the answer to itself, and panics on a null table.
///
/// The library stays loaded as long as what is returned with the version, so that `ort`, which loads it once more, finds it ready.
fn version(path: &Path) -> Result<(String, libloading::Library), String> {
    // SAFETY: loading runs the library's initialisers, which is what the caller asked for; the signature of `OrtGetApiBase`
    // is part of ONNX Runtime's stable interface, and its version string is static within the library.
    unsafe {
        let library = libloading::Library::new(path).map_err(|error| loader_text(&error))?;
        let base = library
            .get::<unsafe extern "C" fn() -> *const ort::sys::OrtApiBase>(b"OrtGetApiBase")
            .map_err(|_| "is a library, but not ONNX Runtime (it has no `OrtGetApiBase`)".to_owned())?();
        let base = base.as_ref().ok_or("is a library whose `OrtGetApiBase` gives nothing")?;
        let text = (base.GetVersionString)();
        if text.is_null() {
            return Err("is a library without a version".into());
        }
        let version = std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned();
        // `ort` reads the same number, and panics where the interface of its level is missing.
        let level = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        match level {
            None => Err(format!("is a library of version `{}`, expected one such as 1.31.1", one_line(&version))),
            Some(level) if level < ort::MINOR_VERSION => {
                Err(format!("is ONNX Runtime {version}, which is older than {OLDEST_RUNTIME}"))
            }
            Some(_) if (base.GetApi)(ort::MINOR_VERSION).is_null() => {
                Err(format!("says that it is ONNX Runtime {version}, and has no interface of {OLDEST_RUNTIME}"))
            }
            Some(_) => Ok((version, library)),
        }
    }
}

impl Runtime {
    /// The devices that providers run on; none of a runtime before 1.23, but for those of plugins.
    pub(super) fn devices(&self) -> Vec<Device<'_>> {
        let (mut devices, mut count) = (std::ptr::null(), 0);
        // SAFETY: the environment lives as long as `self`, and both places are written to before they are read. What the runtime gives is not
        // read, but for its number: where there is none it is null, of which `ort` would make a slice.
        let status = unsafe { (ort::api().GetEpDevices)(self.environment.ptr(), &mut devices, &mut count) };
        // SAFETY: the status is what the call above gave, and is taken over.
        match unsafe { ort::Error::result_from_status(status) } {
            Ok(()) if count > 0 => self.environment.devices().collect(),
            _ => Vec::new(),
        }
    }

    /// Gives the processor's kernels to a session that is about to be opened, without naming a device.
    ///
    /// A runtime before 1.23 lists no device for the processor, and ends the process where a session is to choose among none, which is
    /// what `ort` asks of each session that names no provider.
    ///
    /// # Errors
    /// The library lacks the function, or refuses.
    pub(super) fn append_processor(&self, mut builder: SessionBuilder, arena: bool) -> ort::Result<SessionBuilder> {
        type Append = unsafe extern "system" fn(*mut ort::sys::OrtSessionOptions, c_int) -> ort::sys::OrtStatusPtr;
        let told = |error: &libloading::Error| ort::Error::new(loader_text(error));
        // SAFETY: the library is the one that `ort` holds loaded for good, so nothing is initialised anew and nothing is unloaded. The function and
        // its signature are part of ONNX Runtime's stable interface (`cpu_provider_factory.h`). The options are the builder's own, which
        // is borrowed for the call; they keep no pointer to what they are given. The status is null or is taken over.
        unsafe {
            let library = libloading::Library::new(&self.path).map_err(|error| told(&error))?;
            let append = library.get::<Append>(b"OrtSessionOptionsAppendExecutionProvider_CPU").map_err(|error| told(&error))?;
            ort::Error::result_from_status(append(builder.ptr_mut(), c_int::from(arena)))?;
        }
        Ok(builder)
    }
}

/// Says in a few words why the library at `path` is no plugin that ONNX Runtime takes providers from.
pub(super) fn check_plugin(path: &Path) -> Result<(), String> {
    // SAFETY: loading runs the library's initialisers, which is what the caller asked for; the symbols are looked up, never called.
    unsafe {
        let library = libloading::Library::new(path).map_err(|error| loader_text(&error))?;
        if library.get::<*const ()>(b"CreateEpFactories").is_ok() {
            return Ok(());
        }
        Err(match library.get::<*const ()>(b"OrtGetApiBase").is_ok() {
            true => "is an ONNX Runtime itself; give it with --runtime".into(),
            false => "is a library, but no plugin (it has no `CreateEpFactories`)".into(),
        })
    }
}

/// What the system's loader said, which `libloading` keeps behind its own words.
fn loader_text(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => one_line(&source.to_string()),
        None => one_line(&error.to_string()),
    }
}

/// A library's version with its file's name, size in bytes and time of writing: another build of the same version is another library.
#[must_use]
pub fn library_identity(version: &str, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // A bare name is the system loader's to find.
    let Some(metadata) = path.metadata().ok().filter(|_| path.components().count() > 1) else {
        return format!("{version} {name}");
    };
    let written = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    format!("{version} {name} {} {}", metadata.len(), written.unwrap_or_default().as_nanos())
}

pub(super) fn same_file(left: &Path, right: &Path) -> bool {
    match (std::fs::canonicalize(left), std::fs::canonicalize(right)) {
        (Ok(left), Ok(right)) => left == right,
        _ => left == right,
    }
}
