//! Weights that lie in another file than their model: where that may be.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A tensor's weights in another file.
#[derive(Debug, Default)]
pub(super) struct Reference {
    /// Its name.
    pub(super) tensor: String,
    /// The file, as the model names it.
    pub(super) location: String,
    /// Its first byte there.
    pub(super) offset: u64,
    /// Its length in bytes; to the end where it is not said.
    pub(super) length: Option<u64>,
}

impl Reference {
    /// Makes sure that the bytes are there, in the folder of `model` or below; returns the file's path from it.
    pub(super) fn check(&self, model: &Path) -> Result<PathBuf> {
        let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Self { tensor, location, .. } = self;
        ensure!(!location.is_empty(), "weight `{tensor}` is said to be in another file, which is not named");
        let file = Path::new(location);
        let stays = file.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        ensure!(
            stays && !location.contains(['\\', '\0', ':']),
            "weight `{tensor}` is in `{location}`, expected a file beside the model: paths that leave the folder are not followed"
        );
        // ONNX Runtime has names of its own, in which the offset is an address in the process's memory.
        ensure!(
            !location.contains('*') && !location.contains("_MEM_ADDR_"),
            "weight `{tensor}` is in `{location}`, which is no file's name but a memory address"
        );
        let metadata = std::fs::metadata(folder.join(file))
            .with_context(|| format!("weight `{tensor}` is in `{location}`, which cannot be read"))?;
        ensure!(metadata.is_file(), "weight `{tensor}` is in `{location}`, which is not a file");
        // ONNX Runtime follows links only within these two, which is how the Hugging Face cache lays a model.
        let real = |path: PathBuf| std::fs::canonicalize(&path).with_context(|| path.display().to_string());
        let weights = real(folder.join(file))?;
        let beside_model = real(model.to_path_buf())?.parent().is_some_and(|parent| weights.starts_with(parent));
        ensure!(
            beside_model || weights.starts_with(real(folder.to_path_buf())?),
            "weight `{tensor}` is in `{location}`, a link to {}: it leads away from the model, where ONNX Runtime does not follow",
            weights.display()
        );
        let end = self.offset.checked_add(self.length.unwrap_or(0)).context("an offset overflows")?;
        ensure!(
            end <= metadata.len(),
            "weight `{tensor}` ends at byte {end} of `{location}`, which has {}: the file is truncated or of another model",
            metadata.len()
        );
        Ok(file.components().filter(|part| matches!(part, Component::Normal(_))).collect())
    }
}
