//! A picture's likelihood, in nats and in bits per dimension.
//!
//! The picture is one of 8 bits and the density one of real numbers, so each value stands for a cell of width 2/256 in [-1, 1]. The
//! figure is the density at the middles of the cells times the cells' size: uniform dequantisation with its one half in place of a
//! draw (B. Uria, I. Murray, H. Larochelle, 2013, "RNADE: The real-valued neural autoregressive density-estimator",
//! arXiv:1306.0186). It is no bound on the probability of the cells themselves, as the mean over draws would be (L. Theis,
//! A. van den Oord, M. Bethge, 2015, "A note on the evaluation of generative models", arXiv:1511.01844, section 3.1).

use std::fmt;

use super::inversion::of_picture;
use crate::bundle::Bundle;
use crate::ode::Method;
use crate::request::Request;

/// Tolerance of the solver that a likelihood is integrated with where the person names none.
const TOLERANCE: f32 = 1e-4;

/// What a likelihood makes of `request`.
pub(crate) fn likelihood_request(bundle: &Bundle, request: &Request) -> Request {
    let mut request = of_picture(request);
    let chosen = &mut request.sampler;
    let is_open = chosen.choice.is_none() && chosen.method.is_none() && chosen.config.is_none();
    if bundle.family.is_integrated() && request.steps.is_none() && is_open {
        // A sum over the whole way wants a finer one than a picture does.
        chosen.method = Some(Method::DormandPrince);
        chosen.tolerance = chosen.tolerance.or(Some(TOLERANCE));
    }
    request
}

/// What a likelihood is worth: how near it is to the model's density at the middles of the picture's cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LikelihoodKind {
    /// The model's own density, to rounding.
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
    /// Logarithm of the density in [-1, 1] at the middles of the picture's cells.
    pub nats: f64,
    /// That density times the cells' size, in bits for each of the picture's values: what they would cost if the model were a code and
    /// the density even within a cell; less is better.
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
