//! An inversion: what is asked of it, and what became of a picture on the way to its latent and back.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Ix3};

use super::job::Inverted;
use crate::bundle::{Bundle, Family};
use crate::ode::Method;
use crate::output::Picture;
use crate::refuse;
use crate::request::{Request, Resolved, SamplerChoice};
use crate::sampler::Kind;

/// Steps of 8 bits in a network's unit: 255 from -1 to 1.
const STEPS_IN_ONE: f64 = 127.5;
/// The largest value of 8 bits.
const PEAK: f64 = 255.0;

/// What an inversion makes of `request`: no guidance unless it is named, since guided steps backwards do not undo guided steps
/// forwards, and of the samplers of a diffusion model the one whose steps can be made backwards.
pub(crate) fn inversion_request(bundle: &Bundle, request: &Request) -> Request {
    let mut request = of_picture(request);
    request.guidance = request.guidance.or(Some(1.0));
    if bundle.family == Family::Diffusion && request.sampler.choice.is_none() {
        request.sampler = SamplerChoice { choice: Some(Kind::Ddim.into()), ..request.sampler };
    }
    request
}

/// `request` for one picture that is there already.
pub(super) fn of_picture(request: &Request) -> Request {
    let seed = Some(request.seed.unwrap_or(0));
    Request { count: 1, walk: None, seed, input: None, mask: None, strength: None, ..request.clone() }
}

/// Makes sure that the steps of a run can be made backwards.
///
/// # Errors
/// A refusal: they are no steps of DDIM, or are made by chance; or as [`check_solver`].
pub(crate) fn check_steps_back(bundle: &Bundle, request: &Request, resolved: &Resolved) -> Result<()> {
    check_solver(bundle, request, resolved)?;
    let Some(config) = resolved.sampler.as_ref().filter(|_| bundle.family == Family::Diffusion) else { return Ok(()) };
    if config.kind() != Kind::Ddim {
        refuse!(
            "sampler: `{}` has no steps that lead back to a latent; the way back of model {} is that of `ddim`: name it, or none",
            config.kind(),
            bundle.name()
        );
    }
    if let Some(eta) = resolved.run.eta.filter(|eta| *eta > 0.0) {
        refuse!("eta: is {eta}, and steps that draw fresh noise cannot be made backwards; leave it out");
    }
    Ok(())
}

/// Makes sure that what a person named for a field is a solver, which alone goes from pictures to noise.
///
/// # Errors
/// A refusal: it is a sampler.
pub(crate) fn check_solver(bundle: &Bundle, request: &Request, resolved: &Resolved) -> Result<()> {
    let named = request.sampler.choice.is_some() || request.sampler.config.is_some();
    if bundle.family.is_integrated() && resolved.solver.is_none() && named {
        refuse!(
            "sampler: `{}` makes pictures of noise and leads no way back; name a solver ({}), or none",
            resolved.sampler_name(),
            Method::ALL.map(|method| method.to_string()).join(", ")
        );
    }
    Ok(())
}

/// How far the values of two pictures lie apart, in steps of 8 bits, before they are rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// Mean of the absolute differences.
    pub mean: f64,
    /// The largest of them.
    pub largest: f64,
    /// Peak signal-to-noise ratio in decibels; infinite where nothing differs.
    pub peak_signal_to_noise_db: f64,
}

impl Difference {
    /// Compares values in [-1, 1], of which there is at least one.
    fn between(left: &ArrayD<f32>, right: &ArrayD<f32>) -> Self {
        let (mut sum, mut squares, mut largest) = (0.0_f64, 0.0_f64, 0.0_f64);
        for (left, right) in left.iter().zip(right) {
            let apart = (f64::from(*left) - f64::from(*right)).abs() * STEPS_IN_ONE;
            sum += apart;
            squares += apart * apart;
            largest = largest.max(apart);
        }
        #[expect(clippy::cast_precision_loss, reason = "a picture has some million values")]
        let count = left.len().max(1) as f64;
        Self { mean: sum / count, largest, peak_signal_to_noise_db: 10.0 * (PEAK * PEAK * count / squares).log10() }
    }
}

/// A picture made from the latent of another, and how it compares.
#[derive(Debug, Clone)]
pub struct Again {
    /// The picture.
    pub picture: Picture,
    /// How far it lies from the one that the latent is of.
    pub difference: Difference,
    /// Values of the latent.
    pub latent_values: usize,
    /// Their mean in the prior's deviations, 0 for the prior.
    pub latent_mean: f64,
    /// Their standard deviation in the prior's, 1 for the prior.
    pub latent_deviation: f64,
}

impl Again {
    /// * `pixels`: `[1, C, H, W]` f32, the picture as the networks saw it, its 0 at -1 and its 255 at 1
    /// * `prior_deviation`: of the latents that pictures are made from
    ///
    /// # Errors
    /// What came back has another shape, or holds what is no number.
    pub(crate) fn new(pixels: &ArrayD<f32>, inverted: &Inverted, prior_deviation: f64) -> Result<Self> {
        let again = &inverted.again;
        ensure!(
            pixels.shape().get(1..) == Some(again.shape()) && !again.is_empty(),
            "the picture that came back is {:?}, expected {:?} without the first",
            again.shape(),
            pixels.shape()
        );
        let latent = inverted.latent.mapv(|value| f64::from(value) / prior_deviation);
        Ok(Self {
            picture: Picture::from_tensor(again.view().into_dimensionality::<Ix3>()?)?,
            difference: Difference::between(pixels, again),
            latent_values: latent.len(),
            latent_mean: latent.mean().unwrap_or(0.0),
            latent_deviation: if latent.is_empty() { 0.0 } else { latent.std(0.0) },
        })
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, ArrayD};

    use super::*;

    /// The value of 8 bits that `byte` is to a network.
    fn value(byte: u8) -> f32 {
        f32::from(byte) / 127.5 - 1.0
    }

    fn again(bytes: &[u8], back: &[u8]) -> Result<Again> {
        let tensor = |bytes: &[u8], shape: &[usize]| -> ArrayD<f32> {
            Array::from_shape_vec(shape, bytes.iter().copied().map(value).collect()).unwrap()
        };
        let latent = Array::from_shape_vec(vec![4], vec![-4.0, 12.0, -4.0, 12.0]).unwrap();
        let inverted = Inverted { latent, again: tensor(back, &[3, 1, back.len() / 3]) };
        Again::new(&tensor(bytes, &[1, 3, 1, bytes.len() / 3]), &inverted, 8.0)
    }

    #[test]
    fn a_picture_that_comes_back_is_the_same_byte_for_byte() {
        let bytes: Vec<u8> = (1..=255).collect();
        let found = again(&bytes, &bytes).unwrap();
        let by_channel: Vec<u8> = (0..85).flat_map(|at| [at + 1, at + 86, at + 171]).collect();
        assert_eq!(found.picture.pixels, by_channel);
        assert_eq!((found.difference.mean, found.difference.largest), (0.0, 0.0));
        assert!(found.difference.peak_signal_to_noise_db.is_infinite());
        assert_eq!((found.latent_values, found.latent_mean, found.latent_deviation), (4, 0.5, 1.0));
    }

    #[test]
    fn differences_are_in_steps_of_eight_bits() {
        let found = again(&[10, 10, 10, 10, 10, 10], &[10, 13, 10, 10, 7, 10]).unwrap();
        let Difference { mean, largest, peak_signal_to_noise_db } = found.difference;
        assert!((mean - 1.0).abs() < 1e-5 && (largest - 3.0).abs() < 1e-4, "{mean} {largest}");
        // The mean square is 3: 20 log10(255 / √3).
        assert!((peak_signal_to_noise_db - 43.3596).abs() < 1e-3, "{peak_signal_to_noise_db}");
    }

    #[test]
    fn refuses_what_came_back_in_another_shape() {
        let said = again(&[1, 2, 3], &[1, 2, 3, 4, 5, 6]).unwrap_err().to_string();
        assert_eq!(said, "the picture that came back is [3, 1, 2], expected [1, 3, 1, 1] without the first");
        let inverted = Inverted { latent: ArrayD::zeros(vec![1]), again: ArrayD::from_elem(vec![3, 1, 1], f32::NAN) };
        assert!(Again::new(&ArrayD::zeros(vec![1, 3, 1, 1]), &inverted, 1.0).is_err());
    }
}
