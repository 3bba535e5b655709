//! The clip model in the box: the frames that diffusers' scheduler and ONNX Runtime give, and what a clip of it must keep to.
//!
//! The cases and how they were made: `tests/tools/README.md`.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fs;
use std::path::{Path, PathBuf};

use kiln::{Cancel, Engine, GeneratedClip, Picture, Request, Settings};
use ndarray::{ArrayD, Axis, Slice};
use safetensors::SafeTensors;
use serde::Deserialize;

#[path = "common/reference.rs"]
mod reference;

/// Channels of the latents that hold the thing; those after them hold how it stands.
const THING: usize = 16;

#[derive(Deserialize)]
struct Case {
    name: String,
    prompt: String,
    seed: u64,
    steps: usize,
    frames: usize,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn golden(name: &str) -> PathBuf {
    reference::golden("motion", name)
}

fn engine() -> Engine {
    Engine::open(&root().join("models/sticker-motion"), &Settings::default(), None).unwrap()
}

fn request(prompt: &str, seed: u64, steps: usize, frames: usize) -> Request {
    Request { seed: Some(seed), steps: Some(steps), frames: Some(frames), ..Request::new(prompt) }
}

fn film(engine: &mut Engine, request: &Request) -> (Vec<Picture>, GeneratedClip) {
    let mut frames = Vec::new();
    let sink = |frame: Picture| {
        frames.push(frame);
        Ok(())
    };
    let made = engine.generate_clip(request, sink, &mut (), &Cancel::new()).unwrap();
    (frames, made)
}

/// The largest difference of opacity, and of colour as far as it is seen, in 255ths.
fn apart(left: &[u8], right: &[u8]) -> f32 {
    let seen = |pixel: &[u8], channel: usize| match channel {
        3 => f32::from(pixel[3]),
        _ => f32::from(pixel[channel]) * f32::from(pixel[3]) / 255.0,
    };
    let pixels = left.chunks_exact(4).zip(right.chunks_exact(4));
    pixels
        .flat_map(|(left, right)| (0..4).map(move |channel| (seen(left, channel) - seen(right, channel)).abs()))
        .fold(0.0, f32::max)
}

fn largest(left: &ArrayD<f32>, right: &ArrayD<f32>) -> f32 {
    assert_eq!(left.shape(), right.shape());
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

/// Frames of latents `[C, F, h, w]` in which the thing, or how it stands, is told.
fn channels(latents: &ArrayD<f32>, of_thing: bool) -> ArrayD<f32> {
    let slice = if of_thing { Slice::from(..THING) } else { Slice::from(THING..) };
    latents.slice_axis(Axis(0), slice).to_owned()
}

#[test]
fn every_golden_clip_is_made_again() {
    let cases: Vec<Case> = reference::cases("motion");
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let latents = SafeTensors::deserialize(&bytes).unwrap();
    let mut engine = engine();
    for case in &cases {
        let (frames, made) = film(&mut engine, &request(&case.prompt, case.seed, case.steps, case.frames));
        let tensor = latents.tensor(&case.name).unwrap();
        let expected = ArrayD::from_shape_vec(tensor.shape(), reference::floats(&latents, &case.name)).unwrap();
        let off = largest(&made.latents, &expected);
        assert!(off < 1e-3, "{}: latents {off:e} apart", case.name);
        let picture = Picture::open(&golden(&format!("{}.png", case.name))).unwrap();
        let pixels: Vec<u8> = frames.iter().flat_map(|frame| frame.pixels.clone()).collect();
        assert_eq!((frames.len(), pixels.len()), (case.frames, picture.pixels.len()), "{}", case.name);
        let off = apart(&pixels, &picture.pixels);
        assert!(off <= 1.0, "{}: {off}/255 apart", case.name);
    }
    assert_eq!(cases.len(), 7, "the cases in cases.json");
}

#[test]
fn a_motion_changes_how_a_thing_stands_and_nothing_else() {
    let mut engine = engine();
    let mut latents = |prompt: &str| film(&mut engine, &request(prompt, 4, 2, 4)).1.latents;
    // A word's place counts, so another word that says nothing holds the place of the motion's.
    let pairs = [
        ("a spinning cat", "a sticker cat"),
        ("a cat that hops", "a cat"),
        ("Rippling cat", "A cat"),
        ("a wobbly, growing cat", "a picture of cat"),
        ("a cat, drifting", "a cat"),
        ("a cat blinks", "a cat"),
    ];
    for (prompt, without) in pairs {
        let (moved, plain) = (latents(prompt), latents(without));
        assert_eq!(largest(&channels(&plain, true), &channels(&moved, true)), 0.0, "{prompt}: the same cat");
        assert!(largest(&channels(&plain, false), &channels(&moved, false)) > 0.05, "{prompt}: moves otherwise");
    }
    let (face, plain) = (latents("a winking face"), latents("a cat"));
    // A word that a sticker's name needs is no motion.
    assert!(largest(&channels(&plain, false), &channels(&face, false)) < 1e-4, "a winking face breathes as a cat does");
}

#[test]
fn frames_are_spread_over_one_loop_however_many_there_are() {
    let mut engine = engine();
    let few = channels(&film(&mut engine, &request("a spinning pizza", 9, 1, 3)).1.latents, false);
    let many = channels(&film(&mut engine, &request("a spinning pizza", 9, 1, 36)).1.latents, false);
    for frame in 0..3 {
        let same = many.index_axis(Axis(1), 12 * frame).to_owned();
        assert!(
            largest(&few.index_axis(Axis(1), frame).to_owned(), &same) < 1e-4,
            "frame {frame} of 3 is frame {} of 36",
            12 * frame
        );
    }
    let step = |frame: usize| {
        let next = (frame + 1) % 36;
        largest(&many.index_axis(Axis(1), frame).to_owned(), &many.index_axis(Axis(1), next).to_owned())
    };
    let usual = (0..35).map(step).fold(0.0, f32::max);
    assert!(step(35) <= 1.1 * usual, "the last frame leads on to the first: {} beside {usual}", step(35));
}
