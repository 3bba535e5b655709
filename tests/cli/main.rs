//! The whole program, run from outside in a fresh folder: files, output, messages, exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and says how many it ran"
)]

#[path = "../common/mod.rs"]
mod common;

mod clips;
mod compare;
mod inverting;
mod lineage;
mod looking;
mod making;
mod refusals;
mod repeating;
mod runtime_library;
mod stopping;

use std::path::Path;

use common::{Ran, bundle, kiln};

/// The path of a bundle as an argument.
fn model(name: &str) -> String {
    bundle(name).display().to_string()
}

/// `kiln generate "a red apple" --seed 7` with the bundle and more arguments.
fn generate(folder: &Path, name: &str, more: &[&str]) -> Ran {
    let model = model(name);
    let mut arguments = vec!["generate", "a red apple", "--seed", "7", "--model", &model];
    arguments.extend(more);
    kiln(folder, &arguments)
}
