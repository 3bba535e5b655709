//! A sampler and its variant, as a person names them on the command line.
//!
//! In: a name such as `dpm++-karras`. Out: a [`Choice`].
//! Not here: the names of the samplers themselves (`kind`).

use std::fmt;
use std::str::FromStr;

use anyhow::Result;

use super::kind::Kind;
use super::settings::{Algorithm, SigmaSchedule};

/// A sampler as a person names it: a [`Kind`], and what the name says about its variant.
///
/// Reads `dpm++`, `sde-dpmsolver++`, `dpm++-karras`, `sde-dpm++-karras`, `euler-beta` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// The algorithm.
    pub kind: Kind,
    /// The variant of DPM-Solver, where the name states one.
    pub algorithm: Option<Algorithm>,
    /// How noise levels are spread, where the name states it.
    pub sigma_schedule: Option<SigmaSchedule>,
}

impl From<Kind> for Choice {
    fn from(kind: Kind) -> Self {
        Self { kind, algorithm: None, sigma_schedule: None }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.algorithm {
            Some(algorithm) => formatter.write_str(algorithm.name())?,
            None => formatter.write_str(self.kind.name())?,
        }
        match self.sigma_schedule {
            Some(schedule) => write!(formatter, "-{}", schedule.name()),
            None => Ok(()),
        }
    }
}

impl FromStr for Choice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase().replace('_', "-");
        let mut stem = lower.as_str();
        let mut sigma_schedule = None;
        for schedule in SigmaSchedule::ALL.iter().copied() {
            if let Some(rest) = stem.strip_suffix(schedule.name()).and_then(|rest| rest.strip_suffix('-')) {
                (stem, sigma_schedule) = (rest, Some(schedule));
                break;
            }
        }
        let algorithm = match stem {
            "dpmsolver" => Some(Algorithm::Dpm),
            "dpmsolver++" => Some(Algorithm::DpmPlusPlus),
            "sde-dpmsolver" | "sde-dpm" => Some(Algorithm::SdeDpm),
            "sde-dpmsolver++" | "sde-dpm++" | "dpm++-sde" | "dpm++-2m-sde" => Some(Algorithm::SdeDpmPlusPlus),
            _ => None,
        };
        let kind = match algorithm {
            Some(_) => Kind::DpmSolverMultistep,
            None => match Kind::from_str(stem) {
                Ok(kind) => kind,
                // The whole name is the one to show, not what is left of it.
                Err(_) => Kind::from_str(text)?,
            },
        };
        Ok(Self { kind, algorithm, sigma_schedule })
    }
}
