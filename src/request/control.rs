//! The picture that steers a denoiser, checked against the bundle.

use anyhow::Result;

use super::{Control, Request};
use crate::bundle::Bundle;
use crate::refuse;

/// Beyond this nothing is left of what the text says.
const LARGEST_SCALE: f32 = 10.0;

impl Request {
    /// The picture that steers, brought to the size of the one that is made as diffusers does.
    pub(super) fn resolve_control(&self, bundle: &Bundle, width: u32, height: u32) -> Result<Option<Control>> {
        let Some(picture) = &self.control else {
            if let Some(scale) = self.control_scale {
                refuse!("control scale: is {scale}, and no picture steers; name one with --control");
            }
            if bundle.takes_control() {
                refuse!("model {}: is steered by a picture (ControlNet), and needs --control", bundle.name());
            }
            return Ok(None);
        };
        if !bundle.takes_control() {
            refuse!(
                "control: model {} has no ControlNet; models/recipes/export/control_net.py exports a UNet together with one",
                bundle.name()
            );
        }
        if picture.width == 0 || picture.height == 0 {
            refuse!("control: the picture is empty");
        }
        let scale = self.control_scale.unwrap_or(1.0);
        if !(0.0..=LARGEST_SCALE).contains(&scale) {
            refuse!("control scale: is {scale}, expected 0 (not at all) to {LARGEST_SCALE}, usually 1");
        }
        Ok(Some(Control { picture: picture.resize(width, height)?, scale }))
    }
}
