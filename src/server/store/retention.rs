//! What is forgotten, and what else can wait until nobody does.

use std::fs;
use std::sync::atomic::Ordering;

use anyhow::Result;
use rusqlite::{OptionalExtension, Row};

use super::rows::{SELECT, id_in, read_record, with_pictures};
use super::{Store, picture_files};
use crate::server::job::{State, now_ms};

/// Of a row: that its job has ended.
const ENDED: &str = "state NOT IN ('queued', 'running')";

/// How much is kept; beyond, the oldest ended jobs go with their pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retention {
    /// The most jobs that have ended.
    pub jobs: u64,
    /// The most bytes of pictures, made and handed in.
    pub bytes: u64,
    /// The oldest, in days.
    pub days: f64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { jobs: 10_000, bytes: 4 << 30, days: 90.0 }
    }
}

impl Store {
    /// What can wait until nobody does: forgets what is beyond the retention limit, syncs files and empties their copies.
    ///
    /// * `all`: whether copies that could come together with others are emptied too
    /// * `is_live`: whether a job is still in somebody's hands, though its row may say that it has ended
    ///
    /// # Errors
    /// The disk or the database fails.
    pub fn tend(&self, all: bool, is_live: &dyn Fn(&str) -> bool) -> Result<()> {
        if self.grew.swap(false, Ordering::Relaxed) {
            self.retain(is_live)?;
        }
        let settled = self.files.settle(all, |number, n| {
            let read = |row: &Row<'_>| row.get::<_, Option<Vec<u8>>>(0);
            let copy = self.lock().query_row("SELECT copy FROM pictures WHERE job = ?1 AND n = ?2", [number, n.into()], read);
            Ok(copy.optional()?.flatten())
        })?;
        if !settled.is_empty() {
            // Not waited for: a copy that comes back is settled once more.
            self.write(|transaction| picture_files::empty(transaction, &settled))?;
        }
        Ok(())
    }

    /// Forgets what is beyond the retention limit, the oldest first.
    fn retain(&self, is_live: &dyn Fn(&str) -> bool) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "an age")]
        let oldest_ms = now_ms().saturating_sub((self.retention.days * 86_400_000.0) as i64);
        loop {
            let database = self.lock();
            let (jobs, bytes): (u64, u64) = database.query_row(
                &format!(
                    "SELECT (SELECT count(*) FROM jobs WHERE {ENDED}), (SELECT coalesce(sum(bytes), 0) FROM pictures)
                    + (SELECT coalesce(sum(coalesce(length(picture), 0) + coalesce(length(mask), 0)), 0) FROM jobs
                       WHERE {ENDED})"
                ),
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let mut statement = database.prepare_cached(&format!("{SELECT} WHERE {ENDED} ORDER BY number LIMIT 1"))?;
            let oldest = statement.query_row([], read_record).optional()?;
            drop(statement);
            let Some(oldest) = oldest.transpose()? else { return Ok(()) };
            if is_live(&oldest.id) {
                // Its end is being synced, and it is told of after; none that is newer goes before it.
                self.grew.store(true, Ordering::Relaxed);
                return Ok(());
            }
            let oldest = with_pictures(&database, oldest)?;
            drop(database);
            let is_beyond = jobs > self.retention.jobs || bytes > self.retention.bytes || oldest.times_ms.0 < oldest_ms;
            if !is_beyond {
                return Ok(());
            }
            self.delete(&oldest)?;
        }
    }

    /// Removes what a run that was killed left: files half written, and pictures of jobs that are known and did not finish.
    ///
    /// Other files stay. Their rows may be in a database that was set aside or comes back, and some may be somebody's own.
    pub(super) fn remove_orphans(&self) -> Result<()> {
        let database = self.lock();
        let mut state_of = database.prepare("SELECT state FROM jobs WHERE id = ?1")?;
        let mut strangers = 0_u64;
        for entry in fs::read_dir(&self.files.folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let state = match id_in(&name) {
                Some(id) => state_of.query_row([id], |row| row.get::<_, String>(0)).optional()?,
                None => None,
            };
            let is_left = match &state {
                Some(state) => state != State::Finished.name(),
                None => picture_files::is_part(&name),
            };
            if is_left {
                let _ = fs::remove_file(entry.path());
            } else if state.is_none() {
                strangers += 1;
            }
        }
        if strangers > 0 {
            log::warn!("{}: {strangers} files are of no job in the database, and stay", self.files.folder.display());
        }
        Ok(())
    }
}
