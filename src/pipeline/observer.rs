//! Who looks on while a picture is made.

use anyhow::Result;

use crate::bundle::Role;
use crate::output::Picture;

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// A component begins to load.
    Loading {
        /// Which.
        role: Role,
    },
    /// A component is loaded.
    Loaded {
        /// Which.
        role: Role,
    },
    /// A denoising step is done.
    Step {
        /// How many are done, from 1.
        step: usize,
        /// Of how many.
        steps: usize,
        /// First picture of the batch, from 0.
        picture: usize,
        /// Of how many pictures.
        pictures: usize,
    },
    /// Latents become a picture.
    Decoding {
        /// Which picture, from 0.
        picture: usize,
    },
}

/// Is told what happens. `()` looks away.
pub trait Observer {
    /// Is told of one event.
    fn event(&mut self, event: Event) {
        let _ = event;
    }

    /// Whether [`Observer::preview`] shall be called; a preview costs a little at each step.
    fn wants_preview(&self) -> bool {
        false
    }

    /// Is shown the picture as it stands after a step.
    ///
    /// # Errors
    /// What the observer fails with ends the run.
    fn preview(&mut self, step: usize, picture: &Picture) -> Result<()> {
        let _ = (step, picture);
        Ok(())
    }
}

impl Observer for () {}
