//! WebGPU on a Vulkan driver that draws on the processor: pictures, and what it leaves to the processor.

use std::fs;
use std::path::{Path, PathBuf};

use kiln::output::{self, Picture};

use super::common::{Ran, command, run};
use super::model;

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
        let mut command = command(folder);
        command.args(["generate", "--seed", "7", "--runtime", &self.runtime]).args(arguments);
        command.env("VK_DRIVER_FILES", self.folder.join("icd.json"));
        command.env("VK_ICD_FILENAMES", self.folder.join("icd.json"));
        command.env("LD_LIBRARY_PATH", self.folder.join("root/usr/lib/x86_64-linux-gnu"));
        run(&mut command)
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
