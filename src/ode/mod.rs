//! Solvers of ordinary differential equations.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;

use crate::refuse;

/// A solver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Euler's.
    Euler,
    /// Heun's.
    Heun,
    /// The classical Runge-Kutta method.
    Rk4,
    /// Dormand and Prince's.
    DormandPrince,
}

impl Method {
    /// All.
    pub const ALL: [Self; 4] = [Self::Euler, Self::Heun, Self::Rk4, Self::DormandPrince];

    /// Whether it chooses its own steps.
    #[must_use]
    pub fn is_adaptive(self) -> bool {
        self == Self::DormandPrince
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Euler => "euler",
            Self::Heun => "heun",
            Self::Rk4 => "rk4",
            Self::DormandPrince => "dopri5",
        })
    }
}

impl FromStr for Method {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|method| method.to_string() == text) {
            Some(method) => Ok(method),
            None => refuse!("solver `{text}` is not known"),
        }
    }
}
