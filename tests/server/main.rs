//! `kiln serve` from outside: the real binary in a fresh folder, spoken to over its socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a failed helper is a failed test, and says what was skipped"
)]

mod client;
#[path = "../common/mod.rs"]
mod common;

mod access;
mod clips;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(feature = "client")]
mod distant;
mod durability;
mod faults;
mod hostile;
mod openapi;
mod safety;
mod visit;

use serde_json::{Value, json};

/// Sticker and a model that can take long.
const BOTH: [&str; 4] = [
    "--model",
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker"),
    "--model",
    concat!(env!("CARGO_MANIFEST_DIR"), "/models/ddpm"),
];

/// [`BOTH`] and more arguments.
fn both(more: &[&'static str]) -> Vec<&'static str> {
    BOTH.iter().copied().chain(more.iter().copied()).collect()
}

fn sun() -> Value {
    json!({ "prompt": "a smiling sun", "seed": 7 })
}
