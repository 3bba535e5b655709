//! How long jobs take on this device, learnt from those that were done.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::request::Resolved;

/// How much a new time counts against those before it.
const WEIGHT_OF_NEWEST: f64 = 0.3;
/// Kinds of jobs that are remembered; a stranger may ask for any size.
const MOST_KINDS: usize = 1_000;
/// Where neither a time nor a forecast is known.
const UNKNOWN_MS: f64 = 10_000.0;

/// What decides how long a job takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The model's name.
    pub model: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
    /// Steps of each picture.
    pub steps: usize,
    /// Pictures, or frames of a clip.
    pub count: usize,
}

impl Kind {
    /// Of what was resolved for the model `name`.
    #[must_use]
    pub fn of(name: &str, resolved: &Resolved) -> Self {
        let frames = resolved.frames.as_ref().map_or(1, |frames| frames.count);
        let size = (resolved.width, resolved.height);
        Self { model: name.to_owned(), size, steps: resolved.steps, count: resolved.count * frames }
    }

    /// Pixels times steps: what times of one model grow with.
    fn work(&self) -> f64 {
        f64::from(self.size.0) * f64::from(self.size.1) * self.steps.max(1) as f64 * self.count.max(1) as f64
    }
}

#[derive(Default)]
struct Known {
    times_ms: HashMap<Kind, f64>,
    ms_per_work: HashMap<String, f64>,
}

/// The times of jobs that were done.
#[derive(Default)]
pub struct Speeds {
    known: Mutex<Known>,
}

impl Speeds {
    /// Learns that a job of `kind` took `time_ms`.
    pub fn learn(&self, kind: &Kind, time_ms: f64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.times_ms.len() >= MOST_KINDS && !known.times_ms.contains_key(kind) {
            known.times_ms.clear();
        }
        let blend = |old: &mut f64, new: f64| *old += (new - *old) * WEIGHT_OF_NEWEST;
        known.times_ms.entry(kind.clone()).and_modify(|old| blend(old, time_ms)).or_insert(time_ms);
        let of_work = time_ms / kind.work();
        known.ms_per_work.entry(kind.model.clone()).and_modify(|old| blend(old, of_work)).or_insert(of_work);
    }

    /// What a job of `kind` will take in milliseconds: as its like took, else as the model's other jobs did, else as the plan forecasts.
    #[must_use]
    pub fn expect_ms(&self, kind: &Kind, forecast_ms: Option<f64>) -> f64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let of_model = || known.ms_per_work.get(&kind.model).map(|of_work| of_work * kind.work());
        known.times_ms.get(kind).copied().or_else(of_model).or(forecast_ms).unwrap_or(UNKNOWN_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_goes_before_what_was_forecast() {
        let speeds = Speeds::default();
        let kind = |model: &str, steps| Kind { model: model.into(), size: (64, 64), steps, count: 1 };
        assert_eq!(speeds.expect_ms(&kind("a", 4), None), UNKNOWN_MS);
        assert_eq!(speeds.expect_ms(&kind("a", 4), Some(50.0)), 50.0);
        speeds.learn(&kind("a", 4), 100.0);
        assert_eq!(speeds.expect_ms(&kind("a", 4), Some(50.0)), 100.0);
        assert_eq!(speeds.expect_ms(&kind("a", 8), Some(50.0)), 200.0);
        assert_eq!(speeds.expect_ms(&kind("b", 8), Some(50.0)), 50.0);
        speeds.learn(&kind("a", 4), 200.0);
        assert_eq!(speeds.expect_ms(&kind("a", 4), None), 130.0);
    }
}
