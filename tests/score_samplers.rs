//! Samplers of score networks where the score is known in closed form, and DDIM there and back.

#![allow(clippy::unwrap_used, reason = "a test stops where it stumbles")]

use kiln::random::{Device, Generator};
use kiln::sampler::{Config, Kind, Prediction, Run, Sampler};
use ndarray::{ArrayD, Axis, IxDyn, concatenate};
use serde_json::json;

const SCORE_KINDS: [Kind; 3] = [Kind::ScoreSdeVe, Kind::ScoreSdeVp, Kind::AnnealedLangevin];

fn normals(seed: u64, shape: &[usize]) -> ArrayD<f32> {
    let count = shape.iter().product();
    ArrayD::from_shape_vec(IxDyn(shape), Generator::new(Device::Cpu, seed).normals(count)).unwrap()
}

/// The score of a Gaussian around `mean`, seen through noise of level `sigma`.
fn gaussian_score(sample: &ArrayD<f32>, mean: f32, deviation: f32, sigma: f32) -> ArrayD<f32> {
    sample.mapv(|x| (mean - x) / (deviation * deviation + sigma * sigma))
}

/// Runs `sampler` from noise with the score of a Gaussian.
fn sampled(sampler: &mut dyn Sampler, shape: &[usize], mean: f32, deviation: f32) -> ArrayD<f32> {
    let mut sample = normals(1, shape) * sampler.init_noise_sigma();
    for index in 0..sampler.timesteps().len() {
        let scaled = sampler.scale_model_input(&sample, index).unwrap();
        let score = gaussian_score(&scaled, mean, deviation, sampler.timesteps()[index]);
        let noise = sampler.takes_noise(index).then(|| normals(100 + index as u64, shape));
        sample = sampler.step(index, &score, &sample, noise.as_ref()).unwrap().sample;
    }
    sample
}

#[test]
fn a_gaussian_is_sampled_with_its_mean_and_width() {
    let (mean, deviation, count) = (0.4, 0.3, 6000);
    // Annealing moves on before the last level's noise is forgotten; by the recursion of its variance it ends at 0.3198.
    for (kind, steps, width) in
        [(Kind::ScoreSdeVe, 200, 0.3), (Kind::ScoreSdeVp, 400, 0.3), (Kind::AnnealedLangevin, 200, 0.3198)]
    {
        let config = Config::for_score(kind, 0.01, 10.0).unwrap();
        assert_eq!(config.prediction(), Prediction::Score);
        let mut sampler = config.build(&Run::new(steps)).unwrap();
        let sample = sampled(sampler.as_mut(), &[1, count], mean, deviation);
        let (found, spread) = (sample.mean().unwrap(), sample.std(0.0));
        assert!((found - mean).abs() < 0.015, "{kind}: the mean is {found}");
        assert!((spread / width - 1.0).abs() < 0.04, "{kind}: the deviation is {spread}");
    }
}

#[test]
fn a_picture_is_the_same_alone_as_among_others() {
    let shape = [1, 3, 4, 4];
    for kind in SCORE_KINDS {
        let mut object = Config::for_score(kind, 0.01, 10.0).unwrap().to_json();
        object["correct_steps"] = 2.into();
        let config = Config::from_json(&object).unwrap();
        let run = |samples: &[ArrayD<f32>]| {
            let mut sampler = config.build(&Run::new(5)).unwrap();
            let views: Vec<_> = samples.iter().map(|sample| sample.view()).collect();
            let mut sample = concatenate(Axis(0), &views).unwrap();
            for index in 0..sampler.timesteps().len() {
                let scaled = sampler.scale_model_input(&sample, index).unwrap();
                let score = gaussian_score(&scaled, 0.2, 0.5, sampler.timesteps()[index]);
                let noise = normals(7 + index as u64, &shape);
                let noise = concatenate(Axis(0), &vec![noise.view(); samples.len()]).unwrap();
                sample = sampler.step(index, &score, &sample, Some(&noise)).unwrap().sample;
            }
            sample
        };
        let (first, second) = (normals(1, &shape) * 10.0, normals(2, &shape) * 2.0);
        let both = run(&[first.clone(), second.clone()]);
        for (position, alone) in [run(&[first]), run(&[second])].iter().enumerate() {
            assert_eq!(both.index_axis(Axis(0), position), alone.index_axis(Axis(0), 0), "{kind}");
        }
    }
}

#[test]
fn a_run_covers_the_levels_that_the_network_was_trained_at() {
    for kind in SCORE_KINDS {
        for (smallest, largest) in [(0.01, 50.0), (0.05, 8.0), (0.002, 1.1), (0.02, 0.2)] {
            let sampler = Config::for_score(kind, smallest, largest).unwrap().build(&Run::new(10)).unwrap();
            let (first, last) = (sampler.timesteps()[0], sampler.timesteps()[sampler.timesteps().len() - 1]);
            let near = |found: f32, expected: f64| (f64::from(found) / expected - 1.0).abs() < 2e-3;
            assert!(
                near(first, largest) && near(last, smallest),
                "{kind} goes from {first} to {last} for {largest} to {smallest}"
            );
        }
    }
}

#[test]
fn wrong_levels_and_wrong_keys_are_named() {
    let message = |kind, smallest, largest| Config::for_score(kind, smallest, largest).unwrap_err().to_string();
    assert_eq!(message(Kind::Ddim, 0.01, 1.0), "sampler `ddim` is not one for score networks, expected `ve`, `vp` or `langevin`");
    for (smallest, largest) in [(1.0, 0.5), (0.0, 1.0), (0.1, f64::INFINITY), (f64::NAN, 1.0)] {
        assert!(message(Kind::ScoreSdeVe, smallest, largest).contains("expected positive numbers, the smaller one first"));
    }
    let cases = [
        ("ScoreSdeVeScheduler", json!({"snr": 0}), "`snr` is 0, expected a positive number"),
        ("ScoreSdeVeScheduler", json!({"correct_steps": -1}), "`correct_steps` is -1, expected a whole number from 0 to 10000"),
        ("ScoreSdeVeScheduler", json!({"sampling_eps": 1}), "`sampling_eps` is 1, expected a number between 0 and 1"),
        ("ScoreSdeVpScheduler", json!({"beta_max": 0.05}), "`beta_min` is 0.1, expected at most `beta_max`, which is 0.05"),
        ("AnnealedLangevinScheduler", json!({"step_size": -1}), "`step_size` is -1, expected a positive number or null"),
        (
            "AnnealedLangevinScheduler",
            json!({"steps_per_level": 0}),
            "`steps_per_level` is 0, expected a whole number from 1 to 10000",
        ),
        (
            "FlowMatchLCMScheduler",
            json!({"scale_factors": [0.5]}),
            "`scale_factors` is [0.5], expected null: pictures that grow from step to step are not known here",
        ),
    ];
    for (class, mut keys, expected) in cases {
        keys["_class_name"] = class.into();
        assert_eq!(Config::from_json(&keys).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_score_of_nothing_is_an_error() {
    let mut sampler = Config::for_score(Kind::ScoreSdeVe, 0.01, 10.0).unwrap().build(&Run::new(4)).unwrap();
    let (sample, zero) = (normals(1, &[2, 3]), ArrayD::zeros(IxDyn(&[2, 3])));
    let error = sampler.step(0, &zero, &sample, Some(&sample)).unwrap_err().to_string();
    assert_eq!(error, "the score of picture 0 has norm 0, expected a positive one, from which the corrector takes its step");
}

#[test]
fn inversion_is_for_pictures_and_suits_no_model_by_itself() {
    let ddim = Config::default_of(Kind::Ddim).unwrap();
    assert!(!ddim.suits(Kind::DdimInverse) && !ddim.suits(Kind::ScoreSdeVe));
    let score = Config::for_score(Kind::ScoreSdeVe, 0.01, 10.0).unwrap();
    assert!(SCORE_KINDS.iter().all(|kind| score.suits(*kind)) && !score.suits(Kind::Euler));
    let inverse = ddim.with_kind(Kind::DdimInverse).unwrap();
    let error = inverse.with_spacing("linspace".parse().unwrap()).unwrap_err();
    assert!(kiln::error::is_refusal(&error), "{error:#}");
}

/// A denoiser whose clean picture is a Gaussian: ε from the best estimate of x₀ at ᾱ of the cosine schedule.
fn noise_of_gaussian(sample: &ArrayD<f32>, timestep: f32, deviation: f32) -> ArrayD<f32> {
    let share = |time: f32| ((time + 0.008) / 1.008 * std::f32::consts::FRAC_PI_2).cos().powi(2);
    let alpha_bar = (share((timestep + 1.0) / 1000.0) / share(0.0)).clamp(1e-6, 1.0 - 1e-6);
    sample.mapv(|x| x * (1.0 - alpha_bar).sqrt() / (alpha_bar * deviation * deviation + 1.0 - alpha_bar))
}

#[test]
fn ddim_returns_from_the_noise_that_its_inverse_found() {
    let keys = json!({"_class_name": "DDIMScheduler", "beta_schedule": "squaredcos_cap_v2", "clip_sample": false});
    let there_config = Config::from_json(&keys).unwrap();
    let back_config = there_config.with_kind(Kind::DdimInverse).unwrap();
    let picture = normals(3, &[1, 500]) * 0.5;
    let mut errors = Vec::new();
    for steps in [25, 50, 100, 200] {
        let mut sample = picture.clone();
        for config in [&back_config, &there_config] {
            let mut sampler = config.build(&Run::new(steps)).unwrap();
            for index in 0..steps {
                let prediction = noise_of_gaussian(&sample, sampler.timesteps()[index], 0.5);
                sample = sampler.step(index, &prediction, &sample, None).unwrap().sample;
            }
            if config.kind() == Kind::DdimInverse {
                let spread = sample.std(0.0);
                assert!((spread - 1.0).abs() < 0.1, "the noise of {steps} steps has deviation {spread}");
            }
        }
        errors.push((&sample - &picture).mapv(f32::abs).mean().unwrap());
    }
    assert!(errors.windows(2).all(|pair| pair[1] < 0.6 * pair[0]), "twice the steps halve the error: {errors:?}");
    assert!(errors[3] < 0.01, "{errors:?}");
}
