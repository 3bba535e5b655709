//! The picture that a clip begins with, where a denoiser sees it: beside the latents, and perhaps as an image encoder does.
//!
//! In: the components of a bundle. Out: whether there is such a picture, and how it is prepared for the image encoder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Bundle;
use super::clip::check_memory;
use super::component::{Component, Role, find};
use super::names;
use super::safety::ClipPreparation;

/// How a denoiser sees the picture that a clip begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct FirstFrame {
    /// How the picture is prepared for the image encoder; `None` where the denoiser is not told what that sees.
    pub preparation: Option<ClipPreparation>,
}

impl Bundle {
    /// Whether it makes clips that go on from a picture, and none without one.
    #[must_use]
    pub fn goes_on_from_picture(&self) -> bool {
        self.clip.as_ref().is_some_and(|shape| shape.first_frame.is_some())
    }
}

impl FirstFrame {
    /// Reads what the components say, whose geometry was checked; `None` where the denoiser sees the latents alone.
    pub(super) fn read(class_name: &str, components: &BTreeMap<Role, Component>) -> Result<Option<Self>> {
        let of = |role: Role| components.get(&role).with_context(|| format!("there is no {role}/model.onnx"));
        let (transformer, decoder) = (of(Role::Transformer)?, of(Role::VaeDecoder)?);
        let channels =
            |component: &Component, names: &[&str]| component.input(names).and_then(|port| port.shape.get(1).copied()?);
        let seen = channels(transformer, names::HIDDEN_STATES).or(transformer.integer("in_channels", 1..=4096)?);
        let latents = channels(decoder, names::LATENT).or(decoder.integer("z_dim", 1..=1024)?);
        let told = transformer.input(names::ENCODER_HIDDEN_STATES_IMAGE);
        if seen.zip(latents).is_none_or(|(seen, latents)| seen <= latents) {
            ensure!(
                told.is_none() && !class_name.ends_with("ImageToVideoPipeline"),
                "transformer/model.onnx: takes as many channels as there are of latents, and a {class_name}{} expects the first frame \
                 beside them; Kiln runs those of Wan 2.1",
                if told.is_some() { " that takes `encoder_hidden_states_image`" } else { "" }
            );
            return Ok(None);
        }
        let needed = |role: Role| {
            of(role).with_context(|| format!("the transformer sees {} channels, the first frame's among them", seen.unwrap_or(0)))
        };
        check_memory(needed(Role::VaeEncoderFirst)?, needed(Role::VaeEncoder)?)?;
        let Some(told) = told else { return Ok(Some(Self { preparation: None })) };
        let encoder = of(Role::ImageEncoder).with_context(|| format!("the transformer takes `{}`", told.name))?;
        let given = find(&encoder.header.outputs, names::IMAGE_EMBEDS)
            .with_context(|| format!("image_encoder/model.onnx: has no output `{}`", names::IMAGE_EMBEDS[0]))?;
        let width = |shape: &[Option<usize>]| shape.last().copied().flatten();
        let given = width(&given.shape).or(encoder.integer("hidden_size", 1..=65536)?);
        let taken = width(&told.shape).or(transformer.integer("image_dim", 1..=65536)?);
        if let (Some(given), Some(taken)) = (given, taken) {
            ensure!(
                given == taken,
                "transformer takes a picture's embeddings of width {taken}, and image_encoder gives {given}: they are of two models"
            );
        }
        let folder = encoder.path.parent().and_then(Path::parent).context("image_encoder: lies in no bundle")?;
        let preparation = ClipPreparation::open(&folder.join("image_processor/preprocessor_config.json"))?;
        let (wide, tall) = preparation.cut_px;
        let port = encoder.input(names::PIXEL_VALUES).context("image_encoder: has no input for a picture")?;
        let fits = |axis: usize, side: u32| port.shape.get(axis).copied().flatten().is_none_or(|fixed| fixed == side as usize);
        ensure!(
            fits(1, 3) && fits(2, tall) && fits(3, wide),
            "image_encoder/model.onnx: input `{}` is {}, and image_processor/preprocessor_config.json prepares pictures of {wide}x{tall}",
            port.name,
            port.shape_text()
        );
        Ok(Some(Self { preparation: Some(preparation) }))
    }
}
