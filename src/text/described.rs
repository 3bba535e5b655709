//! A tokenizer described by one file, `tokenizer.json`.
//!
//! In: the file, which names normalizer, cutting, vocabulary and the tokens around a text. Out: ids as the `tokenizers` library gives them.
//! Cutting and padding that the file asks for is left out, since the length is the text encoder's affair.
//!
//! The library answers broken files with errors, and a few with a panic; those are caught and named like the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use super::file::read_json;
use super::settings::Settings;
use super::tokenizer::Encoded;
use crate::error::PROMPTS;

/// The library's tokenizer and what the folder says about it.
#[derive(Debug, Clone)]
pub(super) struct Described {
    path: PathBuf,
    tokenizer: Tokenizer,
    pad: u32,
    /// The id of a word that the vocabulary lacks.
    unknown: Option<u32>,
    max_length: usize,
    /// What stands before a text, and behind it.
    around: (Vec<u32>, Vec<u32>),
}

impl Described {
    /// Reads the file.
    pub(super) fn open(path: &Path, settings: &Settings) -> Result<Self> {
        let name = path.display();
        let mut description: Value = read_json(path)?;
        let Some(parts) = description.as_object_mut() else {
            bail!("{name} is no object, expected the description of a tokenizer");
        };
        let truncation = parts.remove("truncation").unwrap_or_default();
        let padding = parts.remove("padding").unwrap_or_default();
        let bytes = serde_json::to_vec(&description)?;
        let tokenizer = guard(path, || Tokenizer::from_bytes(&bytes))?;

        let id_of = |token: &str| {
            let id = tokenizer.token_to_id(token).or_else(|| settings.added().ok()?.get(token).copied());
            id.with_context(|| format!("{name} has no token {token:?}, the padding"))
        };
        let pad = match (settings.token("pad_token")?, padding.get("pad_token").and_then(Value::as_str)) {
            (Some(token), _) => id_of(&token)?,
            (None, Some(token)) => id_of(token)?,
            (None, None) => bail!("{name} has no padding, expected `pad_token` in tokenizer_config.json beside it"),
        };
        let unknown =
            description.pointer("/model/unk_token").and_then(Value::as_str).and_then(|token| tokenizer.token_to_id(token));
        let lengths = [truncation.get("max_length"), padding.get("strategy").and_then(|strategy| strategy.get("Fixed"))];
        let listed = lengths.into_iter().flatten().find_map(Value::as_u64).and_then(|length| usize::try_from(length).ok());
        let max_length = settings
            .max_length()?
            .or(listed)
            // Language models say so; how much of a text is read is the encoder's affair.
            .or(settings.is_unlimited().then_some(Settings::LONGEST))
            .with_context(|| format!("{name} has no length, expected `model_max_length` in tokenizer_config.json beside it"))?;
        let around = around(path, &tokenizer)?;
        Ok(Self { path: path.to_owned(), tokenizer, pad, unknown, max_length, around })
    }

    pub(super) fn pad(&self) -> u32 {
        self.pad
    }

    pub(super) fn max_length(&self) -> usize {
        self.max_length
    }

    pub(super) fn largest_id(&self) -> u32 {
        self.tokenizer.get_vocab(true).into_values().max().unwrap_or_default()
    }

    /// Cuts texts to `max_length` ids from now on; gives how many of them stand around a text.
    pub(super) fn set_max_length(&mut self, max_length: usize) -> Result<usize> {
        let empty = self.ids_of("")?.ids.len();
        if max_length <= empty {
            // The caller says so.
            return Ok(empty);
        }
        let cut = TruncationParams { max_length, ..TruncationParams::default() };
        self.tokenizer.with_truncation(Some(cut)).map_err(|error| anyhow!("{}: {error}", self.path.display()))?;
        self.max_length = max_length;
        Ok(empty)
    }

    /// What stands before a text, and behind it.
    pub(super) fn around(&self) -> (&[u32], &[u32]) {
        (&self.around.0, &self.around.1)
    }

    /// Gives the ids of a text alone, however many they are; a word that the vocabulary lacks is warned of.
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = guard(&self.path, || self.tokenizer.encode(text, false))?;
        // Signs between two weights are nothing to many models, and no prompt of their own.
        self.warn_of_unknown_words(text, &encoding);
        Ok(all_ids(&encoding))
    }

    /// The same without a warning.
    pub(super) fn ids_alone(&self, text: &str) -> Result<Vec<u32>> {
        Ok(all_ids(&guard(&self.path, || self.tokenizer.encode(text, false))?))
    }

    /// Gives the text that ids stand for.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        guard(&self.path, || self.tokenizer.decode(ids, true)).unwrap_or_default()
    }

    /// Gives at most the set number of ids, start and end token where the file asks for them.
    pub(super) fn encode(&self, text: &str) -> Result<Encoded> {
        self.ids_of(text)
    }

    fn ids_of(&self, text: &str) -> Result<Encoded> {
        let encoding = guard(&self.path, || self.tokenizer.encode(text, true))?;
        self.warn_of_unknown(text, &encoding);
        let truncated = (!encoding.get_overflowing().is_empty()).then(|| {
            // What was kept ends where its last token does.
            let kept = encoding.get_offsets().iter().map(|(_, end)| *end).max().unwrap_or_default();
            text.get(kept..).unwrap_or(text).trim().to_owned()
        });
        Ok(Encoded { ids: encoding.get_ids().to_vec(), truncated })
    }
}

impl Described {
    /// A word that the vocabulary lacks leaves no trace in the picture, so somebody must be told; whether somebody was.
    fn warn_of_unknown_words(&self, text: &str, encoding: &Encoding) -> bool {
        let words: Vec<&str> = encoding
            .get_ids()
            .iter()
            .zip(encoding.get_offsets())
            .filter(|(id, _)| Some(**id) == self.unknown)
            .filter_map(|(_, (from, to))| text.get(*from..*to))
            .collect();
        if !words.is_empty() {
            log::warn!(target: PROMPTS, "the model does not know the words: {}", words.join(", "));
        }
        !words.is_empty()
    }

    fn warn_of_unknown(&self, text: &str, encoding: &Encoding) {
        if !self.warn_of_unknown_words(text, encoding) && encoding.get_ids().is_empty() && !text.trim().is_empty() {
            log::warn!(target: PROMPTS, "the model knows nothing of {text:?}, and reads it as an empty prompt");
        }
    }
}

/// The ids of an encoding and of what the set length cut off, which follows in pieces of that length.
fn all_ids(encoding: &Encoding) -> Vec<u32> {
    let cut = encoding.get_overflowing().iter().flat_map(Encoding::get_ids);
    encoding.get_ids().iter().chain(cut).copied().collect()
}

/// What `tokenizer` puts before a text and behind it.
fn around(path: &Path, tokenizer: &Tokenizer) -> Result<(Vec<u32>, Vec<u32>)> {
    let encoding = guard(path, || tokenizer.encode("a", true))?;
    let mask = encoding.get_special_tokens_mask();
    let is_special = |mark: &&u32| **mark == 1;
    // A text that becomes nothing leaves no middle to tell the sides apart; of two the first stands before it.
    let all = mask.iter().all(|mark| *mark == 1);
    let before = if all { mask.len() / 2 } else { mask.iter().take_while(is_special).count() };
    let after = if all { mask.len() - before } else { mask.iter().rev().take_while(is_special).count() };
    let ids = encoding.get_ids();
    Ok((ids[..before].to_vec(), ids[ids.len() - after..].to_vec()))
}

/// Runs the library, turning its errors and panics into ours.
fn guard<T>(path: &Path, call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| anyhow!("{}: {error}", path.display())),
        Err(_) => bail!("{} is broken: the tokenizers library panicked on it", path.display()),
    }
}
