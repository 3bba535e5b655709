//! The words a scheduler configuration may hold, and the reader that checks each value.
//!
//! In: one JSON object. Out: typed values, or an error that names the key, what was found and what was expected.
//! Not here: which keys a sampler takes (`kind`), defaults (`config`).

use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::kind::Kind;

/// Declares an enum whose variants are spelled as in `scheduler_config.json`.
macro_rules! words {
    ($(#[$outer:meta])* $visibility:vis enum $name:ident { $($(#[$inner:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $visibility enum $name { $($(#[$inner])* $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            $visibility const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the spelling used in `scheduler_config.json`.
            #[must_use]
            $visibility fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.name())
            }
        }

        impl std::str::FromStr for $name {
            type Err = anyhow::Error;

            fn from_str(text: &str) -> Result<Self> {
                match Self::WORDS.iter().find(|(word, _)| *word == text) {
                    Some((_, value)) => Ok(*value),
                    None => crate::refuse!("`{text}` is not one of {}", spelled::<Self>(Self::ALL)),
                }
            }
        }
    };
}

/// An enum that a configuration spells as a word.
pub(super) trait Word: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

fn spelled<W: Word>(allowed: &[W]) -> String {
    let words: Vec<_> =
        W::WORDS.iter().filter(|(_, value)| allowed.contains(value)).map(|(word, _)| format!("`{word}`")).collect();
    words.join(", ")
}

words! {
    /// How the variance β grows over the training timesteps.
    pub enum BetaSchedule {
        /// Evenly from `beta_start` to `beta_end`.
        Linear = "linear",
        /// Evenly in the square root; the schedule of latent diffusion.
        ScaledLinear = "scaled_linear",
        /// From a squared cosine of the signal kept, capped at 0.999.
        SquaredCosCapV2 = "squaredcos_cap_v2",
        /// Along a logistic curve (DDPM only).
        Sigmoid = "sigmoid",
        /// From an exponential decay of the signal kept (Heun only).
        Exp = "exp",
    }
}

words! {
    /// Which of the training timesteps a run visits (table 2 of arXiv:2305.08891).
    pub enum Spacing {
        /// Evenly, both ends included.
        Linspace = "linspace",
        /// Every n-th counted from the clean end, so that the noisiest is left out.
        Leading = "leading",
        /// Every n-th counted from the noisy end, so that the noisiest is visited.
        Trailing = "trailing",
    }
}

words! {
    /// What the denoiser predicts.
    pub enum Prediction {
        /// The noise, ε.
        Epsilon = "epsilon",
        /// The clean sample, x₀.
        Sample = "sample",
        /// The velocity v = √ᾱ ε − √(1−ᾱ) x₀ of progressive distillation.
        Velocity = "v_prediction",
        /// The velocity ε − x₀ of flow matching.
        Flow = "flow_prediction",
    }
}

words! {
    /// How noise levels are spread over a run, apart from following the timesteps.
    pub enum SigmaSchedule {
        /// As the timesteps say.
        Plain = "plain",
        /// Evenly in σ^(1/7) (Karras et al. 2022, eq. 5).
        Karras = "karras",
        /// Evenly in log σ.
        Exponential = "exponential",
        /// By the quantiles of a Beta(0.6, 0.6) distribution (arXiv:2407.12173).
        Beta = "beta",
    }
}

words! {
    /// The noise level after the last step.
    pub enum FinalSigma {
        /// None at all.
        Zero = "zero",
        /// The smallest one of training.
        SigmaMin = "sigma_min",
    }
}

words! {
    /// The variants of multistep DPM-Solver.
    pub enum Algorithm {
        /// Solves the ODE of the noise prediction (arXiv:2206.00927).
        Dpm = "dpmsolver",
        /// Solves the ODE of the data prediction (arXiv:2211.01095).
        DpmPlusPlus = "dpmsolver++",
        /// The stochastic form of `dpmsolver`.
        SdeDpm = "sde-dpmsolver",
        /// The stochastic form of `dpmsolver++`.
        SdeDpmPlusPlus = "sde-dpmsolver++",
        /// Another solver's name, which diffusers reads as `dpmsolver++`.
        Deis = "deis",
    }
}

words! {
    /// The second-order rule of a multistep solver; the names of one solver are read as the default of the other.
    pub(super) enum SolverType {
        Midpoint = "midpoint",
        Heun = "heun",
        LogRho = "logrho",
        Bh1 = "bh1",
        Bh2 = "bh2",
    }
}

words! {
    /// The noise variance of an ancestral DDPM step.
    pub(super) enum Variance {
        FixedSmall = "fixed_small",
        FixedSmallLog = "fixed_small_log",
        FixedLarge = "fixed_large",
        FixedLargeLog = "fixed_large_log",
        Learned = "learned",
        LearnedRange = "learned_range",
    }
}

words! {
    pub(super) enum Interpolation {
        Linear = "linear",
        LogLinear = "log_linear",
    }
}

words! {
    pub(super) enum TimestepType {
        Discrete = "discrete",
        Continuous = "continuous",
    }
}

words! {
    pub(super) enum TimeShift {
        Exponential = "exponential",
        Linear = "linear",
    }
}

words! {
    pub(super) enum EdmSchedule {
        Karras = "karras",
        Exponential = "exponential",
    }
}

/// Reads the keys that one diffusers class takes out of a configuration object.
pub(super) struct Reader<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) kind: Kind,
}

impl Reader<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        if self.kind.takes(key) { self.object.get(key) } else { None }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            // Python takes `None` for false.
            Some(Value::Null) => Ok(false),
            Some(other) => bail!("`{key}` is {}, expected true or false", shown(other)),
        }
    }

    /// A number for which `accepts` holds; `expected` says so in words.
    pub(super) fn number(&self, key: &str, default: f64, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<f64> {
        match self.value(key) {
            None => Ok(default),
            Some(found) => match number(found) {
                Some(number) if accepts(number) => Ok(number),
                _ => bail!("`{key}` is {}, expected {expected}", shown(found)),
            },
        }
    }

    /// A number, or nothing where the key is missing or null.
    pub(super) fn optional_number(&self, key: &str, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<Option<f64>> {
        if self.kind.takes(key) { self.kept_number(key, expected, accepts) } else { Ok(None) }
    }

    /// As [`Reader::optional_number`] for a key that the class does not take but uses where it is there.
    pub(super) fn kept_number(&self, key: &str, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<Option<f64>> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(found) => match number(found) {
                Some(number) if accepts(number) => Ok(Some(number)),
                _ => bail!("`{key}` is {}, expected {expected} or null", shown(found)),
            },
        }
    }

    pub(super) fn whole(&self, key: &str, default: usize, smallest: usize, largest: usize) -> Result<usize> {
        match self.value(key) {
            None => Ok(default),
            Some(found) => match found.as_u64().and_then(|number| usize::try_from(number).ok()) {
                Some(number) if (smallest..=largest).contains(&number) => Ok(number),
                _ => bail!("`{key}` is {}, expected a whole number from {smallest} to {largest}", shown(found)),
            },
        }
    }

    /// One of the `allowed` words.
    pub(super) fn word<W: Word>(&self, key: &str, default: W, allowed: &[W]) -> Result<W> {
        let Some(found) = self.value(key) else { return Ok(default) };
        let word = found.as_str().and_then(|text| W::WORDS.iter().find(|(word, _)| *word == text)).map(|(_, value)| *value);
        match word {
            Some(value) if allowed.contains(&value) => Ok(value),
            _ => bail!("`{key}` is {}, expected one of {}", shown(found), spelled(allowed)),
        }
    }

    pub(super) fn numbers(&self, key: &str, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<Option<Vec<f64>>> {
        let items = match self.value(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => bail!("`{key}` is {}, expected a list of {expected} or null", shown(other)),
        };
        let mut numbers = Vec::with_capacity(items.len());
        for (position, item) in items.iter().enumerate() {
            match number(item) {
                Some(number) if accepts(number) => numbers.push(number),
                _ => bail!("`{key}[{position}]` is {}, expected {expected}", shown(item)),
            }
        }
        Ok(Some(numbers))
    }

    /// The value as it stands in the file, where the class takes the key.
    pub(super) fn value_of(&self, key: &str) -> Option<&Value> {
        self.value(key)
    }

    pub(super) fn must_be_null(&self, key: &str, reason: &str) -> Result<()> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(()),
            Some(other) => bail!("`{key}` is {}, expected null: {reason}", shown(other)),
        }
    }
}

/// Reads a number; the words that Python writes for the infinite ones count too, since JSON has no spelling for them.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
            "Infinity" | "inf" => Some(f64::INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Spells `value` for a message, cut to a length that a line can hold.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Array(items) if items.len() > 8 => format!("a list of {} values", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() <= LONGEST => format!("`{text}`"),
        Value::String(text) => format!("`{}…`", text.chars().take(LONGEST).collect::<String>()),
        other => {
            let text = other.to_string();
            if text.chars().count() <= LONGEST { text } else { format!("{}…", text.chars().take(LONGEST).collect::<String>()) }
        }
    }
}
