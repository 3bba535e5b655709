//! The ONNX Runtime library and its providers, looked at by processes of their own: a library that crashes or hangs ends those alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::child::{answer, ask};
use crate::bundle::Role;
use crate::plan::ProviderWish;
use crate::refuse;
use crate::runtime::{Cancel, Provider, ProviderSetup, Runtime};

/// Building an engine for the small network takes TensorRT some ten seconds on a small board.
pub(super) const PATIENCE_S: u16 = 60;

/// What another process is asked.
#[derive(Debug, Serialize, Deserialize)]
enum Question {
    /// Which library is found, and what it holds.
    Library,
    /// How long the small network takes on this provider, in milliseconds.
    Probe(String),
}

/// A library that loads.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Library {
    /// Its version.
    pub(super) version: String,
    /// Its file; a bare name where the system's loader found it.
    pub(super) path: PathBuf,
    /// Places that were looked at before, and why each was not taken.
    pub(super) passed_over: Vec<(PathBuf, String)>,
    /// The providers that it holds, with the plugin's where there is one.
    providers: Vec<String>,
}

impl Library {
    /// The providers that it holds, with the plugin's where there is one.
    pub(super) fn providers(&self) -> impl Iterator<Item = Provider> {
        self.providers.iter().filter_map(|name| Provider::named(name))
    }

    /// The file to load, so that another process takes the same; `None` where the system's loader finds it by its name.
    pub(super) fn file(&self) -> Option<&Path> {
        Some(self.path.as_path()).filter(|path| path.components().count() > 1)
    }
}

/// Asks other processes about a library and a plugin.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    /// The library that a person named; else the one that is found.
    pub(super) runtime: Option<&'a Path>,
    /// The plugin that a person named.
    pub(super) plugin: Option<&'a Path>,
    /// How long an answer may take.
    pub(super) patience: Duration,
    pub(super) cancel: &'a Cancel,
}

impl Look<'_> {
    /// Finds the library and what it holds.
    ///
    /// # Errors
    /// There is none that loads; it or the plugin crashes or hangs; the plugin is none.
    pub(super) fn library(&self) -> Result<Library> {
        self.ask(&Question::Library)
    }

    /// Runs a small network on `setup`, and returns how long that took in milliseconds.
    ///
    /// # Errors
    /// As [`Runtime::probe`]; it crashes or hangs.
    pub(super) fn probe(&self, setup: &ProviderSetup) -> Result<f64> {
        self.ask(&Question::Probe(setup.to_string()))
    }

    fn ask<T: serde::de::DeserializeOwned>(&self, question: &Question) -> Result<T> {
        let mut arguments: Vec<OsString> = vec!["doctor".into(), "--child".into(), serde_json::to_string(question)?.into()];
        for (flag, file) in [("--runtime", self.runtime), ("--provider-library", self.plugin)] {
            arguments.extend(file.into_iter().flat_map(|file| [flag.into(), file.into()]));
        }
        ask(&arguments, Some(self.patience), self.cancel)
    }
}

/// Answers, in the process that was asked.
pub(super) fn reply(question: &str, runtime: Option<&Path>, plugin: Option<&Path>) -> Result<ExitCode> {
    let Ok(question) = serde_json::from_str::<Question>(question) else {
        refuse!("--child: is no question; it is for `kiln doctor` itself");
    };
    let open = || -> Result<_> {
        let runtime = Runtime::open(runtime)?;
        plugin.map(|plugin| runtime.register_plugin(plugin)).transpose()?;
        Ok(runtime)
    };
    match question {
        Question::Library => answer(open().map(|runtime| Library {
            version: runtime.version().to_owned(),
            path: runtime.path().to_path_buf(),
            passed_over: runtime.passed_over().to_vec(),
            providers: runtime.providers().iter().map(ToString::to_string).collect(),
        })),
        Question::Probe(setup) => answer(open().and_then(|runtime| {
            let wish = ProviderWish::parse(&setup)?;
            // What is for all components is for any.
            let setup = wish.of(Role::Unet).and_then(|setups| setups.first()).context("names no provider")?;
            let begun = Instant::now();
            runtime.probe_setup(setup)?;
            Ok(begun.elapsed().as_secs_f64() * 1000.0)
        })),
    }
}
