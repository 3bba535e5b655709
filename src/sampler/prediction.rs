//! What a prediction says about the clean sample and about the noise; clipping of the former.
//!
//! T. Salimans, J. Ho, 2022, "Progressive Distillation for Fast Sampling of Diffusion Models", arXiv:2202.00512, appendix D
//! (v); C. Saharia et al., 2022, "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding",
//! arXiv:2205.11487, section 2.3 (dynamic thresholding).
//!
//! In: prediction and sample. Out: x₀ or ε of the same shape.
//! Not here: where signal and noise levels come from (`schedule`, `sigma`).
//!
//! | here     | paper      | meaning                        |
//! |----------|------------|--------------------------------|
//! | `signal` | α_t, √ᾱ_t  | factor of x₀ in the sample     |
//! | `spread` | σ_t, √1−ᾱ_t | factor of the noise in it     |

use anyhow::{Result, bail};
use ndarray::{ArrayD, Axis};

use super::combine;
use super::config::Config;
use super::settings::Prediction;

/// x₀ from a prediction, where the sample is `signal` x₀ + `spread` ε.
pub(super) fn clean(kind: Prediction, prediction: &ArrayD<f32>, sample: &ArrayD<f32>, signal: f32, spread: f32) -> ArrayD<f32> {
    match kind {
        Prediction::Epsilon => combine(sample, prediction, |x, epsilon| (x - spread * epsilon) / signal),
        Prediction::Sample => prediction.clone(),
        Prediction::Velocity => combine(sample, prediction, |x, v| signal * x - spread * v),
        // The straight path has signal 1 − σ, so that x₀ = x − σ v whatever the signal.
        Prediction::Flow => combine(sample, prediction, |x, v| x - spread * v),
        Prediction::Score => combine(sample, prediction, |x, score| (x + spread * spread * score) / signal),
    }
}

/// ε from a prediction, where the sample is `signal` x₀ + `spread` ε.
pub(super) fn noise(kind: Prediction, prediction: &ArrayD<f32>, sample: &ArrayD<f32>, signal: f32, spread: f32) -> ArrayD<f32> {
    match kind {
        Prediction::Epsilon => prediction.clone(),
        Prediction::Sample => combine(sample, prediction, |x, clean| (x - signal * clean) / spread),
        Prediction::Velocity => combine(sample, prediction, |x, v| signal * v + spread * x),
        Prediction::Flow => combine(sample, prediction, |x, v| x + (1.0 - spread) * v),
        Prediction::Score => prediction.mapv(|score| -spread * score),
    }
}

/// x₀ from a prediction, where the sample is x₀ + `sigma` ε.
pub(super) fn clean_at_sigma(kind: Prediction, prediction: &ArrayD<f32>, sample: &ArrayD<f32>, sigma: f32) -> ArrayD<f32> {
    match kind {
        Prediction::Epsilon | Prediction::Flow => combine(sample, prediction, |x, epsilon| x - sigma * epsilon),
        Prediction::Sample => prediction.clone(),
        Prediction::Score => combine(sample, prediction, |x, score| x + sigma * sigma * score),
        Prediction::Velocity => {
            let variance = sigma * sigma + 1.0;
            let factor = -sigma / variance.sqrt();
            combine(sample, prediction, |x, v| v * factor + x / variance)
        }
    }
}

/// Keeps x₀ in the range that `config` states, if it states one.
pub(super) fn limited(config: &Config, clean: ArrayD<f32>) -> Result<ArrayD<f32>> {
    if config.thresholding {
        thresholded(config, clean)
    } else if config.clip_sample {
        Ok(clipped(clean, config.clip_sample_range as f32))
    } else {
        Ok(clean)
    }
}

/// Cuts every value to -`range`…`range`.
pub(super) fn clipped(mut clean: ArrayD<f32>, range: f32) -> ArrayD<f32> {
    clean.mapv_inplace(|value| cut(value, range));
    clean
}

/// Cuts to -`range`…`range` and lets a NaN through, so that it is seen at the end.
fn cut(value: f32, range: f32) -> f32 {
    if value.is_nan() { value } else { value.max(-range).min(range) }
}

/// Cuts each picture of the batch at a quantile of its absolute values and scales it back to -1…1.
pub(super) fn thresholded(config: &Config, mut clean: ArrayD<f32>) -> Result<ArrayD<f32>> {
    if clean.ndim() < 2 {
        bail!("the sample has shape {:?}, dynamic thresholding expects a batch and channels", clean.shape());
    }
    for mut picture in clean.axis_iter_mut(Axis(0)) {
        let mut sizes: Vec<f32> = picture.iter().map(|value| value.abs()).collect();
        let quantile = quantile(&mut sizes, config.dynamic_thresholding_ratio as f32);
        let range = if quantile.is_nan() { quantile } else { quantile.max(1.0).min(config.sample_max_value as f32) };
        picture.mapv_inplace(|value| cut(value, range) / range);
    }
    Ok(clean)
}

/// The quantile between two neighbours, weighted in f32 as torch does it; NaN if any value is.
fn quantile(values: &mut [f32], share: f32) -> f32 {
    let Some(last) = values.len().checked_sub(1) else { return f32::NAN };
    if values.iter().any(|value| value.is_nan()) {
        return f32::NAN;
    }
    values.sort_by(f32::total_cmp);
    let rank = share * last as f32;
    let (below, above) = ((rank.floor() as usize).min(last), (rank.ceil() as usize).min(last));
    let weight = rank - below as f32;
    let (low, high) = (values[below], values[above]);
    if weight < 0.5 { low + weight * (high - low) } else { high - (high - low) * (1.0 - weight) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_its_neighbours() {
        assert_eq!(quantile(&mut [4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!(quantile(&mut [4.0, 1.0], 1.0), 4.0);
        assert!(quantile(&mut [4.0, f32::NAN], 1.0).is_nan());
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
