//! Steps from one given time to the next, by any of the methods.
//!
//! E. Hairer, S. P. Nørsett, G. Wanner, 1993, "Solving Ordinary Differential Equations I", section II.1, eq. 1.8.
//!
//! In: the times, rising or falling. Out: the state at the last one.
//! Not here: steps chosen by a tolerance (`adaptive`).

use anyhow::{Result, bail};

use super::{Field, Method, Solution, State, System};

/// Spaces `steps` steps evenly from `first` to `last`: `steps` + 1 times.
#[must_use]
pub fn evenly(first: f64, last: f64, steps: usize) -> Vec<f64> {
    let count = steps.max(1) as f64;
    let mut times: Vec<f64> = (0..=steps).map(|step| first + (last - first) * step as f64 / count).collect();
    if let Some(time) = times.last_mut().filter(|_| steps > 0) {
        *time = last;
    }
    times
}

/// Integrates `system` from `start` at the first of `times` to the last, with one step of `method` between neighbours.
///
/// # Errors
/// There are fewer than two times, one is not finite, or they neither rise nor fall throughout; the start or a slope is not finite,
/// or a slope has another shape than the start; the system fails.
pub fn integrate(method: Method, times: &[f64], start: &State, system: &mut dyn System) -> Result<Solution> {
    check_times(times)?;
    let tableau = method.tableau();
    let mut field = Field::new(system, start);
    let mut flat = field.layout.flat(start, "the start")?;
    let mut steps = 0;
    for pair in times.windows(2) {
        let (time, next) = (pair[0], pair[1]);
        let first = field.slope(time, &flat)?;
        (_, flat) = field.stages(&tableau, time, next - time, &flat, first)?;
        steps += 1;
        field.stepped(steps, next, &flat)?;
    }
    Ok(Solution { state: field.layout.state(&flat)?, steps, rejected: 0, evaluations: field.evaluations })
}

fn check_times(times: &[f64]) -> Result<()> {
    if times.len() < 2 {
        bail!("there are {} times, expected two or more, the first and the last of the way", times.len());
    }
    if let Some(place) = times.iter().position(|time| !time.is_finite()) {
        bail!("times[{place}] is {}, expected a finite number", times[place]);
    }
    let rises = times[1] > times[0];
    if let Some(place) = times.windows(2).position(|pair| if rises { pair[1] <= pair[0] } else { pair[1] >= pair[0] }) {
        bail!("times[{}] is {} after {}, expected times that all rise or all fall", place + 1, times[place + 1], times[place]);
    }
    Ok(())
}
