//! Samplers against diffusers' schedulers, and what must hold of any sampler.
//!
//! `tests/golden/samplers` was written by `tests/tools/make_samplers.py` with diffusers 0.36.0, torch 2.9.1, numpy 2.4.6 and
//! scipy 1.17.1; that script's head says how the stand-in for the network computes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use kiln::sampler::{Choice, Config, Kind, Prediction, Run, Sampler, SigmaSchedule, Spacing};
use ndarray::{ArrayD, Axis, IxDyn};
use proptest::prelude::*;
use safetensors::SafeTensors;
use serde_json::{Value, json};

/// For one step from the reference's own sample, relative to 1 + the expected value.
const STEP: f32 = 1e-5;
/// For a whole loop, relative to 1 + the expected value.
const LOOP: f32 = 1e-4;
/// For noise levels and the start of the loop, relative to the expected value.
const SIGMA: f32 = 1e-6;
/// For timesteps between two whole ones.
const TIMESTEP: f32 = 1e-4;

struct Golden {
    counts: BTreeMap<String, usize>,
    cases: Vec<Value>,
    tensors: BTreeMap<String, ArrayD<f32>>,
}

impl Golden {
    fn load() -> Self {
        let folder = golden();
        let mut file: Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
        let bytes = std::fs::read(folder.join("loops.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes)
            .unwrap()
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let values = view.data().chunks_exact(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect();
                (name, ArrayD::from_shape_vec(IxDyn(view.shape()), values).unwrap())
            })
            .collect();
        Self {
            counts: serde_json::from_value(file["counts"].take()).unwrap(),
            cases: serde_json::from_value(file["cases"].take()).unwrap(),
            tensors,
        }
    }

    /// One tensor of the bank of noise, cut to `shape`.
    fn noise(&self, row: usize, shape: &[usize]) -> ArrayD<f32> {
        let count = shape.iter().product();
        let row = self.tensors["bank"].index_axis(Axis(0), row);
        ArrayD::from_shape_vec(IxDyn(shape), row.iter().take(count).copied().collect()).unwrap()
    }

    /// The `given`-th tensor that the reference drew in a case.
    fn draw(&self, given: usize, shape: &[usize]) -> ArrayD<f32> {
        let rows = self.tensors["bank"].shape()[0];
        self.noise(2 + given % (rows - 2), shape)
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/samplers")
}

fn floats(value: &Value) -> Option<Vec<f32>> {
    value.as_array().map(|items| items.iter().map(|item| item.as_f64().unwrap() as f32).collect())
}

fn size(value: &Value) -> Option<usize> {
    value.as_u64().map(|number| usize::try_from(number).unwrap())
}

fn run_of(value: &Value) -> Run {
    Run {
        steps: size(&value["steps"]).unwrap_or(0),
        timesteps: floats(&value["timesteps"]),
        sigmas: floats(&value["sigmas"]),
        original_steps: size(&value["original_steps"]),
        strength: value["strength"].as_f64(),
        mu: value["mu"].as_f64(),
        image_sequence_length: size(&value["image_sequence_length"]),
        eta: value["eta"].as_f64(),
        spacing: value["spacing"].as_str().map(|word| word.parse().unwrap()),
        shift: value["shift"].as_f64(),
        sigma_schedule: value["sigma_schedule"].as_str().map(|word| word.parse().unwrap()),
    }
}

/// The configuration of a case, after the conversion to another sampler if it asks for one.
fn config_of(case: &Value) -> Result<Config> {
    let mut config = Config::from_json(&case["config"])?;
    if let Some(choice) = case["choice"].as_str() {
        config = config.with_choice(choice.parse::<Choice>()?)?;
    }
    if let Some(class) = case["to"].as_str() {
        config = config.with_kind(Kind::from_class_name(class)?)?;
    }
    Ok(config)
}

/// The kind that a case is counted under, whether or not it can be built.
fn kind_of(case: &Value) -> Kind {
    if let Some(choice) = case["choice"].as_str() {
        return choice.parse::<Choice>().unwrap().kind;
    }
    let class = case["to"].as_str().unwrap_or_else(|| case["config"]["_class_name"].as_str().unwrap());
    Kind::from_class_name(class).unwrap()
}

/// The stand-in for the network.
fn denoise(scaled: &ArrayD<f32>, timestep: f32, variance: Option<&str>) -> ArrayD<f32> {
    let count: usize = scaled.shape()[1..].iter().product();
    let bias = |position: usize| (((7 * (position % count)) % 11) as f64 - 5.0) / 11.0;
    let bias = ArrayD::from_shape_vec(IxDyn(scaled.shape()), (0..scaled.len()).map(|at| bias(at) as f32).collect()).unwrap();
    let weight = 0.25 * (1.0 + timestep / (timestep.abs() + 500.0));
    let prediction = scaled * 0.5 + &bias * weight;
    let half = match variance {
        Some("learned") => bias * 0.1 + 0.25,
        Some("learned_range") => bias * 0.5,
        _ => return prediction,
    };
    ndarray::concatenate(Axis(1), &[prediction.view(), half.view()]).unwrap()
}

/// The largest difference, each relative to 1 + the expected value.
fn difference(found: &ArrayD<f32>, expected: &ArrayD<f32>) -> f32 {
    assert_eq!(found.shape(), expected.shape());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs() / (1.0 + expected.abs())).fold(
        0.0,
        |most, value| {
            if value.is_nan() { f32::INFINITY } else { most.max(value) }
        },
    )
}

#[derive(Default)]
struct Errors {
    cases: usize,
    refused: usize,
    step: f32,
    whole: f32,
    sigma: f32,
    timestep: f32,
}

/// Runs one case against its recorded loop.
fn follow(golden: &Golden, number: usize, case: &Value, errors: &mut Errors) -> Result<()> {
    let (config, run) = (config_of(case)?, run_of(&case["run"]));
    let mut sampler = config.build(&run)?;

    let (found, expected) = (sampler.timesteps(), floats(&case["timesteps"]).unwrap());
    let distance = farthest(found, &expected)?;
    let is_exact = found.iter().zip(&expected).all(|(found, expected)| expected.fract() != 0.0 || found == expected);
    ensure!(is_exact && distance <= TIMESTEP, "timesteps {found:?} for {expected:?}");
    errors.timestep = errors.timestep.max(distance);

    let (found, expected) = (sampler.sigmas(), floats(&case["sigmas"]));
    ensure!(found.is_some() == expected.is_some(), "sigmas {found:?} for {expected:?}");
    if let (Some(found), Some(expected)) = (found, expected) {
        farthest(found, &expected)?;
        for (found, expected) in found.iter().zip(&expected) {
            let error = if found == expected { 0.0 } else { (found - expected).abs() / expected.abs() };
            ensure!(error <= SIGMA, "sigma {found} for {expected}");
            errors.sigma = errors.sigma.max(error);
        }
    }
    let initial = case["init_noise_sigma"].as_f64().unwrap() as f32;
    ensure!((sampler.init_noise_sigma() - initial).abs() <= SIGMA * initial, "start {}", sampler.init_noise_sigma());
    ensure!(Some(sampler.order()) == size(&case["order"]), "order {}", sampler.order());

    let shape: Vec<usize> = serde_json::from_value(case["shape"].clone())?;
    let begin = size(&case["begin"]).unwrap();
    let recorded = &golden.tensors[&number.to_string()];
    let draws: Vec<usize> = serde_json::from_value(case["draws"].clone())?;
    let variance = case["config"]["variance_type"].as_str().filter(|_| config.kind() == Kind::Ddpm);

    let random = golden.noise(0, &shape);
    let mut sample = if begin > 0 {
        sampler.add_noise(&(golden.noise(1, &shape) * 0.5), &random, begin)?
    } else {
        random * sampler.init_noise_sigma()
    };
    let error = difference(&sample, &recorded.index_axis(Axis(0), 0).to_owned());
    ensure!(error <= STEP, "the start differs by {error}");

    let mut stepped = config.build(&run)?;
    let mut given = 0;
    for (call, drawn) in draws.iter().enumerate() {
        let index = begin + call;
        ensure!(sampler.takes_noise(index) == (*drawn > 0), "{drawn} draws at step {index}");
        let noise = (*drawn > 0).then(|| golden.draw(given, &shape));
        given += drawn;
        let advance = |sampler: &mut dyn Sampler, sample: &ArrayD<f32>| {
            let scaled = sampler.scale_model_input(sample, index)?;
            let prediction = denoise(&scaled, sampler.timesteps()[index], variance);
            let step = sampler.step(index, &prediction, sample, noise.as_ref())?;
            ensure!(step.predicted_original.shape() == sample.shape(), "the estimate has another shape at step {index}");
            ensure!(step.predicted_original.iter().all(|value| value.is_finite()), "the estimate of step {index} is not finite");
            Ok(step.sample)
        };
        let expected = recorded.index_axis(Axis(0), call + 1).to_owned();
        let found = advance(stepped.as_mut(), &recorded.index_axis(Axis(0), call).to_owned())?;
        let error = difference(&found, &expected);
        ensure!(error <= STEP, "step {index} differs by {error}");
        errors.step = errors.step.max(error);

        sample = advance(sampler.as_mut(), &sample)?;
        let error = difference(&sample, &expected);
        ensure!(error <= LOOP, "the loop differs by {error} after step {index}");
        errors.whole = errors.whole.max(error);
    }
    Ok(())
}

/// The largest difference between two lists of one length.
fn farthest(found: &[f32], expected: &[f32]) -> Result<f32> {
    ensure!(found.len() == expected.len(), "{found:?} for {expected:?}");
    Ok(found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f32::max))
}

#[test]
fn every_sampler_computes_what_diffusers_computes() {
    let golden = Golden::load();
    let mut errors: BTreeMap<Kind, Errors> = BTreeMap::new();
    let mut failures = Vec::new();
    for (number, case) in golden.cases.iter().enumerate() {
        let errors = errors.entry(kind_of(case)).or_default();
        let outcome = match case["error"].as_str() {
            None => {
                errors.cases += 1;
                follow(&golden, number, case, errors)
            }
            Some(reason) => {
                errors.refused += 1;
                match config_of(case).and_then(|config| config.build(&run_of(&case["run"]))) {
                    Ok(_) => Err(anyhow::anyhow!("diffusers stops with `{reason}`, this was built")),
                    Err(_) => Ok(()),
                }
            }
        };
        if let Err(error) = outcome {
            failures.push(format!("case {number}, {}: {error:#}", case["name"].as_str().unwrap()));
        }
    }
    println!("{:<16}{:>6}{:>9}{:>11}{:>11}{:>11}{:>11}", "", "cases", "refused", "step", "loop", "sigma", "timestep");
    let mut total = 0;
    for kind in Kind::ALL {
        let Errors { cases, refused, step, whole, sigma, timestep } = errors.remove(&kind).expect("every kind has cases");
        println!("{:<16}{cases:>6}{refused:>9}{step:>11.1e}{whole:>11.1e}{sigma:>11.1e}{timestep:>11.1e}", kind.name());
        let counted = |name: &str| golden.counts.get(name).copied().unwrap_or(0);
        assert_eq!(cases, counted(kind.class_name()), "{kind}");
        assert_eq!(refused, counted(&format!("{}, refused", kind.class_name())), "{kind}");
        total += cases + refused;
    }
    println!("{total} cases");
    assert_eq!(total, golden.cases.len());
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}
