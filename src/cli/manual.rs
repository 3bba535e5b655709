//! `kiln manual`: writes the manual pages, one for each verb, for who makes a package.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::refusal;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Where they go: a folder that is there
    folder: PathBuf,
}

pub(super) fn run(arguments: &Arguments, command: clap::Command) -> Result<ExitCode> {
    let folder = &arguments.folder;
    clap_mangen::generate_to(command.version(env!("CARGO_PKG_VERSION")), folder).map_err(|error| {
        refusal!("manual pages into {}: {error}; expected a folder that is there and may be written to", folder.display())
    })?;
    Ok(ExitCode::SUCCESS)
}
