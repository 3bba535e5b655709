//! The coefficients of the Runge-Kutta methods.
//!
//! J. C. Butcher, 1964, "Implicit Runge-Kutta Processes" (the notation); J. R. Dormand, P. J. Prince, 1980, "A family of
//! embedded Runge-Kutta formulae", Journal of Computational and Applied Mathematics 6, table 2 (`dopri5`).
//!
//! In: a method. Out: where it asks the field, and how it weighs the answers.
//! Not here: taking steps (`grid`, `adaptive`).

use super::Method;

/// The coefficients of an explicit Runge-Kutta method.
///
/// | here      | paper    | meaning                                                              |
/// |-----------|----------|----------------------------------------------------------------------|
/// | `nodes`   | c_i      | part of the step at which stage i stands                             |
/// | `stages`  | a_ij     | weights of the slopes before stage i; one row fewer than stages      |
/// | `weights` | b_i      | weights of the slopes in the step                                    |
/// | `error`   | b_i − b̂_i | weights of the slopes in the difference from the method of lower order; the last is that of the slope at the step's end |
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tableau {
    /// c_i, one for each stage.
    pub nodes: &'static [f64],
    /// a_ij, a row for each stage but the first.
    pub stages: &'static [&'static [f64]],
    /// b_i, one for each stage.
    pub weights: &'static [f64],
    /// b_i − b̂_i, one for each stage and one for the slope at the end; nothing where there is no second method.
    pub error: &'static [f64],
}

const EULER: Tableau = Tableau { nodes: &[0.0], stages: &[], weights: &[1.0], error: &[] };

const HEUN: Tableau = Tableau { nodes: &[0.0, 1.0], stages: &[&[1.0]], weights: &[0.5, 0.5], error: &[] };

const RK4: Tableau = Tableau {
    nodes: &[0.0, 0.5, 0.5, 1.0],
    stages: &[&[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
    weights: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
    error: &[],
};

const DOPRI5: Tableau = Tableau {
    nodes: &[0.0, 1.0 / 5.0, 3.0 / 10.0, 4.0 / 5.0, 8.0 / 9.0, 1.0],
    stages: &[
        &[1.0 / 5.0],
        &[3.0 / 40.0, 9.0 / 40.0],
        &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
        &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
        &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
    ],
    weights: &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
    error: &[71.0 / 57600.0, 0.0, -71.0 / 16695.0, 71.0 / 1920.0, -17253.0 / 339_200.0, 22.0 / 525.0, -1.0 / 40.0],
};

impl Method {
    /// The coefficients.
    #[must_use]
    pub fn tableau(self) -> Tableau {
        match self {
            Self::Euler => EULER,
            Self::Heun => HEUN,
            Self::Rk4 => RK4,
            Self::DormandPrince => DOPRI5,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of a tableau sum to its nodes, and the weights meet the conditions of order 1 to 3 (and of the quadrature up to
    /// the method's order).
    #[test]
    fn the_conditions_of_order_hold() {
        for method in Method::ALL {
            let Tableau { nodes, stages, weights, error } = method.tableau();
            assert_eq!((nodes.len(), nodes.len()), (weights.len(), stages.len() + 1), "{method}");
            let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-14, "{method}: {found} for {expected}");
            for (row, node) in stages.iter().zip(&nodes[1..]) {
                near(row.iter().sum(), *node);
            }
            for power in 0..method.order() {
                let exponent = i32::try_from(power).unwrap();
                let sum: f64 = weights.iter().zip(nodes).map(|(weight, node)| weight * node.powi(exponent)).sum();
                near(sum, 1.0 / (power as f64 + 1.0));
            }
            if method.order() >= 3 {
                let inner = |row: &[f64]| row.iter().zip(nodes).map(|(weight, node)| weight * node).sum::<f64>();
                near(stages.iter().zip(&weights[1..]).map(|(row, weight)| weight * inner(row)).sum(), 1.0 / 6.0);
            }
            near(error.iter().sum(), 0.0);
        }
    }
}
