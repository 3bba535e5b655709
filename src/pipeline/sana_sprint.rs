//! Sana-Sprint: Sana distilled to one to four steps by continuous-time consistency.
//!
//! J. Chen, S. Xue, Y. Zhao et al., 2025, "SANA-Sprint: One-Step Diffusion with Continuous-Time Consistency Distillation",
//! arXiv:2503.09641. Uses the transformation of section 3.1, which turns what a network of flow matching predicts into what TrigFlow
//! predicts, and back for what it is given.
//!
//! In: a sample and a time as the sampler (`sampler/scm.rs`) has them. Out: the velocity that it takes. Stages, loop and the order of
//! random numbers are `latent_diffusion.rs`'s: the noise at the start, then noise for every step, the last one too. A picture to begin
//! with is encoded without noise.
//!
//! | here         | paper                  | meaning                                      |
//! |--------------|------------------------|----------------------------------------------|
//! | `time`       | t_Trig                 | angle between data and noise                 |
//! | `share`      | t_FM                   | share of noise in a sample of flow matching  |
//! | `length`     | √(t_FM² + (1 − t_FM)²) | of that sample, where TrigFlow's has length 1 |
//! | `sigma_data` | σ_d                    | standard deviation of TrigFlow's samples     |

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Zip};

/// The way from a network of flow matching to TrigFlow.
pub(super) struct TrigFlow {
    /// Standard deviation of the sampler's samples.
    pub(super) sigma_data: f32,
}

impl TrigFlow {
    /// Predicts TrigFlow's velocity of `sample`, `[B, …]` f32, at `time`.
    ///
    /// * `network`: is given the sample of flow matching and the share of noise in it, and predicts its velocity, of the same shape
    ///
    /// # Errors
    /// `network` fails, or gives another shape.
    pub(super) fn predict(
        &self,
        sample: &ArrayD<f32>,
        time: f32,
        network: impl FnOnce(&ArrayD<f32>, f32) -> Result<ArrayD<f32>>,
    ) -> Result<ArrayD<f32>> {
        let share = time.sin() / (time.cos() + time.sin());
        let length = (share * share + (1.0 - share) * (1.0 - share)).sqrt();
        let given = sample.mapv(|value| value / self.sigma_data * length);
        let predicted = network(&given, share)?;
        ensure!(
            predicted.shape() == given.shape(),
            "the velocity has shape {:?}, the sample {:?}",
            predicted.shape(),
            given.shape()
        );
        let (of_sample, of_velocity) = (1.0 - 2.0 * share, 1.0 - 2.0 * share + 2.0 * share * share);
        let velocity = |given: &f32, predicted: &f32| (of_sample * given + of_velocity * predicted) / length * self.sigma_data;
        Ok(Zip::from(&given).and(&predicted).map_collect(velocity))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    #[test]
    fn the_velocity_of_a_known_pair_becomes_that_of_the_other_path() {
        let (clean, noise, sigma_data) = (0.8_f32, -1.3_f32, 0.5);
        for time in [1.5_f32, 1.3, 0.4, 0.01] {
            let sample = sigma_data * (time.cos() * clean + time.sin() * noise);
            let mut seen = (0.0, 0.0);
            let network = |given: &ArrayD<f32>, share: f32| {
                seen = (given[[0]], share);
                Ok(ArrayD::from_elem(IxDyn(&[1]), noise - clean))
            };
            let path = TrigFlow { sigma_data };
            let velocity = path.predict(&ArrayD::from_elem(IxDyn(&[1]), sample), time, network).unwrap()[[0]];
            let expected = sigma_data * (time.cos() * noise - time.sin() * clean);
            assert!((velocity - expected).abs() < 1e-5, "{time}: {velocity} for {expected}");
            let (given, share) = seen;
            assert!((given - ((1.0 - share) * clean + share * noise)).abs() < 1e-5, "{time}: {given}");
        }
    }
}
