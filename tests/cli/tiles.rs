//! `--tile`: pictures decoded in tiles because somebody asks for it, or because the memory runs out.

use std::process::Command;

use super::common::{names, run};
use super::{common, generate, model};

/// `kiln generate` under a limit of the address space, as `ulimit -v` sets it.
#[cfg(unix)]
fn generate_within(folder: &std::path::Path, kibibytes: u32, arguments: &[&str]) -> common::Ran {
    let mut shell = Command::new("sh");
    shell.current_dir(folder).env_remove("RUST_LOG").env_remove("KILN_MODELS").stdin(std::process::Stdio::null());
    // With threads that wait for each other glibc sets aside address space for each, and how much is chance.
    shell.env("MALLOC_ARENA_MAX", "1");
    let script = format!("ulimit -v {kibibytes} && exec \"$@\"");
    run(shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_kiln"), "generate"]).args(arguments))
}

fn recorded(folder: &std::path::Path, name: &str) -> kiln::Provenance {
    kiln::output::read(&folder.join(name)).unwrap().1.unwrap()
}

/// The pixels of each frame of a clip.
#[cfg(target_os = "linux")]
fn frames(folder: &std::path::Path, name: &str) -> Vec<Vec<u8>> {
    let reader = kiln::output::ClipReader::open(&folder.join(name)).unwrap().unwrap();
    reader.map(|frame| frame.unwrap().pixels).collect()
}

/// Has a decoder run out of memory under a limit of `kibibytes`, with networks that stay and with those that are dropped, and makes the same
/// in tiles without one; returns the three files' names, the last of which was not short of memory.
#[cfg(target_os = "linux")]
fn out_of_memory_and_in_tiles(here: &std::path::Path, kibibytes: u32, arguments: &[&str]) -> [&'static str; 3] {
    for (memory, name) in [("normal", "normal.png"), ("low", "low.png")] {
        let more = ["--memory", memory, "--output", name];
        let ran = generate_within(here, kibibytes, &[arguments, &more[..]].concat()).expect_code(0);
        assert!(ran.stderr.contains("the latents are kept, and decoded again in tiles of 192x192 pixels"), "{}", ran.stderr);
        let made = recorded(here, name);
        assert_eq!((made.tile, made.ran_out_of_memory), (Some(192), true), "{memory}");
    }
    let more = ["--tile", "192", "--output", "asked.png"];
    common::kiln(here, &[&["generate"][..], arguments, &more[..]].concat()).expect_code(0);
    assert!(!recorded(here, "asked.png").ran_out_of_memory);
    ["normal.png", "low.png", "asked.png"]
}

#[test]
fn tiles_that_are_asked_for_are_recorded_and_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    generate(here, "sd_turbo", &["--size", "128x96", "--output", "whole.png"]).expect_code(0);
    generate(here, "sd_turbo", &["--size", "128x96", "--tile", "64", "--output", "tiled.png"]).expect_code(0);
    common::kiln(here, &["generate", "--from", "tiled.png", "--output", "again.png"]).expect_code(0);
    generate(here, "sd_turbo", &["--size", "128x96", "--tile", "128", "--output", "within.png"]).expect_code(0);
    let pixels = |name: &str| kiln::Picture::open(&here.join(name)).unwrap().pixels;
    assert_eq!(recorded(here, "tiled.png").tile, Some(64));
    assert_eq!(pixels("tiled.png"), pixels("again.png"), "--from decodes in the same tiles");
    assert_ne!(pixels("tiled.png"), pixels("whole.png"));
    assert_eq!(recorded(here, "whole.png").tile, None);
    assert_eq!(recorded(here, "within.png").tile, None, "a picture within one tile is decoded whole");
    assert_eq!(pixels("within.png"), pixels("whole.png"));
}

#[test]
fn tiles_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &str, &[&str]); 7] = [
        ("sd_turbo", "0", &["tile: is 0, expected a multiple of 16 pixels from 32 on; the nearest is 32"]),
        ("sd_turbo", "16", &["the nearest is 32"]),
        ("sd_turbo", "100", &["the nearest is 96"]),
        ("sd_turbo", "4294967295", &["tile: is 4294967295"]),
        ("sd_turbo", "64px", &["expected auto, off, frames, a side in pixels"]),
        ("sd_turbo", "", &["expected auto, off, frames, a side in pixels"]),
        ("gan", "64", &["tile: model gan has no decoder of latents; leave it out"]),
    ];
    for (name, tile, parts) in cases {
        let ran = common::kiln(folder.path(), &["generate", "--model", &model(name), "--tile", tile, "red"]).expect_code(2);
        for part in parts {
            assert!(ran.stderr.contains(part), "{name} {tile}: {:?} lacks {part:?}", ran.stderr);
        }
    }
    assert!(names(folder.path()).is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_decoder_that_runs_out_of_memory_keeps_the_latents_and_is_tried_again_in_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = model("sdxl_turbo");
    // The decoder's attention wants 324 MiB twice for the whole picture; the denoiser, whose attention lies a level lower, does with less.
    let arguments = ["a red apple", "--seed", "7", "--model", &model, "--size", "384x384", "--threads", "1"];
    let [normal, low, asked] = out_of_memory_and_in_tiles(here, 550 << 10, &arguments);
    let pixels = |name: &str| kiln::Picture::open(&here.join(name)).unwrap().pixels;
    assert_eq!(pixels(normal), pixels(asked), "the latents were the same");
    assert_eq!(pixels(low), pixels(asked));
}

#[cfg(target_os = "linux")]
#[test]
fn a_decoder_of_clips_that_runs_out_of_memory_begins_again_in_tiles() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = model("wan");
    // The decoder's attention wants 324 MiB twice, at the side of the latents; the transformer's patches are four latents each.
    let arguments = ["a red apple", "--seed", "7", "--model", &model, "--size", "384x384", "--threads", "1", "--steps", "1"];
    let arguments = [&arguments[..], &["--frames", "5", "--guidance", "1", "--force"]].concat();
    let [normal, low, asked] = out_of_memory_and_in_tiles(here, 700 << 10, &arguments);
    let asked = frames(here, asked);
    assert_eq!(asked.len(), 5);
    assert!(
        frames(here, normal) == asked && frames(here, low) == asked,
        "the latents were the same, and no frame was written twice"
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_decoder_that_sees_a_clip_whole_and_runs_out_of_memory_takes_tiles_of_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = model("ltx_distilled");
    // The decoder wants more than 200 MiB for all frames; the transformer sees few tokens.
    let arguments = ["a red apple", "--seed", "7", "--model", &model, "--size", "160x160", "--frames", "161", "--threads", "1"];
    let more = ["--tile", "frames", "--output", "asked.png"];
    common::kiln(here, &[&["generate"][..], &arguments, &more[..]].concat()).expect_code(0);
    let asked = frames(here, "asked.png");
    assert_eq!((asked.len(), recorded(here, "asked.png").ran_out_of_memory), (161, false));
    let more = ["--tile", "off", "--output", "whole.png"];
    let ran = generate_within(here, 330 << 10, &[&arguments[..], &more[..]].concat()).expect_code(0);
    assert!(ran.stderr.contains("the latents are kept, and decoded again in tiles of 16 frames"), "{}", ran.stderr);
    let made = recorded(here, "whole.png");
    assert_eq!((made.clip_tiles, made.tile, made.ran_out_of_memory), (true, None, true));
    assert!(frames(here, "whole.png") == asked, "the latents were the same, and no frame was written twice");
}
