//! What measurements belong to: a bundle, an ONNX Runtime with its plugin, a device in its power mode.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bundle::sha256_of_bytes;
use crate::runtime::{Board, library_identity};

/// Where measurements lie in the user's cache.
const FOLDER: &str = "kiln/tune";

/// What a set of measurements belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasurementKey {
    /// The bundle's fingerprint.
    pub bundle: String,
    /// ONNX Runtime's version and its file, with the plugin's where there is one.
    pub runtime: String,
    /// The board, its processor, its drivers and its power mode, in words.
    pub device: String,
}

impl MeasurementKey {
    /// The key of `bundle`, a fingerprint, on this machine.
    ///
    /// * `version`, `library`: ONNX Runtime's version and its file
    /// * `plugin`: the file of a plugin
    #[must_use]
    pub fn new(bundle: &str, version: &str, library: &Path, plugin: Option<&Path>, board: &Board) -> Self {
        let plugin = plugin.map_or_else(String::new, |plugin| format!(" with {}", library_identity("", plugin).trim()));
        let mut device = board.identity();
        if let Some(mode) = &board.power.mode {
            device += &format!(", power mode {}", mode.value);
        }
        if let Some(governors) = &board.power.governors {
            device += &format!(", governor {}", governors.value.join(" "));
        }
        Self { bundle: bundle.to_owned(), runtime: library_identity(version, library) + &plugin, device }
    }

    /// Where the measurements of this key lie unless a person says: `kiln/tune/` in the user's cache, one file for each key.
    ///
    /// * `cache`: the folder that applications keep their caches in
    #[must_use]
    pub fn file(&self, cache: &Path) -> PathBuf {
        let key = sha256_of_bytes(format!("{}\n{}\n{}", self.bundle, self.runtime, self.device).as_bytes());
        cache.join(FOLDER).join(format!("{}-{}.json", short(&self.bundle), short(&key)))
    }

    /// Whether anything was ever measured of `bundle`, a fingerprint, on any device: quickly found, where a device's name is not.
    #[must_use]
    pub fn any(cache: &Path, bundle: &str) -> bool {
        let beginning = format!("{}-", short(bundle));
        let Ok(entries) = std::fs::read_dir(cache.join(FOLDER)) else { return false };
        entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(&beginning)))
    }
}

/// The beginning of a checksum that names a file.
fn short(text: &str) -> String {
    text.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MeasurementKey {
        MeasurementKey { bundle: "ab".repeat(32), runtime: "1.31.1".into(), device: "a board, 4 cores".into() }
    }

    #[test]
    fn a_key_tells_libraries_and_power_modes_apart() {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("libonnxruntime.so");
        std::fs::write(&library, "one").unwrap();
        let key_of = |plugin: Option<&Path>, board: &Board| MeasurementKey::new("ab", "1.31.1", &library, plugin, board);
        let mode = |name: &str| Board {
            power: crate::runtime::PowerMode {
                mode: Some(crate::runtime::Fact { value: name.into(), source: "a test".into() }),
                ..Default::default()
            },
            ..Board::default()
        };
        let plain = key_of(None, &Board::default());
        assert_eq!(plain, key_of(None, &Board::default()));
        assert_ne!(plain, key_of(Some(&library), &Board::default()), "with a plugin");
        assert_ne!(key_of(None, &mode("15W")), key_of(None, &mode("25W")), "in another power mode");
        std::fs::write(&library, "another").unwrap();
        assert_ne!(plain, key_of(None, &Board::default()), "another file of the same version");
    }

    #[test]
    fn other_keys_have_other_files() {
        let folder = Path::new("cache");
        let changes: [fn(&mut MeasurementKey); 3] =
            [|key| key.bundle = "cd".repeat(32), |key| key.runtime = "1.30.0".into(), |key| key.device = "another".into()];
        for change in changes {
            let mut other = key();
            change(&mut other);
            assert_ne!(other.file(folder), key().file(folder));
        }
    }
}
