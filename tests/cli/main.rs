//! The whole program, run from outside in a fresh folder: files, output, messages, exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and says how many it ran"
)]

#[path = "../common/mod.rs"]
mod common;

mod clip_formats;
mod clips;
mod compare;
mod crashing;
mod doctor;
mod films;
mod frames;
mod inverting;
mod lineage;
mod looking;
mod ltx;
mod making;
mod planning;
mod preparing;
mod providers;
mod refusals;
mod repeating;
mod runtime_library;
mod stopping;
mod tiles;
mod tuning;
mod webgpu;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Ran, bundle, command_of, kiln};

/// The path of a bundle as an argument.
fn model(name: &str) -> String {
    bundle(name).display().to_string()
}

/// The binary in `folder`, away from the checkout, so that it finds no models but those on the shelf `folder/shelf`.
fn away(folder: &Path) -> Command {
    let binary = folder.join("bin/kiln");
    fs::create_dir_all(folder.join("bin")).unwrap();
    if !binary.is_file() {
        let built = env!("CARGO_BIN_EXE_kiln");
        fs::hard_link(built, &binary).or_else(|_| fs::copy(built, &binary).map(drop)).unwrap();
    }
    let mut command = command_of(&binary, folder);
    command.env("KILN_MODELS", folder.join("shelf")).env("ORT_DYLIB_PATH", runtime_library::library()).env("LC_ALL", "C.UTF-8");
    command
}

/// `kiln generate "a red apple" --seed 7` with the bundle and more arguments.
fn generate(folder: &Path, name: &str, more: &[&str]) -> Ran {
    let model = model(name);
    let mut arguments = vec!["generate", "a red apple", "--seed", "7", "--model", &model];
    arguments.extend(more);
    kiln(folder, &arguments)
}
