//! A sampler's configuration, as diffusers writes it into `scheduler_config.json`.
//!
//! In: that file's text or JSON value. Out: a checked [`Config`], which builds a [`Sampler`] for one [`Run`].
//! A missing key takes the default of its class; a key that the class does not take is kept aside in [`Config::ignored`].
//! Not here: reading files, arithmetic.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::kind::{Choice, Kind};
use super::settings::{
    Algorithm, BetaSchedule, EdmSchedule, FinalSigma, Interpolation, Prediction, Reader, SigmaSchedule, SolverType, Spacing,
    TimeShift, TimestepType, Variance, shown,
};
use super::{
    Run, Sampler, consistency, ddim, ddpm, dpm_solver_multistep, edm_euler, euler, euler_ancestral, flow_match_euler,
    flow_match_heun, heun, lcm, pndm, tcd, uni_pc,
};
use crate::{refusal, refuse};

/// The most training timesteps a configuration may claim; every published model has at most a few thousand.
const MOST_TIMESTEPS: usize = 100_000;

/// A checked scheduler configuration.
///
/// Fields that the class does not take hold a neutral value and are never read by its sampler.
#[derive(Debug, Clone)]
pub struct Config {
    kind: Kind,
    object: Map<String, Value>,
    ignored: Vec<String>,
    pub(super) num_train_timesteps: usize,
    pub(super) beta_start: f64,
    pub(super) beta_end: f64,
    pub(super) beta_schedule: BetaSchedule,
    pub(super) trained_betas: Option<Vec<f64>>,
    pub(super) rescale_betas_zero_snr: bool,
    pub(super) prediction: Prediction,
    pub(super) spacing: Spacing,
    pub(super) steps_offset: usize,
    pub(super) set_alpha_to_one: bool,
    pub(super) clip_sample: bool,
    pub(super) clip_sample_range: f64,
    pub(super) thresholding: bool,
    pub(super) dynamic_thresholding_ratio: f64,
    pub(super) sample_max_value: f64,
    pub(super) variance: Variance,
    /// Whether the network's prediction carries a variance that the solver must leave aside.
    pub(super) learned_variance: bool,
    pub(super) skip_prk_steps: bool,
    pub(super) sigma_schedule: SigmaSchedule,
    pub(super) use_lu_lambdas: bool,
    pub(super) use_flow_sigmas: bool,
    pub(super) interpolation: Interpolation,
    pub(super) timestep_type: TimestepType,
    pub(super) sigma_min: Option<f64>,
    pub(super) sigma_max: Option<f64>,
    pub(super) final_sigma: FinalSigma,
    pub(super) solver_order: usize,
    pub(super) algorithm: Algorithm,
    pub(super) solver_type: SolverType,
    pub(super) lower_order_final: bool,
    pub(super) euler_at_final: bool,
    pub(super) lambda_min_clipped: f64,
    pub(super) predict_x0: bool,
    pub(super) disable_corrector: Vec<usize>,
    pub(super) original_inference_steps: usize,
    pub(super) timestep_scaling: f64,
    /// `shift` of the flow-matching classes, `flow_shift` of the multistep ones.
    pub(super) shift: f64,
    pub(super) use_dynamic_shifting: bool,
    pub(super) time_shift: TimeShift,
    pub(super) base_shift: f64,
    pub(super) max_shift: f64,
    pub(super) base_image_seq_len: usize,
    pub(super) max_image_seq_len: usize,
    pub(super) invert_sigmas: bool,
    pub(super) shift_terminal: Option<f64>,
    pub(super) stochastic_sampling: bool,
    pub(super) sigma_data: f64,
    pub(super) s_noise: f64,
    pub(super) rho: f64,
    pub(super) clip_denoised: bool,
    pub(super) edm_schedule: EdmSchedule,
}

impl Config {
    /// Reads the text of a `scheduler_config.json`.
    ///
    /// Python writes infinite numbers as `-Infinity`, which JSON does not know (`lambda_min_clipped` of DPM-Solver is one
    /// in most published files), so such words outside strings are understood here.
    ///
    /// # Errors
    /// The text is no JSON, or [`Config::from_json`] refuses it.
    pub fn from_text(text: &str) -> Result<Self> {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => serde_json::from_str(&quote_python_numbers(text)).map_err(|_| error).context("not a JSON object")?,
        };
        Self::from_json(&value)
    }

    /// Reads the value of a `scheduler_config.json`; `_class_name` says which sampler it is for.
    ///
    /// # Errors
    /// `value` is not an object, its class is not known, or a value is of the wrong type or out of range; the message names
    /// the key, what was found and what was expected.
    pub fn from_json(value: &Value) -> Result<Self> {
        let Value::Object(object) = value else {
            bail!("the scheduler configuration is {}, expected an object", shown(value));
        };
        let kind = match object.get("_class_name") {
            Some(Value::String(name)) => Kind::from_class_name(name)?,
            Some(other) => bail!("`_class_name` is {}, expected the name of a scheduler class", shown(other)),
            None => bail!("`_class_name` is missing, expected the name of a scheduler class"),
        };
        let config = Self::read(kind, object.clone())?;
        if !config.ignored.is_empty() {
            log::info!("{} takes no {}; ignored", kind.class_name(), config.ignored.join(", "));
        }
        Ok(config)
    }

    /// Makes a configuration in which every key has the default of `kind`.
    ///
    /// # Errors
    /// None of the defaults is out of range, so this does not fail for any kind there is.
    pub fn default_of(kind: Kind) -> Result<Self> {
        Self::read(kind, Map::new())
    }

    /// Converts to another sampler, as `OtherScheduler.from_config(this.config)` does in diffusers: keys that both classes
    /// take are carried over, the others take the default of the new class.
    ///
    /// # Errors
    /// A carried-over value is not one that the new sampler can work with; a refusal, since a person chose the sampler.
    pub fn with_kind(&self, kind: Kind) -> Result<Self> {
        Self::read(kind, self.object.clone())
            .map_err(|error| refusal!("sampler `{kind}` cannot run a model configured for {}: {error:#}", self.kind.class_name()))
    }

    /// Converts to the sampler and variant that a person named.
    ///
    /// # Errors
    /// As [`Config::with_kind`]; or the sampler does not take the named spread of noise levels.
    pub fn with_choice(&self, choice: Choice) -> Result<Self> {
        let mut object = self.object.clone();
        if let Some(algorithm) = choice.algorithm {
            object.insert("algorithm_type".to_owned(), algorithm.name().into());
            if matches!(algorithm, Algorithm::Dpm | Algorithm::SdeDpm) {
                // These two divide by the last noise level.
                object.insert("final_sigmas_type".to_owned(), FinalSigma::SigmaMin.name().into());
            }
        }
        let config = Self { object, ..self.clone() }.with_kind(choice.kind)?;
        match choice.sigma_schedule {
            Some(schedule) => config.with_sigma_schedule(schedule),
            None => Ok(config),
        }
    }

    /// Changes the spread of noise levels, as `from_config(config, use_karras_sigmas=True)` and its like do in diffusers.
    ///
    /// # Errors
    /// The sampler takes no such setting.
    pub fn with_sigma_schedule(&self, schedule: SigmaSchedule) -> Result<Self> {
        if !self.kind.takes("use_karras_sigmas") {
            if schedule == SigmaSchedule::Plain {
                return Ok(self.clone());
            }
            refuse!("sampler `{}` has no {schedule} noise levels; leave them out or choose another sampler", self.kind);
        }
        let mut object = self.object.clone();
        for (key, meant) in [
            ("use_karras_sigmas", SigmaSchedule::Karras),
            ("use_exponential_sigmas", SigmaSchedule::Exponential),
            ("use_beta_sigmas", SigmaSchedule::Beta),
        ] {
            object.insert(key.to_owned(), (schedule == meant).into());
        }
        Self::read(self.kind, object)
    }

    /// Changes `timestep_spacing`.
    ///
    /// # Errors
    /// The sampler does not space its timesteps by such a rule.
    pub fn with_spacing(&self, spacing: Spacing) -> Result<Self> {
        if !self.kind.takes("timestep_spacing") || matches!(self.kind, Kind::Lcm | Kind::Tcd) {
            refuse!("sampler `{}` has no timestep spacing to set to `{spacing}`; leave it out", self.kind);
        }
        let mut object = self.object.clone();
        object.insert("timestep_spacing".to_owned(), spacing.name().into());
        Self::read(self.kind, object)
    }

    /// Changes the shift of the noise levels towards the noisy end (`shift` or `flow_shift`).
    ///
    /// # Errors
    /// The sampler has no shift, or `shift` is not a positive number.
    pub fn with_shift(&self, shift: f64) -> Result<Self> {
        let key = match self.kind {
            Kind::FlowMatchEuler | Kind::FlowMatchHeun => "shift",
            Kind::DpmSolverMultistep | Kind::UniPc if self.use_flow_sigmas => "flow_shift",
            kind => refuse!("sampler `{kind}` has no shift of its noise levels; leave it out"),
        };
        if self.use_dynamic_shifting {
            refuse!("this model shifts its noise levels by the size of the picture; leave the shift out");
        }
        let mut object = self.object.clone();
        object.insert(key.to_owned(), shift.into());
        Self::read(self.kind, object).map_err(|error| refusal!("{error:#}"))
    }

    /// Sets keys as `scheduler_config.json` spells them; those that the class does not take change nothing.
    ///
    /// # Errors
    /// A value is of the wrong type or out of range.
    pub fn with_keys(&self, keys: &Map<String, Value>) -> Result<Self> {
        let mut object = self.object.clone();
        for (key, value) in keys.iter().filter(|(key, _)| self.kind.takes(key)) {
            object.insert(key.clone(), value.clone());
        }
        Self::read(self.kind, object)
    }

    /// The object that [`Config::from_json`] reads this configuration from.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut object = self.object.clone();
        object.insert("_class_name".to_owned(), self.kind.class_name().into());
        Value::Object(object)
    }

    /// Builds the sampler for one run.
    ///
    /// # Errors
    /// `run` asks for what the sampler cannot do (a refusal), or the configuration leads to numbers that are not finite.
    pub fn build(&self, run: &Run) -> Result<Box<dyn Sampler>> {
        let mut config = self.clone();
        if let Some(schedule) = run.sigma_schedule {
            config = config.with_sigma_schedule(schedule)?;
        }
        if let Some(spacing) = run.spacing {
            config = config.with_spacing(spacing)?;
        }
        if let Some(shift) = run.shift {
            config = config.with_shift(shift)?;
        }
        run.check(&config)?;
        Ok(match config.kind {
            Kind::Ddpm => Box::new(ddpm::Ddpm::new(&config, run)?),
            Kind::Ddim => Box::new(ddim::Ddim::new(&config, run)?),
            Kind::Pndm => Box::new(pndm::Pndm::new(&config, run)?),
            Kind::Euler => Box::new(euler::Euler::new(&config, run)?),
            Kind::EulerAncestral => Box::new(euler_ancestral::EulerAncestral::new(&config, run)?),
            Kind::Heun => Box::new(heun::Heun::new(&config, run)?),
            Kind::DpmSolverMultistep => Box::new(dpm_solver_multistep::DpmSolverMultistep::new(&config, run)?),
            Kind::UniPc => Box::new(uni_pc::UniPc::new(&config, run)?),
            Kind::Lcm => Box::new(lcm::Lcm::new(&config, run)?),
            Kind::Tcd => Box::new(tcd::Tcd::new(&config, run)?),
            Kind::FlowMatchEuler => Box::new(flow_match_euler::FlowMatchEuler::new(&config, run)?),
            Kind::FlowMatchHeun => Box::new(flow_match_heun::FlowMatchHeun::new(&config, run)?),
            Kind::Consistency => Box::new(consistency::Consistency::new(&config, run)?),
            Kind::EdmEuler => Box::new(edm_euler::EdmEuler::new(&config, run)?),
        })
    }

    /// The sampler this configuration is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The keys that the class does not take, in alphabetical order; private ones (`_…`) are not counted.
    #[must_use]
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// How many timesteps the model was trained with.
    #[must_use]
    pub fn num_train_timesteps(&self) -> usize {
        self.num_train_timesteps
    }

    /// What the denoiser predicts; for flow samplers always [`Prediction::Flow`].
    #[must_use]
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// How timesteps are spaced, where the class has a choice.
    #[must_use]
    pub fn spacing(&self) -> Option<Spacing> {
        (self.kind.takes("timestep_spacing") && !matches!(self.kind, Kind::Lcm | Kind::Tcd)).then_some(self.spacing)
    }

    /// How noise levels are spread, where the class has a choice.
    #[must_use]
    pub fn sigma_schedule(&self) -> Option<SigmaSchedule> {
        self.kind.takes("use_karras_sigmas").then_some(self.sigma_schedule)
    }

    /// The steps of the teacher's schedule that a distilled model's steps are taken from (LCM, TCD).
    #[must_use]
    pub fn original_inference_steps(&self) -> Option<usize> {
        self.kind.takes("original_inference_steps").then_some(self.original_inference_steps)
    }

    /// Whether the run needs [`Run::mu`] or [`Run::image_sequence_length`].
    #[must_use]
    pub fn uses_dynamic_shifting(&self) -> bool {
        self.use_dynamic_shifting
    }

    /// Whether the noise levels are those of flow matching.
    #[must_use]
    pub fn is_flow(&self) -> bool {
        self.kind.is_flow() || self.use_flow_sigmas
    }

    /// Whether a model configured like this can sensibly be run by `kind`.
    ///
    /// [`Config::with_kind`] converts between any two classes, as diffusers does; between the families below the result is a
    /// picture of noise.
    #[must_use]
    pub fn suits(&self, kind: Kind) -> bool {
        let family = |kind: Kind| match kind {
            Kind::FlowMatchEuler | Kind::FlowMatchHeun => 1,
            Kind::Consistency => 2,
            Kind::EdmEuler => 3,
            _ => 0,
        };
        kind == self.kind || (!self.use_flow_sigmas && family(kind) == family(self.kind))
    }

    /// The shift of dynamic shifting for a picture of `image_sequence_length` patches, along the line through
    /// (`base_image_seq_len`, `base_shift`) and (`max_image_seq_len`, `max_shift`).
    #[must_use]
    pub fn mu(&self, image_sequence_length: usize) -> f64 {
        let span = self.max_image_seq_len as f64 - self.base_image_seq_len as f64;
        let slope = (self.max_shift - self.base_shift) / span;
        let offset = self.base_shift - slope * self.base_image_seq_len as f64;
        image_sequence_length as f64 * slope + offset
    }

    fn read(kind: Kind, mut object: Map<String, Value>) -> Result<Self> {
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
        let default_timesteps = if kind == Kind::Consistency { 40 } else { 1000 };
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
            Kind::DpmSolverMultistep | Kind::UniPc => Prediction::ALL,
            _ => &[Prediction::Epsilon, Prediction::Sample, Prediction::Velocity],
        };
        let prediction = if kind.is_flow() {
            Prediction::Flow
        } else if kind == Kind::Euler && object.get("prediction_type").and_then(Value::as_str) == Some("original_sample") {
            Prediction::Sample
        } else {
            reader.word("prediction_type", Prediction::Epsilon, predictions)?
        };
        let default_spacing = match kind {
            Kind::Ddpm | Kind::Ddim | Kind::Pndm => Spacing::Leading,
            _ => Spacing::Linspace,
        };
        let ignores_spacing = matches!(kind, Kind::Lcm | Kind::Tcd);
        let spacing =
            if ignores_spacing { default_spacing } else { reader.word("timestep_spacing", default_spacing, Spacing::ALL)? };

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
                Kind::Consistency | Kind::EdmEuler => reader.number(key, trained, "a positive number", positive).map(Some),
                Kind::Euler => reader.optional_number(key, "a positive number", positive),
                // These classes do not take the keys, but diffusers keeps the keys of other classes and they find them there.
                Kind::Heun | Kind::DpmSolverMultistep | Kind::UniPc | Kind::FlowMatchEuler
                    if sigma_schedule != SigmaSchedule::Plain =>
                {
                    reader.kept_number(key, "a positive number", positive)
                }
                _ => Ok(None),
            }
        };
        let (sigma_min, sigma_max) = (sigma("sigma_min", 0.002)?, sigma("sigma_max", 80.0)?);
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
        let default_variant = (kind == Kind::DpmSolverMultistep, kind == Kind::UniPc);
        reader.must_be_null("solver_p", "a second solver inside UniPC is not known here")?;
        let disable_corrector = match reader.value_of("disable_corrector") {
            Some(Value::Null) => bail!("`disable_corrector` is null, expected a list of step indices"),
            _ => reader.numbers("disable_corrector", "a step index", |number| number >= 0.0 && number.fract() == 0.0)?,
        };

        let shift_key = if kind.is_flow() { "shift" } else { "flow_shift" };
        let base_image_seq_len = reader.whole("base_image_seq_len", 256, 0, usize::MAX)?;
        let max_image_seq_len = reader.whole("max_image_seq_len", 4096, 0, usize::MAX)?;
        let time_shifts: &[TimeShift] = if kind == Kind::FlowMatchEuler { TimeShift::ALL } else { &[TimeShift::Exponential] };

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
            clip_sample: reader.flag("clip_sample", matches!(kind, Kind::Ddpm | Kind::Ddim))?,
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
            object: Map::new(),
        };
        if config.use_dynamic_shifting && kind == Kind::FlowMatchEuler && base_image_seq_len == max_image_seq_len {
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
        if default_variant.0 && object.contains_key("solver_type") {
            object.insert("solver_type".to_owned(), config.solver_type.name().into());
        }
        if default_variant.0 && object.contains_key("algorithm_type") {
            object.insert("algorithm_type".to_owned(), config.algorithm.name().into());
        }
        if default_variant.1 && object.contains_key("solver_type") {
            object.insert("solver_type".to_owned(), config.solver_type.name().into());
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

/// Puts quotes around the words `NaN`, `Infinity` and `-Infinity` wherever they stand outside a string.
fn quote_python_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut inside = false;
    while let Some(first) = rest.chars().next() {
        let word = if inside { None } else { ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| rest.starts_with(word)) };
        let taken = match word {
            Some(word) => {
                quoted.push('"');
                quoted.push_str(word);
                quoted.push('"');
                word.len()
            }
            None => {
                let mut taken = first.len_utf8();
                match first {
                    '"' => inside = !inside,
                    '\\' if inside => taken += rest[taken..].chars().next().map_or(0, char::len_utf8),
                    _ => {}
                }
                quoted.push_str(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    quoted
}
