//! The new words of a model: read, and held against its text encoders.

use anyhow::Result;

use crate::bundle::{Architecture, Bundle, Role, find, names};
use crate::refuse;
use crate::text::{NewWord, words_of_folder};

/// Its folder in a bundle.
const FOLDER: &str = "embeddings";

/// Reads those in the folder `embeddings` of `bundle` and those that are named as `FILE` or `NAME=FILE`.
///
/// # Errors
/// As [`NewWord::read`]. Refusals: two words are called alike; the model takes no such words; a word's vectors are for other text encoders.
pub(super) fn new_words(bundle: &Bundle, named: &[String]) -> Result<Vec<NewWord>> {
    let mut words = words_of_folder(&bundle.folder.join(FOLDER))?;
    for wish in named {
        words.push(NewWord::read(wish)?);
    }
    let Some(first) = words.first() else { return Ok(words) };
    let roles: Vec<Role> = match bundle.architecture() {
        Some(architecture @ (Architecture::StableDiffusion | Architecture::AnimateDiff | Architecture::StableDiffusionXl)) => {
            architecture.text_encoders().iter().map(|(role, _)| *role).collect()
        }
        _ => refuse!("embedding `{}`: model {} takes none; Stable Diffusion 1.x, 2.x and SDXL do", first.name, bundle.name()),
    };
    for (index, word) in words.iter().enumerate() {
        let name = &word.name;
        if words[..index].iter().any(|other| other.name.to_lowercase() == name.to_lowercase()) {
            refuse!("embedding `{name}`: two files have a word of this name; call one otherwise, as NAME=FILE");
        }
        if word.vectors.len() != roles.len() {
            refuse!(
                "embedding `{name}`: has vectors for {} text encoders, and model {} has {}: it was made for another model",
                word.vectors.len(),
                bundle.name(),
                roles.len()
            );
        }
        for (role, vectors) in roles.iter().zip(&word.vectors) {
            let width = vectors.first().map_or(0, Vec::len);
            if let Some(expected) = width_of(bundle, *role).filter(|expected| *expected != width) {
                refuse!(
                    "embedding `{name}`: has vectors of {width} numbers, and {role} of {} takes {expected}: it was made for another model",
                    bundle.name()
                );
            }
        }
    }
    Ok(words)
}

/// Numbers of a token's vector in the text encoder of `role`, where its configuration or its file says so.
fn width_of(bundle: &Bundle, role: Role) -> Option<usize> {
    let encoder = bundle.components.get(&role)?;
    let declared = encoder.value("hidden_size").and_then(serde_json::Value::as_u64).and_then(|width| usize::try_from(width).ok());
    declared.or_else(|| find(&encoder.header.outputs, names::LAST_HIDDEN_STATE)?.shape.last().copied().flatten())
}
