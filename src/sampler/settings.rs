//! The words a scheduler configuration may hold.
//!
//! In: a word as `scheduler_config.json` spells it. Out: a variant.
//! Not here: which keys a sampler takes (`kind`), reading (`reader`), defaults (`defaults`).

use std::fmt;

use anyhow::Result;

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

/// Lists words for a message.
pub(super) fn spelled<W: Word>(allowed: &[W]) -> String {
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
        /// The score ∇ log p(x) of the noisy sample; no configuration spells it, the class says it.
        Score = "score",
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
