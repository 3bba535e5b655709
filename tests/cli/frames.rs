//! A clip as input: each frame drawn anew from the same noise.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln::Picture;
use serde_json::Value;

use super::clip_formats::frames;
use super::common::{self, Ran, kiln, names};
use super::model;

/// A clip of three frames to draw from, named `name`, and its frames in `stills/`.
fn clip(folder: &Path, name: &str) {
    let model = model("progressive");
    let asked =
        ["generate", "red", "--model", &model, "--steps", "2", "--interpolate", "7:42", "--frames", "3", "--fps", "5", "-o"];
    kiln(folder, &[&asked[..], &[name]].concat()).expect_code(0);
    if !folder.join("stills").exists() {
        kiln(folder, &[&asked[..], &["stills/"]].concat()).expect_code(0);
    }
}

fn redraw(folder: &Path, more: &[&str]) -> Ran {
    let model = model("sd_turbo");
    let mut arguments = vec!["generate", "a red apple", "--model", &model, "--strength", "0.5", "--seed", "7", "--input"];
    arguments.extend(more);
    kiln(folder, &arguments)
}

fn record(folder: &Path, name: &str) -> Value {
    serde_json::from_str(kiln(folder, &["show", name, "--json"]).expect_code(0).text()).unwrap()
}

#[test]
fn each_frame_is_what_its_picture_alone_becomes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    clip(path, "in.png");
    let ran = redraw(path, &["in.png", "-o", "out.png"]).expect_code(0);
    assert_eq!((ran.text(), ran.stderr.as_str()), ("out.png\n", ""));
    let drawn = frames(&path.join("out.png"));
    assert_eq!(drawn.len(), 3);
    for (number, frame) in drawn.iter().enumerate() {
        redraw(path, &[&format!("stills/{:04}.png", number + 1), "-o", "one.png"]).expect_code(0);
        assert_eq!(&Picture::open(&path.join("one.png")).unwrap().with_opacity().pixels, frame, "frame {number}");
    }
    let made = record(path, "out.png");
    assert_eq!(made["clip"], serde_json::json!({ "frames": 3, "frames_per_second": 5 }));
    assert_eq!((&made["input"], &made["seed"], &made["strength"]), (&"in.png".into(), &7.into(), &0.5.into()));
    let unet = made["components"].as_array().unwrap().iter().find(|component| component["role"] == "unet").unwrap();
    assert!(unet["calls"].as_u64().unwrap() >= 3, "times and calls are of all frames");

    kiln(path, &["generate", "--from", "out.png", "-o", "again.png"]).expect_code(0);
    assert_eq!(frames(&path.join("again.png")), drawn);
    kiln(path, &["generate", "--from", "out.png", "-o", "back.png", "--bounce", "--frames", "3", "--fps", "8"]).expect_code(0);
    assert_eq!(frames(&path.join("back.png")), [0, 1, 2, 1].map(|frame| drawn[frame].clone()));
    kiln(path, &["generate", "--from", "out.png", "-o", "still.png", "--input", "stills/0002.png"]).expect_code(0);
    assert_eq!(Picture::open(&path.join("still.png")).unwrap().with_opacity().pixels, drawn[1], "a picture becomes a picture");
    fs::copy(path.join("back.png"), path.join("in.png")).unwrap();
    kiln(path, &["generate", "--from", "out.png", "-o", "no.png"]).refused(2, &["in.png has changed since"]);
}

#[test]
fn every_kind_of_clip_goes_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (name, rate) in
        [("in.gif", "5"), ("in.webp", "5"), ("in.y4m", "5"), ("stills", "5"), ("stills/%04d.png", "5"), ("bare", "24")]
    {
        clip(path, if name.starts_with("in.") { name } else { "in.png" });
        if name == "bare" {
            // Frames of others have no record beside them.
            fs::rename(path.join("stills"), path.join(name)).unwrap();
            fs::remove_file(path.join(name).join("clip.json")).unwrap();
        }
        let ran = redraw(path, &[name, "--frames", "2", "-o", "-", "--format", "y4m"]).expect_code(0);
        let head = String::from_utf8_lossy(&ran.stdout[..60]).into_owned();
        assert!(head.contains(&format!(" F{rate}:1 ")), "{name}: {head}");
        let count = ran.stdout.windows(6).filter(|window| window == b"FRAME\n").count();
        assert_eq!((count, ran.stderr.as_str()), (2, ""), "{name}");
    }
    fs::rename(path.join("bare"), path.join("stills")).unwrap();
    redraw(path, &["stills", "--seconds", "0.1", "--fps", "20", "-o", "out.gif"]).expect_code(0);
    let made = record(path, "out.gif");
    assert_eq!(made["clip"], serde_json::json!({ "frames": 2, "frames_per_second": 20 }));
    kiln(path, &["generate", "--from", "out.gif", "-o", "again.gif"]).expect_code(0);
    fs::remove_file(path.join("stills/0003.png")).unwrap();
    kiln(path, &["generate", "--from", "out.gif", "-o", "again.gif"]).refused(2, &["stills has changed since"]);
}

#[test]
fn without_a_seed_one_is_drawn_for_all_frames() {
    let folder = tempfile::tempdir().unwrap();
    clip(folder.path(), "in.gif");
    let still = fs::read(folder.path().join("stills/0001.png")).unwrap();
    fs::create_dir(folder.path().join("same")).unwrap();
    for name in ["1.png", "2.png"] {
        fs::write(folder.path().join("same").join(name), &still).unwrap();
    }
    let model = model("sd_turbo");
    let asked = ["generate", "a red apple", "--model", &model, "--strength", "0.9", "--input", "same", "-o", "out.png"];
    kiln(folder.path(), &asked).expect_code(0);
    let drawn = frames(&folder.path().join("out.png"));
    assert_eq!((drawn.len(), &drawn[0]), (2, &drawn[1]));
}

#[test]
fn each_clip_that_cannot_be_drawn_from_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    clip(path, "in.gif");
    let gif = fs::read(path.join("in.gif")).unwrap();
    fs::write(path.join("cut.gif"), &gif[..gif.len() / 2]).unwrap();
    fs::create_dir(path.join("empty")).unwrap();
    fs::create_dir(path.join("mixed")).unwrap();
    for (name, side) in [("1.png", 8), ("2.png", 9)] {
        let picture = Picture::new(side, 8, 3, vec![90; side as usize * 24]).unwrap();
        fs::write(path.join("mixed").join(name), kiln::output::encode(&picture, None, kiln::output::Format::Png).unwrap())
            .unwrap();
    }
    fs::write(path.join("bomb.y4m"), "YUV4MPEG2 W8192 H8192 F1000000000:1\nFRAME\n").unwrap();
    fs::write(path.join("large.y4m"), "YUV4MPEG2 W4294967295 H4294967295 F24:1\nFRAME\n").unwrap();
    fs::write(path.join("short.y4m"), "YUV4MPEG2 W8 H8 F24:1\nFRAME\nnot enough").unwrap();
    fs::write(path.join("a.mp4"), b"\0\0\0\x18ftypiso6\0\0\0\0").unwrap();
    let before = names(path);
    let cases: [(&[&str], &[&str]); 16] = [
        (&["cut.gif"], &["cut.gif is broken"]),
        (&["empty"], &["holds no numbered PNG files"]),
        (&["mixed"], &["frame 1 is 9x8, expected 8x8 as the first is"]),
        (&["stills/%s.png"], &["one %d or %04d"]),
        (&["missing/%d.png"], &["missing is not readable"]),
        (&["bomb.y4m"], &["plays 1000000000 frames per second", "expected 0.1 to 100"]),
        (&["large.y4m"], &["is 4294967295x4294967295, expected sides of 1 to 8192"]),
        (&["short.y4m"], &["ends in the middle of frame 0"]),
        (&["a.mp4"], &["is compressed video, which is not read; make y4m of it first"]),
        (&["in.gif", "--frames", "0"], &["--frames: is 0"]),
        (&["in.gif", "--seconds", "NaN"], &["lasts NaN seconds"]),
        (&["in.gif", "--fps", "0"], &["plays 0 frames per second"]),
        (&["in.gif", "--count", "2"], &["--count: is 2", "--frames"]),
        (&["in.gif", "--interpolate", "1:2"], &["--interpolate: makes a clip of its own"]),
        (&["in.gif", "-o", "a.jpg"], &["a.jpg ends in .jpg, expected .png, .apng, .gif"]),
        (&["in.gif", "--fps", "60", "-o", "b.gif"], &["gif expects at most 50"]),
    ];
    for (more, parts) in cases {
        println!("{more:?}");
        let ran = redraw(path, more).expect_code(2);
        for part in parts {
            assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
        }
        assert_eq!(names(path), before);
    }
    let gan = model("gan");
    let ran = kiln(path, &["generate", "--model", &gan, "--input", "in.gif", "-o", "b.gif"]).expect_code(2);
    assert!(ran.stderr.contains("input"), "{}", ran.stderr);
    assert_eq!(names(path), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_run_that_is_killed_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    clip(path, "in.gif");
    fs::create_dir(path.join("many")).unwrap();
    for number in 1..=900 {
        fs::copy(path.join("stills/0001.png"), path.join(format!("many/{number}.png"))).unwrap();
    }
    for output in ["a.gif", "frames/%d.png"] {
        let before = names(path);
        let mut command = common::command(path);
        let model = model("sd_turbo");
        command.args(["generate", "x", "--model", &model, "--input", "many", "--preview", "now.png", "-o", output]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        // The file is begun with the first frame.
        while !path.join("now.png").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60) && child.try_wait().unwrap().is_none(), "no preview appears");
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(300));
        child.kill().unwrap();
        child.wait().unwrap();
        fs::remove_file(path.join("now.png")).unwrap();
        assert_eq!(names(path), before, "{output}");
    }
}
