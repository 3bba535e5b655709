//! What a picture says of itself, and the same picture made again from it.

use std::fs;
use std::path::Path;

use kiln::Picture;
use serde_json::Value;

use super::common::{bundle, copy_of, kiln, names};
use super::{generate, model};

fn open(folder: &Path, name: &str) -> Picture {
    Picture::open(&folder.join(name)).unwrap()
}

/// A picture of four colours and a mask of one half, as files.
fn input_and_mask(folder: &Path) {
    let pixel = |at: usize| [(at % 64 * 4) as u8, (at / 64 * 4) as u8, 90];
    let write = |name: &str, pixels: Vec<u8>| {
        let picture = Picture::new(64, 64, 3, pixels).unwrap();
        fs::write(folder.join(name), kiln::output::encode(&picture, None, kiln::output::Format::Png).unwrap()).unwrap();
    };
    write("input.png", (0..64 * 64).flat_map(pixel).collect());
    write("mask.png", (0..64 * 64).flat_map(|at| [if at % 64 < 32 { 255 } else { 0 }; 3]).collect());
}

#[test]
fn show_prints_what_made_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "sd_turbo", &["--output", "a.png"]).expect_code(0);
    let shown = kiln(folder.path(), &["show", "a.png"]).expect_code(0);
    for part in ["a red apple", "Seed: 7", "Sampler: euler", "sd_turbo", "ONNX Runtime", "kiln generate --from a.png"] {
        assert!(shown.text().contains(part), "{part} in {}", shown.text());
    }
    let shown = kiln(folder.path(), &["show", "a.png", "--json"]).expect_code(0);
    let record: Value = serde_json::from_str(shown.text()).unwrap();
    assert_eq!((&record["seed"], &record["prompt"]), (&7.into(), &"a red apple".into()));
}

#[test]
fn show_refuses_what_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "sd_turbo", &["--output", "a.jpg"]).expect_code(0);
    input_and_mask(folder.path());
    kiln(folder.path(), &["show", "a.jpg"]).refused(2, &["a.jpg", "is no PNG, GIF, WebP, MP4 or WebM"]);
    kiln(folder.path(), &["show", "input.png"]).refused(2, &["input.png", "does not say what made it"]);
    kiln(folder.path(), &["show", "input.png", "--json"]).refused(2, &["input.png", "no record"]);
    kiln(folder.path(), &["show", "nothing.png"]).refused(2, &["nothing.png"]);
    kiln(folder.path(), &["show", "."]).refused(2, &["is a folder"]);
    kiln(folder.path(), &["generate", "--from", "input.png"]).refused(2, &["--from input.png", "does not say what made it"]);
}

#[test]
fn a_record_cannot_paint_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    kiln(folder.path(), &["generate", "a \u{1b}[2J cat", "-m", &model, "-o", "a.png"]).expect_code(0);
    let shown = kiln(folder.path(), &["show", "a.png"]).expect_code(0);
    assert!(!shown.text().contains('\u{1b}') && shown.text().contains("\\u{1b}[2J"), "{:?}", shown.text());
}

#[test]
fn from_makes_the_very_same_picture_again() {
    let folder = tempfile::tempdir().unwrap();
    input_and_mask(folder.path());
    let runs: [(&str, &str, &[&str]); 9] = [
        ("turbo", "sd_turbo", &[]),
        ("steps", "sd_turbo", &["--steps", "3", "--eta", "0.5", "--sampler", "ddim", "--force"]),
        ("guided", "sd", &["--steps", "3", "--guidance", "3.5", "--negative", "blue", "--size", "72x64"]),
        ("sampler", "sd", &["--steps", "4", "--sampler", "dpm++-karras"]),
        ("spacing", "sd", &["--steps", "4", "--sampler", "euler", "--spacing", "trailing"]),
        ("timesteps", "sd", &["--sampler", "ddpm", "--timesteps", "900,500,100"]),
        ("cuda", "lcm", &["--steps", "2", "--rng", "cuda"]),
        ("repainted", "sd", &["--steps", "4", "--input", "input.png", "--strength", "0.6", "--sampler", "euler-a"]),
        ("inpainted", "sd", &["--steps", "3", "--input", "input.png", "--mask", "mask.png"]),
    ];
    for (name, bundle, more) in runs {
        let (first, again) = (format!("{name}.png"), format!("{name}-again.png"));
        let mut arguments = more.to_vec();
        arguments.extend(["--output", &first]);
        generate(folder.path(), bundle, &arguments).expect_code(0);
        let ran = kiln(folder.path(), &["generate", "--from", &first, "--output", &again]).expect_code(0);
        assert_eq!(ran.stderr, "", "{name}");
        assert_eq!(open(folder.path(), &first), open(folder.path(), &again), "{name}");
        let record = |name: &str| {
            let mut record = kiln::output::read(&folder.path().join(name)).unwrap().1.unwrap();
            (record.total_ms, record.components) = (0.0, Vec::new());
            record
        };
        assert_eq!(record(&first), record(&again), "{name}: the second record is as good as the first");
    }
}

#[test]
fn from_takes_changes() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "sd_turbo", &["--output", "a.png"]).expect_code(0);
    kiln(folder.path(), &["generate", "--from", "a.png", "--seed", "8", "--output", "b.png"]).expect_code(0);
    kiln(folder.path(), &["generate", "a blue cat", "--from", "a.png", "--output", "c.png"]).expect_code(0);
    let record = |name: &str| kiln::output::read(&folder.path().join(name)).unwrap().1.unwrap();
    assert_eq!((record("b.png").seed, record("b.png").prompt), (8, record("a.png").prompt));
    assert_eq!((record("c.png").seed, record("c.png").prompt.as_deref()), (7, Some("a blue cat")));
    assert_ne!(open(folder.path(), "a.png"), open(folder.path(), "b.png"));
    assert_ne!(open(folder.path(), "a.png"), open(folder.path(), "c.png"));
}

#[test]
fn from_refuses_an_input_that_changed_or_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    input_and_mask(folder.path());
    generate(folder.path(), "sd", &["--steps", "2", "--input", "input.png", "--mask", "mask.png", "--output", "a.png"])
        .expect_code(0);
    let again = |more: &[&str]| kiln(folder.path(), &[&["generate", "--from", "a.png", "--output", "b.png"], more].concat());
    again(&[]).expect_code(0);
    fs::rename(folder.path().join("mask.png"), folder.path().join("kept.png")).unwrap();
    again(&[]).refused(2, &["mask.png", "is not there", "--mask"]);
    again(&["--mask", "kept.png"]).expect_code(0);
    assert_eq!(open(folder.path(), "a.png"), open(folder.path(), "b.png"));
    fs::copy(folder.path().join("input.png"), folder.path().join("mask.png")).unwrap();
    again(&[]).refused(2, &["mask.png has changed since"]);
    fs::rename(folder.path().join("kept.png"), folder.path().join("mask.png")).unwrap();
    fs::write(folder.path().join("input.png"), fs::read(folder.path().join("a.png")).unwrap()).unwrap();
    again(&[]).refused(2, &["input.png has changed since", "--input"]);
}

#[test]
fn from_refuses_another_model_and_takes_it_with_force() {
    let (temporary, folder) = copy_of("sd_turbo");
    let model = folder.display().to_string();
    kiln(temporary.path(), &["generate", "a", "--seed", "1", "--model", &model, "--output", "a.png"]).expect_code(0);
    let other = bundle("sd_v").display().to_string();
    kiln(temporary.path(), &["generate", "--from", "a.png", "--model", &other, "--output", "b.png"])
        .refused(2, &["is not that", "--force"]);
    let scheduler = folder.join("scheduler/scheduler_config.json");
    let text = fs::read_to_string(&scheduler).unwrap().replace("trailing", "leading");
    fs::write(scheduler, text).unwrap();
    kiln(temporary.path(), &["generate", "--from", "a.png", "--output", "b.png"]).refused(2, &["is not that", "--force"]);
    assert!(!names(temporary.path()).contains(&"b.png".to_owned()));
    kiln(temporary.path(), &["generate", "--from", "a.png", "--output", "b.png", "--force"]).expect_code(0);
    fs::remove_dir_all(&folder).unwrap();
    kiln(temporary.path(), &["generate", "--from", "a.png", "--output", "b.png"])
        .refused(2, &["model bundle", "neither such a folder"]);
}

#[test]
fn what_a_stranger_wrote_into_a_record_stays_one_word_of_the_shell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let given = Picture::new(8, 8, 3, (64..=255).collect()).unwrap();
    fs::write(path.join("a b.png"), kiln::output::encode(&given, None, kiln::output::Format::Png).unwrap()).unwrap();
    let model = model("cnf");
    let more = [
        "invert",
        "a b.png",
        "--model",
        &model,
        "--sampler",
        "dopri5",
        "--tolerance",
        "1e-3",
        "--class",
        "red",
        "--seed",
        "3",
        "--memory",
        "low",
    ];
    kiln(path, &[&more[..], &["-o", "b.png"]].concat()).expect_code(0);
    let shown = |name: &str| {
        let ran = kiln(path, &["show", name]).expect_code(0);
        ran.text().lines().find_map(|line| line.strip_prefix("again     kiln invert ")).unwrap().to_owned()
    };
    let again = shown("b.png");
    assert!(again.starts_with("'a b.png' --model "), "{again}");
    let expected = " --seed 3 --memory low --class red --sampler=dopri5 --tolerance 0.001";
    assert!(again.ends_with(expected), "{again}");

    let mut record = kiln::output::read(&path.join("b.png")).unwrap().1.unwrap();
    let evil = [("x; touch no|sh", "'x; touch no|sh'"), ("it's", "'it'\\''s'"), ("--output=no", "./--output=no")];
    for (input, word) in evil {
        record.input = Some(input.to_owned());
        record.bundle.path = Some("$(touch no)".to_owned());
        record.prompt = Some("-o`touch no`".to_owned());
        record.sampler_overrides.insert("solver".to_owned(), "heun; touch no".into());
        fs::write(path.join("c.png"), kiln::output::encode(&given, Some(&record), kiln::output::Format::Png).unwrap()).unwrap();
        let again = shown("c.png");
        let rest = "--model '$(touch no)' --seed 3 --memory low --class='-o`touch no`' --sampler='heun; touch no'";
        assert!(again.starts_with(&format!("{word} {rest} ")), "{again}");
    }
    assert_eq!(evil.len(), 3);
}
