//! Walks between two seeds, written as clips.

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln::Picture;
use serde_json::Value;

use super::common::{self, Ran, kiln, names};
use super::model;

/// `kiln generate` of a tiny bundle of classes with more arguments.
fn walk(folder: &Path, more: &[&str]) -> Ran {
    let model = model("progressive");
    let mut arguments = vec!["generate", "--model", &model, "--steps", "2"];
    arguments.extend(more);
    kiln(folder, &arguments)
}

/// The frames of an animated PNG and how many are shown in a second.
fn frames(bytes: &[u8]) -> (Vec<Vec<u8>>, u16) {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().unwrap();
    let control = reader.info().animation_control.unwrap();
    assert_eq!(control.num_plays, 0, "it plays without end");
    let mut shown = Vec::new();
    for _ in 0..control.num_frames {
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        shown.push(pixels);
    }
    let delay = reader.info().frame_control.unwrap();
    assert_eq!(delay.delay_num, 1);
    (shown, delay.delay_den)
}

fn record(folder: &Path, name: &str) -> Value {
    serde_json::from_str(kiln(folder, &["show", name, "--json"]).expect_code(0).text()).unwrap()
}

#[test]
fn a_walk_begins_and_ends_at_its_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ran = walk(path, &["red", "--interpolate", "7:42", "--frames", "4"]).expect_code(0);
    assert_eq!((ran.text(), ran.stderr.as_str()), ("red-7-to-42.png\n", ""));
    let (shown, rate) = frames(&fs::read(path.join("red-7-to-42.png")).unwrap());
    assert_eq!((shown.len(), rate), (4, 12));
    for (seed, frame) in [("7", &shown[0]), ("42", &shown[3])] {
        walk(path, &["red", "--seed", seed, "--output", "end.png"]).expect_code(0);
        assert_eq!(&Picture::open(&path.join("end.png")).unwrap().pixels, frame, "seed {seed}");
    }
    assert!(shown.windows(2).all(|pair| pair[0] != pair[1]), "it moves");
    walk(path, &["red", "--interpolate", "7:42", "--frames", "4"]).expect_code(0);
    assert_eq!(names(path), ["end.png", "red-7-to-42-2.png", "red-7-to-42.png"], "none was replaced, nothing else is left");
}

#[test]
fn a_clip_there_and_back_has_no_jump() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let asked = ["red", "--interpolate", "7:42", "--frames", "4", "--fps", "25"];
    walk(path, &["red", "--interpolate", "7:42", "--seconds", "0.16", "--fps", "25.0", "-o", "there.apng"]).expect_code(0);
    walk(path, &[&asked[..], &["--bounce", "-o", "back.png"]].concat()).expect_code(0);
    let (there, _) = frames(&fs::read(path.join("there.apng")).unwrap());
    let (back, rate) = frames(&fs::read(path.join("back.png")).unwrap());
    let order = [0, 1, 2, 3, 2, 1];
    assert_eq!((back, rate), (order.map(|frame| there[frame].clone()).to_vec(), 25));
}

#[test]
fn a_gif_says_what_made_it_and_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    walk(path, &["red", "--interpolate", "7:42", "--frames", "3", "-o", "a.gif"]).expect_code(0);
    let made = record(path, "a.gif");
    assert_eq!((&made["seed"], &made["walk"]["to"], &made["clip"]["frames"]), (&7.into(), &42.into(), &3.into()));
    let shown = kiln(path, &["show", "a.gif"]).expect_code(0);
    assert!(shown.text().contains("walk      from seed 7 to seed 42 in 3 pictures"), "{}", shown.text());
    kiln(path, &["generate", "--from", "a.gif", "-o", "b.gif"]).expect_code(0);
    let frames = |name: &str| {
        let mut decoder = gif::DecodeOptions::new().read_info(fs::File::open(path.join(name)).unwrap()).unwrap();
        let mut frames = Vec::new();
        while let Some(frame) = decoder.read_next_frame().unwrap() {
            frames.push((frame.palette.clone(), frame.buffer.to_vec()));
        }
        frames
    };
    assert_eq!((frames("a.gif"), frames("a.gif").len()), (frames("b.gif"), 3));
    let bytes = fs::read(path.join("a.gif")).unwrap();
    fs::write(path.join("cut.gif"), &bytes[..100]).unwrap();
    kiln(path, &["show", "cut.gif"]).refused(2, &["cut.gif is broken"]);
}

#[test]
fn a_walk_whose_class_nobody_named_says_which_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let asked = ["--interpolate", "7:42", "--frames", "2"];
    let text = walk(path, &[&asked[..], &["-o", "a.png"]].concat()).expect_code(0).text().to_owned();
    let class = record(path, "a.png")["prompt"].as_str().unwrap().to_owned();
    assert_eq!(text, format!("class {class}, which seed 7 gives; a prompt names another\na.png\n"));
    assert_eq!(walk(path, &[&asked[..], &["-o", "b.png", "--quiet"]].concat()).expect_code(0).text(), "");
    let json = walk(path, &[&asked[..], &["-o", "c.png", "--json"]].concat()).expect_code(0);
    assert_eq!(json.text().lines().count(), 1, "{}", json.text());
    let of_record = kiln(path, &["generate", "--from", "a.png", "-o", "d.png"]).expect_code(0);
    assert_eq!(of_record.text(), "d.png\n", "the record names it");
}

#[test]
fn a_gif_has_the_same_frames() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    walk(path, &["red", "--interpolate", "7:42", "--frames", "3", "-o", "a.gif"]).expect_code(0);
    walk(path, &["red", "--interpolate", "7:42", "--frames", "3", "-o", "a.png"]).expect_code(0);
    let (exact, _) = frames(&fs::read(path.join("a.png")).unwrap());
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(fs::File::open(path.join("a.gif")).unwrap()).unwrap();
    let mut count = 0;
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        let pairs = frame.buffer.chunks_exact(4).zip(exact[count].chunks_exact(3));
        let error: f64 = pairs.flat_map(|(a, b)| (0..3).map(|at| f64::from(a[at].abs_diff(b[at])).powi(2))).sum();
        let mean = error / exact[count].len() as f64;
        assert!(mean < 65.0, "frame {count} is wrong by a mean square of {mean}, 30 decibels");
        count += 1;
    }
    assert_eq!((count, decoder.repeat()), (3, gif::Repeat::Infinite));
}

#[test]
fn a_clip_says_what_made_it_and_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    walk(path, &["red", "--interpolate", "7:42", "--frames", "3", "--fps", "5", "--bounce", "-o", "a.png"]).expect_code(0);
    let shown = kiln(path, &["show", "a.png"]).expect_code(0);
    let line = "walk      from seed 7 to seed 42 in 3 pictures, 5 a second, there and back\n";
    assert!(shown.text().contains(line) && shown.text().contains("kiln generate --from a.png"), "{}", shown.text());
    let made = record(path, "a.png");
    assert_eq!((&made["seed"], &made["walk"]["to"], &made["prompt"]), (&7.into(), &42.into(), &"red".into()));
    assert_eq!(made["clip"], serde_json::json!({ "frames": 3, "frames_per_second": 5, "bounce": true }));

    kiln(path, &["generate", "--from", "a.png", "-o", "b.png"]).expect_code(0);
    let read = |name: &str| frames(&fs::read(path.join(name)).unwrap());
    assert_eq!(read("a.png"), read("b.png"));
    // What is said changes it, and nothing else does.
    kiln(path, &["generate", "--from", "a.png", "-o", "c.png", "--frames", "2", "--fps", "50"]).expect_code(0);
    assert_eq!(read("c.png"), (vec![read("a.png").0[0].clone(), read("a.png").0[2].clone()], 50));
    kiln(path, &["generate", "--from", "a.png", "-o", "d.png", "--interpolate", "42:7"]).expect_code(0);
    assert_eq!(read("d.png").0, [2, 1, 0, 1].map(|frame| read("a.png").0[frame].clone()));
    kiln(path, &["generate", "--from", "a.png", "-o", "e.jpg"]).refused(2, &["e.jpg ends in .jpg", ".gif"]);
    kiln(path, &["generate", "--from", "a.png", "--count", "2"]).refused(2, &["--count: is 2", "--frames"]);
    // A picture's record makes a walk too.
    walk(path, &["red", "--seed", "7", "-o", "still.png"]).expect_code(0);
    kiln(path, &["generate", "--from", "still.png", "--interpolate", "7:42", "--frames", "3", "-o", "f.png"]).expect_code(0);
    assert_eq!(read("f.png").0, read("a.png").0[..3]);
}

#[test]
fn one_line_of_json_tells_of_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let ran = walk(folder.path(), &["--interpolate", "1:2", "--frames", "2", "--json", "-o", "a.gif"]).expect_code(0);
    let line: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((&line["file"], &line["clip"]["frames"], &line["walk"]["to"]), (&"a.gif".into(), &2.into(), &2.into()));
    fs::write(folder.path().join("a.bmp"), "BM").unwrap();
    kiln(folder.path(), &["show", "a.bmp"])
        .refused(2, &["a.bmp", "is no PNG, GIF, WebP, MP4 or WebM and has no record beside it"]);
}

#[test]
fn standard_output_takes_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let ran = walk(folder.path(), &["--interpolate", "1:2", "--frames", "3", "-o", "-"]).expect_code(0);
    assert_eq!((frames(&ran.stdout).0.len(), ran.stderr.as_str()), (3, ""));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_walk_of_a_text_model_keeps_the_prompt() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    let asked = ["generate", "a red apple", "-m", &model, "--interpolate", "7:8", "--frames", "2", "--preview", "now.png"];
    let ran = kiln(folder.path(), &asked).expect_code(0);
    assert_eq!(ran.text(), "a-red-apple-7-to-8.png\n");
    let (shown, _) = frames(&fs::read(folder.path().join("a-red-apple-7-to-8.png")).unwrap());
    let preview = Picture::open(&folder.path().join("now.png")).unwrap();
    assert_eq!(preview.pixels, shown[1], "the preview ends with the last frame");
}

#[test]
fn each_wrong_wish_for_a_clip_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let cases: [(&[&str], &[&str]); 29] = [
        (&["--interpolate", "7"], &["--interpolate", "is `7`, expected two seeds, such as 7:42"]),
        (&["--interpolate", "7:"], &["is `7:`, expected two seeds"]),
        (&["--interpolate", "7:8:9"], &["is `7:8:9`, expected two seeds"]),
        (&["--interpolate", "a:b"], &["is `a:b`, expected two seeds"]),
        (&["--interpolate=-1:2"], &["is `-1:2`, expected two seeds"]),
        (&["--interpolate", "7:7"], &["goes from seed 7 to itself"]),
        (&["--interpolate", "0:18446744073709551616"], &["expected two seeds"]),
        (&["--interpolate", "1:2", "--frames", "0"], &["frames: is 0, expected 2 to 1000"]),
        (&["--interpolate", "1:2", "--frames", "1"], &["frames: is 1, expected 2 to 1000"]),
        (&["--interpolate", "1:2", "--frames", "1001"], &["frames: is 1001, expected 2 to 1000"]),
        (&["--interpolate", "1:2", "--frames", "18446744073709551615", "--bounce"], &["expected 2 to 1000"]),
        (&["--interpolate", "1:2", "--frames", "1000000000"], &["expected 2 to 1000"]),
        (&["--interpolate", "1:2", "--frames", "3", "--seconds", "1"], &["--seconds", "cannot be used with", "--frames"]),
        (&["--interpolate", "1:2", "--seconds", "NaN"], &["--seconds", "lasts NaN seconds, expected more than 0"]),
        (&["--interpolate", "1:2", "--seconds", "-1"], &["--seconds", "lasts -1 seconds"]),
        (&["--interpolate", "1:2", "--seconds", "1e9"], &["expected 2 to 1000"]),
        (&["--seconds", "3"], &["--seconds: is said of a clip"]),
        (&["--interpolate", "1:2", "--fps", "0"], &["plays 0 frames per second, expected 0.1 to 100"]),
        (&["--interpolate", "1:2", "--fps", "101"], &["plays 101 frames per second, expected 0.1 to 100"]),
        (&["--interpolate", "1:2", "--fps", "nan"], &["frames per second are `nan`, expected a number such as 24, 12.5"]),
        (&["--interpolate", "1:2", "--fps", "1/0"], &["plays 1/0 frames per second"]),
        (&["--interpolate", "1:2", "--fps", "60", "-o", "a.gif"], &["gif expects at most 50", "use png"]),
        (&["--interpolate", "1:2", "--count", "3"], &["--count: is 3", "--frames"]),
        (&["--interpolate", "1:2", "--seed", "3"], &["--seed", "--interpolate says both seeds"]),
        (&["--interpolate", "1:2", "-o", "a.jpg"], &["a.jpg ends in .jpg, expected .png, .apng, .gif"]),
        (&["--interpolate", "1:2", "-o", "missing/a.gif"], &["output folder missing is missing"]),
        (&["--frames", "3"], &["--frames: is said of a clip", "--interpolate SEED:SEED"]),
        (&["--fps", "3"], &["--fps: is said of a clip"]),
        (&["--bounce"], &["--bounce: is said of a clip"]),
    ];
    for (more, parts) in cases {
        println!("{more:?}");
        let ran = walk(path, more).expect_code(2);
        for part in parts {
            assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
        }
        assert!(ran.stdout.is_empty());
    }
    assert!(names(path).is_empty());
}

#[test]
fn an_interrupt_between_frames_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("ddpm");
    let long = ["--interpolate", "1:2", "--frames", "900", "--steps", "900", "--preview", "now.png", "-o", "a.gif"];
    let mut command = common::command(folder.path());
    command.args(["generate", "--model", &model]).args(long).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    while !folder.path().join("now.png").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no preview appears");
        sleep(Duration::from_millis(5));
    }
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.as_ref()), (Some(130), "kiln: stopped, nothing was written\n"));
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}
