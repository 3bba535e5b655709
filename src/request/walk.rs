//! A walk from one seed's noise to another's.

use anyhow::Result;

use crate::refuse;

/// Most pictures on one walk.
pub const LARGEST_WALK: usize = 1000;

/// Pictures on the way from the request's seed to another one.
///
/// Each random number of a picture is the spherical interpolation between the two seeds' own, so that it is as normal as they are
/// (K. Shoemake, 1985, "Animating Rotation with Quaternion Curves").
#[derive(Debug, Clone, PartialEq)]
pub struct Walk {
    /// The seed at its end.
    pub to: u64,
    /// Where each picture stands, 0 at the request's seed to 1 at the other.
    pub shares: Vec<f32>,
}

impl Walk {
    /// A walk of `frames` pictures at even distances, both ends among them.
    ///
    /// # Errors
    /// Fewer than two, or more than [`LARGEST_WALK`].
    pub fn new(to: u64, frames: usize) -> Result<Self> {
        if !(2..=LARGEST_WALK).contains(&frames) {
            refuse!("frames: is {frames}, expected 2 to {LARGEST_WALK}");
        }
        #[expect(clippy::cast_precision_loss, reason = "both are at most a thousand")]
        let shares = (0..frames).map(|frame| frame as f32 / (frames - 1) as f32).collect();
        Ok(Self { to, shares })
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.shares.is_empty() || self.shares.len() > LARGEST_WALK {
            refuse!("walk: has {} pictures, expected 1 to {LARGEST_WALK}", self.shares.len());
        }
        if let Some(share) = self.shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
            refuse!("walk: a picture stands at {share}, expected 0 to 1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_has_both_ends() {
        assert_eq!(Walk::new(7, 5).unwrap().shares, [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert!(Walk::new(7, 1).is_err() && Walk::new(7, LARGEST_WALK + 1).is_err());
        for shares in [vec![], vec![f32::NAN], vec![-0.1], vec![0.0; LARGEST_WALK + 1]] {
            assert!(Walk { to: 1, shares }.check().is_err());
        }
    }
}
