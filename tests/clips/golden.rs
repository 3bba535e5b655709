//! Every golden clip: the same bundle, prompt and seed give the frames that diffusers gives.
//!
//! A clip that differs is left under `tests/output/`, its frames below each other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use kiln::output::FrameRate;
use kiln::plan::TileChoice;
use kiln::request::SamplerChoice;
use kiln::{Engine, Memory, Picture, Request, Settings};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::common::reference::{self, floats, from_config, scheduler_config, tests_folder};
use super::{engine, film, golden};

#[derive(Deserialize)]
struct Case {
    name: String,
    bundle: String,
    task: String,
    prompt: String,
    negative: Option<String>,
    seed: u64,
    steps: usize,
    guidance: f32,
    width: u32,
    height: u32,
    frames: usize,
    strength: Option<f32>,
    input: Option<String>,
    clip: Option<String>,
    sampler: Option<SamplerCase>,
    frame_rate: Option<u32>,
    tiles: Option<[usize; 2]>,
    tolerance: u8,
    latent_tolerance: f32,
}

#[derive(Deserialize)]
struct SamplerCase {
    class: String,
    config: Map<String, Value>,
}

fn cases() -> Vec<Case> {
    reference::cases("clips")
}

/// The sampler as `from_config` of the named class makes it from the bundle's file.
fn sampler_choice(case: &Case) -> SamplerChoice {
    let Some(other) = &case.sampler else { return SamplerChoice::default() };
    let config = from_config(scheduler_config(&case.bundle).unwrap(), Some(&other.class), &other.config);
    SamplerChoice { config: Some(config), ..SamplerChoice::default() }
}

/// The first `count` frames of a clip.
fn taken(name: &str, count: usize) -> Arc<[Picture]> {
    let reader = kiln::output::ClipReader::open(&golden(name)).unwrap().unwrap();
    reader.take(count).collect::<anyhow::Result<Vec<_>>>().unwrap().into()
}

fn request(case: &Case) -> Request {
    Request {
        negative: case.negative.clone(),
        seed: Some(case.seed),
        steps: Some(case.steps),
        guidance: Some(case.guidance),
        size: Some((case.width, case.height)),
        frames: Some(case.frames),
        sampler: sampler_choice(case),
        input: case.input.as_ref().map(|name| Picture::open(&golden(name)).unwrap()),
        input_frames: case.clip.as_ref().map(|name| taken(name, case.frames)).unwrap_or_default(),
        strength: case.strength,
        frame_rate: case.frame_rate.map(|rate| FrameRate::whole(rate).unwrap()),
        // The cases run models beyond what they were distilled for, to test the arithmetic.
        force: true,
        ..Request::new(case.prompt.clone())
    }
}

/// Compares one case; returns what is wrong with it.
fn run_case(engine: &mut Engine, case: &Case, latents: &SafeTensors<'_>) -> Option<String> {
    let (sheet, made) = match film(engine, &request(case)) {
        Ok(made) => made,
        Err(error) => return Some(format!("{}: {error:#}", case.name)),
    };
    let expected = floats(latents, &case.name);
    assert_eq!(latents.tensor(&case.name).unwrap().shape()[1..], *made.latents.shape(), "{}", case.name);
    let apart = made.latents.iter().zip(&expected).map(|(left, right)| (left - right).abs()).fold(0.0_f32, f32::max);
    let picture = Picture::open(&golden(&format!("{}.png", case.name))).unwrap();
    assert_eq!((sheet.width, sheet.height), (picture.width, picture.height), "{}", case.name);
    let bytes = sheet.pixels.iter().zip(&picture.pixels).map(|(left, right)| left.abs_diff(*right)).max().unwrap();
    if bytes <= case.tolerance && apart <= case.latent_tolerance {
        return None;
    }
    let folder = tests_folder().join("output");
    fs::create_dir_all(&folder).unwrap();
    let target = kiln::output::Target::new(&folder.join(format!("{}.png", case.name)), None).unwrap();
    kiln::output::write(&sheet, None, &target).unwrap();
    Some(format!("{}: {bytes}/255 apart, latents {apart:e}", case.name))
}

#[test]
fn every_golden_clip_is_made_again() {
    let cases = cases();
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let latents = SafeTensors::deserialize(&bytes).unwrap();
    let mut engines: BTreeMap<(String, bool), Engine> = BTreeMap::new();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let tile = if case.tiles.is_some() { TileChoice::Frames } else { TileChoice::Auto };
        let settings = Settings { tile, ..Settings::default() };
        let key = (case.bundle.clone(), case.tiles.is_some());
        let engine = engines.entry(key).or_insert_with(|| engine(&case.bundle, &settings));
        wrong.extend(run_case(engine, case, &latents));
        *counts.entry((case.bundle.clone(), case.task.clone())).or_default() += 1;
    }
    println!("golden clips: {} cases, {counts:?}", cases.len());
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let bundles: BTreeSet<&str> = cases.iter().map(|case| case.bundle.as_str()).collect();
    assert_eq!((cases.len(), bundles.len()), (96, 6), "the cases in cases.json, and their bundles");
}

#[test]
fn low_memory_gives_the_same_clips() {
    let cases = cases();
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let latents = SafeTensors::deserialize(&bytes).unwrap();
    let names = [
        "animatediff_negative",
        "animatediff_long_12",
        "animatediff_picture_lightning",
        "animatediff_clip_many",
        "wan_negative",
        "wan_frames_17",
        "wan_i2v_negative",
        "wan_i2v_frames_17",
        "ltx_picture_negative",
        "ltx_distilled_frames_17",
    ];
    let settings = Settings { memory: Memory::Low, threads: Some(1), ..Settings::default() };
    let mut ran = 0;
    for case in cases.iter().filter(|case| names.contains(&case.name.as_str())) {
        assert_eq!(run_case(&mut engine(&case.bundle, &settings), case, &latents), None);
        ran += 1;
    }
    assert_eq!(ran, names.len());
}
