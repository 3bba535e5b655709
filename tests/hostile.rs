//! Everything in a bundle's folder is hostile until it was checked: each spoilt copy of a bundle is one clear error that names the
//! file, before anything is written, and never a panic.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed helper is a failed test, and says how many it ran"
)]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::Result;
use common::spoil::{self, Case};
use common::{Dice, bundle, copy_of, copy_tree, listing, mutate};
use kiln::bundle::{Bundle, Card, Family, FileState, read_header, sha256_of_file, verify};
use kiln::{Cancel, Engine, Generated, Picture, Request, Settings};

/// Runs `attempt` on the spoilt bundle; returns what is wrong with the outcome.
fn run_case<T>(case: &Case, attempt: impl Fn(&Path) -> Result<T>) -> Result<String, String> {
    let (_temporary, folder) = copy_of(case.bundle);
    (case.spoil)(&folder);
    let before = listing(&folder);
    let outcome = catch_unwind(AssertUnwindSafe(|| attempt(&folder).map(drop)));
    let wrong = |what: &str| Err(format!("{} ({}): {what}", case.name, case.bundle));
    if listing(&folder) != before {
        return wrong("something was written");
    }
    let message = match outcome {
        Err(_) => return wrong("panicked"),
        Ok(Ok(())) => return wrong("was taken"),
        Ok(Err(error)) => format!("{error:#}").replace(&folder.display().to_string(), "DIR"),
    };
    if message.contains(char::is_control) || message.len() > 600 {
        return wrong(&format!("the message is no line: {message}"));
    }
    match case.expected.iter().find(|part| !message.contains(**part)) {
        Some(part) => wrong(&format!("the message lacks {part:?}: {message}")),
        None => Ok(message),
    }
}

fn run_cases<T>(cases: &[Case], attempt: impl Fn(&Path) -> Result<T>) {
    let outcomes: Vec<_> = cases.iter().map(|case| run_case(case, &attempt)).collect();
    for (case, message) in cases.iter().zip(&outcomes) {
        println!("{:<36} {}", case.name, message.as_deref().unwrap_or("WRONG"));
    }
    let wrong: Vec<String> = outcomes.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn paint(engine: &mut Engine) -> Result<Generated> {
    let request = Request { seed: Some(3), steps: Some(1), force: true, ..Request::new("a red apple") };
    Ok(engine.generate(&request, &mut (), &Cancel::new())?.remove(0))
}

fn open_and_paint(folder: &Path) -> Result<Generated> {
    paint(&mut Engine::open(folder, &Settings::default(), None)?)
}

#[test]
fn every_spoilt_folder_is_refused_with_one_clear_error() {
    let cases = spoil::folders();
    run_cases(&cases, Bundle::open);
    assert_eq!(cases.len(), 198, "the number of cases in the table");
}

#[test]
fn what_only_a_run_can_know_is_refused_with_one_clear_error() {
    let cases = spoil::runs();
    run_cases(&cases, open_and_paint);
    assert_eq!(cases.len(), 24, "the number of cases in the table");
}

#[test]
fn every_spoilt_folder_of_a_transformer_is_refused_with_one_clear_error() {
    let cases = spoil::transformer_folders();
    run_cases(&cases, Bundle::open);
    assert_eq!(cases.len(), 104, "the number of cases in the table");
}

#[test]
fn what_only_a_run_of_a_transformer_can_know_is_refused_with_one_clear_error() {
    let cases = spoil::transformer_runs();
    run_cases(&cases, open_and_paint);
    assert_eq!(cases.len(), 6, "the number of cases in the table");
}

#[test]
fn every_spoilt_folder_of_a_masked_transformer_is_refused_with_one_clear_error() {
    let cases = spoil::masked_folders();
    run_cases(&cases, Bundle::open);
    assert_eq!(cases.len(), 81, "the number of cases in the table");
}

#[test]
fn what_only_a_run_of_a_masked_transformer_can_know_is_refused_with_one_clear_error() {
    let cases = spoil::masked_runs();
    run_cases(&cases, open_and_paint);
    assert_eq!(cases.len(), 8, "the number of cases in the table");
}

/// Makes a clip of as few frames as the model takes.
fn open_and_film(folder: &Path) -> Result<()> {
    let mut engine = Engine::open(folder, &Settings::default(), None)?;
    let shape = engine.bundle().clip.clone().unwrap();
    let least = shape.fixed.unwrap_or(1 + shape.frames_per_latent);
    let begun = shape.first_frame.map(|_| Picture::new(8, 8, 3, (0..192).collect()).unwrap());
    let request = Request {
        input: begun,
        seed: Some(3),
        steps: Some(2),
        size: Some((32, 32)),
        frames: Some(least),
        force: true,
        ..Request::new("a ball")
    };
    engine.generate_clip(&request, |_| Ok(()), &mut (), &Cancel::new()).map(drop)
}

#[test]
fn every_spoilt_folder_of_clips_is_refused_with_one_clear_error() {
    let cases = spoil::clip_folders();
    run_cases(&cases, Bundle::open);
    assert_eq!(cases.len(), 185, "the number of cases in the table");
}

#[test]
fn what_only_a_run_of_a_clip_can_know_is_refused_with_one_clear_error() {
    let cases = spoil::clip_runs();
    run_cases(&cases, open_and_film);
    assert_eq!(cases.len(), 13, "the number of cases in the table");
}

/// Makes a picture, and goes back from one where the family can.
fn open_and_use_family(folder: &Path) -> Result<()> {
    let mut engine = Engine::open(folder, &Settings::default(), None)?;
    let (request, cancel) = (Request { seed: Some(50), ..Request::default() }, Cancel::new());
    engine.generate(&request, &mut (), &cancel)?;
    if matches!(engine.bundle().family, Family::Vae { .. } | Family::Flow { .. }) {
        let picture = Picture::open(&bundle("../golden/families/disc_8.png"))?;
        engine.invert(&request, &picture, &mut (), &cancel)?;
        engine.likelihood(&request, &picture, &mut (), &cancel)?;
    }
    Ok(())
}

#[test]
fn every_spoilt_folder_of_a_small_family_is_refused_with_one_clear_error() {
    let cases = spoil::family_folders();
    run_cases(&cases, Bundle::open);
    assert_eq!(cases.len(), 290, "the number of cases in the table");
}

#[test]
fn what_only_a_run_of_a_small_family_can_know_is_refused_with_one_clear_error() {
    let cases = spoil::family_runs();
    run_cases(&cases, open_and_use_family);
    assert_eq!(cases.len(), 21, "the number of cases in the table");
}

#[test]
fn changed_files_of_the_small_families_never_panic() {
    let mut dice = Dice(4);
    let (mut refused, mut ran) = (0, 0);
    for name in ["vae", "gan", "flow", "cnf", "score", "ddpm", "progressive", "consistency", "consistency_cm"] {
        let (_temporary, folder) = copy_of(name);
        let files: Vec<PathBuf> = listing(&folder).into_keys().filter(|path| path.is_file()).collect();
        for path in files {
            let whole = fs::read(&path).unwrap();
            for _ in 0..30 {
                fs::write(&path, mutate(&whole, &mut dice)).unwrap();
                refused += usize::from(Bundle::open(&folder).is_err());
                ran += 1;
            }
            fs::write(&path, whole).unwrap();
        }
        Bundle::open(&folder).unwrap();
    }
    println!("{refused} of {ran} were refused");
    assert_eq!(ran, 1380);
    assert!(refused > 600);
}

#[test]
fn a_folder_that_is_none_is_refused() {
    let temporary = tempfile::tempdir().unwrap();
    for (path, expected) in [("nothing", "there is no such folder"), ("", "there is no model_index.json")] {
        let error = Bundle::open(&temporary.path().join(path)).unwrap_err();
        assert!(format!("{error:#}").contains(expected), "{error:#}");
        assert!(kiln::error::is_refusal(&error));
    }
}

#[test]
fn a_network_that_was_cut_off_anywhere_is_refused() {
    let whole = fs::read(bundle("sd").join("unet/model.onnx")).unwrap();
    let (_temporary, folder) = copy_of("sd");
    let path = folder.join("unet/model.onnx");
    let ends = (0..64).chain((64..whole.len()).step_by(whole.len() / 200)).chain(whole.len() - 64..whole.len());
    let mut ran = 0;
    for end in ends {
        fs::write(&path, &whole[..end]).unwrap();
        let error = format!("{:#}", Bundle::open(&folder).expect_err(&format!("cut at {end} of {}", whole.len())));
        assert!(error.contains("unet/model.onnx: is "), "cut at {end}: {error}");
        ran += 1;
    }
    println!("cut at {ran} places");
    assert!(ran > 300);
    fs::write(&path, &whole).unwrap();
    Bundle::open(&folder).unwrap();
}

#[test]
fn flipped_bytes_of_a_network_never_panic() {
    let whole = fs::read(bundle("sd").join("unet/model.onnx")).unwrap();
    let (_temporary, folder) = copy_of("sd");
    let path = folder.join("unet/model.onnx");
    let mut dice = Dice(1);
    let (mut refused, mut ran) = (0, 0);
    for round in 0..600 {
        let mut bytes = whole.clone();
        // Ports stand at the graph's end, operators before them.
        let (from, to) = match round % 3 {
            0 => (0, 4096),
            1 => (whole.len() - 2048, whole.len()),
            _ => (0, whole.len()),
        };
        for _ in 0..=dice.below(3) {
            let at = from + dice.below(to - from);
            bytes[at] ^= 1 << dice.below(8);
        }
        fs::write(&path, &bytes).unwrap();
        refused += usize::from(Bundle::open(&folder).is_err());
        ran += 1;
    }
    println!("{refused} of {ran} were refused");
    assert_eq!(ran, 600);
    assert!(refused > 100, "flips in the file's frame are noticed");
}

#[test]
fn changed_files_of_every_kind_never_panic() {
    let files =
        ["model_index.json", "unet/config.json", "vae_decoder/config.json", "scheduler/scheduler_config.json", "kiln.toml"];
    let (_temporary, folder) = copy_of("sd_external");
    let hash = "0".repeat(64);
    let card = format!(
        "name = \"a\"\nversion = \"1\"\n[steps]\ntrained = [1, 4]\nlargest = 8\n[guidance]\ndefault = 1.0\n[size]\ndefault = [64, 64]\n\
         [preview]\nlatent_to_rgb = [[0.1, 0.2, 0.3]]\n[sha256]\n\"unet/model.onnx\" = \"{hash}\"\n"
    );
    fs::write(folder.join("kiln.toml"), card).unwrap();
    let mut dice = Dice(2);
    let (mut refused, mut ran) = (0, 0);
    for file in files {
        let path = folder.join(file);
        let whole = fs::read(&path).unwrap();
        for _ in 0..200 {
            fs::write(&path, mutate(&whole, &mut dice)).unwrap();
            refused += usize::from(Bundle::open(&folder).is_err());
            ran += 1;
        }
        fs::write(&path, whole).unwrap();
    }
    for component in ["text_encoder", "unet", "vae_encoder", "vae_decoder"] {
        let path = folder.join(component).join("model.onnx");
        let whole = fs::read(&path).unwrap();
        for _ in 0..100 {
            fs::write(&path, mutate(&whole, &mut dice)).unwrap();
            refused += usize::from(read_header(&path).is_err());
            ran += 1;
        }
        fs::write(&path, whole).unwrap();
    }
    println!("{refused} of {ran} were refused");
    assert_eq!(ran, 1400);
    assert!(refused > 400);
    Bundle::open(&folder).unwrap();
}

#[test]
fn changed_cards_and_schedulers_never_panic() {
    let card = "name = \"a\"\n[steps]\ntrained = [1, 4]\n[guidance]\ndefault = 1.5\n[lineage]\nparents = [\"sd\"]\n";
    let mut dice = Dice(3);
    let mut ran = 0;
    for _ in 0..2000 {
        let bytes = mutate(card.as_bytes(), &mut dice);
        let _ = Card::parse(&String::from_utf8_lossy(&bytes));
        ran += 1;
    }
    for name in ["sd", "sd_v", "sd_turbo", "lcm", "sdxl", "sdxl_turbo"] {
        let text = fs::read(bundle(name).join("scheduler/scheduler_config.json")).unwrap();
        for _ in 0..300 {
            let text = String::from_utf8_lossy(&mutate(&text, &mut dice)).into_owned();
            if let Ok(config) = kiln::sampler::Config::from_text(&text) {
                // What is read must also build or refuse.
                let _ = config.build(&kiln::sampler::Run { steps: 3, ..kiln::sampler::Run::default() });
            }
            ran += 1;
        }
    }
    assert_eq!(ran, 3800);
}

#[test]
fn verify_names_each_file_that_is_not_the_cards() {
    let (_temporary, folder) = copy_of("sd");
    let sum = |file: &str| sha256_of_file(&folder.join(file)).unwrap();
    let card = format!(
        "name = \"a\"\n[sha256]\n\"unet/model.onnx\" = \"{}\"\n\"model_index.json\" = \"{}\"\n\"gone.onnx\" = \"{}\"\n\"unet\" = \"{}\"\n",
        sum("unet/model.onnx").to_uppercase(),
        sum("unet/model.onnx"),
        "0".repeat(64),
        "0".repeat(64),
    );
    fs::write(folder.join("kiln.toml"), card).unwrap();
    let states = verify(&folder, &Card::open(&folder).unwrap().unwrap()).unwrap();
    let state = |wanted: &str| states.iter().find(|(file, _)| file == wanted).unwrap().1.clone();
    assert_eq!(state("unet/model.onnx"), FileState::Matches);
    assert_eq!(state("model_index.json"), FileState::Differs { found: sum("model_index.json") });
    assert_eq!((state("gone.onnx"), state("unet")), (FileState::Missing, FileState::Missing));
    assert_eq!(state("vae_decoder/model.onnx"), FileState::Unlisted);
}

/// Lays `from` out as the Hugging Face cache does: each file a link to a blob that is named by its hash.
fn as_in_the_cache(from: &Path, cache: &Path) -> PathBuf {
    let snapshot = cache.join("snapshots/0123abcd");
    fs::create_dir_all(cache.join("blobs")).unwrap();
    copy_tree(from, &snapshot);
    for (file, (_, _)) in listing(&snapshot) {
        if file.is_file() {
            let blob = cache.join("blobs").join(sha256_of_file(&file).unwrap());
            fs::rename(&file, &blob).unwrap();
            let depth = file.strip_prefix(&snapshot).unwrap().components().count() + 1;
            symlink(Path::new(&"../".repeat(depth)).join("blobs").join(blob.file_name().unwrap()), &file).unwrap();
        }
    }
    snapshot
}

#[test]
fn links_as_the_hugging_face_cache_lays_them_give_the_same_picture() {
    for name in ["sd", "sd_external", "sdxl"] {
        let temporary = tempfile::tempdir().unwrap();
        let linked = as_in_the_cache(&bundle(name), &temporary.path().join("models--a--b"));
        assert!(linked.join("unet/model.onnx").is_symlink());
        let plain = open_and_paint(&bundle(name)).unwrap();
        let made = open_and_paint(&linked).unwrap();
        assert_eq!(made.picture.pixels, plain.picture.pixels, "{name}");
        assert_eq!(made.provenance.bundle.sha256, plain.provenance.bundle.sha256, "{name}: links change what a bundle is");
    }
}

#[test]
fn a_model_in_the_cache_is_known_by_its_name_and_not_by_its_commit() {
    let temporary = tempfile::tempdir().unwrap();
    let linked = as_in_the_cache(&bundle("sd_turbo"), &temporary.path().join("models--stabilityai--sd-turbo"));
    let opened = Bundle::open(&linked).unwrap();
    assert_eq!((opened.name().as_str(), opened.habits.default_steps), ("sd-turbo", 1));
    let (_temporary, folder) = copy_of("sd_turbo");
    let opened = Bundle::open(&folder.join("../bundle/.")).unwrap();
    assert_eq!((opened.name().as_str(), opened.habits.default_steps), ("bundle", 50));
}

#[test]
fn a_bundle_that_cannot_be_written_to_works() {
    let (_temporary, folder) = copy_of("sd_external");
    let set = |mode: u32| {
        for path in listing(&folder).into_keys().chain([folder.clone()]) {
            let mode = if path.is_dir() { mode | 0o111 } else { mode };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o444);
    let before = listing(&folder);
    let outcome = open_and_paint(&folder);
    let after = listing(&folder);
    set(0o644);
    outcome.unwrap();
    assert_eq!(before, after);
}

#[test]
fn an_open_dimension_may_be_written_as_minus_one() {
    let (_temporary, folder) = copy_of("sd");
    common::onnx::set_dimension(&folder.join("unet/model.onnx"), common::onnx::INPUT, "sample", 2, u64::MAX);
    assert_eq!(Bundle::open(&folder).unwrap().geometry.fixed_size, None);
}

#[test]
fn a_scheduler_that_kiln_has_not_serves_another_sampler() {
    let (_temporary, folder) = copy_of("sd");
    let path = folder.join("scheduler/scheduler_config.json");
    let text = fs::read_to_string(&path).unwrap().replace("PNDMScheduler", "KDPM2DiscreteScheduler");
    fs::write(&path, text).unwrap();
    let mut engine = Engine::open(&folder, &Settings::default(), None).unwrap();
    let choice = Some("dpm++-karras".parse().unwrap());
    let sampler = kiln::request::SamplerChoice { choice, ..Default::default() };
    let request = Request { seed: Some(3), steps: Some(2), sampler, ..Request::new("a red apple") };
    let of_unknown = engine.generate(&request, &mut (), &Cancel::new()).unwrap().remove(0);
    let of_known = Engine::open(&bundle("sd"), &Settings::default(), None)
        .unwrap()
        .generate(&request, &mut (), &Cancel::new())
        .unwrap()
        .remove(0);
    assert_eq!(of_unknown.picture.pixels, of_known.picture.pixels);
}

#[test]
fn an_export_with_a_fixed_batch_makes_the_same_picture() {
    let request = Request { seed: Some(3), steps: Some(2), count: 3, ..Request::new("a red apple") };
    let make = |folder: &Path| {
        let mut engine = Engine::open(folder, &Settings::default(), None).unwrap();
        let made = engine.generate(&request, &mut (), &Cancel::new()).unwrap();
        made.into_iter().map(|made| made.picture.pixels).collect::<Vec<_>>()
    };
    let plain = make(&bundle("sd"));
    let (_temporary, folder) = copy_of("sd");
    for (component, kind, port) in [
        ("text_encoder", common::onnx::INPUT, "input_ids"),
        ("unet", common::onnx::INPUT, "sample"),
        ("vae_decoder", common::onnx::INPUT, "latent_sample"),
    ] {
        common::onnx::set_dimension(&folder.join(component).join("model.onnx"), kind, port, 0, 4);
    }
    let fixed = make(&folder);
    assert_eq!(fixed.len(), plain.len());
    for (fixed, plain) in fixed.iter().zip(&plain) {
        let apart = fixed.iter().zip(plain).map(|(left, right)| left.abs_diff(*right)).max();
        assert!(apart <= Some(1), "{apart:?}");
    }
}
