//! Latent diffusion: a text encoder, a denoiser in the latents of an autoencoder, a decoder.
//!
//! R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
//! arXiv:2112.10752. Picture to picture after C. Meng et al., 2021, "SDEdit", arXiv:2108.01073.
//!
//! In: a resolved request. Out: pictures. Serves SD 1.x and 2.x, SD-Turbo, latent consistency models, SDXL and what was distilled
//! from it.

use anyhow::{Context, Result, ensure};
use ndarray::{ArrayD, Axis, Ix3};

use super::denoise::{Model, Noise, denoise};
use super::input::{Input, Kept};
use super::observer::{Event, Observer};
use super::preview::Preview;
use crate::bundle::{Architecture, Bundle, Role};
use crate::output::Picture;
use crate::plan::{GuidancePasses, Plan};
use crate::random::Generator;
use crate::request::{Resolved, Task, steps_taken};
use crate::runtime::Cancel;
use crate::sampler::{Sampler, Step};
use crate::stage::{Conditioning, Denoiser, Embeddings, MaskChannels, Networks, PreviewMap, TextEncoders, decode};

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Painted {
    /// The picture.
    pub picture: Picture,
    /// The latents it was decoded from, `[C, h, w]` f32 as the denoiser has them.
    pub latents: ArrayD<f32>,
    /// The seed that makes it again.
    pub seed: u64,
    /// The timesteps at which the denoiser was called.
    pub timesteps: Vec<f32>,
}

/// Everything that lives as long as one run.
pub struct LatentDiffusion<'a> {
    /// The model.
    pub bundle: &'a Bundle,
    /// Its networks.
    pub networks: &'a mut Networks,
    /// Its tokenizers.
    pub encoders: &'a TextEncoders,
    /// What to do.
    pub request: &'a Resolved,
    /// How to do it.
    pub plan: &'a Plan,
    /// Stops it.
    pub cancel: &'a Cancel,
    /// The map from latents to colours, once one was fitted for a preview.
    pub preview_map: &'a mut Option<PreviewMap>,
}

impl LatentDiffusion<'_> {
    /// Makes the pictures.
    ///
    /// # Errors
    /// A component does not load or fails, gives a non-finite or constant result, or the run was cancelled.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
        let conditioning = self.encode_texts(observer)?;
        let input = self.encode_input(observer)?;
        let preview = self.prepare_preview(observer)?;
        // All are denoised before the first is decoded, so that with low memory each component is loaded once.
        let mut denoised = Vec::with_capacity(self.request.count);
        for first in (0..self.request.count).step_by(self.plan.batch) {
            let (latents, timesteps) = self.denoise(first, &conditioning, &input, preview.as_ref(), observer)?;
            denoised.extend(latents.axis_iter(Axis(0)).map(|latents| (latents.to_owned(), timesteps.clone())));
        }
        self.release(Role::Unet);
        self.release(Role::PreviewDecoder);
        let mut painted = Vec::with_capacity(denoised.len());
        for (index, (latents, timesteps)) in denoised.into_iter().enumerate() {
            observer.event(Event::Decoding { picture: index });
            self.open(Role::VaeDecoder, observer)?;
            let pictures = decode(self.bundle, self.networks, &latents.clone().insert_axis(Axis(0)), self.cancel)?;
            let picture = Picture::from_tensor(pictures.index_axis(Axis(0), 0).into_dimensionality::<Ix3>()?)?;
            painted.push(Painted { picture, latents, seed: self.seed(index), timesteps });
        }
        self.release(Role::VaeDecoder);
        Ok(painted)
    }

    /// The seed of picture `index`.
    fn seed(&self, index: usize) -> u64 {
        self.request.seed.wrapping_add(index as u64)
    }

    fn open(&mut self, role: Role, observer: &mut dyn Observer) -> Result<()> {
        if !self.networks.is_open(role) {
            observer.event(Event::Loading { role });
            self.networks.open(role, self.cancel)?;
            observer.event(Event::Loaded { role });
        }
        Ok(())
    }

    /// Drops a component where the plan does not keep it.
    fn release(&mut self, role: Role) {
        if !self.plan.keeps_components() {
            self.networks.close(role);
        }
    }

    /// Encodes with one encoder after the other, so that with low memory only one is open.
    fn encode_texts(&mut self, observer: &mut dyn Observer) -> Result<Conditioning> {
        let request = self.request;
        let guided = self.plan.guidance_passes != GuidancePasses::One;
        // Two text encoders are SDXL's mark; it was trained with zeros for no text.
        let has_two = self.bundle.architecture == Architecture::StableDiffusionXl;
        let takes_zeros = request.negative.is_none() && has_two && self.bundle.zeros_for_empty_prompt;
        let mut texts = vec![request.prompt.as_str()];
        if guided && !takes_zeros {
            texts.push(request.negative.as_deref().unwrap_or_default());
        }
        let mut parts = vec![Vec::new(); texts.len()];
        for role in self.encoders.roles() {
            self.open(role, observer)?;
            for (text, parts) in texts.iter().zip(&mut parts) {
                parts.push(self.encoders.encode(role, text, self.networks, self.cancel)?);
            }
            self.release(role);
        }
        let mut embeddings = parts.iter().map(|parts| Embeddings::joined(parts));
        let prompt = embeddings.next().context("no text was encoded")??;
        let negative = match embeddings.next() {
            Some(negative) => Some(negative?),
            None => guided.then(|| prompt.zeros_like()),
        };
        Ok(Conditioning { prompt, negative, guidance: request.guidance, size: (request.width, request.height) })
    }

    fn encode_input(&mut self, observer: &mut dyn Observer) -> Result<Input> {
        if !matches!(self.request.task, Task::TextToPicture) {
            self.open(Role::VaeEncoder, observer)?;
        }
        let input = Input::encode(self.bundle, self.networks, self.request, self.cancel)?;
        self.release(Role::VaeEncoder);
        Ok(input)
    }

    fn prepare_preview(&mut self, observer: &mut dyn Observer) -> Result<Option<Preview>> {
        if !observer.wants_preview() {
            return Ok(None);
        }
        if let Some(role) = Preview::needs(self.bundle, self.preview_map.as_ref()) {
            self.open(role, observer)?;
        }
        let preview = Preview::new(self.bundle, self.networks, self.preview_map, self.cancel)?;
        self.release(Role::VaeDecoder);
        Ok(Some(preview))
    }

    /// Makes the latents of the batch that begins with picture `first`; returns them and the timesteps of the calls.
    fn denoise(
        &mut self,
        first: usize,
        conditioning: &Conditioning,
        input: &Input,
        preview: Option<&Preview>,
        observer: &mut dyn Observer,
    ) -> Result<(ArrayD<f32>, Vec<f32>)> {
        let (bundle, request) = (self.bundle, self.request);
        let mut sampler = request.sampler.build(&request.run)?;
        let begin = begin_index(&*sampler, request);
        let timesteps = sampler.timesteps().get(begin..).unwrap_or_default().to_vec();
        ensure!(!timesteps.is_empty(), "sampler `{}` leaves no step to make", request.sampler.kind());

        let seeds = (first..request.count.min(first + self.plan.batch)).map(|picture| self.seed(picture));
        let mut noise = Noise::new(seeds.map(|seed| Generator::new(request.random_device, seed)).collect());
        let side = bundle.geometry.pixels_per_latent;
        let shape = [bundle.geometry.latent_channels, request.height as usize / side, request.width as usize / side];
        let start = input.start(bundle, request, &*sampler, begin, &shape, &mut noise)?;

        self.open(Role::Unet, observer)?;
        let mut model = LatentModel {
            denoiser: Denoiser::new(bundle, self.networks, self.plan.guidance_passes, conditioning, self.cancel)?,
            bundle,
            networks: self.networks,
            mask_channels: start.mask_channels,
            kept: start.kept,
            preview,
            observer,
            cancel: self.cancel,
            begin,
            steps: timesteps.len(),
            picture: first,
            pictures: request.count,
        };
        let (sample, estimate) = denoise(&mut model, &mut *sampler, begin, start.sample, &mut noise, self.cancel)?;
        // diffusers' latent consistency pipelines decode the estimate: with timesteps of one's own the last sample is noised again.
        let decodes_estimate = bundle.takes_guidance_embedding() && !matches!(request.task, Task::Inpaint { .. });
        Ok((if decodes_estimate { estimate } else { sample }, timesteps))
    }
}

/// What the loop is given: the denoiser, and what happens between its calls.
struct LatentModel<'a> {
    denoiser: Denoiser<'a>,
    bundle: &'a Bundle,
    networks: &'a mut Networks,
    mask_channels: Option<MaskChannels>,
    kept: Option<Kept>,
    preview: Option<&'a Preview>,
    observer: &'a mut dyn Observer,
    cancel: &'a Cancel,
    begin: usize,
    steps: usize,
    picture: usize,
    pictures: usize,
}

impl Model for LatentModel<'_> {
    fn predict(&mut self, sample: &ArrayD<f32>, timestep: f32) -> Result<ArrayD<f32>> {
        self.denoiser.predict(self.networks, sample, timestep, self.mask_channels.as_ref(), self.cancel)
    }

    fn after(&mut self, sampler: &dyn Sampler, index: usize, step: Step) -> Result<ArrayD<f32>> {
        let sample = match &self.kept {
            Some(kept) => kept.put_back(&step.sample, sampler, index + 1)?,
            None => step.sample,
        };
        let done = index + 1 - self.begin;
        self.observer.event(Event::Step { step: done, steps: self.steps, picture: self.picture, pictures: self.pictures });
        if let Some(preview) = self.preview {
            let picture = preview.show(self.bundle, self.networks, &step.predicted_original, self.cancel)?;
            self.observer.preview(done, &picture)?;
        }
        Ok(sample)
    }
}

/// The network call that the loop begins with; diffusers' `get_timesteps` of the picture-to-picture pipelines.
fn begin_index(sampler: &dyn Sampler, request: &Resolved) -> usize {
    // A latent consistency model is given a shorter way instead, and begins at its start.
    if matches!(request.task, Task::TextToPicture) || request.run.strength.is_some() {
        return 0;
    }
    let steps = request.run.steps;
    (steps - steps_taken(steps, request.strength)) * sampler.order()
}
