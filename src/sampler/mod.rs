//! Samplers: the arithmetic that turns a denoiser's predictions into a picture, step by step.
//!
//! In: a [`Config`] (from `scheduler_config.json`), a [`Run`] (what this run asks for), then for each network call the
//! sample, the prediction and, where [`Sampler::takes_noise`] says so, a tensor of standard normal noise. Out: the next
//! sample and the present estimate of the clean one. The numbers are those of the diffusers class of the same name.
//! Not here: drawing random numbers, calling networks, guidance, pictures.
//!
//! All arithmetic on tensors is f32, in the order in which diffusers does it; schedules are computed in f64 or f32
//! wherever diffusers uses that width, because a rounded timestep must come out the same.

mod annealed_langevin;
mod choice;
mod config;
mod consistency;
mod ddim;
mod ddim_inverse;
mod ddpm;
mod defaults;
mod dpm_solver_multistep;
mod edm_euler;
mod euler;
mod euler_ancestral;
mod flow_match_euler;
mod flow_match_heun;
mod flow_match_lcm;
mod heun;
mod keys;
mod kind;
mod lcm;
mod linear;
mod pndm;
mod prediction;
mod reader;
mod schedule;
mod scm;
mod score;
mod score_sde_ve;
mod score_sde_vp;
mod settings;
mod sigma;
mod tcd;
mod uni_pc;

use anyhow::{Result, bail};
use ndarray::{ArrayD, Zip};

pub use choice::Choice;
pub use config::Config;
pub use flow_match_euler::linear_sigmas;
pub use kind::Kind;
pub use linear::{LinearStep, Sum, Term};
pub use settings::{Algorithm, BetaSchedule, FinalSigma, Prediction, SigmaSchedule, Spacing};

use crate::refuse;

/// What one run asks of its sampler.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Number of steps; not looked at where `timesteps` or `sigmas` are given.
    pub steps: usize,
    /// The timesteps to visit, noisiest first.
    pub timesteps: Option<Vec<f32>>,
    /// The noise levels to visit, noisiest first. `euler` wants the last level (mostly 0) as well, `flow-euler` adds its own.
    pub sigmas: Option<Vec<f32>>,
    /// Steps of the teacher's schedule, in place of the configuration's (LCM, TCD).
    pub original_steps: Option<usize>,
    /// The part of the teacher's schedule that is used, 0 to 1 (LCM, TCD); the other samplers begin at a later index instead.
    pub strength: Option<f64>,
    /// The shift of dynamic shifting; wins over `image_sequence_length`.
    pub mu: Option<f64>,
    /// The number of patches the transformer sees, from which dynamic shifting takes its shift.
    pub image_sequence_length: Option<usize>,
    /// Share of fresh noise per step, 0 to 1 (DDIM: 0 when not given, TCD: 0.3).
    pub eta: Option<f64>,
    /// Another rule for spacing the timesteps.
    pub spacing: Option<Spacing>,
    /// Another shift of the noise levels.
    pub shift: Option<f64>,
    /// Another spread of the noise levels.
    pub sigma_schedule: Option<SigmaSchedule>,
}

impl Run {
    /// Asks for `steps` steps and leaves everything else to the configuration.
    #[must_use]
    pub fn new(steps: usize) -> Self {
        Self { steps, ..Self::default() }
    }

    /// Refuses what does not depend on the algorithm's arithmetic.
    fn check(&self, config: &Config) -> Result<()> {
        let kind = config.kind();
        let takes_timesteps = !kind.is_score()
            && !matches!(
                kind,
                Kind::Ddim
                    | Kind::DdimInverse
                    | Kind::Pndm
                    | Kind::EulerAncestral
                    | Kind::UniPc
                    | Kind::FlowMatchHeun
                    | Kind::EdmEuler
            );
        let takes_both = matches!(kind, Kind::FlowMatchEuler | Kind::FlowMatchLcm);
        if self.timesteps.is_some() && !takes_timesteps {
            refuse!(
                "sampler `{kind}` takes no timesteps of one's own; leave them out or choose another sampler, such as `euler`"
            );
        }
        if self.sigmas.is_some() && kind != Kind::Euler && !takes_both {
            refuse!("sampler `{kind}` takes no sigmas of one's own; leave them out or choose `euler` or `flow-euler`");
        }
        if self.timesteps.is_some() && self.sigmas.is_some() && !takes_both {
            refuse!("both timesteps and sigmas are given, sampler `{kind}` takes one of them");
        }
        if let Some(timesteps) = &self.timesteps {
            if timesteps.is_empty() {
                refuse!("timesteps are empty, expected one for each step");
            }
            for (position, timestep) in timesteps.iter().enumerate() {
                if !timestep.is_finite() || *timestep < 0.0 || *timestep > config.num_train_timesteps as f32 {
                    refuse!("timesteps[{position}] is {timestep}, expected a number from 0 to {}", config.num_train_timesteps);
                }
            }
            if config.sigma_schedule != SigmaSchedule::Plain && !takes_both {
                refuse!(
                    "timesteps are given together with {} noise levels, which set the timesteps themselves; leave out one of the two",
                    config.sigma_schedule
                );
            }
        }
        if self.timesteps.is_none() && self.sigmas.is_none() {
            if self.steps == 0 {
                refuse!("steps is 0, expected at least 1");
            }
            if self.steps > config.num_train_timesteps {
                refuse!(
                    "steps is {}, expected at most {}, the number of timesteps the model was trained with",
                    self.steps,
                    config.num_train_timesteps
                );
            }
        }
        if let Some(eta) = self.eta {
            if !(0.0..=1.0).contains(&eta) {
                refuse!("eta is {eta}, expected a number from 0 to 1");
            }
            if eta > 0.0 && !matches!(kind, Kind::Ddim | Kind::Tcd) {
                refuse!("eta is {eta}, but sampler `{kind}` has none; leave it out or choose `ddim` or `tcd`");
            }
        }
        if let Some(strength) = self.strength
            && !(strength > 0.0 && strength <= 1.0)
        {
            refuse!("strength is {strength}, expected more than 0 and at most 1");
        }
        if let Some(mu) = self.mu
            && !mu.is_finite()
        {
            refuse!("mu is {mu}, expected a finite number");
        }
        Ok(())
    }
}

/// What one step yields.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The sample one step cleaner, of the shape of the one given.
    pub sample: ArrayD<f32>,
    /// The present estimate of the clean sample, for previews.
    pub predicted_original: ArrayD<f32>,
}

/// One sampling run.
///
/// Step indices count network calls from 0. The first step may have any index (picture to picture begins in the middle);
/// samplers with a memory then want every following index in order.
pub trait Sampler: Send {
    /// The timestep for each network call, in order; Heun and PNDM repeat some.
    fn timesteps(&self) -> &[f32];

    /// The noise levels, with the final one at the end, where the algorithm works on noise levels.
    fn sigmas(&self) -> Option<&[f32]> {
        None
    }

    /// Network calls per step, as diffusers counts them when it finds the index at which picture to picture begins.
    fn order(&self) -> usize {
        1
    }

    /// The standard deviation of the noise that a run from nothing starts with.
    fn init_noise_sigma(&self) -> f32 {
        1.0
    }

    /// Whether step `index` draws a tensor of standard normal noise of the sample's shape.
    fn takes_noise(&self, index: usize) -> bool {
        let _ = index;
        false
    }

    /// Whether each step is a sum of samples, predictions and noises, each times a number that the run alone decides, so that
    /// [`Config::linear_steps`] can tell the numbers; not where the estimate is cut to a range.
    fn is_linear(&self) -> bool {
        false
    }

    /// Scales `sample` to what the network was trained to see at step `index`.
    ///
    /// # Errors
    /// `index` is past the last step.
    fn scale_model_input(&self, sample: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>> {
        in_range(index, self.timesteps().len())?;
        Ok(sample.clone())
    }

    /// Moves `sample` one step towards the clean picture.
    ///
    /// * `sample`: any shape with batch and channels first
    /// * `prediction`: same shape (with a learned variance: twice the channels)
    /// * `noise`: same shape as `sample`, standard normal; not looked at where [`Sampler::takes_noise`] is false
    ///
    /// # Errors
    /// `index` is past the last step, or not the one after the last for a sampler with a memory; a shape differs; noise is
    /// missing.
    fn step(&mut self, index: usize, prediction: &ArrayD<f32>, sample: &ArrayD<f32>, noise: Option<&ArrayD<f32>>)
    -> Result<Step>;

    /// Mixes noise into `original` to the level that the sample has before step `index`.
    ///
    /// # Errors
    /// `index` is past the last step, or the shapes differ.
    fn add_noise(&self, original: &ArrayD<f32>, noise: &ArrayD<f32>, index: usize) -> Result<ArrayD<f32>>;
}

/// Refuses an index past the last step.
fn in_range(index: usize, steps: usize) -> Result<()> {
    if index >= steps {
        bail!("step index is {index}, expected less than {steps}");
    }
    Ok(())
}

/// Refuses a tensor whose shape is not the sample's.
fn same_shape(name: &str, found: &ArrayD<f32>, sample: &ArrayD<f32>) -> Result<()> {
    if found.shape() != sample.shape() {
        bail!("{name} has shape {:?}, the sample {:?}", found.shape(), sample.shape());
    }
    Ok(())
}

/// Checks what every step checks and returns the noise, where the step takes some.
fn checked<'a>(
    sampler: &dyn Sampler,
    index: usize,
    prediction: &ArrayD<f32>,
    sample: &ArrayD<f32>,
    noise: Option<&'a ArrayD<f32>>,
) -> Result<Option<&'a ArrayD<f32>>> {
    in_range(index, sampler.timesteps().len())?;
    same_shape("prediction", prediction, sample)?;
    checked_noise(sampler, index, sample, noise)
}

/// Returns the noise of step `index`, where the step takes some.
fn checked_noise<'a>(
    sampler: &dyn Sampler,
    index: usize,
    sample: &ArrayD<f32>,
    noise: Option<&'a ArrayD<f32>>,
) -> Result<Option<&'a ArrayD<f32>>> {
    if !sampler.takes_noise(index) {
        return Ok(None);
    }
    let Some(noise) = noise else { bail!("noise is missing, step {index} of {} takes some", sampler.timesteps().len()) };
    same_shape("noise", noise, sample)?;
    Ok(Some(noise))
}

/// The index that a sampler with a memory expects next: any at first, then one after the other.
#[derive(Debug, Default)]
struct Sequence {
    next: Option<usize>,
}

impl Sequence {
    fn advance(&mut self, index: usize) -> Result<()> {
        if let Some(next) = self.next
            && index != next
        {
            bail!("step index is {index}, expected {next}: this sampler remembers the step before");
        }
        self.next = Some(index + 1);
        Ok(())
    }
}

/// Combines two tensors of one shape, element by element. Callers have compared the shapes.
fn combine(first: &ArrayD<f32>, second: &ArrayD<f32>, rule: impl Fn(f32, f32) -> f32) -> ArrayD<f32> {
    Zip::from(first).and(second).map_collect(|&a, &b| rule(a, b))
}

/// Combines three tensors of one shape, element by element. Callers have compared the shapes.
fn combine3(first: &ArrayD<f32>, second: &ArrayD<f32>, third: &ArrayD<f32>, rule: impl Fn(f32, f32, f32) -> f32) -> ArrayD<f32> {
    Zip::from(first).and(second).and(third).map_collect(|&a, &b, &c| rule(a, b, c))
}
