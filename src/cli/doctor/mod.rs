//! `kiln doctor`: says what this machine is, whether Kiln runs on it, and what would make it run better.

mod advice;
mod problems;
mod report;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use super::look::{self, Look, PATIENCE_S};
use crate::runtime::Cancel;
use report::Report;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// A plugin that brings a provider to ONNX Runtime, such as libonnxruntime_providers_qnn.so
    #[arg(long, value_name = "FILE")]
    provider_library: Option<PathBuf>,

    /// How long a library or a provider may take to answer
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE_S, value_parser = clap::value_parser!(u16).range(1..=3600))]
    timeout: u16,

    /// Answer one question in this process, and print the answer
    #[arg(long, hide = true, value_name = "JSON")]
    child: Option<String>,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let plugin = arguments.provider_library.as_deref();
    if let Some(question) = &arguments.child {
        return look::reply(question, runtime, plugin);
    }
    let patience = Duration::from_secs(u64::from(arguments.timeout));
    let report = Report::new(Look { runtime, plugin, patience, cancel });
    cancel.check()?;
    let text = match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => super::plain(&table::draw(&report)),
    };
    super::print(text.as_bytes())?;
    Ok(if report.can_generate { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
