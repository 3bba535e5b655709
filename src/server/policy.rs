//! Which prompts are not carried out: blocked words and patterns, by language.
//!
//! A policy that cannot be read or has an error in it is no policy, and the server does not start with it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use regex::{Regex, RegexSet, RegexSetBuilder};
use serde::Deserialize;
use unicode_normalization::UnicodeNormalization;

use crate::text::{Part, parts};
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
                let (before, behind) = (border(word.trim_start().chars().next()), border(word.trim_end().chars().next_back()));
                patterns.push(format!(r"(?:^|{before})(?:{})(?:{behind}|$)", parts.join(r"[\s_-]+")));
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

    /// Whether `prompt` may be carried out, as it stands and as a model reads it whose brackets weigh words.
    #[must_use]
    pub fn allows(&self, prompt: &str) -> bool {
        // A pattern may name a letter that folding takes away.
        let is_blocked = |text: &str| self.rules.is_match(text) || self.rules.is_match(&folded(text));
        !is_blocked(prompt) && !readings(prompt).iter().any(|text| is_blocked(text))
    }

    /// Whether `negative` may be carried out, which names what a picture shall not show: blocked words are in their place there. A weight
    /// below nothing turns it into a prompt, and of several words the others with it.
    #[must_use]
    pub fn allows_negative(&self, negative: &str) -> bool {
        !is_turned(negative) || self.allows(negative)
    }
}

/// Whether any word of `prompt` weighs less than nothing: what the prompt says of it is turned round.
fn is_turned(prompt: &str) -> bool {
    let is_below = |part: &Part| matches!(part, Part::Text(text, weight) if *weight < 0.0 && !text.trim().is_empty());
    parts("negative prompt", prompt).is_ok_and(|parts| parts.iter().any(is_below))
}

/// `prompt` without its brackets: what they parted as one text, and as words. A bracket may stand within a word and between two.
fn readings(prompt: &str) -> Vec<String> {
    // With a weight that is none it is refused, or its brackets are letters.
    let Ok(parts) = parts("prompt", prompt) else { return Vec::new() };
    let texts: Vec<&str> = parts.iter().map(|part| if let Part::Text(text, _) = part { text } else { " " }).collect();
    vec![texts.concat(), texts.join(" ")]
}

/// What stands beside a word that begins or ends with `letter`: tokenizers part letters from digits and from what joins words.
fn border(letter: Option<char>) -> &'static str {
    if letter.is_some_and(char::is_numeric) { r"[^\p{N}]" } else { r"[^\p{L}]" }
}

/// In small letters of the plainest form, as tokenizers read wide, raised and joined ones (NFKC), without the characters that nobody sees and
/// that would part a word.
fn folded(text: &str) -> String {
    // Of what Unicode lets a program ignore (Default_Ignorable_Code_Point), all that is assigned.
    let unseen = |letter: &char| {
        matches!(letter, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
    };
    text.nfkc().filter(|letter| !unseen(letter)).flat_map(char::to_lowercase).nfkc().collect()
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
        for prompt in [
            "a gun",
            "GUN!",
            "g\u{200b}un",
            "a dead  body",
            "dead-body",
            "eine WAFFE",
            "er schiesst",
            "Schießstand",
            "ｇｕｎ",
            "𝐠𝐮𝐧",
            "ᵍun",
            "ⓖⓤⓝ",
        ] {
            assert!(!policy.allows(prompt), "{prompt}");
        }
        // As models read them.
        let read = [
            "g()un",
            "g(un:1.0)",
            "g(un:1.3)",
            "[g]un",
            "dead (body)",
            "dead(body)",
            "(dead) BREAK (body:0.5)",
            "gun1",
            "_gun_",
            "2gun",
        ];
        for prompt in read {
            assert!(!policy.allows(prompt), "{prompt}");
        }
        for prompt in ["", "a gunnel", "begun", "a body", "a red apple", "a (gunnel:1.2)", "(a red:1000) apple"] {
            assert!(policy.allows(prompt), "{prompt}");
        }
    }

    #[test]
    fn blocked_words_may_be_asked_not_to_be_shown_and_no_more() {
        let policy = Policy::parse("[en]\nwords = [\"gun\"]").unwrap();
        for negative in ["", "gun", "(gun:1.3), blood", "[gun]", "(gun:0)", "((gun:-1):-1)", "(tree:-1)", "gun, ( :-1)"] {
            assert!(policy.allows_negative(negative), "{negative}");
        }
        for negative in
            ["(gun:-1)", "( a gun :-0.5)", "g(un:-1)", "((gun):-1)", "([gun]:-2), tree", "(tree:-50), gun", "gun BREAK (tree:-1)"]
        {
            assert!(!policy.allows_negative(negative), "{negative}");
        }
    }

    #[test]
    fn a_word_of_digits_is_no_part_of_a_number() {
        let policy = Policy::parse("[en]\nwords = [\"88\"]").unwrap();
        for (prompt, is_allowed) in [("the 88", false), ("v88x", false), ("1988", true), ("880", true)] {
            assert_eq!(policy.allows(prompt), is_allowed, "{prompt}");
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

    #[test]
    fn a_pattern_may_name_a_letter_of_another_form() {
        let policy = Policy::parse("[any]\npatterns = ['[！-～]', '™', 'ﬁ', '①']").unwrap();
        for prompt in ["a gun！", "Kiln™", "ﬁsh", "number ①"] {
            assert!(!policy.allows(prompt), "{prompt}");
        }
        assert!(policy.allows("a fish, number 1!"));
    }
}
