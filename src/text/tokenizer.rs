//! The tokenizer of a model folder, whichever files it is made of.
//!
//! Two kinds of folder are read: `vocab.json` with `merges.txt`, CLIP's own tokenizer (`clip.rs`), and `tokenizer.json`, which
//! describes any tokenizer (`described.rs`). A folder that has both is read as diffusers reads it: CLIP's own files where
//! `tokenizer_class` is `CLIPTokenizer`, `tokenizer.json` otherwise.
//!
//! Everything in the folder is hostile: sizes are capped, and each file is checked before it is used.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::clip::Clip;
use super::described::Described;
use super::settings::Settings;
use super::tokens::Tokens;

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

    /// What stands before a text, and behind it.
    pub(super) fn around(&self) -> (&[u32], &[u32]) {
        match &self.kind {
            Kind::Clip(clip) => clip.around(),
            Kind::Described(described) => described.around(),
        }
    }

    pub(super) fn pad(&self) -> u32 {
        self.pad
    }

    /// The ids of a text alone.
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<u32>> {
        match &self.kind {
            Kind::Clip(clip) => clip.pieces(text),
            Kind::Described(described) => described.pieces(text),
        }
    }

    /// The id of a comma; `None` where it is none or more than one.
    pub(super) fn comma(&self) -> Option<u32> {
        let ids = match &self.kind {
            Kind::Clip(clip) => clip.pieces(","),
            Kind::Described(described) => described.ids_alone(","),
        };
        <[u32; 1]>::try_from(ids.ok()?).ok().map(|[comma]| comma)
    }

    /// The text that ids stand for, as far as it can be told.
    pub(super) fn decode(&self, ids: &[u32]) -> String {
        match &self.kind {
            Kind::Clip(clip) => clip.decode(ids),
            Kind::Described(described) => described.decode(ids),
        }
    }

    /// Counts the ids of a text of any length with what stands around it.
    ///
    /// # Errors
    /// The vocabulary has no token for a word of it nor one for unknown words.
    pub fn count(&self, text: &str) -> Result<usize> {
        let (before, after) = self.around();
        Ok(before.len() + self.pieces(text)?.len() + after.len())
    }

    /// Turns `text` into ids, cut or padded to [`max_length`](Self::max_length).
    ///
    /// # Errors
    /// As [`check`](super::check), a [`Refusal`](crate::error::Refusal) each;
    /// or the vocabulary has no token for a word of it nor one for unknown words.
    pub fn encode(&self, text: &str) -> Result<Tokens> {
        super::check("prompt", text)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;
    use crate::error::is_refusal;
    use crate::text::file::LARGEST_FILE_BYTES;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const VOCABULARY: &str =
        r#"{"!": 0, "a": 1, "b": 2, "a</w>": 3, "b</w>": 4, "ab</w>": 5, "<|startoftext|>": 6, "<|endoftext|>": 7}"#;
    const MERGES: &str = "#version: 0.2\na b</w>\n";

    fn clip(config: &str) -> TempDir {
        folder(&[("vocab.json", VOCABULARY), ("merges.txt", MERGES), ("tokenizer_config.json", config)])
    }

    /// The form of the tokenizer of the model in the box.
    fn words() -> Value {
        json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": [
                {"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
                {"id": 1, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
            ],
            "normalizer": {"type": "Sequence", "normalizers": [
                {"type": "NFD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
                {"type": "Replace", "pattern": {"Regex": "[^a-z0-9]+"}, "content": " "}
            ]},
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": null, "decoder": null,
            "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1, "a": 0, "red": 2, "apple": 3, "apples": 3}, "unk_token": "[UNK]"}
        })
    }

    fn described(description: &Value, config: &str) -> TempDir {
        folder(&[("tokenizer.json", &description.to_string()), ("tokenizer_config.json", config)])
    }

    fn error_of(folder: &TempDir) -> String {
        let error = Tokenizer::open(folder.path()).unwrap_err();
        format!("{error:#}").replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn clips_own_files_are_cut_and_padded() {
        let tokenizer = Tokenizer::open(clip(r#"{"model_max_length": 6}"#).path()).unwrap();
        assert_eq!((tokenizer.max_length(), tokenizer.largest_id()), (6, 7));
        let short = tokenizer.encode("AB  a").unwrap();
        assert_eq!(short, Tokens { ids: vec![6, 5, 3, 7, 7, 7], used: 4, truncated: None });
        let long = tokenizer.encode("a b a b ab a").unwrap();
        assert_eq!(long, Tokens { ids: vec![6, 3, 4, 3, 4, 7], used: 6, truncated: Some("ab a".into()) });
        assert_eq!(tokenizer.encode("").unwrap().ids, [6, 7, 7, 7, 7, 7]);
        let longer = tokenizer.with_max_length(8).unwrap();
        assert_eq!(longer.encode("a b a b ab a").unwrap().ids, [6, 3, 4, 3, 4, 5, 3, 7]);
    }

    #[test]
    fn the_padding_may_be_another_token() {
        let tokenizer = Tokenizer::open(clip(r#"{"model_max_length": 5, "pad_token": "!"}"#).path()).unwrap();
        assert_eq!(tokenizer.encode("a").unwrap().ids, [6, 3, 7, 0, 0]);
        assert_eq!(tokenizer.encode("a!").unwrap().ids, [6, 3, 0, 7, 0]);
    }

    #[test]
    fn clip_has_77_ids_where_the_folder_does_not_say() {
        for config in ["{}", r#"{"model_max_length": 1e30}"#, r#"{"model_max_length": null}"#] {
            assert_eq!(Tokenizer::open(clip(config).path()).unwrap().max_length(), 77);
        }
        let bare = folder(&[("vocab.json", VOCABULARY), ("merges.txt", MERGES)]);
        assert_eq!(Tokenizer::open(bare.path()).unwrap().encode("ab").unwrap().ids.len(), 77);
    }

    #[test]
    fn words_are_looked_up_where_the_file_says_so() {
        let folder = described(&words(), r#"{"model_max_length": 4, "pad_token": "[PAD]"}"#);
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        assert_eq!(tokenizer.largest_id(), 3);
        assert_eq!(tokenizer.encode("A réd, Apple!").unwrap(), Tokens { ids: vec![0, 2, 3, 0], used: 3, truncated: None });
        assert_eq!(tokenizer.encode("zebra").unwrap().ids, [1, 0, 0, 0]);
        assert_eq!(tokenizer.encode("").unwrap(), Tokens { ids: vec![0; 4], used: 0, truncated: None });
        let long = tokenizer.encode("red red red apples Blue réd, apple ").unwrap();
        assert_eq!(long, Tokens { ids: vec![2, 2, 2, 3], used: 4, truncated: Some("Blue réd, apple".into()) });
        assert_eq!(tokenizer.with_max_length(2).unwrap().encode("red red red").unwrap().ids, [2, 2]);
    }

    #[test]
    fn cutting_and_padding_in_the_file_give_way_to_the_length() {
        let mut description = words();
        description["truncation"] = json!({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0});
        description["padding"] = json!({
            "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": 0, "pad_id": 5, "pad_type_id": 0, "pad_token": "[PAD]"
        });
        let folder = described(&description, r#"{"model_max_length": 5, "pad_token": "[PAD]"}"#);
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        for text in ["", "red", "red red red", "red red red red red red red"] {
            assert_eq!(tokenizer.encode(text).unwrap().ids.len(), 5);
        }
        // Without a configuration beside it, the file's own length and padding count.
        let tokenizer = Tokenizer::open(described(&description, "{}").path()).unwrap();
        assert_eq!(tokenizer.encode("red apple red").unwrap().ids, [2, 3]);
    }

    #[test]
    fn start_and_end_stay_when_a_text_is_cut() {
        let mut description = words();
        description["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[UNK]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[PAD]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {
                "[UNK]": {"id": "[UNK]", "ids": [1], "tokens": ["[UNK]"]}, "[PAD]": {"id": "[PAD]", "ids": [0], "tokens": ["[PAD]"]}
            }
        });
        let tokenizer =
            Tokenizer::open(described(&description, r#"{"model_max_length": 4, "pad_token": "[PAD]"}"#).path()).unwrap();
        let tokens = tokenizer.encode("red apple red apple").unwrap();
        assert_eq!(tokens, Tokens { ids: vec![1, 2, 3, 0], used: 4, truncated: Some("red apple".into()) });
        assert!(tokenizer.clone().with_max_length(2).is_err());
        assert_eq!(tokenizer.with_max_length(3).unwrap().encode("red red").unwrap().ids, [1, 2, 0]);
    }

    #[test]
    fn both_kinds_in_one_folder_are_read_as_diffusers_does() {
        for (class, first) in [("CLIPTokenizer", 6), ("CLIPTokenizerFast", 1)] {
            let config = json!({"tokenizer_class": class, "model_max_length": 4, "pad_token": "!"}).to_string();
            let mut description = words();
            description["model"]["vocab"]["!"] = json!(4);
            let folder = folder(&[
                ("vocab.json", VOCABULARY),
                ("merges.txt", MERGES),
                ("tokenizer.json", &description.to_string()),
                ("tokenizer_config.json", &config),
            ]);
            assert_eq!(Tokenizer::open(folder.path()).unwrap().encode("ab").unwrap().ids[0], first, "{class}");
        }
    }

    #[test]
    fn refuses_texts_that_are_none() {
        let tokenizer = Tokenizer::open(clip("{}").path()).unwrap();
        let message = |text: &str| {
            let error = tokenizer.encode(text).unwrap_err();
            assert!(is_refusal(&error));
            error.to_string()
        };
        assert_eq!(message("ab\0"), "prompt has a zero character at 2, expected text; remove it");
        assert_eq!(message(&"é".repeat(10_001)), "prompt has 10001 characters, expected at most 10000; shorten it");
        assert!(tokenizer.encode(&"a".repeat(10_000)).is_ok());
    }

    #[test]
    fn names_the_file_that_is_missing_or_broken() {
        assert!(error_of(&folder(&[])).contains("has no tokenizer, expected tokenizer.json, or vocab.json with merges.txt"));
        assert!(error_of(&folder(&[("vocab.json", VOCABULARY)])).contains("has no tokenizer"));
        let own = |vocabulary: &str, merges: &str| error_of(&folder(&[("vocab.json", vocabulary), ("merges.txt", merges)]));
        assert!(own("{", MERGES).starts_with("vocab.json: "));
        assert!(own("[]", MERGES).starts_with("vocab.json: invalid type: sequence"));
        assert!(own(r#"{"a": -1}"#, MERGES).starts_with("vocab.json: invalid value"));
        assert!(own(r#"{"a": 4294967296}"#, MERGES).starts_with("vocab.json: invalid value"));
        assert!(own(r#"{"a": "b"}"#, MERGES).starts_with("vocab.json: invalid type"));
        assert_eq!(own(r#"{"a": 1}"#, MERGES), r#"vocab.json has no token "<|startoftext|>", the `bos_token`"#);
        assert_eq!(own(VOCABULARY, "#version\na b c"), r#"merges.txt: line 2 is "a b c", expected two tokens"#);
        assert_eq!(own(VOCABULARY, "#version\na c"), r#"merges.txt: line 2 names "c", which vocab.json lacks"#);
        assert_eq!(own(VOCABULARY, "#version\nb a"), r#"merges.txt: line 2 names "ba", which vocab.json lacks"#);
        assert_eq!(error_of(&clip(r#"{"pad_token": "?"}"#)), r#"vocab.json has no token "?", the `pad_token`"#);
        assert!(error_of(&clip("[]")).starts_with("tokenizer_config.json: invalid type"));
        assert!(error_of(&clip(&"[".repeat(100_000))).starts_with("tokenizer_config.json: "));
        assert!(error_of(&clip(r#"{"model_max_length": 100000}"#)).contains("`model_max_length` is 100000, expected 1 to 4096"));
        assert!(error_of(&clip(r#"{"model_max_length": 2}"#)).ends_with("tokenizer length is 2, expected 3 to 4096"));

        let not_text = clip("{}");
        fs::write(not_text.path().join("merges.txt"), [0xff, 0xfe]).unwrap();
        assert!(error_of(&not_text).starts_with("merges.txt: invalid utf-8"));
        fs::File::create(not_text.path().join("vocab.json")).unwrap().set_len(LARGEST_FILE_BYTES + 1).unwrap();
        assert_eq!(error_of(&not_text), "vocab.json is larger than 32 MiB");
    }

    #[test]
    fn names_what_is_wrong_with_a_description() {
        let config = r#"{"model_max_length": 4, "pad_token": "[PAD]"}"#;
        let text = |text: &str| error_of(&folder(&[("tokenizer.json", text), ("tokenizer_config.json", config)]));
        for broken in ["", "{", "{}", r#"{"version": "9"}"#, r#"{"version": "1.0", "model": {"type": "Magic"}}"#] {
            assert!(text(broken).starts_with("tokenizer.json"), "{}", text(broken));
        }
        assert_eq!(text("[]"), "tokenizer.json is no object, expected the description of a tokenizer");
        assert!(text(&"[".repeat(100_000)).contains("recursion limit"));
        let without = error_of(&described(&words(), r#"{"model_max_length": 4}"#));
        assert_eq!(without, "tokenizer.json has no padding, expected `pad_token` in tokenizer_config.json beside it");
        let missing = error_of(&described(&words(), r#"{"model_max_length": 4, "pad_token": "x"}"#));
        assert_eq!(missing, r#"tokenizer.json has no token "x", the padding"#);
        let endless = error_of(&described(&words(), r#"{"pad_token": "[PAD]"}"#));
        assert_eq!(endless, "tokenizer.json has no length, expected `model_max_length` in tokenizer_config.json beside it");
    }

    #[test]
    fn a_description_on_which_the_library_panics_is_an_error() {
        let mut description = words();
        description["model"] = json!({
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "longer than a token",
            "end_of_word_suffix": null, "fuse_unk": false, "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]
        });
        let error = error_of(&described(&description, r#"{"model_max_length": 4, "pad_token": "[PAD]"}"#));
        assert!(error.starts_with("tokenizer.json is broken"), "{error}");
    }

    #[test]
    fn flipped_bytes_give_errors_or_ids() {
        let config = r#"{"model_max_length": 4, "pad_token": "[PAD]"}"#;
        let description = words().to_string();
        let mut cases = 0;
        for position in 0..description.len() {
            let mut bytes = description.clone().into_bytes();
            bytes[position] ^= 0x05;
            let folder = folder(&[("tokenizer_config.json", config)]);
            fs::write(folder.path().join("tokenizer.json"), bytes).unwrap();
            if let Ok(tokenizer) = Tokenizer::open(folder.path())
                && let Ok(tokens) = tokenizer.encode("a red apple and more")
            {
                assert_eq!(tokens.ids.len(), 4);
            }
            cases += 1;
        }
        assert!(cases > 500, "{cases} cases");
    }
}
