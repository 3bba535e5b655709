//! Solvers of ordinary differential equations dx/dt = f(x, t), for flows and for probability-flow ODEs.
//!
//! E. Hairer, S. P. Nørsett, G. Wanner, 1993, "Solving Ordinary Differential Equations I", 2nd edition, chapter II: Euler's and
//! Heun's method, the classical one of Runge and Kutta, and that of Dormand and Prince with its error estimate.
//!
//! In: a [`State`] (a tensor, and numbers that are integrated along with it), a [`System`] that tells the slope, and either the
//! times to step through ([`integrate`]) or a tolerance ([`integrate_within`]). Out: a [`Solution`]. Times may rise or fall.
//! Not here: what the field means, networks, cancelling; a system that fails ends the integration with its error.

mod adaptive;
mod grid;
mod state;
mod tableau;

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};

pub use adaptive::{Control, integrate_within};
pub use grid::{evenly, integrate};
pub use state::State;
pub use tableau::Tableau;

use crate::refuse;
use state::Layout;

/// What is integrated, and who watches.
pub trait System {
    /// Returns dx/dt at `state` and `time`, of the shape of `state`.
    ///
    /// # Errors
    /// Whatever the field fails for; the integration ends with it.
    fn slope(&mut self, time: f64, state: &State) -> Result<State>;

    /// Is told where each step that was taken led.
    ///
    /// # Errors
    /// Whatever the watcher fails for; the integration ends with it.
    fn stepped(&mut self, reached: Reached<'_>) -> Result<()> {
        let _ = reached;
        Ok(())
    }
}

impl<F: FnMut(f64, &State) -> Result<State>> System for F {
    fn slope(&mut self, time: f64, state: &State) -> Result<State> {
        self(time, state)
    }
}

/// Where a step led.
#[derive(Debug, Clone, Copy)]
pub struct Reached<'a> {
    /// Steps taken so far.
    pub steps: usize,
    /// Calls of the field so far.
    pub evaluations: usize,
    /// The time that was reached.
    pub time: f64,
    /// The state there.
    pub state: &'a State,
}

/// Where an integration ended, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The state at the last time.
    pub state: State,
    /// Steps taken.
    pub steps: usize,
    /// Steps that were tried and given up for smaller ones.
    pub rejected: usize,
    /// Calls of the field.
    pub evaluations: usize,
}

/// An explicit Runge-Kutta method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Euler's method: the slope at the beginning.
    Euler,
    /// Heun's method: the mean of the slopes at the beginning and at Euler's guess of the end.
    Heun,
    /// The classical method of Runge and Kutta.
    Rk4,
    /// The method of Dormand and Prince, which knows its own error.
    DormandPrince,
}

impl Method {
    /// Every method, by order.
    pub const ALL: [Self; 4] = [Self::Euler, Self::Heun, Self::Rk4, Self::DormandPrince];

    /// Returns the name used on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Euler => "euler",
            Self::Heun => "heun",
            Self::Rk4 => "rk4",
            Self::DormandPrince => "dopri5",
        }
    }

    /// The power of the step width that the error over a whole way falls with.
    #[must_use]
    pub fn order(self) -> usize {
        match self {
            Self::Euler => 1,
            Self::Heun => 2,
            Self::Rk4 => 4,
            Self::DormandPrince => 5,
        }
    }

    /// Calls of the field for each step. `dopri5` under a tolerance asks once more for each, which the next step begins with.
    #[must_use]
    pub fn evaluations_per_step(self) -> usize {
        self.tableau().nodes.len()
    }

    /// Whether the method can choose its steps by a tolerance.
    #[must_use]
    pub fn is_adaptive(self) -> bool {
        !self.tableau().error.is_empty()
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim().to_ascii_lowercase();
        match Self::ALL.into_iter().find(|method| method.name() == name) {
            Some(method) => Ok(method),
            None => {
                let names: Vec<_> = Self::ALL.iter().map(|method| method.name()).collect();
                refuse!("solver is `{text}`, expected one of {}", names.join(", "))
            }
        }
    }
}

/// The field as the solvers ask it: flat vectors in, counted.
struct Field<'a> {
    system: &'a mut dyn System,
    layout: Layout,
    evaluations: usize,
}

impl<'a> Field<'a> {
    fn new(system: &'a mut dyn System, start: &State) -> Self {
        Self { system, layout: Layout::of(start), evaluations: 0 }
    }

    fn slope(&mut self, time: f64, flat: &[f64]) -> Result<Vec<f64>> {
        self.evaluations += 1;
        let slope = self.system.slope(time, &self.layout.state(flat)?)?;
        self.layout.flat(&slope, "the slope").with_context(|| format!("solver at time {time}, call {}", self.evaluations))
    }

    /// Tells the system where a step led.
    fn stepped(&mut self, steps: usize, time: f64, flat: &[f64]) -> Result<()> {
        let state = self.layout.state(flat)?;
        self.system.stepped(Reached { steps, evaluations: self.evaluations, time, state: &state })
    }

    /// Asks for the slopes of every stage of a step, the first of which is known, and returns them with where the step leads.
    fn stages(
        &mut self,
        tableau: &Tableau,
        time: f64,
        width: f64,
        flat: &[f64],
        first: Vec<f64>,
    ) -> Result<(Vec<Vec<f64>>, Vec<f64>)> {
        let mut slopes = vec![first];
        for (node, row) in tableau.nodes.iter().skip(1).zip(tableau.stages) {
            let place = moved(flat, width, row, &slopes);
            slopes.push(self.slope(time + node * width, &place)?);
        }
        let reached = moved(flat, width, tableau.weights, &slopes);
        Ok((slopes, reached))
    }
}

/// `flat` + `width` · Σ `weights`ᵢ `slopes`ᵢ.
fn moved(flat: &[f64], width: f64, weights: &[f64], slopes: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = weighed(flat.len(), weights, slopes);
    for (sum, value) in sum.iter_mut().zip(flat) {
        *sum = value + width * *sum;
    }
    sum
}

/// Σ `weights`ᵢ `slopes`ᵢ, each of `length` values.
fn weighed(length: usize, weights: &[f64], slopes: &[Vec<f64>]) -> Vec<f64> {
    let mut sum = vec![0.0; length];
    for (weight, slope) in weights.iter().zip(slopes).filter(|(weight, _)| **weight != 0.0) {
        for (sum, value) in sum.iter_mut().zip(slope) {
            *sum += weight * value;
        }
    }
    sum
}
