//! Every golden case of the small families: pictures, latents, walks, inversions and likelihoods as the PyTorch reference has them.
//!
//! The cases and how they were made: `tests/tools/README.md`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a helper that fails fails its test, and says how far it was off")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use kiln::lineage::{RealPictures, judged};
use kiln::request::{SamplerChoice, StyleMix, Walk};
use kiln::runtime::{Network, NetworkOptions, Runtime, Tensor};
use kiln::{Cancel, Engine, Picture, Request, Settings, sampler};
use ndarray::{ArrayD, Axis};
use reference::{floats, from_config, scheduler_config, tests_folder};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value};

#[path = "common/reference.rs"]
mod reference;

/// How far arrays may lie apart, as a share of the largest value: after one pass, and after a loop.
const ONE_PASS: f32 = 1e-4;
const LOOP: f32 = 1e-3;
/// Pictures, in steps of a byte.
const PICTURE: u8 = 1;
/// Nats of a likelihood by one pass, of some hundreds.
const NATS: f64 = 0.01;
/// Nats of a likelihood along an ODE, by differences instead of derivatives.
const NATS_ALONG: f64 = 0.1;
/// Asked of the solver that chooses its own steps.
const SOLVER: f32 = 1e-6;
/// The same for likelihoods: at the tolerance that a person gets the solver's own error is several times what differences lose, and
/// hangs on how a processor rounds.
const LIKELIHOOD_SOLVER: f32 = 1e-5;

#[derive(Deserialize)]
struct Case {
    name: String,
    bundle: String,
    task: String,
    prompt: String,
    seed: u64,
    count: usize,
    steps: Option<usize>,
    sampler: Option<SamplerCase>,
    solver: Option<String>,
    guidance: f32,
    eta: Option<f64>,
    temperature: Option<f32>,
    truncation: Option<f32>,
    style_mix: Option<Mix>,
    walk: Option<WalkCase>,
    input: Option<String>,
    samples: usize,
    arrays: Vec<String>,
    numbers: Map<String, Value>,
}

#[derive(Deserialize)]
struct SamplerCase {
    choice: Option<String>,
    class: Option<String>,
    #[serde(default)]
    config: Map<String, Value>,
}

#[derive(Deserialize)]
struct Mix {
    seed: u64,
    from_layer: usize,
}

#[derive(Deserialize)]
struct WalkCase {
    to: u64,
    frames: usize,
}

fn golden(file: &str) -> PathBuf {
    reference::golden("families", file)
}

fn cases(bundle: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = reference::cases("families");
    cases.retain(|case| case.bundle == bundle);
    cases
}

/// A solver, a sampler by name, or the sampler as `from_config` of the named class makes it from the bundle's file.
fn sampler_choice(case: &Case) -> SamplerChoice {
    let run = sampler::Run { eta: case.eta, ..sampler::Run::default() };
    if let Some(solver) = &case.solver {
        let tolerance = (solver == "dopri5").then_some(SOLVER);
        return SamplerChoice { method: Some(solver.parse().unwrap()), tolerance, run, ..SamplerChoice::default() };
    }
    let Some(other) = &case.sampler else { return SamplerChoice { run, ..SamplerChoice::default() } };
    if let Some(choice) = &other.choice {
        return SamplerChoice { run, ..SamplerChoice::named(choice).unwrap() };
    }
    let base = scheduler_config(&case.bundle).unwrap_or_default();
    let config = from_config(base, other.class.as_deref(), &other.config);
    SamplerChoice { config: Some(config), run, ..SamplerChoice::default() }
}

fn request(case: &Case) -> Request {
    Request {
        prompt: case.prompt.clone(),
        seed: Some(case.seed),
        steps: case.steps,
        guidance: Some(case.guidance),
        count: case.count,
        sampler: sampler_choice(case),
        truncation: case.truncation,
        style_mix: case.style_mix.as_ref().map(|mix| StyleMix { seed: mix.seed, from_layer: Some(mix.from_layer) }),
        temperature: case.temperature,
        walk: case.walk.as_ref().map(|walk| Walk::new(walk.to, walk.frames).unwrap()),
        samples: Some(case.samples),
        ..Request::default()
    }
}

/// A golden array, and the values of one entry of its first axis.
struct Golden {
    values: Vec<f32>,
    shape: Vec<usize>,
}

impl Golden {
    fn read(arrays: &SafeTensors<'_>, name: &str) -> Self {
        let tensor = arrays.tensor(name).unwrap();
        Self { values: floats(arrays, name), shape: tensor.shape().to_vec() }
    }

    fn row(&self, index: usize) -> &[f32] {
        let each = self.values.len() / self.shape[0];
        &self.values[index * each..(index + 1) * each]
    }

    /// The bytes of picture `index`, `[H, W, C]`.
    fn bytes(&self, index: usize) -> Vec<u8> {
        let (row, plane) = (self.row(index), self.shape[2] * self.shape[3]);
        let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round() as u8;
        (0..plane).flat_map(|at| (0..self.shape[1]).map(move |channel| byte(row[channel * plane + at]))).collect()
    }
}

/// What is the most that was found apart, and what was too far.
#[derive(Default)]
struct Outcome {
    bytes: u8,
    arrays: f32,
    nats: f64,
    wrong: Vec<String>,
}

impl Outcome {
    fn picture(&mut self, what: &str, found: &[u8], expected: &[u8]) {
        if found.len() != expected.len() {
            self.wrong.push(format!("{what}: {} bytes, expected {}", found.len(), expected.len()));
            return;
        }
        let apart = found.iter().zip(expected).map(|(left, right)| left.abs_diff(*right)).max().unwrap_or(0);
        self.bytes = self.bytes.max(apart);
        if apart > PICTURE {
            self.wrong.push(format!("{what}: the picture is {apart}/255 apart"));
        }
    }

    fn array(&mut self, what: &str, found: &ArrayD<f32>, expected: &[f32], allowed: f32) {
        if found.len() != expected.len() {
            self.wrong.push(format!("{what}: {} values, expected {}", found.len(), expected.len()));
            return;
        }
        let largest = expected.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
        let apart = found.iter().zip(expected).map(|(left, right)| (left - right).abs()).fold(0.0_f32, f32::max) / largest;
        self.arrays = self.arrays.max(apart);
        if apart.is_nan() || apart > allowed {
            self.wrong.push(format!("{what}: {apart:e} apart, of {largest}"));
        }
    }

    fn number(&mut self, what: &str, found: f64, expected: &Value, allowed: f64) {
        let expected = expected.as_f64().unwrap();
        let apart = (found - expected).abs();
        self.nats = self.nats.max(apart);
        if apart.is_nan() || apart > allowed {
            self.wrong.push(format!("{what}: {found}, expected {expected}"));
        }
    }
}

fn sample(engine: &mut Engine, case: &Case, arrays: &SafeTensors<'_>, outcome: &mut Outcome) {
    let made = match engine.generate(&request(case), &mut (), &Cancel::new()) {
        Ok(made) => made,
        Err(error) => return outcome.wrong.push(format!("{}: {error:#}", case.name)),
    };
    let samples = Golden::read(arrays, &case.name);
    // Families of one pass hand back the latent; of the others the latent is the picture.
    let (latents, allowed) = match case.arrays.iter().find(|name| name.ends_with(".latent")) {
        Some(name) => (Golden::read(arrays, name), ONE_PASS),
        None => (Golden::read(arrays, &case.name), LOOP),
    };
    assert_eq!(made.len(), samples.shape[0], "{}", case.name);
    for (index, made) in made.iter().enumerate() {
        let what = format!("{} picture {index}", case.name);
        outcome.picture(&what, &made.picture.pixels, &samples.bytes(index));
        outcome.array(&what, &made.latents, latents.row(index), allowed);
    }
}

fn invert(engine: &mut Engine, case: &Case, arrays: &SafeTensors<'_>, outcome: &mut Outcome) {
    let input = Picture::open(&golden(case.input.as_ref().unwrap())).unwrap();
    let found = match engine.invert(&request(case), &input, &mut (), &Cancel::new()) {
        Ok(found) => found,
        Err(error) => return outcome.wrong.push(format!("{}: {error:#}", case.name)),
    };
    let is_loop = case.solver.is_some() || case.sampler.is_some();
    let allowed = if is_loop { LOOP } else { ONE_PASS };
    outcome.array(&case.name, &found.again, Golden::read(arrays, &case.name).row(0), allowed);
    let latent = format!("{}.latent", case.name);
    outcome.array(&latent, &found.latent, Golden::read(arrays, &latent).row(0), allowed);
}

fn likelihood(engine: &mut Engine, case: &Case, outcome: &mut Outcome) {
    let input = Picture::open(&golden(case.input.as_ref().unwrap())).unwrap();
    let mut request = request(case);
    if engine.bundle().family.is_integrated() {
        request.sampler.tolerance.get_or_insert(LIKELIHOOD_SOLVER);
    }
    let found = match engine.likelihood(&request, &input, &mut (), &Cancel::new()) {
        Ok(found) => found,
        Err(error) => return outcome.wrong.push(format!("{}: {error:#}", case.name)),
    };
    let allowed = if engine.bundle().family.is_integrated() { NATS_ALONG } else { NATS };
    // Where the reference has the exact trace, it says as well what the same probes make of it.
    let (nats, bits) = (&case.numbers["nats"], &case.numbers["bits_per_dimension"]);
    outcome.number(&case.name, found.nats, case.numbers.get("nats_of_probes").unwrap_or(nats), allowed);
    let (bits, nats) = (bits.as_f64().unwrap(), nats.as_f64().unwrap());
    let expected = 7.0 + (bits - 7.0) * found.nats / nats;
    outcome.number(&format!("{} in bits", case.name), found.bits_per_dimension, &expected.into(), 1e-6);
}

/// The bundles and how many cases each has; each is run by a test below.
const CASES: [(&str, usize); 11] = [
    ("vae", 10),
    ("gan", 10),
    ("flow", 7),
    ("cnf", 21),
    ("cnf_gaussian", 6),
    ("score", 20),
    ("score_gaussian", 2),
    ("ddpm", 18),
    ("progressive", 6),
    ("consistency", 3),
    ("consistency_cm", 3),
];

/// Runs every case of a bundle.
fn run(bundle: &str) {
    let expected_cases = CASES.iter().find(|(name, _)| *name == bundle).unwrap().1;
    let bytes = fs::read(golden("arrays.safetensors")).unwrap();
    let arrays = SafeTensors::deserialize(&bytes).unwrap();
    let mut engine = Engine::open(&tests_folder().join("bundles").join(bundle), &Settings::default(), None).unwrap();
    let cases = cases(bundle);
    let mut outcome = Outcome::default();
    for case in &cases {
        match case.task.as_str() {
            "sample" => sample(&mut engine, case, &arrays, &mut outcome),
            "invert" => invert(&mut engine, case, &arrays, &mut outcome),
            "likelihood" => likelihood(&mut engine, case, &mut outcome),
            other => outcome.wrong.push(format!("{}: the task `{other}` is not known", case.name)),
        }
    }
    println!(
        "{bundle}: {} cases, at most {}/255, {:.1e} of arrays, {:.1e} nats",
        cases.len(),
        outcome.bytes,
        outcome.arrays,
        outcome.nats
    );
    assert!(outcome.wrong.is_empty(), "{} wrong in {} cases:\n{}", outcome.wrong.len(), cases.len(), outcome.wrong.join("\n"));
    assert_eq!(cases.len(), expected_cases, "the number of cases of {bundle} in cases.json");
}

#[test]
fn every_case_is_run() {
    let all: Vec<Case> = reference::cases("families");
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for case in &all {
        *found.entry(&case.bundle).or_default() += 1;
    }
    assert_eq!(found, CASES.into_iter().chain([("judge", 2)]).collect());
}

#[test]
fn the_judge_sees_what_the_reference_sees() {
    let bytes = fs::read(golden("arrays.safetensors")).unwrap();
    let arrays = SafeTensors::deserialize(&bytes).unwrap();
    let bundles = tests_folder().join("bundles");
    let options = NetworkOptions::default();
    let (cancel, path) = (Cancel::new(), bundles.join("judge/model.onnx"));
    let mut network = Network::open(&Runtime::open(None).unwrap(), &path, &options, &cancel).unwrap();
    let real = RealPictures::open(&bundles.join("real")).unwrap();
    let cases = cases("judge");
    let mut outcome = Outcome::default();
    for case in &cases {
        let pictures = match case.input.as_deref() {
            Some("sheet") => [real.held_out.clone(), real.training.clone()].concat(),
            input => vec![Picture::open(&golden(input.unwrap())).unwrap()],
        };
        let expected = Golden::read(&arrays, &case.name);
        assert_eq!(pictures.len(), expected.shape[0], "{}", case.name);
        for (index, picture) in pictures.iter().enumerate() {
            let sample = Tensor::Float(judged(picture, picture.width, 64).unwrap().insert_axis(Axis(0)).into_dyn());
            let features = network.run(&[("sample", &sample)], &["features"], &cancel).unwrap().remove(0);
            outcome.array(&format!("{} picture {index}", case.name), &features, expected.row(index), ONE_PASS);
        }
    }
    println!("judge: {} cases, {:.1e} of arrays", cases.len(), outcome.arrays);
    assert!(outcome.wrong.is_empty(), "{}", outcome.wrong.join("\n"));
    assert_eq!(cases.len(), 2);
}

#[test]
fn the_autoencoder_agrees_with_the_reference() {
    run("vae");
}

#[test]
fn the_style_based_generator_agrees_with_the_reference() {
    run("gan");
}

#[test]
fn the_normalizing_flow_agrees_with_the_reference() {
    run("flow");
}

#[test]
fn the_continuous_flow_agrees_with_the_reference() {
    run("cnf");
}

#[test]
fn the_continuous_flow_of_normal_data_agrees_with_the_closed_form() {
    run("cnf_gaussian");
}

#[test]
fn the_score_network_agrees_with_the_reference() {
    run("score");
}

#[test]
fn the_score_of_normal_data_agrees_with_the_closed_form() {
    run("score_gaussian");
}

#[test]
fn diffusion_of_pixels_agrees_with_the_reference() {
    run("ddpm");
}

#[test]
fn progressive_distillation_agrees_with_the_reference() {
    run("progressive");
}

#[test]
fn consistency_models_agree_with_the_reference() {
    run("consistency");
    run("consistency_cm");
}
