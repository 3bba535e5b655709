//! What is made out of what: the inputs of a request, held against the bundle.

use std::sync::Arc;

use anyhow::Result;
use ndarray::Array3;

use super::Request;
use crate::bundle::{Architecture, Bundle, Role};
use crate::output::{LARGEST_SIDE_PX, Picture};
use crate::refuse;

/// What is made out of what.
#[derive(Debug, Clone)]
pub enum Task {
    /// A picture or a clip out of a prompt alone.
    TextToPicture,
    /// A picture out of a prompt and a picture, or a clip whose every frame begins with it.
    PictureToPicture {
        /// The picture at the request's size.
        input: Picture,
    },
    /// A part of a picture made anew.
    Inpaint {
        /// The picture at the request's size.
        input: Picture,
        /// `[1, H, W]` f32 at the request's size, 1 where it may change and 0 where it stays.
        mask: Array3<f32>,
    },
    /// A clip that goes on from a picture.
    FirstFrame {
        /// The picture at the request's size.
        input: Picture,
        /// The picture as it was given, which an image encoder sees.
        given: Picture,
    },
    /// A clip out of a prompt and another clip of as many frames.
    ClipToClip {
        /// Its frames at the request's size.
        frames: Arc<[Picture]>,
        /// Whether they are copies, brought to that size, rather than the request's own.
        copied: bool,
    },
}

impl Task {
    /// The field's name for it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TextToPicture => "text to picture",
            Self::PictureToPicture { .. } => "picture to picture",
            Self::Inpaint { .. } => "inpainting",
            Self::FirstFrame { .. } => "picture to clip",
            Self::ClipToClip { .. } => "clip to clip",
        }
    }

    /// Whether a part of the way through noise is left out, by the strength.
    #[must_use]
    pub fn has_strength(&self) -> bool {
        !matches!(self, Self::TextToPicture | Self::FirstFrame { .. })
    }

    /// Puts another picture of the request's size in the place of the input; a mask stays.
    pub(crate) fn set_input(&mut self, picture: Picture) {
        match self {
            Self::TextToPicture | Self::ClipToClip { .. } => {}
            Self::PictureToPicture { input } | Self::Inpaint { input, .. } | Self::FirstFrame { input, .. } => *input = picture,
        }
    }
}

impl Request {
    pub(super) fn resolve_task(&self, bundle: &Bundle, width: u32, height: u32, warnings: &mut Vec<String>) -> Result<Task> {
        if !self.input_frames.is_empty() {
            return self.resolve_clip(bundle, width, height, warnings);
        }
        let goes_on = bundle.goes_on_from_picture();
        let Some(input) = &self.input else {
            if self.mask.is_some() {
                refuse!("mask: is given without an input picture; name the picture with --input (a job's `picture`)");
            }
            if self.strength.is_some() {
                refuse!("strength: is given without an input picture; name the picture with --input (a job's `picture`)");
            }
            if bundle.takes_mask() {
                refuse!("model {}: makes a part of a picture anew, and needs --input and --mask", bundle.name());
            }
            if goes_on {
                refuse!(
                    "model {}: makes clips that go on from a picture; name it with --input (a job's `picture`)",
                    bundle.name()
                );
            }
            return Ok(Task::TextToPicture);
        };
        if !bundle.takes_text() {
            refuse!(
                "input: model {} makes no picture out of another; `kiln invert` finds the latent of a picture",
                bundle.name()
            );
        }
        let (begins, paints) = bundle.architecture().map_or((true, true), Architecture::takes_pictures);
        if !begins || (!paints && self.mask.is_some()) {
            let what = if begins { "mask: paints no part of a picture" } else { "input: begins with no picture" };
            refuse!("{what} with a {}: diffusers has no pipeline that does, to hold it against", bundle.class_name);
        }
        if !bundle.components.contains_key(&Role::VaeEncoder) {
            refuse!("input: model {} has no vae_encoder, so it cannot begin with a picture", bundle.name());
        }
        if bundle.architecture() == Some(Architecture::Wan) && !goes_on {
            refuse!("input: model {} makes clips of text alone: its transformer sees no first frame", bundle.name());
        }
        // LTX-Video may begin with a picture, which then stays as it is.
        let stays = goes_on || bundle.architecture() == Some(Architecture::Ltx);
        check_shape(input, width, height, warnings)?;
        check_ratio(input, bundle)?;
        let given = input;
        let input = input.resize(width, height)?;
        match &self.mask {
            None if bundle.takes_mask() => {
                refuse!("model {}: makes a part of a picture anew, and needs --mask beside --input", bundle.name())
            }
            None if stays && self.strength.is_some() => {
                refuse!("strength: model {} goes on from the picture and makes no part of it anew; leave it out", bundle.name())
            }
            None if stays => Ok(Task::FirstFrame { input, given: given.clone() }),
            None => Ok(Task::PictureToPicture { input }),
            Some(mask) if mask.width == 0 || mask.height == 0 => refuse!("mask: the picture is empty"),
            Some(mask) => {
                let mask = mask.mask(width, height)?;
                if mask.iter().all(|value| *value < 0.5) {
                    warnings.push("the mask is black throughout, so nothing of the input may change".to_owned());
                }
                Ok(Task::Inpaint { input, mask })
            }
        }
    }

    /// A clip goes in, of as many frames as were resolved.
    fn resolve_clip(&self, bundle: &Bundle, width: u32, height: u32, warnings: &mut Vec<String>) -> Result<Task> {
        if self.input.is_some() {
            refuse!("input: a picture and a clip are given to begin with; leave one of them out");
        }
        if !bundle.architecture().is_some_and(Architecture::takes_clips) {
            let why = match (bundle.makes_clips(), bundle.takes_text()) {
                (true, _) => "makes clips that begin with a picture at most",
                (false, true) => "makes pictures; `Engine::redraw` makes each frame of a clip anew",
                (false, false) => "makes no picture out of another",
            };
            refuse!("input: is a clip, and model {} {why}", bundle.name());
        }
        if !bundle.components.contains_key(&Role::VaeEncoder) {
            refuse!("input: model {} has no vae_encoder, so it cannot begin with a clip", bundle.name());
        }
        let Some(first) = self.input_frames.first() else { refuse!("input: the clip has no frames") };
        let differs = |frame: &Picture| (frame.width, frame.height) != (first.width, first.height);
        if let Some(at) = self.input_frames.iter().position(differs) {
            refuse!("input: frame {at} of the clip is of another size than the first");
        }
        check_shape(first, width, height, warnings)?;
        let copied = (first.width, first.height) != (width, height);
        let frames = match copied {
            false => Arc::clone(&self.input_frames),
            true => self.input_frames.iter().map(|frame| frame.resize(width, height)).collect::<Result<_>>()?,
        };
        Ok(Task::ClipToClip { frames, copied })
    }

    pub(super) fn resolve_strength(&self, bundle: &Bundle, task: &Task) -> Result<f32> {
        // The defaults of diffusers' pipelines, which differ.
        let is_transformer = bundle.architecture().is_some_and(Architecture::is_transformer);
        let default = match (task, bundle.is_xl()) {
            (Task::TextToPicture | Task::FirstFrame { .. }, _) => 1.0,
            (Task::PictureToPicture { .. } | Task::Inpaint { .. }, _) if is_transformer => 0.6,
            (Task::PictureToPicture { .. }, true) => 0.3,
            (Task::PictureToPicture { .. } | Task::ClipToClip { .. }, _) => 0.8,
            (Task::Inpaint { .. }, false) => 1.0,
            (Task::Inpaint { .. }, true) => 0.9999,
        };
        let strength = self.strength.unwrap_or(default);
        if !(strength > 0.0 && strength <= 1.0) {
            refuse!("strength: is {strength}, expected above 0 and at most 1");
        }
        Ok(strength)
    }
}

/// Makes sure that an image encoder that sees `input` as it was given can be shown it.
fn check_ratio(input: &Picture, bundle: &Bundle) -> Result<()> {
    let first_frame = bundle.clip.as_ref().and_then(|shape| shape.first_frame.as_ref());
    let Some(preparation) = first_frame.and_then(|first_frame| first_frame.preparation.as_ref()) else { return Ok(()) };
    let (width, height) = preparation.scaled(input.width, input.height);
    let longer = width.max(height);
    if longer > u64::from(LARGEST_SIDE_PX) {
        refuse!(
            "input: is {}x{}, which the image encoder of model {} sees with its shorter side at {} pixels: the longer would have {longer}, \
             and {LARGEST_SIDE_PX} are the most; cut it to a shape that is less long",
            input.width,
            input.height,
            bundle.name(),
            preparation.shorter_px
        );
    }
    Ok(())
}

/// Makes sure that there is something in `input`, and tells where it is brought to another shape.
fn check_shape(input: &Picture, width: u32, height: u32, warnings: &mut Vec<String>) -> Result<()> {
    if input.width == 0 || input.height == 0 {
        refuse!("input: the picture is empty");
    }
    if input.changes_shape(width, height) {
        warnings.push(format!(
            "the input is {}x{} and the picture {width}x{height}: its shape is changed",
            input.width, input.height
        ));
    }
    Ok(())
}
