//! Rows of jobs and pictures as records, and what their files are called.

use anyhow::{Context, Result};
use rusqlite::{Connection, Row};

use super::Record;
use crate::server::job::{Failure, PictureRecord};

/// The columns that [`read_record`] reads.
pub(super) const SELECT: &str = "SELECT number, id, state, client, model, wish, repeats, created_ms, started_ms, ended_ms, error_code, error_message FROM jobs";

pub(super) fn url_of(id: &str, n: usize) -> String {
    format!("/jobs/{id}/pictures/{n}")
}

pub(super) fn file_name(id: &str, n: usize) -> String {
    format!("{id}-{n}.png")
}

/// The job in the name of a picture's file, where it is such a name.
pub(super) fn id_in(name: &str) -> Option<&str> {
    let (id, n) = name.strip_suffix(".png")?.rsplit_once('-')?;
    let is_id = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_id && !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit())).then_some(id)
}

pub(super) fn read_record(row: &Row<'_>) -> rusqlite::Result<Result<Record>> {
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

pub(super) fn with_pictures(database: &Connection, mut record: Record) -> Result<Record> {
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
            url: url_of(id, n),
            seed: row.get::<_, i64>(1)?.cast_unsigned(),
            width: row.get(2)?,
            height: row.get(3)?,
            bytes: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
