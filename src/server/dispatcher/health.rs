//! How the dispatcher is: what waits, what fails, whether it is ready.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Dispatcher;
use crate::bundle::Role;
use crate::runtime::free_disk_bytes;
use crate::server::problem::{Code, Problem};

impl Dispatcher {
    /// Whether no more jobs are taken.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// Whether no job waits or runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lock().live.is_empty()
    }

    /// How many jobs wait, and how many run.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.queue.len(), inner.running.len())
    }

    /// Says how the last job of a model went: nothing, or why it failed although the model was opened anew.
    pub fn set_failing(&self, model: &str, why: Option<String>) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match why {
            Some(why) => drop(failing.insert(model.to_owned(), why)),
            None => drop(failing.remove(model)),
        }
    }

    /// Says which components of a model a worker holds open.
    pub fn set_open(&self, model: &str, components: Vec<Role>) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned(), components);
    }

    pub(super) fn open_components(&self, model: &str) -> Vec<Role> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(model).cloned().unwrap_or_default()
    }

    /// Says that a worker is gone, and nobody does its jobs.
    pub fn lose_worker(&self) {
        self.lost_worker.store(true, Ordering::SeqCst);
    }

    /// Whether every device has its worker.
    #[must_use]
    pub fn has_all_workers(&self) -> bool {
        !self.lost_worker.load(Ordering::SeqCst)
    }

    /// Makes sure that jobs can be kept until they are done.
    ///
    /// # Errors
    /// The server is about to end; the disk failed, after which nothing that is written is known to last; pictures wait for room on it, or the
    /// end of a job does.
    pub(super) fn check_open(&self) -> Result<(), Problem> {
        if self.is_draining() {
            return Err(Problem { retry_after_s: Some(30), ..Problem::new(Code::Draining, "the server is about to end") });
        }
        if self.store.has_failed() {
            return Err(Problem::new(Code::Internal, "the disk failed while the database was synced; start the server again"));
        }
        if self.short_of_room.load(Ordering::SeqCst) > 0 {
            return Err(Problem::disk_full());
        }
        self.lock().ends.why.clone().map_or(Ok(()), Err)
    }

    /// Why the server is not ready, if it is not.
    #[must_use]
    pub fn not_ready(&self) -> Option<Problem> {
        if let Err(problem) = self.check_open() {
            return Some(problem);
        }
        if !self.has_all_workers() {
            return Some(Problem::new(Code::Internal, "a device has lost its worker; start the server again"));
        }
        if free_disk_bytes(self.store.folder()).is_some_and(|free| free < self.keep_free_bytes) {
            return Some(Problem::disk_full());
        }
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.iter().next().map(|(model, why)| Problem::new(Code::Internal, format!("model {model}: {why}")))
    }
}
