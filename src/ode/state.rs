//! What is integrated: a tensor, and numbers that are integrated along with it.
//!
//! In: states and slopes. Out: the flat f64 vectors that the solvers work on, and back.
//! Not here: which slopes with which weights (`tableau`).

use anyhow::{Result, bail};
use ndarray::{ArrayD, IxDyn};

/// A point on the way, or a slope dx/dt at one.
///
/// The tensor is f32, as networks speak, wherever the field sees it; between its calls the solvers carry it in f64.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// The tensor, of any shape.
    pub sample: ArrayD<f32>,
    /// Numbers that are integrated along with it, such as the change of log p for each picture.
    pub integrals: Vec<f64>,
}

impl State {
    /// A tensor alone.
    #[must_use]
    pub fn new(sample: ArrayD<f32>) -> Self {
        Self { sample, integrals: Vec::new() }
    }

    /// Numbers alone, in f64.
    #[must_use]
    pub fn of_numbers(integrals: Vec<f64>) -> Self {
        Self { sample: ArrayD::zeros(IxDyn(&[0])), integrals }
    }
}

/// How states are laid out as vectors: the tensor in its own order, then the integrals.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    shape: Vec<usize>,
    values: usize,
    integrals: usize,
}

impl Layout {
    pub(super) fn of(state: &State) -> Self {
        Self { shape: state.sample.shape().to_vec(), values: state.sample.len(), integrals: state.integrals.len() }
    }

    /// Flattens `state`, which may be a slope.
    ///
    /// # Errors
    /// Its shape is another, or a number is not finite; `what` names it.
    pub(super) fn flat(&self, state: &State, what: &str) -> Result<Vec<f64>> {
        if state.sample.shape() != self.shape || state.integrals.len() != self.integrals {
            bail!(
                "{what} has shape {:?} and {} integrals, expected {:?} and {}, as the state has",
                state.sample.shape(),
                state.integrals.len(),
                self.shape,
                self.integrals
            );
        }
        let flat: Vec<f64> = state.sample.iter().map(|value| f64::from(*value)).chain(state.integrals.iter().copied()).collect();
        if let Some(place) = flat.iter().position(|value| !value.is_finite()) {
            let part = if place < self.values { "tensor" } else { "integrals" };
            bail!("{what} is {} in its {part}, expected finite numbers", flat[place]);
        }
        Ok(flat)
    }

    /// Undoes [`Layout::flat`]; the tensor is rounded to f32.
    pub(super) fn state(&self, flat: &[f64]) -> Result<State> {
        let (values, integrals) = flat.split_at(self.values.min(flat.len()));
        let sample = values.iter().map(|value| *value as f32).collect();
        Ok(State { sample: ArrayD::from_shape_vec(IxDyn(&self.shape), sample)?, integrals: integrals.to_vec() })
    }

    /// The root mean square over the tensor or over the integrals, whichever is larger, so that a few integrals count beside
    /// thousands of values.
    pub(super) fn norm(&self, flat: &[f64]) -> f64 {
        let (values, integrals) = flat.split_at(self.values.min(flat.len()));
        let norm = |part: &[f64]| match part.len() {
            0 => 0.0,
            count => (part.iter().map(|value| value * value).sum::<f64>() / count as f64).sqrt(),
        };
        norm(values).max(norm(integrals))
    }
}
