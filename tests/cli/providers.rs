//! `--provider`, `--provider-library`, `--precision`: what is asked for runs, or the run ends and says why.

mod qnn;

use std::fs;
use std::path::{Path, PathBuf};

use kiln::output::{self, Picture};

use super::common::{Ran, copy_of, kiln, names};
use super::model;

/// A picture of a family that needs no prompt.
fn generate(folder: &Path, name: &str, more: &[&str]) -> Ran {
    kiln(folder, &[&["generate", "--seed", "7", "--model", &model(name)], more].concat())
}

/// A library that `cross/providers.sh` fetched; says that the test is skipped where it did not.
fn fetched(provider: &str, file: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/providers").join(provider).join(file);
    if path.is_file() {
        return Some(path.display().to_string());
    }
    println!("skipped: {provider}: {} is not there; cross/providers.sh fetches it", path.display());
    None
}

fn openvino() -> Option<String> {
    fetched("openvino", "onnxruntime/capi/libonnxruntime.so.1.24.1")
}

fn what_ran(file: &Path) -> Vec<String> {
    let (_, provenance) = output::read(file).unwrap();
    provenance.unwrap().components.into_iter().map(|component| component.provider).collect()
}

#[test]
fn what_is_no_provider_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("text.so"), "no library").unwrap();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--provider", "cudda"], &["there is no provider `cudda`", "cuda"]),
        (&["--provider", ""], &["a part is empty"]),
        (&["--provider", "cuda"], &["cuda is not in ONNX Runtime", "onnxruntime-gpu", "--runtime"]),
        (&["--provider", "synthesis=cuda,mapping=cpu"], &["cuda is not in ONNX Runtime"]),
        (&["--provider", "unet=cpu"], &["gan has no unet, expected one of mapping, synthesis"]),
        (&["--provider", "openvino:device_typ=CPU"], &["the nearest is `device_type`"]),
        (&["--provider", "cuda:gpu_mem_limit=NaN"], &["expected a whole number"]),
        (&["--provider-library", "text.so"], &["--provider-library text.so", "expected a plugin"]),
        (&["--precision", "fp16"], &["no component of gan has a fp16 file, only f32"]),
    ];
    let count = cases.len();
    for (arguments, parts) in cases {
        generate(folder.path(), "gan", arguments).refused(2, parts);
    }
    assert_eq!((count, names(folder.path())), (9, vec!["text.so".to_owned()]));
}

#[test]
fn a_variant_beside_the_plain_file_is_listed_and_runs_when_asked_for() {
    let (folder, bundle) = copy_of("gan");
    let synthesis = bundle.join("synthesis");
    fs::copy(synthesis.join("model.onnx"), synthesis.join("model_fp16.onnx")).unwrap();
    let model = bundle.display().to_string();
    let inspected = kiln(folder.path(), &["inspect", &model]).expect_code(0);
    assert!(inspected.text().contains("beside it model_fp16.onnx, fp16"), "{}", inspected.text());
    let of = |more: &[&str], file: &str| {
        let arguments = [&["generate", "--seed", "1", "--model", &model, "-o", file], more].concat();
        kiln(folder.path(), &arguments).expect_code(0);
        let (_, provenance) = output::read(&folder.path().join(file)).unwrap();
        provenance.unwrap().components.into_iter().map(|component| component.file).collect::<Vec<_>>()
    };
    assert_eq!(of(&[], "plain.png"), [None, None]);
    assert_eq!(of(&["--precision", "synthesis=fp16"], "half.png"), [None, Some("model_fp16.onnx".to_owned())]);
    // What its header says does not tell this file from the plain one.
    assert_eq!(of(&["--from", "half.png"], "half-again.png"), [None, Some("model_fp16.onnx".to_owned())]);
    assert_eq!(of(&["--from", "plain.png"], "plain-again.png"), [None, None]);
    fs::rename(synthesis.join("model_fp16.onnx"), synthesis.join("model_q4.onnx")).unwrap();
    assert_eq!(of(&["--precision", "synthesis=q4"], "four.png"), [None, Some("model_q4.onnx".to_owned())]);
    assert_eq!(of(&["--from", "four.png"], "four-again.png"), [None, Some("model_q4.onnx".to_owned())]);
    let again = ["generate", "--from", "half.png", "-o", "x.png"];
    kiln(folder.path(), &again).refused(2, &["model_fp16.onnx of synthesis", "--precision"]);
    fs::rename(synthesis.join("model_q4.onnx"), synthesis.join("model_fp16.onnx")).unwrap();
    fs::write(synthesis.join("model_fp16.onnx"), "cut off").unwrap();
    let arguments = ["generate", "--seed", "1", "--model", &model, "-o", "x.png", "--precision", "synthesis=fp16"];
    kiln(folder.path(), &arguments).refused(1, &["model_fp16.onnx"]);
}

#[test]
fn the_oldest_runtime_makes_the_pictures_of_the_pinned_one() {
    let Some(library) = fetched("oldest", "onnxruntime/capi/libonnxruntime.so.1.22.0") else { return };
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 4] = [
        ("gan", &[]),
        ("vae", &["--memory", "low"]),
        ("sd_turbo", &["a red apple", "--steps", "2"]),
        ("sd3", &["a red apple", "--steps", "2", "--memory", "low"]),
    ];
    let mut ran = 0;
    for (name, more) in cases {
        generate(folder.path(), name, &[&["-o", "pinned.png"], more].concat()).expect_code(0);
        generate(folder.path(), name, &[&["--runtime", &library, "-o", "oldest.png"], more].concat()).expect_code(0);
        assert!(what_ran(&folder.path().join("oldest.png")).iter().all(|provider| provider == "cpu"));
        let open = |file: &str| Picture::open(&folder.path().join(file)).unwrap().pixels;
        let largest = open("pinned.png").iter().zip(open("oldest.png")).map(|(left, right)| left.abs_diff(right)).max().unwrap();
        assert!(largest <= 1, "{name}: {largest} of 255 apart");
        ran += 1;
    }
    assert_eq!(ran, 4);
    let doctor = kiln(folder.path(), &["doctor", "--json", "--runtime", &library]).expect_code(0);
    let report: serde_json::Value = serde_json::from_str(doctor.text()).unwrap();
    assert_eq!(report["runtime"]["version"], "1.22.0", "{report}");
    assert!(report["providers"].as_array().unwrap().iter().any(|row| row["name"] == "cpu" && row["runs"] == true), "{report}");
    let arguments = ["--runtime", library.as_str(), "--provider", "cuda", "-o", "x.png"];
    generate(folder.path(), "gan", &arguments).refused(2, &["cuda is not in ONNX Runtime 1.22.0", "which holds cpu"]);
}

#[test]
fn openvino_on_the_processor_makes_the_same_picture_and_says_so() {
    let Some(library) = openvino() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cases = ["gan", "vae"];
    for name in cases {
        let of = |provider: &str, file: &str| -> PathBuf {
            generate(folder.path(), name, &["--runtime", &library, "--provider", provider, "-o", file]).expect_code(0);
            folder.path().join(file)
        };
        let (mine, theirs) = (of("cpu", "cpu.png"), of("openvino:device_type=CPU,cache_dir=cache", "openvino.png"));
        assert!(what_ran(&mine).iter().all(|provider| provider == "cpu"));
        assert!(what_ran(&theirs).iter().all(|provider| provider == "openvino"), "{:?}", what_ran(&theirs));
        let (mine, theirs) = (Picture::open(&mine).unwrap(), Picture::open(&theirs).unwrap());
        let largest = mine.pixels.iter().zip(&theirs.pixels).map(|(left, right)| left.abs_diff(*right)).max().unwrap();
        assert!(largest <= 1, "{name}: {largest} of 255 apart");
    }
    // A picture is made again where it was made, or it is said why not.
    let again = |more: &[&str]| kiln(folder.path(), &[&["generate", "--from", "openvino.png", "-o", "again.png"], more].concat());
    let ran = again(&["--runtime", &library]).expect_code(0);
    assert!(ran.stderr.contains("it was made on") && ran.stderr.contains("=openvino"), "{}", ran.stderr);
    assert!(what_ran(&folder.path().join("again.png")).iter().all(|provider| provider == "openvino"));
    let open = |file: &str| Picture::open(&folder.path().join(file)).unwrap().pixels;
    assert!(open("again.png") == open("openvino.png"));
    let ran = again(&[]).expect_code(2);
    assert!(ran.stderr.contains("openvino is not in ONNX Runtime") && ran.stderr.contains("--runtime"), "{}", ran.stderr);
    again(&["--provider", "cpu"]).expect_code(0);
    let kept = fs::read_dir(folder.path().join("cache")).unwrap().count();
    assert!(kept > 0, "compiled networks are kept");
}

#[test]
fn a_provider_that_registers_and_then_fails_ends_the_run_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    if let Some(library) = openvino() {
        let wrong = ["--runtime", library.as_str(), "--provider", "openvino:device_type=TPU", "-o", "a.png"];
        generate(folder.path(), "gan", &wrong).refused(1, &["mapping: ", "openvino takes none of its nodes", "--allow-fallback"]);
        assert!(!folder.path().join("a.png").exists());
        let ran = generate(folder.path(), "gan", &[&wrong[..], &["--allow-fallback"]].concat()).expect_code(0);
        assert!(ran.stderr.contains("100 % of its nodes fall back to the processor"), "{}", ran.stderr);
        assert_eq!(what_ran(&folder.path().join("a.png")), ["cpu", "cpu"]);
    }
    if let Some(plugin) = fetched("qnn", "onnxruntime_qnn/libonnxruntime_providers_qnn.so") {
        let wrong = ["--provider-library", plugin.as_str(), "--provider", "qnn:backend_path=libNothing.so", "-o", "b.png"];
        generate(folder.path(), "gan", &wrong).refused(1, &["qnn takes none of its nodes", "libNothing.so", "mapping=cpu"]);
        assert!(!folder.path().join("b.png").exists());
    }
}
