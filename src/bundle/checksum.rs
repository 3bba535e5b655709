//! Checksums: what a bundle is recognised by, and whether its files are those that its card names.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{Bundle, CARD_FILE, Card, Role};

/// Files up to this size go into a fingerprint whole, larger ones by their two ends.
const WHOLE_FILE_BYTES: u64 = 1024 * 1024;

/// What became of one file of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// Its checksum is the card's.
    Matches,
    /// Its checksum is another one.
    Differs {
        /// What the file has.
        found: String,
    },
    /// It is not there or cannot be read.
    Missing,
    /// It is there, the card does not name it, and it is one that a picture depends on.
    Unlisted,
    /// It is there, the card does not name it, and nothing depends on it.
    Beside,
}

/// The SHA-256 of the file at `path` in hexadecimal digits.
///
/// # Errors
/// The file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        let count = file.read(&mut buffer).with_context(|| path.display().to_string())?;
        if count == 0 {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

/// The SHA-256 of `bytes` in hexadecimal digits.
#[must_use]
pub fn sha256_of_bytes(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares every file in `folder` with `card`; files in path order.
///
/// The bundle need not open: a checksum says which file is damaged where its content only says that it is.
///
/// # Errors
/// The folder cannot be listed.
pub fn verify(folder: &Path, card: &Card) -> Result<Vec<(String, FileState)>> {
    let listed = &card.sha256;
    let mut states: Vec<(String, FileState)> = Vec::new();
    for (file, expected) in listed {
        let path = folder.join(file);
        // Reading a pipe in its place would wait for somebody to write into it.
        let sum = if path.is_file() { sha256_of_file(&path).ok() } else { None };
        let state = match sum {
            Some(found) if found.eq_ignore_ascii_case(expected) => FileState::Matches,
            Some(found) => FileState::Differs { found },
            None => FileState::Missing,
        };
        states.push((file.clone(), state));
    }
    for file in files(folder)? {
        if !listed.contains_key(&file) && file != CARD_FILE {
            let state = if matters(&file) { FileState::Unlisted } else { FileState::Beside };
            states.push((file, state));
        }
    }
    states.sort_by(|left, right| left.0.cmp(&right.0));
    Ok(states)
}

/// What a bundle is recognised by, as a SHA-256: of path, size and content of each file that is used, in path order.
///
/// A file above [`WHOLE_FILE_BYTES`] goes in by its two ends, so that opening a model of gigabytes does not begin with reading it.
/// A card and other files that lie in the folder do not change what it makes, and are left out.
pub(super) fn fingerprint(bundle: &Bundle) -> Result<String> {
    let mut files: Vec<String> = WITHOUT_ROLE.iter().map(|file| (*file).to_owned()).collect();
    for (role, component) in &bundle.components {
        let folder = role.folder();
        let plain = component.path.file_name().unwrap_or_default().to_string_lossy();
        files.extend([format!("{folder}/{plain}"), format!("{folder}/config.json")]);
        files.extend(component.header.external_files.iter().map(|file| format!("{folder}/{}", file.display())));
    }
    files.sort();
    let mut hasher = Sha256::new();
    for file in files {
        let path = bundle.folder.join(&file);
        if path.is_file() {
            let (size, content) = ends(&path).with_context(|| path.display().to_string())?;
            hasher.update(format!("{file} {size} {}\n", hexadecimal(&content)));
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}

/// The files of a bundle that are read and belong to no component.
const WITHOUT_ROLE: [&str; 13] = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "image_processor/preprocessor_config.json",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/special_tokens_map.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer_2/tokenizer.json",
    "tokenizer_2/tokenizer_config.json",
    "tokenizer_2/special_tokens_map.json",
    "tokenizer_2/vocab.json",
    "tokenizer_2/merges.txt",
];

/// Whether a picture depends on `file`, a path within a bundle; such a file must stand in the card.
fn matters(file: &str) -> bool {
    let in_component = |role: &Role| file.strip_prefix(role.folder()).is_some_and(|rest| rest.starts_with('/'));
    WITHOUT_ROLE.contains(&file) || Role::ALL.iter().any(in_component)
}

fn ends(path: &Path) -> Result<(u64, Vec<u8>)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut hasher = Sha256::new();
    let mut part = Vec::new();
    if size <= WHOLE_FILE_BYTES {
        file.take(WHOLE_FILE_BYTES).read_to_end(&mut part)?;
        hasher.update(&part);
    } else {
        for start in [0, size - WHOLE_FILE_BYTES / 2] {
            file.seek(SeekFrom::Start(start))?;
            part.clear();
            file.by_ref().take(WHOLE_FILE_BYTES / 2).read_to_end(&mut part)?;
            hasher.update(&part);
        }
    }
    Ok((size, hasher.finalize().to_vec()))
}

/// The files that make up a bundle: in it and one folder down, sorted, by their path within it. Links are followed to files.
fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in sorted(folder)? {
        let path = folder.join(&entry);
        if path.is_file() {
            found.push(entry);
        } else if path.is_dir() && !entry.starts_with('.') {
            for inner in sorted(&path)? {
                if path.join(&inner).is_file() {
                    found.push(format!("{entry}/{inner}"));
                }
            }
        }
    }
    Ok(found)
}

fn sorted(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok().map(|entry| PathBuf::from(entry.file_name()).to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn links_have_the_fingerprint_of_what_they_point_to() {
        use std::os::unix::fs::symlink;

        let mut compared = 0;
        for name in ["sd_turbo", "sd_external", "gan"] {
            let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(name);
            let expected = Bundle::open(&whole).unwrap().fingerprint;
            let temporary = tempfile::tempdir().unwrap();
            symlink(&whole, temporary.path().join("folder")).unwrap();
            // Each file is a link to one of another name, as caches of models have them; then each component's folder is one.
            let (of_files, of_folders) = (temporary.path().join("files"), temporary.path().join("folders"));
            fs::create_dir(&of_folders).unwrap();
            for (number, file) in files(&whole).unwrap().iter().enumerate() {
                let link = of_files.join(file);
                fs::create_dir_all(link.parent().unwrap()).unwrap();
                let stored = temporary.path().join(format!("stored-{number}"));
                fs::copy(whole.join(file), &stored).unwrap();
                symlink(&stored, link).unwrap();
            }
            for entry in sorted(&whole).unwrap() {
                symlink(whole.join(&entry), of_folders.join(&entry)).unwrap();
            }
            for links in ["folder", "files", "folders"] {
                let found =
                    Bundle::open(&temporary.path().join(links)).unwrap_or_else(|error| panic!("{name}: {links}: {error:#}"));
                assert_eq!(found.fingerprint, expected, "{name}: {links}");
                compared += 1;
            }
        }
        assert_eq!(compared, 9);
    }
}
