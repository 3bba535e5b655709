//! What `tokenizer_config.json` and `special_tokens_map.json` say.
//!
//! In: the folder of a tokenizer; both files may be missing. Out: the length of a text and the tokens with a meaning. What is not
//! needed is not looked at, since exports carry a great many keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::file::read_json;

/// The settings of one tokenizer.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    path: PathBuf,
    config: Map<String, Value>,
    special: Map<String, Value>,
}

impl Settings {
    /// The longest length that is believed.
    pub(super) const LONGEST: usize = 4096;
    /// Exporters write 10³⁰ where they know of no limit.
    const UNLIMITED: f64 = 1e9;
    /// The most tokens that are believed to be listed; each is looked for at every letter of a prompt.
    const MOST_ADDED: usize = 1000;

    /// Reads both files where they are there.
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { read_json(&path) } else { Ok(Map::new()) }
        };
        Ok(Self {
            path: folder.join("tokenizer_config.json"),
            config: read("tokenizer_config.json")?,
            special: read("special_tokens_map.json")?,
        })
    }

    /// Whether the folder names CLIP's tokenizer in its slow form, the one that reads `vocab.json`.
    pub(super) fn is_clip_class(&self) -> bool {
        self.class() == Some("CLIPTokenizer")
    }

    fn class(&self) -> Option<&str> {
        self.config.get("tokenizer_class").and_then(Value::as_str)
    }

    /// Gives `model_max_length`; `None` where it is missing or means that there is no limit.
    pub(super) fn max_length(&self) -> Result<Option<usize>> {
        let Some(value) = self.config.get("model_max_length").filter(|value| !value.is_null()) else {
            // CLIP's position table has this length in every published model.
            return Ok(self.class().is_some_and(|class| class.starts_with("CLIPTokenizer")).then_some(77));
        };
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 1.0);
        match number {
            Some(number) if number >= Self::UNLIMITED => Ok(None),
            // Checked to be a small whole number.
            Some(number) if number <= Self::LONGEST as f64 => Ok(Some(number as usize)),
            _ => bail!("{}: `model_max_length` is {}, expected 1 to {}", self.path.display(), brief(value), Self::LONGEST),
        }
    }

    /// Whether the configuration says that there is no limit.
    pub(super) fn is_unlimited(&self) -> bool {
        self.config.get("model_max_length").and_then(Value::as_f64).is_some_and(|number| number >= Self::UNLIMITED)
    }

    /// Gives the token in the role `key`, such as `pad_token`.
    ///
    /// It is a string or an object with `content`. Where the configuration lists its tokens by number, it comes first; in older
    /// folders, which do not, `special_tokens_map.json` does.
    pub(super) fn token(&self, key: &str) -> Result<Option<String>> {
        let files = if self.config.contains_key("added_tokens_decoder") {
            [&self.config, &self.special]
        } else {
            [&self.special, &self.config]
        };
        match files.into_iter().find_map(|file| file.get(key).filter(|value| !value.is_null())) {
            None => Ok(None),
            Some(value) => match content(value) {
                Some(token) => Ok(Some(token.to_owned())),
                None => bail!("{}: `{key}` is {}, expected a token", self.path.display(), brief(value)),
            },
        }
    }

    /// Gives the tokens that the configuration lists by number.
    pub(super) fn added(&self) -> Result<BTreeMap<String, u32>> {
        let broken = |value: &Value| {
            anyhow::anyhow!("{}: `added_tokens_decoder` has {}, expected tokens by number", self.path.display(), brief(value))
        };
        let Some(value) = self.config.get("added_tokens_decoder").filter(|value| !value.is_null()) else {
            return Ok(BTreeMap::new());
        };
        let listed = value.as_object().ok_or_else(|| broken(value))?;
        if listed.len() > Self::MOST_ADDED {
            bail!(
                "{}: `added_tokens_decoder` has {} tokens, expected at most {}",
                self.path.display(),
                listed.len(),
                Self::MOST_ADDED
            );
        }
        listed
            .iter()
            .map(|(number, token)| match (number.parse(), content(token)) {
                (Ok(number), Some(token)) => Ok((token.to_owned(), number)),
                _ => Err(broken(&Value::from(number.as_str()))),
            })
            .collect()
    }
}

fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str()).filter(|token| !token.is_empty())
}

/// Shows a value of a hostile file without filling the screen.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(config: Value, special: Value) -> Settings {
        let (Value::Object(config), Value::Object(special)) = (config, special) else { panic!("both are objects") };
        Settings { path: "c.json".into(), config, special }
    }

    #[test]
    fn a_length_is_believed_up_to_4096() {
        let length = |value: Value| settings(json!({ "model_max_length": value }), json!({})).max_length();
        for (value, expected) in [(json!(77), Some(77)), (json!(77.0), Some(77)), (json!(4096), Some(4096)), (json!(1e30), None)]
        {
            assert_eq!(length(value).unwrap(), expected);
        }
        // As transformers writes it, with all its digits.
        assert_eq!(length(serde_json::from_str("1000000000000000019884624838656").unwrap()).unwrap(), None);
        for value in [json!(0), json!(-1), json!(1.5), json!(4097), json!("77"), json!([1]), json!(true)] {
            let error = length(value.clone()).unwrap_err().to_string();
            assert_eq!(error, format!("c.json: `model_max_length` is {value}, expected 1 to 4096"));
        }
        assert_eq!(settings(json!({}), json!({})).max_length().unwrap(), None);
        assert_eq!(settings(json!({"tokenizer_class": "CLIPTokenizerFast"}), json!({})).max_length().unwrap(), Some(77));
    }

    #[test]
    fn a_token_is_a_string_or_an_object() {
        let both = settings(json!({"pad_token": "a", "unk_token": {"content": "u"}}), json!({"pad_token": {"content": "!"}}));
        assert_eq!(both.token("pad_token").unwrap().as_deref(), Some("!"));
        assert_eq!(both.token("unk_token").unwrap().as_deref(), Some("u"));
        assert_eq!(both.token("bos_token").unwrap(), None);
        let listed = settings(json!({"pad_token": "a", "added_tokens_decoder": {}}), json!({"pad_token": "!"}));
        assert_eq!(listed.token("pad_token").unwrap().as_deref(), Some("a"));
        for wrong in [json!(3), json!(""), json!(["!"]), json!({"content": 3})] {
            assert!(settings(json!({ "pad_token": wrong }), json!({})).token("pad_token").is_err());
        }
        let long = settings(json!({"pad_token": vec![1; 1000]}), json!({})).token("pad_token").unwrap_err().to_string();
        assert!(long.chars().count() < 120, "{long}");
    }

    #[test]
    fn listed_tokens_have_numbers() {
        let listed = |value: Value| settings(json!({ "added_tokens_decoder": value }), json!({})).added();
        assert_eq!(listed(json!({"7": {"content": "<x>"}})).unwrap().get("<x>"), Some(&7));
        assert!(listed(Value::Null).unwrap().is_empty());
        for wrong in [json!([]), json!({"seven": {"content": "x"}}), json!({"-1": {"content": "x"}}), json!({"7": {}})] {
            assert!(listed(wrong).is_err());
        }
        let many: Map<String, Value> =
            (0..1001).map(|number| (number.to_string(), json!({"content": format!("<{number}>")}))).collect();
        assert!(listed(many.into()).unwrap_err().to_string().ends_with("has 1001 tokens, expected at most 1000"));
    }
}
