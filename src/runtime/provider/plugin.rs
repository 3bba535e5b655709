//! Registers a plugin: a library of its own that brings a provider to a stock ONNX Runtime.

use std::path::Path;
use std::sync::PoisonError;

use anyhow::Result;

use super::Provider;
use crate::refuse;
use crate::runtime::library::{check_file, check_plugin, same_file};
use crate::runtime::{Runtime, one_line};

/// What the names of plugin libraries hold, the longest first, and the provider that each brings.
const WORDS: [(&str, Provider); 9] = [
    ("tensorrt_rtx", Provider::NvRtx),
    ("tensorrtrtx", Provider::NvRtx),
    ("migraphx", Provider::MiGraphX),
    ("tensorrt", Provider::TensorRt),
    ("openvino", Provider::OpenVino),
    ("vitisai", Provider::Vitis),
    ("webgpu", Provider::WebGpu),
    ("cuda", Provider::Cuda),
    ("qnn", Provider::Qnn),
];

impl Runtime {
    /// Registers the plugin in the file `path` and says which providers it brings; a file that was registered before brings nothing new.
    ///
    /// # Errors
    /// Each is a [`Refusal`](crate::error::Refusal): the file is not there, cut off, no plugin or an ONNX Runtime itself; it does not
    /// load; it finds no device that it could run on.
    pub fn register_plugin(&self, path: &Path) -> Result<Vec<Provider>> {
        let shown = path.display();
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        if plugins.iter().any(|known| same_file(known, path)) {
            return Ok(Vec::new());
        }
        let path = std::path::absolute(path)?;
        if let Err(why) = check_file(&path).and_then(|()| check_plugin(&path)) {
            refuse!("--provider-library {shown}: {why}; expected a plugin such as libonnxruntime_providers_qnn.so");
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        // QNN's plugin calls its devices what it was registered as.
        let word = WORDS.iter().find(|(word, _)| file.contains(word));
        let name = word.map_or(file.as_str(), |(_, provider)| provider.runtime_name());
        let before = self.devices().len();
        if let Err(error) = self.environment.register_ep_library(name, &path) {
            refuse!(
                "--provider-library {shown}: ONNX Runtime {} does not take it: {}",
                self.version(),
                one_line(&error.to_string())
            );
        }
        let mut found = Vec::new();
        let mut strangers = Vec::new();
        for device in self.devices().into_iter().skip(before) {
            let name = device.ep().unwrap_or_default();
            match Provider::of_runtime_name(name) {
                Some(provider) if !found.contains(&provider) => found.push(provider),
                Some(_) => {}
                None => strangers.push(name.to_owned()),
            }
        }
        if found.is_empty() {
            match strangers.as_slice() {
                [] => refuse!("--provider-library {shown}: it finds no device here that it could run on"),
                names => refuse!("--provider-library {shown}: it brings {}, which Kiln does not know", names.join(", ")),
            }
        }
        // Only now: one that was refused is refused again.
        plugins.push(path);
        Ok(found)
    }
}
