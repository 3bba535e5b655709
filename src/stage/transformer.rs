//! One prediction of a transformer over patches of latents, with classifier-free guidance.
//!
//! In: latents, a timestep, what the texts say. Out: the velocity, of the latents' shape. W. Peebles, S. Xie, 2022, "Scalable Diffusion
//! Models with Transformers", arXiv:2212.09748; P. Esser et al., 2024, arXiv:2403.03206 (text and picture in one sequence). Guidance
//! as in `denoiser.rs`; a transformer that was distilled to be told the scale makes one pass.

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, ArrayViewD, Axis, Dimension, Ix4, IxDyn, Slice, concatenate};

use super::denoiser::{Conditioning, guide};
use super::device_loop::DeviceDenoiser;
use super::networks::Networks;
use super::text_encoder::Embeddings;
use super::told::{Pass, Told};
use crate::bundle::{Architecture, Bundle, PACKED_SIDE, PLACE, Role, find, names};
use crate::plan::GuidancePasses;
use crate::runtime::{Cancel, HeldInputs, Port, Tensor};

/// The end of the way as packed transformers count it is 1, as samplers count it this.
const TRAINED_TIMESTEPS: f32 = 1000.0;
/// What Sana-Sprint multiplies the guidance scale by where its configuration does not say.
const SPRINT_GUIDANCE_SCALE: f32 = 0.1;

/// A transformer made ready for one run.
pub struct Transformer<'a> {
    passes: GuidancePasses,
    conditioning: &'a Conditioning,
    ports: Vec<Port>,
    output: String,
    packed: bool,
    /// What the timestep is multiplied by before the network is told of it.
    timestep_scale: f32,
    /// The same for the guidance scale.
    guidance_scale: f32,
    /// Frames of latents at the beginning that are given rather than made: they are clean at each step.
    given_frames: usize,
    told: Told,
}

impl<'a> Transformer<'a> {
    /// Asks the network for its ports and makes ready.
    ///
    /// # Errors
    /// The network does not open, or has no output; its configuration is broken.
    pub fn new(
        bundle: &Bundle,
        networks: &mut Networks,
        passes: GuidancePasses,
        conditioning: &'a Conditioning,
        cancel: &Cancel,
    ) -> Result<Self> {
        let ports = networks.inputs(Role::Transformer, cancel)?.to_vec();
        let outputs = networks.outputs(Role::Transformer, cancel)?;
        let output = outputs.first().context("transformer: has no output")?.name.clone();
        let packed = bundle.architecture() == Some(Architecture::Flux);
        let Scales { timestep_scale, guidance_scale } = Scales::of(bundle)?;
        Ok(Self {
            passes,
            conditioning,
            ports,
            output,
            packed,
            timestep_scale,
            guidance_scale,
            given_frames: 0,
            told: Told::default(),
        })
    }

    /// The same for a clip whose first `count` frames of latents are given.
    #[must_use]
    pub fn with_given_frames(self, count: usize) -> Self {
        Self { given_frames: count, ..self }
    }

    /// Predicts at `timestep`.
    ///
    /// * `latents`: `[B, C, h, w]` f32, of a clip `[B, C, F, h, w]`
    ///
    /// Returns the same shape with guidance applied.
    ///
    /// # Errors
    /// The network fails, gives another shape, or is cancelled.
    pub fn predict(
        &mut self,
        networks: &mut Networks,
        latents: &ArrayD<f32>,
        timestep: f32,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let prediction = match (self.passes, &self.conditioning.negative) {
            (GuidancePasses::One, _) | (_, None) => self.call(networks, latents, Pass::Conditional, timestep, cancel)?,
            (GuidancePasses::TwoRuns, Some(_)) => {
                let unconditional = self.call(networks, latents, Pass::Unconditional, timestep, cancel)?;
                let conditional = self.call(networks, latents, Pass::Conditional, timestep, cancel)?;
                guide(unconditional.view(), conditional.view(), self.conditioning.guidance)
            }
            (GuidancePasses::BatchOfTwo, Some(_)) => {
                let twice = concatenate(Axis(0), &[latents.view(), latents.view()])?;
                let both = self.call(networks, &twice, Pass::Both, timestep, cancel)?;
                let (unconditional, conditional) = both.view().split_at(Axis(0), latents.len_of(Axis(0)));
                guide(unconditional, conditional, self.conditioning.guidance)
            }
        };
        Ok(prediction)
    }

    /// One call.
    fn call(
        &mut self,
        networks: &mut Networks,
        latents: &ArrayD<f32>,
        pass: Pass,
        timestep: f32,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let shape = latents.shape().to_vec();
        let (held, told) = self.told(pass, &shape, timestep)?;
        let sample = match &self.conditioning.first_frame {
            Some(first_frame) => beside(latents, first_frame)?,
            None if self.packed => packed(latents)?,
            None => latents.clone(),
        };
        let expected = if self.packed { sample.shape().to_vec() } else { shape.clone() };
        let hidden = find(&self.ports, names::HIDDEN_STATES).context("transformer: has no input for latents")?;
        let sample = Tensor::from(sample);
        let mut given: Vec<(&str, &Tensor)> = vec![(&hidden.name, &sample)];
        given.extend(told.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        let mut outputs = networks.run_beside(Role::Transformer, &held, &given, &[&self.output], cancel)?;
        let prediction = outputs.pop().context("transformer: gave nothing")?;
        let prediction = without_variance(prediction, &expected);
        ensure!(
            prediction.shape() == expected,
            "transformer: gave a prediction of shape {:?}, expected the latents' {expected:?}",
            prediction.shape()
        );
        if self.packed { unpacked(prediction, &shape) } else { Ok(prediction) }
    }

    /// What the network is told at each step alike, of latents of `sides`; texts share the batch evenly, in order.
    fn join(&self, pass: Pass, batch: usize, (height, width): (usize, usize)) -> Result<Vec<(String, Tensor)>> {
        let Conditioning { prompt, negative, .. } = self.conditioning;
        let texts: Vec<&Embeddings> = match (pass, negative) {
            (Pass::Unconditional, Some(negative)) => vec![negative],
            (Pass::Both, Some(negative)) => vec![negative, prompt],
            _ => vec![prompt],
        };
        let texts = texts.as_slice();
        let tokens = texts.first().map_or(0, |text| text.tokens.len_of(Axis(1)));
        let mut told = Vec::new();
        for port in &self.ports {
            let name = port.name.as_str();
            let tensor = if names::HIDDEN_STATES.contains(&name) || names::TIMESTEP.contains(&name) {
                continue;
            } else if names::ENCODER_HIDDEN_STATES.contains(&name) {
                rows(texts, batch, name, |text| Some(&text.tokens))?.into()
            } else if names::ENCODER_HIDDEN_STATES_IMAGE.contains(&name) {
                let image = self.conditioning.image.as_ref();
                let image = image.with_context(|| format!("transformer: takes `{name}`, and no picture was encoded"))?;
                concatenate(Axis(0), &vec![image.view(); batch])?.into()
            } else if names::POOLED_PROJECTIONS.contains(&name) {
                rows(texts, batch, name, |text| text.pooled.as_ref())?.into()
            } else if names::ENCODER_ATTENTION_MASK.contains(&name) {
                of_port(port, rows(texts, batch, name, |text| text.mask.as_ref())?)
            } else if names::RESOLUTION.contains(&name) || names::ASPECT_RATIO.contains(&name) {
                size_of(port, self.conditioning.size, batch)
            } else if names::PATCH_PLACES.contains(&name) {
                places(port, batch, height / PACKED_SIDE * (width / PACKED_SIDE), width / PACKED_SIDE)
            } else if names::TOKEN_PLACES.contains(&name) {
                // A text has no place in the picture: each of its tokens stands in row 0, column 0.
                places(port, batch, tokens, 0)
            } else if names::FRAME_RATE.contains(&name) {
                let rate = self.conditioning.frame_rate.context("transformer: takes a frame rate, and no clip is made")?;
                Tensor::number_for(port, rate, batch)
            } else if names::GUIDANCE.contains(&name) {
                Tensor::number_for(port, self.conditioning.guidance * self.guidance_scale, batch)
            } else {
                bail!("transformer: takes an input `{name}` that Kiln does not know");
            };
            told.push((port.name.clone(), tensor));
        }
        Ok(told)
    }
}

impl DeviceDenoiser for Transformer<'_> {
    fn role(&self) -> Role {
        Role::Transformer
    }

    fn ports(&self) -> Option<(&Port, &str)> {
        if self.conditioning.first_frame.is_some() || self.given_frames > 0 {
            return None;
        }
        Some((find(&self.ports, names::HIDDEN_STATES)?, &self.output))
    }

    fn guidance(&self) -> (GuidancePasses, f32) {
        self.conditioning.guided(self.passes)
    }

    fn told(&mut self, pass: Pass, shape: &[usize], timestep: f32) -> Result<(HeldInputs, Vec<(String, Tensor)>)> {
        let (batch, sides) = match shape {
            // Of a clip the frames stand before the sides.
            [batch, _, height, width] | [batch, _, _, height, width] => (*batch, (*height, *width)),
            other => bail!("transformer: is given latents of shape {other:?}, expected [batch, channels, height, width]"),
        };
        let held = match self.told.of(pass, shape) {
            Some(held) => held,
            None => self.told.keep(pass, shape, self.join(pass, batch, sides)?),
        };
        let mut told = Vec::new();
        for port in self.ports.iter().filter(|port| names::TIMESTEP.contains(&port.name.as_str())) {
            let timestep = if self.packed { timestep / TRAINED_TIMESTEPS } else { timestep * self.timestep_scale };
            let tensor = match (port.shape.len(), shape) {
                // A number for each frame.
                (2, [_, _, frames, ..]) => {
                    let given = self.given_frames;
                    let timestep_of = |at: IxDyn| if at[1] < given { 0.0 } else { timestep };
                    of_port(port, ArrayD::from_shape_fn(IxDyn(&[batch, *frames]), timestep_of))
                }
                _ => Tensor::number_for(port, timestep, batch),
            };
            told.push((port.name.clone(), tensor));
        }
        Ok((held, told))
    }

    fn arranged(&self, sample: &ArrayD<f32>) -> Result<ArrayD<f32>> {
        if self.packed { packed(sample) } else { Ok(sample.clone()) }
    }

    fn restored(&self, sample: ArrayD<f32>, shape: &[usize]) -> Result<ArrayD<f32>> {
        if self.packed { unpacked(sample, shape) } else { Ok(sample) }
    }
}

/// What numbers are multiplied by before the network is told of them.
struct Scales {
    timestep_scale: f32,
    guidance_scale: f32,
}

impl Scales {
    fn of(bundle: &Bundle) -> Result<Self> {
        let number = |key: &str, otherwise: f32| -> Result<f32> {
            Ok(bundle.component(Role::Transformer)?.number(key)?.unwrap_or(otherwise))
        };
        Ok(match bundle.architecture() {
            Some(Architecture::Sana) => Self { timestep_scale: number("timestep_scale", 1.0)?, guidance_scale: 1.0 },
            // diffusers' pipeline leaves the timestep's aside here.
            Some(Architecture::SanaSprint) => {
                Self { timestep_scale: 1.0, guidance_scale: number("guidance_embeds_scale", SPRINT_GUIDANCE_SCALE)? }
            }
            _ => Self { timestep_scale: 1.0, guidance_scale: 1.0 },
        })
    }
}

/// `latents`, `[B, C, F, h, w]`, and what is seen of the first frame, `[1, C', F, h, w]`, behind each other along the channels.
fn beside(latents: &ArrayD<f32>, first_frame: &ArrayD<f32>) -> Result<ArrayD<f32>> {
    let rows = concatenate(Axis(0), &vec![first_frame.view(); latents.len_of(Axis(0))])?;
    concatenate(Axis(1), &[latents.view(), rows.view()]).context("transformer: latents and first frame differ in size")
}

/// `prediction` without the variance that some networks learned beside it, in as many channels behind it.
fn without_variance(prediction: ArrayD<f32>, expected: &[usize]) -> ArrayD<f32> {
    match (prediction.shape(), expected) {
        ([_, found, ..], [_, channels, ..]) if *found == 2 * channels => {
            prediction.slice_axis(Axis(1), Slice::from(..*channels)).to_owned()
        }
        _ => prediction,
    }
}

/// `values` in the type of `port`.
fn of_port(port: &Port, values: ArrayD<f32>) -> Tensor {
    #[expect(clippy::cast_possible_truncation, reason = "ones and zeros")]
    match port.element.is_float() {
        true => values.into(),
        false => Tensor::Integer(values.mapv(|value| value as i64)),
    }
}

/// Height and width in pixels, `[B, 2]`, or the one divided by the other, `[B, 1]`: what PixArt-Alpha is told of the picture.
fn size_of(port: &Port, (width, height): (u32, u32), batch: usize) -> Tensor {
    #[expect(clippy::cast_precision_loss, reason = "sides are below 2^13")]
    let row = match names::RESOLUTION.contains(&port.name.as_str()) {
        true => vec![height as f32, width as f32],
        false => vec![(f64::from(height) / f64::from(width)) as f32],
    };
    of_port(port, ArrayD::from_shape_fn(IxDyn(&[batch, row.len()]), |at| row[at[1]]))
}

/// A row for each picture of the batch.
fn rows(
    texts: &[&Embeddings],
    batch: usize,
    name: &str,
    array: impl Fn(&Embeddings) -> Option<&ArrayD<f32>>,
) -> Result<ArrayD<f32>> {
    let mut parts: Vec<ArrayViewD<'_, f32>> = Vec::new();
    for text in texts {
        let row = array(text).with_context(|| format!("transformer: takes `{name}`, which the text encoders do not give"))?;
        parts.extend(std::iter::repeat_n(row.view(), batch / texts.len().max(1)));
    }
    let joined = concatenate(Axis(0), &parts).with_context(|| format!("transformer: `{name}` of two texts differ in shape"))?;
    Ok(joined)
}

/// `[count, 3]`, or with a batch before it where the export has one: row and column of each place, `columns` to a row.
fn places(port: &Port, batch: usize, count: usize, columns: usize) -> Tensor {
    let batches = if port.shape.len() == 3 { Some(batch) } else { None };
    let shape: Vec<usize> = batches.into_iter().chain([count, PLACE]).collect();
    let place = |at: IxDyn| {
        let (index, part) = (at[at.ndim() - 2], at[at.ndim() - 1]);
        match (part, columns) {
            (_, 0) | (0, _) => 0,
            (1, columns) => index / columns,
            (_, columns) => index % columns,
        }
    };
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_wrap, reason = "a row or a column of a picture")]
    match port.element.is_float() {
        true => Tensor::Float(ArrayD::from_shape_fn(IxDyn(&shape), |at| place(at) as f32)),
        false => Tensor::Integer(ArrayD::from_shape_fn(IxDyn(&shape), |at| place(at) as i64)),
    }
}

/// Latents `[B, C, h, w]` as patches `[B, h/2 · w/2, 4C]`: of each patch the channels, of each channel the four latents.
fn packed(latents: &ArrayD<f32>) -> Result<ArrayD<f32>> {
    let (batch, channels, height, width) = latents.view().into_dimensionality::<Ix4>()?.dim();
    let (rows, columns) = (height / PACKED_SIDE, width / PACKED_SIDE);
    let split = latents.view().into_shape_with_order(IxDyn(&[batch, channels, rows, PACKED_SIDE, columns, PACKED_SIDE]));
    let split = split.context("transformer: latents of an odd side cannot be packed")?;
    let patches = split.permuted_axes(IxDyn(&[0, 2, 4, 1, 3, 5])).as_standard_layout().into_owned();
    Ok(patches.into_shape_with_order(IxDyn(&[batch, rows * columns, channels * PACKED_SIDE * PACKED_SIDE]))?)
}

/// The latents of shape `[B, C, h, w]` that `patches` hold.
fn unpacked(patches: ArrayD<f32>, shape: &[usize]) -> Result<ArrayD<f32>> {
    let &[batch, channels, height, width] = shape else { bail!("transformer: latents of {} dimensions", shape.len()) };
    let (rows, columns) = (height / PACKED_SIDE, width / PACKED_SIDE);
    let split = patches.into_shape_with_order(IxDyn(&[batch, rows, columns, channels, PACKED_SIDE, PACKED_SIDE]))?;
    let latents = split.permuted_axes(IxDyn(&[0, 3, 1, 4, 2, 5])).as_standard_layout().into_owned();
    Ok(latents.into_shape_with_order(IxDyn(shape))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Element;

    #[test]
    fn patches_hold_channels_then_rows_then_columns() {
        let latents = ArrayD::from_shape_fn(IxDyn(&[1, 2, 4, 6]), |at| (100 * at[1] + 10 * at[2] + at[3]) as f32);
        let patches = packed(&latents).unwrap();
        assert_eq!(patches.shape(), [1, 6, 8]);
        let second: Vec<f32> = patches.index_axis(Axis(1), 1).iter().copied().collect();
        assert_eq!(second, [2.0, 3.0, 12.0, 13.0, 102.0, 103.0, 112.0, 113.0]);
        assert_eq!(unpacked(patches, latents.shape()).unwrap(), latents);
        assert!(packed(&ArrayD::zeros(IxDyn(&[1, 2, 3, 6]))).is_err());
    }

    #[test]
    fn places_are_rows_and_columns_in_the_form_of_the_port() {
        let port = |element, shape: &[Option<usize>]| Port {
            name: "img_ids".into(),
            element,
            shape: shape.to_vec(),
            dimension_names: Vec::new(),
        };
        let plain = places(&port(Element::Int64, &[None, Some(3)]), 2, 6, 3);
        let Tensor::Integer(plain) = plain else { panic!("integers were asked for") };
        assert_eq!(plain.shape(), [6, 3]);
        assert_eq!(plain.index_axis(Axis(0), 4).iter().copied().collect::<Vec<_>>(), [0, 1, 1]);
        let batched = places(&port(Element::Float32, &[None, None, Some(3)]), 2, 6, 3);
        let Tensor::Float(batched) = batched else { panic!("fractions were asked for") };
        assert_eq!(batched.shape(), [2, 6, 3]);
        assert_eq!(batched[[1, 5, 2]], 2.0);
        let Tensor::Integer(text) = places(&port(Element::Int64, &[None, Some(3)]), 2, 7, 0) else { panic!("integers") };
        assert!(text.iter().all(|value| *value == 0));
    }
}
