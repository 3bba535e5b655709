//! QNN on the simulator of Qualcomm's NPU, which its plugin for x86-64 brings: pictures, shapes, contexts compiled ahead.

use std::fs;
use std::path::{Path, PathBuf};

use kiln::output::Picture;
use kiln::plan::ProviderWish;
use kiln::runtime::Provider;
use kiln::{Cancel, Engine, Request, Settings};

use super::super::common::{Ran, command, copy_of, run};
use super::super::model;
use super::super::runtime_library::library;
use super::{fetched, what_ran};

/// The simulator is told which chip it is.
const SIMULATOR: &str = "qnn:backend_type=htp,htp_arch=73,soc_model=43";

fn plugin() -> Option<String> {
    fetched("qnn", "onnxruntime_qnn/libonnxruntime_providers_qnn.so")
}

/// A model that lies in the box.
fn in_the_box(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(name).display().to_string()
}

/// A folder with a cache of its own, and the plugin.
struct Place {
    folder: tempfile::TempDir,
    plugin: String,
}

impl Place {
    fn new() -> Option<Self> {
        Some(Self { plugin: plugin()?, folder: tempfile::tempdir().unwrap() })
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        run(command(self.folder.path()).args(arguments).env("XDG_CACHE_HOME", self.folder.path().join("cache")))
    }

    /// A picture of seed 2 in `file`, made by QNN where `provider` says so.
    fn generate(&self, model: &str, provider: &str, file: &str, more: &[&str]) -> Ran {
        let arguments = ["generate", "--model", model, "--seed", "2", "--provider", provider, "-v", "--force", "-o", file];
        self.run(&[&arguments[..], &["--provider-library", &self.plugin], more].concat())
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn pixels(&self, file: &str) -> Vec<u8> {
        Picture::open(&self.path(file)).unwrap().pixels
    }

    /// The folders of prepared networks, by their names.
    fn prepared(&self) -> Vec<PathBuf> {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<PathBuf> =
            entries(&self.path("cache/kiln/prepared")).flat_map(|bundle| entries(&bundle).collect::<Vec<_>>()).collect();
        found.sort();
        found
    }
}

#[test]
fn the_simulator_makes_the_pictures_of_the_processor_and_says_so() {
    let Some(place) = Place::new() else { return };
    let on_sticker = format!("{SIMULATOR},text_encoder=cpu");
    let on_sticker = on_sticker.as_str();
    let (gan, vae, flow, sticker, turbo) =
        (in_the_box("gan"), in_the_box("vae"), in_the_box("flow"), in_the_box("sticker"), model("sd_turbo"));
    let cases: [(&str, &str, &[&str]); 5] = [
        (&gan, SIMULATOR, &[]),
        (&vae, SIMULATOR, &[]),
        (&flow, SIMULATOR, &[]),
        // Its text encoder has a node that QNN does not take.
        (&sticker, on_sticker, &["a red apple", "--steps", "1"]),
        (&turbo, SIMULATOR, &["a red apple", "--steps", "1", "--size", "16x16"]),
    ];
    let tolerance = Provider::Qnn.facts().tolerance * 255.0;
    let mut ran = 0;
    for (model, provider, more) in cases {
        place.generate(model, "cpu", "cpu.png", more).expect_code(0);
        place.generate(model, provider, "qnn.png", more).expect_code(0);
        let (mine, theirs) = (what_ran(&place.path("cpu.png")), what_ran(&place.path("qnn.png")));
        assert!(mine.iter().all(|provider| provider == "cpu"), "{mine:?}");
        let (on_qnn, elsewhere): (Vec<_>, Vec<_>) = theirs.iter().partition(|provider| *provider == "qnn");
        assert_eq!(elsewhere.len(), usize::from(model == sticker), "{model}: {theirs:?}");
        assert!(!on_qnn.is_empty(), "{model}: {theirs:?}");
        let pixels = (place.pixels("cpu.png"), place.pixels("qnn.png"));
        let largest = pixels.0.iter().zip(&pixels.1).map(|(left, right)| left.abs_diff(*right)).max().unwrap();
        println!("qnn: {}: at most {largest} of 255 apart", Path::new(model).file_name().unwrap().display());
        assert!(f32::from(largest) <= tolerance, "{model}: {largest} of 255 apart, {tolerance} is allowed");
        assert!(pixels.0 != pixels.1, "{model}: 16 bits and 32 round alike, so QNN did not run");
        ran += 1;
    }
    assert_eq!(ran, 5);
}

#[test]
fn what_qnn_does_not_take_is_refused_and_told() {
    let Some(place) = Place::new() else { return };
    let ddpm = in_the_box("ddpm");
    let steps = ["--steps", "1"];
    let parts = ["unet: ", "qnn leaves 6 nodes to the processor (", "--allow-fallback", "--provider unet=cpu"];
    let ran = place.generate(&ddpm, SIMULATOR, "a.png", &steps).expect_code(1);
    for part in parts {
        assert!(ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert!(!place.path("a.png").exists());
    let ran = place.generate(&ddpm, SIMULATOR, "a.png", &[&steps[..], &["--allow-fallback"]].concat()).expect_code(0);
    assert!(ran.stderr.contains("% of its nodes fall back to the processor, the rest runs on qnn"), "{}", ran.stderr);
    assert_eq!(what_ran(&place.path("a.png")), ["qnn+cpu"]);
    // The simulator has no memory for a chip that it does not know.
    let ran = place.generate(&in_the_box("gan"), "qnn", "b.png", &[]).expect_code(1);
    assert!(ran.stderr.contains("mapping: ") && ran.stderr.contains("QNN_COMMON_ERROR_MEM_ALLOC"), "{}", ran.stderr);
    assert!(!place.path("b.png").exists());
}

#[test]
fn a_request_of_another_size_has_networks_opened_anew_and_no_others() {
    let Some(plugin) = plugin() else { return };
    let settings = Settings {
        providers: ProviderWish::parse(SIMULATOR).unwrap(),
        provider_library: Some(PathBuf::from(plugin)),
        ..Settings::default()
    };
    let mut engine = Engine::open(Path::new(&model("sd_turbo")), &settings, Some(&library())).unwrap();
    let mut opened = |size: (u32, u32)| {
        let wanted = Request { seed: Some(7), steps: Some(1), size: Some(size), force: true, ..Request::new("a red apple") };
        let made = engine.generate(&wanted, &mut (), &Cancel::new()).unwrap().remove(0);
        assert_eq!((made.picture.width, made.picture.height), size);
        let components = made.provenance.components.into_iter();
        let opened = components.filter(|component| component.load_ms > 0.0).map(|component| component.role);
        (opened.collect::<Vec<_>>(), made.picture.pixels)
    };
    let (first, small) = opened((16, 16));
    assert_eq!(first, ["text_encoder", "unet", "vae_decoder"]);
    assert!(opened((16, 16)).0.is_empty(), "it is open for this size");
    let (second, _) = opened((32, 16));
    assert_eq!(second, ["unet", "vae_decoder"]);
    let (third, again) = opened((16, 16));
    assert_eq!(third, ["unet", "vae_decoder"], "what was open for the other size took the memory");
    assert!(again == small, "another picture");
}

#[test]
fn a_context_compiled_ahead_is_used_where_its_key_fits() {
    let Some(place) = Place::new() else { return };
    let (_kept, bundle) = copy_of("gan");
    let model = bundle.display().to_string();
    let prepare = || {
        let arguments = ["prepare", &model, "--provider", SIMULATOR, "--provider-library", &place.plugin];
        place.run(&arguments).expect_code(0)
    };
    let told = place.generate(&model, SIMULATOR, "before.png", &[]).expect_code(0).stderr;
    assert!(told.contains("synthesis: compiled for batch 1 in"), "{told}");
    println!("qnn: {}", prepare().text());
    let told = place.generate(&model, SIMULATOR, "after.png", &[]).expect_code(0).stderr;
    assert!(told.contains("mapping: as prepared for batch 1") && told.contains("synthesis: as prepared for batch 1"), "{told}");
    assert!(!told.contains("compiled for"), "{told}");
    assert!(place.pixels("before.png") == place.pixels("after.png"), "another picture");
    assert_eq!(what_ran(&place.path("after.png")), ["qnn", "qnn"]);
    assert!(prepare().text().contains("was prepared already"));
    place.run(&["prepare", "--check"]).expect_code(0);

    // Other options of the provider make another network, and leave what there is.
    let other = format!("{SIMULATOR},htp_graph_finalization_optimization_mode=1");
    let told = place.generate(&model, &other, "x.png", &[]).expect_code(0).stderr;
    assert!(told.contains("synthesis: was prepared for another file, runtime, provider or machine"), "{told}");
    assert!(told.contains("synthesis: compiled for"), "{told}");
    // So does the file once it was written anew, and what was made of it before goes.
    let network = bundle.join("synthesis/model.onnx");
    fs::write(&network, fs::read(&network).unwrap()).unwrap();
    let told = place.generate(&model, SIMULATOR, "x.png", &[]).expect_code(0).stderr;
    assert!(told.contains("synthesis: compiled for") && told.contains("mapping: as prepared for"), "{told}");
    let before = place.prepared();
    prepare();
    assert_eq!(place.prepared().len(), before.len());
    assert_ne!(place.prepared(), before);
    // What was cut off is told, and the model's own file is compiled.
    let folder = place.prepared().into_iter().find(|folder| folder.display().to_string().contains("/synthesis-qnn-")).unwrap();
    let bytes = fs::read(folder.join("model_qnn.bin")).unwrap();
    fs::write(folder.join("model_qnn.bin"), &bytes[..bytes.len() / 2]).unwrap();
    let told = place.generate(&model, SIMULATOR, "x.png", &[]).expect_code(0).stderr;
    assert!(told.contains("synthesis: what was prepared is left aside") && told.contains("synthesis: compiled for"), "{told}");
    place.run(&["prepare", "--check"]).expect_code(1);
    assert!(place.pixels("x.png") == place.pixels("before.png"), "another picture");
}

#[test]
fn contexts_of_several_sizes_lie_beside_each_other() {
    let Some(place) = Place::new() else { return };
    let model = model("sd_turbo");
    let prepare = |size: &str| {
        let arguments = ["prepare", &model, "--provider", SIMULATOR, "--provider-library", &place.plugin, "--size", size];
        place.run(&arguments).expect_code(0).text().to_owned()
    };
    let told = |size: &str| {
        place.generate(&model, SIMULATOR, "a.png", &["a red apple", "--steps", "1", "--size", size]).expect_code(0).stderr
    };
    prepare("16x16");
    let small = place.prepared();
    let log = told("32x16");
    assert!(log.contains("text_encoder: as prepared for batch_size 1, sequence_length 77 in"), "{log}");
    let other = "unet: was prepared for batch_size 1, height 4, sequence_length 77, width 4, not for batch_size 1, height 4, sequence_length 77, width 8";
    assert!(log.contains(other) && log.contains("unet: compiled for"), "{log}");
    let table = prepare("32x16");
    assert_eq!(table.matches("was prepared already").count(), 1, "a text has no size: {table}");
    let both = place.prepared();
    assert_eq!((small.len(), both.len()), (4, 7));
    assert!(small.iter().all(|folder| both.contains(folder)), "{both:?}");
    for size in ["16x16", "32x16"] {
        let log = told(size);
        assert!(log.contains("unet: as prepared for") && log.contains("vae_decoder: as prepared for"), "{log}");
        assert!(!log.contains("compiled"), "{log}");
    }
}
