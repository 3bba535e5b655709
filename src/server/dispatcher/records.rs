//! What is kept of jobs, as far as it may be told.

use anyhow::Result;

use super::Dispatcher;
use crate::server::job::State;
use crate::server::store::Record;

impl Dispatcher {
    /// The job called `id`.
    ///
    /// # Errors
    /// The database fails.
    pub fn find(&self, id: &str) -> Result<Option<Record>> {
        Ok(self.store.find(id)?.map(|record| self.as_told(record)))
    }

    /// Jobs from the newest on, older than the one numbered `before`.
    ///
    /// # Errors
    /// The database fails.
    pub fn list(&self, limit: usize, before: Option<i64>) -> Result<Vec<Record>> {
        Ok(self.store.list(limit, before)?.into_iter().map(|record| self.as_told(record)).collect())
    }

    /// A row may say that its job has ended before that survives the machine's power. The job itself is looked for after its row was read:
    /// one that is gone by then was waited for.
    fn as_told(&self, record: Record) -> Record {
        if !record.state.is_end() || self.live(&record.id).is_none() {
            return record;
        }
        let (created_ms, started_ms, _) = record.times_ms;
        let times_ms = (created_ms, started_ms, None);
        Record { state: State::Running, times_ms, error: None, pictures: Vec::new(), ..record }
    }
}
