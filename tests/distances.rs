//! The distances between samples: against an independent reference, against closed forms, and what they refuse.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed helper is a failed test, and says how many it ran")]

use kiln::lineage::distances::{NEIGHBOUR, kernel_distance, precision_recall, sliced_wasserstein};
use kiln::random::{Device, Generator};
use ndarray::{Array1, Array2, Axis, s};
use serde_json::Value;

fn normal(seed: u64, rows: usize, columns: usize) -> Array2<f32> {
    let values = Generator::new(Device::Cpu, seed).normals(rows * columns);
    Array2::from_shape_vec((rows, columns), values).unwrap()
}

fn matrix(value: &Value) -> Array2<f32> {
    let rows = value.as_array().unwrap();
    let width = rows[0].as_array().unwrap().len();
    Array2::from_shape_fn((rows.len(), width), |(row, column)| rows[row][column].as_f64().unwrap() as f32)
}

fn close(found: f64, expected: f64, tolerance: f64, what: &str) {
    assert!((found - expected).abs() <= tolerance * expected.abs().max(1.0), "{what}: {found}, expected {expected}");
}

/// Every vector moved by `shift` along each feature.
fn moved(sample: &Array2<f32>, shift: f32) -> Array2<f32> {
    sample.mapv(|value| value + shift)
}

#[test]
fn every_distance_is_that_of_the_reference() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/distances/cases.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let (left, right, directions) = (matrix(&case["left"]), matrix(&case["right"]), matrix(&case["directions"]));
        let sliced = sliced_wasserstein(left.view(), right.view(), directions.view()).unwrap();
        close(sliced, case["sliced_wasserstein"].as_f64().unwrap(), 1e-12, name);
        let kernel = kernel_distance(left.view(), right.view()).unwrap().value;
        close(kernel, case["kernel_distance"].as_f64().unwrap(), 1e-12, name);
        for (neighbour, expected) in case["precision_recall"].as_object().unwrap() {
            let found = precision_recall(left.view(), right.view(), neighbour.parse().unwrap()).unwrap();
            close(found.precision, expected[0].as_f64().unwrap(), 1e-12, &format!("{name}, precision {neighbour}"));
            close(found.recall, expected[1].as_f64().unwrap(), 1e-12, &format!("{name}, recall {neighbour}"));
        }
    }
    assert_eq!(cases.len(), 7);
    println!("{} cases", cases.len());
}

#[test]
fn two_samples_of_one_distribution_lie_within_the_estimators_error() {
    let directions = normal(1, 64, 8);
    // Twenty pairs show how the estimate scatters; its mean must be 0 within the error of that mean.
    let distances: Vec<f64> = (0..20)
        .map(|pair| kernel_distance(normal(100 + pair, 200, 8).view(), normal(200 + pair, 200, 8).view()).unwrap().value)
        .collect();
    let mean = distances.iter().sum::<f64>() / 20.0;
    let variance = distances.iter().map(|distance| (distance - mean).powi(2)).sum::<f64>() / 19.0;
    assert!(mean.abs() < 3.0 * (variance / 20.0).sqrt(), "{mean}, variance {variance}");
    assert!(distances.iter().any(|distance| *distance < 0.0), "an unbiased estimate of 0 falls below it now and then");
    let (left, right) = (normal(3, 2000, 8), normal(4, 2000, 8));
    let sliced = sliced_wasserstein(left.view(), right.view(), directions.view()).unwrap();
    assert!(sliced < 0.06, "{sliced}");
    let found = precision_recall(normal(5, 400, 3).view(), normal(6, 400, 3).view(), NEIGHBOUR).unwrap();
    assert!(found.precision > 0.8 && found.recall > 0.8, "{found:?}");
}

#[test]
fn shifted_gaussians_have_the_sliced_distance_of_the_closed_form() {
    let (sample, directions) = (normal(7, 500, 16), normal(8, 4096, 16));
    // The same points moved by m: every projection moves by m·θ, and the mean of (m·θ)² over directions θ is |m|²/F.
    let shift = Array1::from_elem(16, 0.5_f64);
    let exact = directions
        .rows()
        .into_iter()
        .map(|direction| {
            let direction = direction.mapv(f64::from);
            (direction.dot(&shift) / direction.dot(&direction).sqrt()).powi(2)
        })
        .sum::<f64>()
        / 4096.0;
    let found = sliced_wasserstein(sample.view(), moved(&sample, 0.5).view(), directions.view()).unwrap();
    close(found, exact.sqrt(), 1e-6, "with these directions");
    close(found, 0.5, 0.02, "over all directions: |m|/√F");
    // Independent samples of N(0, 1) and N(m, s²) on a line: W₂² = m² + (1 − s)².
    let (left, right) = (normal(9, 20_000, 1), normal(10, 20_000, 1).mapv(|value| 2.0 * value + 3.0));
    let found = sliced_wasserstein(left.view(), right.view(), normal(11, 1, 1).view()).unwrap();
    close(found, (9.0_f64 + 1.0).sqrt(), 0.02, "two Gaussians on a line");
}

#[test]
fn shifted_gaussians_have_the_kernel_distance_of_the_closed_form() {
    // For X, X' ~ N(0, I) and Y, Y' ~ N(m, I) in F features, with s = |m|², the moments of x·y give
    // MMD² = 3s/F + 3s²/F² + (s³ + 6s² + 3sF + 6s)/F³.
    for (features, shift) in [(4_usize, 0.5_f32), (8, 1.0), (16, 0.25)] {
        let width = features as f64;
        let s = width * f64::from(shift).powi(2);
        let exact = 3.0 * s / width
            + 3.0 * s.powi(2) / width.powi(2)
            + (s.powi(3) + 6.0 * s.powi(2) + 3.0 * s * width + 6.0 * s) / width.powi(3);
        let runs = 12;
        let distances: Vec<f64> = (0..runs)
            .map(|run| {
                let (left, right) = (normal(300 + run, 400, features), moved(&normal(400 + run, 400, features), shift));
                kernel_distance(left.view(), right.view()).unwrap().value
            })
            .collect();
        let mean = distances.iter().sum::<f64>() / runs as f64;
        let variance = distances.iter().map(|distance| (distance - mean).powi(2)).sum::<f64>() / (runs as f64 - 1.0);
        let error = (variance / runs as f64).sqrt();
        assert!((mean - exact).abs() < 3.5 * error, "{features} features: {mean} ± {error}, expected {exact}");
        assert!(error < 0.1 * exact, "the test could not fail: {error} of {exact}");
    }
}

#[test]
fn the_error_of_a_kernel_distance_is_how_far_it_scatters() {
    // The real sample stays, the made one is drawn again and again.
    let real = normal(500, 150, 6);
    let distances: Vec<_> =
        (0..60).map(|run| kernel_distance(real.view(), moved(&normal(600 + run, 80, 6), 0.6).view()).unwrap()).collect();
    let mean = distances.iter().map(|distance| distance.value).sum::<f64>() / 60.0;
    let scatter = (distances.iter().map(|distance| (distance.value - mean).powi(2)).sum::<f64>() / 59.0).sqrt();
    let told = distances.iter().map(|distance| distance.error).sum::<f64>() / 60.0;
    assert!((0.75..1.35).contains(&(told / scatter)), "told {told}, scatters by {scatter}");
}

#[test]
fn precision_and_recall_are_one_and_nought_where_they_must_be() {
    let (wide, narrow) = (normal(20, 300, 2), normal(21, 300, 2).mapv(|value| 0.02 * value));
    let of = |real: &Array2<f32>, made: &Array2<f32>| {
        let found = precision_recall(real.view(), made.view(), NEIGHBOUR).unwrap();
        (found.precision, found.recall)
    };
    assert_eq!(of(&wide, &wide), (1.0, 1.0));
    assert_eq!(of(&wide, &moved(&wide, 50.0)), (0.0, 0.0));
    // All made vectors lie in the middle of the real ones: precise, and blind to nearly all of them; and the other way round.
    let (precision, recall) = of(&wide, &narrow);
    assert!(precision == 1.0 && recall < 0.05, "{precision} {recall}");
    assert_eq!(of(&narrow, &wide), (recall, precision));
    // One of two far groups is forgotten: half of the real ones are not recalled.
    let both = ndarray::concatenate![Axis(0), wide, moved(&wide, 50.0)];
    assert_eq!(of(&both, &wide), (1.0, 0.5));
    assert_eq!(of(&wide, &both), (0.5, 1.0));
}

#[test]
fn the_order_of_vectors_does_not_matter_and_equal_samples_are_at_distance_nought() {
    let (left, right, directions) = (normal(30, 60, 5), moved(&normal(31, 45, 5), 0.3), normal(32, 16, 5));
    let turned = left.slice(s![..;-1, ..]);
    let pairs = [
        (
            sliced_wasserstein(left.view(), right.view(), directions.view()),
            sliced_wasserstein(turned, right.view(), directions.view()),
        ),
        (
            kernel_distance(left.view(), right.view()).map(|distance| distance.value),
            kernel_distance(turned, right.view()).map(|distance| distance.value),
        ),
    ];
    for (one, other) in pairs {
        close(one.unwrap(), other.unwrap(), 1e-12, "turned round");
    }
    assert_eq!(precision_recall(left.view(), right.view(), 3).unwrap(), precision_recall(turned, right.view(), 3).unwrap());
    assert_eq!(sliced_wasserstein(left.view(), turned, directions.view()).unwrap(), 0.0);
    let one_way = sliced_wasserstein(left.view(), right.view(), directions.view()).unwrap();
    close(sliced_wasserstein(right.view(), left.view(), directions.view()).unwrap(), one_way, 1e-12, "the other way");
}

#[test]
fn what_is_no_sample_is_refused() {
    let (good, directions) = (normal(40, 6, 3), normal(41, 4, 3));
    let mut broken = good.clone();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        broken[[2, 1]] = value;
        for (left, right) in [(&good, &broken), (&broken, &good)] {
            for error in [
                sliced_wasserstein(left.view(), right.view(), directions.view()).unwrap_err(),
                kernel_distance(left.view(), right.view()).unwrap_err(),
                precision_recall(left.view(), right.view(), 3).unwrap_err(),
            ] {
                assert!(error.to_string().contains("at (2, 1), expected finite features"), "{error}");
            }
        }
    }
    let few = |rows: usize| good.slice(s![..rows, ..]);
    let message = |error: anyhow::Error| error.to_string();
    assert!(
        message(sliced_wasserstein(few(0), good.view(), directions.view()).unwrap_err())
            .contains("0 vectors, expected at least 1")
    );
    assert!(message(kernel_distance(good.view(), few(1)).unwrap_err()).contains("1 vectors, expected at least 2"));
    assert!(message(kernel_distance(good.view(), few(2)).unwrap_err()).contains("2 vectors, expected at least 3"));
    assert!(message(precision_recall(few(3), good.view(), 3).unwrap_err()).contains("3 vectors, expected at least 4"));
    assert!(message(precision_recall(good.view(), good.view(), 0).unwrap_err()).contains("expected 1 or more"));
    assert!(message(kernel_distance(good.view(), normal(1, 6, 4).view()).unwrap_err()).contains("3 and 4 features"));
    assert!(message(kernel_distance(good.slice(s![.., ..0]), good.slice(s![.., ..0])).unwrap_err()).contains("0 and 0 features"));
    assert!(sliced_wasserstein(good.view(), good.view(), directions.slice(s![..0, ..])).is_err());
    assert!(sliced_wasserstein(good.view(), good.view(), normal(1, 4, 2).view()).is_err());
    assert!(sliced_wasserstein(good.view(), good.view(), Array2::zeros((1, 3)).view()).is_err());
}
