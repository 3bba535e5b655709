//! A folder of numbered PNG files, in the order of their numbers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::output::clip::MOST_FRAMES;
use crate::output::clip::numbered::Numbered;
use crate::{refusal, refuse};

/// Finds the numbered PNG files of a folder, or of a pattern such as `frames/%04d.png`, in the order of their numbers.
///
/// In a folder each PNG file has to have the same name but for the number at its end; other files are passed over.
///
/// # Errors
/// A [`Refusal`](crate::error::Refusal): the folder is not readable, holds none, more than [`MOST_FRAMES`], two
/// of one number, or PNG files of different names or without a number.
pub fn numbered_files(path: &Path) -> Result<Vec<PathBuf>> {
    let pattern = if path.is_dir() { None } else { Some(Numbered::parse(path)?) };
    let folder = pattern.as_ref().map_or(path, |pattern| pattern.folder());
    let shown = folder.display();
    let mut found: Vec<(u64, String)> = Vec::new();
    let mut common: Option<String> = None;
    for entry in fs::read_dir(folder).map_err(|error| refusal!("folder {shown} is not readable: {error}"))? {
        let name = entry.map_err(|error| refusal!("folder {shown} is not readable: {error}"))?.file_name();
        let Some(name) = name.to_str() else { continue };
        let number = match &pattern {
            Some(pattern) => match pattern.number(name) {
                Some(number) => number as u64,
                None => continue,
            },
            None => {
                let Some(stem) = name.get(..name.len().saturating_sub(4)).filter(|_| name.to_ascii_lowercase().ends_with(".png"))
                else {
                    continue;
                };
                let before = stem.trim_end_matches(|letter: char| letter.is_ascii_digit());
                let Ok(number) = stem.get(before.len()..).unwrap_or_default().parse() else {
                    refuse!("folder {shown} holds {name}, which has no number at its end; frames are named as 0001.png");
                };
                if common.get_or_insert_with(|| before.to_owned()) != before {
                    refuse!(
                        "folder {shown} holds {name} and other files that differ by more than a number; name them by a pattern, \
                             such as {before}%04d.png"
                    );
                }
                number
            }
        };
        if found.len() == MOST_FRAMES {
            refuse!("folder {shown} holds more than {MOST_FRAMES} frames");
        }
        found.push((number, name.to_owned()));
    }
    found.sort();
    if let Some([(number, one), (_, other)]) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        refuse!("folder {shown} holds {one} and {other}, which are both number {number}");
    }
    if found.is_empty() {
        refuse!("folder {shown} holds no numbered PNG files, expected some as 0001.png");
    }
    Ok(found.into_iter().map(|(_, name)| folder.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;

    fn with(names: &[&str], pattern: &str) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(folder.path().join(name), "").unwrap());
        let files = numbered_files(&folder.path().join(pattern))?;
        Ok(files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn refusal_of(names: &[&str], pattern: &str) -> String {
        let error = with(names, pattern).unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn files_come_in_the_order_of_their_numbers() {
        assert_eq!(with(&["10.png", "9.PNG", "clip.json", "1.png"], "").unwrap(), ["1.png", "9.PNG", "10.png"]);
        assert_eq!(with(&["f-002.png", "f-010.png"], "").unwrap(), ["f-002.png", "f-010.png"]);
        assert_eq!(with(&["f-2.png", "g-1.png", "f-10.png"], "f-%d.png").unwrap(), ["f-2.png", "f-10.png"]);
    }

    #[test]
    fn refuses_folders_without_one_row_of_files() {
        assert!(refusal_of(&[], "").contains("holds no numbered PNG files"));
        assert!(refusal_of(&["a.png"], "").contains("holds a.png, which has no number at its end"));
        assert!(refusal_of(&["99999999999999999999999.png"], "").contains("which has no number"));
        assert!(refusal_of(&["1.png", "001.png"], "").contains("which are both number 1"));
        assert!(refusal_of(&["a1.png", "b2.png"], "").contains("differ by more than a number"));
        assert!(refusal_of(&["a1.png"], "b%d.png").contains("holds no numbered PNG files"));
        assert!(refusal_of(&["a1.png"], "missing/%d.png").contains("is not readable"));
        assert!(refusal_of(&["a1.png"], "%s.png").contains("one %d or %04d"));
    }
}
