//! How jobs end: with their pictures, without, late, stopped. What is told of an end stays true though the disk does not take it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Dispatcher, Inner};
use crate::server::job::{Failure, Job, JobEvent, State, now_ms};
use crate::server::problem::{Code, Problem};
use crate::server::store::{Ended, NewPicture, Record, is_disk_full};

/// Said of a job that the server's end takes along.
pub(super) const INTERRUPTED: &str = "the server ended before the job did; it can be repeated";
/// How often pictures are tried to be written again while the disk is full.
const DISK_PATIENCE: Duration = Duration::from_millis(500);

/// Ends that were told of and are not in the database, by the jobs' names, with the jobs' numbers.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) unwritten: HashMap<String, (i64, Ended)>,
    /// Why the last was not written.
    pub(super) why: Option<Problem>,
}

impl Dispatcher {
    /// Keeps a job's pictures and tells its watchers. While the disk is full its worker waits for room, whatever the job's deadline, and the
    /// server is not ready; only a client that stops the job, or the server's end, takes its pictures away.
    ///
    /// * `found_open`: whether its model was open when it began
    pub fn finish(&self, job: &Job, pictures: &[NewPicture], found_open: bool) {
        let started_ms = job.present().started.map_or(job.created_ms, |(_, ms)| ms);
        let mut is_short = false;
        let outcome = loop {
            match self.store.finish(job.number, &job.id, started_ms, pictures) {
                Err(error) if is_disk_full(&error) && !job.cancel.is_cancelled() => {
                    if !is_short {
                        log::warn!("job {}: its pictures wait for room on the disk: {error:#}", job.id);
                        self.short_of_room.fetch_add(1, Ordering::SeqCst);
                        is_short = true;
                    }
                    std::thread::sleep(DISK_PATIENCE);
                }
                outcome => break outcome,
            }
        };
        if is_short {
            self.short_of_room.fetch_sub(1, Ordering::SeqCst);
        }
        match outcome {
            Ok(pictures) => {
                if let Some((started, _)) = job.present().started {
                    let took_ms = started.elapsed().as_secs_f64() * 1_000.0;
                    // What the disk took says nothing of the next job, nor what was opened for this one.
                    if !is_short && found_open {
                        self.speeds.learn(&job.kind, took_ms);
                    }
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time")]
                    self.counters.busy_ms.fetch_add(took_ms as u64, Ordering::Relaxed);
                }
                self.counters.finished.fetch_add(1, Ordering::Relaxed);
                self.counters.pictures.fetch_add(pictures.len() as u64, Ordering::Relaxed);
                self.forget(&mut self.lock(), job, JobEvent::End { state: State::Finished, pictures, error: None });
            }
            Err(_) if job.cancel.is_cancelled() => self.end(job, job.stopped_state(), job.stopped_by()),
            Err(error) => {
                log::error!("job {}: its pictures could not be kept: {error:#}", job.id);
                self.end(job, State::Failed, Some(error.into()));
            }
        }
    }

    /// Ends a job without pictures. An end that the disk does not take is told all the same: the job will not go on. It is written later.
    pub fn end(&self, job: &Job, state: State, why: Option<Problem>) {
        let error = why.map(|why| Failure { code: why.code.name().to_owned(), message: why.message });
        let started_ms = job.present().started.map(|(_, ms)| ms);
        let ended = Ended { state, started_ms, ended_ms: now_ms(), error: error.clone() };
        let written = self.store.end(job.number, &ended);
        let counter = if state == State::Failed { &self.counters.failed } else { &self.counters.stopped };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut inner = self.lock();
        if let Err(error) = written {
            log::warn!("job {}: its end is told of and will be written later: {error:#}", job.id);
            inner.ends.unwritten.insert(job.id.clone(), (job.number, ended));
            inner.ends.why = Some(error.into());
        }
        self.forget(&mut inner, job, JobEvent::End { state, pictures: Vec::new(), error });
    }

    fn forget(&self, inner: &mut Inner, job: &Job, end: JobEvent) {
        inner.live.remove(&job.id);
        inner.running.retain(|running| running.id != job.id);
        inner.promised_bytes = inner.promised_bytes.saturating_sub(job.room_bytes);
        job.tell(end);
        self.tell_places(inner);
    }

    /// Stops a job that has not ended, within one kernel. Blocks for the disk.
    pub fn stop(&self, job: &Arc<Job>, why: Problem) {
        let waited = self.lock().queue.remove(|waiting| waiting.id == job.id);
        job.stop(why);
        if waited.is_some() {
            self.end(job, job.stopped_state(), job.stopped_by());
        }
    }

    /// Stops the jobs whose time is up. One whose pictures are made and wait for the disk is late no more.
    pub fn expire(&self) {
        let now = Instant::now();
        let is_late = |job: &&Arc<Job>| job.deadline <= now && !job.cancel.is_cancelled() && !job.is_made();
        let late: Vec<Arc<Job>> = self.lock().live.values().filter(is_late).cloned().collect();
        for job in late {
            self.stop(&job, Problem::new(Code::Deadline, "the job was not done within its time"));
        }
    }

    /// Takes no more jobs; those that are there go on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Interrupts every job that is left, and lets the workers go.
    pub fn close(&self) {
        self.drain();
        self.closed.store(true, Ordering::SeqCst);
        let left: Vec<Arc<Job>> = self.lock().live.values().cloned().collect();
        for job in left {
            self.stop(&job, Problem::new(Code::Interrupted, INTERRUPTED));
        }
        self.wake.notify_all();
    }

    /// What can wait until nobody does: ends that the disk did not take, and what [`Store::tend`](crate::server::store::Store::tend) does.
    pub fn tend(&self) {
        self.write_ends();
        let is_live = |id: &str| {
            let inner = self.lock();
            inner.live.contains_key(id) || inner.ends.unwritten.contains_key(id)
        };
        if let Err(error) = self.store.tend(self.is_draining(), &is_live) {
            log::warn!("the store could not be tended: {error:#}");
        }
    }

    /// Writes the ends that the disk did not take.
    fn write_ends(&self) {
        let unwritten = self.lock().ends.unwritten.clone();
        // After a sync that failed no other is believed; the ends are told from memory until the server is started again.
        if unwritten.is_empty() || self.store.has_failed() {
            return;
        }
        for (id, (number, ended)) in unwritten {
            if let Err(error) = self.store.end(number, &ended) {
                log::debug!("job {id}: its end is still not written: {error:#}");
                self.lock().ends.why = Some(error.into());
                return;
            }
            log::info!("job {id}: its end is written");
            let mut inner = self.lock();
            inner.ends.unwritten.remove(&id);
            if inner.ends.unwritten.is_empty() {
                inner.ends.why = None;
            }
        }
    }

    /// Forgets an ended job and its pictures.
    ///
    /// # Errors
    /// The database fails.
    pub fn delete(&self, record: &Record) -> Result<()> {
        self.store.delete(record)?;
        let mut inner = self.lock();
        inner.ends.unwritten.remove(&record.id);
        if inner.ends.unwritten.is_empty() {
            inner.ends.why = None;
        }
        Ok(())
    }
}
