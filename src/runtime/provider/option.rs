//! Options of a provider: which keys there are, what each means, which values it takes.

use std::path::Path;

/// Options are short; a longer one is no option.
const LONGEST_VALUE: usize = 4096;

/// One key that a provider takes.
#[derive(Debug)]
pub struct OptionKey {
    /// The key, as ONNX Runtime's documentation has it.
    pub key: &'static str,
    /// What it does.
    pub meaning: &'static str,
    /// What it takes.
    pub values: Values,
}

/// Values that an option takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values {
    /// On or off.
    Switch,
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A folder, which is made where it is not there.
    Folder,
    /// A file that is there.
    File,
    /// A library: a file that is there, or a name that the system's loader finds.
    Library,
    /// Any words, whose form the provider checks.
    Text,
}

impl OptionKey {
    /// Checks `value` and writes it as the provider wants it: a switch as the first of `switch` for off, the second for on.
    ///
    /// # Errors
    /// In a few words: the value is empty, too long, holds control characters, or is none of those that the key takes.
    pub(super) fn check(&self, value: &str, switch: [&str; 2]) -> Result<String, String> {
        if value.is_empty() || value.len() > LONGEST_VALUE {
            return Err(format!("has {} bytes, expected 1 to {LONGEST_VALUE}", value.len()));
        }
        if value.chars().any(char::is_control) {
            return Err("holds control characters".into());
        }
        match self.values {
            Values::Switch => match value.to_ascii_lowercase().as_str() {
                "0" | "false" | "off" => Ok(switch[0].into()),
                "1" | "true" | "on" => Ok(switch[1].into()),
                _ => Err(format!("is `{value}`, expected 1 or 0")),
            },
            Values::Integer(least, most) => match value.parse::<i64>() {
                Ok(number) if (least..=most).contains(&number) => Ok(number.to_string()),
                _ => Err(format!("is `{value}`, expected a whole number from {least} to {most}")),
            },
            Values::OneOf(words) => words
                .iter()
                .find(|word| word.eq_ignore_ascii_case(value))
                .map(|word| (*word).to_owned())
                .ok_or_else(|| format!("is `{value}`, expected {}", words.join(", "))),
            Values::Folder if Path::new(value).exists() && !Path::new(value).is_dir() => {
                Err(format!("is `{value}`, which is no folder"))
            }
            Values::File if !Path::new(value).is_file() => Err(format!("is `{value}`, and there is no such file")),
            Values::Library if Path::new(value).components().count() > 1 => {
                super::super::library::check_file(Path::new(value)).map_err(|why| format!("is `{value}`, which {why}"))?;
                Ok(value.to_owned())
            }
            Values::Folder | Values::File | Values::Library | Values::Text => Ok(value.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: Values, value: &str) -> Result<String, String> {
        OptionKey { key: "k", meaning: "", values }.check(value, ["false", "true"])
    }

    #[test]
    fn values_are_checked_by_their_kind() {
        assert_eq!(check(Values::Switch, "ON"), Ok("true".into()));
        assert_eq!(check(Values::Switch, "0"), Ok("false".into()));
        assert_eq!(check(Values::Integer(0, 7), "07"), Ok("7".into()));
        assert_eq!(check(Values::OneOf(&["FP16", "FP32"]), "fp16"), Ok("FP16".into()));
        assert_eq!(check(Values::Text, "HETERO:GPU,CPU"), Ok("HETERO:GPU,CPU".into()));
        assert_eq!(check(Values::Library, "libQnnHtp.so"), Ok("libQnnHtp.so".into()));
        let refused: [(Values, &str); 16] = [
            (Values::Switch, "maybe"),
            (Values::Switch, ""),
            (Values::Integer(0, 7), "8"),
            (Values::Integer(0, 7), "-1"),
            (Values::Integer(0, 7), "NaN"),
            (Values::Integer(0, 7), "inf"),
            (Values::Integer(0, 7), "1e3"),
            (Values::Integer(0, 7), "99999999999999999999"),
            (Values::OneOf(&["a"]), "b"),
            (Values::Text, ""),
            (Values::Text, "a\0b"),
            (Values::Text, "a\nb"),
            (Values::Folder, "Cargo.toml"),
            (Values::File, "no/such/file"),
            (Values::Library, "../no/such/library.so"),
            (Values::Library, "src/lib.rs/x.so"),
        ];
        for (values, value) in refused {
            assert!(check(values, value).is_err(), "{values:?} took {value:?}");
        }
        assert!(check(Values::Text, &"a".repeat(LONGEST_VALUE + 1)).is_err());
    }
}
