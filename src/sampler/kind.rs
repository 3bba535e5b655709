//! Which samplers there are: their names on the command line and their diffusers class.
//!
//! In: a name that a person typed or the `_class_name` of a `scheduler_config.json`. Out: a [`Kind`].
//! Not here: the keys that each takes (`keys`), variants (`choice`).

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

use crate::refuse;

/// One sampling algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Ancestral sampling of denoising diffusion probabilistic models.
    Ddpm,
    /// Denoising diffusion implicit models.
    Ddim,
    /// Denoising diffusion implicit models followed backwards, from a picture to its noise.
    DdimInverse,
    /// Pseudo numerical methods: Runge-Kutta, then linear multistep.
    Pndm,
    /// Euler's method over noise levels.
    Euler,
    /// Euler's method that puts fresh noise back after each step.
    EulerAncestral,
    /// Heun's second-order method over noise levels.
    Heun,
    /// DPM-Solver and DPM-Solver++ in their multistep form, deterministic or stochastic.
    DpmSolverMultistep,
    /// Unified predictor-corrector.
    UniPc,
    /// Latent consistency models.
    Lcm,
    /// Trajectory consistency distillation.
    Tcd,
    /// Euler's method for flow matching and rectified flow.
    FlowMatchEuler,
    /// Heun's method for flow matching.
    FlowMatchHeun,
    /// Multistep consistency sampling along the path of flow matching.
    FlowMatchLcm,
    /// Multistep sampling of consistency models.
    Consistency,
    /// Multistep sampling of continuous-time consistency models along TrigFlow's path.
    Scm,
    /// Euler's method with the preconditioning of EDM.
    EdmEuler,
    /// Predictor-corrector sampling of the variance-exploding SDE.
    ScoreSdeVe,
    /// The reverse variance-preserving SDE.
    ScoreSdeVp,
    /// Annealed Langevin dynamics.
    AnnealedLangevin,
}

impl Kind {
    /// Every kind, in the order of the design.
    pub const ALL: [Self; 20] = [
        Self::Ddpm,
        Self::Ddim,
        Self::DdimInverse,
        Self::Pndm,
        Self::Euler,
        Self::EulerAncestral,
        Self::Heun,
        Self::DpmSolverMultistep,
        Self::UniPc,
        Self::Lcm,
        Self::Tcd,
        Self::FlowMatchEuler,
        Self::FlowMatchHeun,
        Self::FlowMatchLcm,
        Self::Consistency,
        Self::Scm,
        Self::EdmEuler,
        Self::ScoreSdeVe,
        Self::ScoreSdeVp,
        Self::AnnealedLangevin,
    ];

    /// Returns the name used on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddpm => "ddpm",
            Self::Ddim => "ddim",
            Self::DdimInverse => "ddim-inverse",
            Self::Pndm => "pndm",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-ancestral",
            Self::Heun => "heun",
            Self::DpmSolverMultistep => "dpm++",
            Self::UniPc => "unipc",
            Self::Lcm => "lcm",
            Self::Tcd => "tcd",
            Self::FlowMatchEuler => "flow-euler",
            Self::FlowMatchHeun => "flow-heun",
            Self::FlowMatchLcm => "flow-lcm",
            Self::Consistency => "consistency",
            Self::Scm => "scm",
            Self::EdmEuler => "edm-euler",
            Self::ScoreSdeVe => "ve",
            Self::ScoreSdeVp => "vp",
            Self::AnnealedLangevin => "langevin",
        }
    }

    /// Returns the diffusers class that computes the same numbers; of annealed Langevin dynamics there is none, and the name is
    /// Kiln's own.
    #[must_use]
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Ddpm => "DDPMScheduler",
            Self::Ddim => "DDIMScheduler",
            Self::DdimInverse => "DDIMInverseScheduler",
            Self::Pndm => "PNDMScheduler",
            Self::Euler => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::Heun => "HeunDiscreteScheduler",
            Self::DpmSolverMultistep => "DPMSolverMultistepScheduler",
            Self::UniPc => "UniPCMultistepScheduler",
            Self::Lcm => "LCMScheduler",
            Self::Tcd => "TCDScheduler",
            Self::FlowMatchEuler => "FlowMatchEulerDiscreteScheduler",
            Self::FlowMatchHeun => "FlowMatchHeunDiscreteScheduler",
            Self::FlowMatchLcm => "FlowMatchLCMScheduler",
            Self::Consistency => "CMStochasticIterativeScheduler",
            Self::Scm => "SCMScheduler",
            Self::EdmEuler => "EDMEulerScheduler",
            Self::ScoreSdeVe => "ScoreSdeVeScheduler",
            Self::ScoreSdeVp => "ScoreSdeVpScheduler",
            Self::AnnealedLangevin => "AnnealedLangevinScheduler",
        }
    }

    /// Finds the kind of a diffusers class.
    ///
    /// # Errors
    /// The class is not known; the message lists those that are.
    pub fn from_class_name(name: &str) -> Result<Self> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.class_name() == name) {
            return Ok(kind);
        }
        let known: Vec<_> = Self::ALL.iter().map(|kind| kind.class_name()).collect();
        bail!("`_class_name` is `{name}`, expected one of {}", known.join(", "))
    }

    /// Whether the sampler moves along the straight path between noise and picture instead of a diffusion process.
    #[must_use]
    pub fn is_flow(self) -> bool {
        matches!(self, Self::FlowMatchEuler | Self::FlowMatchHeun | Self::FlowMatchLcm)
    }

    /// Whether the network predicts the score of the noisy sample and is given the noise level itself.
    #[must_use]
    pub fn is_score(self) -> bool {
        matches!(self, Self::ScoreSdeVe | Self::ScoreSdeVp | Self::AnnealedLangevin)
    }

    /// Whether the noise levels come from a table of betas.
    pub(super) fn takes_betas(self) -> bool {
        !self.is_flow() && !self.is_score() && !matches!(self, Self::Consistency | Self::Scm | Self::EdmEuler)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    /// Reads a command-line name, the name with `_` for `-`, a common short form, or a diffusers class name.
    fn from_str(text: &str) -> Result<Self> {
        let name = text.trim().to_ascii_lowercase().replace('_', "-");
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name || kind.class_name().eq_ignore_ascii_case(&name)).or(
            match name.as_str() {
                "euler-a" => Some(Self::EulerAncestral),
                "dpm" | "dpmsolver++" | "dpm-solver++" | "dpm++-2m" => Some(Self::DpmSolverMultistep),
                "plms" => Some(Self::Pndm),
                "cm" => Some(Self::Consistency),
                "trigflow" => Some(Self::Scm),
                "ve-sde" | "score-ve" => Some(Self::ScoreSdeVe),
                "vp-sde" | "score-vp" => Some(Self::ScoreSdeVp),
                "annealed-langevin" | "ncsn" => Some(Self::AnnealedLangevin),
                _ => None,
            },
        );
        match known {
            Some(kind) => Ok(kind),
            None => {
                let names: Vec<_> = Self::ALL.iter().map(|kind| kind.name()).collect();
                refuse!(
                    "sampler is `{text}`, expected one of {}, sde-dpm++; -karras, -exponential or -beta may follow",
                    names.join(", ")
                )
            }
        }
    }
}
