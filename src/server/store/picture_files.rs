//! The files of pictures, and what makes one sync of the database do for file and row.
//!
//! A small picture goes into its row as well. The log's sync makes both last; the file is synced later, for many at once, and the copy
//! emptied. A server that starts writes those files anew of which the machine's power took a part.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, params};

/// Of all pictures of one job; beyond, syncing files costs less than writing them twice.
pub(super) const LARGEST_COPIES_BYTES: usize = 256 * 1024;
/// Copies that are let come together, and for how long.
const MOST_COPIES: usize = 64;
const LONGEST: Duration = Duration::from_secs(5);
/// What names of files that are being written begin and end with.
const PART: (&str, &str) = (".tmp", ".part");

/// A picture that lies in its row as well: its job's number, its own, its file.
type Copy = (i64, u32, PathBuf);

#[derive(Default)]
struct Copies {
    list: Vec<Copy>,
    since: Option<Instant>,
    /// A sync failed. A system forgets what it could not write, and says so once: a later sync of the same bytes would be no proof.
    are_doubtful: bool,
}

/// The folder of the pictures.
pub(super) struct PictureFiles {
    pub(super) folder: PathBuf,
    copies: Mutex<Copies>,
}

impl PictureFiles {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, copies: Mutex::default() }
    }

    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `bytes` whole or not at all as the file called `name`.
    ///
    /// * `sync`: whether it is to survive the machine's power by itself, once [`PictureFiles::sync_folder`] was called too
    pub(super) fn write(&self, name: &str, bytes: &[u8], sync: bool) -> Result<()> {
        let mut file = tempfile::Builder::new().prefix(PART.0).suffix(PART.1).tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        if sync {
            file.as_file().sync_all()?;
        }
        file.persist(self.folder.join(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Makes the names of new files survive the machine's power.
    pub(super) fn sync_folder(&self) -> Result<()> {
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    /// Notes that picture `n` of a job lies in its row too.
    pub(super) fn note_copy(&self, number: i64, n: u32, name: &str) {
        let mut copies = self.copies();
        copies.since.get_or_insert_with(Instant::now);
        copies.list.push((number, n, self.folder.join(name)));
    }

    /// The pictures whose copies are to be emptied now; their files are synced when this returns.
    ///
    /// * `all`: those that could come together with others too
    /// * `copy_of`: the copy of a picture, where there is one; after a sync that failed its file is written anew
    ///
    /// # Errors
    /// The disk fails; the copies stay.
    pub(super) fn settle(&self, all: bool, copy_of: impl Fn(i64, u32) -> Result<Option<Vec<u8>>>) -> Result<Vec<Copy>> {
        let due = {
            let mut copies = self.copies();
            let is_due = all || copies.list.len() >= MOST_COPIES || copies.since.is_some_and(|since| since.elapsed() >= LONGEST);
            if !is_due || copies.list.is_empty() {
                return Ok(Vec::new());
            }
            std::mem::take(&mut *copies)
        };
        let settle_one = |(number, n, path): &Copy| match (due.are_doubtful, path.file_name()) {
            (true, Some(name)) => match copy_of(*number, *n)? {
                Some(copy) => self.write(&name.to_string_lossy(), &copy, true).with_context(|| path.display().to_string()),
                None => Ok(()),
            },
            _ => sync(path),
        };
        let synced = due.list.iter().try_for_each(settle_one).and_then(|()| self.sync_folder());
        if let Err(error) = synced {
            let mut copies = self.copies();
            copies.list.extend(due.list);
            (copies.since, copies.are_doubtful) = (Some(Instant::now()), true);
            return Err(error);
        }
        Ok(due.list)
    }

    /// Writes the files anew whose copies are there, and notes the copies.
    pub(super) fn recover(&self, database: &Connection, name_of: impl Fn(&str, usize) -> String) -> Result<()> {
        let mut statement =
            database.prepare("SELECT job, n, id, copy FROM pictures JOIN jobs ON job = number WHERE copy IS NOT NULL")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (number, n, id, copy): (i64, u32, String, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let name = name_of(&id, n as usize);
            if fs::read(self.folder.join(&name)).ok().as_ref() != Some(&copy) {
                log::warn!("picture {name} was not whole, and is written anew from the database");
            }
            // One that is whole as well: the system may hold bytes in memory that a disk which failed never took.
            self.write(&name, &copy, false)?;
            self.note_copy(number, n, &name);
        }
        Ok(())
    }
}

/// Whether `name` is that of a file that was being written.
pub(super) fn is_part(name: &str) -> bool {
    name.starts_with(PART.0) && name.ends_with(PART.1)
}

/// Empties the copies of `settled`.
pub(super) fn empty(database: &Connection, settled: &[Copy]) -> Result<()> {
    let mut statement = database.prepare_cached("UPDATE pictures SET copy = NULL WHERE job = ?1 AND n = ?2")?;
    for (number, n, _) in settled {
        statement.execute(params![number, n])?;
    }
    Ok(())
}

/// Syncs a file; one that was deleted meanwhile is no fault.
fn sync(path: &Path) -> Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all().with_context(|| path.display().to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

#[cfg(test)]
mod tests {
    #[cfg(unix)]
    #[test]
    fn after_a_sync_that_failed_files_are_written_anew() {
        use super::*;
        let folder = tempfile::tempdir().unwrap();
        let files = PictureFiles::new(folder.path().to_owned());
        // A file that leads to itself cannot be opened; of the other the system has forgotten a part.
        std::os::unix::fs::symlink("a.png", folder.path().join("a.png")).unwrap();
        fs::write(folder.path().join("b.png"), b"ha").unwrap();
        for (n, name) in ["a.png", "b.png", "deleted.png"].into_iter().enumerate() {
            files.note_copy(1, n as u32, name);
        }
        let copy_of = |_, n| Ok((n < 2).then(|| vec![b'a' + n as u8; 4]));
        assert!(files.settle(true, copy_of).is_err());
        assert_eq!(fs::read(folder.path().join("b.png")).unwrap(), b"ha");
        assert_eq!(files.settle(true, copy_of).unwrap().len(), 3);
        assert_eq!(fs::read(folder.path().join("a.png")).unwrap(), b"aaaa");
        assert_eq!(fs::read(folder.path().join("b.png")).unwrap(), b"bbbb");
        assert!(!folder.path().join("deleted.png").exists());
        assert!(files.settle(true, copy_of).unwrap().is_empty());
    }
}
