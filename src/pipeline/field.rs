//! The field of a differential equation that a family's network tells, and the likelihood along it.
//!
//! R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, 2018, "Neural Ordinary Differential Equations", arXiv:1806.07366,
//! theorem 1 (d ln p / dt = −div f); W. Grathwohl et al., 2018, "FFJORD: Free-form Continuous Dynamics for Scalable Reversible
//! Generative Models", arXiv:1810.01367, eq. 4 and section 3.1; M. F. Hutchinson, 1989, "A stochastic estimator of the trace of
//! the influence matrix" (div f is the mean of εᵀ (∂f/∂x) ε over signs ε).
//!
//! In: an [`Equation`], which says what a family's network means, and a [`Network`]. Out: where the way leads, nats.
//! Not here: the families themselves (`continuous_flow`, `score`), what is made of a job (`integrated`), the methods (`ode`).
//!
//! The network has no derivative to ask for, so (∂f/∂x) ε is the central difference (f(x + wε) − f(x − wε)) / 2w. Its error falls with w²
//! and is small where w is a small part of the noise in x; the network's rounding, divided by 2w, grows as w falls. The same ε
//! serve the whole way, as FFJORD has it, so that the equation stays one.

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, Axis, Slice, concatenate};

use crate::ode::{self, Control, Reached, Solution, State, System};
use crate::request::Solver;

/// What a family's network says of the way between pictures and noise.
pub(super) trait Equation {
    /// The times at which pictures and noise lie.
    fn ends(&self) -> (f64, f64);

    /// The deviation of the noise at its end.
    fn noise_deviation(&self) -> f64;

    /// What the network is told at `time`.
    fn timestep(&self, time: f64) -> f32;

    /// dx/dt of the network's prediction at `time`.
    fn slope(&self, time: f64, prediction: ArrayD<f32>) -> ArrayD<f32>;

    /// The clean picture that `slope` at `sample` points to, for previews.
    fn estimate(&self, time: f64, sample: &ArrayD<f32>, slope: &ArrayD<f32>) -> ArrayD<f32>;

    /// How far from a sample at `time` its neighbours are taken whose difference tells the derivative.
    fn width(&self, time: f64) -> f64;

    /// The times of a likelihood by `steps` steps, from a picture to noise.
    fn likelihood_times(&self, steps: usize) -> Vec<f64> {
        let (picture, noise) = self.ends();
        ode::evenly(picture, noise, steps)
    }
}

/// What is asked along the way.
pub(super) trait Network {
    /// Predicts for `sample`, `[N, C, H, W]` f32 whose rows are one batch or several of it.
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>>;

    /// Is told how many steps are done, which part of the way that is, and the clean picture that the last call pointed to.
    fn stepped(&mut self, step: usize, part: f64, estimate: &dyn Fn() -> Option<ArrayD<f32>>) -> Result<()> {
        let _ = (step, part, estimate);
        Ok(())
    }
}

/// An equation with its network, as the solvers see it.
struct Field<'a> {
    equation: &'a dyn Equation,
    network: &'a mut dyn Network,
    /// Signs, `[S, C, H, W]` f32, where the divergence is to be integrated along.
    probes: Option<&'a ArrayD<f32>>,
    ends: (f64, f64),
    /// Where the network was last asked, and its answer.
    last: Option<(f64, ArrayD<f32>, ArrayD<f32>)>,
}

impl System for Field<'_> {
    fn slope(&mut self, time: f64, state: &State) -> Result<State> {
        let sample = &state.sample;
        let timestep = self.equation.timestep(time);
        let Some(probes) = self.probes else {
            let slope = self.equation.slope(time, self.network.predict(sample, timestep)?);
            self.last = Some((time, sample.clone(), slope.clone()));
            return Ok(State::new(slope));
        };
        #[expect(clippy::cast_possible_truncation, reason = "a small number among f32")]
        let apart = probes * self.equation.width(time) as f32;
        let (count, doubled) = (probes.len_of(Axis(0)), 2.0 * self.equation.width(time));
        let rows = concatenate(Axis(0), &[sample.view(), (sample + &apart).view(), (sample - &apart).view()])?;
        let slopes = self.equation.slope(time, self.network.predict(&rows, timestep)?);
        ensure!(slopes.shape() == rows.shape(), "the slopes have shape {:?}, expected {:?}", slopes.shape(), rows.shape());
        let part = |first: usize, rows: usize| slopes.slice_axis(Axis(0), Slice::from(first..first + rows));
        let (above, below) = (part(1, count), part(1 + count, count));
        let products = above
            .iter()
            .zip(&below)
            .zip(probes)
            .map(|((above, below), probe)| (f64::from(*above) - f64::from(*below)) * f64::from(*probe));
        #[expect(clippy::cast_precision_loss, reason = "a few probes")]
        let divergence = products.sum::<f64>() / (doubled * count as f64);
        Ok(State { sample: part(0, 1).to_owned(), integrals: vec![divergence] })
    }

    fn stepped(&mut self, reached: Reached<'_>) -> Result<()> {
        let (first, last) = self.ends;
        let part = (reached.time - first) / (last - first);
        let (equation, last) = (self.equation, &self.last);
        let estimate = || last.as_ref().map(|(time, sample, slope)| equation.estimate(*time, sample, slope));
        self.network.stepped(reached.steps, part, &estimate)
    }
}

/// Asks for the rows of `sample`, `[N, …]`, some at a time, and puts the answers together.
///
/// * `most`: rows of one call; `is_fixed`: every call has that many, of which those too many are the last row again and are cut off
/// * `ask`: given rows and their numbers in `sample`
pub(super) fn in_parts(
    sample: &ArrayD<f32>,
    most: usize,
    is_fixed: bool,
    mut ask: impl FnMut(&ArrayD<f32>, &[usize]) -> Result<ArrayD<f32>>,
) -> Result<ArrayD<f32>> {
    let (rows, most) = (sample.len_of(Axis(0)), most.max(1));
    let mut parts = Vec::new();
    for first in (0..rows).step_by(most) {
        let last = rows.min(first + most);
        let end = if is_fixed { first + most } else { last };
        let numbers: Vec<usize> = (first..end).map(|row| row.min(last - 1)).collect();
        let mut part = ask(&sample.select(Axis(0), &numbers), &numbers)?;
        ensure!(
            part.len_of(Axis(0)) == numbers.len(),
            "{} rows were asked for, and {} came",
            numbers.len(),
            part.len_of(Axis(0))
        );
        part.slice_axis_inplace(Axis(0), Slice::from(..last - first));
        parts.push(part);
    }
    let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
    Ok(concatenate(Axis(0), &views)?)
}

/// Follows `equation` from `start` through `times`, of which a solver that chooses its own takes the ends.
pub(super) fn follow(
    equation: &dyn Equation,
    network: &mut dyn Network,
    solver: Solver,
    times: &[f64],
    start: &State,
    probes: Option<&ArrayD<f32>>,
) -> Result<Solution> {
    let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else { bail!("the way has no times") };
    let mut field = Field { equation, network, probes, ends: (first, last), last: None };
    if solver.method.is_adaptive() {
        ode::integrate_within(&Control::new(f64::from(solver.tolerance)), first, last, start, &mut field)
    } else {
        ode::integrate(solver.method, times, start, &mut field)
    }
}

/// The log-likelihood of `picture`, `[1, C, H, W]` f32 in [-1, 1], in nats: that of the noise at the end of the way, and the divergence
/// along it.
///
/// * `probes`: signs, `[S, C, H, W]` f32; the divergence is the mean over them
pub(super) fn log_density(
    equation: &dyn Equation,
    network: &mut dyn Network,
    solver: Solver,
    steps: usize,
    picture: &ArrayD<f32>,
    probes: &ArrayD<f32>,
) -> Result<f64> {
    let start = State { sample: picture.clone(), integrals: vec![0.0] };
    let solution = follow(equation, network, solver, &equation.likelihood_times(steps), &start, Some(probes))?;
    let divergence = solution.state.integrals.first().context("the solver has lost the divergence")?;
    let deviation = equation.noise_deviation();
    let normalizer = deviation.ln() + 0.5 * std::f64::consts::TAU.ln();
    let prior: f64 = solution.state.sample.iter().map(|x| -0.5 * (f64::from(*x) / deviation).powi(2) - normalizer).sum();
    Ok(prior + divergence)
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::super::continuous_flow::Velocity;
    use super::super::score::ProbabilityFlow;
    use super::*;
    use crate::ode::Method;
    use crate::random::{Device, Generator};

    const SIZE: usize = 6;
    const MEAN: [f64; SIZE] = [0.3, -0.2, 0.1, 0.5, -0.4, 0.0];
    /// The data's variances along its own axes.
    const VARIANCES: [f64; SIZE] = [0.04, 0.09, 0.2, 0.3, 0.5, 0.9];

    /// Reflects at a plane that lies along no axis, so that the data's own axes are none of the picture's.
    fn reflected(vector: &[f64]) -> Vec<f64> {
        let normal: Vec<f64> = (0..SIZE).map(|place| 1.0 + place as f64 * 0.7).collect();
        let dot = |left: &[f64], right: &[f64]| left.iter().zip(right).map(|(left, right)| left * right).sum::<f64>();
        let share = 2.0 * dot(vector, &normal) / dot(&normal, &normal);
        vector.iter().zip(&normal).map(|(value, normal)| value - share * normal).collect()
    }

    /// Scales `vector` along the data's own axes; the variances are the axes', or all in the picture's where `is_plain`.
    fn scaled(vector: &[f64], is_plain: bool, scale: impl Fn(f64) -> f64) -> Vec<f64> {
        let turned = if is_plain { vector.to_vec() } else { reflected(vector) };
        let scaled: Vec<f64> = turned.iter().zip(VARIANCES).map(|(value, variance)| value * scale(variance)).collect();
        if is_plain { scaled } else { reflected(&scaled) }
    }

    /// The prediction of a perfect network for normal data, which is linear in the sample.
    struct Toy {
        is_score: bool,
        is_plain: bool,
        calls: usize,
    }

    impl Network for Toy {
        fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>> {
            self.calls += 1;
            let mut prediction = sample.clone();
            for mut row in prediction.axis_iter_mut(Axis(0)) {
                let level = f64::from(timestep);
                let of = |mean: f64, scale: &dyn Fn(f64) -> f64| -> Vec<f64> {
                    let centred: Vec<f64> = row.iter().zip(MEAN).map(|(x, centre)| f64::from(*x) - mean * centre).collect();
                    scaled(&centred, self.is_plain, scale)
                };
                let values: Vec<f64> = if self.is_score {
                    of(1.0, &|variance| -1.0 / (variance + level * level))
                } else {
                    let sigma = level / 1000.0;
                    let left = 1.0 - sigma;
                    let slopes = of(left, &|variance| (sigma - left * variance) / (left * left * variance + sigma * sigma));
                    slopes.iter().zip(MEAN).map(|(slope, centre)| slope - centre).collect()
                };
                for (place, value) in row.iter_mut().zip(values) {
                    *place = value as f32;
                }
            }
            Ok(prediction)
        }
    }

    fn tensor(values: &[f64]) -> ArrayD<f32> {
        ArrayD::from_shape_vec(IxDyn(&[1, SIZE]), values.iter().map(|value| *value as f32).collect()).unwrap()
    }

    /// ln p of the data, with `extra` added to each variance.
    fn exact(picture: &ArrayD<f32>, is_plain: bool, extra: f64) -> f64 {
        let centred: Vec<f64> = picture.iter().zip(MEAN).map(|(x, mean)| f64::from(*x) - mean).collect();
        let own = if is_plain { centred } else { reflected(&centred) };
        own.iter()
            .zip(VARIANCES)
            .map(|(value, variance)| {
                let variance = variance + extra;
                -0.5 * (value * value / variance + (std::f64::consts::TAU * variance).ln())
            })
            .sum()
    }

    fn signs(count: usize) -> ArrayD<f32> {
        let normals = Generator::new(Device::Cpu, 11).normals(count * SIZE);
        let signs = normals.into_iter().map(|value| if value < 0.0 { -1.0 } else { 1.0 }).collect();
        ArrayD::from_shape_vec(IxDyn(&[count, SIZE]), signs).unwrap()
    }

    fn equations() -> [(bool, Box<dyn Equation>, f64); 2] {
        let (sigma_min, sigma_max) = (0.01, 1000.0);
        let score = ProbabilityFlow { sigma_min, sigma_max };
        [(false, Box::new(Velocity), 0.0), (true, Box::new(score), sigma_min * sigma_min)]
    }

    const CLOSE: Solver = Solver { method: Method::DormandPrince, tolerance: 1e-6 };

    #[test]
    fn rows_in_parts_are_answered_as_rows_at_once() {
        let sample = ArrayD::from_shape_vec(IxDyn(&[7, 2]), (0..14_u8).map(f32::from).collect()).unwrap();
        for (most, is_fixed, sizes) in [
            (9, false, vec![7]),
            (3, false, vec![3, 3, 1]),
            (1, true, vec![1; 7]),
            (2, true, vec![2; 4]),
            (9, true, vec![9]),
            (0, false, vec![1; 7]),
        ] {
            let mut asked = Vec::new();
            let found = in_parts(&sample, most, is_fixed, |rows, numbers| {
                assert_eq!(rows, sample.select(Axis(0), numbers));
                asked.push(numbers.len());
                Ok(rows * 2.0)
            });
            assert_eq!((found.unwrap(), asked), (&sample * 2.0, sizes), "{most} {is_fixed}");
        }
        assert!(in_parts(&sample, 3, false, |_, _| Ok(sample.clone())).is_err());
    }

    #[test]
    fn one_probe_tells_the_likelihood_of_values_that_are_independent() {
        let picture = tensor(&[0.1, 0.4, -0.6, 0.2, 0.9, -1.0]);
        for (is_score, equation, extra) in equations() {
            let expected = exact(&picture, true, extra);
            for (method, steps, tolerance) in [
                (Method::DormandPrince, 1, 5e-3),
                (Method::Rk4, 120, 5e-3),
                (Method::Heun, 600, 2e-2),
                (Method::Euler, 2000, 0.3),
            ] {
                let mut toy = Toy { is_score, is_plain: true, calls: 0 };
                let solver = Solver { method, ..CLOSE };
                let found = log_density(&*equation, &mut toy, solver, steps, &picture, &signs(1)).unwrap();
                assert!((found - expected).abs() < tolerance, "{method}, score {is_score}: {found} for {expected}");
            }
        }
    }

    #[test]
    fn many_probes_tell_the_likelihood_of_values_that_hang_together() {
        for values in [[0.1, 0.4, -0.6, 0.2, 0.9, -1.0], [0.3, -0.2, 0.1, 0.5, -0.4, 0.0]] {
            let picture = tensor(&values);
            for (is_score, equation, extra) in equations() {
                let expected = exact(&picture, false, extra);
                let of = |count: usize, first: usize| {
                    let mut toy = Toy { is_score, is_plain: false, calls: 0 };
                    let probes = signs(1500).slice_axis(Axis(0), Slice::from(first..first + count)).to_owned();
                    log_density(&*equation, &mut toy, CLOSE, 1, &picture, &probes).unwrap()
                };
                let found = of(1500, 0);
                assert!((found - expected).abs() < 0.08, "score {is_score}: {found} for {expected}");
                // One probe is off by a chance of its own, which is what many are for.
                let single: Vec<f64> = (0..10).map(|first| of(1, first)).collect();
                assert!(single.iter().any(|single| (single - expected).abs() > 0.1), "{single:?} for {expected}");
            }
        }
    }

    #[test]
    fn noise_and_data_are_two_ends_of_one_way() {
        let noise = [0.7, -1.2, 0.1, 1.9, -0.3, 0.5];
        for (is_score, equation, extra) in equations() {
            let deviation = equation.noise_deviation();
            let (start, end) = if is_score { (deviation, 1.0) } else { (1.0, 0.0) };
            let widened: Vec<f64> =
                noise.iter().zip(MEAN).map(|(noise, mean)| noise * start + if is_score { mean } else { 0.0 }).collect();
            // Each axis is scaled by how much wider noise is than data there.
            let expected: Vec<f64> = scaled(&noise, false, |variance| {
                if is_score {
                    deviation * ((variance + extra) / (variance + deviation * deviation)).sqrt()
                } else {
                    variance.sqrt()
                }
            });
            let expected: Vec<f64> = expected.iter().zip(MEAN).map(|(value, mean)| value + mean).collect();
            let (clean, noisy) = equation.ends();
            for (method, steps, tolerance) in [
                (Method::DormandPrince, 1, 1e-4),
                (Method::Rk4, 100, 1e-4),
                (Method::Heun, 300, 5e-3),
                (Method::Euler, 2000, 5e-2),
            ] {
                let mut toy = Toy { is_score, is_plain: false, calls: 0 };
                let solver = Solver { method, ..CLOSE };
                let mut way = |from: f64, to: f64, start: &ArrayD<f32>| {
                    let times = ode::evenly(from, to, steps);
                    follow(&*equation, &mut toy, solver, &times, &State::new(start.clone()), None).unwrap()
                };
                let there = way(noisy, clean, &tensor(&widened));
                for (found, expected) in there.state.sample.iter().zip(&expected) {
                    assert!(
                        (f64::from(*found) - expected).abs() < tolerance,
                        "{method}, score {is_score}: {found} for {expected}"
                    );
                }
                let back = way(clean, noisy, &there.state.sample);
                for (found, expected) in back.state.sample.iter().zip(&widened) {
                    let error = (f64::from(*found) - expected).abs() / deviation;
                    assert!(error < 2.0 * tolerance + end * 1e-4, "{method}, score {is_score}: back at {found} for {expected}");
                }
                assert_eq!(toy.calls, there.evaluations + back.evaluations);
            }
        }
    }
}
