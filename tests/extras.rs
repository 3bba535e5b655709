//! Weighted and long prompts, against the arithmetic that `tests/tools/prompt_weights.py` writes out on diffusers' pipelines; textual inversion,
//! tiny decoders, ControlNet and upscaling against diffusers and torch.
//!
//! The cases and how they were made: `tests/tools/README.md`.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kiln::plan::{Budget, DecoderChoice, Plan, TileChoice};
use kiln::request::SamplerChoice;
use kiln::runtime::{NetworkOptions, Runtime};
use kiln::upscale::Upscaler;
use kiln::{Cancel, Engine, Memory, Picture, Request, Settings, sampler};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    bundle: String,
    prompt: String,
    negative: Option<String>,
    seed: u64,
    steps: usize,
    guidance: f32,
    width: u32,
    height: u32,
    #[serde(default)]
    embeddings: Vec<String>,
    control: Option<String>,
    control_scale: Option<f32>,
    input: Option<String>,
    strength: Option<f32>,
}

/// Some three times what ONNX Runtime's rounding alone moves, as in `tests/pictures.rs`.
const TOLERANCE: f32 = 1e-3;

fn golden(name: &str) -> PathBuf {
    common::reference::golden("extras", name)
}

fn cases(kind: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = common::reference::cases("extras");
    cases.retain(|case| case.kind == kind);
    cases
}

fn request(case: &Case) -> Request {
    Request {
        prompt: case.prompt.clone(),
        negative: case.negative.clone(),
        seed: Some(case.seed),
        steps: Some(case.steps),
        guidance: Some(case.guidance),
        size: Some((case.width, case.height)),
        sampler: SamplerChoice { run: sampler::Run { eta: Some(0.0), ..sampler::Run::default() }, ..SamplerChoice::default() },
        control: case.control.as_deref().map(input),
        control_scale: case.control_scale,
        input: case.input.as_deref().map(input),
        strength: case.strength,
        force: true,
        count: 1,
        ..Request::default()
    }
}

fn latents(engine: &mut Engine, request: &Request) -> Vec<f32> {
    let made = engine.generate(request, &mut (), &Cancel::new()).unwrap();
    made[0].latents.iter().copied().collect()
}

fn apart(left: &[f32], right: &[f32]) -> f32 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0_f32, f32::max)
}

/// Compares every case of `kind` with its golden latents; returns how many there were.
fn compare(kind: &str, mut open: impl FnMut(&Case) -> Engine) -> usize {
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut wrong = Vec::new();
    let cases = cases(kind);
    for case in &cases {
        let expected = common::reference::floats(&tensors, &case.name);
        let apart = apart(&latents(&mut open(case), &request(case)), &expected);
        if apart.is_nan() || apart > TOLERANCE {
            wrong.push(format!("{}: latents {apart:e} apart", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    cases.len()
}

fn open(bundle: &str) -> Engine {
    Engine::open(&common::bundle(bundle), &Settings::default(), None).unwrap()
}

#[test]
fn weighted_and_long_prompts_are_read_as_web_ui_reads_them() {
    let count = compare("weights", |case| open(&case.bundle));
    assert_eq!(count, 25, "cases of weights in cases.json");
}

#[test]
fn a_prompt_without_brackets_is_the_same_to_the_bit_either_way() {
    let mut engines: BTreeMap<&str, Engine> = BTreeMap::new();
    let mut ran = 0;
    for bundle in ["sd", "sdxl", "sd_v"] {
        let engine = engines.entry(bundle).or_insert_with(|| open(bundle));
        for prompt in ["", "a smiling sun", r"a sun: red, \ green; 'blue'"] {
            let asked = Request { seed: Some(1), steps: Some(2), ..Request::new(prompt) };
            let plain = Request { plain_prompt: true, ..asked.clone() };
            assert_eq!(latents(engine, &asked), latents(engine, &plain), "{bundle}: {prompt:?}");
            ran += 1;
        }
    }
    assert_eq!(ran, 9);
}

#[test]
fn the_models_in_the_box_weigh_words_too() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker");
    let mut engine = Engine::open(&folder, &Settings::default(), None).unwrap();
    let mut of = |prompt: &str| latents(&mut engine, &Request { seed: Some(3), steps: Some(1), ..Request::new(prompt) });
    let plain = of("a red apple");
    assert_eq!(of("a red apple BREAK"), plain, "a model that reads one chunk knows no breaks");
    assert_eq!(of(r"a \(red\) apple"), plain, "its words are letters alone");
    let changed = apart(&of("a (red:1.5) apple"), &plain);
    assert!(changed > 1e-3, "{changed}");
}

#[test]
fn only_a_word_that_a_model_does_not_know_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sticker").display().to_string();
    let mut cases = 0;
    for (prompt, warning) in [
        ("a red apple", None),
        ("a (red:1.3), (green) apple", None),
        ("a zebrafinch apple", Some("the model does not know the words: zebrafinch")),
        ("!?", Some("the model knows nothing of \"!?\", and reads it as an empty prompt")),
    ] {
        let arguments = ["generate", prompt, "--model", &model, "--steps", "1", "--seed", "1", "--output", "a.png"];
        let ran = common::kiln(folder.path(), &arguments).expect_code(0);
        assert_eq!(ran.stderr.contains("warning"), warning.is_some(), "{prompt}: {}", ran.stderr);
        assert!(ran.stderr.contains(warning.unwrap_or_default()), "{prompt}: {}", ran.stderr);
        cases += 1;
    }
    assert_eq!(cases, 4);
}

#[test]
fn weights_that_make_no_sense_are_refused() {
    let mut cases = 0;
    for (bundle, prompt, reason) in [
        ("sd", "a (sun:1000)", "prompt: `sun` has the weight 1000.0000, expected at most 100"),
        ("sd", "a (sun:nan)", "prompt: a word has the weight `nan`"),
        ("sd3", "a (sun:1.3)", "prompt: has weights such as (word:1.3), and model sd3 reads sentences with a T5"),
        ("flux_schnell", "a (sun:1.3)", "--plain-prompt"),
    ] {
        let error = open(bundle).generate(&Request::new(prompt), &mut (), &Cancel::new()).unwrap_err();
        assert!(kiln::error::is_refusal(&error) && error.to_string().contains(reason), "{bundle}: {error:#}");
        cases += 1;
    }
    assert_eq!(cases, 4);
    // Brackets alone are letters to a model that reads sentences.
    let mut engine = open("sd35_turbo");
    let asked = Request { seed: Some(1), steps: Some(1), ..Request::new("a (smiling) sun") };
    let plain = Request { plain_prompt: true, ..asked.clone() };
    assert_eq!(latents(&mut engine, &asked), latents(&mut engine, &plain));
}

#[test]
fn a_record_says_how_its_prompt_was_read() {
    let mut engine = open("sd_turbo");
    let mut made = |request: &Request| engine.generate(request, &mut (), &Cancel::new()).unwrap().remove(0);
    for plain_prompt in [false, true] {
        let asked = Request { seed: Some(1), plain_prompt, ..Request::new("a (smiling) sun") };
        let first = made(&asked);
        assert_eq!(first.provenance.plain_prompt, Some(plain_prompt));
        let again = Engine::request_of(&first.provenance).unwrap();
        assert_eq!(made(&again).picture.pixels, first.picture.pixels);
    }
    let old = kiln::Provenance { plain_prompt: None, ..made(&Request::new("a sun")).provenance };
    assert!(Engine::request_of(&old).unwrap().plain_prompt, "what was made before there were weights is made without");
}

fn embedding(file: &str) -> String {
    golden("embeddings").join(file).display().to_string()
}

fn with_embeddings(bundle: &str, embeddings: Vec<String>) -> anyhow::Result<Engine> {
    Engine::open(&common::bundle(bundle), &Settings { embeddings, ..Settings::default() }, None)
}

#[test]
fn embeddings_give_the_pictures_of_textual_inversion() {
    let count = compare("embedding", |case| {
        with_embeddings(&case.bundle, case.embeddings.iter().map(|file| embedding(file)).collect()).unwrap()
    });
    assert_eq!(count, 7, "cases of embeddings in cases.json");
}

#[test]
fn an_embedding_changes_nothing_where_its_word_is_not() {
    let asked = Request { seed: Some(1), steps: Some(2), ..Request::new("a smiling sun") };
    let with_word = Request { prompt: "a <toy>".into(), ..asked.clone() };
    let mut engine = with_embeddings("sd", vec![embedding("toy.safetensors")]).unwrap();
    let before = latents(&mut engine, &asked);
    assert_eq!(before, latents(&mut open("sd"), &asked));
    let word = engine.generate(&with_word, &mut (), &Cancel::new()).unwrap().remove(0);
    assert_eq!(word.provenance.embeddings.len(), 1);
    assert_eq!((word.provenance.embeddings[0].name.as_str(), word.provenance.embeddings[0].sha256.len()), ("<toy>", 64));
    // The encoder is open with the door for vectors now.
    assert_eq!(latents(&mut engine, &asked), before);
    assert_ne!(latents(&mut engine, &Request { prompt: "a toy".into(), ..asked.clone() }), latents(&mut engine, &with_word));
}

#[test]
fn a_bundle_brings_embeddings_and_its_word_may_be_named_otherwise() {
    let (_keep, folder) = common::copy_of("sd");
    fs::create_dir(folder.join("embeddings")).unwrap();
    fs::copy(embedding("worn.safetensors"), folder.join("embeddings/worn.safetensors")).unwrap();
    let named = format!("tidy={}", embedding("worn.safetensors"));
    let settings = Settings { embeddings: vec![named], ..Settings::default() };
    let mut engine = Engine::open(&folder, &settings, None).unwrap();
    let mut of = |prompt: &str, plain_prompt| {
        latents(&mut engine, &Request { seed: Some(1), steps: Some(2), plain_prompt, ..Request::new(prompt) })
    };
    let worn = of("a worn sun", false);
    assert_eq!(of("a tidy sun", false), worn);
    assert_eq!(of("a Worn sun", true), worn, "a plain prompt knows the word too");
    assert_ne!(of("a (worn:1.4) sun", false), worn);
}

/// A safetensors file with one tensor of `header` and `data`.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

#[test]
fn embeddings_that_are_none_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("word.safetensors");
    let good = fs::read(embedding("toy.safetensors")).unwrap();
    let tensor = |key: &str, kind: &str, shape: &str, data: &[u8]| {
        file(&format!(r#"{{"{key}":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{}]}}}}"#, data.len()), data)
    };
    let rows = |value: f32, count: usize| value.to_le_bytes().repeat(count);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "is no safetensors file"),
        (good[..good.len() - 1].to_vec(), "is no safetensors file"),
        (good[..4].to_vec(), "is no safetensors file"),
        (file("{", b""), "is no safetensors file"),
        ([&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "is no safetensors file"),
        ([&(50_u64 << 20).to_le_bytes()[..], b"{}"].concat(), "is no safetensors file"),
        (file("{}", b""), "holds 0 tensors"),
        (b"PK\x03\x04archive/data.pkl".to_vec(), "is a pickle, which may run any program"),
        (b"\x80\x02}q\x00X".to_vec(), "is a pickle"),
        (tensor("a", "F32", "[2,3,4]", &rows(0.5, 24)), "is of shape [2, 3, 4], expected [vectors, width]"),
        (tensor("a", "F32", "[0,24]", b""), "expected 1 to 75 vectors"),
        (tensor("a", "F32", "[76,1]", &rows(0.5, 76)), "expected 1 to 75 vectors"),
        (tensor("a", "I64", "[1,3]", &[0; 24]), "holds I64, expected F32, F16 or BF16"),
        (tensor("a", "F32", "[1,24]", &rows(f32::NAN, 24)), "holds NaN, expected numbers"),
        (tensor("a", "F32", "[24]", &rows(f32::INFINITY, 24)), "holds inf, expected numbers"),
        (tensor("a", "F32", "[1,23]", &rows(0.5, 23)), "has vectors of 23 numbers, and text_encoder of sd takes 24"),
        (tensor("a (b)", "F32", "[1,24]", &rows(0.5, 24)), "and `(` weighs words in a prompt; call it NAME="),
        (tensor("a\\u001b", "F32", "[1,24]", &rows(0.5, 24)), "expected 1 to 100 letters"),
        (tensor("", "F32", "[1,24]", &rows(0.5, 24)), "expected 1 to 100 letters"),
        (fs::read(embedding("pair.safetensors")).unwrap(), "has vectors for 2 text encoders, and model sd has 1"),
    ];
    let mut ran = 0;
    for (bytes, reason) in &cases {
        fs::write(&path, bytes).unwrap();
        let Err(error) = with_embeddings("sd", vec![path.display().to_string()]) else { panic!("{reason}") };
        assert!(kiln::error::is_refusal(&error) && error.to_string().contains(reason), "{error:#}, expected {reason}");
        ran += 1;
    }
    assert_eq!(ran, 20);
    let toy = embedding("toy.safetensors");
    for (bundle, embeddings, reason) in [
        ("sd", vec![toy.clone(), format!("<TOY>={}", embedding("worn.safetensors"))], "two files have a word of this name"),
        ("sd", vec!["nothing.safetensors".to_owned()], "embedding nothing.safetensors: "),
        ("sd", vec![folder.path().display().to_string()], "expected a file"),
        ("sdxl", vec![toy.clone()], "has vectors for 1 text encoders, and model sdxl has 2"),
        ("sd3", vec![toy.clone()], "model sd3 takes none"),
        ("vae", vec![toy], "model vae takes none"),
    ] {
        let Err(error) = with_embeddings(bundle, embeddings) else { panic!("{reason}") };
        assert!(kiln::error::is_refusal(&error) && error.to_string().contains(reason), "{error:#}, expected {reason}");
    }
}

#[test]
fn bytes_that_chance_spoilt_are_refused_or_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("word.safetensors");
    let good = fs::read(embedding("pair.safetensors")).unwrap();
    let mut dice = common::Dice(7);
    for _ in 0..300 {
        fs::write(&path, common::mutate(&good, &mut dice)).unwrap();
        if let Err(error) = kiln::text::NewWord::read(path.to_str().unwrap()) {
            assert!(kiln::error::is_refusal(&error), "{error:#}");
        }
    }
}

/// How far two pictures of one size lie apart, in steps of a byte.
fn steps_apart(left: &Picture, right: &Picture) -> u8 {
    assert_eq!((left.width, left.height, left.channels), (right.width, right.height, right.channels));
    left.pixels.iter().zip(&right.pixels).map(|(left, right)| left.abs_diff(*right)).max().unwrap_or_default()
}

#[test]
fn a_tiny_decoder_gives_the_pictures_of_diffusers_tiny_autoencoder() {
    let decoder = DecoderChoice::Folder(common::bundle("tiny_decoder"));
    let cases = cases("tiny");
    for case in &cases {
        let settings = Settings { decoder: decoder.clone(), ..Settings::default() };
        let mut engine = Engine::open(&common::bundle(&case.bundle), &settings, None).unwrap();
        let made = engine.generate(&request(case), &mut (), &Cancel::new()).unwrap().remove(0);
        let expected = Picture::open(&golden(&format!("{}.png", case.name))).unwrap();
        let apart = steps_apart(&made.picture, &expected);
        assert!(apart <= 1, "{}: {apart}/255 apart", case.name);
        assert_eq!(made.provenance.decoder.as_deref(), Some("tiny"));
    }
    assert_eq!(cases.len(), 4, "cases of tiny decoders in cases.json");
}

/// A copy of a bundle with a tiny decoder in it.
fn with_tiny(name: &str) -> (tempfile::TempDir, PathBuf) {
    let keep = tempfile::tempdir().unwrap();
    // What a model was distilled for is read from its folder's name.
    let folder = keep.path().join(name);
    common::copy_tree(&common::bundle(name), &folder);
    common::copy_tree(&common::bundle("tiny_decoder"), &folder.join("vae_decoder_tiny"));
    (keep, folder)
}

#[test]
fn a_bundle_may_bring_a_tiny_decoder_and_uses_it_when_asked() {
    let (_keep, folder) = with_tiny("sd_turbo");
    let asked = Request { seed: Some(1), steps: Some(1), ..Request::new("a smiling sun") };
    let picture = |folder: &Path, decoder: DecoderChoice| {
        let mut engine = Engine::open(folder, &Settings { decoder, ..Settings::default() }, None).unwrap();
        engine.generate(&asked, &mut (), &Cancel::new()).unwrap().remove(0)
    };
    let full = picture(&common::bundle("sd_turbo"), DecoderChoice::Auto);
    assert_eq!(picture(&folder, DecoderChoice::Auto).picture, full.picture);
    assert_eq!(picture(&folder, DecoderChoice::Full).picture, full.picture);
    let tiny = picture(&folder, DecoderChoice::Tiny);
    assert_ne!(tiny.picture, full.picture);
    assert_eq!(tiny.latents, full.latents);
    assert!(tiny.provenance.components.iter().any(|component| component.role == "vae_decoder_tiny"));
    assert!(!tiny.provenance.components.iter().any(|component| component.role == "vae_decoder"));
    assert_eq!(
        picture(&common::bundle("sd_turbo"), DecoderChoice::Folder(folder.join("vae_decoder_tiny"))).picture,
        tiny.picture
    );
}

#[test]
fn a_budget_takes_the_tiny_decoder_before_fewer_steps() {
    let (_keep, folder) = with_tiny("sd_turbo");
    let request = Request { seed: Some(1), size: Some((512, 512)), ..Request::new("a smiling sun") };
    // Nothing else may give way before it.
    let plain = Settings { threads: Some(1), memory: Memory::Low, tile: TileChoice::Off, ..Settings::default() };
    let plan = |settings: &Settings| Engine::open(&folder, settings, None).unwrap().plan(&request).unwrap();
    let decision = |plan: &Plan| plan.decisions.iter().find(|made| made.what == "decoder").cloned().unwrap();
    let time = |plan: &Plan| plan.forecast.time_ms.unwrap();
    let (asked, whole) = plan(&plain);
    let (_, quick) = plan(&Settings { decoder: DecoderChoice::Tiny, ..plain.clone() });
    assert_eq!((decision(&whole).choice.as_str(), decision(&quick).choice.as_str()), ("vae_decoder", "vae_decoder_tiny"));
    assert!(time(&quick) < time(&whole), "{} and {}", time(&quick), time(&whole));
    let budget = Budget { within_ms: Some((time(&quick) + time(&whole)) / 2.0), ..Budget::default() };
    let (resolved, within) = plan(&Settings { budget, ..plain.clone() });
    assert_eq!(decision(&within).choice, "vae_decoder_tiny");
    assert!(decision(&within).because.contains("instead of vae_decoder, to be done within"), "{}", decision(&within).because);
    assert_eq!(resolved.steps, asked.steps);
    let (_, full) = plan(&Settings { budget, decoder: DecoderChoice::Full, ..plain });
    assert_eq!(decision(&full).choice, "vae_decoder", "a decoder that was asked for does not give way");
}

#[test]
fn a_tiny_decoder_shows_the_picture_while_it_develops() {
    struct Looks(Vec<(u32, u32)>);
    impl kiln::Observer for Looks {
        fn wants_preview(&self) -> bool {
            true
        }
        fn preview(&mut self, _: usize, picture: &Picture) -> anyhow::Result<()> {
            self.0.push((picture.width, picture.height));
            Ok(())
        }
    }
    let (_keep, folder) = with_tiny("sd_turbo");
    let mut engine = Engine::open(&folder, &Settings::default(), None).unwrap();
    let mut looks = Looks(Vec::new());
    let asked = Request { seed: Some(1), steps: Some(2), ..Request::new("a smiling sun") };
    let made = engine.generate(&asked, &mut looks, &Cancel::new()).unwrap();
    assert_eq!(looks.0, [(64, 64), (64, 64)]);
    let calls =
        |role: &str| made[0].provenance.components.iter().find(|component| component.role == role).map(|found| found.calls);
    assert_eq!((calls("vae_decoder_tiny"), calls("vae_decoder")), (Some(2), Some(1)));
}

#[test]
fn decoders_that_do_not_fit_are_refused() {
    for (bundle, decoder, reason) in [
        ("sd", DecoderChoice::Folder("nowhere".into()), "decoder nowhere: there is no such folder"),
        ("sd", DecoderChoice::Folder(common::bundle("sd/unet")), "that Kiln does not know for a vae_decoder_tiny"),
        ("sd3", DecoderChoice::Folder(common::bundle("tiny_decoder")), "takes latents of 4 channels, and the denoiser's have 16"),
        ("vae", DecoderChoice::Folder(common::bundle("tiny_decoder")), "has no latents to decode"),
    ] {
        let settings = Settings { decoder, ..Settings::default() };
        let Err(error) = Engine::open(&common::bundle(bundle), &settings, None) else { panic!("{reason}") };
        assert!(format!("{error:#}").contains(reason), "{error:#}, expected {reason}");
    }
    let decoder = common::bundle("tiny_decoder").display().to_string();
    let model = common::bundle("sd").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let planned = common::kiln(folder.path(), &["plan", "a sun", "--model", &model, "--decoder", &decoder]).expect_code(0);
    assert!(planned.text().contains("vae_decoder_tiny"), "{}", planned.text());
    let settings = Settings { decoder: DecoderChoice::Tiny, ..Settings::default() };
    let mut engine = Engine::open(&common::bundle("sd"), &settings, None).unwrap();
    let error = engine.generate(&Request::new("a sun"), &mut (), &Cancel::new()).unwrap_err();
    assert!(kiln::error::is_refusal(&error) && error.to_string().contains("model sd has no vae_decoder_tiny"), "{error:#}");
}

fn upscaler(path: &Path) -> anyhow::Result<Upscaler> {
    let runtime = Runtime::open(None).unwrap();
    Upscaler::open(&runtime, path, &NetworkOptions::default(), &Cancel::new())
}

fn input(name: &str) -> Picture {
    Picture::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures").join(name)).unwrap()
}

/// The golden tensor `name`, [1, 3, H, W] in [0, 1], as a picture.
fn golden_picture(name: &str) -> Picture {
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    let values = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()) * 2.0 - 1.0).collect();
    let shape = (tensor.shape()[1], tensor.shape()[2], tensor.shape()[3]);
    Picture::from_tensor(ndarray::Array3::from_shape_vec(shape, values).unwrap().view()).unwrap()
}

#[test]
fn pictures_are_enlarged_as_torch_enlarges_them_whole_and_in_tiles() {
    let wide = input("input_wide.png");
    let expected = golden_picture("upscale");
    let mut upscaler = upscaler(&common::bundle("upscaler")).unwrap();
    assert_eq!((upscaler.factor(), upscaler.name()), (3, "upscaler"));
    let mut ran = 0;
    for (tile, tiles) in [(None, 1), (Some(64), 2), (Some(32), 8)] {
        let mut told = 0;
        let made = upscaler.enlarge(&wide, tile, &Cancel::new(), |_, all| told = all).unwrap();
        assert_eq!((made.width, made.height, told), (240, 144, tiles));
        // The network sees 4 pixels to each side, and of the 16 that tiles of 32 share as many are left out at each border.
        let apart = steps_apart(&made, &expected);
        assert!(apart <= 1, "{tile:?}: {apart}/255 apart");
        ran += 1;
    }
    assert_eq!(ran, 3);
}

#[test]
fn a_network_of_fixed_sides_enlarges_what_is_smaller_and_larger() {
    let mut upscaler = upscaler(&common::bundle("upscaler_fixed").join("model.onnx")).unwrap();
    let wide = input("input_wide.png");
    let cut = |width: u32, height: u32| {
        let rows = wide.pixels.chunks_exact(80 * 3).take(height as usize);
        Picture::new(width, height, 3, rows.flat_map(|row| row[..width as usize * 3].to_vec()).collect()).unwrap()
    };
    let mut of = |picture: &Picture| upscaler.enlarge(picture, None, &Cancel::new(), |_, _| {}).unwrap();
    assert!(steps_apart(&of(&cut(16, 16)), &golden_picture("upscale_fixed")) <= 1);
    for (width, height) in [(1, 1), (5, 16), (17, 40), (80, 48)] {
        let made = of(&cut(width, height));
        assert_eq!((made.width, made.height), (2 * width, 2 * height));
    }
    let error = upscaler.enlarge(&wide, Some(32), &Cancel::new(), |_, _| {}).unwrap_err();
    assert!(error.to_string().contains("takes 16x16 only"), "{error}");
}

#[test]
fn opacity_is_enlarged_with_lanczos_and_colours_by_the_network() {
    let wide = input("input_wide.png");
    let pixels = wide.pixels.chunks_exact(3).enumerate();
    let pixels = pixels.flat_map(|(at, pixel)| [pixel[0], pixel[1], pixel[2], if at % 80 < 40 { 255 } else { 0 }]).collect();
    let clear = Picture::new(80, 48, 4, pixels).unwrap();
    let made = upscaler(&common::bundle("upscaler")).unwrap().enlarge(&clear, None, &Cancel::new(), |_, _| {}).unwrap();
    let opacity = |picture: &Picture| picture.pixels.iter().skip(3).step_by(4).copied().collect::<Vec<u8>>();
    assert_eq!(opacity(&made), opacity(&clear.resize(240, 144).unwrap()));
    let colours: Vec<u8> = made.pixels.chunks_exact(4).flat_map(|pixel| pixel[..3].to_vec()).collect();
    assert!(steps_apart(&Picture::new(240, 144, 3, colours).unwrap(), &golden_picture("upscale")) <= 1);
}

#[test]
fn what_is_no_upscaler_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let good = fs::read(common::bundle("upscaler").join("model.onnx")).unwrap();
    fs::write(folder.path().join("model.onnx"), &good).unwrap();
    let with_card = |card: &str| {
        fs::write(folder.path().join("kiln.toml"), card).unwrap();
        upscaler(folder.path())
    };
    let mut cases = 0;
    for (outcome, reason) in [
        (upscaler(Path::new("nowhere.onnx")), "there is no such file"),
        (upscaler(&common::bundle("sd/unet")), "takes 3 inputs, expected one, the picture"),
        (upscaler(&common::bundle("sd/text_encoder")), "expected a picture [B, 3, H, W]"),
        (upscaler(&common::bundle("tiny_decoder")), "expected a picture [B, 3, H, W]"),
        (with_card("name = \"a\"\n[upscale]\nfactor = 4"), "enlarges 3 times, and its card says `upscale.factor` 4"),
        (with_card("name = \"a\"\n[upscale]\ntile = 8"), "`upscale.tile` is 8, expected 16 to 4096"),
        (with_card("name = 7"), "invalid type"),
    ] {
        let Err(error) = outcome else { panic!("{reason}") };
        assert!(format!("{error:#}").contains(reason), "{error:#}, expected {reason}");
        cases += 1;
    }
    assert_eq!(cases, 7);
    for length in (0..good.len()).step_by(1009) {
        fs::write(folder.path().join("model.onnx"), &good[..length]).unwrap();
        assert!(upscaler(&folder.path().join("model.onnx")).is_err(), "{length} bytes");
    }
    let mut upscaler = upscaler(&common::bundle("upscaler")).unwrap();
    let large = Picture::new(4096, 1, 3, vec![0; 4096 * 3]).unwrap();
    for (picture, tile, reason) in
        [(&large, None, "becomes 3 times as large"), (&input("input.png"), Some(8), "expected a side of 16 to 4096")]
    {
        let error = upscaler.enlarge(picture, tile, &Cancel::new(), |_, _| {}).unwrap_err();
        assert!(kiln::error::is_refusal(&error) && error.to_string().contains(reason), "{error:#}");
    }
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(kiln::error::is_cancelled(&upscaler.enlarge(&input("input.png"), None, &cancel, |_, _| {}).unwrap_err()));
}

#[test]
fn a_picture_steers_as_in_diffusers_control_net_pipeline() {
    let mut engines: BTreeMap<String, Engine> = BTreeMap::new();
    let cases = cases("control");
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    for case in &cases {
        let engine = engines.entry(case.bundle.clone()).or_insert_with(|| open(&case.bundle));
        let made = engine.generate(&request(case), &mut (), &Cancel::new()).unwrap().remove(0);
        let tensor = tensors.tensor(&case.name).unwrap();
        let expected: Vec<f32> =
            tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        let found: Vec<f32> = made.latents.iter().copied().collect();
        let (latents, steps) = (
            apart(&found, &expected),
            steps_apart(&made.picture, &Picture::open(&golden(&format!("{}.png", case.name))).unwrap()),
        );
        assert!(latents <= TOLERANCE && steps <= 1, "{}: latents {latents:e}, {steps}/255 apart", case.name);
        assert_eq!(made.provenance.control_scale, case.control_scale);
    }
    assert_eq!(cases.len(), 12, "cases of control in cases.json");
    assert_eq!(engines.keys().collect::<Vec<_>>(), ["sd_control", "sdxl_control"]);
    // At a scale of 0 it is the plain model's picture.
    let mut engine = open("sd_control");
    let plain = latents(&mut open("sd"), &Request { control: None, control_scale: None, ..request(&cases[2]) });
    assert!(apart(&latents(&mut engine, &request(&cases[2])), &plain) <= TOLERANCE);
}

#[test]
fn what_cannot_be_steered_or_is_not_is_refused() {
    let picture = || Some(input("input.png"));
    let asked = Request { seed: Some(1), steps: Some(2), ..Request::new("a sun") };
    for (bundle, request, reason) in [
        (
            "sd",
            Request { control: picture(), ..asked.clone() },
            "model sd has no ControlNet; models/recipes/export/control_net.py",
        ),
        ("sd3", Request { control: picture(), ..asked.clone() }, "has no ControlNet"),
        ("sd_control", asked.clone(), "needs --control"),
        ("sd", Request { control_scale: Some(1.0), ..asked.clone() }, "name one with --control"),
        ("sd_control", Request { control: picture(), control_scale: Some(f32::NAN), ..asked.clone() }, "control scale: is NaN"),
        (
            "sd_control",
            Request { control: picture(), control_scale: Some(-1.0), ..asked.clone() },
            "expected 0 (not at all) to 10",
        ),
        ("sd_control", Request { control: picture(), control_scale: Some(1e9), ..asked }, "expected 0 (not at all) to 10"),
    ] {
        let error = open(bundle).generate(&request, &mut (), &Cancel::new()).unwrap_err();
        assert!(kiln::error::is_refusal(&error) && error.to_string().contains(reason), "{error:#}, expected {reason}");
    }
}
