//! Whose fault an error is.
//!
//! Every fallible function of the crate returns [`anyhow::Result`]. What the caller can mend (a prompt that is too long, a size the
//! model cannot take, a picture that is no picture) carries a [`Refusal`] at its root; everything else is the device's, the
//! bundle's or Kiln's own fault. The command line turns the first into exit code 2 and the second into 1, a server into
//! 4xx and 5xx.

/// The log's target of what quotes a prompt, which is nobody's business but the person's: a server silences it unless it is asked for.
pub(crate) const PROMPTS: &str = "kiln::prompts";

/// The request cannot be carried out as it was made; the message names the value, what was expected and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The run was stopped by the person who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cancelled")]
pub struct Cancelled;

/// The picture was made, and the safety checker does not let it be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the safety checker holds back the picture of seed {seed}; say it in other words, or take another seed")]
pub struct HeldBack {
    /// The picture's seed.
    pub seed: u64,
}

/// The device has no memory left for what a network computes; the message is the runtime's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: {0}")]
pub struct OutOfMemory(pub String);

/// Returns early with a [`Refusal`] made by `format!`.
macro_rules! refuse {
    ($($argument:tt)*) => {
        return ::core::result::Result::Err($crate::refusal!($($argument)*))
    };
}
pub(crate) use refuse;

/// Makes an [`anyhow::Error`] out of a [`Refusal`] made by `format!`.
macro_rules! refusal {
    ($($argument:tt)*) => {
        ::anyhow::Error::new($crate::error::Refusal(::std::format!($($argument)*)))
    };
}
pub(crate) use refusal;

/// Whether `error` is the caller's fault, or at least the caller's to mend.
#[must_use]
pub fn is_refusal(error: &anyhow::Error) -> bool {
    is_held_back(error) || error.downcast_ref::<Refusal>().is_some() || error.chain().any(|cause| cause.is::<Refusal>())
}

/// Whether `error` is that a picture was held back.
#[must_use]
pub fn is_held_back(error: &anyhow::Error) -> bool {
    error.downcast_ref::<HeldBack>().is_some() || error.chain().any(|cause| cause.is::<HeldBack>())
}

/// Whether `error` is a cancelled run rather than a failure.
#[must_use]
pub fn is_cancelled(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Cancelled>().is_some() || error.chain().any(|cause| cause.is::<Cancelled>())
}

/// Whether `error` is that the device ran out of memory.
#[must_use]
pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
    error.downcast_ref::<OutOfMemory>().is_some() || error.chain().any(|cause| cause.is::<OutOfMemory>())
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    fn refused() -> anyhow::Result<()> {
        refuse!("size is {}, expected a multiple of 8", 3)
    }

    #[test]
    fn a_refusal_is_recognised_below_its_context() {
        let error = refused().context("model sticker").expect_err("refused() always fails");
        assert!(is_refusal(&error));
        assert_eq!(format!("{error:#}"), "model sticker: size is 3, expected a multiple of 8");
        assert!(!is_refusal(&anyhow::anyhow!("disk full")));
    }
}
