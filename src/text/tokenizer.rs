//! The tokenizer of a model folder, whichever files it is made of.
//!
//! Two kinds of folder are read: `vocab.json` with `merges.txt`, CLIP's own tokenizer (`clip.rs`), and `tokenizer.json`, which
//! describes any tokenizer (`described.rs`). A folder that has both is read as diffusers reads it: CLIP's own files where
//! `tokenizer_class` is `CLIPTokenizer`, `tokenizer.json` otherwise.
//!
//! Everything in the folder is hostile: sizes are capped, and each file is checked before it is used.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;

use super::clip::Clip;
use super::described::Described;
use super::settings::Settings;
use crate::refuse;

/// The longest prompt; text encoders read some 77 to 512 tokens of it.
pub const LONGEST_TEXT_CHARACTERS: usize = 10_000;
/// The largest file of a tokenizer that is read; CLIP's take 2 MB, T5's as much.
const LARGEST_FILE_BYTES: u64 = 32 << 20;

/// Turns texts into the token ids that one text encoder was trained on.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    kind: Kind,
    pad: u32,
    max_length: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Clip(Box<Clip>),
    Described(Box<Described>),
}

/// A text as a text encoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// `[L]`, always [`Tokenizer::max_length`] ids: start token, text, end token, padding.
    pub ids: Vec<i64>,
    /// How many of `ids` come before the padding, start and end token counted.
    pub used: usize,
    /// The end of the text, as far as it did not fit; worth a warning.
    pub truncated: Option<String>,
}

/// The ids of a text before padding, and what did not fit.
pub(super) struct Encoded {
    pub(super) ids: Vec<u32>,
    pub(super) truncated: Option<String>,
}

impl Tokenizer {
    /// Reads the tokenizer in `folder`.
    ///
    /// # Errors
    /// A file is missing, too large, not JSON, of the wrong type, or names tokens that the vocabulary lacks; the length is above
    /// 4096 or leaves no room for a text.
    pub fn open(folder: &Path) -> Result<Self> {
        let settings = Settings::open(folder)?;
        let (vocabulary, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let described = folder.join("tokenizer.json");
        let has_own = vocabulary.is_file() && merges.is_file();
        let (kind, pad, max_length) = if has_own && (settings.is_clip_class() || !described.is_file()) {
            let clip = Clip::open(&vocabulary, &merges, &settings)?;
            let pad = clip.pad();
            (Kind::Clip(Box::new(clip)), pad, settings.max_length()?.unwrap_or(Clip::MAX_LENGTH))
        } else if described.is_file() {
            let described = Described::open(&described, &settings)?;
            let (pad, max_length) = (described.pad(), described.max_length());
            (Kind::Described(Box::new(described)), pad, max_length)
        } else {
            bail!("{} has no tokenizer, expected tokenizer.json, or vocab.json with merges.txt", folder.display());
        };
        Self { kind, pad, max_length }.with_max_length(max_length).with_context(|| folder.display().to_string())
    }

    /// Changes how many ids a text becomes, for an encoder that was exported at another length.
    ///
    /// # Errors
    /// `max_length` is above 4096 or leaves no room for a text between start and end token.
    pub fn with_max_length(mut self, max_length: usize) -> Result<Self> {
        let around = match &mut self.kind {
            Kind::Clip(_) => Clip::AROUND,
            Kind::Described(described) => described.set_max_length(max_length)?,
        };
        ensure!(
            max_length > around && max_length <= Settings::LONGEST,
            "tokenizer length is {max_length}, expected {} to {}",
            around + 1,
            Settings::LONGEST
        );
        self.max_length = max_length;
        Ok(self)
    }

    /// Gives how many ids every text becomes.
    #[must_use]
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Gives the largest id that can come out; the text encoder's table must reach that far.
    #[must_use]
    pub fn largest_id(&self) -> u32 {
        let largest = match &self.kind {
            Kind::Clip(clip) => clip.largest_id(),
            Kind::Described(described) => described.largest_id(),
        };
        largest.max(self.pad)
    }

    /// Turns `text` into ids, cut or padded to [`max_length`](Self::max_length).
    ///
    /// # Errors
    /// `text` is longer than [`LONGEST_TEXT_CHARACTERS`] or holds a zero character (a [`Refusal`](crate::error::Refusal) each),
    /// or the vocabulary has no token for a word of it nor one for unknown words.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        let characters = text.chars().count();
        if characters > LONGEST_TEXT_CHARACTERS {
            refuse!("prompt has {characters} characters, expected at most {LONGEST_TEXT_CHARACTERS}; shorten it");
        }
        if let Some(position) = text.chars().position(|letter| letter == '\0') {
            refuse!("prompt has a zero character at {position}, expected text; remove it");
        }
        let Encoded { ids, truncated } = match &self.kind {
            Kind::Clip(clip) => clip.encode(text, self.max_length)?,
            Kind::Described(described) => described.encode(text)?,
        };
        ensure!(ids.len() <= self.max_length, "tokenizer gave {} ids, expected at most {}", ids.len(), self.max_length);
        let used = ids.len();
        let mut ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
        ids.resize(self.max_length, i64::from(self.pad));
        Ok(Tokens { ids, used, truncated })
    }
}

/// Reads a file of a tokenizer, up to the largest size.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let name = path.display();
    File::open(path)
        .and_then(|file| file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes))
        .with_context(|| name.to_string())?;
    ensure!(bytes.len() as u64 <= LARGEST_FILE_BYTES, "{name} is larger than {} MiB", LARGEST_FILE_BYTES >> 20);
    Ok(bytes)
}

/// Reads a JSON file of a tokenizer.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read_file(path)?).with_context(|| path.display().to_string())
}
