//! Latent diffusion: a text encoder, a denoiser in the latents of an autoencoder, a decoder.
//!
//! R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer, 2022, "High-Resolution Image Synthesis with Latent Diffusion Models",
//! arXiv:2112.10752. Picture to picture after C. Meng et al., 2021, "SDEdit", arXiv:2108.01073.
//!
//! In: a resolved request. Out: pictures. Serves SD 1.x and 2.x, SD-Turbo, latent consistency models, SDXL and what was distilled
//! from it. Random numbers are drawn in the order in which diffusers' pipelines of these names draw them, from a generator for
//! each picture: the picture's latents, the noise, the masked picture's latents, then what the sampler takes at each step.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ndarray::{Array3, ArrayD, Axis, Ix3, IxDyn};

use super::denoise::{Denoise, Noise};
use super::observer::{Event, Observer};
use crate::bundle::{Bundle, Role};
use crate::output::Picture;
use crate::plan::Plan;
use crate::random::{Device, Generator};
use crate::request::{Resolved, Task, steps_taken};
use crate::runtime::Cancel;
use crate::sampler::Sampler;
use crate::stage::{
    Conditioning, Denoiser, EncodedPicture, MaskChannels, Networks, PreviewMap, TextEncoders, decode, encode_picture,
    preview_decode,
};

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
    /// Maps from latents to colours that were fitted before, by the number of latent channels.
    pub preview_maps: &'a mut BTreeMap<usize, PreviewMap>,
}

/// A picture taken in, made ready for the loop.
struct TakenIn {
    encoded: Option<EncodedPicture>,
    /// `[1, 1, h, w]`, 1 where the picture is made anew.
    mask: Option<ArrayD<f32>>,
    /// The picture with the masked part taken out; only what the encoder says of its shape is used by a plain denoiser.
    masked: Option<EncodedPicture>,
}

impl LatentDiffusion<'_> {
    /// Makes the pictures.
    ///
    /// # Errors
    /// A component does not load or fails, gives a non-finite or constant result, or the run was cancelled.
    pub fn run(&mut self, observer: &mut dyn Observer) -> Result<Vec<Painted>> {
        let conditioning = self.encode_texts(observer)?;
        let taken_in = self.take_in(observer)?;
        // All are denoised before the first is decoded, so that with low memory each component is loaded once.
        let mut denoised = Vec::with_capacity(self.request.count);
        for first in (0..self.request.count).step_by(self.plan.batch) {
            let (latents, timesteps) = self.denoise(first, &conditioning, &taken_in, observer)?;
            // An export with a fixed batch makes more than were asked for.
            let asked_for = latents.axis_iter(Axis(0)).take(self.request.count - first);
            denoised.extend(asked_for.map(|latents| (latents.to_owned(), timesteps.clone())));
        }
        self.release(Role::Unet);
        self.release(Role::PreviewDecoder);
        let mut painted = Vec::with_capacity(denoised.len());
        for (index, (latents, timesteps)) in denoised.into_iter().enumerate() {
            observer.event(Event::Decoding { picture: index });
            self.open(Role::VaeDecoder, observer)?;
            let pictures = decode(self.bundle, self.networks, &latents.clone().insert_axis(Axis(0)), self.cancel)?;
            let picture = Picture::from_tensor(pictures.index_axis(Axis(0), 0).into_dimensionality::<Ix3>()?)?;
            painted.push(Painted { picture, latents, seed: self.request.seed.wrapping_add(index as u64), timesteps });
        }
        self.release(Role::VaeDecoder);
        Ok(painted)
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

    fn encode_texts(&mut self, observer: &mut dyn Observer) -> Result<Conditioning> {
        for role in [Role::TextEncoder, Role::TextEncoder2] {
            if self.bundle.components.contains_key(&role) {
                self.open(role, observer)?;
            }
        }
        let request = self.request;
        let prompt = self.encoders.encode(self.networks, &request.prompt, self.cancel)?;
        let guided = self.plan.guidance_passes != crate::plan::GuidancePasses::One;
        let negative = match (guided, &request.negative) {
            (false, _) => None,
            // Two text encoders are SDXL's mark; it was trained with zeros for no text.
            (true, None) if self.bundle.zeros_for_empty_prompt && prompt.pooled.is_some() => Some(prompt.zeros_like()),
            (true, negative) => {
                let text = negative.as_deref().unwrap_or_default();
                Some(self.encoders.encode(self.networks, text, self.cancel)?)
            }
        };
        for role in [Role::TextEncoder, Role::TextEncoder2] {
            self.release(role);
        }
        Ok(Conditioning { prompt, negative, guidance: request.guidance, size: (request.width, request.height) })
    }

    fn take_in(&mut self, observer: &mut dyn Observer) -> Result<TakenIn> {
        let channels = self.bundle.geometry.picture_channels;
        let (input, mask) = match &self.request.task {
            Task::TextToPicture => return Ok(TakenIn { encoded: None, mask: None, masked: None }),
            Task::PictureToPicture { input } => (input, None),
            Task::Inpaint { input, mask } => (input, Some(mask)),
        };
        self.open(Role::VaeEncoder, observer)?;
        let picture = input.to_tensor(channels)?;
        // diffusers leaves this encoding out where an inpainting model begins from pure noise.
        let needs_picture = !(self.bundle.takes_mask() && self.request.strength >= 1.0);
        let encoded = match needs_picture {
            true => Some(encode_picture(self.bundle, self.networks, batch_of_one(picture.clone()), self.cancel)?),
            false => None,
        };
        let (mask, masked) = match mask {
            None => (None, None),
            Some(mask) => {
                let pixels = mask.mask(self.request.width, self.request.height)?;
                let latents = self.mask_of_latents(&pixels);
                let mut kept = picture;
                for mut plane in kept.axis_iter_mut(Axis(0)) {
                    plane.zip_mut_with(&pixels.index_axis(Axis(0), 0), |value, mask| *value *= f32::from(*mask < 0.5));
                }
                let masked = encode_picture(self.bundle, self.networks, batch_of_one(kept), self.cancel)?;
                (Some(latents), Some(masked))
            }
        };
        self.release(Role::VaeEncoder);
        Ok(TakenIn { encoded, mask, masked })
    }

    /// The mask at the latents' size: of each patch the first pixel, as nearest-neighbour interpolation has it.
    fn mask_of_latents(&self, pixels: &Array3<f32>) -> ArrayD<f32> {
        let side = self.bundle.geometry.pixels_per_latent;
        let (_, height, width) = pixels.dim();
        ArrayD::from_shape_fn(IxDyn(&[1, 1, height / side, width / side]), |at| pixels[[0, at[2] * side, at[3] * side]])
    }

    /// Makes the latents of the batch that begins with picture `first`; returns them and the timesteps of the calls.
    fn denoise(
        &mut self,
        first: usize,
        conditioning: &Conditioning,
        taken_in: &TakenIn,
        observer: &mut dyn Observer,
    ) -> Result<(ArrayD<f32>, Vec<f32>)> {
        let (request, geometry) = (self.request, &self.bundle.geometry);
        let seeds = (first..first + self.plan.batch).map(|picture| request.seed.wrapping_add(picture as u64));
        let mut noise = Noise::new(seeds.map(|seed| Generator::new(request.random_device, seed)).collect());
        let side = geometry.pixels_per_latent;
        let shape = [geometry.latent_channels, request.height as usize / side, request.width as usize / side];

        let mut sampler = request.sampler.build(&request.run)?;
        let begin = begin_index(&*sampler, request);
        let timesteps = sampler.timesteps().get(begin..).unwrap_or_default().to_vec();
        ensure!(!timesteps.is_empty(), "sampler `{}` leaves no step to make", request.sampler.kind());

        let drawn = match &taken_in.encoded {
            None => None,
            Some(encoded) => Some(self.draw_latents(encoded, &mut noise)?),
        };
        let start = noise.draw(&shape)?;
        let from_noise = matches!(request.task, Task::TextToPicture)
            || (matches!(request.task, Task::Inpaint { .. }) && request.strength >= 1.0);
        let sample = match &drawn {
            Some(latents) if !from_noise => sampler.add_noise(latents, &start, begin)?,
            _ => {
                let sigma = sampler.init_noise_sigma();
                start.mapv(|value| value * sigma)
            }
        };
        let masked = match &taken_in.masked {
            None => None,
            Some(encoded) => Some(self.draw_latents(encoded, &mut noise)?),
        };
        let mask_channels = match (&taken_in.mask, masked) {
            (Some(mask), Some(masked_latents)) if self.bundle.takes_mask() => {
                let batch = masked_latents.len_of(Axis(0));
                let mask =
                    mask.broadcast(IxDyn(&[batch, 1, shape[1], shape[2]])).context("the mask has another size")?.to_owned();
                Some(MaskChannels { mask, masked_latents })
            }
            _ => None,
        };
        // A plain denoiser does not see the mask: what is to stay is put back after each step.
        let put_back = taken_in.mask.as_ref().filter(|_| mask_channels.is_none()).zip(drawn.as_ref());

        self.open(Role::Unet, observer)?;
        let mut preview = self.prepare_preview(observer)?;
        let denoiser = Denoiser::new(self.bundle, self.networks, self.plan.guidance_passes, conditioning, self.cancel)?;
        let (bundle, cancel, count) = (self.bundle, self.cancel, request.count);
        let networks = std::cell::RefCell::new(&mut *self.networks);
        let total = timesteps.len();
        let latents = Denoise { sampler: &mut *sampler, begin, noise: &mut noise, cancel }.run(
            sample,
            |scaled, timestep| denoiser.predict(&mut networks.borrow_mut(), scaled, timestep, mask_channels.as_ref(), cancel),
            |sampler, index, step| {
                let mut sample = step.sample;
                if let Some((mask, original)) = put_back {
                    let original = match index + 1 < begin + total {
                        true => sampler.add_noise(original, &start, index + 1)?,
                        false => original.clone(),
                    };
                    sample = &original * &(1.0 - mask) + &(&sample * mask);
                }
                let done = index + 1 - begin;
                observer.event(Event::Step { step: done, steps: total, picture: first, pictures: count });
                if let Some(preview) = &mut preview {
                    let picture = preview.show(bundle, &mut networks.borrow_mut(), &step.predicted_original, cancel)?;
                    observer.preview(done, &picture)?;
                }
                Ok(sample)
            },
        )?;
        Ok((latents, timesteps))
    }

    fn draw_latents(&self, encoded: &EncodedPicture, noise: &mut Noise) -> Result<ArrayD<f32>> {
        let shape = encoded.shape();
        // An export that draws by itself takes nothing from the generator.
        let normals = match encoded {
            EncodedPicture::Distribution { .. } => noise.draw(&shape[1..])?,
            EncodedPicture::Drawn(_) => ArrayD::zeros(IxDyn(&[self.plan.batch, shape[1], shape[2], shape[3]])),
        };
        let rows: Vec<ArrayD<f32>> = normals
            .axis_iter(Axis(0))
            .map(|row| encoded.draw(&row.to_owned().insert_axis(Axis(0)), &self.bundle.geometry.scaling))
            .collect::<Result<_>>()?;
        let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
        Ok(ndarray::concatenate(Axis(0), &views)?)
    }

    fn prepare_preview(&mut self, observer: &mut dyn Observer) -> Result<Option<Preview>> {
        if !observer.wants_preview() {
            return Ok(None);
        }
        if self.bundle.components.contains_key(&Role::PreviewDecoder) {
            self.open(Role::PreviewDecoder, observer)?;
            return Ok(Some(Preview { map: None, side: 1 }));
        }
        let channels = self.bundle.geometry.latent_channels;
        let side = u32::try_from(self.bundle.geometry.pixels_per_latent)?;
        let card = self.bundle.card.as_ref().and_then(|card| PreviewMap::from_table(&card.preview.latent_to_rgb, channels));
        if let Some(map) = card.or_else(|| self.preview_maps.get(&channels).cloned()) {
            return Ok(Some(Preview { map: Some(map), side }));
        }
        self.open(Role::VaeDecoder, observer)?;
        // Enough latents for a fit of channels + 1 unknowns, few enough to cost next to nothing.
        let (width, height) = match self.bundle.geometry.fixed_size {
            Some((width, height)) => ((width / side) as usize, (height / side) as usize),
            None => {
                let edge = (8..).find(|edge| edge * edge >= 4 * (channels + 1)).unwrap_or(8);
                (edge, edge)
            }
        };
        // A generator of its own: the picture must not depend on whether somebody looks on.
        let normals = Generator::new(Device::Cpu, 0).normals(channels * height * width);
        let latents = ArrayD::from_shape_vec(IxDyn(&[1, channels, height, width]), normals)?;
        let map = PreviewMap::fit(self.bundle, self.networks, &latents, self.cancel)?;
        self.release(Role::VaeDecoder);
        self.preview_maps.insert(channels, map.clone());
        Ok(Some(Preview { map: Some(map), side }))
    }
}

/// How latents are shown while they develop.
struct Preview {
    /// `None` where the bundle has a preview decoder.
    map: Option<PreviewMap>,
    side: u32,
}

impl Preview {
    fn show(&mut self, bundle: &Bundle, networks: &mut Networks, latents: &ArrayD<f32>, cancel: &Cancel) -> Result<Picture> {
        let Some(map) = &self.map else {
            let first = latents.index_axis(Axis(0), 0).to_owned().insert_axis(Axis(0));
            let decoded = preview_decode(bundle, networks, &first, cancel)?;
            return Picture::from_tensor(decoded.index_axis(Axis(0), 0).into_dimensionality::<Ix3>()?);
        };
        let small = map.apply(latents);
        let picture = Picture::from_tensor(small.view().into_dimensionality::<Ix3>()?)?;
        picture.resize(picture.width * self.side, picture.height * self.side)
    }
}

/// Where in the sampler's calls the loop begins; diffusers' `get_timesteps` of the picture-to-picture pipelines.
fn begin_index(sampler: &dyn Sampler, request: &Resolved) -> usize {
    if matches!(request.task, Task::TextToPicture) || request.run.strength.is_some() {
        return 0;
    }
    let steps = request.run.steps;
    (steps - steps_taken(steps, request.strength)) * sampler.order()
}

fn batch_of_one(picture: Array3<f32>) -> ArrayD<f32> {
    picture.insert_axis(Axis(0)).into_dyn()
}
