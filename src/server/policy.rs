//! Which prompts are not carried out: blocked words and patterns, by language.
//!
//! A policy that cannot be read or has an error in it is no policy, and the server does not start with it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use regex::{Regex, RegexSet, RegexSetBuilder};
use serde::Deserialize;

use crate::{refusal, refuse};

const LARGEST_FILE_BYTES: u64 = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    patterns: Vec<String>,
}

/// Blocked words and patterns; those of every language apply to every prompt, as nobody says which language a prompt is in.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: RegexSet,
}

impl Policy {
    /// Reads the TOML file `path`: a table for each language, with `words` (whole words, in capitals or not) and `patterns` (regular
    /// expressions).
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): it cannot be read, is larger than a megabyte, is no such TOML, blocks nothing, has an empty
    /// word or a pattern that is none.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let about = std::fs::metadata(path).map_err(|error| refusal!("policy {name}: {error}"))?;
        if !about.is_file() || about.len() > LARGEST_FILE_BYTES {
            refuse!("policy {name}: is no file of at most {LARGEST_FILE_BYTES} bytes");
        }
        let text = std::fs::read_to_string(path).map_err(|error| refusal!("policy {name}: {error}"))?;
        Self::parse(&text).with_context(|| format!("policy {name}"))
    }

    /// Reads the text of a policy.
    ///
    /// # Errors
    /// As [`Policy::open`].
    pub fn parse(text: &str) -> Result<Self> {
        let languages: BTreeMap<String, Rules> = toml::from_str(text).map_err(|error| refusal!("{error}"))?;
        let mut patterns = Vec::new();
        for (language, rules) in &languages {
            for word in &rules.words {
                if word.trim().is_empty() {
                    refuse!("{language}: a word is empty, and would block every prompt");
                }
                let parts: Vec<String> = word.split_whitespace().map(|part| regex::escape(&folded(part))).collect();
                patterns.push(format!(r"(?:^|[^\w])(?:{})(?:[^\w]|$)", parts.join(r"[\s_-]+")));
            }
            for pattern in &rules.patterns {
                let read = Regex::new(&format!("(?i){pattern}")).map_err(|error| refusal!("{language}: {error}"))?;
                if read.is_match("") {
                    refuse!("{language}: pattern {pattern:?} blocks every prompt");
                }
                patterns.push(pattern.clone());
            }
        }
        if patterns.is_empty() {
            refuse!("blocks nothing, expected tables such as [en] with words = [\"…\"] or patterns = [\"…\"]");
        }
        let rules = RegexSetBuilder::new(&patterns).case_insensitive(true).build();
        Ok(Self { rules: rules.map_err(|error| refusal!("{error}"))? })
    }

    /// Whether `prompt` may be carried out.
    #[must_use]
    pub fn allows(&self, prompt: &str) -> bool {
        !self.rules.is_match(&folded(prompt))
    }
}

/// In small letters, without the characters that nobody sees and that would part a word.
fn folded(text: &str) -> String {
    let unseen = |letter: &char| matches!(letter, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}');
    text.chars().filter(|letter| !unseen(letter)).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    #[test]
    fn whole_words_and_patterns_of_every_language_are_blocked() {
        let policy =
            Policy::parse("[en]\nwords = [\"gun\", \"dead body\"]\n[de]\nwords = [\"Waffe\"]\npatterns = ['schie(ß|ss)']")
                .unwrap();
        for prompt in ["a gun", "GUN!", "g\u{200b}un", "a dead  body", "dead-body", "eine WAFFE", "er schiesst", "Schießstand"] {
            assert!(!policy.allows(prompt), "{prompt}");
        }
        for prompt in ["", "a gunnel", "begun", "a body", "a red apple"] {
            assert!(policy.allows(prompt), "{prompt}");
        }
    }

    #[test]
    fn a_policy_with_an_error_is_none() {
        let mut cases = 0;
        for text in [
            "",
            "words = 3",
            "[en]\nword = [\"x\"]",
            "[en]\nwords = [\" \"]",
            "[en]\npatterns = [\"(\"]",
            "[en]\npatterns = [\"x*\"]",
            "[en]\nwords = []",
        ] {
            assert!(is_refusal(&Policy::parse(text).expect_err(text)), "{text}");
            cases += 1;
        }
        assert_eq!(cases, 7);
        assert!(is_refusal(&Policy::open(Path::new("no such file")).unwrap_err()));
    }
}
