//! Measures a bundle's components on this device, one configuration at a time.
//!
//! In: a bundle, the providers that run here, the cores. Out: configurations, and of each a
//! [`Measurement`](crate::plan::Measurement). Which process measures which, and where the result is kept, is the command line's part.

mod configuration;
mod inputs;
mod trial;

pub use configuration::{Configuration, configurations};
pub use inputs::inputs;
pub use trial::{Trial, measure};

/// The middle of `values`; 0 when there are none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
