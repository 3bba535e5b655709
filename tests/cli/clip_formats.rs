//! Clips in each format: what is written, what it says of its making, how it is made again.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use image::AnimationDecoder;
use image::codecs::png::PngDecoder;
use kiln::Picture;
use serde_json::Value;

use super::common::{Ran, kiln, names};
use super::model;

const NAMES: [&str; 7] = ["a.png", "a.gif", "a.webp", "a.mp4", "a.webm", "a.y4m", "frames"];

fn walk(folder: &Path, more: &[&str]) -> Ran {
    let model = model("sd_turbo");
    let mut arguments = vec!["generate", "red", "--model", &model, "--interpolate", "7:42", "--frames", "3"];
    arguments.extend(more);
    kiln(folder, &arguments)
}

/// The frames of an animated PNG: red, green, blue and opacity.
pub(super) fn frames(path: &Path) -> Vec<Vec<u8>> {
    let decoder = PngDecoder::new(Cursor::new(fs::read(path).unwrap())).unwrap();
    let frames = decoder.apng().unwrap().into_frames().collect_frames().unwrap();
    frames.into_iter().map(|frame| frame.into_buffer().into_raw()).collect()
}

#[test]
fn each_format_says_what_made_it_and_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in NAMES {
        let format: &[&str] = if name == "frames" { &["--format", "frames"] } else { &[] };
        let ran = walk(path, &[&["-o", name][..], format].concat()).expect_code(0);
        assert_eq!((ran.text(), ran.stderr.as_str()), (format!("{name}\n").as_str(), ""));
        let made: Value = serde_json::from_str(kiln(path, &["show", name, "--json"]).expect_code(0).text()).unwrap();
        assert_eq!((&made["seed"], &made["walk"]["to"], &made["clip"]["frames"]), (&7.into(), &42.into(), &3.into()), "{name}");
        kiln(path, &["generate", "--from", name, "-o", "again.png"]).expect_code(0);
        assert_eq!(frames(&path.join("again.png")), frames(&path.join("a.png")), "{name}");
    }
    let all = ["a.gif", "a.mp4", "a.png", "a.webm", "a.webp", "a.y4m", "a.y4m.json", "again.png", "frames"];
    assert_eq!(names(path), all, "a record lies beside what holds none, and nothing else is left");
    assert_eq!(names(&path.join("frames")), ["0001.png", "0002.png", "0003.png", "clip.json"]);
    for (number, frame) in frames(&path.join("a.png")).iter().enumerate() {
        let file = path.join(format!("frames/{:04}.png", number + 1));
        assert_eq!(&Picture::open(&file).unwrap().with_opacity().pixels, frame);
    }
    walk(path, &["-o", "frames"]).refused(2, &["frames holds", "already; name another folder"]);
    walk(path, &["-o", "frames/b-%d.png"]).expect_code(0);
    let of_pattern: Vec<String> = names(&path.join("frames")).into_iter().filter(|name| name.starts_with("b-")).collect();
    assert_eq!(of_pattern, ["b-1.png", "b-2.png", "b-3.png", "b-clip.json"]);
    kiln(path, &["show", "frames/b-%d.png"]).expect_code(0);
    kiln(path, &["show", "missing"]).refused(2, &["missing is not readable"]);
}

#[test]
fn what_nobody_named_has_the_format_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    for (format, name) in [("webp", "red-7-to-42.webp"), ("frames", "red-7-to-42"), ("gif", "red-7-to-42.gif")] {
        assert_eq!(walk(folder.path(), &["--format", format]).expect_code(0).text(), format!("{name}\n"));
    }
    let model = model("progressive");
    let still = ["generate", "red", "--model", &model, "--steps", "2", "--seed", "7", "--format"];
    let ran = kiln(folder.path(), &[&still[..], &["webp"]].concat()).expect_code(0);
    assert_eq!(ran.text(), "red-7.webp\n");
    kiln(folder.path(), &[&still[..], &["jpg", "-o", "as-it-is"]].concat()).expect_code(0);
    assert!(fs::read(folder.path().join("as-it-is")).unwrap().starts_with(b"\xFF\xD8"));
    kiln(folder.path(), &[&still[..], &["mp4"]].concat())
        .refused(2, &["--format", "`mp4` is not written, expected png, jpg or webp"]);
}

#[test]
fn raw_video_goes_to_a_pipe_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let ran = walk(folder.path(), &["-o", "-", "--format", "y4m", "--fps", "30000/1001"]).expect_code(0);
    let line = ran.stdout.iter().position(|byte| *byte == b'\n').unwrap();
    let head = String::from_utf8(ran.stdout[..line].to_vec()).unwrap();
    assert!(head.starts_with("YUV4MPEG2 W") && head.contains(" F30000:1001 "), "{head}");
    let side = |letter: char| -> usize { head.split(' ').find_map(|word| word.strip_prefix(letter)).unwrap().parse().unwrap() };
    let frame = "FRAME\n".len() + side('W') * side('H') * 3 / 2;
    assert_eq!((ran.stdout.len(), ran.stderr.as_str()), (line + 1 + 3 * frame, ""));
    for format in ["webp", "mp4", "webm"] {
        walk(folder.path(), &["-o", "file", "--format", format]).expect_code(0);
        let sent = walk(folder.path(), &["-o", "-", "--format", format]).expect_code(0).stdout;
        // The record, with its times, stands at the end.
        let file = fs::read(folder.path().join("file")).unwrap();
        assert_eq!(sent[64..sent.len() / 4], file[64..sent.len() / 4], "{format}");
    }
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn each_wrong_wish_for_a_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--format", "mov"], &["--format", "`mov` is not written for clips, expected png, apng, gif, webp, mp4"]),
        (&["-o", "-", "--format", "frames"], &["numbered files do not fit into one stream", "use y4m"]),
        (&["-o", "%s.png"], &["has to hold one %d or %04d and end in .png"]),
        (&["-o", "a%03d.jpg"], &["has to hold one %d or %04d and end in .png"]),
        (&["-o", "missing/frames/"], &["output folder missing is missing; make it first"]),
        (&["-o", "a.mp4", "--background", "red"], &["--background", "is `red`, expected white, black or #rrggbb"]),
        (&["-o", "a.mkv"], &["a.mkv ends in .mkv, expected .png, .apng, .gif, .webp, .mp4, .webm, .y4m or a folder"]),
        (&["-o", "a.mp4", "--fps", "1/11"], &["plays 1/11 frames per second, expected 0.1 to 100"]),
        (&["-o", "-", "--json", "--format", "y4m"], &["--json and --output - would both go to standard output"]),
    ];
    for (more, parts) in cases {
        println!("{more:?}");
        let ran = walk(folder.path(), more).expect_code(2);
        for part in parts {
            assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
        }
    }
    assert!(names(folder.path()).is_empty());
}
