//! Jobs and pictures on the disk: rows in SQLite, pictures as files beside it.
//!
//! What was once told of stays true: whoever tells of a change waits for [`Store::sync`] first, and a picture's file is there before its
//! job's row says that it is finished.

mod database;
mod picture_files;
mod retention;
mod rows;
mod write_ahead_log;

use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use database::{connect, is_damage, set_database_aside};
use picture_files::{LARGEST_COPIES_BYTES, PictureFiles};
pub use retention::Retention;
use rows::{SELECT, file_name, read_record, url_of, with_pictures};
pub use write_ahead_log::Ticket;
use write_ahead_log::WriteAheadLog;

use super::job::{Failure, PictureRecord, State, now_ms};
use super::wish::{Attachments, Wish};
use crate::refuse;

/// What is kept of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its number.
    pub number: i64,
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub state: State,
    /// Who asked for it.
    pub client: String,
    /// Its model's name.
    pub model: String,
    /// What was asked for.
    pub wish: Wish,
    /// The job that it repeats.
    pub repeats: Option<String>,
    /// When it was accepted, began and ended, in milliseconds of Unix time.
    pub times_ms: (i64, Option<i64>, Option<i64>),
    /// Why there are no pictures.
    pub error: Option<Failure>,
    /// Its pictures.
    pub pictures: Vec<PictureRecord>,
}

/// A new job as it goes to the disk; its fields are those of [`Record`].
pub struct NewRecord<'n> {
    /// Its name.
    pub id: &'n str,
    /// Who asked for it.
    pub client: &'n str,
    /// Its model's name.
    pub model: &'n str,
    /// What was asked for.
    pub wish: &'n Wish,
    /// The pictures that came with it.
    pub attachments: &'n Attachments,
    /// The job that it repeats.
    pub repeats: Option<&'n str>,
    /// When it was accepted, in milliseconds of Unix time.
    pub created_ms: i64,
}

/// A finished picture as it goes to the disk.
pub struct NewPicture {
    /// The PNG file.
    pub file: Vec<u8>,
    /// The seed that gives it.
    pub seed: u64,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

/// How a job ended without pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Where it stands.
    pub state: State,
    /// When it began, if it did, in milliseconds of Unix time.
    pub started_ms: Option<i64>,
    /// When it ended.
    pub ended_ms: i64,
    /// Why there are no pictures.
    pub error: Option<Failure>,
}

/// The database and the folder of pictures.
pub struct Store {
    database: Mutex<Connection>,
    log: Option<WriteAheadLog>,
    files: PictureFiles,
    retention: Retention,
    /// Whether jobs came since the retention was looked at.
    grew: AtomicBool,
    /// Locked as long as the server lives.
    _lock: File,
}

impl Store {
    /// Opens the store in `folder`, which is made where it is not there; jobs that had not ended are marked as interrupted.
    ///
    /// * `set_aside`: whether a damaged database is renamed and an empty one begun
    ///
    /// # Errors
    /// Another server uses the folder, its database is damaged, of a newer Kiln or of another program (a [`Refusal`](crate::error::Refusal) each);
    /// the folder cannot be written.
    pub fn open(folder: &Path, retention: Retention, set_aside: bool) -> Result<Self> {
        let pictures = folder.join("pictures");
        fs::create_dir_all(&pictures).with_context(|| format!("state folder {}", folder.display()))?;
        let lock = File::create(folder.join("lock")).with_context(|| format!("state folder {}", folder.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => refuse!("state folder {}: another server uses it; name another", folder.display()),
            Err(TryLockError::Error(error)) => log::warn!("state folder {}: cannot be locked: {error}", folder.display()),
        }
        let path = folder.join("kiln.db");
        let (database, log) = match connect(&path) {
            Ok(connected) => connected,
            Err(error) if is_damage(&error) && set_aside => {
                let aside = set_database_aside(&path)?;
                log::warn!("{}: was damaged ({error:#}) and lies in {} now", path.display(), aside.display());
                connect(&path)?
            }
            Err(error) if is_damage(&error) => refuse!(
                "{}: the database is damaged ({error:#}); --set-damaged-aside renames it and begins an empty one, or put back a copy; \
                 the pictures in {} are files of their own",
                path.display(),
                pictures.display()
            ),
            Err(error) => return Err(error.context(path.display().to_string())),
        };
        let files = PictureFiles::new(pictures);
        files.recover(&database, file_name)?;
        database.execute(
            "UPDATE jobs SET state = 'interrupted', ended_ms = ?1, error_code = 'interrupted',
             error_message = 'the server ended before the job did; it can be repeated' WHERE state IN ('queued', 'running')",
            [now_ms()],
        )?;
        let store = Self { database: Mutex::new(database), log, files, retention, grew: AtomicBool::new(true), _lock: lock };
        store.remove_orphans()?;
        store.tend(true, &|_| false)?;
        Ok(store)
    }

    /// Carries `change` out in one transaction; [`Store::sync`] waits until it survives the machine's power.
    fn write<T>(&self, change: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<(T, Ticket)> {
        let mut database = self.lock();
        let transaction = database.transaction()?;
        let value = change(&transaction)?;
        transaction.commit()?;
        Ok((value, self.log.as_ref().map_or(Ticket::SYNCED, WriteAheadLog::note)))
    }

    /// Waits until what `ticket` stands for, and all before it, survives the machine's power.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self, ticket: Ticket) -> Result<()> {
        self.log.as_ref().map_or(Ok(()), |log| log.sync(ticket)).context("the database")
    }

    /// Whether the disk failed while the database was synced: nothing that is written from then on is known to last.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.log.as_ref().is_some_and(WriteAheadLog::has_failed)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of the pictures.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.files.folder
    }

    /// Keeps a new job; returns its number, and what [`Store::sync`] is to be told before anybody is told of the job.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn insert(&self, new: &NewRecord<'_>) -> Result<(i64, Ticket)> {
        let NewRecord { id, client, model, wish, attachments: Attachments { picture, mask }, repeats, created_ms } = new;
        let wish = serde_json::to_string(wish)?;
        self.grew.store(true, Ordering::Relaxed);
        self.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO jobs (id, state, client, model, wish, picture, mask, repeats, created_ms) VALUES (?1, 'queued', ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?;
            Ok(statement.insert(params![id, client, model, wish, picture, mask, repeats, created_ms])?)
        })
    }

    /// Keeps a job's pictures and says that it is finished.
    ///
    /// # Errors
    /// The disk is full or fails; then nothing is told of them.
    pub fn finish(&self, number: i64, id: &str, started_ms: i64, pictures: &[NewPicture]) -> Result<Vec<PictureRecord>> {
        self.grew.store(true, Ordering::Relaxed);
        let is_small = pictures.iter().map(|picture| picture.file.len()).sum::<usize>() <= LARGEST_COPIES_BYTES;
        let copies = is_small && self.log.is_some();
        let kept = self.keep(number, id, started_ms, pictures, copies).inspect_err(|_| {
            // On a full disk half of them would stand in the way of others.
            for n in 0..pictures.len() {
                let _ = fs::remove_file(self.files.folder.join(file_name(id, n)));
            }
        });
        self.sync(kept?)?;
        let mut records = Vec::new();
        for (n, NewPicture { file, seed, size: (width, height) }) in pictures.iter().enumerate() {
            if copies {
                self.files.note_copy(number, u32::try_from(n)?, &file_name(id, n));
            }
            let (seed, width, height, bytes) = (*seed, *width, *height, file.len() as u64);
            records.push(PictureRecord { n, url: url_of(id, n), seed, width, height, bytes });
        }
        Ok(records)
    }

    /// Writes the files of pictures, and rows that say that their job is finished.
    ///
    /// * `copies`: whether the rows hold the files too, which need not be synced then
    fn keep(&self, number: i64, id: &str, started_ms: i64, pictures: &[NewPicture], copies: bool) -> Result<Ticket> {
        for (n, picture) in pictures.iter().enumerate() {
            self.files.write(&file_name(id, n), &picture.file, !copies)?;
        }
        if !copies {
            self.files.sync_folder()?;
        }
        let ((), ticket) = self.write(|transaction| {
            let mut statement = transaction.prepare_cached(
                "INSERT OR REPLACE INTO pictures (job, n, seed, width, height, bytes, copy) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for (n, picture) in pictures.iter().enumerate() {
                let (n, bytes) = (i64::try_from(n)?, i64::try_from(picture.file.len())?);
                let copy = copies.then_some(&picture.file);
                let (width, height) = picture.size;
                statement.execute(params![number, n, picture.seed.cast_signed(), width, height, bytes, copy])?;
            }
            let mut statement = transaction
                .prepare_cached("UPDATE jobs SET state = 'finished', started_ms = ?2, ended_ms = ?3 WHERE number = ?1")?;
            statement.execute(params![number, started_ms, now_ms()])?;
            Ok(())
        })?;
        Ok(ticket)
    }

    /// Says that a job ended without pictures; rows of pictures go, which a sync that failed may have left.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn end(&self, number: i64, ended: &Ended) -> Result<()> {
        let Ended { state, started_ms, ended_ms, error } = ended;
        let ((), ticket) = self.write(|transaction| {
            transaction.prepare_cached("DELETE FROM pictures WHERE job = ?1")?.execute([number])?;
            let mut statement = transaction.prepare_cached(
                "UPDATE jobs SET state = ?2, started_ms = ?3, ended_ms = ?4, error_code = ?5, error_message = ?6 WHERE number = ?1",
            )?;
            let (code, message) = (error.as_ref().map(|error| &error.code), error.as_ref().map(|error| &error.message));
            statement.execute(params![number, state.name(), started_ms, ended_ms, code, message])?;
            Ok(())
        })?;
        self.sync(ticket)
    }

    /// The job called `id`.
    ///
    /// # Errors
    /// The database fails.
    pub fn find(&self, id: &str) -> Result<Option<Record>> {
        let database = self.lock();
        let mut statement = database.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?;
        let found = statement.query_row([id], read_record).optional()?;
        found.map(|record| with_pictures(&database, record?)).transpose()
    }

    /// Jobs from the newest on, older than the one numbered `before`.
    ///
    /// # Errors
    /// The database fails.
    pub fn list(&self, limit: usize, before: Option<i64>) -> Result<Vec<Record>> {
        let database = self.lock();
        let mut statement = database.prepare_cached(&format!("{SELECT} WHERE number < ?1 ORDER BY number DESC LIMIT ?2"))?;
        let rows = statement.query_map(params![before.unwrap_or(i64::MAX), i64::try_from(limit)?], read_record)?;
        rows.map(|row| with_pictures(&database, row??)).collect()
    }

    /// The pictures that came with a job.
    ///
    /// # Errors
    /// The database fails.
    pub fn attachments(&self, number: i64) -> Result<Attachments> {
        let read = |row: &Row<'_>| Ok(Attachments { picture: row.get(0)?, mask: row.get(1)? });
        Ok(self.lock().query_row("SELECT picture, mask FROM jobs WHERE number = ?1", [number], read)?)
    }

    /// The file of picture `n` of a job that [`Store::find`] gave.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn picture(&self, record: &Record, n: usize) -> Result<Option<Vec<u8>>> {
        if !record.pictures.iter().any(|picture| picture.n == n) {
            return Ok(None);
        }
        let name = file_name(&record.id, n);
        fs::read(self.files.folder.join(&name)).map(Some).with_context(|| format!("picture {name}"))
    }

    /// Forgets an ended job and its pictures.
    ///
    /// # Errors
    /// The database fails.
    pub fn delete(&self, record: &Record) -> Result<()> {
        let (_, ticket) = self.write(|transaction| {
            Ok(transaction.prepare_cached("DELETE FROM jobs WHERE number = ?1")?.execute([record.number])?)
        })?;
        // A row without its file would be told of.
        self.sync(ticket)?;
        for picture in &record.pictures {
            let _ = fs::remove_file(self.files.folder.join(file_name(&record.id, picture.n)));
        }
        Ok(())
    }
}

/// Whether `error` is that the disk has no room.
#[must_use]
pub fn is_disk_full(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let file = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let database = cause.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
        matches!(file, Some(std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded))
            || database == Some(rusqlite::ErrorCode::DiskFull)
    })
}
