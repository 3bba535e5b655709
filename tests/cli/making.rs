//! Pictures made: their files, names, formats and records.

use std::fs;

use kiln::{Picture, Provenance};
use serde_json::Value;

use super::common::{names, run};
use super::{common, generate, model};

#[test]
fn a_picture_is_written_in_the_format_that_its_name_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let formats: [(&str, &[u8]); 5] = [
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("b.jpg", b"\xff\xd8\xff"),
        ("c.jpeg", b"\xff\xd8\xff"),
        ("d.webp", b"RIFF"),
        ("E.PNG", b"\x89PNG"),
    ];
    for (name, magic) in formats {
        let ran = generate(folder.path(), "sd_turbo", &["--output", name]).expect_code(0);
        assert_eq!(ran.text(), format!("{name}\n"));
        assert_eq!(ran.stderr, "", "progress is silent where nobody watches");
        assert!(fs::read(folder.path().join(name)).unwrap().starts_with(magic), "{name}");
        let picture = Picture::open(&folder.path().join(name)).unwrap();
        assert_eq!((picture.width, picture.height, picture.channels), (64, 64, 3));
    }
    let pixels = |name: &str| Picture::open(&folder.path().join(name)).unwrap().pixels;
    assert_eq!(pixels("a.png"), pixels("d.webp"), "both are lossless");
    assert_eq!(pixels("a.png"), pixels("E.PNG"), "the same seed makes the same picture");
    assert_eq!(names(folder.path()), ["E.PNG", "a.png", "b.jpg", "c.jpeg", "d.webp"], "nothing else is left");
}

#[test]
fn standard_output_takes_the_picture_itself() {
    let folder = tempfile::tempdir().unwrap();
    let ran = generate(folder.path(), "sd_turbo", &["--output", "-"]).expect_code(0);
    assert_eq!(ran.stderr, "");
    assert!(names(folder.path()).is_empty());
    generate(folder.path(), "sd_turbo", &["--output", "a.png"]).expect_code(0);
    let piped = Picture::read(&ran.stdout, "stdout").unwrap();
    assert_eq!(piped, Picture::open(&folder.path().join("a.png")).unwrap());
}

#[test]
fn a_picture_without_a_name_is_called_by_its_prompt_and_seed_and_never_replaces_another() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a-red-apple-7.png", "a-red-apple-7-2.png", "a-red-apple-7-3.png"] {
        let ran = generate(folder.path(), "sd_turbo", &[]).expect_code(0);
        assert_eq!(ran.text(), format!("{name}\n"));
    }
    fs::write(folder.path().join("a-red-apple-7.png"), "mine").unwrap();
    generate(folder.path(), "sd_turbo", &[]).expect_code(0);
    assert_eq!(fs::read(folder.path().join("a-red-apple-7.png")).unwrap(), b"mine");
    // A file that was named is the person's to replace.
    generate(folder.path(), "sd_turbo", &["--output", "a-red-apple-7.png"]).expect_code(0);
    Picture::open(&folder.path().join("a-red-apple-7.png")).unwrap();
}

#[test]
fn a_seed_that_nobody_chose_is_another_at_each_run() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    for _ in 0..2 {
        common::kiln(folder.path(), &["generate", "♥ cat", "--model", &model]).expect_code(0);
    }
    let found = names(folder.path());
    assert_eq!(found.len(), 2);
    assert!(
        found.iter().all(|name| name.starts_with("cat-") && name.ends_with(".png") && !name.ends_with("-2.png")),
        "{found:?}"
    );
}

#[test]
fn several_pictures_have_their_seeds_in_their_names_and_each_is_as_if_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ran = generate(folder.path(), "sd", &["--count", "3", "--steps", "2", "--output", "many.png"]).expect_code(0);
    assert_eq!(ran.text(), "many-7.png\nmany-8.png\nmany-9.png\n");
    let model = model("sd");
    common::kiln(folder.path(), &["generate", "a red apple", "--seed", "8", "--steps", "2", "-m", &model, "-o", "alone.png"])
        .expect_code(0);
    let open = |name: &str| Picture::open(&folder.path().join(name)).unwrap();
    assert_eq!(open("many-8.png"), open("alone.png"));
    assert_ne!(open("many-7.png"), open("many-8.png"));
}

#[test]
fn json_is_a_line_for_each_picture_that_says_what_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let ran = generate(folder.path(), "sd", &["--count", "2", "--steps", "2", "--json", "--negative", "blue"]).expect_code(0);
    let lines: Vec<Value> = ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (line, seed) in lines.iter().zip([7, 8]) {
        assert_eq!(line["seed"], seed);
        assert_eq!(line["prompt"], "a red apple");
        assert_eq!(line["negative"], "blue");
        assert_eq!((&line["steps"], &line["width"], &line["height"]), (&2.into(), &64.into(), &64.into()));
        assert_eq!((&line["schema"], &line["sampler"], &line["rng"]), (&1.into(), &"pndm".into(), &"cpu".into()));
        assert_eq!(line["bundle"]["sha256"].as_str().unwrap().len(), 64);
        let roles: Vec<&str> =
            line["components"].as_array().unwrap().iter().map(|component| component["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["text_encoder", "unet", "vae_decoder"]);
        assert!(line["components"].as_array().unwrap().iter().all(|component| component["provider"] == "cpu"));
        let file = folder.path().join(line["file"].as_str().unwrap());
        let (parameters, record) = kiln::output::read(&file).unwrap();
        assert!(parameters.unwrap().starts_with("a red apple\nNegative prompt: blue\nSteps: 2, Sampler: pndm"));
        let of_line: Provenance = serde_json::from_value(line.clone()).unwrap();
        assert_eq!(record.unwrap(), of_line, "the file holds the same record");
    }
}

#[test]
fn quiet_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    // The prompt is longer than the text encoder reads at once, which is worth a warning without --quiet.
    let prompt = "a cat ".repeat(100);
    let arguments = ["generate", &prompt, "--plain-prompt", "--model", &model, "--output", "a.png"];
    let ran = common::kiln(folder.path(), &arguments).expect_code(0);
    assert!(ran.stderr.contains("warning: text_encoder: the prompt is longer than the 77 tokens"), "{}", ran.stderr);
    let ran = common::kiln(folder.path(), &[&arguments[..], &["--quiet"]].concat()).expect_code(0);
    assert_eq!((ran.text(), ran.stderr.as_str()), ("", ""));
    Picture::open(&folder.path().join("a.png")).unwrap();
    let ran = common::kiln(folder.path(), &["generate", &prompt, "--model", "nothing", "--quiet"]);
    ran.refused(2, &["model nothing"]);
}

#[test]
fn memory_and_threads_change_how_and_not_what() {
    let folder = tempfile::tempdir().unwrap();
    let mut records = Vec::new();
    for (name, more) in [("a.png", vec![]), ("b.png", vec!["--memory", "low"]), ("c.png", vec!["--threads", "1"])] {
        let mut arguments = vec!["--steps", "2", "--output", name];
        arguments.extend(more);
        generate(folder.path(), "sd", &arguments).expect_code(0);
        records.push(kiln::output::read(&folder.path().join(name)).unwrap().1.unwrap());
    }
    let open = |name: &str| Picture::open(&folder.path().join(name)).unwrap();
    assert_eq!(open("a.png"), open("b.png"));
    assert_eq!(open("a.png"), open("c.png"));
    assert_eq!((records[0].memory.as_str(), records[1].memory.as_str()), ("normal", "low"));
    assert_eq!(records[2].threads, 1);
    let calls = |record: &Provenance| record.components.iter().find(|component| component.role == "unet").unwrap().calls;
    assert!(calls(&records[1]) > calls(&records[0]), "with low memory guidance runs as two calls");
}

#[test]
fn random_numbers_of_cuda_make_another_picture() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "sd_turbo", &["--output", "cpu.png"]).expect_code(0);
    generate(folder.path(), "sd_turbo", &["--output", "cuda.png", "--rng", "cuda"]).expect_code(0);
    let open = |name: &str| Picture::open(&folder.path().join(name)).unwrap();
    assert_ne!(open("cpu.png"), open("cuda.png"));
    assert_eq!(kiln::output::read(&folder.path().join("cuda.png")).unwrap().1.unwrap().rng, "cuda");
}

#[test]
fn a_preview_is_written_while_the_picture_develops() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "sd", &["--steps", "3", "--output", "plain.png"]).expect_code(0);
    generate(folder.path(), "sd", &["--steps", "3", "--output", "watched.png", "--preview", "now.jpg"]).expect_code(0);
    assert_eq!(names(folder.path()), ["now.jpg", "plain.png", "watched.png"]);
    let open = |name: &str| Picture::open(&folder.path().join(name)).unwrap();
    assert_eq!((open("now.jpg").width, open("now.jpg").height), (64, 64));
    assert_eq!(open("plain.png"), open("watched.png"), "a picture is the same whether somebody looks on");
}

#[test]
fn what_a_model_was_not_made_for_is_taken_with_force() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "sd_turbo", &["--steps", "7", "--output", "a.png"]).refused(2, &["steps: is 7", "--force"]);
    assert!(names(folder.path()).is_empty());
    generate(folder.path(), "sd_turbo", &["--steps", "7", "--output", "a.png", "--force"]).expect_code(0);
    assert_eq!(kiln::output::read(&folder.path().join("a.png")).unwrap().1.unwrap().steps, 7);
}

#[test]
fn a_size_of_ones_own_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    generate(folder.path(), "sd_turbo", &["--size", "72x48", "--output", "a.png"]).expect_code(0);
    let picture = Picture::open(&folder.path().join("a.png")).unwrap();
    assert_eq!((picture.width, picture.height), (72, 48));
}

#[test]
fn what_is_done_and_why_is_told_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let ran = generate(folder.path(), "sd_turbo", &["--output", "a.png", "-v"]).expect_code(0);
    assert!(ran.stderr.contains("kiln: note: ONNX Runtime ") && ran.stderr.contains("guidance: one pass"), "{}", ran.stderr);
    let model = model("nothing");
    let mut command = common::command(folder.path());
    // What a person set for another program's sake hides no error.
    let ran = run(command.args(["generate", "a", "--model", &model]).env("RUST_LOG", "off"));
    ran.refused(2, &["there is neither such a folder"]);
}

#[test]
fn a_mistyped_model_is_offered_the_name_that_is_near() {
    let folder = tempfile::tempdir().unwrap();
    let offered = |name: &str| {
        let mut command = common::command(folder.path());
        let shelf = concat!(env!("CARGO_MANIFEST_DIR"), "/models");
        let ran = run(command.args(["generate", "a", "--model", name]).env("KILN_MODELS", shelf)).expect_code(2);
        ran.stderr.contains("did you mean sticker?")
    };
    assert!(offered("stickr") && offered("Sticker") && !offered("flux"));
}
