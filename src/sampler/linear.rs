//! Steps as sums whose numbers are known ahead, for a device that takes them by itself.
//!
//! In: a configuration and a run. Out: for each network call what the samples, predictions and noises so far are multiplied by to give the
//! next sample. The numbers are read off the sampler's own steps, so that there is one account of its arithmetic: it treats each element of
//! a tensor alike, and is given tensors whose elements are 1 in one thing that a step may depend on and 0 in all others. Of a sum, what
//! comes out is each thing's number.

use anyhow::Result;
use ndarray::{ArrayD, IxDyn};

use super::{Config, Run};

/// A step of more terms than this keeps too much of the way behind it, as UniPC's do.
const MOST_TERMS: usize = 6;

/// What may be a part of a sum, by the network call that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Term {
    /// The sample that the call was made for, before it was scaled.
    Sample(usize),
    /// What was predicted, with guidance applied.
    Prediction(usize),
    /// The noise that the step after the call took.
    Noise(usize),
}

/// Terms, each times a number; none of the numbers is 0.
pub type Sum = Vec<(Term, f32)>;

/// One network call and the step after it.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearStep {
    /// The network call.
    pub index: usize,
    /// The timestep that the network is told.
    pub timestep: f32,
    /// What the sample is multiplied by before the network sees it.
    pub input_scale: f32,
    /// Whether the step takes noise.
    pub takes_noise: bool,
    /// The sample after it.
    pub sample: Sum,
    /// The estimate of the clean sample.
    pub estimate: Sum,
}

impl Config {
    /// The steps of `run` from network call `begin` on as sums; `None` where they are none, or of too many terms.
    ///
    /// # Errors
    /// As [`Config::build`].
    pub fn linear_steps(&self, run: &Run, begin: usize) -> Result<Option<Vec<LinearStep>>> {
        let mut sampler = self.build(run)?;
        if !sampler.is_linear() {
            return Ok(None);
        }
        let timesteps = sampler.timesteps().to_vec();
        let calls = begin..timesteps.len();
        let mut terms: Vec<Term> =
            calls.clone().flat_map(|call| [Term::Sample(call), Term::Prediction(call), Term::Noise(call)]).collect();
        terms.sort_unstable();
        let alone = |term: Term| {
            let mut tensor = ArrayD::zeros(IxDyn(&[terms.len()]));
            if let Some(element) = terms.binary_search(&term).ok().and_then(|place| tensor.get_mut(place)) {
                *element = 1.0;
            }
            tensor
        };
        let one = ArrayD::from_elem(IxDyn(&[1]), 1.0);
        let mut steps = Vec::with_capacity(calls.len());
        for (index, timestep) in calls.zip(timesteps.into_iter().skip(begin)) {
            let takes_noise = sampler.takes_noise(index);
            let scaled = sampler.scale_model_input(&one, index)?;
            let noise = takes_noise.then(|| alone(Term::Noise(index)));
            let step = sampler.step(index, &alone(Term::Prediction(index)), &alone(Term::Sample(index)), noise.as_ref())?;
            let [sample, estimate] = [step.sample, step.predicted_original]
                .map(|numbers| -> Sum { terms.iter().copied().zip(numbers).filter(|(_, number)| *number != 0.0).collect() });
            let input_scale = scaled.first().copied().unwrap_or(f32::NAN);
            let is_known = |sum: &Sum| sum.len() <= MOST_TERMS && sum.iter().all(|(_, number)| number.is_finite());
            if !input_scale.is_finite() || ![&sample, &estimate].into_iter().all(is_known) {
                return Ok(None);
            }
            steps.push(LinearStep { index, timestep, input_scale, takes_noise, sample, estimate });
        }
        Ok(Some(steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Kind;

    fn steps(kind: Kind) -> Option<Vec<LinearStep>> {
        Config::default_of(kind).unwrap().linear_steps(&Run::new(8), 2).unwrap()
    }

    #[test]
    fn the_numbers_of_eulers_method_are_those_of_its_equation() {
        for kind in [Kind::Euler, Kind::FlowMatchEuler] {
            let config = Config::default_of(kind).unwrap();
            let sampler = config.build(&Run::new(8)).unwrap();
            let sigmas = sampler.sigmas().unwrap();
            let steps = config.linear_steps(&Run::new(8), 2).unwrap().unwrap();
            assert_eq!(steps.len(), 6);
            for step in steps {
                let (sigma, next) = (sigmas[step.index], sigmas[step.index + 1]);
                let scale = if kind == Kind::Euler { 1.0 / (sigma * sigma + 1.0).sqrt() } else { 1.0 };
                assert!((step.input_scale - scale).abs() < 1e-6);
                let [(Term::Sample(of), kept), (Term::Prediction(by), moved)] = step.sample[..] else {
                    panic!("{:?}", step.sample);
                };
                assert_eq!((of, by, kept), (step.index, step.index, 1.0));
                assert!((moved - (next - sigma)).abs() <= 1e-6 * sigma, "{moved} for {}", next - sigma);
                assert!((step.estimate[1].1 + sigma).abs() <= 1e-6 * sigma);
            }
        }
    }

    #[test]
    fn what_cuts_its_estimate_or_remembers_everything_is_no_sum() {
        // diffusers' default of DDIM cuts.
        assert!(steps(Kind::Ddim).is_none());
        assert!(steps(Kind::UniPc).is_none());
        assert!(steps(Kind::AnnealedLangevin).is_none());
        let remembers = steps(Kind::DpmSolverMultistep).unwrap();
        assert!(remembers[1].sample.iter().any(|(term, _)| *term == Term::Prediction(2)), "{:?}", remembers[1].sample);
    }
}
