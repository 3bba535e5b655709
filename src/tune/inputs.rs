//! Tensors of the shapes that a component is given when pictures are made; what they hold is of no meaning.

use anyhow::{Context, Result, bail};
use ndarray::{ArrayD, IxDyn};

use super::Configuration;
use crate::bundle::{Architecture, Bundle, ClipShape, Component, PACKED_SIDE, Role, names};
use crate::runtime::{Port, Tensor};

/// Tokens of a text where an export leaves their number open: CLIP's.
const TOKENS: usize = 77;
/// Tokens of a text for a T5 that is not told its padding.
const SENTENCE_TOKENS: usize = 256;
/// The most that a side of what is remembered is of a latent's; more would fill the memory before a network is asked.
const MOST_LATENT_SIDES: usize = 64;
/// Values of SDXL's `time_ids`.
const TIME_IDS: usize = 6;
/// A timestep in the middle of the usual 1000.
const TIMESTEP: f32 = 500.0;
/// A frame rate as any.
const FRAME_RATE: f32 = 25.0;

/// The inputs of `component` for one call: each port's name with its tensor.
///
/// # Errors
/// The export leaves open a dimension that the bundle does not tell otherwise.
pub fn inputs(bundle: &Bundle, component: &Component, configuration: &Configuration) -> Result<Vec<(String, Tensor)>> {
    let input = |port: &Port| {
        let tensor = tensor(bundle, component.role, port, configuration)
            .with_context(|| format!("{}: input `{}` {}", component.role, port.name, port.shape_text()))?;
        Ok((port.name.clone(), tensor))
    };
    component.header.inputs.iter().map(input).collect()
}

fn tensor(bundle: &Bundle, role: Role, port: &Port, configuration: &Configuration) -> Result<Tensor> {
    let geometry = &bundle.geometry;
    let (width, height) = (configuration.width as usize, configuration.height as usize);
    let side = geometry.pixels_per_latent.max(1);
    let is = |names: &[&str]| names.contains(&port.name.as_str());
    let batch = configuration.batch;
    // A text that is told its padding is filled up, and so is Wan's, whose padding becomes zeros.
    let filled = bundle.architecture().filter(|architecture| architecture.is_masked() || *architecture == Architecture::Wan);
    let sentence = filled.map_or(SENTENCE_TOKENS, |architecture| architecture.sentence_tokens(Role::TextEncoder));
    // Each dimension as it would be if the export left it open; what the export fixes stands.
    let open: Vec<Option<usize>> = match role {
        _ if is(names::CLASS_LABELS) => vec![Some(batch)],
        Role::TextEncoder if filled.is_some() => vec![Some(batch), Some(sentence)],
        Role::TextEncoder | Role::TextEncoder2 => vec![Some(batch), Some(TOKENS)],
        Role::TextEncoder3 => vec![Some(batch), Some(SENTENCE_TOKENS)],
        Role::Transformer if is(names::HIDDEN_STATES) && port.shape.len() == 3 => {
            vec![
                Some(batch),
                Some(patches(width / side, height / side)),
                Some(geometry.latent_channels * PACKED_SIDE * PACKED_SIDE),
            ]
        }
        Role::Transformer if is(names::HIDDEN_STATES) && port.shape.len() == 5 => {
            let frames = bundle.clip.as_ref().map(ClipShape::usual_latents);
            vec![Some(batch), Some(geometry.denoiser_channels), frames, Some(height / side), Some(width / side)]
        }
        Role::Transformer if is(names::HIDDEN_STATES) => {
            vec![Some(batch), Some(geometry.denoiser_channels), Some(height / side), Some(width / side)]
        }
        Role::Transformer if is(names::TIMESTEP) && port.shape.len() == 2 => {
            vec![Some(batch), bundle.clip.as_ref().map(ClipShape::usual_latents)]
        }
        Role::Transformer if is(names::TIMESTEP) || is(names::GUIDANCE) => {
            return Ok(Tensor::number_for(port, TIMESTEP, batch));
        }
        Role::Transformer if is(names::FRAME_RATE) => return Ok(Tensor::number_for(port, FRAME_RATE, batch)),
        Role::VaeDecoder if is(names::TIMESTEP) => return Ok(Tensor::number_for(port, 0.0, batch)),
        Role::Transformer if is(names::ENCODER_HIDDEN_STATES) => vec![Some(batch), Some(sentence), None],
        Role::Transformer if is(names::ENCODER_ATTENTION_MASK) => vec![Some(batch), Some(sentence)],
        Role::Transformer if is(names::RESOLUTION) => vec![Some(batch), Some(2)],
        Role::Transformer if is(names::ASPECT_RATIO) => vec![Some(batch), Some(1)],
        Role::Transformer if is(names::POOLED_PROJECTIONS) => vec![Some(batch), None],
        Role::Transformer if is(names::PATCH_PLACES) => places(port, batch, patches(width / side, height / side)),
        Role::Transformer if is(names::TOKEN_PLACES) => places(port, batch, SENTENCE_TOKENS),
        Role::Unet if is(names::SAMPLE) && port.shape.len() == 5 => {
            let frames = bundle.clip.as_ref().map(ClipShape::usual_latents);
            vec![Some(batch), Some(geometry.denoiser_channels), frames, Some(height / side), Some(width / side)]
        }
        Role::Unet if is(names::SAMPLE) => {
            vec![Some(batch), Some(geometry.denoiser_channels), Some(height / side), Some(width / side)]
        }
        Role::Unet if is(names::TIMESTEP) => return Ok(Tensor::number_for(port, TIMESTEP, batch)),
        Role::Unet if is(names::STEP_COUNT) => return Ok(Tensor::number_for(port, 1.0, batch)),
        Role::Unet if is(names::ENCODER_HIDDEN_STATES) => vec![Some(batch), Some(TOKENS), embedding_width(bundle)],
        Role::Unet if is(names::TIMESTEP_COND) => vec![Some(batch), geometry.guidance_embedding],
        Role::Unet if is(names::TEXT_EMBEDS) => vec![Some(batch), width_of(bundle, Role::TextEncoder2, names::POOLED)],
        Role::Unet if is(names::TIME_IDS) => vec![Some(batch), Some(TIME_IDS)],
        Role::Unet if is(names::CONTROL) => vec![Some(batch), Some(3), Some(height), Some(width)],
        Role::Unet if is(names::CONTROL_SCALE) => return Ok(Tensor::number_for(port, 1.0, batch)),
        Role::ImageEncoder => vec![Some(batch), Some(3), None, None],
        Role::Transformer if is(names::ENCODER_HIDDEN_STATES_IMAGE) => vec![Some(batch), None, None],
        Role::VaeEncoder | Role::VaeDecoder if port.name.starts_with(names::PAST) => {
            let times = |axis: usize, side: usize| Some(latent_sides(port, axis)? * side);
            vec![Some(batch), None, None, times(3, height / side), times(4, width / side)]
        }
        Role::VaeEncoder | Role::VaeEncoderFirst if port.shape.len() == 5 => {
            let further = bundle.clip.as_ref().map(|shape| shape.frames_per_latent);
            let frames = if role == Role::VaeEncoder { further } else { Some(1) };
            vec![Some(batch), Some(geometry.picture_channels), frames, Some(height), Some(width)]
        }
        Role::VaeEncoder | Role::VaeEncoderFirst | Role::Encoder => {
            vec![Some(batch), Some(geometry.picture_channels), Some(height), Some(width)]
        }
        Role::VaeDecoder | Role::VaeDecoderFirst if is(names::LATENT) && port.shape.len() == 5 => {
            let whole = bundle.architecture().is_some_and(Architecture::decodes_whole_clips);
            let frames = bundle.clip.as_ref().filter(|_| whole).map_or(1, ClipShape::usual_latents);
            vec![Some(batch), Some(geometry.latent_channels), Some(frames), Some(height / side), Some(width / side)]
        }
        Role::VaeDecoder | Role::VaeDecoderFirst | Role::TinyDecoder | Role::PreviewDecoder => {
            vec![Some(batch), Some(geometry.latent_channels), Some(height / side), Some(width / side)]
        }
        Role::Decoder | Role::Mapping | Role::Synthesis => vec![Some(batch), None, None],
        Role::Unet | Role::Transformer => bail!("is none that Kiln knows"),
    };
    let shape: Option<Vec<usize>> =
        port.shape.iter().enumerate().map(|(axis, declared)| declared.or_else(|| open.get(axis).copied().flatten())).collect();
    let shape = shape.context(match port.name.starts_with(names::PAST) {
        true => {
            "leaves open sides whose names do not say how many times a latent's they are; models/recipes/export names them so"
        }
        false => "leaves open a dimension that nothing else in the bundle tells",
    })?;
    Ok(match port.element.is_float() {
        // All zeros would let some kernels skip their work, and tiny numbers slow them down.
        true => Tensor::Float(ArrayD::from_shape_vec(IxDyn(&shape), wave(shape.iter().product()))?),
        false => Tensor::Integer(ArrayD::ones(IxDyn(&shape))),
    })
}

/// How many times a latent's side that of `port` along `axis` is, which its name says.
fn latent_sides(port: &Port, axis: usize) -> Option<usize> {
    let (_, name) = port.dimension_names.iter().find(|(place, _)| *place == axis)?;
    let (times, side) = name.split_once('*').unwrap_or(("1", name));
    let times = times.parse().ok().filter(|times| (1..=MOST_LATENT_SIDES).contains(times));
    times.filter(|_| names::LATENT_SIDES.contains(&side))
}

/// Patches of latents that are packed.
fn patches(width: usize, height: usize) -> usize {
    width / PACKED_SIDE * (height / PACKED_SIDE)
}

/// The shape of `count` places, with a batch before it where the export has one.
fn places(port: &Port, batch: usize, count: usize) -> Vec<Option<usize>> {
    let batches = if port.shape.len() == 3 { vec![Some(batch)] } else { Vec::new() };
    batches.into_iter().chain([Some(count), None]).collect()
}

/// Numbers between -1 and 1 that follow no simple pattern.
fn wave(length: usize) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "any number does")]
    (0..length).map(|index| (index as f32 * 12.9898).sin()).collect()
}

/// The width of the embeddings that the text encoders give together.
fn embedding_width(bundle: &Bundle) -> Option<usize> {
    let encoders = [Role::TextEncoder, Role::TextEncoder2].into_iter().filter(|role| bundle.components.contains_key(role));
    encoders.map(|role| width_of(bundle, role, names::LAST_HIDDEN_STATE)).sum()
}

/// The last dimension of an output of `role`.
fn width_of(bundle: &Bundle, role: Role, names: &[&str]) -> Option<usize> {
    let port = crate::bundle::find(&bundle.components.get(&role)?.header.outputs, names)?;
    port.shape.last().copied().flatten()
}
