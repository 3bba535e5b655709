//! The database's write-ahead log, synced by the store itself, so that the disk is waited for without the database's lock: jobs go on
//! meanwhile, and of many commits that wait one sync does.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

/// Stands for a commit and all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

impl Ticket {
    /// Of a commit that was synced as it was made.
    pub(super) const SYNCED: Self = Self(0);
}

/// The log's file; SQLite keeps it as long as its one connection is open.
pub(super) struct WriteAheadLog {
    file: File,
    written: AtomicU64,
    /// Up to which ticket; locked while the disk is waited for.
    synced: Mutex<u64>,
    /// A system forgets what it could not write, and says so once: a later sync would succeed and be no proof.
    failed: AtomicBool,
}

impl WriteAheadLog {
    /// Opens the log of the database `path`, which is open already and was written to.
    ///
    /// # Errors
    /// It is not there or cannot be opened.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let path = PathBuf::from(format!("{}-wal", path.display()));
        let file = OpenOptions::new().read(true).write(true).open(&path).with_context(|| path.display().to_string())?;
        Ok(Self { file, written: AtomicU64::new(0), synced: Mutex::default(), failed: AtomicBool::new(false) })
    }

    /// Notes a commit, as long as the database is still locked for it.
    pub(super) fn note(&self) -> Ticket {
        Ticket(self.written.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Waits until the commit of `ticket` survives the machine's power.
    ///
    /// # Errors
    /// The disk fails, now or before.
    pub(super) fn sync(&self, ticket: Ticket) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_failed() {
            return Err(io::Error::other("the disk failed while the database was synced; start the server again"));
        }
        if *synced >= ticket.0 {
            return Ok(());
        }
        let written = self.written.load(Ordering::SeqCst);
        self.file.sync_data().inspect_err(|_| self.failed.store(true, Ordering::SeqCst))?;
        *synced = written;
        Ok(())
    }

    /// Whether the disk failed. Waits for nothing.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn a_log_whose_disk_failed_is_believed_no_more() {
        use super::*;
        // A device that cannot be synced.
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut log =
            WriteAheadLog { file, written: AtomicU64::new(0), synced: Mutex::default(), failed: AtomicBool::new(false) };
        assert!(!log.has_failed());
        let ticket = log.note();
        assert!(log.sync(ticket).is_err() && log.has_failed());
        // The system says so once, and the next sync succeeds.
        log.file = tempfile::tempfile().unwrap();
        assert!(log.sync(ticket).is_err() && log.has_failed());
    }
}
