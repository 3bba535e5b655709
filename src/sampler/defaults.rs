//! The defaults of every scheduler class, and which values each one takes.
//!
//! In: the object of a `scheduler_config.json`. Out: a [`Config`], or an error that names the key.
//! Not here: what is done with the values.
//!
//! The defaults are those of the constructors in diffusers 0.36.0; a key that is missing in the file takes the default of
//! the class that reads it.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::config::Config;
use super::kind::Kind;
use super::reader::{Reader, shown};
use super::score::Settings;
use super::settings::{
    Algorithm, BetaSchedule, EdmSchedule, FinalSigma, Interpolation, Prediction, SigmaSchedule, SolverType, Spacing, TimeShift,
    TimestepType, Variance,
};
use super::{annealed_langevin, score_sde_ve};

/// The most training timesteps a configuration may claim; every published model has at most a few thousand.
const MOST_TIMESTEPS: usize = 100_000;

/// TrigFlow predicts the velocity, of a signal and a spread that are cosine and sine of the time.
fn trig_flow(named: Option<&Value>) -> Result<Prediction> {
    match named {
        None => Ok(Prediction::Velocity),
        Some(Value::String(word)) if word == "trigflow" => Ok(Prediction::Velocity),
        Some(other) => bail!("`prediction_type` is {}, expected `trigflow`", shown(other)),
    }
}

impl Config {
    /// Reads `object` for a sampler of `kind`.
    pub(super) fn read(kind: Kind, mut object: Map<String, Value>) -> Result<Self> {
        // diffusers notes here, in memory, which keys were not in the file; a file that was written from memory by hand
        // may hold the list, and then these keys do not count as given.
        if let Some(Value::Array(defaulted)) = object.remove("_use_default_values") {
            for key in defaulted.iter().filter_map(Value::as_str) {
                object.remove(key);
            }
        }
        let reader = Reader { object: &object, kind };
        let finite = f64::is_finite;
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let is_beta = |number: f64| (0.0..1.0).contains(&number);

        let fewest = if kind == Kind::Consistency { 2 } else { 1 };
        let default_timesteps = match kind {
            Kind::Consistency => 40,
            Kind::ScoreSdeVe | Kind::ScoreSdeVp => 2000,
            _ => 1000,
        };
        let num_train_timesteps = reader.whole("num_train_timesteps", default_timesteps, fewest, MOST_TIMESTEPS)?;
        let (beta_start, beta_end) =
            if matches!(kind, Kind::Heun | Kind::Lcm | Kind::Tcd) { (0.000_85, 0.012) } else { (0.0001, 0.02) };
        let default_beta_schedule =
            if matches!(kind, Kind::Lcm | Kind::Tcd) { BetaSchedule::ScaledLinear } else { BetaSchedule::Linear };
        let mut beta_schedules = vec![BetaSchedule::Linear, BetaSchedule::ScaledLinear, BetaSchedule::SquaredCosCapV2];
        match kind {
            Kind::Ddpm => beta_schedules.push(BetaSchedule::Sigmoid),
            Kind::Heun => beta_schedules.push(BetaSchedule::Exp),
            _ => {}
        }
        let trained_betas = reader.numbers("trained_betas", "a number from 0 to below 1", is_beta)?;
        if let Some(betas) = &trained_betas
            && betas.len() != num_train_timesteps
        {
            bail!("`trained_betas` has {} values, `num_train_timesteps` is {num_train_timesteps}", betas.len());
        }

        let predictions: &[Prediction] = match kind {
            Kind::Pndm | Kind::EulerAncestral | Kind::EdmEuler => &[Prediction::Epsilon, Prediction::Velocity],
            Kind::DpmSolverMultistep | Kind::UniPc => {
                &[Prediction::Epsilon, Prediction::Sample, Prediction::Velocity, Prediction::Flow]
            }
            _ => &[Prediction::Epsilon, Prediction::Sample, Prediction::Velocity],
        };
        let prediction = if kind == Kind::Scm {
            trig_flow(object.get("prediction_type"))?
        } else if kind.is_flow() {
            Prediction::Flow
        } else if kind.is_score() {
            Prediction::Score
        } else if kind == Kind::Euler && object.get("prediction_type").and_then(Value::as_str) == Some("original_sample") {
            Prediction::Sample
        } else {
            reader.word("prediction_type", Prediction::Epsilon, predictions)?
        };
        let default_spacing = match kind {
            Kind::Ddpm | Kind::Ddim | Kind::DdimInverse | Kind::Pndm => Spacing::Leading,
            _ => Spacing::Linspace,
        };
        let ignores_spacing = matches!(kind, Kind::Lcm | Kind::Tcd);
        let spacings = if kind == Kind::DdimInverse { &[Spacing::Leading, Spacing::Trailing] } else { Spacing::ALL };
        let spacing =
            if ignores_spacing { default_spacing } else { reader.word("timestep_spacing", default_spacing, spacings)? };

        // DPM-Solver takes a name for the kind of learned variance, and any other word for none.
        let learned_variance = kind == Kind::DpmSolverMultistep
            && matches!(object.get("variance_type").and_then(Value::as_str), Some("learned" | "learned_range"));
        let variance = match kind {
            Kind::Ddpm => reader.word("variance_type", Variance::FixedSmall, Variance::ALL)?,
            _ => Variance::FixedSmall,
        };

        let flags = [
            (SigmaSchedule::Karras, reader.flag("use_karras_sigmas", false)?),
            (SigmaSchedule::Exponential, reader.flag("use_exponential_sigmas", false)?),
            (SigmaSchedule::Beta, reader.flag("use_beta_sigmas", false)?),
        ];
        let mut chosen = flags.iter().filter(|(_, on)| *on).map(|(schedule, _)| *schedule);
        let sigma_schedule = chosen.next().unwrap_or(SigmaSchedule::Plain);
        if chosen.next().is_some() {
            bail!(
                "more than one of `use_karras_sigmas`, `use_exponential_sigmas`, `use_beta_sigmas` is true, expected at most one"
            );
        }

        let sigma = |key: &str, trained: f64| -> Result<Option<f64>> {
            match kind {
                Kind::Consistency | Kind::EdmEuler | Kind::ScoreSdeVe | Kind::AnnealedLangevin => {
                    reader.number(key, trained, "a positive number", positive).map(Some)
                }
                Kind::Euler => reader.optional_number(key, "a positive number", positive),
                // These classes do not take the keys, but diffusers keeps the keys of other classes and they find them there.
                Kind::Heun | Kind::DpmSolverMultistep | Kind::UniPc | Kind::FlowMatchEuler | Kind::FlowMatchLcm
                    if sigma_schedule != SigmaSchedule::Plain =>
                {
                    reader.kept_number(key, "a positive number", positive)
                }
                _ => Ok(None),
            }
        };
        let trained = match kind {
            Kind::ScoreSdeVe => (score_sde_ve::SIGMA_MIN, score_sde_ve::SIGMA_MAX),
            Kind::AnnealedLangevin => (annealed_langevin::SIGMA_MIN, annealed_langevin::SIGMA_MAX),
            _ => (0.002, 80.0),
        };
        let (sigma_min, sigma_max) = (sigma("sigma_min", trained.0)?, sigma("sigma_max", trained.1)?);
        if let (Some(smallest), Some(largest)) = (sigma_min, sigma_max)
            && smallest >= largest
        {
            bail!("`sigma_min` is {smallest}, expected less than `sigma_max`, which is {largest}");
        }

        let mut algorithm = reader.word("algorithm_type", Algorithm::DpmPlusPlus, Algorithm::ALL)?;
        let final_sigma = reader.word("final_sigmas_type", FinalSigma::Zero, FinalSigma::ALL)?;
        if algorithm == Algorithm::Deis {
            if final_sigma == FinalSigma::Zero {
                bail!(
                    "`algorithm_type` is `deis`, which diffusers reads as `dpmsolver++` only while `final_sigmas_type` is `sigma_min`"
                );
            }
            algorithm = Algorithm::DpmPlusPlus;
        }
        let solver_type = match (kind, reader.word("solver_type", SolverType::Bh2, SolverType::ALL)?) {
            (Kind::DpmSolverMultistep, SolverType::Heun) => SolverType::Heun,
            (Kind::DpmSolverMultistep, _) => SolverType::Midpoint,
            (_, SolverType::Bh1) => SolverType::Bh1,
            _ => SolverType::Bh2,
        };
        reader.must_be_null("solver_p", "a second solver inside UniPC is not known here")?;
        reader.must_be_null("scale_factors", "pictures that grow from step to step are not known here")?;
        let disable_corrector = match reader.value_of("disable_corrector") {
            Some(Value::Null) => bail!("`disable_corrector` is null, expected a list of step indices"),
            _ => reader.numbers("disable_corrector", "a step index", |number| number >= 0.0 && number.fract() == 0.0)?,
        };

        let shift_key = if kind.is_flow() { "shift" } else { "flow_shift" };
        let base_image_seq_len = reader.whole("base_image_seq_len", 256, 0, usize::MAX)?;
        let max_image_seq_len = reader.whole("max_image_seq_len", 4096, 0, usize::MAX)?;
        let time_shifts: &[TimeShift] =
            if matches!(kind, Kind::FlowMatchEuler | Kind::FlowMatchLcm) { TimeShift::ALL } else { &[TimeShift::Exponential] };

        let mut config = Self {
            kind,
            ignored: Vec::new(),
            num_train_timesteps,
            beta_start: reader.number("beta_start", beta_start, "a number from 0 to below 1", is_beta)?,
            beta_end: reader.number("beta_end", beta_end, "a number from 0 to below 1", is_beta)?,
            beta_schedule: reader.word("beta_schedule", default_beta_schedule, &beta_schedules)?,
            trained_betas,
            rescale_betas_zero_snr: reader.flag("rescale_betas_zero_snr", false)?,
            prediction,
            spacing,
            steps_offset: reader.whole("steps_offset", 0, 0, MOST_TIMESTEPS)?,
            set_alpha_to_one: reader.flag("set_alpha_to_one", kind != Kind::Pndm)?,
            clip_sample: reader.flag("clip_sample", matches!(kind, Kind::Ddpm | Kind::Ddim | Kind::DdimInverse))?,
            clip_sample_range: reader.number("clip_sample_range", 1.0, "a positive number", positive)?,
            thresholding: reader.flag("thresholding", false)?,
            dynamic_thresholding_ratio: reader
                .number("dynamic_thresholding_ratio", 0.995, "a number from 0 to 1", |number| (0.0..=1.0).contains(&number))?,
            sample_max_value: reader.number("sample_max_value", 1.0, "a positive number", positive)?,
            variance,
            learned_variance,
            skip_prk_steps: reader.flag("skip_prk_steps", false)?,
            sigma_schedule,
            use_lu_lambdas: reader.flag("use_lu_lambdas", false)?,
            use_flow_sigmas: reader.flag("use_flow_sigmas", false)?,
            interpolation: reader.word("interpolation_type", Interpolation::Linear, Interpolation::ALL)?,
            timestep_type: reader.word("timestep_type", TimestepType::Discrete, TimestepType::ALL)?,
            sigma_min,
            sigma_max,
            final_sigma,
            solver_order: reader.whole("solver_order", 2, 1, 3)?,
            algorithm,
            solver_type,
            lower_order_final: reader.flag("lower_order_final", true)?,
            euler_at_final: reader.flag("euler_at_final", false)?,
            lambda_min_clipped: reader
                .number("lambda_min_clipped", f64::NEG_INFINITY, "a number or -Infinity", |number| number < f64::INFINITY)?,
            predict_x0: reader.flag("predict_x0", true)?,
            disable_corrector: disable_corrector.unwrap_or_default().into_iter().map(|index| index as usize).collect(),
            original_inference_steps: reader.whole("original_inference_steps", 50, 1, MOST_TIMESTEPS)?,
            timestep_scaling: reader.number("timestep_scaling", 10.0, "a positive number", positive)?,
            shift: reader.number(shift_key, 1.0, "a positive number below 1000000", |number| number > 0.0 && number < 1e6)?,
            use_dynamic_shifting: reader.flag("use_dynamic_shifting", false)?,
            time_shift: reader.word("time_shift_type", TimeShift::Exponential, time_shifts)?,
            base_shift: reader.optional_number("base_shift", "a finite number", finite)?.unwrap_or(0.5),
            max_shift: reader.optional_number("max_shift", "a finite number", finite)?.unwrap_or(1.15),
            base_image_seq_len,
            max_image_seq_len,
            invert_sigmas: reader.flag("invert_sigmas", false)?,
            // Zero means no stretching, as Python takes it for false.
            shift_terminal: reader
                .optional_number("shift_terminal", "a number from 0 to below 1", is_beta)?
                .filter(|terminal| *terminal > 0.0),
            stochastic_sampling: reader.flag("stochastic_sampling", false)?,
            sigma_data: reader.number("sigma_data", 0.5, "a positive number", positive)?,
            s_noise: reader.number("s_noise", 1.0, "a number from 0", |number| number.is_finite() && number >= 0.0)?,
            rho: reader.number("rho", 7.0, "a positive number", positive)?,
            clip_denoised: reader.flag("clip_denoised", true)?,
            edm_schedule: reader.word("sigma_schedule", EdmSchedule::Karras, EdmSchedule::ALL)?,
            score: Settings::read(&reader)?,
            object: Map::new(),
        };
        if config.use_dynamic_shifting && kind.is_flow() && base_image_seq_len == max_image_seq_len {
            bail!("`max_image_seq_len` is {max_image_seq_len}, expected another value than `base_image_seq_len`");
        }
        config.check_solver()?;

        let is_kept = |key: &str| match key {
            "sigma_min" => config.sigma_min.is_some(),
            "sigma_max" => config.sigma_max.is_some(),
            _ => false,
        };
        config.ignored =
            object.keys().filter(|key| !key.starts_with('_') && !kind.takes(key) && !is_kept(key)).cloned().collect();
        // A class writes the values it replaced into its configuration, where the next conversion finds them.
        for (key, replaced) in [("solver_type", config.solver_type.name()), ("algorithm_type", config.algorithm.name())] {
            if kind.takes(key)
                && let Some(value) = object.get_mut(key)
            {
                *value = replaced.into();
            }
        }
        object.insert("_class_name".to_owned(), kind.class_name().into());
        config.object = object;
        Ok(config)
    }

    /// Refuses the combinations that raise an error or divide by zero in diffusers.
    fn check_solver(&self) -> Result<()> {
        if self.kind == Kind::Ddpm && self.variance == Variance::FixedLargeLog {
            bail!("`variance_type` is `fixed_large_log`, the root of whose negative logarithm is no number; expected another");
        }
        if self.kind == Kind::DpmSolverMultistep && matches!(self.algorithm, Algorithm::Dpm | Algorithm::SdeDpm) {
            if self.final_sigma == FinalSigma::Zero {
                bail!(
                    "`final_sigmas_type` is `zero`, expected `sigma_min`: `algorithm_type` `{}` divides by the last noise level",
                    self.algorithm
                );
            }
            if self.prediction == Prediction::Flow {
                bail!("`prediction_type` is `flow_prediction`, which `algorithm_type` `{}` does not take", self.algorithm);
            }
            if self.algorithm == Algorithm::SdeDpm && self.solver_order == 3 {
                bail!("`solver_order` is 3, expected 1 or 2: `sde-dpmsolver` has no third-order step");
            }
        }
        if self.kind == Kind::UniPc {
            if !self.predict_x0 && self.prediction == Prediction::Flow {
                bail!("`prediction_type` is `flow_prediction`, which UniPC takes only while `predict_x0` is true");
            }
            if self.final_sigma == FinalSigma::Zero {
                if self.solver_type == SolverType::Bh1 {
                    bail!(
                        "`solver_type` is `bh1`, which divides by the last noise level; expected `bh2`, or `final_sigmas_type` `sigma_min`"
                    );
                }
                if !self.predict_x0 {
                    bail!(
                        "`predict_x0` is false, which divides by the last noise level; expected true, or `final_sigmas_type` `sigma_min`"
                    );
                }
            }
        }
        Ok(())
    }
}
