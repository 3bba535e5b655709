//! A picture's likelihood, in nats and in bits per dimension.

use std::fmt;

/// What a likelihood is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikelihoodKind {
    /// The model's own, to rounding.
    Exact,
    /// The model's own is at least this.
    LowerBound,
    /// The model's own, with the error of a solver and of a random trace.
    Estimate,
}

impl fmt::Display for LikelihoodKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Exact => "exact",
            Self::LowerBound => "lower bound",
            Self::Estimate => "estimate",
        })
    }
}

/// How likely a model finds a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// Logarithm of the density of the picture's values in [-1, 1].
    pub nats: f64,
    /// Bits that the picture would cost for each of its values if the model were a code; less is better.
    pub bits_per_dimension: f64,
    /// What the figures are worth.
    pub kind: LikelihoodKind,
}

impl Likelihood {
    /// * `nats`: logarithm of the density on [-1, 1]
    /// * `values`: of the picture, all channels together
    #[must_use]
    pub fn new(nats: f64, values: usize, kind: LikelihoodKind) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a picture has some thousand values")]
        let values = values as f64;
        // A value of 8 bits is a cell 2/256 wide in [-1, 1]: 7 bits more than a density of 1 there.
        Self { nats, bits_per_dimension: -nats / (values * std::f64::consts::LN_2) + 7.0, kind }
    }
}

/// The logarithm of the mean of likelihoods given as logarithms: of a picture whose class is not known, each being as likely.
#[must_use]
pub fn log_mean(logs: &[f64]) -> f64 {
    let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    #[expect(clippy::cast_precision_loss, reason = "a model knows at most a thousand classes")]
    let count = logs.len() as f64;
    most + (logs.iter().map(|log| (log - most).exp()).sum::<f64>() / count).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uniform_density_costs_eight_bits() {
        // On [-1, 1] the uniform density is one half.
        let found = Likelihood::new(-12.0 * std::f64::consts::LN_2, 12, LikelihoodKind::Exact);
        assert!((found.bits_per_dimension - 8.0).abs() < 1e-12);
    }

    #[test]
    fn the_mean_of_likelihoods_is_stable_for_small_ones() {
        assert!((log_mean(&[-5000.0, -5000.0]) + 5000.0).abs() < 1e-9);
        assert!((log_mean(&[0.0, f64::NEG_INFINITY]) + std::f64::consts::LN_2).abs() < 1e-12);
    }
}
