//! A safety checker: which pictures it lets through, and that nothing comes past one that is broken.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::client::Server;
use crate::common;

const CHECKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/safety");

/// The tiny Stable Diffusion with a safety checker of its own.
fn with_checker() -> (tempfile::TempDir, PathBuf) {
    let (kept, bundle) = common::copy_of("sd");
    for part in ["safety_checker", "feature_extractor"] {
        fs::create_dir(bundle.join(part)).unwrap();
        for file in fs::read_dir(Path::new(CHECKER).join(part)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), bundle.join(part).join(file.file_name())).unwrap();
        }
    }
    (kept, bundle)
}

fn golden() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/safety/cases.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn wish(seed: u64) -> Value {
    let golden = golden();
    json!({ "prompt": golden["prompt"], "steps": golden["steps"], "seed": seed, "size": "64x64" })
}

#[test]
fn what_is_held_back_is_what_the_reference_holds_back() {
    let (_kept, bundle) = with_checker();
    let server = Server::start(&["--model", &bundle.display().to_string()]);
    let golden = golden();
    let (mut held, mut shown) = (0, 0);
    for (seed, is_held) in golden["held_back"].as_object().unwrap() {
        let job = server.wait(&server.submit(&wish(seed.parse().unwrap())), &["finished", "failed"]);
        if is_held == &json!(true) {
            assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("policy")), "seed {seed}");
            assert_eq!(job["pictures"], json!([]));
            held += 1;
        } else {
            assert_eq!(job["state"], "finished", "seed {seed}: {}", job["error"]);
            shown += 1;
        }
    }
    assert_eq!((held, shown), (3, 9));
    assert_eq!(common::names(&server.state().join("pictures")).len(), shown, "no file of what was held back");
    // Nothing is shown before it was looked at.
    let id = server.submit(&wish(1));
    assert!(server.events(&id).iter().all(|(name, _)| name != "preview"));
    server.get("/readyz").expect(200);
    let answer =
        server.post("/v1/images/generations", &json!({ "prompt": "a red apple", "steps": 4, "seed": 1, "size": "64x64" }));
    assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (400, json!("content_policy_violation")));
}

#[test]
fn pictures_are_prepared_as_transformers_prepares_them() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/safety");
    let bytes = fs::read(Path::new(golden).join("clip_input.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let files = kiln::bundle::SafetyFiles::open(Path::new(CHECKER)).unwrap();
    let mut count = 0;
    for (name, tensor) in tensors.tensors() {
        let file = fs::read(Path::new(golden).join(format!("{name}.png"))).unwrap();
        let made = kiln::pipeline::clip_input(&files.preparation, &kiln::Picture::read(&file, &name).unwrap()).unwrap();
        assert_eq!(made.shape(), tensor.shape());
        let expected = tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let farthest = made.iter().zip(expected).map(|(made, expected)| (made - expected).abs()).fold(0.0, f32::max);
        assert!(farthest < 1e-5, "{name} is off by {farthest}");
        count += 1;
    }
    assert_eq!(count, 6);
}

#[test]
fn a_checker_is_switched_off_or_brought_along_by_name_alone() {
    let (_kept, bundle) = with_checker();
    let bundle = bundle.display().to_string();
    let server = Server::start(&["--model", &bundle, "--no-safety"]);
    server.wait(&server.submit(&wish(1)), &["finished"]);
    let plain = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/sd");
    let server = Server::start(&["--model", plain, "--safety", CHECKER]);
    assert_eq!(server.wait(&server.submit(&wish(6)), &["failed"])["error"]["code"], "policy");
    server.wait(&server.submit(&wish(2)), &["finished"]);
}

#[test]
fn a_clip_with_a_frame_that_is_held_back_is_no_clip() {
    let checker = tempfile::tempdir().unwrap();
    common::copy_tree(Path::new(CHECKER), checker.path());
    let made = || {
        let folder = tempfile::tempdir().unwrap();
        let bundle = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/animatediff");
        let path = checker.path().display().to_string();
        let arguments =
            ["generate", "a red apple", "--steps", "2", "--seed", "2", "--output", "a.gif", "--model", bundle, "--safety", &path];
        let made = common::kiln(folder.path(), &arguments);
        (made.code, made.stderr.clone(), common::names(folder.path()))
    };
    // As it is, it holds back pictures of another model; with these thresholds everything, or nothing.
    for (threshold, expected) in [(2.0_f32, Some(0)), (-2.0, Some(2))] {
        common::onnx::edit_graph(&checker.path().join("safety_checker/model.onnx"), |graph| {
            graph.each(common::onnx::INITIALIZER, |tensor| {
                let found = tensor.text(common::onnx::TENSOR_NAME).ends_with(".concept_embeds_weights");
                if found {
                    let bytes = threshold.to_le_bytes().repeat(17);
                    tensor.set(common::onnx::RAW_DATA, common::onnx::Value::Bytes(bytes));
                }
                found
            })
        });
        let (code, said, names) = made();
        assert_eq!(code, expected, "{threshold}: {said}");
        match expected {
            Some(0) => assert_eq!(names, ["a.gif"]),
            _ => assert!(names.is_empty() && said.contains("holds back"), "{names:?} {said}"),
        }
    }
}

/// What is spoilt, how, and what the error says.
type Case<'c> = (&'c str, &'c dyn Fn(&Path), &'c str);

#[test]
fn nothing_comes_past_a_checker_that_is_broken() {
    let network = |bundle: &Path| bundle.join("safety_checker/model.onnx");
    let config = |bundle: &Path, from: &str, to: &str| {
        let path = bundle.join("feature_extractor/preprocessor_config.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    };
    let cases: [Case; 12] = [
        ("no network", &|bundle| fs::remove_file(network(bundle)).unwrap(), "there is no such file"),
        (
            "no folder, and the index names one",
            &|bundle| {
                fs::remove_dir_all(bundle.join("safety_checker")).unwrap();
                let path = bundle.join("model_index.json");
                let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                index["safety_checker"] = json!(["stable_diffusion", "StableDiffusionSafetyChecker"]);
                fs::write(path, index.to_string()).unwrap();
            },
            "there is no such file",
        ),
        ("no preparation", &|bundle| fs::remove_dir_all(bundle.join("feature_extractor")).unwrap(), "preprocessor_config.json"),
        (
            "cut off",
            &|bundle| {
                let bytes = fs::read(network(bundle)).unwrap();
                fs::write(network(bundle), &bytes[..bytes.len() / 2]).unwrap();
            },
            "safety_checker",
        ),
        ("empty", &|bundle| fs::write(network(bundle), b"").unwrap(), "safety_checker"),
        (
            "another network",
            &|bundle| {
                fs::copy(bundle.join("vae_decoder/model.onnx"), network(bundle)).map(drop).unwrap();
            },
            "is no safety checker",
        ),
        ("weights that are no numbers", &|bundle| common::onnx::fill_weights(&network(bundle), 64, f32::NAN), "finite"),
        ("weights without bound", &|bundle| common::onnx::fill_weights(&network(bundle), 64, f32::INFINITY), "finite"),
        ("weights that overflow", &|bundle| common::onnx::fill_weights(&network(bundle), 64, 1e38), "at most"),
        ("another side", &|bundle| config(bundle, "32", "48"), "safety_checker"),
        ("a deviation of 0", &|bundle| config(bundle, "0.26862954", "0"), "image_std"),
        ("another filter", &|bundle| config(bundle, "\"resample\": 3", "\"resample\": 0"), "resample"),
    ];
    let count = cases.len();
    for (name, spoil, part) in cases {
        let (_kept, bundle) = with_checker();
        spoil(&bundle);
        let arguments =
            ["generate", "a red apple", "--steps", "4", "--seed", "2", "--size", "64x64", "--output", "a.png", "--model"];
        let folder = tempfile::tempdir().unwrap();
        let path = bundle.display().to_string();
        let made = common::kiln(folder.path(), &[&arguments[..], &[&path]].concat());
        assert!(made.code != Some(0) && made.stderr.contains(part), "{name}: {:?} {}", made.code, made.stderr);
        assert_eq!(common::names(folder.path()), [""; 0], "{name}");
    }
    assert_eq!(count, 12);
}
