//! WebGPU on a Vulkan driver that draws on the processor: pictures, and what it leaves to the processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use kiln::output::{self, Picture};

use super::common::{Ran, command, copy_of, names, onnx, run};
use super::model;
use super::stopping::{send, wait};

/// ONNX Runtime with WebGPU, and a driver for it; says that the test is skipped where one is missing.
struct WebGpu {
    runtime: String,
    folder: PathBuf,
}

impl WebGpu {
    fn found() -> Option<Self> {
        let providers = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/providers");
        let runtime = providers.join("webgpu/onnxruntime/capi/libonnxruntime.so.1.27.0");
        let folder = providers.join("lavapipe");
        for (file, script) in [(&runtime, "providers.sh"), (&folder.join("icd.json"), "lavapipe.sh")] {
            if !file.is_file() {
                println!("skipped: webgpu: {} is not there; cross/{script} fetches it", file.display());
                return None;
            }
        }
        Some(Self { runtime: runtime.display().to_string(), folder: fs::canonicalize(folder).unwrap() })
    }

    fn generate(&self, folder: &Path, arguments: &[&str]) -> Ran {
        run(&mut self.command(folder, arguments))
    }

    fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = command(folder);
        command.args(["generate", "--seed", "7", "--runtime", &self.runtime]).args(arguments);
        command.env("VK_DRIVER_FILES", self.folder.join("icd.json"));
        command.env("VK_ICD_FILENAMES", self.folder.join("icd.json"));
        command.env("LD_LIBRARY_PATH", self.folder.join("root/usr/lib/x86_64-linux-gnu"));
        command
    }
}

fn what_ran(file: &Path) -> Vec<(String, String)> {
    let (_, provenance) = output::read(file).unwrap();
    provenance.unwrap().components.into_iter().map(|component| (component.role, component.provider)).collect()
}

#[test]
fn webgpu_makes_the_pictures_of_the_processor_and_says_so() {
    let Some(webgpu) = WebGpu::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &str, &[&str]); 5] = [
        ("gan", "webgpu", &[]),
        ("vae", "webgpu", &[]),
        ("cnf", "webgpu", &[]),
        ("sd_turbo", "webgpu", &["a red apple", "--steps", "2"]),
        ("sdxl", "cpu,unet=webgpu,vae_decoder=webgpu", &["a red apple", "--steps", "3"]),
    ];
    let mut ran = 0;
    for (name, provider, more) in cases {
        let bundle = model(name);
        let of = |provider: &str, file: &str| {
            let arguments = [&["--model", &bundle, "--provider", provider, "-o", file], more].concat();
            webgpu.generate(folder.path(), &arguments).expect_code(0);
            folder.path().join(file)
        };
        let (mine, theirs) = (of("cpu", "cpu.png"), of(provider, "webgpu.png"));
        assert!(what_ran(&mine).iter().all(|(_, provider)| provider == "cpu"));
        for (role, provider) in what_ran(&theirs) {
            // What computes shapes alone stays on the processor, and the record says so.
            let expected: &[&str] = match name == "sdxl" && role.starts_with("text_encoder") {
                true => &["cpu"],
                false => &["webgpu", "webgpu+cpu"],
            };
            assert!(expected.contains(&provider.as_str()), "{name}: {role} ran on {provider}");
        }
        let (mine, theirs) = (Picture::open(&mine).unwrap(), Picture::open(&theirs).unwrap());
        let largest = mine.pixels.iter().zip(&theirs.pixels).map(|(left, right)| left.abs_diff(*right)).max().unwrap();
        assert!(largest <= 1, "{name}: {largest} of 255 apart");
        ran += 1;
    }
    println!("webgpu: {ran} models ran");
    assert_eq!(ran, 5);
}

#[test]
fn what_stays_the_same_is_handed_to_the_device_once() {
    let Some(webgpu) = WebGpu::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = model("sdxl");
    let provider = "cpu,unet=webgpu,vae_decoder=webgpu";
    let arguments = ["a red apple", "--model", &bundle, "--provider", provider, "--steps", "3", "-vv", "-o", "a.png"];
    // Embeddings, pooled embeddings and sizes: of both texts in one batch, or of one after the other.
    for (more, times) in [([].as_slice(), 1), (&["--memory", "low"], 2)] {
        let ran = webgpu.generate(folder.path(), &[&arguments[..], more].concat()).expect_code(0);
        assert_eq!(ran.stderr.matches("3 inputs stay on the device").count(), times, "{more:?}");
    }
}

/// The largest difference between two pictures, in 255ths.
fn apart(folder: &Path, left: &str, right: &str) -> u8 {
    let [left, right] = [left, right].map(|file| Picture::open(&folder.join(file)).unwrap().pixels);
    left.iter().zip(&right).map(|(left, right)| left.abs_diff(*right)).max().unwrap()
}

/// What the log says of samples that stayed: how many values each has, steps, values that went to the device, samples and predictions that came back.
fn stayed(ran: &Ran) -> Vec<[usize; 4]> {
    let lines = ran.stderr.lines().filter(|line| line.contains("stayed on the device for"));
    let numbers = |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<usize>>();
    lines.map(|line| numbers(line).try_into().unwrap()).collect()
}

#[test]
fn samples_stay_on_the_device_and_the_pictures_are_the_processors() {
    let Some(webgpu) = WebGpu::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input.png");
    webgpu.generate(folder.path(), &["a", "--model", &model("sd"), "-o", "input.png"]).expect_code(0);
    let input = input.display().to_string();
    let unet = "cpu,unet=webgpu";
    // The model, what is asked for, network calls. Guidance in one batch, none, in two runs; noise; an end at the estimate; predictions
    // that are remembered; a picture to begin with; several pictures; a transformer.
    let cases: [(&str, &str, &[&str], usize); 9] = [
        ("sdxl", unet, &["--steps", "4"], 4),
        ("sd_turbo", unet, &["--steps", "3", "--force"], 3),
        ("sdxl", unet, &["--steps", "3", "--memory", "low"], 3),
        ("lcm", unet, &["--steps", "4"], 4),
        ("sd", unet, &["--steps", "5", "--sampler", "euler-ancestral"], 5),
        ("sd", unet, &["--steps", "6", "--sampler", "dpm++"], 6),
        ("sd", unet, &["--steps", "6", "--sampler", "euler", "--input", &input, "--strength", "0.7"], 4),
        ("sd", unet, &["--steps", "3", "--sampler", "ddim", "--guidance", "1"], 3),
        ("sd3", "cpu,transformer=webgpu", &["--steps", "3"], 3),
    ];
    let mut ran = 0;
    for (name, provider, more, calls) in cases {
        let bundle = model(name);
        let of = |provider: &str, file: &str, more: &[&str]| {
            let arguments = [&["a red apple", "--model", &bundle, "-vv", "--provider", provider, "-o", file], more].concat();
            webgpu.generate(folder.path(), &arguments).expect_code(0)
        };
        assert!(stayed(&of("cpu", "cpu.png", more)).is_empty());
        let told = stayed(&of(provider, "webgpu.png", more));
        let [[_, steps, _, back]] = told[..] else { panic!("{name}: {told:?}") };
        assert_eq!((steps, back), (calls, 2), "{name} {more:?}");
        let largest = apart(folder.path(), "cpu.png", "webgpu.png");
        assert!(largest <= 1, "{name} {more:?}: {largest} of 255 apart");
        ran += 1;
    }
    println!("webgpu: samples stayed there in {ran} runs");
    assert_eq!(ran, 9);
}

#[test]
fn how_much_goes_to_the_device_does_not_grow_with_steps_by_samples() {
    let Some(webgpu) = WebGpu::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = model("sdxl");
    let of = |steps: &str| {
        let arguments = ["a", "--model", &bundle, "--provider", "cpu,unet=webgpu", "--steps", steps, "-vv", "-o", "a.png"];
        stayed(&webgpu.generate(folder.path(), &arguments).expect_code(0))[0]
    };
    let ([values, _, few, back], [_, _, many, back_too]) = (of("4"), of("24"));
    assert_eq!((back, back_too), (2, 2), "the first prediction and the last sample");
    // Both rows of the first input and the first sample; of each step some numbers.
    assert!(few >= 3 * values && few < 3 * values + 100, "{few} for samples of {values}");
    assert!(many > few && many - few < values / 4, "{} more for 20 more steps of {values} values", many - few);
}

#[test]
fn a_denoiser_that_gives_one_value_is_blamed_where_its_samples_stay_on_the_device() {
    let Some(webgpu) = WebGpu::found() else { return };
    let (folder, bundle) = copy_of("sd");
    onnx::fill_weights(&bundle.join("unet/model.onnx"), 3, 0.0);
    let bundle = bundle.display().to_string();
    for provider in ["cpu", "cpu,unet=webgpu"] {
        let arguments = ["a", "--model", &bundle, "--provider", provider, "--steps", "4", "--sampler", "euler", "-vv"];
        let ran = webgpu.generate(folder.path(), &arguments).expect_code(1);
        assert!(ran.stderr.contains("unet: every value of its output `"), "{provider}: {}", ran.stderr);
    }
}

#[test]
fn what_looks_at_samples_changes_nothing_and_what_changes_them_has_them_on_the_processor() {
    let Some(webgpu) = WebGpu::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = model("sd");
    let of = |provider: &str, file: &str, more: &[&str]| {
        let fixed = ["a red apple", "--model", &bundle, "--provider", provider, "--steps", "8", "-vv", "-o", file];
        webgpu.generate(folder.path(), &[&fixed, more].concat()).expect_code(0)
    };
    let unet = "cpu,unet=webgpu";
    let euler: &[&str] = &["--sampler", "euler"];
    assert_eq!(stayed(&of(unet, "alone.png", euler)).len(), 1);
    let looked = stayed(&of(unet, "looked.png", &[euler, &["--preview", "preview.png"]].concat()));
    assert_eq!(looked[0][3], 10, "eight estimates, the first prediction and the last sample");
    assert_eq!(apart(folder.path(), "alone.png", "looked.png"), 0);

    let ran = of(unet, "unipc.png", &["--sampler", "unipc"]);
    assert!(stayed(&ran).is_empty() && ran.stderr.contains("a step is no sum of few things"), "{}", ran.stderr);
    let mask = Picture::new(64, 64, 3, (0..64 * 64 * 3).map(|at| if at % 192 < 96 { 0 } else { 255 }).collect()).unwrap();
    fs::write(folder.path().join("mask.png"), output::encode(&mask, None, output::Format::Png).unwrap()).unwrap();
    let masked: &[&str] = &["--sampler", "euler", "--input", "alone.png", "--mask", "mask.png", "--strength", "0.9"];
    assert!(stayed(&of(unet, "masked.png", masked)).is_empty());
    of("cpu", "masked-cpu.png", masked);
    assert!(apart(folder.path(), "masked.png", "masked-cpu.png") <= 1);
}

#[test]
fn an_interrupt_stops_a_loop_on_the_device_and_leaves_nothing() {
    let Some(webgpu) = WebGpu::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let bundle = model("sd_turbo");
    let arguments = ["a", "--model", &bundle, "--provider", "cpu,unet=webgpu", "--steps", "400", "--force", "-o", "a.png"];
    let child = webgpu.command(folder.path(), &arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(Duration::from_secs(4));
    send(&child, "-INT");
    // The code of a run that was stopped, not of one that came to its end; how soon depends on what else the processor draws.
    let (code, _, said) = wait(child);
    assert_eq!(code, Some(130), "{said}");
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn what_webgpu_hands_back_is_refused_and_told() {
    let Some(webgpu) = WebGpu::found() else { return };
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--model", &model("consistency"), "--provider", "webgpu", "-o", "a.png"];
    // The driver talks on standard error too, so the refusal is not all that stands there.
    let ran = webgpu.generate(folder.path(), &arguments).expect_code(1);
    for part in ["unet: ", "webgpu leaves", "nodes to the processor", "--allow-fallback"] {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert!(!folder.path().join("a.png").exists());
    let ran = webgpu.generate(folder.path(), &[&arguments[..], &["--allow-fallback"]].concat()).expect_code(0);
    assert!(ran.stderr.contains("% of its nodes fall back to the processor"), "{}", ran.stderr);
    let roles = what_ran(&folder.path().join("a.png"));
    assert_eq!(roles, [("unet".to_owned(), "webgpu+cpu".to_owned())]);
}
