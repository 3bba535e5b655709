//! Files that appear whole or not at all.
//!
//! A file is written beside the place where it will stand and renamed when it is complete. On Linux it has no name until then, so that not
//! even a run that is killed leaves something behind; elsewhere, and on file systems that cannot do that, it has a hidden name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::{NamedTempFile, TempPath};

use crate::{refusal, refuse};

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    /// The hidden name, where it needs one; the file is removed with it.
    name: Option<TempPath>,
}

impl Staged {
    /// Begins a file that will stand at `path`.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): the folder of `path` is missing or takes no files.
    pub(super) fn beside(path: &Path) -> Result<Self> {
        let folder = folder_of(path);
        if !folder.is_dir() {
            refuse!("output folder {} is missing; make it first", folder.display());
        }
        if let Some(file) = nameless(folder) {
            return Ok(Self { file, name: None });
        }
        let staged = builder().tempfile_in(folder);
        let staged = staged.map_err(|error| refusal!("output folder {} takes no files: {error}", folder.display()))?;
        let (file, name) = staged.into_parts();
        Ok(Self { file, name: Some(name) })
    }

    /// Begins a file that will stand nowhere.
    pub(super) fn nowhere() -> Result<Self> {
        Ok(Self { file: tempfile::tempfile().context("temporary file")?, name: None })
    }

    /// Gives the file its name; what was there is replaced.
    pub(super) fn put(self, path: &Path) -> Result<()> {
        let named = match self.name {
            Some(name) => NamedTempFile::from_parts(self.file, name),
            None => builder().make_in(folder_of(path), |hidden| link(&self.file, hidden)).map(|named| {
                let (_, name) = named.into_parts();
                NamedTempFile::from_parts(self.file, name)
            })?,
        };
        named.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Staged {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read(bytes)
    }
}

impl Seek for Staged {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Whether something is there that is neither a file nor a folder.
pub(super) fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Opens a pipe or a device, which cannot be replaced by renaming, and must not be.
pub(super) fn open_device(path: &Path) -> Result<File> {
    OpenOptions::new().write(true).open(path).with_context(|| format!("output {}", path.display()))
}

/// Follows a link, so that renaming replaces the file and not the link.
pub(super) fn resolve(path: &Path) -> Result<PathBuf> {
    if path.is_dir() {
        refuse!("output {} is a folder, expected a file in it, such as {}", path.display(), path.join("picture.png").display());
    }
    Ok(if path.is_symlink() { fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) } else { path.to_owned() })
}

/// The folder in which `path` stands.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".kiln-").suffix(".part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // What any new file asks for; the system takes away what the person's mask forbids.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder
}

/// A file in `folder` that has no name; `None` where the system has no such files, or no way to name one later.
#[cfg(target_os = "linux")]
fn nameless(folder: &Path) -> Option<File> {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(open(folder, flags, Mode::from_raw_mode(0o666)).ok()?);
    descriptor(&file).exists().then_some(file)
}

#[cfg(not(target_os = "linux"))]
fn nameless(_: &Path) -> Option<File> {
    None
}

/// The name by which the system itself knows an open file.
#[cfg(target_os = "linux")]
fn descriptor(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Gives a file without a name the name `path`.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, descriptor(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_when_it_is_put_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let count = || fs::read_dir(folder.path()).unwrap().count();
        for text in ["first", "second"] {
            let before = count();
            let mut staged = Staged::beside(&path).unwrap();
            staged.write_all(text.as_bytes()).unwrap();
            assert_eq!(count(), before + usize::from(staged.name.is_some()));
            staged.put(&path).unwrap();
            assert_eq!((fs::read_to_string(&path).unwrap().as_str(), count()), (text, 1));
        }
        drop(Staged::beside(&path).unwrap());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), count()), ("second", 1));
    }

    #[test]
    fn a_file_with_a_hidden_name_is_put_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let (mut file, name) = builder().tempfile_in(folder.path()).unwrap().into_parts();
        file.write_all(b"x").unwrap();
        Staged { file, name: Some(name) }.put(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read_dir(folder.path()).unwrap().count()), (b"x".to_vec(), 1));
    }
}
