//! Which of a bundle's decoders makes the finished picture, and what a person may say about it.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;

use super::Settings;
use crate::bundle::{Bundle, Role};
use crate::refuse;

/// What a person says about the decoder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DecoderChoice {
    /// The full one, unless a budget asks for the tiny one.
    #[default]
    Auto,
    /// The full one.
    Full,
    /// The bundle's tiny one.
    Tiny,
    /// The tiny one in this folder.
    Folder(PathBuf),
}

impl FromStr for DecoderChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => Err("is empty, expected auto, full, tiny or a folder".to_owned()),
            "auto" => Ok(Self::Auto),
            "full" => Ok(Self::Full),
            "tiny" => Ok(Self::Tiny),
            folder => Ok(Self::Folder(folder.into())),
        }
    }
}

impl DecoderChoice {
    /// The component that decodes, and why it is the one.
    ///
    /// # Errors
    /// A refusal: the tiny one is asked for, and `bundle` has none.
    pub(super) fn role(&self, bundle: &Bundle) -> Result<(Role, &'static str)> {
        let has_tiny = bundle.components.contains_key(&Role::TinyDecoder);
        match self {
            Self::Auto => Ok((Role::VaeDecoder, "no budget asks for the tiny one")),
            Self::Full => Ok((Role::VaeDecoder, "asked for")),
            Self::Tiny | Self::Folder(_) if has_tiny => Ok((Role::TinyDecoder, "asked for")),
            Self::Tiny | Self::Folder(_) => refuse!(
                "decoder: model {} has no {}; name the folder of one that fits it, --decoder DIR; models/recipes/export makes one of \
                 diffusers' AutoencoderTiny",
                bundle.name(),
                Role::TinyDecoder
            ),
        }
    }
}

impl Settings {
    /// Reads and checks the bundle in `folder`, and with it the tiny decoder that they name.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`Bundle::set_tiny_decoder`].
    pub fn open_bundle(&self, folder: &Path) -> Result<Bundle> {
        let mut bundle = Bundle::open(folder)?;
        if let DecoderChoice::Folder(decoder) = &self.decoder {
            bundle.set_tiny_decoder(decoder)?;
        }
        Ok(bundle)
    }
}
