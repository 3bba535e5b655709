//! One denoising prediction, with classifier-free guidance.
//!
//! In: latents as the sampler scaled them, a timestep, what the texts say. Out: the prediction, of the latents' shape. Guidance
//! (J. Ho, T. Salimans, 2022, arXiv:2207.12598, eq. 6 in the field's usual form) is `unconditional + g (conditional − unconditional)`.

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, ArrayView, ArrayViewD, Axis, IxDyn, concatenate};

use super::device_loop::DeviceDenoiser;
use super::networks::Networks;
use super::text_encoder::Embeddings;
use super::told::{Pass, Told};
use crate::bundle::{Bundle, Role, find, names};
use crate::plan::GuidancePasses;
use crate::runtime::{Cancel, HeldInputs, Port, Tensor};

/// What an inpainting denoiser sees beside the latents.
#[derive(Debug, Clone)]
pub struct MaskChannels {
    /// `[B, 1, h, w]` f32, 1 where the picture is made anew.
    pub mask: ArrayD<f32>,
    /// `[B, C, h, w]` f32, the latents of the picture with that part taken out.
    pub masked_latents: ArrayD<f32>,
}

/// What a denoiser is told, the same at each step.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// The prompt's embeddings, one row.
    pub prompt: Embeddings,
    /// The negative prompt's, one row; `None` without guidance.
    pub negative: Option<Embeddings>,
    /// Guidance scale.
    pub guidance: f32,
    /// Width and height of the picture in pixels; SDXL's denoiser is told.
    pub size: (u32, u32),
    /// What steers the denoiser: `[1, 3, H, W]` f32 in [0, 1], and how strongly.
    pub control: Option<(ArrayD<f32>, f32)>,
    /// What an image encoder gives of the picture that a clip begins with, `[1, T, D]` f32.
    pub image: Option<ArrayD<f32>>,
    /// What a denoiser sees of that picture beside the latents, `[1, C, F, h, w]` f32.
    pub first_frame: Option<ArrayD<f32>>,
    /// Frames of a clip that are shown in a second; LTX-Video's transformer is told.
    pub frame_rate: Option<f32>,
}

impl Conditioning {
    /// How the passes are made, of which `planned` says how they would be: texts of different lengths do not go into one batch.
    #[must_use]
    pub fn passes(&self, planned: GuidancePasses) -> GuidancePasses {
        match &self.negative {
            Some(negative) if planned == GuidancePasses::BatchOfTwo && negative.tokens.shape() != self.prompt.tokens.shape() => {
                GuidancePasses::TwoRuns
            }
            _ => planned,
        }
    }

    /// How the passes of `passes` are made, which need a negative prompt where they are more than one, and the guidance scale.
    pub(super) fn guided(&self, passes: GuidancePasses) -> (GuidancePasses, f32) {
        (if self.negative.is_some() { passes } else { GuidancePasses::One }, self.guidance)
    }
}

/// A denoiser made ready for one run.
pub struct Denoiser<'a> {
    passes: GuidancePasses,
    conditioning: &'a Conditioning,
    ports: Vec<Port>,
    output: String,
    guidance_embedding: Option<usize>,
    told: Told,
}

impl<'a> Denoiser<'a> {
    /// Asks the network for its ports and makes ready.
    ///
    /// # Errors
    /// The network does not open, or has not exactly one output.
    pub fn new(
        bundle: &Bundle,
        networks: &mut Networks,
        passes: GuidancePasses,
        conditioning: &'a Conditioning,
        cancel: &Cancel,
    ) -> Result<Self> {
        let ports = networks.inputs(Role::Unet, cancel)?.to_vec();
        let outputs = networks.outputs(Role::Unet, cancel)?;
        let output = outputs.first().context("unet: has no output")?.name.clone();
        let guidance_embedding = bundle.geometry.guidance_embedding;
        Ok(Self { passes, conditioning, ports, output, guidance_embedding, told: Told::default() })
    }

    /// Predicts at `timestep`.
    ///
    /// * `latents`: `[B, C, h, w]` f32, scaled for the network
    /// * `mask`: what an inpainting network sees beside them
    ///
    /// Returns `[B, C, h, w]` f32 with guidance applied.
    ///
    /// # Errors
    /// The network fails, gives another shape, or is cancelled.
    pub fn predict(
        &mut self,
        networks: &mut Networks,
        latents: &ArrayD<f32>,
        timestep: f32,
        mask: Option<&MaskChannels>,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let sample = match mask {
            None => latents.clone(),
            Some(mask) => concatenate(Axis(1), &[latents.view(), mask.mask.view(), mask.masked_latents.view()])
                .context("unet: mask, masked picture and latents differ in size")?,
        };
        let prediction = match (self.passes, &self.conditioning.negative) {
            (GuidancePasses::One, _) | (_, None) => self.call(networks, sample, Pass::Conditional, timestep, cancel)?,
            (GuidancePasses::TwoRuns, Some(_)) => {
                let unconditional = self.call(networks, sample.clone(), Pass::Unconditional, timestep, cancel)?;
                let conditional = self.call(networks, sample, Pass::Conditional, timestep, cancel)?;
                guide(unconditional.view(), conditional.view(), self.conditioning.guidance)
            }
            (GuidancePasses::BatchOfTwo, Some(_)) => {
                let batch = sample.len_of(Axis(0));
                let twice = concatenate(Axis(0), &[sample.view(), sample.view()])?;
                let both = self.call(networks, twice, Pass::Both, timestep, cancel)?;
                let (unconditional, conditional) = both.view().split_at(Axis(0), batch);
                guide(unconditional, conditional, self.conditioning.guidance)
            }
        };
        if prediction.shape() != latents.shape() {
            bail!("unet: gave a prediction of shape {:?}, expected the latents' {:?}", prediction.shape(), latents.shape());
        }
        Ok(prediction)
    }

    /// One call.
    fn call(
        &mut self,
        networks: &mut Networks,
        sample: ArrayD<f32>,
        pass: Pass,
        timestep: f32,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let (held, timesteps) = self.told(pass, sample.shape(), timestep)?;
        let latents = find(&self.ports, names::SAMPLE).context("unet: has no input for latents")?;
        let sample = Tensor::from(sample);
        let mut inputs: Vec<(&str, &Tensor)> = vec![(latents.name.as_str(), &sample)];
        inputs.extend(timesteps.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        let mut outputs = networks.run_beside(Role::Unet, &held, &inputs, &[&self.output], cancel)?;
        outputs.pop().context("unet: gave nothing")
    }

    /// What the network is told at each step alike; texts share the batch evenly, in order.
    fn join(&self, pass: Pass, batch: usize) -> Result<Vec<(String, Tensor)>> {
        let Conditioning { prompt, negative, .. } = self.conditioning;
        let texts: Vec<&Embeddings> = match (pass, negative) {
            (Pass::Unconditional, Some(negative)) => vec![negative],
            (Pass::Both, Some(negative)) => vec![negative, prompt],
            _ => vec![prompt],
        };
        let each = batch / texts.len();
        let rows = |array: fn(&Embeddings) -> Option<&ArrayD<f32>>, what: &str| -> Result<Tensor> {
            let mut parts: Vec<ArrayViewD<'_, f32>> = Vec::new();
            for text in &texts {
                let row = array(text).with_context(|| format!("unet: takes {what}, which the text encoders do not give"))?;
                parts.extend(std::iter::repeat_n(row.view(), each));
            }
            Ok(concatenate(Axis(0), &parts).with_context(|| format!("unet: {what} of two texts differ in shape"))?.into())
        };
        let mut told = Vec::new();
        for port in &self.ports {
            let name = port.name.as_str();
            let tensor = if names::SAMPLE.contains(&name) || names::TIMESTEP.contains(&name) {
                continue;
            } else if names::ENCODER_HIDDEN_STATES.contains(&name) {
                rows(|text| Some(&text.tokens), "text embeddings")?
            } else if names::TEXT_EMBEDS.contains(&name) {
                rows(|text| text.pooled.as_ref(), "a pooled text embedding")?
            } else if names::TIME_IDS.contains(&name) {
                self.time_ids(port, batch)?
            } else if names::TIMESTEP_COND.contains(&name) {
                let width = self.guidance_embedding.unwrap_or(256);
                guidance_embedding(self.conditioning.guidance - 1.0, width, batch).into()
            } else if names::CONTROL.contains(&name) {
                let (picture, _) = self.control()?;
                concatenate(Axis(0), &vec![picture.view(); batch])?.into()
            } else if names::CONTROL_SCALE.contains(&name) {
                Tensor::number_for(port, self.control()?.1, batch)
            } else {
                bail!("unet: takes an input `{name}` that Kiln does not know");
            };
            told.push((port.name.clone(), tensor));
        }
        Ok(told)
    }

    fn control(&self) -> Result<&(ArrayD<f32>, f32)> {
        self.conditioning.control.as_ref().context("unet: is steered by a picture, and none is there")
    }

    /// SDXL's sizes: the original, the crop's corner, the target; height before width.
    fn time_ids(&self, port: &Port, batch: usize) -> Result<Tensor> {
        let (width, height) = self.conditioning.size;
        #[expect(clippy::cast_precision_loss, reason = "sides are below 2^13")]
        let (width, height) = (width as f32, height as f32);
        let ids = [height, width, 0.0, 0.0, height, width];
        if let Some(Some(other)) = port.shape.get(1).filter(|length| length.is_some_and(|length| length != ids.len())) {
            bail!("unet: `{}` takes {other} values, expected {} (an SDXL refiner is not run)", port.name, ids.len());
        }
        let rows: Vec<f32> = ids.iter().copied().cycle().take(ids.len() * batch).collect();
        Ok(ArrayD::from_shape_vec(IxDyn(&[batch, ids.len()]), rows)?.into())
    }
}

impl DeviceDenoiser for Denoiser<'_> {
    fn role(&self) -> Role {
        Role::Unet
    }

    fn ports(&self) -> Option<(&Port, &str)> {
        Some((find(&self.ports, names::SAMPLE)?, &self.output))
    }

    fn guidance(&self) -> (GuidancePasses, f32) {
        self.conditioning.guided(self.passes)
    }

    fn told(&mut self, pass: Pass, shape: &[usize], timestep: f32) -> Result<(HeldInputs, Vec<(String, Tensor)>)> {
        let batch = shape.first().copied().unwrap_or(1);
        let held = match self.told.of(pass, shape) {
            Some(held) => held,
            None => self.told.keep(pass, shape, self.join(pass, batch)?),
        };
        let ports = self.ports.iter().filter(|port| names::TIMESTEP.contains(&port.name.as_str()));
        Ok((held, ports.map(|port| (port.name.clone(), Tensor::number_for(port, timestep, batch))).collect()))
    }
}

/// `unconditional + guidance (conditional − unconditional)`, each `[B, …]` f32.
pub(super) fn guide(unconditional: ArrayViewD<'_, f32>, conditional: ArrayViewD<'_, f32>, guidance: f32) -> ArrayD<f32> {
    let mut guided = conditional.to_owned();
    guided.zip_mut_with(&unconditional, |value, base| *value = base + guidance * (*value - base));
    guided
}

/// The embedding by which a latent consistency model is told its guidance (S. Luo et al., 2023, arXiv:2310.04378, section 4.1):
/// sines, then cosines, of `1000 w` at frequencies from 1 to 1/10000. Returns `[batch, width]` f32.
fn guidance_embedding(w: f32, width: usize, batch: usize) -> ArrayD<f32> {
    let half = width / 2;
    #[expect(clippy::cast_precision_loss, reason = "an embedding has some hundred entries")]
    let frequencies: Vec<f32> = {
        let step = 10_000_f32.ln() / (half.max(2) - 1) as f32;
        (0..half).map(|index| (index as f32 * -step).exp()).collect()
    };
    let angles = frequencies.iter().map(|frequency| w * 1000.0 * frequency);
    let mut row: Vec<f32> = angles.clone().map(f32::sin).chain(angles.map(f32::cos)).collect();
    // An odd width is filled up with a zero.
    row.resize(width, 0.0);
    let row = ArrayView::from(&row);
    row.broadcast(IxDyn(&[batch, width])).map_or_else(|| ArrayD::zeros(IxDyn(&[batch, width])), |rows| rows.to_owned())
}
