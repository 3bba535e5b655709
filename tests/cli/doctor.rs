//! `kiln doctor`: what it says of this machine, and when it says that Kiln cannot generate.

use std::fs;

use serde_json::Value;

use super::common::{command, kiln, run};
use super::{away, common};

/// Each object of the report with its keys; others are another schema.
const KEYS: [(&str, &[&str]); 10] = [
    ("", &["board", "can_generate", "disk", "kiln", "models", "next", "plugin", "problems", "providers", "runtime", "schema"]),
    (
        "/board",
        &[
            "accelerators",
            "compatible",
            "drivers",
            "jetpack",
            "kernel",
            "l4t",
            "libc",
            "memory",
            "model",
            "power",
            "processor",
            "soc",
            "system",
            "temperatures",
        ],
    ),
    ("/board/processor", &["features", "kinds", "offline", "online", "quota"]),
    ("/board/memory", &["available_bytes", "limit", "swap_free_bytes", "swap_total_bytes", "total_bytes"]),
    ("/board/memory/total_bytes", &["source", "value"]),
    ("/board/power", &["complaints", "governors", "mode"]),
    ("/runtime", &["error", "passed_over", "path", "version"]),
    ("/providers/0", &["error", "name", "probe_ms", "runs", "runtime_name", "tolerance", "tolerance_measured_on"]),
    ("/models/0", &["error", "folder", "name", "size_bytes"]),
    ("/disk/0", &["folder", "free_bytes", "what"]),
];

fn check_keys(report: &Value) {
    for (place, expected) in KEYS {
        let object = report.pointer(place).and_then(Value::as_object).unwrap_or_else(|| panic!("no object at {place}"));
        let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{place}");
    }
}

#[test]
fn the_doctor_tells_of_this_machine_and_runs_the_processor() {
    let folder = tempfile::tempdir().unwrap();
    let ran = kiln(folder.path(), &["doctor"]).expect_code(0);
    let text = ran.text();
    assert!(text.starts_with("✓ Kiln ") && text.contains("can generate"), "{text}");
    for part in ["\nboard\n", "\nONNX Runtime\n", "cpu: a small network ran, right", "\nmodels\n", "\nfree space\n", "\nnext\n"] {
        assert!(text.contains(part), "{text} lacks {part:?}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

    let ran = kiln(folder.path(), &["doctor", "--json"]).expect_code(0);
    let report: Value = serde_json::from_str(ran.text()).unwrap();
    check_keys(&report);
    assert_eq!((&report["schema"], &report["can_generate"]), (&2.into(), &true.into()));
    assert_eq!(report["providers"][0]["name"], "cpu");
    assert_eq!(report["providers"][0]["runs"], true);
    assert!(report["board"]["memory"]["total_bytes"]["value"].as_u64().unwrap() > 1 << 20);
    assert_eq!(report["board"]["memory"]["total_bytes"]["source"], "/proc/meminfo");
    let shelf = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/models")).unwrap();
    let bundles = shelf.filter(|entry| entry.as_ref().unwrap().path().join("model_index.json").exists()).count();
    assert_eq!(report["models"].as_array().unwrap().len(), bundles);
    assert_eq!(common::names(folder.path()), [""; 0], "nothing was written");
}

#[test]
fn a_library_that_will_not_do_is_said_and_is_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("broken.so"), "this is no library").unwrap();
    for library in ["broken.so", "missing.so"] {
        let ran = kiln(folder.path(), &["doctor", "--runtime", library]).expect_code(1);
        let text = ran.text();
        assert!(text.starts_with("✗ Kiln ") && text.contains("✗ no ONNX Runtime was loaded"), "{text}");
        assert!(text.contains(library) && text.contains("\nboard\n") && text.contains("pip download"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");

        let ran = kiln(folder.path(), &["doctor", "--json", "--runtime", library]).expect_code(1);
        let report: Value = serde_json::from_str(ran.text()).unwrap();
        assert_eq!(report["can_generate"], false);
        assert_eq!(report["problems"][0]["severity"], "error");
        assert!(report["runtime"]["error"].as_str().unwrap().contains(library), "{report}");
        assert_eq!(report["providers"].as_array().unwrap().len(), 0);
    }
}

#[test]
fn without_a_model_kiln_cannot_generate_and_a_broken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(away(folder.path()).arg("doctor")).expect_code(1);
    assert!(ran.text().contains("✗ no model is found by name"), "{}", ran.text());

    common::copy_tree(&common::bundle("sd"), &folder.path().join("shelf/whole"));
    common::copy_tree(&common::bundle("sd"), &folder.path().join("shelf/spoilt"));
    fs::write(folder.path().join("shelf/spoilt/unet/model.onnx"), "hello").unwrap();
    let ran = run(away(folder.path()).arg("doctor")).expect_code(0);
    assert!(ran.text().contains("! model spoilt is broken") && ran.text().contains("whole"), "{}", ran.text());
}

#[test]
fn a_name_on_the_shelf_cannot_paint_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    common::copy_tree(&common::bundle("sd"), &folder.path().join("a\u{1b}[2Jb"));
    let ran = run(command(folder.path()).arg("doctor").env("KILN_MODELS", folder.path())).expect_code(0);
    assert!(ran.text().contains("a\\u{1b}[2Jb") && !ran.text().contains('\u{1b}'), "{:?}", ran.text());
}
