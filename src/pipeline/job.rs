//! What every family needs while it makes pictures: the model, its networks, the request, the plan.

use std::ops::Range;

use anyhow::Result;
use ndarray::{ArrayD, Axis, Ix3};

use super::denoise::{Noise, Source};
use super::observer::{Event, Observer};
use crate::bundle::{Bundle, Role};
use crate::output::Picture;
use crate::plan::Plan;
use crate::random::Generator;
use crate::request::Resolved;
use crate::runtime::Cancel;
use crate::stage::{ClassLabels, Decoding, Networks};

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Painted {
    /// The picture.
    pub picture: Picture,
    /// What it was made from in the end: latents `[C, h, w]` f32 as a denoiser has them, or a latent vector `[D]`.
    pub latents: ArrayD<f32>,
    /// The seed that makes it again.
    pub seed: u64,
    /// The timesteps at which the denoiser was called.
    pub timesteps: Vec<f32>,
    /// How its latents were decoded, where it has some.
    pub decoding: Decoding,
}

/// A picture's latent, and the picture that the latent gives.
#[derive(Debug, Clone)]
pub struct Inverted {
    /// The latent, without a batch.
    pub latent: ArrayD<f32>,
    /// The picture made from it, `[C, H, W]` f32, nominally in [-1, 1].
    pub again: ArrayD<f32>,
}

/// Everything that lives as long as one run.
pub struct Job<'a> {
    /// The model.
    pub bundle: &'a Bundle,
    /// Its networks.
    pub networks: &'a mut Networks,
    /// What to do.
    pub request: &'a Resolved,
    /// How to do it.
    pub plan: &'a Plan,
    /// Stops it.
    pub cancel: &'a Cancel,
}

impl Job<'_> {
    /// The pictures that go through the networks together, batch by batch.
    pub(super) fn batches(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, batch) = (self.request.count, self.plan.batch.max(1));
        (0..count).step_by(batch).map(move |first| first..count.min(first + batch))
    }

    /// The random numbers of `pictures`.
    pub(super) fn noise(&self, pictures: Range<usize>) -> Noise {
        let generator = |seed| Generator::new(self.request.random_device, seed);
        let source = |picture| {
            let from = generator(self.request.seed_of(picture));
            match self.request.toward(picture) {
                Some((to, share)) => Source::Between(from, generator(to), share),
                None => Source::Seed(from),
            }
        };
        Noise::new(pictures.map(source).collect())
    }

    /// The classes of `pictures`.
    pub(super) fn labels(&self, pictures: Range<usize>) -> ClassLabels {
        ClassLabels::new(pictures.filter_map(|picture| self.request.class_of(picture)).collect())
    }

    /// Opens a component unless it is open.
    pub(super) fn open(&mut self, role: Role, observer: &mut dyn Observer) -> Result<()> {
        if !self.networks.is_open(role) {
            observer.event(Event::Loading { role });
            self.networks.open(role, self.cancel)?;
            observer.event(Event::Loaded { role });
        }
        Ok(())
    }

    /// Drops a component where the plan does not keep it.
    pub(super) fn release(&mut self, role: Role) {
        if !self.plan.keeps_components() {
            self.networks.close(role);
        }
    }

    /// Makes finished pictures of a batch.
    ///
    /// * `samples`: `[B, C, H, W]` f32, nominally in [-1, 1]
    /// * `latents`: `[B, …]` f32, what they were made from
    pub(super) fn painted(
        &self,
        pictures: Range<usize>,
        samples: &ArrayD<f32>,
        latents: &ArrayD<f32>,
        timesteps: &[f32],
    ) -> Result<Vec<Painted>> {
        let rows = samples.axis_iter(Axis(0)).zip(latents.axis_iter(Axis(0)));
        pictures
            .zip(rows)
            .map(|(index, (sample, latents))| {
                Ok(Painted {
                    picture: Picture::from_tensor(sample.into_dimensionality::<Ix3>()?)?,
                    latents: latents.to_owned(),
                    seed: self.request.seed_of(index),
                    timesteps: timesteps.to_vec(),
                    decoding: Decoding::default(),
                })
            })
            .collect()
    }

    /// Tells of the one pass of a family without steps.
    pub(super) fn tell_of_pass(&self, pictures: Range<usize>, observer: &mut dyn Observer) {
        for picture in pictures {
            observer.event(Event::Step { step: 1, steps: 1, picture, pictures: self.request.count });
        }
    }
}
