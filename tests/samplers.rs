//! Samplers against diffusers' schedulers, and what must hold of any sampler.
//!
//! `tests/golden/samplers` was written by `tests/tools/make_samplers.py` with diffusers 0.36.0, torch 2.9.1, numpy 2.4.6 and
//! scipy 1.17.1; that script's head says how the stand-in for the network computes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stumbles")]
#![allow(clippy::print_stdout, reason = "a test says how much it did")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kiln::sampler::{Choice, Config, Kind, Prediction, Run, Sampler, SigmaSchedule, Spacing, Term};
use ndarray::{ArrayD, Axis, IxDyn};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
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
/// The cases of each sampler whose steps are sums, and how many steps they have.
const LINEAR: &str = "ddpm 15/69, ddim 38/364, pndm 42/553, euler 154/1068, euler-ancestral 41/189, heun 65/558, dpm++ 181/1205, \
                      unipc 41/146, lcm 40/198, tcd 54/260, flow-euler 73/561, flow-heun 16/121, flow-lcm 28/114, edm-euler 33/163";
/// For a step from a sum, relative to 1 + the expected value: a step that divides what it subtracted by a small noise level rounds more
/// than the sum does.
const SUM: f32 = 2e-5;

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

/// The stand-in for a score network: the score of a Gaussian of variance 1, seen at the noise level that is its label.
fn score(sample: &ArrayD<f32>, label: f32) -> ArrayD<f32> {
    let variance = 1.0 + label * label;
    (bias(sample) * 0.5 - sample) / variance
}

/// What both stand-ins add: -5/11 to 5/11 in turn, over the elements of each picture.
fn bias(sample: &ArrayD<f32>) -> ArrayD<f32> {
    let count: usize = sample.shape()[1..].iter().product();
    let bias = |position: usize| (((7 * (position % count)) % 11) as f64 - 5.0) / 11.0;
    ArrayD::from_shape_vec(IxDyn(sample.shape()), (0..sample.len()).map(|at| bias(at) as f32).collect()).unwrap()
}

/// The stand-in for the network of a sampler.
fn predict(kind: Kind, scaled: &ArrayD<f32>, timestep: f32, variance: Option<&str>) -> ArrayD<f32> {
    if kind.is_score() { score(scaled, timestep) } else { denoise(scaled, timestep, variance) }
}

/// The stand-in for a denoiser.
fn denoise(scaled: &ArrayD<f32>, timestep: f32, variance: Option<&str>) -> ArrayD<f32> {
    let bias = bias(scaled);
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
            let prediction = predict(config.kind(), &scaled, sampler.timesteps()[index], variance);
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

/// Holds the sums of one case against the sampler's own steps on samples and predictions that have nothing to do with each other; returns
/// how many steps, 0 where they are no sums.
fn sums_of(golden: &Golden, case: &Value, worst: &mut f32) -> Result<usize> {
    let (config, run) = (config_of(case)?, run_of(&case["run"]));
    let begin = size(&case["begin"]).unwrap();
    let Some(steps) = config.linear_steps(&run, begin)? else { return Ok(0) };
    let mut sampler = config.build(&run)?;
    let shape: Vec<usize> = serde_json::from_value(case["shape"].clone())?;
    let mut known: BTreeMap<Term, ArrayD<f32>> = BTreeMap::new();
    ensure!(steps.len() == sampler.timesteps().len() - begin, "{} steps for {:?}", steps.len(), sampler.timesteps());
    for (at, step) in steps.iter().enumerate() {
        ensure!(step.index == begin + at && step.timestep == sampler.timesteps()[step.index], "step {at} is {}", step.index);
        let sample = golden.draw(3 * at, &shape);
        let prediction = golden.draw(3 * at + 1, &shape);
        let noise = step.takes_noise.then(|| golden.draw(3 * at + 2, &shape));
        let scaled = sampler.scale_model_input(&sample, step.index)?;
        let error = difference(&(&sample * step.input_scale), &scaled);
        ensure!(error <= 1e-6, "the network's input at step {} differs by {error}", step.index);
        let expected = sampler.step(step.index, &prediction, &sample, noise.as_ref())?;
        known.insert(Term::Sample(step.index), sample);
        known.insert(Term::Prediction(step.index), prediction);
        noise.map(|noise| known.insert(Term::Noise(step.index), noise));
        for (sum, expected) in [(&step.sample, &expected.sample), (&step.estimate, &expected.predicted_original)] {
            let mut found = ArrayD::zeros(IxDyn(&shape));
            for (term, number) in sum {
                found += &(known.get(term).with_context(|| format!("{term:?} is not there yet"))? * *number);
            }
            // Terms that cancel leave what was rounded of each.
            let most = sum.iter().map(|(_, number)| number.abs()).fold(1.0, f32::max);
            let error = difference(&found, expected) / most;
            ensure!(error <= SUM, "step {} differs by {error} of its largest number {most}", step.index);
            *worst = worst.max(error);
        }
    }
    Ok(steps.len())
}

#[test]
fn every_linear_step_is_the_sum_that_it_says_it_is() {
    let golden = Golden::load();
    let mut counts: BTreeMap<Kind, (usize, usize)> = BTreeMap::new();
    let (mut failures, mut worst) = (Vec::new(), 0.0);
    for (number, case) in golden.cases.iter().enumerate().filter(|(_, case)| case["error"].is_null()) {
        match sums_of(&golden, case, &mut worst) {
            Ok(0) => {}
            Ok(steps) => {
                let (cases, all) = counts.entry(kind_of(case)).or_default();
                (*cases, *all) = (*cases + 1, *all + steps);
            }
            Err(error) => failures.push(format!("case {number}, {}: {error:#}", case["name"].as_str().unwrap())),
        }
    }
    let text: Vec<String> = counts.iter().map(|(kind, (cases, steps))| format!("{kind} {cases}/{steps}")).collect();
    println!("cases/steps: {}; the worst {worst:.1e}", text.join(", "));
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert_eq!(text.join(", "), LINEAR);
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

/// A configuration of `class` that is the class's own default apart from `keys`.
fn config(class: &str, keys: Value) -> Result<Config> {
    let mut object = json!({ "_class_name": class });
    for (key, value) in keys.as_object().unwrap() {
        object[key] = value.clone();
    }
    Config::from_json(&object)
}

fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => panic!("this should be refused"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn a_wrong_value_is_named_with_what_was_expected() {
    let euler = "EulerDiscreteScheduler";
    let cases = [
        (euler, json!({"num_train_timesteps": 0}), "`num_train_timesteps` is 0, expected a whole number from 1 to 100000"),
        (euler, json!({"num_train_timesteps": -5}), "`num_train_timesteps` is -5, expected a whole number from 1 to 100000"),
        (
            euler,
            json!({"num_train_timesteps": 1e9}),
            "`num_train_timesteps` is 1000000000.0, expected a whole number from 1 to 100000",
        ),
        (
            euler,
            json!({"num_train_timesteps": "many"}),
            "`num_train_timesteps` is `many`, expected a whole number from 1 to 100000",
        ),
        (euler, json!({"beta_start": 1.5}), "`beta_start` is 1.5, expected a number from 0 to below 1"),
        (euler, json!({"beta_end": -0.1}), "`beta_end` is -0.1, expected a number from 0 to below 1"),
        (euler, json!({"beta_start": [1]}), "`beta_start` is [1], expected a number from 0 to below 1"),
        (
            euler,
            json!({"beta_schedule": "sigmoid"}),
            "`beta_schedule` is `sigmoid`, expected one of `linear`, `scaled_linear`, `squaredcos_cap_v2`",
        ),
        (euler, json!({"trained_betas": [0.1]}), "`trained_betas` has 1 values, `num_train_timesteps` is 1000"),
        (euler, json!({"trained_betas": [0.1, 2]}), "`trained_betas[1]` is 2, expected a number from 0 to below 1"),
        (euler, json!({"timestep_spacing": 3}), "`timestep_spacing` is 3, expected one of `linspace`, `leading`, `trailing`"),
        (euler, json!({"prediction_type": "x"}), "`prediction_type` is `x`, expected one of `epsilon`, `sample`, `v_prediction`"),
        (euler, json!({"use_karras_sigmas": 1}), "`use_karras_sigmas` is 1, expected true or false"),
        (euler, json!({"sigma_min": 2, "sigma_max": 1}), "`sigma_min` is 2, expected less than `sigma_max`, which is 1"),
        (euler, json!({"steps_offset": null}), "`steps_offset` is null, expected a whole number from 0 to 100000"),
        (
            "EulerAncestralDiscreteScheduler",
            json!({"prediction_type": "sample"}),
            "`prediction_type` is `sample`, expected one of `epsilon`, `v_prediction`",
        ),
        ("DPMSolverMultistepScheduler", json!({"solver_order": 9}), "`solver_order` is 9, expected a whole number from 1 to 3"),
        (
            "DPMSolverMultistepScheduler",
            json!({"algorithm_type": "dpmsolver"}),
            "`final_sigmas_type` is `zero`, expected `sigma_min`: `algorithm_type` `dpmsolver` divides by the last noise level",
        ),
        ("UniPCMultistepScheduler", json!({"disable_corrector": [-1]}), "`disable_corrector[0]` is -1, expected a step index"),
        (
            "UniPCMultistepScheduler",
            json!({"solver_p": {}}),
            "`solver_p` is an object, expected null: a second solver inside UniPC is not known here",
        ),
        ("FlowMatchEulerDiscreteScheduler", json!({"shift": 0}), "`shift` is 0, expected a positive number below 1000000"),
        (
            "FlowMatchEulerDiscreteScheduler",
            json!({"time_shift_type": "cubic"}),
            "`time_shift_type` is `cubic`, expected one of `exponential`, `linear`",
        ),
        (
            "CMStochasticIterativeScheduler",
            json!({"num_train_timesteps": 1}),
            "`num_train_timesteps` is 1, expected a whole number from 2 to 100000",
        ),
        ("EDMEulerScheduler", json!({"sigma_min": null}), "`sigma_min` is null, expected a positive number"),
        ("DDIMScheduler", json!({"clip_sample": "yes"}), "`clip_sample` is `yes`, expected true or false"),
        (
            "DDIMScheduler",
            json!({"dynamic_thresholding_ratio": 1.01}),
            "`dynamic_thresholding_ratio` is 1.01, expected a number from 0 to 1",
        ),
    ];
    for (class, keys, expected) in &cases {
        assert_eq!(message(config(class, keys.clone())), *expected, "{class} {keys}");
    }
    println!("{} wrong values", cases.len());
    assert_eq!(message(Config::from_json(&json!([]))), "the scheduler configuration is [], expected an object");
    assert_eq!(message(Config::from_json(&json!({}))), "`_class_name` is missing, expected the name of a scheduler class");
    assert!(message(Config::from_text("{\"_class_name\": Infinit}")).starts_with("not a JSON object"));
    let unknown = message(config("LMSDiscreteScheduler", json!({})));
    assert!(unknown.starts_with("`_class_name` is `LMSDiscreteScheduler`, expected one of DDPMScheduler, "), "{unknown}");
}

#[test]
fn what_a_person_cannot_have_is_refused_with_the_way_out() {
    let run = |change: fn(&mut Run)| {
        let mut run = Run::new(4);
        change(&mut run);
        run
    };
    let cases: [(&str, Run, &str); 21] = [
        ("euler", run(|run| run.steps = 0), "steps is 0, expected at least 1"),
        (
            "euler",
            run(|run| run.steps = 1001),
            "steps is 1001, expected at most 1000, the number of timesteps the model was trained with",
        ),
        (
            "lcm",
            run(|run| run.steps = 51),
            "steps is 51, expected at most 50, the steps that the model was distilled from (`original_inference_steps`)",
        ),
        (
            "lcm",
            run(|run| run.strength = Some(0.05)),
            "steps is 4, expected at most 2: strength 0.05 leaves that many of the 50 steps the model was distilled from",
        ),
        ("lcm", run(|run| run.strength = Some(1.5)), "strength is 1.5, expected more than 0 and at most 1"),
        (
            "lcm",
            run(|run| run.timesteps = Some(vec![999.5])),
            "timesteps[0] is 999.5, sampler `lcm` expects whole numbers below 1000",
        ),
        (
            "lcm",
            run(|run| run.timesteps = Some(vec![100.0, 200.0])),
            "timesteps[1] is 200, expected less than 100, the one before",
        ),
        (
            "lcm",
            run(|run| run.original_steps = Some(0)),
            "the teacher's steps (`original_inference_steps`) are 0, expected 1 to 1000",
        ),
        (
            "pndm",
            run(|run| run.steps = 3),
            "steps is 3, expected at least 4, since this model's PNDM begins with Runge-Kutta steps; use more, or another sampler",
        ),
        (
            "ddim",
            run(|run| run.timesteps = Some(vec![999.0])),
            "sampler `ddim` takes no timesteps of one's own; leave them out or choose another sampler, such as `euler`",
        ),
        (
            "unipc",
            run(|run| run.sigmas = Some(vec![1.0, 0.0])),
            "sampler `unipc` takes no sigmas of one's own; leave them out or choose `euler` or `flow-euler`",
        ),
        (
            "euler",
            run(|run| run.sigmas = Some(vec![14.0])),
            "sigmas has one value, expected one for each step and the last, which is mostly 0",
        ),
        ("euler", run(|run| run.sigmas = Some(vec![f32::NAN, 0.0])), "sigmas[0] is NaN, expected a positive number"),
        ("euler", run(|run| run.timesteps = Some(vec![])), "timesteps are empty, expected one for each step"),
        ("euler", run(|run| run.timesteps = Some(vec![f32::INFINITY])), "timesteps[0] is inf, expected a number from 0 to 1000"),
        (
            "euler",
            run(|run| run.eta = Some(0.5)),
            "eta is 0.5, but sampler `euler` has none; leave it out or choose `ddim` or `tcd`",
        ),
        ("ddim", run(|run| run.eta = Some(1.5)), "eta is 1.5, expected a number from 0 to 1"),
        ("ddim", run(|run| run.shift = Some(3.0)), "sampler `ddim` has no shift of its noise levels; leave it out"),
        ("flow-euler", run(|run| run.shift = Some(-3.0)), "`shift` is -3.0, expected a positive number below 1000000"),
        (
            "flow-euler",
            run(|run| run.spacing = Some(Spacing::Trailing)),
            "sampler `flow-euler` has no timestep spacing to set to `trailing`; leave it out",
        ),
        (
            "ddim",
            run(|run| run.sigma_schedule = Some(SigmaSchedule::Karras)),
            "sampler `ddim` has no karras noise levels; leave them out or choose another sampler",
        ),
    ];
    for (name, run, expected) in &cases {
        let error = Config::default_of(name.parse().unwrap()).and_then(|config| config.build(run)).err().expect(expected);
        assert_eq!(format!("{error:#}"), *expected);
        assert!(kiln::error::is_refusal(&error), "`{expected}` is the person's fault");
    }
    println!("{} refusals", cases.len());
    let error = "lms".parse::<Choice>().unwrap_err();
    assert!(error.to_string().starts_with("sampler is `lms`, expected one of ddpm, ddim, "), "{error}");
    let sample = config("EulerDiscreteScheduler", json!({"prediction_type": "sample"})).unwrap();
    let error = sample.with_kind(Kind::EulerAncestral).unwrap_err();
    assert!(kiln::error::is_refusal(&error), "{error:#}");
}

#[test]
fn a_wrong_tensor_or_index_is_an_error_and_no_panic() {
    let tensor = |shape: &[usize]| ArrayD::<f32>::zeros(IxDyn(shape));
    let (sample, other) = (tensor(&[1, 4, 2, 2]), tensor(&[1, 4, 2, 3]));
    let mut ancestral = Config::default_of(Kind::EulerAncestral).unwrap().build(&Run::new(3)).unwrap();
    let step = |sampler: &mut dyn Sampler, index, prediction: &ArrayD<f32>, noise: Option<&ArrayD<f32>>| {
        message(sampler.step(index, prediction, &sample, noise))
    };
    assert_eq!(step(ancestral.as_mut(), 0, &sample, None), "noise is missing, step 0 of 3 takes some");
    assert_eq!(step(ancestral.as_mut(), 0, &sample, Some(&other)), "noise has shape [1, 4, 2, 3], the sample [1, 4, 2, 2]");
    assert_eq!(step(ancestral.as_mut(), 0, &other, Some(&sample)), "prediction has shape [1, 4, 2, 3], the sample [1, 4, 2, 2]");
    assert_eq!(step(ancestral.as_mut(), 3, &sample, Some(&sample)), "step index is 3, expected less than 3");
    for kind in Kind::ALL {
        let sampler = Config::default_of(kind).unwrap().build(&Run::new(4)).unwrap();
        let past = sampler.timesteps().len();
        assert_eq!(message(sampler.scale_model_input(&sample, past)), format!("step index is {past}, expected less than {past}"));
        assert!(sampler.add_noise(&sample, &sample, past).is_err(), "{kind}");
        assert!(message(sampler.add_noise(&sample, &other, 0)).starts_with("noise has shape"), "{kind}");
    }
    for kind in [Kind::Pndm, Kind::Heun, Kind::DpmSolverMultistep, Kind::UniPc, Kind::FlowMatchHeun] {
        let mut sampler = Config::default_of(kind).unwrap().build(&Run::new(8)).unwrap();
        sampler.step(2, &sample, &sample, None).unwrap();
        assert_eq!(
            step(sampler.as_mut(), 4, &sample, None),
            "step index is 4, expected 3: this sampler remembers the step before"
        );
    }
    let mut learned = config("DDPMScheduler", json!({"variance_type": "learned"})).unwrap().build(&Run::new(3)).unwrap();
    assert_eq!(
        step(learned.as_mut(), 0, &sample, Some(&sample)),
        "prediction has shape [1, 4, 2, 2], a learned variance wants [1, 8, 2, 2]"
    );
}

#[test]
fn keys_of_other_classes_are_kept_aside_and_infinity_is_read() {
    let published = r#"{
        "_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.24.0", "clip_sample": false,
        "lambda_min_clipped": -Infinity, "sample_max_value": 1.0, "skip_prk_steps": true, "set_alpha_to_one": false,
        "interpolation_type": "Infinity \" NaN", "steps_offset": 1
    }"#;
    let config = Config::from_text(published).unwrap();
    assert_eq!(config.kind(), Kind::DpmSolverMultistep);
    assert_eq!(config.ignored(), ["clip_sample", "interpolation_type", "set_alpha_to_one", "skip_prk_steps"]);
    assert_eq!((config.prediction(), config.spacing()), (Prediction::Epsilon, Some(Spacing::Linspace)));
    let again = Config::from_json(&config.to_json()).unwrap();
    assert_eq!(again.to_json(), config.to_json());
    assert!(config.with_kind(Kind::Pndm).unwrap().ignored().contains(&"lambda_min_clipped".to_owned()));
}

#[test]
fn names_read_back_as_themselves() {
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse::<Kind>().unwrap(), kind);
        assert_eq!(kind.class_name().parse::<Kind>().unwrap(), kind);
        assert_eq!(Kind::from_class_name(kind.class_name()).unwrap(), kind);
        let choice: Choice = kind.to_string().parse().unwrap();
        assert_eq!(choice, kind.into());
    }
    for name in ["sde-dpmsolver++", "dpmsolver", "dpmsolver++-karras", "sde-dpmsolver++-exponential", "euler-beta", "heun-karras"]
    {
        assert_eq!(name.parse::<Choice>().unwrap().to_string(), name);
    }
    for (name, kind) in [("euler_a", Kind::EulerAncestral), ("DPM++", Kind::DpmSolverMultistep), ("plms", Kind::Pndm)] {
        assert_eq!(name.parse::<Choice>().unwrap().kind, kind);
    }
}

/// Every combination that a sane configuration may hold, apart from the few that are refused.
fn sane_config() -> impl Strategy<Value = Config> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let spacing = prop::sample::select(vec!["linspace", "leading", "trailing"]);
    let prediction = prop::sample::select(vec!["epsilon", "v_prediction"]);
    let schedule = prop::sample::select(vec!["linear", "scaled_linear", "squaredcos_cap_v2"]);
    let spread = prop::sample::select(SigmaSchedule::ALL.to_vec());
    (kind, spacing, prediction, schedule, spread, 1..4_usize, 0.2..8.0_f64, any::<bool>()).prop_filter_map(
        "the combination is refused",
        |(kind, spacing, prediction, schedule, spread, order, shift, is_on)| {
            let keys = json!({
                "timestep_spacing": spacing, "prediction_type": prediction, "beta_schedule": schedule, "beta_start": 0.00085,
                "beta_end": 0.012, "solver_order": order, "shift": shift, "clip_sample": is_on, "skip_prk_steps": is_on,
                "rescale_betas_zero_snr": is_on && prediction == "v_prediction" && schedule != "squaredcos_cap_v2",
                "set_alpha_to_one": is_on, "stochastic_sampling": is_on,
                "algorithm_type": if is_on { "sde-dpmsolver++" } else { "dpmsolver++" },
            });
            let config = config(kind.class_name(), keys).ok()?;
            config.with_sigma_schedule(spread).or(Ok::<_, anyhow::Error>(config)).ok()
        },
    )
}

/// Values that a `scheduler_config.json` may hold where it should not.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3..1500_i64).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-2.0..2.0_f64).prop_map(Value::from),
        prop::sample::select(vec![
            "linspace",
            "leading",
            "trailing",
            "epsilon",
            "sample",
            "v_prediction",
            "flow_prediction",
            "linear",
            "scaled_linear",
            "squaredcos_cap_v2",
            "sigmoid",
            "exp",
            "zero",
            "sigma_min",
            "dpmsolver",
            "sde-dpmsolver",
            "sde-dpmsolver++",
            "heun",
            "midpoint",
            "bh1",
            "bh2",
            "learned",
            "learned_range",
            "fixed_large",
            "karras",
            "exponential",
            "log_linear",
            "continuous",
            "-Infinity",
            "Infinity",
            "",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{0,6}", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

const KEYS: [&str; 67] = [
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "variance_type",
    "clip_sample",
    "prediction_type",
    "thresholding",
    "dynamic_thresholding_ratio",
    "clip_sample_range",
    "sample_max_value",
    "timestep_spacing",
    "steps_offset",
    "rescale_betas_zero_snr",
    "set_alpha_to_one",
    "skip_prk_steps",
    "interpolation_type",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "sigma_min",
    "sigma_max",
    "timestep_type",
    "final_sigmas_type",
    "solver_order",
    "algorithm_type",
    "solver_type",
    "lower_order_final",
    "euler_at_final",
    "use_lu_lambdas",
    "use_flow_sigmas",
    "flow_shift",
    "lambda_min_clipped",
    "use_dynamic_shifting",
    "time_shift_type",
    "predict_x0",
    "disable_corrector",
    "solver_p",
    "original_inference_steps",
    "timestep_scaling",
    "shift",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "invert_sigmas",
    "shift_terminal",
    "stochastic_sampling",
    "sigma_data",
    "s_noise",
    "rho",
    "clip_denoised",
    "snr",
    "correct_steps",
    "sampling_eps",
    "beta_min",
    "beta_max",
    "steps_per_level",
    "step_size",
    "denoise",
    "scale_factors",
    "sigma_schedule",
    "_use_default_values",
    "_private",
    "unknown",
    "quantization_config",
];

/// A run with numbers that a person may type, sensible or not.
fn any_run() -> impl Strategy<Value = Run> {
    let numbers = || prop::option::weighted(0.2, prop::collection::vec(prop_oneof![0.0..1000.0_f32, any::<f32>()], 0..5));
    let number = || prop::option::weighted(0.2, prop_oneof![0.0..2.0_f64, any::<f64>()]);
    (0..20_usize, numbers(), numbers(), number(), number(), number(), number(), prop::option::weighted(0.2, 0..100_usize))
        .prop_map(|(steps, timesteps, sigmas, strength, mu, eta, shift, original_steps)| Run {
            steps,
            timesteps,
            sigmas,
            strength,
            mu,
            eta,
            shift,
            original_steps,
            image_sequence_length: Some(steps),
            ..Run::default()
        })
}

/// Takes every step of `sampler` from `begin` with the stand-in for the network; returns the last sample.
fn denoised(kind: Kind, sampler: &mut dyn Sampler, begin: usize, start: &ArrayD<f32>) -> Result<ArrayD<f32>> {
    let mut sample = start.clone();
    for index in begin..sampler.timesteps().len() {
        let scaled = sampler.scale_model_input(&sample, index)?;
        let prediction = predict(kind, &scaled, sampler.timesteps()[index], None);
        let noise = sampler.takes_noise(index).then_some(start);
        let step = sampler.step(index, &prediction, &sample, noise)?;
        assert_eq!((step.sample.shape(), step.predicted_original.shape()), (start.shape(), start.shape()));
        sample = step.sample;
    }
    Ok(sample)
}

/// Runs `test` on values of `strategy` and prints on how many it did more than pass them over; at least a third must.
/// `PROPTEST_CASES` sets another count.
fn for_many<S: Strategy>(strategy: S, test: impl Fn(S::Value) -> Result<bool, TestCaseError>) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let (mut runner, ran) =
        (TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..Default::default() }), Cell::new(0));
    let outcome = runner.run(&strategy, |value| {
        ran.set(ran.get() + u32::from(test(value)?));
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("{} of {cases} cases", ran.get());
    assert!(ran.get() * 3 > cases, "{} of {cases} cases", ran.get());
}

#[test]
fn finite_samples_stay_finite_and_keep_their_shape() {
    let shape = prop::collection::vec(1..4_usize, 2..6);
    for_many((sane_config(), 4..40_usize, 0..4_usize, shape, -3.0..3.0_f32), |(config, steps, begin, shape, seed)| {
        let Ok(mut sampler) = config.build(&Run::new(steps)) else { return Ok(false) };
        let begin = begin.min(sampler.timesteps().len() - 1) / sampler.order() * sampler.order();
        let values = (0..shape.iter().product::<usize>()).map(|at| (at as f32 * 1.7 + seed).sin() * 2.0).collect();
        let noise = ArrayD::from_shape_vec(IxDyn(&shape), values).unwrap();
        let start = match begin {
            0 => &noise * sampler.init_noise_sigma(),
            _ => sampler.add_noise(&(&noise * 0.3), &noise, begin).unwrap(),
        };
        let last = denoised(config.kind(), sampler.as_mut(), begin, &start).unwrap();
        prop_assert!(last.iter().all(|value| value.is_finite()), "{:?} ends with {last}", config.to_json());
        Ok(true)
    });
}

#[test]
fn timesteps_fall_and_noise_levels_fall_with_them() {
    for_many((sane_config(), 4..60_usize), |(config, steps)| {
        let Ok(sampler) = config.build(&Run::new(steps)) else { return Ok(false) };
        let falls = |values: &[f32]| values.windows(2).all(|pair| pair[1] <= pair[0]);
        // Half a stride is put back between the calls of a Runge-Kutta step.
        let is_pndm = config.kind() == Kind::Pndm;
        if config.kind() == Kind::DdimInverse {
            prop_assert!(sampler.timesteps().is_sorted(), "{:?}", sampler.timesteps());
            return Ok(true);
        }
        prop_assert!(is_pndm || falls(sampler.timesteps()), "{:?}", sampler.timesteps());
        prop_assert!(sampler.sigmas().is_none_or(falls), "{:?}", sampler.sigmas());
        prop_assert!(sampler.timesteps().len() >= steps);
        prop_assert!(sampler.sigmas().is_none_or(|sigmas| sigmas.len() > sampler.timesteps().len()));
        Ok(true)
    });
}

#[test]
fn no_configuration_and_no_run_makes_a_panic() {
    let kind = || prop::sample::select(Kind::ALL.to_vec());
    let keys = prop::collection::btree_map(prop::sample::select(KEYS.to_vec()), any_value(), 0..6);
    for_many((kind(), keys, kind(), any_run()), |(kind, keys, other, run)| {
        let mut object = json!(keys);
        object["_class_name"] = kind.class_name().into();
        let Ok(read) = Config::from_json(&object) else { return Ok(false) };
        let start = ArrayD::from_elem(IxDyn(&[1, 2, 2]), 0.5);
        for config in [Ok(read.clone()), read.with_kind(other)].into_iter().flatten() {
            if let Ok(mut sampler) = config.build(&run) {
                let _ = denoised(config.kind(), sampler.as_mut(), 0, &start);
            }
        }
        Ok(true)
    });
}

#[test]
fn no_text_makes_a_panic() {
    for_many("[\\[\\]{}\",:a-zA-Z\\\\ -]{0,40}|\\PC{0,30}", |text| {
        let _ = Config::from_text(&text);
        let _ = text.parse::<Choice>();
        let _ = text.parse::<Kind>();
        Ok(true)
    });
}
