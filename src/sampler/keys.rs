//! Which keys of a `scheduler_config.json` each sampler takes.
//!
//! In: a [`Kind`]. Out: the arguments of its diffusers class's constructor.
//! Not here: their defaults and ranges (`defaults`).

use super::kind::Kind;

const SCHEDULE_KEYS: &[&str] = &["num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"];

impl Kind {
    /// Whether the diffusers class has a constructor argument `key`.
    pub(super) fn takes(self, key: &str) -> bool {
        (self.takes_betas() && SCHEDULE_KEYS.contains(&key)) || self.own_keys().contains(&key)
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
            Self::DdimInverse => &[
                "clip_sample",
                "set_alpha_to_one",
                "steps_offset",
                "prediction_type",
                "clip_sample_range",
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
            Self::FlowMatchLcm => &[
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
                "scale_factors",
                "upscale_mode",
            ],
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
            Self::ScoreSdeVe => &["num_train_timesteps", "snr", "sigma_min", "sigma_max", "sampling_eps", "correct_steps"],
            // The corrector's two are Kiln's own.
            Self::ScoreSdeVp => &["num_train_timesteps", "beta_min", "beta_max", "sampling_eps", "snr", "correct_steps"],
            Self::AnnealedLangevin => {
                &["num_train_timesteps", "sigma_min", "sigma_max", "steps_per_level", "step_size", "denoise"]
            }
        }
    }
}
