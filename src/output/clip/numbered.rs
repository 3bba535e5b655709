//! Numbered PNG files, one for each frame, in a folder of their own or beside other files.
//!
//! In: `frames/`, or a pattern as other video programs know it: `frames/%04d.png`. The first frame is number 1. The files wait in one
//! nameless file on the disk until the last is made, so they appear together or not at all; only a crash between their renamings, into a
//! folder that was there before, could leave a part of them.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::writer::{Encode, Sink};
use crate::output::picture::Picture;
use crate::output::provenance::Provenance;
use crate::output::staged::{Staged, folder_of};
use crate::output::text_chunk;
use crate::{refusal, refuse};

/// The names in a folder, where nobody says others.
const USUAL_PATTERN: &str = "%04d.png";
/// Stands in the record's name where a frame's has its number.
const RECORD: &str = "clip.json";

/// Names of files that differ by a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::output) struct Numbered {
    folder: PathBuf,
    before: String,
    digits: usize,
    after: String,
}

impl Numbered {
    /// Reads a folder, or a pattern with one `%d` or `%04d` in the file's name.
    ///
    /// # Errors
    /// A refusal: the pattern has another `%`, none, or another ending than `.png`.
    pub(in crate::output) fn parse(path: &Path) -> Result<Self> {
        let pattern = path.file_name().map(|name| name.to_string_lossy()).filter(|name| name.contains('%'));
        let Some(pattern) = pattern else { return Self::parse(&path.join(USUAL_PATTERN)) };
        let wrong = || {
            refusal!(
                "output {}: the name of its files has to hold one %d or %04d and end in .png, such as {USUAL_PATTERN}",
                path.display()
            )
        };
        let (before, rest) = pattern.split_once('%').ok_or_else(wrong)?;
        let (digits, after) = rest.split_once('d').ok_or_else(wrong)?;
        let width = match digits.strip_prefix('0') {
            Some(width) => width.parse().ok().filter(|width| (1..=9).contains(width)),
            None => digits.is_empty().then_some(0),
        };
        let digits = width.filter(|_| !after.contains('%') && after.to_ascii_lowercase().ends_with(".png")).ok_or_else(wrong)?;
        Ok(Self { folder: folder_of(path).to_owned(), before: before.to_owned(), digits, after: after.to_owned() })
    }

    /// The name of frame `number`.
    fn name(&self, number: usize) -> String {
        let Self { before, digits, after, .. } = self;
        format!("{before}{number:0digits$}{after}")
    }

    /// The number in a file's name, where it is one of these.
    pub(in crate::output) fn number(&self, name: &str) -> Option<usize> {
        let digits = name.strip_prefix(self.before.as_str())?.strip_suffix(self.after.as_str())?;
        let number = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
        (self.name(number) == name).then_some(number)
    }

    pub(in crate::output) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A name on the file system that takes the files, where what is not whole yet may wait.
    pub(super) fn beside(&self) -> PathBuf {
        if self.folder.exists() { self.folder.join(USUAL_PATTERN) } else { self.folder.clone() }
    }

    /// Where the record of what made them lies.
    pub(in crate::output) fn record(&self) -> PathBuf {
        self.folder.join(format!("{}{RECORD}", self.before))
    }

    /// Makes sure that the files can be written: their folder takes files and has none of these names, or can be made.
    pub(in crate::output) fn check(&self) -> Result<()> {
        let folder = &self.folder;
        if !folder.exists() {
            // A folder that is made takes files.
            return Staged::beside(folder).map(drop);
        }
        Staged::beside(&folder.join("a"))?;
        let entries = fs::read_dir(folder).map_err(|error| refusal!("output folder {}: {error}", folder.display()))?;
        for entry in entries {
            let name = entry.map_err(|error| refusal!("output folder {}: {error}", folder.display()))?.file_name();
            if name.to_str().is_some_and(|name| self.number(name).is_some()) {
                refuse!("output folder {} holds {} already; name another folder", folder.display(), name.display());
            }
        }
        Ok(())
    }

    /// Lets the files appear that wait in `files`, with the record of what made them.
    pub(super) fn put(&self, mut files: impl Read, count: usize, record: Option<&str>) -> Result<()> {
        let record = record.map(|json| (self.record(), json));
        if self.folder.exists() {
            let mut done = Vec::new();
            let outcome = self.put_into(&self.folder, &mut files, count, record, &mut done);
            if outcome.is_err() {
                // The first error is the one to tell of.
                done.iter().for_each(|path| drop(fs::remove_file(path)));
            }
            return outcome;
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".kiln-").suffix(".part");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o777));
        }
        let folder = builder.tempdir_in(folder_of(&self.folder)).with_context(|| self.place())?;
        self.put_into(folder.path(), &mut files, count, record, &mut Vec::new())?;
        fs::rename(folder.path(), &self.folder).with_context(|| self.place())?;
        // It stands under another name now.
        let _ = folder.keep();
        Ok(())
    }

    fn put_into(
        &self,
        folder: &Path,
        files: &mut impl Read,
        count: usize,
        record: Option<(PathBuf, &str)>,
        done: &mut Vec<PathBuf>,
    ) -> Result<()> {
        for number in 1..=count {
            let mut length = [0; 8];
            files.read_exact(&mut length).context("clip: frames")?;
            let path = folder.join(self.name(number));
            let mut file = Staged::beside(&path)?;
            let copied = std::io::copy(&mut files.take(u64::from_le_bytes(length)), &mut file);
            copied.with_context(|| self.place()).and_then(|_| file.put(&path).with_context(|| self.place()))?;
            done.push(path);
        }
        if let Some((path, json)) = record {
            let path = folder.join(path.file_name().unwrap_or_default());
            let mut file = Staged::beside(&path)?;
            file.write_all(json.as_bytes()).with_context(|| self.place())?;
            file.put(&path).with_context(|| self.place())?;
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("output {}", self.folder.display())
    }
}

/// Writes each frame's file behind its length.
pub(super) struct Files;

impl Encode for Files {
    fn push(&mut self, frame: &Picture, sink: &mut Sink) -> Result<()> {
        let file = text_chunk::encode(frame, &[])?;
        sink.put(&(file.len() as u64).to_le_bytes())?;
        sink.put(&file)
    }

    fn finish(self: Box<Self>, _: usize, _: Option<&Provenance>, _: &mut Sink) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_refusal;
    use crate::output::clip::{ClipHead, ClipWriter, FrameRate};
    use crate::output::format::ClipFormat;

    #[test]
    fn a_pattern_names_its_files() {
        for (path, folder, first, hundredth) in [
            ("frames/", "frames", "0001.png", "0100.png"),
            ("frames", "frames", "0001.png", "0100.png"),
            ("a/%d.png", "a", "1.png", "100.png"),
            ("out-%02d.PNG", ".", "out-01.PNG", "out-100.PNG"),
            ("a%b/x%03d-y.png", "a%b", "x001-y.png", "x100-y.png"),
        ] {
            let names = Numbered::parse(Path::new(path)).unwrap();
            assert_eq!((names.folder(), names.name(1).as_str(), names.name(100).as_str()), (Path::new(folder), first, hundredth));
            assert_eq!((names.number(first), names.number(hundredth)), (Some(1), Some(100)), "{path}");
        }
        let names = Numbered::parse(Path::new("out-%02d.png")).unwrap();
        assert!(
            ["out-1.png", "out-001.png", "out--1.png", "out-+1.png", "out-01.jpg", "01.png"]
                .iter()
                .all(|name| names.number(name).is_none())
        );
        assert_eq!(names.record(), Path::new("./out-clip.json"));
    }

    #[test]
    fn refuses_patterns_that_name_no_png_files() {
        for path in
            ["%s.png", "%d-%d.png", "%04d", "%04d.jpg", "%4d.png", "%00d.png", "%010d.png", "%.png", "%%d.png", "%0xd.png"]
        {
            let error = Numbered::parse(Path::new(path)).unwrap_err();
            assert!(is_refusal(&error) && error.to_string().contains("one %d or %04d"), "{path}: {error}");
        }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, count: u8) -> Result<()> {
        let head = ClipHead::new(2, 2, 4, FrameRate::whole(10).unwrap());
        let mut writer = ClipWriter::create(path, ClipFormat::Frames, head)?;
        for value in 0..count {
            writer.push(&Picture::new(2, 2, 4, vec![value; 16]).unwrap())?;
        }
        let json = r#"{"schema": 1, "kiln": "1", "bundle": {"name": "x"}, "family": "gan", "seed": 1, "rng": "cpu", "sampler": "none",
            "steps": 1, "guidance": 1, "width": 2, "height": 2}"#;
        writer.finish(Some(&serde_json::from_str(json).unwrap()))
    }

    #[test]
    fn files_appear_together_with_their_record() {
        let folder = tempfile::tempdir().unwrap();
        for (output, read, expected) in [
            ("new", "new", ["0001.png", "0002.png", "0003.png", "clip.json"]),
            ("slash/", "slash", ["0001.png", "0002.png", "0003.png", "clip.json"]),
            ("there/x%d.png", "there/x%d.png", ["x1.png", "x2.png", "x3.png", "xclip.json"]),
        ] {
            let output = folder.path().join(output);
            if output.parent().is_some_and(|parent| parent.ends_with("there")) {
                fs::create_dir(output.parent().unwrap()).unwrap();
            }
            write(&output, 3).unwrap();
            let into = Numbered::parse(&output).unwrap();
            assert_eq!(names(into.folder()), expected);
            let second = Picture::open(&into.folder().join(expected[1])).unwrap();
            assert_eq!(second, Picture::new(2, 2, 4, vec![1; 16]).unwrap());
            assert_eq!(crate::output::read(&folder.path().join(read)).unwrap().1.unwrap().seed, 1);
            let error = write(&output, 1).unwrap_err();
            assert!(is_refusal(&error) && error.to_string().contains("already; name another folder"), "{error:#}");
            assert_eq!(names(into.folder()), expected);
        }
        assert_eq!(names(folder.path()), ["new", "slash", "there"]);
    }

    #[test]
    fn none_of_the_files_appears_where_one_cannot() {
        let folder = tempfile::tempdir().unwrap();
        let head = ClipHead::new(1, 1, 3, FrameRate::whole(10).unwrap());
        let mut writer = ClipWriter::create(folder.path(), ClipFormat::Frames, head).unwrap();
        (0..3).for_each(|_| writer.push(&Picture::new(1, 1, 3, vec![9; 3]).unwrap()).unwrap());
        // It came while the frames were made.
        fs::create_dir(folder.path().join("0002.png")).unwrap();
        assert!(writer.finish(None).is_err());
        assert_eq!(names(folder.path()), ["0002.png"]);
        let missing = folder.path().join("a/b/c");
        assert!(write(&missing, 1).unwrap_err().to_string().contains("is missing; make it first"));
    }
}
