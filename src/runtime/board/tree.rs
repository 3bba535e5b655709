//! Bounded reading of small files below a root.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use super::Fact;

/// Files of `/proc` and `/sys` are a page; `cpuinfo` of many cores is some hundred thousand bytes.
const LARGEST_TEXT_BYTES: u64 = 1 << 20;
/// The package table of a full desktop is some ten million bytes.
const LARGEST_TABLE_BYTES: u64 = 64 << 20;
/// The C library is some two million bytes.
pub(super) const LARGEST_LIBRARY_BYTES: u64 = 8 << 20;
/// A line that is longer is no line of such a file.
const LONGEST_LINE_BYTES: u64 = 1 << 16;
/// Letters of a value that are kept.
const LONGEST_VALUE: usize = 256;
/// Entries of a folder that are looked at.
const MOST_ENTRIES: usize = 4096;

/// The file system below a root.
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// Where `path`, which begins with a slash, lies.
    pub(super) fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The file at `path`, unless it is a folder, a pipe, a device or not to be read.
    fn open(&self, path: &str) -> Option<File> {
        let place = self.place(path);
        // Before opening: that of a pipe would wait for a writer.
        std::fs::metadata(&place).ok().filter(std::fs::Metadata::is_file)?;
        File::open(place).ok()
    }

    /// The first `limit` bytes of a file.
    pub(super) fn bytes(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open(path)?.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// A text file; `None` where it is not UTF-8, or larger than such a file is.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let bytes = self.bytes(path, LARGEST_TEXT_BYTES + 1)?;
        String::from_utf8(bytes).ok().filter(|text| text.len() as u64 <= LARGEST_TEXT_BYTES)
    }

    /// The first line of a file, when it is a readable text.
    pub(super) fn line(&self, path: &str) -> Option<Fact<String>> {
        let text = self.text(path)?;
        let value = clean(text.lines().next()?)?;
        Some(Fact { value, source: path.to_owned() })
    }

    /// A whole number that fills a file.
    pub(super) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.line(path)?.value.parse().ok()
    }

    /// The first `name: value` of a file.
    pub(super) fn field(&self, path: &str, name: &str) -> Option<Fact<String>> {
        let text = self.text(path)?;
        let value = fields(&text).find(|(found, _)| *found == name).and_then(|(_, value)| clean(value))?;
        Some(Fact { value, source: path.to_owned() })
    }

    /// Names of the entries of a folder, sorted as people count: `zone2` before `zone10`.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.place(path)) else { return Vec::new() };
        let names = entries.take(MOST_ENTRIES).flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| clean(name).as_ref() == Some(name)).collect();
        names.sort_by_cached_key(|name| {
            let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
            (stem.to_owned(), name[stem.len()..].parse::<u64>().unwrap_or(0), name.clone())
        });
        names
    }

    /// The version of an installed Debian package, read from dpkg's own table.
    pub(super) fn package_version(&self, package: &str) -> Option<Fact<String>> {
        const TABLE: &str = "/var/lib/dpkg/status";
        let mut lines = BufReader::new(self.open(TABLE)?.take(LARGEST_TABLE_BYTES));
        let (mut is_it, mut installed, mut version) = (false, false, None);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = lines.by_ref().take(LONGEST_LINE_BYTES).read_until(b'\n', &mut line).ok()?;
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            if read == 0 || text.is_empty() {
                if let (true, true, Some(value)) = (is_it, installed, version.take()) {
                    return Some(Fact { value, source: TABLE.to_owned() });
                }
                if read == 0 {
                    return None;
                }
                (is_it, installed) = (false, false);
            } else if let Some(name) = text.strip_prefix("Package: ") {
                is_it = name == package;
            } else if let Some(status) = text.strip_prefix("Status: ").filter(|_| is_it) {
                installed = status.ends_with(" installed");
            } else if let Some(found) = text.strip_prefix("Version: ").filter(|_| is_it) {
                version = clean(found);
            }
        }
    }
}

/// The `name: value` lines of a text.
pub(super) fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, value)| (name.trim(), value.trim()))
}

/// `text` without blanks and zeros at its ends; `None` when nothing is left or it holds what no name holds.
pub(super) fn clean(text: &str) -> Option<String> {
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || letter == '\0');
    let readable =
        !text.is_empty() && !text.contains(|letter: char| letter.is_control() || letter == char::REPLACEMENT_CHARACTER);
    readable.then(|| text.chars().take(LONGEST_VALUE).collect())
}
