//! Jobs and pictures on the disk: rows in SQLite, pictures as files beside it.
//!
//! A picture's file is synced and renamed into place before its job's row says that it is finished, so what was once told of stays true.

mod database;

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use rusqlite::{Connection, OptionalExtension, Row, params};

use database::{connect, is_damage, set_database_aside};

use super::job::{Failure, PictureRecord, State, now_ms};
use super::wish::{Attachments, Wish};
use crate::refuse;

/// How much is kept; beyond, the oldest ended jobs go with their pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retention {
    /// The most jobs.
    pub jobs: u64,
    /// The most bytes of pictures.
    pub bytes: u64,
    /// The oldest, in days.
    pub days: f64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { jobs: 10_000, bytes: 4 << 30, days: 90.0 }
    }
}

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

/// A finished picture as it goes to the disk.
pub struct NewPicture {
    /// The PNG file.
    pub file: Vec<u8>,
    /// The seed that gives it.
    pub seed: u64,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

/// The database and the folder of pictures.
pub struct Store {
    database: Mutex<Connection>,
    folder: PathBuf,
    retention: Retention,
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
        let database = match connect(&path) {
            Ok(database) => database,
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
        let store = Self { database: Mutex::new(database), folder: pictures, retention, _lock: lock };
        store.lock().execute(
            "UPDATE jobs SET state = 'interrupted', ended_ms = ?1, error_code = 'interrupted',
             error_message = 'the server ended before the job did; it can be repeated' WHERE state IN ('queued', 'running')",
            [now_ms()],
        )?;
        // Of a damaged database that was set aside the pictures stay.
        if !set_aside {
            store.remove_orphans()?;
        }
        store.retain()?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder of the pictures.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a new job; once this returns, it survives the machine's power.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn insert(
        &self,
        id: &str,
        client: &str,
        model: &str,
        wish: &Wish,
        attachments: &Attachments,
        repeats: Option<&str>,
    ) -> Result<i64> {
        let database = self.lock();
        database.execute(
            "INSERT INTO jobs (id, state, client, model, wish, picture, mask, repeats, created_ms) VALUES (?1, 'queued', ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![id, client, model, serde_json::to_string(wish)?, attachments.picture, attachments.mask, repeats, now_ms()],
        )?;
        Ok(database.last_insert_rowid())
    }

    /// Keeps a job's pictures and says that it is finished.
    ///
    /// # Errors
    /// The disk is full or fails; then nothing is told of them.
    pub fn finish(&self, number: i64, id: &str, started_ms: i64, pictures: &[NewPicture]) -> Result<Vec<PictureRecord>> {
        for (n, picture) in pictures.iter().enumerate() {
            let mut file = tempfile::Builder::new().suffix(".part").tempfile_in(&self.folder)?;
            file.write_all(&picture.file)?;
            file.as_file().sync_all()?;
            file.persist(self.folder.join(file_name(id, n))).map_err(|error| error.error)?;
        }
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        let mut database = self.lock();
        let transaction = database.transaction()?;
        for (n, picture) in pictures.iter().enumerate() {
            let bytes = i64::try_from(picture.file.len())?;
            transaction.execute(
                "INSERT OR REPLACE INTO pictures (job, n, seed, width, height, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![number, i64::try_from(n)?, picture.seed.cast_signed(), picture.size.0, picture.size.1, bytes],
            )?;
        }
        transaction.execute(
            "UPDATE jobs SET state = 'finished', started_ms = ?2, ended_ms = ?3 WHERE number = ?1",
            params![number, started_ms, now_ms()],
        )?;
        transaction.commit()?;
        pictures_of(&database, number, id)
    }

    /// Says that a job ended without pictures.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn end(&self, number: i64, state: State, started_ms: Option<i64>, error: Option<&Failure>) -> Result<()> {
        self.lock().execute(
            "UPDATE jobs SET state = ?2, started_ms = ?3, ended_ms = ?4, error_code = ?5, error_message = ?6 WHERE number = ?1",
            params![
                number,
                state.name(),
                started_ms,
                now_ms(),
                error.map(|error| &error.code),
                error.map(|error| &error.message)
            ],
        )?;
        Ok(())
    }

    /// The job called `id`.
    ///
    /// # Errors
    /// The database fails.
    pub fn find(&self, id: &str) -> Result<Option<Record>> {
        let database = self.lock();
        let found = database.query_row(&format!("{SELECT} WHERE id = ?1"), [id], read_record).optional()?;
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
        fs::read(self.folder.join(&name)).map(Some).with_context(|| format!("picture {name}"))
    }

    /// Forgets an ended job and its pictures.
    ///
    /// # Errors
    /// The database fails.
    pub fn delete(&self, record: &Record) -> Result<()> {
        self.lock().execute("DELETE FROM jobs WHERE number = ?1", [record.number])?;
        for picture in &record.pictures {
            let _ = fs::remove_file(self.folder.join(file_name(&record.id, picture.n)));
        }
        Ok(())
    }

    /// Forgets what is beyond the retention limit, the oldest first.
    ///
    /// # Errors
    /// The database fails.
    pub fn retain(&self) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "an age")]
        let oldest_ms = now_ms().saturating_sub((self.retention.days * 86_400_000.0) as i64);
        loop {
            let database = self.lock();
            let (jobs, bytes): (u64, u64) = database.query_row(
                "SELECT (SELECT count(*) FROM jobs), (SELECT coalesce(sum(bytes), 0) FROM pictures)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
            let ended = format!("{SELECT} WHERE state NOT IN ('queued', 'running') ORDER BY number LIMIT 1");
            let Some(oldest) = database.query_row(&ended, [], read_record).optional()? else { return Ok(()) };
            let oldest = with_pictures(&database, oldest?)?;
            drop(database);
            let is_beyond = jobs > self.retention.jobs || bytes > self.retention.bytes || oldest.times_ms.0 < oldest_ms;
            if !is_beyond {
                return Ok(());
            }
            self.delete(&oldest)?;
        }
    }

    /// Removes files that no row tells of: a run was killed before it said so.
    fn remove_orphans(&self) -> Result<()> {
        let database = self.lock();
        let mut known = database.prepare("SELECT id, n FROM jobs JOIN pictures ON job = number")?;
        let names = known.query_map([], |row| Ok(file_name(&row.get::<_, String>(0)?, row.get::<_, u32>(1)? as usize)))?;
        let names: std::collections::HashSet<String> = names.collect::<Result<_, _>>()?;
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if (name.ends_with(".png") || name.ends_with(".part")) && !names.contains(&name) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }
}

const SELECT: &str = "SELECT number, id, state, client, model, wish, repeats, created_ms, started_ms, ended_ms, error_code, error_message FROM jobs";

fn file_name(id: &str, n: usize) -> String {
    format!("{id}-{n}.png")
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<Result<Record>> {
    let (state, wish): (String, String) = (row.get(2)?, row.get(5)?);
    let (code, message): (Option<String>, Option<String>) = (row.get(10)?, row.get(11)?);
    let (number, id, client, model, repeats) = (row.get(0)?, row.get(1)?, row.get(3)?, row.get(4)?, row.get(6)?);
    let times_ms = (row.get(7)?, row.get(8)?, row.get(9)?);
    let error = code.map(|code| Failure { code, message: message.unwrap_or_default() });
    let read = || -> Result<Record> {
        let state = serde_json::from_value(serde_json::Value::String(state)).context("state of a job")?;
        let wish = serde_json::from_str(&wish).context("wish of a job")?;
        Ok(Record { number, id, state, client, model, wish, repeats, times_ms, error, pictures: Vec::new() })
    };
    Ok(read())
}

fn with_pictures(database: &Connection, mut record: Record) -> Result<Record> {
    record.pictures = pictures_of(database, record.number, &record.id)?;
    Ok(record)
}

fn pictures_of(database: &Connection, number: i64, id: &str) -> Result<Vec<PictureRecord>> {
    let mut statement =
        database.prepare_cached("SELECT n, seed, width, height, bytes FROM pictures WHERE job = ?1 ORDER BY n")?;
    let rows = statement.query_map([number], |row| {
        let n = row.get::<_, u32>(0)? as usize;
        Ok(PictureRecord {
            n,
            url: format!("/jobs/{id}/pictures/{n}"),
            seed: row.get::<_, i64>(1)?.cast_unsigned(),
            width: row.get(2)?,
            height: row.get(3)?,
            bytes: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
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
