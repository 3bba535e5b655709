//! `kiln doctor`: says what this machine is, whether Kiln runs on it, and what would make it run better.

mod advice;
mod problems;
mod report;
mod table;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use report::Report;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>) -> Result<ExitCode> {
    let report = Report::new(runtime);
    let text = match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&report)?),
        false => super::plain(&table::draw(&report)),
    };
    super::print(text.as_bytes())?;
    Ok(if report.can_generate { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
