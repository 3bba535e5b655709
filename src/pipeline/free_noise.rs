//! Long clips: windows that overlap, over noise that comes back.
//!
//! H. Qiu, M. Xia, Y. Zhang, Y. He, X. Wang, Y. Shan, Z. Liu, 2023, "FreeNoise: Tuning-Free Longer Video Diffusion via Noise
//! Rescheduling", arXiv:2310.15169: section 4.2 (local noise shuffling), section 4.3 (windows fused by their weights).
//!
//! The noise, the places of windows and their weights are those of diffusers' `enable_free_noise`. There the windows lie inside each
//! motion module; an export may have them there. Here they lie around the whole denoiser, which sees one window at a time, so that
//! memory does not grow with a clip's length.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis, Slice, Zip};

use super::denoise::Noise;
use crate::bundle::Window;
use crate::request::Frames;

const FRAMES: Axis = Axis(2);

/// Draws the noise of a clip, `[1, C, F, h, w]` f32: the first window's is fresh, and further on it comes again in another order.
pub(super) fn draw(noise: &mut Noise, shape: &[usize; 4], window: Option<Window>) -> Result<ArrayD<f32>> {
    // All of it is drawn and most is written over, so that the seed stands at the same place after.
    let mut drawn = noise.draw(shape)?;
    let Some(Window { length, stride }) = window else { return Ok(drawn) };
    let count = shape[1];
    for begin in (length..count).step_by(stride.max(1)) {
        let first = begin - length;
        let share = stride.min(count - first);
        for (place, from) in noise.permutation(share)?.into_iter().enumerate().take(count - begin) {
            let frame = drawn.index_axis(FRAMES, first + from).to_owned();
            drawn.index_axis_mut(FRAMES, begin + place).assign(&frame);
        }
    }
    Ok(drawn)
}

/// Predicts for `sample`, `[B, C, F, h, w]` f32, window by window; where windows overlap the mean counts, weighted towards their middles.
///
/// # Errors
/// `predict` fails, or gives another shape than it was given.
pub(super) fn in_windows(
    frames: &Frames,
    sample: &ArrayD<f32>,
    mut predict: impl FnMut(&ArrayD<f32>) -> Result<ArrayD<f32>>,
) -> Result<ArrayD<f32>> {
    if frames.window.is_none() {
        return predict(sample);
    }
    let mut total = ArrayD::<f32>::zeros(sample.raw_dim());
    let mut counted = vec![0.0_f32; sample.len_of(FRAMES)];
    for (begin, end) in frames.windows() {
        let part = sample.slice_axis(FRAMES, Slice::from(begin..end)).to_owned();
        let found = predict(&part)?;
        ensure!(
            found.shape() == part.shape(),
            "denoiser: gave a window of shape {:?}, expected {:?}",
            found.shape(),
            part.shape()
        );
        for (place, weight) in pyramid(end - begin).into_iter().enumerate() {
            counted[begin + place] += weight;
            Zip::from(total.index_axis_mut(FRAMES, begin + place))
                .and(found.index_axis(FRAMES, place))
                .for_each(|total, value| *total += value * weight);
        }
    }
    for (mut frame, counted) in total.axis_iter_mut(FRAMES).zip(counted) {
        frame.mapv_inplace(|value| value / counted);
    }
    Ok(total)
}

/// Weights that grow by one towards the middle: 1, 2, 2, 1 or 1, 2, 3, 2, 1.
#[expect(clippy::cast_precision_loss, reason = "a window has some dozen frames")]
fn pyramid(length: usize) -> Vec<f32> {
    (0..length).map(|place| (place + 1).min(length - place) as f32).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::super::denoise::Source;
    use super::*;
    use crate::random::{Device, Generator};

    #[test]
    fn weights_are_those_of_the_reference() {
        assert_eq!(pyramid(4), [1.0, 2.0, 2.0, 1.0]);
        assert_eq!(pyramid(5), [1.0, 2.0, 3.0, 2.0, 1.0]);
        assert_eq!(pyramid(1), [1.0]);
    }

    #[test]
    fn the_noise_of_a_window_comes_again_in_another_order() {
        let seeded = || Noise::new(vec![Source::Seed(Generator::new(Device::Cpu, 42))]);
        let shape = [4, 20, 4, 4];
        let fresh = draw(&mut seeded(), &shape, None).unwrap();
        let again = draw(&mut seeded(), &shape, Some(Window { length: 8, stride: 4 })).unwrap();
        let frame =
            |noise: &ArrayD<f32>, at| noise.index_axis(FRAMES, at).iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        let (mut first, mut second): (Vec<_>, Vec<_>) = ((0..8).collect::<Vec<_>>(), (8..16).collect::<Vec<_>>());
        let of = |frames: &mut Vec<usize>, noise: &ArrayD<f32>| {
            let mut found: Vec<_> = frames.iter().map(|at| frame(noise, *at)).collect();
            found.sort();
            found
        };
        assert_eq!(of(&mut first, &fresh), of(&mut first, &again));
        assert_eq!(of(&mut first, &again), of(&mut second, &again));
        assert_ne!(fresh, again);
    }

    #[test]
    fn windows_of_the_sample_itself_give_it_back() {
        let sample = ArrayD::from_shape_fn(IxDyn(&[1, 2, 13, 2, 2]), |at| (at[2] * 7 + at[1]) as f32);
        let rate = crate::output::FrameRate::whole(8).unwrap();
        let frames = Frames { count: 13, latents: 13, window: Some(Window { length: 8, stride: 2 }), noise_window: None, rate };
        let found = in_windows(&frames, &sample, |part| Ok(part.clone())).unwrap();
        assert!(found.iter().zip(&sample).all(|(left, right)| (left - right).abs() < 1e-4));
        assert!(in_windows(&frames, &sample, |_| Ok(ArrayD::zeros(IxDyn(&[1])))).is_err());
    }
}
