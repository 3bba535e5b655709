//! Weights of words in a prompt, as Stable Diffusion web UI reads them.
//!
//! `(a)` makes `a` 1.1 times as heavy, `[a]` 1/1.1 times, `(a:1.3)` 1.3 times; brackets nest and multiply. A backslash makes a bracket a
//! letter. `BREAK` begins the next chunk. A bracket that nothing closes holds for the rest of the prompt; one that closes nothing is a
//! letter. Web UI takes a `BREAK` within brackets for a word of a negative weight; here it breaks there too.
//!
//! In: a prompt. Out: its parts. Not here: tokens, and what a weight does to an embedding.

use anyhow::Result;

use crate::refuse;

/// What a bracket without a number multiplies with.
const BRACKET: f64 = 1.1;
/// Beyond this an embedding is nothing that a model has seen, long before it overflows.
const LARGEST_WEIGHT: f64 = 100.0;
/// Begins the next chunk.
const BREAK: &str = "BREAK";

/// A part of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A text without brackets of meaning, and how heavy it is; 1 is as it was trained.
    Text(String, f32),
    /// The next chunk begins.
    Break,
}

/// Cuts `prompt` at its brackets; `what` is what messages call it. A prompt without brackets and breaks is one part, as it stands.
///
/// # Errors
/// A [`Refusal`](crate::error::Refusal): a weight is beyond 100, or no number.
pub fn parts(what: &str, prompt: &str) -> Result<Vec<Part>> {
    if !prompt.contains(['(', ')', '[', ']']) && !prompt.contains(BREAK) {
        return Ok(vec![Part::Text(prompt.to_owned(), 1.0)]);
    }
    let mut reader = Reader::default();
    let mut rest = prompt;
    while let Some(letter) = rest.chars().next() {
        let after = &rest[letter.len_utf8()..];
        rest = match letter {
            '\\' => match after.chars().next().filter(|next| "()[]\\".contains(*next)) {
                Some(next) => {
                    reader.found.push((Some(next.to_string()), 1.0));
                    &after[next.len_utf8()..]
                }
                None => reader.text("\\", after),
            },
            '(' => reader.open(true, after),
            '[' => reader.open(false, after),
            ':' => match number(after) {
                Some((weight, length)) if !reader.round.is_empty() => {
                    reader.close(true, weight);
                    &after[length..]
                }
                Some((_, length)) => reader.text(&rest[..1 + length], &after[length..]),
                None if !reader.round.is_empty() => {
                    if let Some(wrong) = no_weight(after) {
                        refuse!(
                            "{what}: a word has the weight `{wrong}`, expected a number such as 1.3, at most {LARGEST_WEIGHT}; \
                             --plain-prompt reads brackets as letters"
                        );
                    }
                    reader.text(":", after)
                }
                None => reader.text(":", after),
            },
            ')' if !reader.round.is_empty() => reader.closed(true, BRACKET, after),
            ']' if !reader.square.is_empty() => reader.closed(false, 1.0 / BRACKET, after),
            ')' | ']' => reader.text(&rest[..1], after),
            _ => {
                let end = rest.find(['\\', '(', ')', '[', ']', ':']).unwrap_or(rest.len());
                reader.text(&rest[..end], &rest[end..])
            }
        };
    }
    reader.parts(what)
}

/// Whether `prompt` has a weight in numbers, such as `(sun:1.3)`: nobody writes that without meaning it.
#[must_use]
pub fn has_numbers(prompt: &str) -> bool {
    prompt.match_indices(':').any(|(at, _)| number(&prompt[at + 1..]).is_some() && prompt[..at].contains('('))
}

/// What was read, and the brackets that are open: each with the index of the first part within it.
#[derive(Default)]
struct Reader {
    found: Vec<(Option<String>, f64)>,
    round: Vec<usize>,
    square: Vec<usize>,
}

impl Reader {
    fn open<'a>(&mut self, round: bool, after: &'a str) -> &'a str {
        let begins = self.found.len();
        if round { &mut self.round } else { &mut self.square }.push(begins);
        after
    }

    fn close(&mut self, round: bool, weight: f64) {
        let begins = if round { self.round.pop() } else { self.square.pop() };
        for (_, so_far) in self.found.iter_mut().skip(begins.unwrap_or(usize::MAX)) {
            *so_far *= weight;
        }
    }

    fn closed<'a>(&mut self, round: bool, weight: f64, after: &'a str) -> &'a str {
        self.close(round, weight);
        after
    }

    /// Adds a text, cut at its breaks; returns what comes after it.
    fn text<'a>(&mut self, text: &str, after: &'a str) -> &'a str {
        let mut begins = 0;
        for (at, _) in text.match_indices(BREAK) {
            let end = at + BREAK.len();
            let joins = |letter: char| letter.is_alphanumeric() || letter == '_';
            if at < begins || text[..at].ends_with(joins) || text[end..].starts_with(joins) {
                continue;
            }
            self.found.push((Some(text[begins..at].trim_end().to_owned()), 1.0));
            self.found.push((None, 1.0));
            begins = text.len() - text[end..].trim_start().len();
        }
        self.found.push((Some(text[begins..].to_owned()), 1.0));
        after
    }

    /// What was read, neighbours of one weight joined.
    fn parts(mut self, what: &str) -> Result<Vec<Part>> {
        while !self.round.is_empty() {
            self.close(true, BRACKET);
        }
        while !self.square.is_empty() {
            self.close(false, 1.0 / BRACKET);
        }
        let mut parts: Vec<(Option<String>, f64)> = Vec::new();
        for (text, weight) in self.found {
            match (parts.last_mut(), text) {
                (Some((Some(before), of_before)), Some(text)) if *of_before == weight => before.push_str(&text),
                (_, text) => parts.push((text, weight)),
            }
        }
        parts
            .into_iter()
            .map(|(text, weight)| {
                let Some(text) = text else { return Ok(Part::Break) };
                if !text.is_empty() && (!weight.is_finite() || weight.abs() > LARGEST_WEIGHT) {
                    let shown: String = text.trim().chars().take(40).collect();
                    refuse!(
                        "{what}: `{shown}` has the weight {weight:.4}, expected at most {LARGEST_WEIGHT}; --plain-prompt reads \
                         brackets as letters"
                    );
                }
                #[expect(clippy::cast_possible_truncation, reason = "embeddings are f32")]
                Ok(Part::Text(text, weight as f32))
            })
            .collect()
    }
}

/// Reads what stands behind a colon where it is a weight, such as `1.3)`; with its length in bytes.
fn number(text: &str) -> Option<(f64, usize)> {
    let (inner, _) = text.split_once(')')?;
    let digits = inner.trim();
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    let is_number = !unsigned.is_empty() && unsigned.chars().all(|letter| letter == '.' || letter.is_ascii_digit());
    let value = digits.parse().ok().filter(|_| is_number)?;
    Some((value, inner.len() + 1))
}

/// What stands behind a colon where it is a number to a computer, and none that weighs words: `nan)`, `1e9)`.
fn no_weight(text: &str) -> Option<&str> {
    let (inner, _) = text.split_once(')')?;
    inner.trim().parse::<f64>().ok().map(|_| inner.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::is_refusal;

    fn read(prompt: &str) -> Vec<(String, f32)> {
        let parts = parts("prompt", prompt).unwrap();
        let shown = |part| match part {
            Part::Text(text, weight) => (text, weight),
            Part::Break => ("|".to_owned(), 0.0),
        };
        parts.into_iter().map(shown).collect()
    }

    #[test]
    fn brackets_weigh_what_stands_in_them() {
        let cases: [(&str, &[(&str, f32)]); 16] = [
            ("a sun", &[("a sun", 1.0)]),
            ("", &[("", 1.0)]),
            (r"a \ b: c", &[(r"a \ b: c", 1.0)]),
            ("a (sun)", &[("a ", 1.0), ("sun", 1.1)]),
            ("a (sun:1.3), red", &[("a ", 1.0), ("sun", 1.3), (", red", 1.0)]),
            ("(sun : +.5 )", &[("sun ", 0.5)]),
            ("((sun))", &[("sun", 1.1 * 1.1)]),
            ("[sun]", &[("sun", 1.0 / 1.1)]),
            ("(a [b]:2)", &[("a ", 2.0), ("b", 2.0 / 1.1)]),
            (r"\(a\) \[b\] (c)", &[("(a) [b] ", 1.0), ("c", 1.1)]),
            ("(a [b", &[("a ", 1.1), ("b", 1.0)]),
            ("a) b] :1.3) :", &[("a) b] :1.3) :", 1.0)]),
            ("(see: below)", &[("see: below", 1.1)]),
            ("(1.2.3:1.2.3)", &[("1.2.3:1.2.3", 1.1)]),
            ("a BREAK b BREAKER", &[("a", 1.0), ("|", 0.0), ("b BREAKER", 1.0)]),
            ("(a BREAK b:2)", &[("a", 2.0), ("|", 0.0), ("b", 2.0)]),
        ];
        for (prompt, expected) in cases {
            let found = read(prompt);
            let same = found.len() == expected.len()
                && found
                    .iter()
                    .zip(expected)
                    .all(|(found, expected)| found.0 == expected.0 && (found.1 - expected.1).abs() < 1e-6);
            assert!(same, "{prompt:?} is {found:?}, expected {expected:?}");
        }
    }

    #[test]
    fn weights_beyond_reason_are_refused_with_it() {
        let deep = "(".repeat(5000);
        for (prompt, reason) in [
            ("(a:1000000000)", "`a` has the weight 1000000000.0000, expected at most 100"),
            ("(a:-101)", "has the weight -101.0000"),
            ("((a:99):99)", "has the weight 9801.0000"),
            (&format!("{deep}a"), "expected at most 100"),
            ("(a:nan)", "a word has the weight `nan`, expected a number such as 1.3"),
            ("(a:-inf)", "the weight `-inf`"),
            ("(a: 1e9 )", "the weight `1e9`"),
            (&format!("(a:{})", "9".repeat(400)), "expected at most 100"),
        ] {
            let error = parts("prompt", prompt).unwrap_err();
            assert!(is_refusal(&error) && error.to_string().contains(reason), "{error}");
        }
    }

    #[test]
    fn weights_in_numbers_are_seen() {
        assert!(has_numbers("a (sun:1.3)") && has_numbers("(a:1)"));
        assert!(!has_numbers("a (sun)") && !has_numbers("at 10:30) or (so") && !has_numbers("a: b") && !has_numbers("(a: b)"));
    }

    proptest! {
        #[test]
        fn any_prompt_is_read_or_refused(prompt in r"[a-z ()\[\]\\:.0-9é,]{0,60}") {
            if let Ok(parts) = parts("prompt", &prompt) {
                let kept: usize = parts.iter().map(|part| if let Part::Text(text, _) = part { text.len() } else { 0 }).sum();
                prop_assert!(kept <= prompt.len());
            }
        }
    }
}
