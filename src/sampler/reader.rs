//! Reading one checked value at a time out of a scheduler configuration.
//!
//! In: a JSON object and the class that reads it. Out: a typed value, the default where the key is missing or not the
//! class's, or an error that names the key, what was found and what was expected.
//! Not here: the keys themselves (`kind`, `defaults`).

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use super::kind::Kind;
use super::settings::{Word, spelled};

/// Reads the keys that one diffusers class takes out of a configuration object.
pub(super) struct Reader<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) kind: Kind,
}

impl Reader<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        if self.kind.takes(key) { self.object.get(key) } else { None }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            // Python takes `None` for false.
            Some(Value::Null) => Ok(false),
            Some(other) => bail!("`{key}` is {}, expected true or false", shown(other)),
        }
    }

    /// A number for which `accepts` holds; `expected` says so in words.
    pub(super) fn number(&self, key: &str, default: f64, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<f64> {
        match self.value(key) {
            None => Ok(default),
            Some(found) => match number(found) {
                Some(number) if accepts(number) => Ok(number),
                _ => bail!("`{key}` is {}, expected {expected}", shown(found)),
            },
        }
    }

    /// A number, or nothing where the key is missing or null.
    pub(super) fn optional_number(&self, key: &str, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<Option<f64>> {
        if self.kind.takes(key) { self.kept_number(key, expected, accepts) } else { Ok(None) }
    }

    /// As [`Reader::optional_number`] for a key that the class does not take but uses where it is there.
    pub(super) fn kept_number(&self, key: &str, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<Option<f64>> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(found) => match number(found) {
                Some(number) if accepts(number) => Ok(Some(number)),
                _ => bail!("`{key}` is {}, expected {expected} or null", shown(found)),
            },
        }
    }

    pub(super) fn whole(&self, key: &str, default: usize, smallest: usize, largest: usize) -> Result<usize> {
        match self.value(key) {
            None => Ok(default),
            Some(found) => match found.as_u64().and_then(|number| usize::try_from(number).ok()) {
                Some(number) if (smallest..=largest).contains(&number) => Ok(number),
                _ => bail!("`{key}` is {}, expected a whole number from {smallest} to {largest}", shown(found)),
            },
        }
    }

    /// One of the `allowed` words.
    pub(super) fn word<W: Word>(&self, key: &str, default: W, allowed: &[W]) -> Result<W> {
        let Some(found) = self.value(key) else { return Ok(default) };
        let word = found.as_str().and_then(|text| W::WORDS.iter().find(|(word, _)| *word == text)).map(|(_, value)| *value);
        match word {
            Some(value) if allowed.contains(&value) => Ok(value),
            _ => bail!("`{key}` is {}, expected one of {}", shown(found), spelled(allowed)),
        }
    }

    pub(super) fn numbers(&self, key: &str, expected: &str, accepts: impl Fn(f64) -> bool) -> Result<Option<Vec<f64>>> {
        let items = match self.value(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(other) => bail!("`{key}` is {}, expected a list of {expected} or null", shown(other)),
        };
        let mut numbers = Vec::with_capacity(items.len());
        for (position, item) in items.iter().enumerate() {
            match number(item) {
                Some(number) if accepts(number) => numbers.push(number),
                _ => bail!("`{key}[{position}]` is {}, expected {expected}", shown(item)),
            }
        }
        Ok(Some(numbers))
    }

    /// The value as it stands in the file, where the class takes the key.
    pub(super) fn value_of(&self, key: &str) -> Option<&Value> {
        self.value(key)
    }

    pub(super) fn must_be_null(&self, key: &str, reason: &str) -> Result<()> {
        match self.value(key) {
            None | Some(Value::Null) => Ok(()),
            Some(other) => bail!("`{key}` is {}, expected null: {reason}", shown(other)),
        }
    }
}

/// Reads a number; the words that Python writes for the infinite ones count too, since JSON has no spelling for them.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "-Infinity" | "-inf" => Some(f64::NEG_INFINITY),
            "Infinity" | "inf" => Some(f64::INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// Spells `value` for a message, cut to a length that a line can hold.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Array(items) if items.len() > 8 => format!("a list of {} values", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() <= LONGEST => format!("`{text}`"),
        Value::String(text) => format!("`{}…`", text.chars().take(LONGEST).collect::<String>()),
        other => {
            let text = other.to_string();
            if text.chars().count() <= LONGEST { text } else { format!("{}…", text.chars().take(LONGEST).collect::<String>()) }
        }
    }
}

/// Puts quotes around the words `NaN`, `Infinity` and `-Infinity` wherever they stand outside a string.
pub(super) fn quote_python_numbers(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut rest = text;
    let mut inside = false;
    while let Some(first) = rest.chars().next() {
        let word = if inside { None } else { ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| rest.starts_with(word)) };
        let taken = match word {
            Some(word) => {
                quoted.push('"');
                quoted.push_str(word);
                quoted.push('"');
                word.len()
            }
            None => {
                let mut taken = first.len_utf8();
                match first {
                    '"' => inside = !inside,
                    '\\' if inside => taken += rest[taken..].chars().next().map_or(0, char::len_utf8),
                    _ => {}
                }
                quoted.push_str(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    quoted
}
