//! The solvers of ordinary differential equations: against solutions in closed form, and against scipy's `RK45`.
//!
//! `tests/golden/ode` was written by `tests/tools/make_ode.py` with scipy 1.17.1 and numpy 2.4.6.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where it stumbles")]
#![allow(clippy::print_stdout, reason = "a test says how much it did")]

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};
use kiln::ode::{Control, Method, Reached, State, System, evenly, integrate, integrate_within};
use ndarray::{ArrayD, IxDyn};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/ode/cases.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A field over numbers alone.
fn field(slope: impl Fn(f64, &[f64]) -> Vec<f64>) -> impl FnMut(f64, &State) -> Result<State> {
    move |time, state: &State| Ok(State::of_numbers(slope(time, &state.integrals)))
}

/// The fields of `make_ode.py`.
fn problem(name: &str, time: f64, y: &[f64]) -> Vec<f64> {
    match name {
        "decay" => vec![-y[0]],
        "swelling" => vec![y[0] * time.cos()],
        "oscillator" => vec![y[1], -y[0]],
        "van_der_pol" => vec![y[1], 5.0 * (1.0 - y[0] * y[0]) * y[1] - y[0]],
        "lotka_volterra" => vec![1.5 * y[0] - y[0] * y[1], y[0] * y[1] - 3.0 * y[1]],
        "lorenz" => vec![10.0 * (y[1] - y[0]), y[0] * (28.0 - y[2]) - y[1], y[0] * y[1] - 8.0 / 3.0 * y[2]],
        "constant" => vec![2.0, 0.0],
        "stiff" => vec![-1000.0 * (y[0] - time.cos())],
        other => panic!("there is no problem `{other}`"),
    }
}

fn error(found: &State, expected: &[f64]) -> f64 {
    assert_eq!(found.integrals.len(), expected.len());
    found.integrals.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
}

#[test]
fn halving_the_steps_divides_the_error_by_two_to_the_order() {
    let mut runs = 0;
    // y' = y cos t, whose solution is e^{sin t}; and an oscillator.
    let exact = [(4.0_f64.sin()).exp(), 4.0_f64.cos(), -4.0_f64.sin()];
    for method in Method::ALL {
        let mut errors = Vec::new();
        for steps in [40, 80, 160, 320] {
            let mut system = field(|time, y| vec![y[0] * time.cos(), y[2], -y[1]]);
            let start = State::of_numbers(vec![1.0, 1.0, 0.0]);
            let solution = integrate(method, &evenly(0.0, 4.0, steps), &start, &mut system).unwrap();
            assert_eq!((solution.steps, solution.evaluations), (steps, steps * method.evaluations_per_step()));
            errors.push(error(&solution.state, &exact));
            runs += 1;
        }
        let slopes: Vec<f64> = errors.windows(2).map(|pair| (pair[0] / pair[1]).log2()).collect();
        println!("{method}: errors {errors:?}, orders {slopes:.2?}");
        let order = method.order() as f64;
        assert!(slopes.iter().all(|slope| (slope - order).abs() < 0.25), "{method}: {slopes:?} for {order}");
    }
    assert_eq!(runs, 16);
}

#[test]
fn dormand_and_prince_have_the_coefficients_that_scipy_has() {
    let golden = &golden()["tableau"];
    let tableau = Method::DormandPrince.tableau();
    let near = |found: &[f64], expected: &[f64]| {
        assert_eq!(found.len(), expected.len());
        let most = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f64::max);
        assert!(most < 1e-15, "{found:?} for {expected:?}");
    };
    near(tableau.nodes, &numbers(&golden["nodes"]));
    near(tableau.weights, &numbers(&golden["weights"]));
    // The sign of an error is a matter of taste.
    near(&tableau.error.iter().map(|weight| -weight).collect::<Vec<_>>(), &numbers(&golden["error"]));
    let rows = golden["stages"].as_array().unwrap();
    assert_eq!(rows.len(), tableau.stages.len());
    for (row, expected) in tableau.stages.iter().zip(rows) {
        near(row, &numbers(expected));
    }
}

#[test]
fn a_tolerance_leads_where_scipy_leads_in_as_many_calls() {
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    let mut names = BTreeSet::new();
    let mut most = 0.0_f64;
    for case in cases {
        let name = case["problem"].as_str().unwrap();
        names.insert(name);
        let number = |key: &str| case[key].as_f64().unwrap();
        let control = Control {
            relative: number("relative"),
            absolute: number("absolute"),
            evaluations_limit: 1_000_000,
            first_width: None,
        };
        let start = State::of_numbers(numbers(&case["start"]));
        let mut system = field(|time, y| problem(name, time, y));
        let solution = integrate_within(&control, number("first"), number("last"), &start, &mut system).unwrap();
        let expected = numbers(&case["end"]);
        let size = expected.iter().fold(1.0_f64, |most, value| most.max(value.abs()));
        let error = error(&solution.state, &expected) / size;
        // The same steps: what differs is the order of the sums, and the chaotic one enlarges that.
        assert!(error < if name == "lorenz" { 1e-6 } else { 1e-11 }, "{case} ended {error:e} away, at {:?}", solution.state);
        assert_eq!(solution.evaluations as u64, case["evaluations"].as_u64().unwrap(), "{case}");
        assert_eq!(solution.steps as u64, case["steps"].as_u64().unwrap(), "{case}");
        assert_eq!(solution.evaluations, 2 + 6 * (solution.steps + solution.rejected), "{case}");
        if name != "lorenz" {
            most = most.max(error);
        }
    }
    println!("{} cases, at most {most:.1e} from scipy", cases.len());
    assert_eq!((cases.len(), names.len()), (104, 8));
}

#[test]
fn a_finer_tolerance_comes_closer() {
    let mut before = f64::INFINITY;
    for tolerance in [1e-3, 1e-5, 1e-7, 1e-9, 1e-11] {
        let mut system = field(|time, y| vec![y[0] * time.cos()]);
        let start = State::of_numbers(vec![1.0]);
        let solution = integrate_within(&Control::new(tolerance), 0.0, 10.0, &start, &mut system).unwrap();
        let error = error(&solution.state, &[10.0_f64.sin().exp()]);
        assert!(error < 20.0 * tolerance && error < before, "{error} at {tolerance}");
        before = error;
    }
}

/// A tensor that turns, and the integral of its first value.
fn turning(_: f64, state: &State) -> Result<State> {
    let sample = &state.sample;
    let slope = ArrayD::from_shape_vec(IxDyn(&[1, 2]), vec![sample[[0, 1]], -sample[[0, 0]]])?;
    Ok(State { sample: slope, integrals: vec![f64::from(sample[[0, 0]])] })
}

fn turning_start() -> State {
    State { sample: ArrayD::from_shape_vec(IxDyn(&[1, 2]), vec![1.0, 0.0]).unwrap(), integrals: vec![0.0] }
}

#[test]
fn numbers_are_integrated_along_with_a_tensor() {
    let check = |solution: kiln::ode::Solution, tolerance: f64, name: &str| {
        let State { sample, integrals } = &solution.state;
        let found = [f64::from(sample[[0, 0]]), f64::from(sample[[0, 1]]), integrals[0]];
        for (found, expected) in found.into_iter().zip([2.0_f64.cos(), -2.0_f64.sin(), 2.0_f64.sin()]) {
            assert!((found - expected).abs() < tolerance, "{name}: {found} for {expected}");
        }
    };
    for (method, tolerance) in [(Method::Euler, 1e-1), (Method::Heun, 1e-3), (Method::Rk4, 1e-6), (Method::DormandPrince, 1e-6)] {
        let solution = integrate(method, &evenly(0.0, 2.0, 50), &turning_start(), &mut turning).unwrap();
        check(solution, tolerance, method.name());
    }
    check(integrate_within(&Control::new(1e-6), 0.0, 2.0, &turning_start(), &mut turning).unwrap(), 1e-5, "by tolerance");
}

#[test]
fn an_integral_is_held_to_the_tolerance_beside_many_values() {
    // The tensor stands still, so that its error hides nothing but the integral's own.
    let start = State { sample: ArrayD::ones(IxDyn(&[1, 3, 32, 32])), integrals: vec![0.0] };
    let mut system = |time: f64, state: &State| {
        Ok(State { sample: ArrayD::zeros(state.sample.raw_dim()), integrals: vec![1.0 / (1e-3 + time * time)] })
    };
    let solution = integrate_within(&Control::new(1e-6), -1.0, 1.0, &start, &mut system).unwrap();
    let root = 1e-3_f64.sqrt();
    let expected = 2.0 / root * (1.0 / root).atan();
    assert!((solution.state.integrals[0] / expected - 1.0).abs() < 1e-5, "{}", solution.state.integrals[0]);
}

#[test]
fn the_way_back_is_the_way_there_reversed() {
    let start = State::of_numbers(vec![10.0, 5.0]);
    let there = |time: f64, y: &[f64]| problem("lotka_volterra", time, y);
    let mirrored = |time: f64, y: &[f64]| there(-time, y).into_iter().map(|slope| -slope).collect::<Vec<_>>();
    for (method, tolerance) in Method::ALL.into_iter().zip([0.5, 1e-4, 1e-9, 1e-11]) {
        let times = evenly(0.0, 1.0, 400);
        let forward = integrate(method, &times, &start, &mut field(there)).unwrap();
        // Time counted the other way, with the opposite slope, is the same path to the last bit.
        let opposite: Vec<f64> = times.iter().map(|time| -time).collect();
        let other = integrate(method, &opposite, &start, &mut field(mirrored)).unwrap();
        assert_eq!(forward, other, "{method}");
        let falling: Vec<f64> = times.into_iter().rev().collect();
        let back = integrate(method, &falling, &forward.state, &mut field(there)).unwrap();
        let error = error(&back.state, &start.integrals);
        println!("{method} comes back to {error:.1e}");
        assert!(error < tolerance, "{method}: {error}");
    }
    let control = Control::new(1e-10);
    let forward = integrate_within(&control, 0.0, 1.0, &start, &mut field(there)).unwrap();
    let other = integrate_within(&control, 0.0, -1.0, &start, &mut field(mirrored)).unwrap();
    assert_eq!(forward, other);
    let back = integrate_within(&control, 1.0, 0.0, &forward.state, &mut field(there)).unwrap();
    assert!(error(&back.state, &start.integrals) < 1e-7, "{:?}", back.state);
}

/// Counts what it is asked and told, and may fail.
#[derive(Default)]
struct Watched {
    asked: usize,
    told: Vec<(usize, usize, f64)>,
    fails_at: Option<usize>,
    stops_at: Option<usize>,
}

impl System for Watched {
    fn slope(&mut self, _: f64, state: &State) -> Result<State> {
        self.asked += 1;
        if self.fails_at == Some(self.asked) {
            bail!("the network is gone");
        }
        Ok(State::of_numbers(vec![-state.integrals[0]]))
    }

    fn stepped(&mut self, reached: Reached<'_>) -> Result<()> {
        self.told.push((reached.steps, reached.evaluations, reached.time));
        if self.stops_at == Some(reached.steps) {
            bail!("cancelled");
        }
        Ok(())
    }
}

#[test]
fn calls_are_counted_and_steps_are_told() {
    let start = State::of_numbers(vec![1.0]);
    for method in Method::ALL {
        let mut watched = Watched::default();
        let solution = integrate(method, &evenly(1.0, 0.0, 4), &start, &mut watched).unwrap();
        assert_eq!((watched.asked, watched.told.len()), (solution.evaluations, 4), "{method}");
        assert_eq!(watched.told[3], (4, solution.evaluations, 0.0), "{method}");
    }
    let mut watched = Watched::default();
    let solution = integrate_within(&Control::new(1e-6), 1.0, 0.0, &start, &mut watched).unwrap();
    assert_eq!((watched.asked, watched.told.len()), (solution.evaluations, solution.steps));
    assert!(watched.told.windows(2).all(|pair| pair[1].2 < pair[0].2) && watched.told.last().unwrap().2 == 0.0);
    let still = integrate_within(&Control::new(1e-6), 1.0, 1.0, &start, &mut watched).unwrap();
    assert_eq!((still.state, still.evaluations), (start, 0));
}

#[test]
fn a_system_that_fails_or_stops_ends_the_integration() {
    let start = State::of_numbers(vec![1.0]);
    let message = |watched: &mut Watched| {
        let times = evenly(0.0, 1.0, 10);
        let fixed = integrate(Method::Rk4, &times, &start, watched).unwrap_err().to_string();
        *watched = Watched { fails_at: watched.fails_at, stops_at: watched.stops_at, ..Watched::default() };
        (fixed, integrate_within(&Control::new(1e-9), 0.0, 1.0, &start, watched).unwrap_err().to_string())
    };
    let failed = message(&mut Watched { fails_at: Some(9), ..Watched::default() });
    assert_eq!(failed, ("the network is gone".to_owned(), "the network is gone".to_owned()));
    let stopped = message(&mut Watched { stops_at: Some(3), ..Watched::default() });
    assert_eq!(stopped, ("cancelled".to_owned(), "cancelled".to_owned()));
}

#[test]
fn a_field_that_no_step_can_follow_is_refused() {
    let refused = |error: anyhow::Error| {
        assert!(kiln::error::is_refusal(&error), "{error:#}");
        error.to_string()
    };
    let start = State::of_numbers(vec![0.0]);
    let control = Control { evaluations_limit: 500, ..Control::new(1e-6) };
    let mut stiff = field(|time, y| vec![-1e6 * (y[0] - time.cos())]);
    let error = refused(integrate_within(&control, 0.0, 1.0, &start, &mut stiff).unwrap_err());
    assert!(
        error.starts_with("solver `dopri5`: 500 calls of the network led from time 0 to 0.000")
            && error.contains("too stiff for this tolerance; loosen it"),
        "{error}"
    );
    // x' = x² from 1 is nowhere at time 1.
    let mut bursting = field(|_, y| vec![y[0] * y[0]]);
    let control = Control { evaluations_limit: 100_000, ..Control::new(1e-6) };
    let error = refused(integrate_within(&control, 0.0, 2.0, &State::of_numbers(vec![1.0]), &mut bursting).unwrap_err());
    assert!(error.contains("narrower than time resolves"), "{error}");
    for (control, expected) in [
        (Control { absolute: -1.0, ..Control::new(1e-3) }, "absolute tolerance is -1, expected a number from 0"),
        (Control { relative: f64::NAN, ..Control::new(1e-3) }, "relative tolerance is NaN, expected a number from 0"),
        (Control::new(0.0), "tolerance is 0, expected more than 1e-13, about what f64 resolves"),
        (Control { first_width: Some(0.0), ..Control::new(1e-3) }, "the first step is 0 wide, expected a positive number"),
    ] {
        assert_eq!(refused(integrate_within(&control, 0.0, 1.0, &start, &mut stiff).unwrap_err()), expected);
    }
}

#[test]
fn what_is_not_finite_or_of_another_shape_is_an_error() {
    let one = State::of_numbers(vec![1.0]);
    let message = |times: &[f64], start: &State, slope: State| {
        let mut system = |_: f64, _: &State| Ok(slope.clone());
        format!("{:#}", integrate(Method::Heun, times, start, &mut system).unwrap_err())
    };
    let span = [1.0, 0.5, 0.0];
    let not_finite = State::of_numbers(vec![f64::NAN]);
    assert_eq!(message(&span, &not_finite, one.clone()), "the start is NaN in its integrals, expected finite numbers");
    assert_eq!(
        message(&span, &one, not_finite.clone()),
        "solver at time 1, call 1: the slope is NaN in its integrals, expected finite numbers"
    );
    let other = State::new(ArrayD::zeros(IxDyn(&[2])));
    assert_eq!(
        message(&span, &one, other),
        "solver at time 1, call 1: the slope has shape [2] and 0 integrals, expected [0] and 1, as the state has"
    );
    let tensor = State::new(ArrayD::from_elem(IxDyn(&[2]), f32::INFINITY));
    assert_eq!(message(&span, &tensor, tensor.clone()), "the start is inf in its tensor, expected finite numbers");
    for (times, expected) in [
        (&[1.0][..], "there are 1 times, expected two or more, the first and the last of the way"),
        (&[1.0, f64::NAN], "times[1] is NaN, expected a finite number"),
        (&[1.0, 0.5, 0.7], "times[2] is 0.7 after 0.5, expected times that all rise or all fall"),
        (&[0.0, 0.5, 0.5], "times[2] is 0.5 after 0.5, expected times that all rise or all fall"),
        (&[0.0, 0.0], "times[1] is 0 after 0, expected times that all rise or all fall"),
    ] {
        assert_eq!(message(times, &one, one.clone()), expected);
    }
    let mut system = |_: f64, _: &State| Ok(not_finite.clone());
    let error = integrate_within(&Control::new(1e-3), 0.0, 1.0, &one, &mut system).unwrap_err();
    assert!(!kiln::error::is_refusal(&error), "{error:#}");
    assert!(integrate_within(&Control::new(1e-3), 0.0, f64::NAN, &one, &mut system).is_err());
}

#[test]
fn methods_are_known_by_their_names() {
    for method in Method::ALL {
        assert_eq!(method.to_string().parse::<Method>().unwrap(), method);
        assert_eq!(method.is_adaptive(), method == Method::DormandPrince);
    }
    assert_eq!(Method::ALL.map(Method::evaluations_per_step), [1, 2, 4, 6]);
    let error = "rk5".parse::<Method>().unwrap_err();
    assert!(kiln::error::is_refusal(&error));
    assert_eq!(error.to_string(), "solver is `rk5`, expected one of euler, heun, rk4, dopri5");
}

#[test]
fn times_are_spaced_evenly_and_end_where_they_should() {
    assert_eq!(evenly(1.0, 0.0, 4), [1.0, 0.75, 0.5, 0.25, 0.0]);
    for steps in 1..200 {
        let times = evenly(0.1, 0.7, steps);
        assert_eq!((times.len(), times[0], times[steps]), (steps + 1, 0.1, 0.7));
    }
}
