//! The loop where samples stay on the denoiser's device: they go there at the first step and come back after the last.
//!
//! It is taken where the device has memory of its own and the sampler's steps are sums; the numbers are the sampler's, the rounding the device's.
//! What looks on is shown an estimate that is fetched beside, so that looking changes nothing. Noise is drawn where it always is, and handed over.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ndarray::ArrayD;

use super::denoise::{Model, Noise};
use crate::request::Resolved;
use crate::runtime::{Cancel, DeviceTensor, Given, Tensor};
use crate::sampler::{LinearStep, Sum, Term};
use crate::stage::{DeviceLoop, Terms};

/// A thing that steps are sums of.
enum Kept {
    Here(Tensor),
    There(DeviceTensor),
}

impl Kept {
    fn given(&self) -> Given<'_> {
        match self {
            Self::Here(tensor) => Given::Here(tensor),
            Self::There(tensor) => Given::There(tensor),
        }
    }
}

/// As [`denoise`](super::denoise::denoise); nothing where samples have to come back at each step, and then nothing was drawn or shown yet.
///
/// # Errors
/// The denoiser fails or runs out of memory; the run was cancelled.
pub(super) fn denoise_on_device(
    model: &mut dyn Model,
    request: &Resolved,
    begin: usize,
    sample: &ArrayD<f32>,
    noise: &mut Noise,
    cancel: &Cancel,
) -> Result<Option<ArrayD<f32>>> {
    #[cfg(test)]
    if tests::ON_PROCESSOR.get() {
        return Ok(None);
    }
    let Some((denoiser, networks)) = model.on_device() else { return Ok(None) };
    if !networks.keeps_outputs(denoiser.role(), cancel)? {
        return Ok(None);
    }
    let Some(steps) = request.sampler()?.linear_steps(&request.run, begin)? else {
        log::debug!("sampler {}: a step is no sum of few things, so samples come back at each", request.sampler_name());
        return Ok(None);
    };
    let Some(first) = steps.first().filter(|_| steps.len() > 1) else { return Ok(None) };
    let (needs, last_needs) = (needs(&steps), last_needs(&steps));
    let at_first = (first.input_scale, first.timestep);
    let Some((device, mut predictions)) = DeviceLoop::begin(denoiser, networks, sample, at_first, needs, cancel)? else {
        return Ok(None);
    };
    let mut kept = BTreeMap::from([(Term::Sample(first.index), Kept::Here(denoiser.arranged(sample)?.into()))]);
    let (mut input, mut fetched) = (None::<DeviceTensor>, 0);
    for (at, step) in steps.iter().enumerate() {
        cancel.check()?;
        let (looks, ends_with_estimate) = (model.wants_estimate(), model.ends_with_estimate());
        let (denoiser, networks) = model.on_device().context("the denoiser is not on its device any more")?;
        if let Some(input) = &input {
            predictions = device.predict(denoiser, networks, Given::There(input), step.timestep, cancel)?;
        }
        if step.takes_noise {
            let fresh = noise.draw(&sample.shape()[1..])?;
            kept.insert(Term::Noise(step.index), Kept::Here(denoiser.arranged(&fresh)?.into()));
        }
        let mut bring = |sum: &Sum| -> Result<ArrayD<f32>> {
            fetched += 1;
            let terms = terms(step.index, sum, &kept)?;
            device.fetch(denoiser, networks, &predictions, &terms, cancel)
        };
        let estimate = if looks { Some(bring(&step.estimate)?) } else { None };
        let Some(next) = steps.get(at + 1) else {
            #[cfg(test)]
            tests::LOOPS.with(|loops| loops.set(loops.get() + 1));
            let result = match estimate.clone().filter(|_| ends_with_estimate) {
                Some(estimate) => estimate,
                None => bring(if ends_with_estimate { &step.estimate } else { &step.sample })?,
            };
            device.tell(networks, steps.len(), fetched, cancel)?;
            model.look(step.index, estimate.as_ref())?;
            return Ok(Some(result));
        };
        let terms = terms(step.index, &step.sample, &kept)?;
        let stepped = device.step(networks, &predictions, &terms, next.input_scale, cancel)?;
        if at == 0 {
            // A sample hides that every value of a prediction is the same.
            fetched += 1;
            device.check(networks, &predictions, &stepped, cancel)?;
        }
        input = Some(stepped.input);
        kept.insert(Term::Sample(next.index), Kept::There(stepped.sample));
        if let Some(prediction) = stepped.prediction {
            kept.insert(Term::Prediction(step.index), Kept::There(prediction));
        }
        kept.retain(|term, _| last_needs.get(term).is_some_and(|last| *last > at));
        model.look(step.index, estimate.as_ref())?;
    }
    Ok(None)
}

/// How many things a step adds at most beside its prediction, and whether one adds an earlier step's.
fn needs(steps: &[LinearStep]) -> (usize, bool) {
    let sums = || steps.iter().flat_map(|step| [(step.index, &step.sample), (step.index, &step.estimate)]);
    let others = |(index, sum): (usize, &Sum)| sum.iter().filter(|(term, _)| *term != Term::Prediction(index)).count();
    let is_earlier =
        |(index, sum): (usize, &Sum)| sum.iter().any(|(term, _)| matches!(term, Term::Prediction(at) if *at != index));
    (sums().map(others).max().unwrap_or(0).max(1), sums().any(is_earlier))
}

/// The last step that needs each term; the sample that a step begins with stands in where its sum has nothing beside the prediction.
fn last_needs(steps: &[LinearStep]) -> BTreeMap<Term, usize> {
    let of = |(at, step): (usize, &LinearStep)| {
        let parts = step.sample.iter().chain(&step.estimate).map(|(term, _)| *term);
        parts.chain([Term::Sample(step.index)]).map(|term| (term, at)).collect::<Vec<_>>()
    };
    steps.iter().enumerate().flat_map(of).collect()
}

/// The sum of step `index` with what there is for its terms.
fn terms<'k>(index: usize, sum: &Sum, kept: &'k BTreeMap<Term, Kept>) -> Result<Terms<'k>> {
    let of = |term: &Term| kept.get(term).map(Kept::given).with_context(|| format!("{term:?} of a sum is not there any more"));
    let mut of_prediction = 0.0;
    let mut terms = Vec::with_capacity(sum.len());
    for (term, number) in sum {
        match term {
            Term::Prediction(at) if *at == index => of_prediction = *number,
            term => terms.push((of(term)?, *number)),
        }
    }
    if terms.is_empty() {
        terms.push((of(&Term::Sample(index))?, 0.0));
    }
    Ok((of_prediction, terms))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use crate::output::Picture;
    use crate::plan::ProviderWish;
    use crate::request::SamplerChoice;
    use crate::runtime::PROCESSOR_KEEPS;
    use crate::{Cancel, Engine, Memory, Request, Settings};

    thread_local! {
        /// Loops that this thread ended.
        pub(super) static LOOPS: Cell<usize> = const { Cell::new(0) };
        /// Whether this thread's loops are the processor's, for comparison.
        pub(super) static ON_PROCESSOR: Cell<bool> = const { Cell::new(false) };
    }

    /// The latents that a request gives, the processor standing for a device with memory of its own where it is to, and how many loops stayed there.
    fn latents(name: &str, memory: Memory, keeps: bool, request: &Request) -> (Vec<f32>, usize) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(name);
        // Other threads would open networks, which know nothing of this one's wish.
        let settings = Settings { memory, threads: Some(1), ..Settings::default() };
        let mut engine = Engine::open(&folder, &settings, None).unwrap();
        PROCESSOR_KEEPS.set(keeps);
        LOOPS.set(0);
        let made = match engine.bundle().clip.is_some() {
            true => {
                let clip = engine.generate_clip(request, |_| Ok(()), &mut (), &Cancel::new());
                vec![clip.map(|clip| clip.latents)]
            }
            false => {
                let made = engine.generate(request, &mut (), &Cancel::new());
                let each = made.map(|made| made.into_iter().map(|made| made.latents).collect::<Vec<_>>());
                each.map_or_else(|error| vec![Err(error)], |each| each.into_iter().map(Ok).collect())
            }
        };
        PROCESSOR_KEEPS.set(false);
        let values = made.into_iter().flat_map(|latents| latents.unwrap_or_else(|error| panic!("{name}: {error:#}"))).collect();
        (values, LOOPS.get())
    }

    fn request(steps: usize, sampler: Option<&str>) -> Request {
        let sampler = sampler.map(|name| SamplerChoice { choice: Some(name.parse().unwrap()), ..SamplerChoice::default() });
        Request {
            seed: Some(7),
            steps: Some(steps),
            force: true,
            sampler: sampler.unwrap_or_default(),
            ..Request::new("a red apple")
        }
    }

    #[test]
    fn a_loop_on_the_device_ends_where_the_processors_does() {
        let picture = || Picture::new(64, 64, 3, (0..64 * 64 * 3).map(|at| (at % 251) as u8).collect()).unwrap();
        let cases: [(&str, Request); 16] = [
            ("sd", request(5, None)),
            ("sd", request(5, Some("euler"))),
            ("sd", request(5, Some("euler-ancestral"))),
            ("sd", request(6, Some("dpm++"))),
            ("sd", request(4, Some("heun"))),
            ("sd", Request { input: Some(picture()), strength: Some(0.6), ..request(6, Some("ddim")) }),
            ("sd", Request { count: 3, ..request(3, Some("euler")) }),
            ("sdxl", request(4, None)),
            ("sd_turbo", request(3, None)),
            ("lcm", request(4, None)),
            ("sd3", request(3, None)),
            ("flux_dev", request(3, None)),
            ("pixart_sigma", request(4, None)),
            ("wan", Request { frames: Some(5), ..request(3, Some("flow-euler")) }),
            ("ltx", Request { frames: Some(9), ..request(3, None) }),
            ("animatediff", Request { frames: Some(4), ..request(3, None) }),
        ];
        let mut ran = 0;
        for (name, request) in cases {
            for memory in [Memory::Normal, Memory::Low] {
                let (expected, none) = latents(name, memory, false, &request);
                let (found, loops) = latents(name, memory, true, &request);
                assert!(none == 0 && loops > 0, "{name}: {loops} loops on the device, {none} where it has no memory");
                let scale = expected.iter().map(|value| value.abs()).fold(1.0, f32::max);
                let apart = expected.iter().zip(&found).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max) / scale;
                assert!(found.len() == expected.len() && apart <= 1e-4, "{name}: {apart} apart");
                ran += 1;
            }
        }
        assert_eq!(ran, 32);
    }

    #[test]
    fn a_step_that_is_no_sum_comes_back_to_the_processor_bit_for_bit() {
        for (name, request) in
            [("sd", request(6, Some("unipc"))), ("sana_sprint", request(2, None)), ("sd_turbo", request(1, None))]
        {
            let (expected, _) = latents(name, Memory::Normal, false, &request);
            let (found, loops) = latents(name, Memory::Normal, true, &request);
            assert_eq!((loops, found.len()), (0, expected.len()), "{name}");
            assert!(found.iter().zip(&expected).all(|(left, right)| left.to_bits() == right.to_bits()), "{name}");
        }
    }

    /// Prints what both loops take on WebGPU, in turn; `BENCHMARKS.md` says how it is run.
    #[test]
    #[ignore = "measures, and wants a runtime with WebGPU and a driver"]
    fn both_loops_in_turn_on_webgpu() {
        let runtime = std::env::var("KILN_WEBGPU_RUNTIME").unwrap();
        let cases = [("sd_turbo", 20, "64x64")];
        for (name, steps, size) in cases {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(name);
            let settings = Settings { providers: ProviderWish::parse("cpu,unet=webgpu").unwrap(), ..Settings::default() };
            let mut engine = Engine::open(&folder, &settings, Some(Path::new(&runtime))).unwrap();
            let side = size.split('x').next().unwrap().parse().unwrap();
            let request = Request { size: Some((side, side)), ..request(steps, None) };
            let mut times = [Vec::new(), Vec::new()];
            let mut ratios = Vec::new();
            for round in 0..24 {
                let mut both = [0.0; 2];
                for turn in 0..2 {
                    let of = (round + turn) % 2;
                    ON_PROCESSOR.set(of == 0);
                    let made = engine.generate(&request, &mut (), &Cancel::new()).unwrap().remove(0);
                    both[of] = made.provenance.components.iter().filter(|part| part.role == "unet").map(|part| part.run_ms).sum();
                }
                // The first compile the shaders.
                if round >= 4 {
                    (0..2).for_each(|of| times[of].push(both[of]));
                    ratios.push(both[1] / both[0]);
                }
            }
            ON_PROCESSOR.set(false);
            let median = |values: &mut Vec<f64>| {
                values.sort_by(f64::total_cmp);
                values[values.len() / 2]
            };
            let [processor, device] = &mut times;
            let (before, after, ratio) = (median(processor), median(device), median(&mut ratios));
            let quarters = (ratios[ratios.len() / 4], ratios[3 * ratios.len() / 4]);
            println!(
                "{name} {size} {steps} steps: {before:.1} ms, on the device {after:.1} ms; ratio {ratio:.3} ({:.3} to {:.3})",
                quarters.0, quarters.1
            );
        }
    }
}
