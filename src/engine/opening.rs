//! The bundle of an engine, with what a person's settings add to it.

use std::path::Path;

use anyhow::Result;

use crate::bundle::Bundle;
use crate::plan::{DecoderChoice, Settings};

/// Reads and checks the bundle in `folder`, and the decoder that `settings` name.
///
/// # Errors
/// As [`Bundle::open`] and [`Bundle::set_tiny_decoder`].
pub(super) fn opened(folder: &Path, settings: &Settings) -> Result<Bundle> {
    let mut bundle = Bundle::open(folder)?;
    if let DecoderChoice::Folder(decoder) = &settings.decoder {
        bundle.set_tiny_decoder(decoder)?;
    }
    Ok(bundle)
}
