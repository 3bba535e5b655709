//! Where what is made goes: `--output` and `--preview` checked, and names for what nobody named.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::output::{FileFormat, Target};
use crate::refuse;

/// Makes sure that `target` can be written; one line of JSON and a picture do not both go to standard output.
pub(super) fn check_output<F: FileFormat>(target: &Target<F>, json: bool) -> Result<()> {
    target.check()?;
    if matches!(target, Target::Stdout(_)) {
        if json {
            refuse!("--json and --output - would both go to standard output; name a file");
        }
        if std::io::stdout().is_terminal() {
            refuse!("--output -: standard output is a terminal; send it to a file or a program");
        }
    }
    Ok(())
}

/// Makes sure that the preview can be written.
pub(super) fn check_preview(preview: Option<&Target>) -> Result<()> {
    match preview {
        Some(Target::Stdout(_)) => refuse!("--preview: is `-`, expected a file"),
        Some(preview) => preview.check(),
        None => Ok(()),
    }
}

/// Of several pictures each has its seed in its name.
pub(super) fn numbered(target: &Target, seed: u64, count: usize) -> Target {
    match target {
        Target::File(path, format) if count > 1 => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            Target::File(path.with_file_name(format!("{stem}-{seed}.{extension}")), *format)
        }
        other => other.clone(),
    }
}

/// Where something goes, or the format of what is named when it is made.
#[derive(Debug, Clone)]
pub(super) enum Goal<F> {
    At(Target<F>),
    Named(F),
}

impl<F: FileFormat> Goal<F> {
    /// The target, which of what nobody named is made of its prompt and its seeds.
    pub(super) fn target(&self, prompt: Option<&str>, seeds: &str) -> Target<F> {
        match self {
            Self::At(target) => target.clone(),
            Self::Named(format) => Target::File(free_name(prompt.unwrap_or_default(), seeds, format.extension()), *format),
        }
    }

    pub(super) fn format(&self) -> F {
        match self {
            Self::At(target) => target.format(),
            Self::Named(format) => *format,
        }
    }
}

/// Reads `--format`.
pub(super) fn parse_format<F: FileFormat>(name: Option<&str>) -> Result<Option<F>> {
    name.map(|name| name.parse().context("--format")).transpose()
}

/// A name that says what the picture is, and that no file has yet.
///
/// * `seed`: of the picture, or the seeds of a clip
/// * `extension`: with its dot; none for a folder
pub(super) fn free_name(prompt: &str, seed: &str, extension: &str) -> PathBuf {
    const LONGEST: usize = 48;
    let mut slug = String::new();
    for letter in prompt.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            slug.push(letter);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() >= LONGEST {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    let stem = if slug.is_empty() { format!("picture-{seed}") } else { format!("{slug}-{seed}") };
    unused(&stem, extension)
}

/// A name that no file here has yet: `stem.png`, `stem-2.png` and on.
pub(super) fn unused(stem: &str, extension: &str) -> PathBuf {
    let mut path = PathBuf::from(format!("{stem}{extension}"));
    let mut number = 2;
    while path.exists() {
        path = PathBuf::from(format!("{stem}-{number}{extension}"));
        number += 1;
    }
    path
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_name_is_made_of_the_prompts_letters() {
        assert_eq!(free_name("A smiling sun!", "42", ".png"), Path::new("a-smiling-sun-42.png"));
        assert_eq!(free_name("../../etc/passwd", "1", ".gif"), Path::new("etc-passwd-1.gif"));
        assert_eq!(free_name(" ♥ ", "7", ".png"), Path::new("picture-7.png"));
        assert_eq!(free_name("sun", "7-to-42", ""), Path::new("sun-7-to-42"));
        assert!(free_name(&"long ".repeat(100), "7", ".png").as_os_str().len() < 70);
    }
}
