//! What is kept of jobs, as far as it may be told.

use std::collections::HashMap;

use anyhow::Result;

use super::{Dispatcher, Inner};
use crate::server::job::State;
use crate::server::store::{Ended, Record};

/// A part of all jobs.
pub struct Listed {
    /// From the newest on.
    pub records: Vec<Record>,
    /// The number before which older ones are; nothing where that may be all.
    pub next: Option<i64>,
}

impl Dispatcher {
    /// The job called `id`.
    ///
    /// # Errors
    /// The database fails.
    pub fn find(&self, id: &str) -> Result<Option<Record>> {
        let before = self.lock().ends.unwritten.clone();
        let found = self.store.find(id)?;
        let inner = self.lock();
        Ok(found.and_then(|record| as_told(&inner, &before, record)))
    }

    /// Jobs from the newest on, older than the one numbered `before`.
    ///
    /// # Errors
    /// The database fails.
    pub fn list(&self, limit: usize, before: Option<i64>) -> Result<Listed> {
        let unwritten = self.lock().ends.unwritten.clone();
        let found = self.store.list(limit, before)?;
        let next = if found.len() == limit { found.last().map(|record| record.number) } else { None };
        let inner = self.lock();
        let records = found.into_iter().filter_map(|record| as_told(&inner, &unwritten, record)).collect();
        Ok(Listed { records, next })
    }
}

/// A row as clients may know it: nothing of it before it survives the machine's power, and an end that was told of though it is not written.
///
/// * `before`: the ends that were not written before the row was read; one that was written since may have been told of before that
fn as_told(inner: &Inner, before: &HashMap<String, (i64, Ended)>, record: Record) -> Option<Record> {
    if inner.unsynced.contains(&record.id) {
        return None;
    }
    let (created_ms, started_ms, _) = record.times_ms;
    if let Some((_, ended)) = inner.ends.unwritten.get(&record.id).or_else(|| before.get(&record.id)) {
        let Ended { state, started_ms, ended_ms, error } = ended.clone();
        let times_ms = (created_ms, started_ms, Some(ended_ms));
        return Some(Record { state, times_ms, error, pictures: Vec::new(), ..record });
    }
    // The job itself is looked for after its row was read: one that is gone by then was waited for.
    if record.state.is_end() && inner.live.contains_key(&record.id) {
        let times_ms = (created_ms, started_ms, None);
        return Some(Record { state: State::Running, times_ms, error: None, pictures: Vec::new(), ..record });
    }
    Some(record)
}
