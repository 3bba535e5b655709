//! The database's file: opened, checked before anything is written to it, set aside where it is damaged.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rusqlite::Connection;

use super::write_ahead_log::WriteAheadLog;
use crate::refuse;
use crate::server::job::now_ms;

/// The version of the tables.
const SCHEMA: i64 = 2;
const TABLES: &str = "
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, client TEXT NOT NULL, model TEXT NOT NULL,
        wish TEXT NOT NULL, picture BLOB, mask BLOB, repeats TEXT, created_ms INTEGER NOT NULL, started_ms INTEGER, ended_ms INTEGER,
        error_code TEXT, error_message TEXT
    );
    CREATE TABLE pictures (
        job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE, n INTEGER NOT NULL, seed INTEGER NOT NULL,
        width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL, copy BLOB, PRIMARY KEY (job, n)
    );
    PRAGMA user_version = 2;";
/// From the version before.
const FROM_1: &str = "ALTER TABLE pictures ADD COLUMN copy BLOB; PRAGMA user_version = 2;";

/// Opens the database, or makes an empty one.
///
/// # Errors
/// It is damaged, or of a newer Kiln or another program (a [`Refusal`](crate::error::Refusal)), and stays as it is; the disk fails.
pub(super) fn connect(path: &Path) -> Result<(Connection, Option<WriteAheadLog>)> {
    let database = Connection::open(path)?;
    // The pages are checked before anything is written to them.
    let check: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if check != "ok" {
        return Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(check)).into());
    }
    // Before anything is written: what another program or a newer Kiln made stays as it is.
    let version: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match version {
        0 if tables > 0 => refuse!("the database is not of Kiln's making; name another state folder"),
        0 | 1 | SCHEMA => {}
        newer => refuse!("the database is of version {newer}, and this Kiln knows {SCHEMA}; a newer Kiln wrote it"),
    }
    let mode: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    database.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    match version {
        0 => database.execute_batch(&format!("BEGIN; {TABLES} COMMIT;"))?,
        1 => database.execute_batch(&format!("BEGIN; {FROM_1} COMMIT;"))?,
        _ => {}
    }
    // Some file systems take no log beside the database; then each commit waits for the disk.
    if mode != "wal" {
        return Ok((database, None));
    }
    let log = WriteAheadLog::open(path)?;
    // From here on the store syncs the log itself; SQLite syncs around checkpoints, so that the database is whole at any moment.
    database.execute_batch("PRAGMA synchronous = NORMAL")?;
    Ok((database, Some(log)))
}

/// Whether `error` is that the file is none, or spoilt.
pub(super) fn is_damage(error: &anyhow::Error) -> bool {
    let code = error.downcast_ref::<rusqlite::Error>().and_then(rusqlite::Error::sqlite_error_code);
    matches!(code, Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// Renames the database with what SQLite keeps beside it; returns where it lies now.
///
/// # Errors
/// It cannot be renamed.
pub(super) fn set_database_aside(path: &Path) -> Result<PathBuf> {
    let named = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let aside = format!(".damaged-{}", now_ms());
    for part in ["", "-wal", "-shm"] {
        let from = named(part);
        if from.exists() {
            fs::rename(&from, named(&format!("{aside}{part}"))).with_context(|| from.display().to_string())?;
        }
    }
    Ok(named(&aside))
}
