//! A picture into embeddings, one for each of its patches, which a denoiser looks at beside the text's.
//!
//! A. Radford et al., 2021, "Learning Transferable Visual Models From Natural Language Supervision", arXiv:2103.00020.

use anyhow::{Context, Result, ensure};
use ndarray::ArrayD;

use super::networks::Networks;
use crate::bundle::{Role, find, names};
use crate::runtime::{Cancel, Tensor};

/// Encodes `picture`, `[1, 3, H, W]` f32 as CLIP sees it; returns `[1, T, D]` f32.
///
/// # Errors
/// The encoder fails, or gives another shape.
pub fn encode_image(networks: &mut Networks, picture: ArrayD<f32>, cancel: &Cancel) -> Result<ArrayD<f32>> {
    let role = Role::ImageEncoder;
    let input = find(networks.inputs(role, cancel)?, names::PIXEL_VALUES);
    let input = input.with_context(|| format!("{role}: has no input for a picture"))?.name.clone();
    let output = find(networks.outputs(role, cancel)?, names::IMAGE_EMBEDS);
    let output = output.with_context(|| format!("{role}: has no output `{}`", names::IMAGE_EMBEDS[0]))?.name.clone();
    let tensor = Tensor::from(picture);
    let given = networks.run(role, &[(&input, &tensor)], &[&output], cancel)?.pop();
    let embeddings = given.with_context(|| format!("{role}: gave nothing"))?;
    ensure!(
        matches!(embeddings.shape(), [1, _, _]),
        "{role}: gave embeddings of shape {:?}, expected [1, patches, width]",
        embeddings.shape()
    );
    Ok(embeddings)
}
