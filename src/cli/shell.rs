//! Values as a POSIX shell reads them back.

/// `value` as one word of a POSIX shell, quoted where it has to be.
pub(super) fn quoted(value: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./,:=@%+".contains(letter);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    format!("'{}'", value.replace('\'', "'\\''"))
}

/// The path `value` as one word of a POSIX shell, which no command takes for an option.
pub(super) fn quoted_path(value: &str) -> String {
    quoted(&if value.starts_with('-') { format!("./{value}") } else { value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_stays_one_word() {
        for (given, expected) in [
            ("models/sticker-1.0", "models/sticker-1.0"),
            ("", "''"),
            ("a b", "'a b'"),
            ("x; curl example|sh", "'x; curl example|sh'"),
            ("it's", "'it'\\''s'"),
            ("$(id) `id` \"$HOME\"", "'$(id) `id` \"$HOME\"'"),
            ("~/a*", "'~/a*'"),
            ("a\nb", "'a\nb'"),
            ("Äpfel", "'Äpfel'"),
        ] {
            assert_eq!(quoted(given), expected);
        }
        assert_eq!(quoted_path("-o"), "./-o");
        assert_eq!(quoted_path("--output=a b"), "'./--output=a b'");
    }

    #[test]
    #[cfg(unix)]
    fn a_shell_gives_back_what_was_quoted() {
        let values = ["x; echo no", "it's", "a  b", "$HOME `id`", "back\\slash", "!", "#no", "a\tb", "\"", "&|<>(){}[]*?~"];
        let script = format!("printf '%s\\037' {}", values.map(quoted).join(" "));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.split_terminator('\u{1f}').collect::<Vec<_>>(), values);
    }
}
