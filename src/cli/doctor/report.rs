//! All that `kiln doctor` finds out, in the form in which it is printed as JSON.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::advice::{self, Advice};
use super::problems::{self, Problem, Severity};
use crate::bundle::{Bundle, Shelf};
use crate::cli::cache_folder;
use crate::cli::look::{Library, Look};
use crate::runtime::{AcceleratorKind, Board, Provider, ProviderSetup, free_disk_bytes};

/// The layout of the JSON; another number is another layout.
pub(super) const SCHEMA: u32 = 2;

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) schema: u32,
    pub(super) kiln: &'static str,
    pub(super) can_generate: bool,
    pub(super) problems: Vec<Problem>,
    pub(super) board: Board,
    pub(super) runtime: RuntimeReport,
    /// The plugin that was named.
    pub(super) plugin: Option<PluginReport>,
    pub(super) providers: Vec<ProviderReport>,
    pub(super) models: Vec<ModelReport>,
    pub(super) disk: Vec<DiskReport>,
    pub(super) next: Vec<Advice>,
}

/// The ONNX Runtime library.
#[derive(Debug, Default, Serialize)]
pub(super) struct RuntimeReport {
    pub(super) version: Option<String>,
    pub(super) path: Option<PathBuf>,
    /// Places that were looked at before, and why each was not taken.
    pub(super) passed_over: Vec<PassedOver>,
    pub(super) error: Option<String>,
}

/// A library of its own that brings a provider.
#[derive(Debug, Serialize)]
pub(super) struct PluginReport {
    pub(super) path: PathBuf,
    /// Why nothing of it can be used.
    pub(super) error: Option<String>,
}

/// A place without a library that will do.
#[derive(Debug, Serialize)]
pub(super) struct PassedOver {
    pub(super) path: PathBuf,
    pub(super) because: String,
}

/// A provider that the library or a plugin holds.
#[derive(Debug, Serialize)]
pub(super) struct ProviderReport {
    /// Kiln's name for it, with the device behind it where one was named, as `openvino:device_type=GPU`.
    pub(super) name: String,
    /// The name under which ONNX Runtime knows it.
    pub(super) runtime_name: &'static str,
    /// Whether a small network ran on it and gave the right result.
    pub(super) runs: bool,
    /// Opening and running the small network, in milliseconds; `None` where it did not run.
    pub(super) probe_ms: Option<f64>,
    pub(super) error: Option<String>,
    /// The difference from the processor that is taken for rounding, as a share of the largest value.
    pub(super) tolerance: f32,
    /// On what that was measured; `None` where it was not.
    pub(super) tolerance_measured_on: Option<&'static str>,
}

/// A model that is found by name.
#[derive(Debug, Serialize)]
pub(super) struct ModelReport {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) size_bytes: Option<u64>,
    pub(super) error: Option<String>,
}

/// Free space where Kiln writes or is filled.
#[derive(Debug, Serialize)]
pub(super) struct DiskReport {
    pub(super) what: &'static str,
    pub(super) folder: PathBuf,
    pub(super) free_bytes: Option<u64>,
}

impl Report {
    /// Looks at everything, at the library and its providers by `look`.
    pub(super) fn new(look: Look<'_>) -> Self {
        let board = Board::read(Path::new("/"));
        let (mut look, mut found, mut plugin) = (look, look.library(), None);
        if let Some(path) = look.plugin {
            let report = |error| Some(PluginReport { path: path.to_path_buf(), error });
            let without = Look { plugin: None, ..look };
            match (&found, without.library()) {
                // The library is as good without a plugin that fails.
                (Err(error), Ok(library)) => {
                    plugin = report(Some(format!("{error:#}")));
                    (look, found) = (without, Ok(library));
                }
                (Err(_), Err(error)) => {
                    plugin = report(Some("no ONNX Runtime was loaded that could take it".to_owned()));
                    found = Err(error);
                }
                (Ok(_), _) => plugin = report(None),
            }
        }
        let (runtime, providers) = match found {
            Ok(library) => {
                let providers = providers(Look { runtime: library.file(), ..look }, &library, &board);
                let passed_over =
                    library.passed_over.iter().map(|(path, because)| PassedOver { path: path.clone(), because: because.clone() });
                let report = RuntimeReport {
                    passed_over: passed_over.collect(),
                    version: Some(library.version),
                    path: Some(library.path),
                    error: None,
                };
                (report, providers)
            }
            Err(error) => {
                let named = look.runtime.map_or_else(String::new, |path| format!("{}: ", path.display()));
                let said = format!("{error:#}");
                let error = if said.contains(&named) { said } else { format!("{named}{said}") };
                (RuntimeReport { error: Some(error), ..RuntimeReport::default() }, Vec::new())
            }
        };
        let models = models();
        let disk = disk(&models);
        let mut report = Self {
            schema: SCHEMA,
            kiln: env!("CARGO_PKG_VERSION"),
            can_generate: false,
            problems: Vec::new(),
            next: advice::of(&board, &runtime, &providers),
            board,
            runtime,
            plugin,
            providers,
            models,
            disk,
        };
        report.problems = problems::of(&report);
        report.can_generate = !report.problems.iter().any(|problem| problem.severity == Severity::Error);
        report
    }
}

/// Has a small network run on each provider that is there, and on each device of `board` that a provider takes only by its name.
fn providers(look: Look<'_>, library: &Library, board: &Board) -> Vec<ProviderReport> {
    let probe = |setup: ProviderSetup| {
        let outcome = look.probe(&setup);
        ProviderReport {
            name: setup.to_string(),
            runtime_name: setup.provider().runtime_name(),
            runs: outcome.is_ok(),
            probe_ms: outcome.as_ref().ok().copied(),
            error: outcome.err().map(|error| format!("{error:#}")),
            tolerance: setup.provider().facts().tolerance,
            tolerance_measured_on: setup.provider().facts().measured_on,
        }
    };
    library.providers().flat_map(|provider| setups(provider, board)).map(probe).collect()
}

/// `provider` as it is without options, and on each device of `board` that has to be named.
fn setups(provider: Provider, board: &Board) -> Vec<ProviderSetup> {
    let mut setups = vec![ProviderSetup::new(provider)];
    if provider == Provider::OpenVino {
        for (kind, device) in [(AcceleratorKind::IntelGpu, "GPU"), (AcceleratorKind::IntelNpu, "NPU")] {
            let mut setup = ProviderSetup::new(provider);
            if board.accelerators.iter().any(|found| found.kind == kind) && setup.set("device_type", device).is_ok() {
                setups.push(setup);
            }
        }
    }
    setups
}

fn models() -> Vec<ModelReport> {
    let report = |shelved: crate::bundle::ShelvedBundle| {
        let opened = Bundle::open(&shelved.folder);
        ModelReport {
            name: shelved.name,
            folder: shelved.folder,
            size_bytes: opened.as_ref().ok().map(Bundle::size_bytes),
            error: opened.err().map(|error| format!("{error:#}")),
        }
    };
    Shelf::usual().bundles().into_iter().map(report).collect()
}

fn disk(models: &[ModelReport]) -> Vec<DiskReport> {
    let mut places: Vec<(&'static str, PathBuf)> = Vec::new();
    let shelf = models.first().and_then(|model| model.folder.parent()).map(Path::to_path_buf);
    places.extend(shelf.map(|shelf| ("models", shelf)));
    places.extend(cache_folder().map(|cache| ("cache", cache)));
    places.push(("here", std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."))));
    places.into_iter().map(|(what, folder)| DiskReport { what, free_bytes: free_disk_bytes(&folder), folder }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Accelerator;

    #[test]
    fn a_device_that_has_to_be_named_is_probed_by_its_name() {
        let device = |kind| Accelerator { device: "/dev/x".into(), kind, driver: None, may_open: true };
        let accelerators = vec![device(AcceleratorKind::IntelGpu), device(AcceleratorKind::IntelNpu)];
        let board = Board { accelerators, ..Board::default() };
        let names = |provider, board: &Board| setups(provider, board).iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = ["openvino", "openvino:device_type=GPU", "openvino:device_type=NPU"];
        assert_eq!(names(Provider::OpenVino, &board), expected);
        assert_eq!(names(Provider::OpenVino, &Board::default()), ["openvino"]);
        assert_eq!(names(Provider::Cpu, &board), ["cpu"]);
    }
}
