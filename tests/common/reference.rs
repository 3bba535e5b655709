//! What tests against a reference's numbers read them with: the cases of a folder, the sampler that a case names, the values of a tensor.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part; a failed helper is a failed test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use kiln::sampler::Config;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A file of `tests/golden/FOLDER`.
pub fn golden(folder: &str, file: &str) -> PathBuf {
    tests_folder().join("golden").join(folder).join(file)
}

/// The folder of tests, with what they read.
pub fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// The cases of `tests/golden/FOLDER/cases.json`.
pub fn cases<C: DeserializeOwned>(folder: &str) -> Vec<C> {
    #[derive(Deserialize)]
    struct Cases<C> {
        cases: Vec<C>,
    }
    let text = fs::read_to_string(golden(folder, "cases.json")).unwrap();
    serde_json::from_str::<Cases<C>>(&text).unwrap().cases
}

/// What a bundle under `tests/bundles/` says of its sampler; nothing where it has no such file.
pub fn scheduler_config(bundle: &str) -> Option<Map<String, Value>> {
    let path = tests_folder().join("bundles").join(bundle).join("scheduler/scheduler_config.json");
    fs::read_to_string(path).ok().map(|text| serde_json::from_str(&text).unwrap())
}

/// The sampler as `from_config` of `class` makes it of `base` with `changes`.
pub fn from_config(mut base: Map<String, Value>, class: Option<&str>, changes: &Map<String, Value>) -> Config {
    base.extend(changes.clone());
    base.insert("_class_name".into(), class.into());
    Config::from_json(&Value::Object(base)).unwrap()
}

/// The values of the `f32` tensor `name`.
pub fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
}
