//! What only some families take: a class, truncation, mixed styles, temperature, a solver.
//!
//! In: a request and a bundle. Out: each value with its default, or a refusal that says which models take it.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;

use super::resolve::widen;
use super::{Request, SamplerChoice};
use crate::bundle::{Architecture, Bundle, Family};
use crate::ode::Method;
use crate::{refusal, refuse, sampler};

/// Tolerance of a solver that chooses its own steps, where the person names none.
const DEFAULT_TOLERANCE: f32 = 1e-3;
/// Most draws that a likelihood is the mean over.
const LARGEST_SAMPLES: usize = 1000;
/// Most steps of a solver, forced or not: each is a time that is kept.
const MOST_SOLVER_STEPS: usize = 10_000;
/// Largest temperature.
const LARGEST_TEMPERATURE: f32 = 2.0;

/// Which class pictures have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassChoice {
    /// All the same.
    One(usize),
    /// Each in its turn: a picture of seed `s` has class `s` modulo this count.
    InTurn(usize),
}

impl ClassChoice {
    /// The class of the picture of `seed`.
    #[must_use]
    pub fn of_seed(self, seed: u64) -> usize {
        match self {
            Self::One(class) => class,
            // The remainder is below a count that is a usize.
            Self::InTurn(count) => usize::try_from(seed % count.max(1) as u64).unwrap_or(0),
        }
    }
}

/// Another seed's style from a layer on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StyleMix {
    /// The seed whose style it is.
    pub seed: u64,
    /// The first layer that takes it; the middle one when not given.
    pub from_layer: Option<usize>,
}

impl FromStr for StyleMix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (seed, layer) = text.split_once(':').map_or((text, None), |(seed, layer)| (seed, Some(layer)));
        let wrong = || format!("is `{text}`, expected SEED or SEED:LAYER, such as 7:4");
        Ok(Self {
            seed: seed.trim().parse().map_err(|_| wrong())?,
            from_layer: layer.map(|layer| layer.trim().parse().map_err(|_| wrong())).transpose()?,
        })
    }
}

impl fmt::Display for StyleMix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from_layer {
            Some(layer) => write!(formatter, "{}:{layer}", self.seed),
            None => write!(formatter, "{}", self.seed),
        }
    }
}

/// What integrates a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Solver {
    /// The method.
    pub method: Method,
    /// Error that a step may have, absolute and relative; a method with fixed steps does not look at it.
    pub tolerance: f32,
}

impl Request {
    /// The class that the prompt names.
    pub(super) fn resolve_class(&self, bundle: &Bundle) -> Result<Option<ClassChoice>> {
        let asked_for = self.prompt.trim();
        if bundle.takes_text() {
            return Ok(None);
        }
        if bundle.classes.is_empty() {
            if !asked_for.is_empty() {
                refuse!("prompt: model {} takes none; leave it out, and choose with --seed", bundle.name());
            }
            return Ok(None);
        }
        if asked_for.is_empty() {
            return Ok(Some(ClassChoice::InTurn(bundle.classes.len())));
        }
        let lower = |text: &str| text.trim().to_lowercase();
        let singular = |text: &str| lower(text).strip_suffix('s').map_or_else(|| lower(text), str::to_owned);
        let position = |same: &dyn Fn(&str) -> bool| bundle.classes.iter().position(|class| same(class));
        // The nearest spelling first, so that of `cat` and `cats` each can be named.
        let found = position(&|class| class == asked_for)
            .or_else(|| position(&|class| lower(class) == lower(asked_for)))
            .or_else(|| position(&|class| singular(class) == singular(asked_for)));
        match found {
            Some(class) => Ok(Some(ClassChoice::One(class))),
            None => refuse!(
                "prompt: is `{asked_for}`, and model {} knows {} only; without a prompt each comes in its turn",
                bundle.name(),
                bundle.classes.join(", ")
            ),
        }
    }

    /// How far styles keep from the mean one.
    pub(super) fn resolve_truncation(&self, bundle: &Bundle) -> Result<f32> {
        let Family::Gan { truncation, .. } = &bundle.family else {
            if self.truncation.is_some() {
                refuse!("truncation: model {} has no styles to draw in; a style-based generator has (gan)", bundle.name());
            }
            return Ok(1.0);
        };
        let truncation = self.truncation.unwrap_or(*truncation);
        if !(0.0..=2.0).contains(&truncation) {
            refuse!("truncation: is {truncation}, expected 0 (the mean picture) to 1 (as trained), at most 2");
        }
        Ok(truncation)
    }

    /// Another seed's style, with the layer that it begins at.
    pub(super) fn resolve_style_mix(&self, bundle: &Bundle) -> Result<Option<StyleMix>> {
        let Some(mix) = self.style_mix else { return Ok(None) };
        let Family::Gan { style_count, .. } = &bundle.family else {
            refuse!("style mix: model {} has no styles; a style-based generator has (gan)", bundle.name());
        };
        let layer = mix.from_layer.unwrap_or(style_count / 2);
        if layer >= *style_count {
            refuse!("style mix: begins at layer {layer}, expected 0 to {}: the model has {style_count} layers", style_count - 1);
        }
        Ok(Some(StyleMix { from_layer: Some(layer), ..mix }))
    }

    /// The deviation of the latents that are drawn.
    pub(super) fn resolve_temperature(&self, bundle: &Bundle) -> Result<f32> {
        let own = match &bundle.family {
            Family::Vae { .. } => 1.0,
            Family::Flow { temperature, .. } => *temperature,
            _ if self.temperature.is_some() => {
                refuse!("temperature: model {} draws no latent of its own choice; an autoencoder and a flow do", bundle.name())
            }
            _ => return Ok(1.0),
        };
        let temperature = self.temperature.unwrap_or(own);
        if !(0.0..=LARGEST_TEMPERATURE).contains(&temperature) {
            refuse!("temperature: is {temperature}, expected 0 to {LARGEST_TEMPERATURE}");
        }
        Ok(temperature)
    }

    /// How many draws a likelihood is the mean over.
    pub(super) fn resolve_samples(&self) -> Result<usize> {
        let samples = self.samples.unwrap_or(1);
        if !(1..=LARGEST_SAMPLES).contains(&samples) {
            refuse!("samples: is {samples}, expected 1 to {LARGEST_SAMPLES}");
        }
        Ok(samples)
    }

    /// What makes the steps of a family whose network is a field: a solver, or one of the samplers that follow it too.
    pub(super) fn resolve_field(&self, bundle: &Bundle) -> Result<(Option<sampler::Config>, Option<Solver>)> {
        let chosen = &self.sampler;
        // Both rooms have an Euler and a Heun; for a field they are the solver's.
        let method = match (chosen.method, chosen.choice.and_then(method_of)) {
            (None, Some(method)) if chosen.choice != Some(method_choice(method)) => {
                refuse!("sampler: the solver `{method}` spreads no noise levels; leave the ending out");
            }
            (named, of_choice) => named.or(of_choice),
        };
        let is_own = chosen.choice.is_none() && chosen.method.is_none();
        let config = match (&chosen.config, &bundle.scheduler) {
            (Some(config), _) => Some(config.clone()),
            (None, Some(config)) if is_own => Some(config.clone()),
            _ => None,
        };
        match (method, config, chosen.choice) {
            (Some(method), _, _) => Ok((None, Some(self.solver(method)?))),
            (None, Some(config), choice) => {
                let config = choice.map_or(Ok(config.clone()), |choice| config.with_choice(choice))?;
                Ok((Some(config), None))
            }
            (None, None, Some(choice)) => {
                let fits = field_samplers(bundle);
                if !fits.contains(&choice.kind) && !self.force {
                    let names: Vec<&str> = fits.iter().map(|kind| kind.name()).collect();
                    refuse!(
                        "sampler: `{}` would give noise with this model; {} would do, and so would the solvers {}",
                        choice.kind,
                        names.join(", "),
                        Method::ALL.map(|method| method.to_string()).join(", ")
                    );
                }
                Ok((Some(field_config(bundle, choice)?), None))
            }
            (None, None, None) => Ok((None, Some(self.solver(Method::Heun)?))),
        }
    }

    fn solver(&self, method: Method) -> Result<Solver> {
        if self.sampler.run != sampler::Run::default() {
            refuse!("sampler: the solver `{method}` takes neither timesteps, sigmas, eta, shift nor a spacing; leave them out");
        }
        if let Some(steps) = self.steps.filter(|steps| *steps > MOST_SOLVER_STEPS) {
            refuse!("steps: is {steps}, expected at most {MOST_SOLVER_STEPS} for a solver");
        }
        if method.is_adaptive() && self.steps.is_some() {
            refuse!("steps: the solver `{method}` chooses them by itself; name a --tolerance instead");
        }
        if !method.is_adaptive() && self.sampler.tolerance.is_some() {
            refuse!("tolerance: the solver `{method}` has fixed steps; name --steps, or take `dopri5`");
        }
        let tolerance = self.sampler.tolerance.unwrap_or(DEFAULT_TOLERANCE);
        if !(1e-7..=1.0).contains(&tolerance) {
            refuse!("tolerance: is {tolerance}, expected 1e-7 to 1");
        }
        Ok(Solver { method, tolerance })
    }
}

impl SamplerChoice {
    /// Reads a name that a person typed: a solver's where only solvers have it, else a sampler's.
    ///
    /// # Errors
    /// Nothing has that name.
    pub fn named(text: &str) -> Result<Self> {
        match text.parse::<sampler::Choice>() {
            Ok(choice) => Ok(Self { choice: Some(choice), ..Self::default() }),
            Err(error) => match text.parse::<Method>() {
                Ok(method) => Ok(Self { method: Some(method), ..Self::default() }),
                Err(_) => Err(refusal!("{error:#}; of solvers {}", Method::ALL.map(|method| method.to_string()).join(", "))),
            },
        }
    }
}

/// What a network of Sana-Sprint predicts is turned into what TrigFlow predicts, on whose path one sampler walks and no other.
pub(super) fn check_path(bundle: &Bundle, kind: sampler::Kind) -> Result<()> {
    let own = sampler::Kind::Scm;
    match (bundle.architecture() == Some(Architecture::SanaSprint), kind == own) {
        (true, false) => refuse!("sampler: is `{kind}`, and model {} was distilled for `{own}` alone", bundle.name()),
        (false, true) => refuse!("sampler: is `{own}`, which walks on TrigFlow's path, and model {} on another", bundle.name()),
        _ => Ok(()),
    }
}

fn method_of(choice: sampler::Choice) -> Option<Method> {
    match choice.kind {
        sampler::Kind::Euler => Some(Method::Euler),
        sampler::Kind::Heun => Some(Method::Heun),
        _ => None,
    }
}

/// The choice that names `method` and nothing else.
fn method_choice(method: Method) -> sampler::Choice {
    let kind = if method == Method::Heun { sampler::Kind::Heun } else { sampler::Kind::Euler };
    kind.into()
}

/// The samplers that follow the field of `bundle`.
fn field_samplers(bundle: &Bundle) -> Vec<sampler::Kind> {
    let fits = |kind: &sampler::Kind| match bundle.family {
        Family::ContinuousFlow => kind.is_flow(),
        _ => kind.is_score(),
    };
    sampler::Kind::ALL.into_iter().filter(fits).collect()
}

/// The configuration of a sampler that the bundle says nothing of, with the noise levels that it does say.
fn field_config(bundle: &Bundle, choice: sampler::Choice) -> Result<sampler::Config> {
    match bundle.family {
        Family::Score { sigma_min, sigma_max } if choice.kind.is_score() => {
            sampler::Config::for_score(choice.kind, widen(sigma_min), widen(sigma_max))
        }
        _ => sampler::Config::default_of(choice.kind)?.with_choice(choice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_style_mix_is_a_seed_and_perhaps_a_layer() {
        assert_eq!("7".parse(), Ok(StyleMix { seed: 7, from_layer: None }));
        assert_eq!("7:4".parse(), Ok(StyleMix { seed: 7, from_layer: Some(4) }));
        for wrong in ["", ":", "7:", ":4", "a", "7:4:1", "-1"] {
            assert!(wrong.parse::<StyleMix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn classes_come_in_turn() {
        assert_eq!((0..4).map(|seed| ClassChoice::InTurn(3).of_seed(seed)).collect::<Vec<_>>(), [0, 1, 2, 0]);
        assert_eq!(ClassChoice::One(2).of_seed(u64::MAX), 2);
    }
}
