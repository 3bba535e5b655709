//! Latent diffusion: a text encoder, a denoiser in the latents of an autoencoder, a decoder.
//!
//! R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, 2021, "High-Resolution Image Synthesis with Latent Diffusion Models",
//! arXiv:2112.10752. Picture to picture after C. Meng et al., 2021, "SDEdit", arXiv:2108.01073.
//!
//! In: a resolved request. Out: pictures. Serves SD 1.x and 2.x, SD-Turbo, latent consistency models, SDXL and what was distilled
//! from it; Stable Diffusion 3, Flux, PixArt and Sana, which differ in the network that predicts and in what it is told.

use anyhow::{Result, ensure};
use ndarray::{ArrayD, Axis, Ix3};

use super::denoise::{Model, denoise};
use super::input::{Input, Kept};
use super::job::{Job, Painted};
use super::observer::{Event, Observer};
use super::predictor::Predictor;
use super::preview::Preview;
use super::sana_sprint::TrigFlow;
use super::texts::encode_texts;
use crate::bundle::{Architecture, Bundle, Role};
use crate::output::Picture;
use crate::request::{Resolved, Task, steps_taken};
use crate::runtime::Cancel;
use crate::sampler::{Sampler, Step};
use crate::stage::{
    Conditioning, Decoding, Denoiser, DeviceDenoiser, MaskChannels, Networks, PreviewMap, TextEncoders, Transformer,
    decode_within_memory,
};

/// Everything that lives as long as one run.
pub struct LatentDiffusion<'a> {
    /// The model, the request, the plan.
    pub job: Job<'a>,
    /// The model's tokenizers.
    pub encoders: &'a TextEncoders,
    /// The map from latents to colours, once one was fitted for a preview.
    pub preview_map: &'a mut Option<PreviewMap>,
}

impl LatentDiffusion<'_> {
    /// Makes the pictures.
    ///
    /// # Errors
    /// A component does not load or fails, gives a non-finite or constant result, or the run was cancelled.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
        let conditioning = encode_texts(&mut self.job, self.encoders, observer)?;
        let input = self.encode_input(observer)?;
        let preview = Preview::prepare(&mut self.job, self.preview_map, observer)?;
        // All are denoised before the first is decoded, so that with low memory each component is loaded once.
        let mut denoised = Vec::with_capacity(self.job.request.count);
        for first in (0..self.job.request.count).step_by(self.job.plan.batch) {
            let (latents, timesteps) = self.denoise(first, &conditioning, &input, preview.as_ref(), observer)?;
            denoised.extend(latents.axis_iter(Axis(0)).map(|latents| (latents.to_owned(), timesteps.clone())));
        }
        self.job.release(self.job.bundle.denoiser());
        for role in [Role::PreviewDecoder, Role::TinyDecoder] {
            self.job.release(role);
        }
        let decoder = self.job.plan.decoder;
        let mut painted = Vec::with_capacity(denoised.len());
        // What was too large for the memory once is not tried again for the next picture.
        let mut decoding = Decoding { tile: self.job.plan.tile, ..Decoding::default() };
        for (index, (latents, timesteps)) in denoised.into_iter().enumerate() {
            observer.event(Event::Decoding { picture: index });
            self.job.open(decoder, observer)?;
            let Job { bundle, networks, cancel, .. } = &mut self.job;
            let batch = latents.clone().insert_axis(Axis(0));
            let pictures = decode_within_memory(bundle, decoder, networks, &batch, &mut decoding, cancel)?;
            let picture = Picture::from_tensor(pictures.index_axis(Axis(0), 0).into_dimensionality::<Ix3>()?)?;
            let seed = self.job.request.seed_of(index);
            painted.push(Painted { picture, latents, seed, timesteps, decoding });
        }
        self.job.release(decoder);
        Ok(painted)
    }

    fn encode_input(&mut self, observer: &mut dyn Observer) -> Result<Input> {
        if !matches!(self.job.request.task, Task::TextToPicture) {
            self.job.open(Role::VaeEncoder, observer)?;
        }
        let input = Input::encode(self.job.bundle, self.job.networks, self.job.request, self.job.cancel)?;
        self.job.release(Role::VaeEncoder);
        Ok(input)
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
        let (bundle, request) = (self.job.bundle, self.job.request);
        let mut sampler = request.sampler()?.build(&request.run)?;
        let begin = begin_index(bundle, &*sampler, request);
        let timesteps = sampler.timesteps().get(begin..).unwrap_or_default().to_vec();
        ensure!(!timesteps.is_empty(), "sampler `{}` leaves no step to make", request.sampler_name());

        let mut noise = self.job.noise(first..request.count.min(first + self.job.plan.batch));
        let side = bundle.geometry.pixels_per_latent;
        let shape = [bundle.geometry.latent_channels, request.height as usize / side, request.width as usize / side];
        let start = input.start(bundle, request, &*sampler, begin, &shape, &mut noise)?;

        self.job.open(bundle.denoiser(), observer)?;
        let (passes, cancel) = (conditioning.passes(self.job.plan.guidance_passes), self.job.cancel);
        let denoiser = match bundle.denoiser() {
            Role::Transformer => {
                let transformer = Transformer::new(bundle, self.job.networks, passes, conditioning, cancel)?;
                match bundle.architecture() {
                    Some(Architecture::SanaSprint) => {
                        Predictor::Sprint(transformer, TrigFlow { sigma_data: request.sampler()?.sigma_data() })
                    }
                    _ => Predictor::Transformer(transformer),
                }
            }
            _ => Predictor::Unet(Denoiser::new(bundle, self.job.networks, passes, conditioning, cancel)?),
        };
        // diffusers' latent consistency pipelines decode the estimate: with timesteps of one's own the last sample is noised again.
        let decodes_estimate = match bundle.architecture() {
            // With one step alone its pipeline does the same, for what was distilled by matching distributions.
            Some(Architecture::PixArtAlpha) => timesteps.len() == 1,
            Some(Architecture::SanaSprint) => true,
            _ => bundle.is_latent_consistency() && !matches!(request.task, Task::Inpaint { .. }),
        };
        let mut model = LatentModel {
            denoiser,
            bundle,
            networks: self.job.networks,
            mask_channels: start.mask_channels,
            kept: start.kept,
            preview,
            observer,
            cancel: self.job.cancel,
            decodes_estimate,
            begin,
            steps: timesteps.len(),
            picture: first,
            pictures: request.count,
        };
        let latents = denoise(&mut model, request, &mut *sampler, begin, start.sample, &mut noise, self.job.cancel)?;
        Ok((latents, timesteps))
    }
}

/// What the loop is given: the denoiser, and what happens between its calls.
struct LatentModel<'a> {
    denoiser: Predictor<'a>,
    bundle: &'a Bundle,
    networks: &'a mut Networks,
    mask_channels: Option<MaskChannels>,
    kept: Option<Kept>,
    preview: Option<&'a Preview>,
    observer: &'a mut dyn Observer,
    cancel: &'a Cancel,
    /// What is decoded is the last estimate.
    decodes_estimate: bool,
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
        self.look(index, Some(&step.predicted_original))?;
        Ok(sample)
    }

    fn look(&mut self, index: usize, estimate: Option<&ArrayD<f32>>) -> Result<()> {
        let done = index + 1 - self.begin;
        self.observer.event(Event::Step { step: done, steps: self.steps, picture: self.picture, pictures: self.pictures });
        if let (Some(preview), Some(estimate)) = (self.preview, estimate) {
            let picture = preview.show(self.bundle, self.networks, estimate, self.cancel)?;
            self.observer.preview(done, &picture)?;
        }
        Ok(())
    }

    fn wants_estimate(&self) -> bool {
        self.preview.is_some()
    }

    fn ends_with_estimate(&self) -> bool {
        self.decodes_estimate
    }

    fn on_device(&mut self) -> Option<(&mut dyn DeviceDenoiser, &mut Networks)> {
        if self.mask_channels.is_some() || self.kept.is_some() {
            return None;
        }
        Some((self.denoiser.on_device()?, self.networks))
    }
}

/// The network call that the loop begins with; diffusers' `get_timesteps` of the picture-to-picture pipelines.
pub(super) fn begin_index(bundle: &Bundle, sampler: &dyn Sampler, request: &Resolved) -> usize {
    // A latent consistency model is given a shorter way instead, and begins at its start.
    if matches!(request.task, Task::TextToPicture) || request.run.strength.is_some() {
        return 0;
    }
    let steps = request.run.steps;
    (steps - steps_taken(bundle, steps, request.strength)) * sampler.order()
}
