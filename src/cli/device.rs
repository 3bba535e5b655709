//! What the verbs that run networks have in common: threads, providers, precisions.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;

use crate::engine::Engine;
use crate::plan::{PrecisionWish, ProviderWish, SafetyChoice, Settings};

const HEADING: &str = "Device";

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct DeviceArguments {
    /// Threads within one operator [default: all cores]
    #[arg(long, value_name = "N", help_heading = HEADING, value_parser = clap::value_parser!(u16).range(1..=1024), allow_negative_numbers = true)]
    pub(super) threads: Option<u16>,

    /// Where networks run: auto, or NAME[:key=value,…], the most wanted first, such as cuda, tensorrt,cuda or
    /// openvino:device_type=GPU; for one component as unet=tensorrt,vae_decoder=cuda; a comma within a value as \, [default: auto]
    #[arg(long, value_name = "PROVIDERS", help_heading = HEADING)]
    pub(super) provider: Option<String>,

    /// A plugin that brings a provider to ONNX Runtime, such as libonnxruntime_providers_qnn.so
    #[arg(long, value_name = "FILE", help_heading = HEADING)]
    pub(super) provider_library: Option<PathBuf>,

    /// Let the processor run what a named provider does not take, with a warning that says how much
    #[arg(long, help_heading = HEADING)]
    pub(super) allow_fallback: bool,

    /// Which files run where several lie side by side: auto, f32, fp16, int8, q4; for one component as unet=int8 [default: auto]
    #[arg(long, value_name = "PRECISION", help_heading = HEADING)]
    pub(super) precision: Option<String>,
}

impl DeviceArguments {
    /// The settings that they stand for.
    pub(super) fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            threads: self.threads.map(usize::from),
            providers: self.provider.as_deref().map(ProviderWish::parse).transpose()?.unwrap_or_default(),
            allow_fallback: self.allow_fallback,
            precisions: self.precision.as_deref().map(PrecisionWish::parse).transpose()?.unwrap_or_default(),
            provider_library: self.provider_library.clone(),
            prepared: super::cache_folder(),
            ..Settings::default()
        })
    }

    /// The arguments again but for the threads, for a process of its own.
    #[cfg(feature = "lineage")]
    pub(super) fn to_arguments(&self) -> Vec<std::ffi::OsString> {
        let mut arguments = Vec::new();
        for (flag, value) in [
            ("--provider", self.provider.as_ref().map(Into::into)),
            ("--provider-library", self.provider_library.as_ref().map(Into::into)),
            ("--precision", self.precision.as_ref().map(Into::into)),
        ] {
            if let Some(value) = value {
                arguments.extend([flag.into(), value]);
            }
        }
        if self.allow_fallback {
            arguments.push("--allow-fallback".into());
        }
        arguments
    }
}

#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct SafetyArguments {
    /// A folder whose safety checker every picture has to pass, whatever the model [default: the model's own, where it came with one]
    #[arg(long, value_name = "DIR", conflicts_with = "no_safety")]
    pub(super) safety: Option<PathBuf>,

    /// Show every picture, though the model came with a safety checker
    #[arg(long)]
    pub(super) no_safety: bool,
}

impl SafetyArguments {
    /// The checker that they stand for.
    pub(super) fn choice(&self) -> SafetyChoice {
        match &self.safety {
            Some(folder) => SafetyChoice::Folder(folder.clone()),
            None if self.no_safety => SafetyChoice::Off,
            None => SafetyChoice::Own,
        }
    }
}

/// Says which provider was chosen where nobody named one, and why, unless there was no choice.
pub(super) fn tell_choice(engine: &Engine, quiet: bool) {
    if let Some((provider, because)) = engine.assignments().chosen.as_ref().filter(|_| !quiet) {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "kiln: runs on {provider} ({})", super::plain(because));
    }
}
