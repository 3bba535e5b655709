//! A whole bundle in which one file holds anything: the first byte says which, the rest is its content.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};

use kiln::bundle::Bundle;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// The files that may hold anything.
const FILES: [&str; 9] = [
    "model_index.json",
    "kiln.toml",
    "scheduler/scheduler_config.json",
    "unet/config.json",
    "vae_decoder/config.json",
    "text_encoder/model.onnx",
    "unet/model.onnx",
    "vae_encoder/model.onnx",
    "vae_decoder/model.onnx",
];

struct Folder {
    _temporary: TempDir,
    path: PathBuf,
    /// The file as the bundle has it; `None` where it has none.
    originals: Vec<Option<Vec<u8>>>,
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() { copy_tree(&entry.path(), &target)? } else { fs::copy(entry.path(), target).map(drop)? }
    }
    Ok(())
}

fn folder() -> Folder {
    let temporary = tempfile::tempdir().expect("the system's temporary folder takes files");
    let path = temporary.path().join("bundle");
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/bundles/sd"), &path).expect("the bundle can be copied");
    let originals = FILES.iter().map(|file| fs::read(path.join(file)).ok()).collect();
    Folder { _temporary: temporary, path, originals }
}

thread_local! {
    static FOLDER: Folder = folder();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, content)) = bytes.split_first() else { return };
    let which = usize::from(*which) % FILES.len();
    FOLDER.with(|folder| {
        let file = folder.path.join(FILES[which]);
        fs::write(&file, content).expect("the temporary folder takes files");
        if let Ok(bundle) = Bundle::open(&folder.path) {
            assert!(bundle.geometry.side_unit > 0 && bundle.habits.default_steps > 0);
        }
        match &folder.originals[which] {
            Some(original) => fs::write(file, original),
            None => fs::remove_file(file),
        }
        .expect("the temporary folder takes files");
    });
});
