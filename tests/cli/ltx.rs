//! LTX-Video as a person uses it: made out of a text and out of a picture, planned, measured, prepared.

use std::fs;
use std::path::Path;

use kiln::Picture;
use kiln::output::ClipReader;
use serde_json::Value;

use super::common::{Ran, command, kiln, names, run};
use super::model;

const SHORT: [&str; 5] = ["a smiling sun", "--size", "32x32", "--frames", "9"];

/// `kiln generate` with the tiny model `name` and more arguments.
fn film(folder: &Path, name: &str, more: &[&str]) -> Ran {
    let model = model(name);
    kiln(folder, &[&["generate", "--model", &model], &SHORT[..], more].concat())
}

fn frames(path: &Path) -> Vec<Picture> {
    ClipReader::open(path).unwrap().unwrap().collect::<anyhow::Result<_>>().unwrap()
}

fn apart(left: &Picture, right: &Picture) -> u8 {
    left.pixels.iter().zip(&right.pixels).map(|(left, right)| left.abs_diff(*right)).max().unwrap()
}

#[test]
fn a_text_becomes_a_clip_that_is_repeated_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    film(path, "ltx_distilled", &["--seed", "7", "--output", "sun.png"]).expect_code(0);
    let made = frames(&path.join("sun.png"));
    assert_eq!((made.len(), made[0].width, made[0].height), (9, 32, 32));
    assert!(made.windows(2).all(|pair| apart(&pair[0], &pair[1]) > 0), "it moves");
    let shown = kiln(path, &["show", "sun.png"]).expect_code(0);
    assert!(shown.text().contains("clip      9 frames, 25 a second\n"), "{}", shown.text());
    kiln(path, &["generate", "--from", "sun.png", "--output", "again.png"]).expect_code(0);
    assert_eq!(frames(&path.join("again.png")), made);

    // The model is told how fast the frames follow each other, so that the same seed moves otherwise.
    film(path, "ltx_distilled", &["--seed", "7", "--fps", "12", "--output", "slow.png"]).expect_code(0);
    assert_ne!(frames(&path.join("slow.png")), made);
    film(path, "ltx", &["--seed", "7", "--steps", "3", "--guidance", "3", "--output", "sun.gif"]).expect_code(0);
    assert_eq!(frames(&path.join("sun.gif")).len(), 9);
}

#[test]
fn a_picture_begins_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clips/input.png");
    fs::copy(input, path.join("in.png")).unwrap();
    film(path, "ltx_distilled", &["--input", "in.png", "--seed", "7", "--output", "on.png"]).expect_code(0);
    film(path, "ltx_distilled", &["--seed", "7", "--output", "without.png"]).expect_code(0);
    let (with, without) = (frames(&path.join("on.png")), frames(&path.join("without.png")));
    assert_eq!((with.len(), with[0].width, with[0].height), (9, 32, 32));
    assert!(apart(&with[0], &without[0]) > 8, "it is seen");
    kiln(path, &["generate", "--from", "on.png", "--output", "again.png"]).expect_code(0);
    assert_eq!(frames(&path.join("again.png")), with);
    let inspected = kiln(path, &["inspect", &model("ltx_distilled")]).expect_code(0);
    assert!(inspected.text().contains("text to clip, picture to clip\n"), "{}", inspected.text());

    let before = names(path);
    for (more, expected) in [
        (&["--input", "in.png", "--strength", "0.5"][..], "goes on from the picture"),
        (&["--input", "on.png"], "begin with a picture at most"),
        (&["--input", "in.png", "--mask", "in.png"], "mask:"),
        (&["--tile", "40"], "tile: is 40, expected a multiple of 64 pixels from 128 on"),
        (&["--steps", "7"], "steps: is 7, expected 4"),
    ] {
        let ran = film(path, "ltx_distilled", &[more, &["--output", "none.png"]].concat()).expect_code(2);
        assert!(ran.stderr.contains(expected), "{more:?}: {}", ran.stderr);
        assert_eq!(names(path), before, "{more:?}");
    }
}

#[test]
fn it_is_planned_measured_and_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (_shelf, bundle) = super::common::copy_of("ltx_distilled");
    // What is measured has the card's size.
    let card = fs::read_to_string(bundle.join("kiln.toml")).unwrap();
    fs::write(bundle.join("kiln.toml"), format!("{card}\n[size]\ndefault = [32, 32]\n\n[clip]\ndefault_frames = 9\n")).unwrap();
    let model = bundle.display().to_string();
    let kiln = |arguments: &[&str]| run(command(path).args(arguments).env("XDG_CACHE_HOME", path.join("cache"))).expect_code(0);
    let plan = || -> Value {
        serde_json::from_str(kiln(&[&["plan", "--model", &model, "--json"], &SHORT[..]].concat()).text()).unwrap()
    };
    let guessed = plan();
    assert_eq!((&guessed["frames"], &guessed["measured"]), (&9.into(), &false.into()), "{guessed}");
    let clip = || kiln(&[&["generate", "--model", &model, "--seed", "7", "--output", "a.png", "-v"], &SHORT[..]].concat()).stderr;
    assert!(!clip().contains("as prepared in"));
    let before = frames(&path.join("a.png"));

    let told = kiln(&["prepare", &model]);
    assert!(told.text().contains("kept in"), "{}", told.text());
    kiln(&["prepare", "--check"]);
    assert!(clip().contains("as prepared in"));
    assert_eq!(frames(&path.join("a.png")), before, "the same clip");

    let told = kiln(&["tune", &model, "--runs=1"]);
    for role in ["text_encoder", "transformer", "vae_decoder", "vae_encoder"] {
        assert!(told.text().contains(role), "{} lacks {role}", told.text());
    }
    let measured = plan();
    assert_eq!(measured["measured"], true, "{measured}");
}
