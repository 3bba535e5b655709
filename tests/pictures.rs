//! Every golden picture: the same bundle, prompt and seed give the picture that diffusers gives.
//!
//! The cases and how they were made: `tests/tools/README.md`. A picture that differs is left under `tests/output/` for the eye.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::BTreeMap;
use std::fs;

use kiln::request::SamplerChoice;
use kiln::{Cancel, Engine, Memory, Picture, Request, Settings, sampler};
use reference::{floats, from_config, golden, scheduler_config, tests_folder};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value};

#[path = "common/reference.rs"]
mod reference;

#[derive(Deserialize)]
struct Case {
    name: String,
    bundle: String,
    task: String,
    group: String,
    prompt: String,
    negative: Option<String>,
    seed: u64,
    steps: usize,
    guidance: f32,
    eta: f64,
    width: u32,
    height: u32,
    count: usize,
    strength: Option<f32>,
    input: Option<String>,
    mask: Option<String>,
    sampler: Option<SamplerCase>,
    tolerance: u8,
    latent_tolerance: f32,
    pictures: Vec<String>,
}

#[derive(Deserialize)]
struct SamplerCase {
    class: String,
    config: Map<String, Value>,
}

fn cases() -> Vec<Case> {
    reference::cases("pictures")
}

/// The sampler as `from_config` of the named class makes it from the bundle's file.
fn sampler_choice(case: &Case) -> SamplerChoice {
    let run = sampler::Run { eta: Some(case.eta), ..sampler::Run::default() };
    let Some(other) = &case.sampler else { return SamplerChoice { run, ..SamplerChoice::default() } };
    let config = from_config(scheduler_config(&case.bundle).unwrap(), Some(&other.class), &other.config);
    SamplerChoice { config: Some(config), run, ..SamplerChoice::default() }
}

fn request(case: &Case) -> Request {
    let picture = |name: &Option<String>| name.as_ref().map(|name| Picture::open(&golden("pictures", name)).unwrap());
    Request {
        prompt: case.prompt.clone(),
        negative: case.negative.clone(),
        plain_prompt: true,
        seed: Some(case.seed),
        steps: Some(case.steps),
        guidance: Some(case.guidance),
        size: Some((case.width, case.height)),
        count: case.count,
        sampler: sampler_choice(case),
        input: picture(&case.input),
        mask: picture(&case.mask),
        strength: case.strength,
        // The cases run models beyond what they were distilled for, to test the arithmetic.
        force: true,
        ..Request::default()
    }
}

fn largest_difference(left: &[u8], right: &[u8]) -> u8 {
    assert_eq!(left.len(), right.len());
    left.iter().zip(right).map(|(left, right)| left.abs_diff(*right)).max().unwrap_or(0)
}

/// Compares one case; returns what is wrong with it.
fn run_case(engine: &mut Engine, case: &Case, latents: &SafeTensors<'_>) -> Vec<String> {
    let made = match engine.generate(&request(case), &mut (), &Cancel::new()) {
        Ok(made) => made,
        Err(error) => return vec![format!("{}: {error:#}", case.name)],
    };
    // diffusers draws the latents of the input once for a list of seeds, Kiln for each: the first picture is the same.
    let compared = if case.group == "shared_draw" { 1 } else { case.count };
    assert_eq!(made.len(), case.pictures.len(), "{}", case.name);
    let expected = floats(latents, &case.name);
    let each = expected.len() / case.count;
    let mut wrong = Vec::new();
    for (index, made) in made.iter().enumerate().take(compared) {
        let expected = &expected[index * each..(index + 1) * each];
        assert_eq!(made.latents.len(), each, "{}", case.name);
        let apart = made.latents.iter().zip(expected).map(|(left, right)| (left - right).abs()).fold(0.0_f32, f32::max);
        let picture = Picture::open(&golden("pictures", &case.pictures[index])).unwrap();
        assert_eq!((made.picture.width, made.picture.height), (picture.width, picture.height), "{}", case.name);
        let bytes = largest_difference(&made.picture.pixels, &picture.pixels);
        if bytes > case.tolerance || apart.is_nan() || apart > case.latent_tolerance {
            let folder = tests_folder().join("output");
            fs::create_dir_all(&folder).unwrap();
            let target = kiln::output::Target::new(&folder.join(&case.pictures[index]), None).unwrap();
            kiln::output::write(&made.picture, Some(&made.provenance), &target).unwrap();
            wrong.push(format!("{} picture {index}: {bytes}/255 apart, latents {apart:e}", case.name));
        }
    }
    wrong
}

#[test]
fn every_golden_picture_is_made_again() {
    let cases = cases();
    let bytes = fs::read(golden("pictures", "latents.safetensors")).unwrap();
    let latents = SafeTensors::deserialize(&bytes).unwrap();
    let mut engines: BTreeMap<String, Engine> = BTreeMap::new();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let engine = engines.entry(case.bundle.clone()).or_insert_with(|| {
            Engine::open(&tests_folder().join("bundles").join(&case.bundle), &Settings::default(), None).unwrap()
        });
        wrong.extend(run_case(engine, case, &latents));
        *counts.entry(case.task.clone()).or_default() += 1;
    }
    println!("golden pictures: {} cases, {counts:?}", cases.len());
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(cases.len(), 241, "the number of cases in cases.json");
    assert_eq!(engines.len(), 18, "the number of bundles");
}

#[test]
fn low_memory_gives_the_same_pictures() {
    let cases = cases();
    let bytes = fs::read(golden("pictures", "latents.safetensors")).unwrap();
    let latents = SafeTensors::deserialize(&bytes).unwrap();
    let names = ["sd", "sd_negative", "sd_count", "sdxl_negative", "sd_img2img_75", "sd_inpaint_nine_60", "lcm", "sd_external"];
    let settings = Settings { memory: Memory::Low, threads: Some(1), ..Settings::default() };
    let mut ran = 0;
    for case in cases.iter().filter(|case| names.contains(&case.name.as_str())) {
        let mut engine = Engine::open(&tests_folder().join("bundles").join(&case.bundle), &settings, None).unwrap();
        let wrong = run_case(&mut engine, case, &latents);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        ran += 1;
    }
    assert_eq!(ran, names.len());
}
