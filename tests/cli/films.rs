//! Clips of models that make clips, as a person makes them.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use kiln::Picture;
use serde_json::Value;

use super::common::{Ran, kiln, names};
use super::model;

/// `kiln` with a verb, a tiny model of clips, and more arguments.
fn of_clips(folder: &Path, verb: &str, more: &[&str]) -> Ran {
    let model = model("animatediff");
    let mut arguments = vec![verb, "--model", &model, "--force"];
    arguments.extend(more);
    kiln(folder, &arguments)
}

const SHORT: [&str; 5] = ["a smiling sun", "--steps", "2", "--size", "32x32"];

fn film(folder: &Path, more: &[&str]) -> Ran {
    of_clips(folder, "generate", &[&SHORT[..], more].concat())
}

/// How many frames an animated PNG has, and how many are shown in a second.
fn of_apng(path: &Path) -> (u32, u16) {
    let (frames, (parts, rate)) = frames_and_delay(path);
    assert_eq!(parts, 1);
    (frames, rate)
}

/// How many frames it has, and for what part of a second the first is shown.
fn frames_and_delay(path: &Path) -> (u32, (u16, u16)) {
    let reader = png::Decoder::new(Cursor::new(fs::read(path).unwrap())).read_info().unwrap();
    let (control, shown) = (reader.info().animation_control.unwrap(), reader.info().frame_control.unwrap());
    (control.num_frames, (shown.delay_num, shown.delay_den))
}

#[test]
fn a_clip_is_written_by_its_prompt_and_seed_and_repeated_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ran = film(path, &["--seed", "7", "--frames", "5"]).expect_code(0);
    assert_eq!(ran.text(), "a-smiling-sun-7.png\n");
    assert_eq!(of_apng(&path.join("a-smiling-sun-7.png")), (5, 8));
    let record: Value =
        serde_json::from_str(kiln(path, &["show", "a-smiling-sun-7.png", "--json"]).expect_code(0).text()).unwrap();
    assert_eq!((record["clip"]["frames"].as_u64(), record["seed"].as_u64()), (Some(5), Some(7)));
    assert_eq!(record["family"], "latent_diffusion");
    let shown = kiln(path, &["show", "a-smiling-sun-7.png"]).expect_code(0);
    assert!(shown.text().contains("clip      5 frames, 8 a second\n"), "{}", shown.text());

    kiln(path, &["generate", "--from", "a-smiling-sun-7.png", "--output", "again.png"]).expect_code(0);
    let bytes = |name: &str| {
        let mut reader = png::Decoder::new(Cursor::new(fs::read(path.join(name)).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        (0..5)
            .flat_map(|_| {
                reader.next_frame(&mut pixels).unwrap();
                pixels.clone()
            })
            .collect::<Vec<u8>>()
    };
    assert!(bytes("again.png") == bytes("a-smiling-sun-7.png"));
    assert_eq!(names(path), ["a-smiling-sun-7.png", "again.png"]);
}

#[test]
fn frames_seconds_rates_and_the_way_back_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    film(path, &["--seconds", "0.5", "--fps", "12", "--output", "a.png"]).expect_code(0);
    assert_eq!(of_apng(&path.join("a.png")), (6, 12));
    film(path, &["--frames", "4", "--bounce", "--output", "b.png"]).expect_code(0);
    assert_eq!(of_apng(&path.join("b.png")), (6, 8));
    let ran = film(path, &["--frames", "10", "--output", "long.gif", "--json"]).expect_code(0);
    let line: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((line["clip"]["frames"].as_u64(), line["file"].as_str()), (Some(10), Some("long.gif")));
    assert_eq!(Picture::open(&path.join("a.png")).unwrap().width, 32);
}

#[test]
fn a_picture_becomes_a_clip() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let pixels = (0..32 * 32 * 3).map(|at| (at * 7 % 251) as u8).collect();
    let target = kiln::output::Target::new(&path.join("in.png"), None).unwrap();
    kiln::output::write(&Picture::new(32, 32, 3, pixels).unwrap(), None, &target).unwrap();
    film(path, &["--input", "in.png", "--strength", "0.5", "--frames", "3", "--output", "out.png"]).expect_code(0);
    assert_eq!(of_apng(&path.join("out.png")), (3, 8));
    let record: Value = serde_json::from_str(kiln(path, &["show", "out.png", "--json"]).expect_code(0).text()).unwrap();
    assert_eq!((record["input"].as_str(), record["strength"].as_f64()), (Some("in.png"), Some(0.5)));
}

/// The pixels of every frame of an animated PNG.
fn pixels(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = png::Decoder::new(Cursor::new(fs::read(path).unwrap())).read_info().unwrap();
    let mut frame = vec![0; reader.output_buffer_size().unwrap()];
    let mut next = || {
        reader.next_frame(&mut frame).unwrap();
        frame.clone()
    };
    (0..frames_and_delay(path).0).map(|_| next()).collect()
}

#[test]
fn a_clip_becomes_a_clip_at_its_own_speed_and_is_repeated_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clips/input.gif");
    fs::copy(&golden, path.join("in.gif")).unwrap();
    let begun = ["--input", "in.gif", "--strength", "0.5", "--seed", "7"];
    film(path, &[&begun[..], &["--frames", "6", "--output", "out.png"]].concat()).expect_code(0);
    let shown = pixels(&path.join("out.png"));
    // Its frames last 8 hundredths of a second.
    assert_eq!(frames_and_delay(&path.join("out.png")), (6, (2, 25)));
    let record: Value = serde_json::from_str(kiln(path, &["show", "out.png", "--json"]).expect_code(0).text()).unwrap();
    assert_eq!((record["input"].as_str(), record["strength"].as_f64()), (Some("in.gif"), Some(0.5)));
    kiln(path, &["generate", "--from", "out.png", "--output", "again.png"]).expect_code(0);
    assert_eq!(pixels(&path.join("again.png")), shown);

    // The same frames one by one, of which nobody says how fast they follow each other.
    let mut frames = kiln::output::ClipReader::open(&golden).unwrap().unwrap();
    fs::create_dir(path.join("frames")).unwrap();
    for at in 0..6 {
        let target = kiln::output::Target::new(&path.join(format!("frames/{at:04}.png")), None).unwrap();
        kiln::output::write(&frames.next().unwrap().unwrap(), None, &target).unwrap();
    }
    film(path, &["--input", "frames", "--strength", "0.5", "--seed", "7", "--output", "same.png"]).expect_code(0);
    assert_eq!(pixels(&path.join("same.png")), shown);
    assert_eq!(of_apng(&path.join("same.png")), (6, 8));

    for (more, expected) in [
        (&["--input", "in.gif", "--frames", "21"][..], "frames: is 21, and the clip to begin with has 20"),
        (&["--input", "in.gif", "--strength", "0"], "strength: is 0"),
        (&["--input", "in.gif", "--strength", "1.5"], "strength: is 1.5"),
        (&["--input", "frames", "--seconds", "0.5"], "--seconds: nothing says how fast"),
        (&["--input", "in.gif", "--interpolate", "1:2"], "--interpolate"),
        (&["--input", "in.gif", "--count", "2"], "makes one clip at a time"),
    ] {
        let ran = film(path, &[more, &["--output", "none.png"]].concat()).expect_code(2);
        assert!(ran.stderr.contains(expected) && !path.join("none.png").exists(), "{more:?}: {}", ran.stderr);
    }
    // Before the frames are brought to it.
    for (size, expected) in
        [("33x32", "size: is 33x32, expected multiples of 8"), ("99999x99992", "up to 4096; the nearest is 4096x4096")]
    {
        let asked = ["a smiling sun", "--input", "in.gif", "--size", size, "--output", "none.png"];
        of_clips(path, "generate", &asked).refused(2, &[expected]);
    }
}

#[test]
fn a_picture_is_gone_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let model = model("wan_i2v");
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clips/input_wide.png");
    fs::copy(input, path.join("in.png")).unwrap();
    let run = |more: &[&str]| {
        kiln(
            path,
            &[&["generate", "a smiling sun", "--model", &model, "--force", "--steps", "2", "--frames", "5"], more].concat(),
        )
    };
    run(&["--input", "in.png", "--size", "48x32", "--seed", "7", "--output", "out.png"]).expect_code(0);
    assert_eq!(of_apng(&path.join("out.png")), (5, 16));
    kiln(path, &["generate", "--from", "out.png", "--output", "again.png"]).expect_code(0);
    assert_eq!(pixels(&path.join("again.png")), pixels(&path.join("out.png")));
    let inspected = kiln(path, &["inspect", &model]).expect_code(0);
    assert!(inspected.text().contains("makes        picture to clip\n"), "{}", inspected.text());
    for (more, expected) in [
        (&["--size", "48x32"][..], "go on from a picture; name it with --input"),
        (&["--input", "in.png", "--strength", "0.5"], "strength: model wan_i2v goes on from the picture"),
        (&["--input", "missing.png"], "missing.png"),
    ] {
        let ran = run(&[more, &["--output", "none.png"]].concat()).expect_code(2);
        assert!(ran.stderr.contains(expected) && !path.join("none.png").exists(), "{more:?}: {}", ran.stderr);
    }
}

#[test]
fn what_a_model_of_clips_does_not_take_is_one_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for (more, expected) in [
        (&["--frames", "0"][..], "frames: is 0"),
        (&["--frames", "1001"], "frames: is 1001"),
        (&["--frames", "18446744073709551615"], "expected 1 to 1000"),
        (&["--frames", "99999999999999999999"], "invalid value"),
        (&["--seconds", "1e300"], "frames"),
        (&["--seconds", "nan"], "--seconds"),
        (&["--fps", "1e9"], "fps"),
        (&["--fps", "0"], "fps"),
        (&["--interpolate", "1:2"], "--interpolate"),
        (&["--count", "2"], "makes one clip at a time"),
        (&["--output", "a.jpg"], "jpg"),
    ] {
        let ran = film(path, more).expect_code(2);
        assert!(ran.stderr.contains(expected), "{more:?}: {}", ran.stderr);
        assert_eq!(names(path), [""; 0], "{more:?}");
    }
}

#[test]
fn plan_inspect_and_bench_know_clips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let planned =
        of_clips(path, "plan", &["a sun", "--frames", "20", "--size", "32x32", "--steps", "2", "--json"]).expect_code(0);
    let plan: Value = serde_json::from_str(planned.text()).unwrap();
    assert_eq!(plan["frames"], 20);
    let decided =
        |what: &str| plan["decisions"].as_array().unwrap().iter().find(|made| made["what"] == what).unwrap()["choice"].clone();
    assert_eq!((decided("windows"), decided("decoding")), ("7 of 8 frames".into(), "frame by frame".into()));
    let inspected = kiln(path, &["inspect", &model("animatediff")]).expect_code(0);
    for line in ["text to clip, picture to clip, clip to clip", "8 by default, 8 in a second; more than 8 in windows of 8"] {
        assert!(inspected.text().contains(line), "{}", inspected.text());
    }
    let measured = kiln(
        path,
        &["bench", &model("animatediff"), "--runs", "1", "--steps", "1", "--size", "32x32", "--frames", "3", "--json"],
    )
    .expect_code(0);
    let measured: Value = serde_json::from_str(measured.text()).unwrap();
    assert_eq!((measured["frames"].as_u64(), measured["components"][1]["role"].as_str()), (Some(3), Some("unet")));
}
