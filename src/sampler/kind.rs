//! Which samplers there are: their names on the command line, their diffusers class, and the keys each takes.
//!
//! In: a name that a person typed or the `_class_name` of a `scheduler_config.json`. Out: a [`Kind`].
//! Not here: the values behind the keys (`config`).

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};

use super::settings::{Algorithm, SigmaSchedule};
use crate::refuse;

/// One sampling algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Ancestral sampling of denoising diffusion probabilistic models.
    Ddpm,
    /// Denoising diffusion implicit models.
    Ddim,
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
    /// Multistep sampling of consistency models.
    Consistency,
    /// Euler's method with the preconditioning of EDM.
    EdmEuler,
}

const SCHEDULE_KEYS: &[&str] = &["num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"];

impl Kind {
    /// Every kind, in the order of the design.
    pub const ALL: [Self; 14] = [
        Self::Ddpm,
        Self::Ddim,
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
        Self::Consistency,
        Self::EdmEuler,
    ];

    /// Returns the name used on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddpm => "ddpm",
            Self::Ddim => "ddim",
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
            Self::Consistency => "consistency",
            Self::EdmEuler => "edm-euler",
        }
    }

    /// Returns the diffusers class that computes the same numbers.
    #[must_use]
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Ddpm => "DDPMScheduler",
            Self::Ddim => "DDIMScheduler",
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
            Self::Consistency => "CMStochasticIterativeScheduler",
            Self::EdmEuler => "EDMEulerScheduler",
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
        matches!(self, Self::FlowMatchEuler | Self::FlowMatchHeun)
    }

    /// Whether the diffusers class has a constructor argument `key`.
    pub(super) fn takes(self, key: &str) -> bool {
        (self.takes_betas() && SCHEDULE_KEYS.contains(&key)) || self.own_keys().contains(&key)
    }

    /// Whether the noise levels come from a table of betas.
    pub(super) fn takes_betas(self) -> bool {
        !matches!(self, Self::FlowMatchEuler | Self::FlowMatchHeun | Self::Consistency | Self::EdmEuler)
    }

    fn own_keys(self) -> &'static [&'static str] {
        match self {
            Self::Ddpm => &[
                "variance_type",
                "clip_sample",
                "prediction_type",
                "thresholding",
                "dynamic_thresholding_ratio",
                "clip_sample_range",
                "sample_max_value",
                "timestep_spacing",
                "steps_offset",
                "rescale_betas_zero_snr",
            ],
            Self::Ddim => &[
                "clip_sample",
                "set_alpha_to_one",
                "steps_offset",
                "prediction_type",
                "thresholding",
                "dynamic_thresholding_ratio",
                "clip_sample_range",
                "sample_max_value",
                "timestep_spacing",
                "rescale_betas_zero_snr",
            ],
            Self::Pndm => &["skip_prk_steps", "set_alpha_to_one", "prediction_type", "timestep_spacing", "steps_offset"],
            Self::Euler => &[
                "prediction_type",
                "interpolation_type",
                "use_karras_sigmas",
                "use_exponential_sigmas",
                "use_beta_sigmas",
                "sigma_min",
                "sigma_max",
                "timestep_spacing",
                "timestep_type",
                "steps_offset",
                "rescale_betas_zero_snr",
                "final_sigmas_type",
            ],
            Self::EulerAncestral => &["prediction_type", "timestep_spacing", "steps_offset", "rescale_betas_zero_snr"],
            Self::Heun => &[
                "prediction_type",
                "use_karras_sigmas",
                "use_exponential_sigmas",
                "use_beta_sigmas",
                "clip_sample",
                "clip_sample_range",
                "timestep_spacing",
                "steps_offset",
            ],
            Self::DpmSolverMultistep => &[
                "solver_order",
                "prediction_type",
                "thresholding",
                "dynamic_thresholding_ratio",
                "sample_max_value",
                "algorithm_type",
                "solver_type",
                "lower_order_final",
                "euler_at_final",
                "use_karras_sigmas",
                "use_exponential_sigmas",
                "use_beta_sigmas",
                "use_lu_lambdas",
                "use_flow_sigmas",
                "flow_shift",
                "final_sigmas_type",
                "lambda_min_clipped",
                "variance_type",
                "timestep_spacing",
                "steps_offset",
                "rescale_betas_zero_snr",
                "use_dynamic_shifting",
                "time_shift_type",
            ],
            Self::UniPc => &[
                "solver_order",
                "prediction_type",
                "thresholding",
                "dynamic_thresholding_ratio",
                "sample_max_value",
                "predict_x0",
                "solver_type",
                "lower_order_final",
                "disable_corrector",
                "solver_p",
                "use_karras_sigmas",
                "use_exponential_sigmas",
                "use_beta_sigmas",
                "use_flow_sigmas",
                "flow_shift",
                "timestep_spacing",
                "steps_offset",
                "final_sigmas_type",
                "rescale_betas_zero_snr",
                "use_dynamic_shifting",
                "time_shift_type",
            ],
            Self::Lcm | Self::Tcd => &[
                "original_inference_steps",
                "clip_sample",
                "clip_sample_range",
                "set_alpha_to_one",
                "steps_offset",
                "prediction_type",
                "thresholding",
                "dynamic_thresholding_ratio",
                "sample_max_value",
                "timestep_spacing",
                "timestep_scaling",
                "rescale_betas_zero_snr",
            ],
            Self::FlowMatchEuler => &[
                "num_train_timesteps",
                "shift",
                "use_dynamic_shifting",
                "base_shift",
                "max_shift",
                "base_image_seq_len",
                "max_image_seq_len",
                "invert_sigmas",
                "shift_terminal",
                "use_karras_sigmas",
                "use_exponential_sigmas",
                "use_beta_sigmas",
                "time_shift_type",
                "stochastic_sampling",
            ],
            Self::FlowMatchHeun => &["num_train_timesteps", "shift"],
            Self::Consistency => {
                &["num_train_timesteps", "sigma_min", "sigma_max", "sigma_data", "s_noise", "rho", "clip_denoised"]
            }
            Self::EdmEuler => &[
                "sigma_min",
                "sigma_max",
                "sigma_data",
                "sigma_schedule",
                "num_train_timesteps",
                "prediction_type",
                "rho",
                "final_sigmas_type",
            ],
        }
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
