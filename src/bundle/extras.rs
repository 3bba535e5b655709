//! What a bundle may have beside the usual: a smaller decoder in place of the full one or for previews, a picture that steers.

use std::path::Path;

use anyhow::{Context, Result};

use super::component::{Component, Role};
use super::contract::Conditioning;
use super::{Bundle, LatentScaling, names};
use crate::refuse;

impl Bundle {
    /// Takes the decoder in `folder`, a `model.onnx` with its `config.json`, for its tiny one.
    ///
    /// # Errors
    /// A refusal: there is no such folder, or the model has no latents. The file is broken, or decodes other latents.
    pub fn set_tiny_decoder(&mut self, folder: &Path) -> Result<()> {
        if !folder.is_dir() {
            refuse!("decoder {}: there is no such folder, expected model.onnx and config.json of a decoder", folder.display());
        }
        if !self.takes_text() {
            refuse!("decoder {}: model {} has no latents to decode", folder.display(), self.name());
        }
        let component = Component::open_in(folder, Role::TinyDecoder, Conditioning::Text)?;
        let scaling = LatentScaling::of_small(&component, self.geometry.latent_channels);
        self.geometry.tiny_scaling = scaling.with_context(|| folder.display().to_string())?;
        self.components.insert(Role::TinyDecoder, component);
        Ok(())
    }

    /// The component that shows latents while they develop; `None` where a map from latents to colours does.
    #[must_use]
    pub fn preview_decoder(&self) -> Option<Role> {
        [Role::PreviewDecoder, Role::TinyDecoder].into_iter().find(|role| self.components.contains_key(role))
    }

    /// Whether a picture steers the denoiser (ControlNet).
    #[must_use]
    pub fn takes_control(&self) -> bool {
        self.components.get(&Role::Unet).is_some_and(|unet| unet.input(names::CONTROL).is_some())
    }
}
