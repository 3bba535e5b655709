//! An ONNX file's outside: any bytes are read or refused, and no weights outside the file's folder are taken.

#![no_main]

use std::fs;
use std::path::Component;

use kiln::bundle::read_header;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

thread_local! {
    static FOLDER: TempDir = tempfile::tempdir().expect("the system's temporary folder takes files");
}

fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        let path = folder.path().join("model.onnx");
        fs::write(&path, bytes).expect("the temporary folder takes files");
        if let Ok(header) = read_header(&path) {
            assert!(!header.outputs.is_empty());
            for file in &header.external_files {
                assert!(file.components().all(|part| matches!(part, Component::Normal(_))), "{}", file.display());
            }
        }
    });
});
