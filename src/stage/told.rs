//! What a denoiser is told alike at each step, joined once.

use crate::runtime::{HeldInputs, Tensor};

/// Which rows a call of a denoiser has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Those of the prompt or the class.
    Conditional,
    /// Those without it.
    Unconditional,
    /// The second, then the first.
    Both,
}

/// The inputs that stay the same through one run, by pass and by the shape of the latents.
#[derive(Default)]
pub(super) struct Told {
    known: Vec<(Pass, Vec<usize>, HeldInputs)>,
}

impl Told {
    /// The inputs that were kept for `pass` and latents of `shape`.
    pub(super) fn of(&self, pass: Pass, shape: &[usize]) -> Option<HeldInputs> {
        self.known.iter().find(|(of, known, _)| *of == pass && known == shape).map(|(.., held)| held.clone())
    }

    /// Keeps `inputs` for `pass` and latents of `shape`.
    pub(super) fn keep(&mut self, pass: Pass, shape: &[usize], inputs: Vec<(String, Tensor)>) -> HeldInputs {
        let held = HeldInputs::new(inputs);
        self.known.push((pass, shape.to_vec(), held.clone()));
        held
    }
}
