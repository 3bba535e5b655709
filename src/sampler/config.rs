//! A sampler's configuration, as diffusers writes it into `scheduler_config.json`.
//!
//! In: that file's text or JSON value. Out: a checked [`Config`], which builds a [`Sampler`] for one [`Run`].
//! A missing key takes the default of its class; a key that the class does not take is kept aside in [`Config::ignored`].
//! Not here: reading files, the defaults of each class (`defaults`), arithmetic.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::choice::Choice;
use super::kind::Kind;
use super::reader::{quote_python_numbers, shown};
use super::settings::{
    Algorithm, BetaSchedule, EdmSchedule, FinalSigma, Interpolation, Prediction, SigmaSchedule, SolverType, Spacing, TimeShift,
    TimestepType, Variance,
};
use super::{
    Run, Sampler, annealed_langevin, consistency, ddim, ddim_inverse, ddpm, dpm_solver_multistep, edm_euler, euler,
    euler_ancestral, flow_match_euler, flow_match_heun, flow_match_lcm, heun, lcm, pndm, scm, score, score_sde_ve, score_sde_vp,
    tcd, uni_pc,
};
use crate::{refusal, refuse};

/// A checked scheduler configuration.
///
/// Fields that the class does not take hold a neutral value and are never read by its sampler.
#[derive(Debug, Clone)]
pub struct Config {
    pub(super) kind: Kind,
    /// The file's own keys, for the next conversion.
    pub(super) object: Map<String, Value>,
    pub(super) ignored: Vec<String>,
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
    pub(super) score: score::Settings,
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
        Self::from_json(&Self::value_from_text(text)?)
    }

    /// Reads the text of a `scheduler_config.json` as far as its JSON value, infinite numbers included.
    ///
    /// # Errors
    /// The text is no JSON.
    pub fn value_from_text(text: &str) -> Result<Value> {
        match serde_json::from_str(text) {
            Ok(value) => Ok(value),
            Err(error) => serde_json::from_str(&quote_python_numbers(text)).map_err(|_| error).context("not a JSON object"),
        }
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
    /// The sampler does not space its timesteps by a rule, or not by this one.
    pub fn with_spacing(&self, spacing: Spacing) -> Result<Self> {
        if !self.kind.takes("timestep_spacing") || matches!(self.kind, Kind::Lcm | Kind::Tcd) {
            refuse!("sampler `{}` has no timestep spacing to set to `{spacing}`; leave it out", self.kind);
        }
        let mut object = self.object.clone();
        object.insert("timestep_spacing".to_owned(), spacing.name().into());
        Self::read(self.kind, object).map_err(|error| refusal!("{error:#}"))
    }

    /// Changes the shift of the noise levels towards the noisy end (`shift` or `flow_shift`).
    ///
    /// # Errors
    /// The sampler has no shift, or `shift` is not a positive number.
    pub fn with_shift(&self, shift: f64) -> Result<Self> {
        let key = match self.kind {
            kind if kind.is_flow() => "shift",
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
        let sampler: Box<dyn Sampler> = match config.kind {
            Kind::Ddpm => Box::new(ddpm::Ddpm::new(&config, run)?),
            Kind::Ddim => Box::new(ddim::Ddim::new(&config, run)?),
            Kind::DdimInverse => Box::new(ddim_inverse::DdimInverse::new(&config, run)?),
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
            Kind::FlowMatchLcm => Box::new(flow_match_lcm::FlowMatchLcm::new(&config, run)?),
            Kind::Consistency => Box::new(consistency::Consistency::new(&config, run)?),
            Kind::Scm => Box::new(scm::Scm::new(&config, run)?),
            Kind::EdmEuler => Box::new(edm_euler::EdmEuler::new(&config, run)?),
            Kind::ScoreSdeVe => Box::new(score_sde_ve::ScoreSdeVe::new(&config, run)?),
            Kind::ScoreSdeVp => Box::new(score_sde_vp::ScoreSdeVp::new(&config, run)?),
            Kind::AnnealedLangevin => Box::new(annealed_langevin::AnnealedLangevin::new(&config, run)?),
        };
        // The denoiser would be given infinite numbers, and be blamed for them.
        let levels = sampler.sigmas().unwrap_or_default();
        if !sampler.init_noise_sigma().is_finite() || levels.iter().any(|level| !level.is_finite()) {
            bail!("scheduler_config.json gives noise without end, expected betas that leave some of the picture");
        }
        Ok(sampler)
    }

    /// The sampler this configuration is for.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the estimate of the clean sample is cut to a range.
    pub(super) fn limits(&self) -> bool {
        self.clip_sample || self.thresholding
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

    /// What the denoiser predicts; for flow samplers always [`Prediction::Flow`], for those of score networks [`Prediction::Score`].
    #[must_use]
    pub fn prediction(&self) -> Prediction {
        self.prediction
    }

    /// The standard deviation of the samples of a consistency model.
    #[must_use]
    pub fn sigma_data(&self) -> f32 {
        self.sigma_data as f32
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
            kind if kind.is_flow() => 1,
            Kind::Consistency => 2,
            Kind::EdmEuler => 3,
            kind if kind.is_score() => 4,
            // It takes a picture to noise.
            Kind::DdimInverse => 5,
            Kind::Scm => 6,
            _ => 0,
        };
        match kind {
            _ if kind == self.kind => true,
            Kind::DpmSolverMultistep | Kind::UniPc if self.use_flow_sigmas => true,
            _ => !self.use_flow_sigmas && family(kind) == family(self.kind),
        }
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
}
