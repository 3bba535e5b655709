//! Steps chosen by a tolerance, by the method of Dormand and Prince.
//!
//! J. R. Dormand, P. J. Prince, 1980, "A family of embedded Runge-Kutta formulae"; E. Hairer, S. P. Nørsett, G. Wanner, 1993,
//! "Solving Ordinary Differential Equations I", section II.4: the error's size (eq. 4.11), the next step (eq. 4.13) and the first
//! one (page 169). Steps are those that scipy's `RK45` takes.
//!
//! In: the first and the last time, a tolerance. Out: the state at the last time.
//! Not here: steps that are given (`grid`).
//!
//! | here     | book    | meaning                                                          |
//! |----------|---------|------------------------------------------------------------------|
//! | `width`  | h       | width of a step, with its direction                              |
//! | `scale`  | sc_i    | absolute + relative · max(\|x_i\|, \|x̂_i\|)                      |
//! | `error`  | err     | size of the difference of the two methods against `scale`        |
//! | `SAFETY` | fac     | share of the width that the estimate would allow                 |
//!
//! The last slope of a step is the first of the next, so each step costs six calls.

use anyhow::{Result, bail};

use super::{Field, Method, Solution, State, System, moved, weighed};
use crate::refuse;

const SAFETY: f64 = 0.9;
/// The least and the most that one step's width may be of the one before.
const LEAST_FACTOR: f64 = 0.2;
const MOST_FACTOR: f64 = 10.0;
/// One over the order of the error estimate plus one.
const EXPONENT: f64 = 1.0 / 5.0;

/// How closely to follow the field, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Control {
    /// Error that each value may have in a step, in its own unit.
    pub absolute: f64,
    /// Error that each value may have in a step, as a share of its size.
    pub relative: f64,
    /// The most calls of the field.
    pub evaluations_limit: usize,
    /// The width of the first step; chosen by the field where nothing is given.
    pub first_width: Option<f64>,
}

impl Control {
    /// Calls of the field that a run may take unless it says otherwise.
    pub const EVALUATIONS_LIMIT: usize = 10_000;

    /// Takes `tolerance` for both the absolute and the relative one.
    #[must_use]
    pub fn new(tolerance: f64) -> Self {
        Self { absolute: tolerance, relative: tolerance, evaluations_limit: Self::EVALUATIONS_LIMIT, first_width: None }
    }

    fn check(&self) -> Result<()> {
        for (name, tolerance) in [("absolute", self.absolute), ("relative", self.relative)] {
            if !tolerance.is_finite() || tolerance < 0.0 {
                refuse!("{name} tolerance is {tolerance}, expected a number from 0");
            }
        }
        if self.absolute == 0.0 && self.relative < 1e-13 {
            refuse!("tolerance is {}, expected more than 1e-13, about what f64 resolves", self.relative);
        }
        if let Some(width) = self.first_width
            && !(width.is_finite() && width > 0.0)
        {
            refuse!("the first step is {width} wide, expected a positive number");
        }
        Ok(())
    }

    /// What an error of 1 is for each value that goes from `before` to `after`.
    fn scale(&self, before: &[f64], after: &[f64]) -> Vec<f64> {
        before.iter().zip(after).map(|(a, b)| self.absolute + self.relative * a.abs().max(b.abs())).collect()
    }
}

/// Integrates `system` from `start` at time `first` to time `last`, with steps of `dopri5` as wide as `control` allows.
///
/// # Errors
/// The tolerance is no number from 0 or too fine for f64 (a refusal); the field is so stiff that the limit of calls is reached or that
/// steps become narrower than time resolves (a refusal); the times are not finite; the start or a slope is not finite, or a slope
/// has another shape than the start; the system fails.
pub fn integrate_within(control: &Control, first: f64, last: f64, start: &State, system: &mut dyn System) -> Result<Solution> {
    control.check()?;
    if !first.is_finite() || !last.is_finite() {
        bail!("the times go from {first} to {last}, expected finite numbers");
    }
    let tableau = Method::DormandPrince.tableau();
    let direction = if last < first { -1.0 } else { 1.0 };
    let mut field = Field::new(system, start);
    let mut flat = field.layout.flat(start, "the start")?;
    let (mut steps, mut rejected) = (0, 0);
    if first == last {
        return Ok(Solution { state: start.clone(), steps, rejected, evaluations: 0 });
    }
    let mut time = first;
    let mut slope = field.slope(time, &flat)?;
    let mut size = match control.first_width {
        Some(width) => width,
        None => first_width(control, &mut field, time, last, &flat, &slope)?,
    };
    while time != last {
        let narrowest = 10.0 * spacing(time, direction);
        size = size.max(narrowest);
        let mut was_rejected = false;
        loop {
            if size < narrowest {
                refuse!(
                    "solver `dopri5`: steps have become narrower than time resolves at {time}: the field jumps there; use a method of fixed steps, such as `rk4`"
                );
            }
            if field.evaluations + tableau.nodes.len() > control.evaluations_limit {
                refuse!(
                    "solver `dopri5`: {} calls of the network led from time {first} to {time} only, of {last}: the field is too stiff for this tolerance; loosen it, or use a method of fixed steps, such as `rk4`",
                    field.evaluations
                );
            }
            let next = if (last - time) * direction <= size { last } else { time + size * direction };
            let width = next - time;
            size = width.abs();
            let (mut slopes, reached) = field.stages(&tableau, time, width, &flat, slope.clone())?;
            let slope_there = field.slope(next, &reached)?;
            slopes.push(slope_there);
            let scale = control.scale(&flat, &reached);
            let differences: Vec<f64> = weighed(flat.len(), tableau.error, &slopes)
                .into_iter()
                .zip(scale)
                .map(|(difference, scale)| in_units(width * difference, scale))
                .collect();
            let error = field.layout.norm(&differences);
            if error < 1.0 {
                let allowed = if error == 0.0 { MOST_FACTOR } else { (SAFETY * error.powf(-EXPONENT)).min(MOST_FACTOR) };
                // After a rejection the step does not grow at once.
                size *= if was_rejected { allowed.min(1.0) } else { allowed };
                (time, flat) = (next, reached);
                slope = slopes.pop().unwrap_or_default();
                break;
            }
            size *= (SAFETY * error.powf(-EXPONENT)).max(LEAST_FACTOR);
            was_rejected = true;
            rejected += 1;
        }
        steps += 1;
        field.stepped(steps, time, &flat)?;
    }
    Ok(Solution { state: field.layout.state(&flat)?, steps, rejected, evaluations: field.evaluations })
}

/// `value` in units of `scale`; nothing is no error even where none is allowed.
fn in_units(value: f64, scale: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value / scale }
}

/// The distance from `time` to the next number that f64 has in this direction.
fn spacing(time: f64, direction: f64) -> f64 {
    (if direction > 0.0 { time.next_up() } else { time.next_down() } - time).abs()
}

/// Guesses the first step from the size of the state, of its slope, and of the change of the slope over a short way.
fn first_width(control: &Control, field: &mut Field<'_>, time: f64, last: f64, flat: &[f64], slope: &[f64]) -> Result<f64> {
    let way = (last - time).abs();
    let direction = (last - time).signum();
    let scale = control.scale(flat, flat);
    let sized = |field: &Field<'_>, values: &[f64]| {
        let units: Vec<f64> = values.iter().zip(&scale).map(|(value, scale)| in_units(*value, *scale)).collect();
        field.layout.norm(&units)
    };
    let (of_state, of_slope) = (sized(field, flat), sized(field, slope));
    let short = if of_state < 1e-5 || of_slope < 1e-5 { 1e-6 } else { 0.01 * of_state / of_slope };
    let short = short.min(way);
    let place = moved(flat, short * direction, &[1.0], &[slope.to_vec()]);
    let there = field.slope(time + short * direction, &place)?;
    let change: Vec<f64> = there.iter().zip(slope).map(|(there, here)| there - here).collect();
    let of_change = sized(field, &change) / short;
    let wide = if of_slope <= 1e-15 && of_change <= 1e-15 {
        (short * 1e-3).max(1e-6)
    } else {
        (0.01 / of_slope.max(of_change)).powf(EXPONENT)
    };
    let width = (100.0 * short).min(wide).min(way);
    // Infinite units, where the tolerance allows no error at 0, tell nothing.
    Ok(if width.is_finite() && width > 0.0 { width } else { 1e-6_f64.min(way) })
}
