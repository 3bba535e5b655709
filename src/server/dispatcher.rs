//! Takes jobs in, keeps them in order, hands them to the workers, ends them: what every interface stands on.

mod counters;
mod ends;
mod health;
mod records;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

pub use counters::Counters;
use ends::Ends;
pub use records::Listed;

use super::catalogue::Catalogue;
use super::job::{Job, JobEvent, NewJob, State, now_ms};
use super::limits::Limits;
use super::policy::Policy;
use super::problem::{Code, Problem};
use super::queue::{FairQueue, Full};
use super::speed::{Kind, Speeds};
use super::store::{NewRecord, Record, Store};
use super::wish::{Attachments, Wish};
use crate::bundle::Role;
use crate::output::Picture;
use crate::plan::{Budget, Plan};
use crate::refusal;
use crate::request::{Request, Resolved};
use crate::runtime::free_disk_bytes;

/// What a PNG file holds beside its pixels, in bytes; and a row of the database with what SQLite writes for it.
const AROUND_PICTURE_BYTES: u64 = 64 * 1024;

struct Inner {
    queue: FairQueue<Arc<Job>>,
    live: HashMap<String, Arc<Job>>,
    running: Vec<Arc<Job>>,
    promised_bytes: u64,
    /// Jobs that would not survive the machine's power yet: nobody is told of them.
    unsynced: HashSet<String>,
    /// Ends that were told of and are not in the database yet.
    ends: Ends,
}

/// The one place where jobs are.
pub struct Dispatcher {
    /// The models.
    pub catalogue: Catalogue,
    /// The limits.
    pub limits: Limits,
    /// What is kept.
    pub store: Store,
    /// How long jobs take.
    pub speeds: Speeds,
    /// What happened since the start.
    pub counters: Counters,
    policy: Option<Policy>,
    keep_free_bytes: u64,
    inner: Mutex<Inner>,
    wake: Condvar,
    draining: AtomicBool,
    closed: AtomicBool,
    workers: usize,
    lost_worker: AtomicBool,
    /// How many jobs wait with their pictures for room on the disk.
    short_of_room: AtomicUsize,
    /// Models whose last job failed after they were opened anew, with the reason.
    failing: Mutex<HashMap<String, String>>,
    /// The components of each model that the worker which ran it last holds open.
    open: Mutex<HashMap<String, Vec<Role>>>,
    /// Pictures that come in are decoded one at a time: each may take much memory.
    decoding: Mutex<()>,
}

impl Dispatcher {
    /// Ready for jobs.
    #[must_use]
    pub fn new(
        catalogue: Catalogue,
        limits: Limits,
        store: Store,
        policy: Option<Policy>,
        keep_free_bytes: u64,
        workers: usize,
    ) -> Self {
        let queue = FairQueue::new(limits.queue, limits.queue_per_client);
        Self {
            catalogue,
            limits,
            store,
            speeds: Speeds::default(),
            counters: Counters::default(),
            policy,
            keep_free_bytes,
            inner: Mutex::new(Inner {
                queue,
                live: HashMap::new(),
                running: Vec::new(),
                promised_bytes: 0,
                unsynced: HashSet::new(),
                ends: Ends::default(),
            }),
            wake: Condvar::new(),
            draining: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            workers: workers.max(1),
            lost_worker: AtomicBool::new(false),
            short_of_room: AtomicUsize::new(0),
            failing: Mutex::default(),
            open: Mutex::default(),
            decoding: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request of a wish, with its pictures, and its plan.
    ///
    /// # Errors
    /// A value is beyond a limit or none that the model takes; a picture is none; the policy blocks the prompt.
    pub fn plan(&self, wish: &Wish, attachments: &Attachments) -> Result<(Request, Budget, Resolved, Plan), Problem> {
        let model = self.catalogue.find(wish.model.as_deref())?;
        let mut request = wish.request(&self.limits)?;
        let budget = wish.budget()?;
        wish.deadline_s(&self.limits)?;
        if wish.fps.is_some() && !model.makes_clips() {
            return Err(refusal!("fps: model {} makes pictures one by one and no clips; leave it out", model.name).into());
        }
        let is_blocked = |policy: &Policy| {
            let negative = request.negative.as_deref().filter(|_| !request.plain_prompt);
            !policy.allows(&request.prompt) || negative.is_some_and(|negative| !policy.allows_negative(negative))
        };
        if self.policy.as_ref().is_some_and(is_blocked) {
            return Err(Problem::new(Code::Policy, "prompt: this server's policy does not allow it; say it in other words"));
        }
        self.attach(&mut request, attachments)?;
        let (resolved, plan) = model.plan(&request, budget, &self.open_components(&model.name))?;
        let most = self.limits.side_px;
        if resolved.width > most || resolved.height > most {
            let message = format!("size: is {}x{}, expected sides of at most {most}", resolved.width, resolved.height);
            return Err(Problem::new(Code::TooLarge, message));
        }
        let most = self.limits.frames;
        if let Some(frames) = resolved.frames.as_ref().map(|frames| frames.count).filter(|frames| *frames > most) {
            let message = format!("frames: is {frames}, expected at most {most}; the job may ask for fewer");
            return Err(Problem::new(Code::TooLarge, message));
        }
        Ok((request, budget, resolved, plan))
    }

    /// Decodes the pictures that came with a request into it.
    ///
    /// # Errors
    /// One is no picture or larger than the limit.
    pub fn attach(&self, request: &mut Request, attachments: &Attachments) -> Result<()> {
        let _one_at_a_time = self.decoding.lock().unwrap_or_else(PoisonError::into_inner);
        let side_px = self.limits.input_side_px;
        let read =
            |bytes: &Option<Vec<u8>>, name| bytes.as_ref().map(|bytes| Picture::read_up_to(bytes, name, side_px)).transpose();
        request.input = read(&attachments.picture, "picture")?;
        request.mask = read(&attachments.mask, "mask")?;
        Ok(())
    }

    /// Takes a job in, which may begin at once. Blocks for the disk: once it returns, the job survives the machine's power.
    ///
    /// * `client`: among whom the workers are shared fairly
    /// * `repeats`: the job that it repeats
    ///
    /// # Errors
    /// As [`Dispatcher::plan`]; the queue or the disk is full; the server is about to end.
    pub fn submit(
        &self,
        client: &str,
        mut wish: Wish,
        attachments: Attachments,
        repeats: Option<&str>,
    ) -> Result<Arc<Job>, Problem> {
        self.check_open()?;
        let deadline_s = wish.deadline_s(&self.limits)?;
        let (mut request, budget, resolved, plan) = self.plan(&wish, &attachments)?;
        let model = self.catalogue.find(wish.model.as_deref())?.name.clone();
        // The seed that was drawn is kept, so that a repetition is the same picture.
        (wish.seed, request.seed) = (Some(resolved.seed), Some(resolved.seed));
        wish.model = Some(model.clone());
        // Decoded pictures would fill the memory while the job waits; their files are kept with it.
        (request.input, request.mask) = (None, None);
        let frames = resolved.frames.as_ref().map_or(1, |frames| frames.count);
        let warnings = plan.warnings(&resolved, &budget);
        let kind = Kind::of(&model, &resolved);
        let expected_ms = self.speeds.expect_ms(&kind, plan.forecast.time_ms);
        let picture_bytes = u64::from(resolved.width) * u64::from(resolved.height) * 4 * frames as u64 + AROUND_PICTURE_BYTES;
        let room_bytes = picture_bytes * resolved.count as u64 + attachments.bytes();
        let id = new_id()?;
        self.promise(client, room_bytes)?;
        let created_ms = now_ms();
        self.lock().unsynced.insert(id.clone());
        let (wish_of, attachments_of) = (&wish, &attachments);
        let new = NewRecord { id: &id, client, model: &model, wish: wish_of, attachments: attachments_of, repeats, created_ms };
        let (number, ticket) = match self.store.insert(&new) {
            Ok(kept) => kept,
            Err(error) => {
                let mut inner = self.lock();
                inner.unsynced.remove(&id);
                inner.queue.withdraw(client);
                inner.promised_bytes = inner.promised_bytes.saturating_sub(room_bytes);
                return Err(error.into());
            }
        };
        let deadline = Instant::now() + Duration::from_secs_f64(deadline_s);
        let (client, repeats) = (client.to_owned(), repeats.map(str::to_owned));
        let has_attachments = attachments.picture.is_some() || attachments.mask.is_some();
        let job = Job::new(NewJob {
            id,
            number,
            client,
            repeats,
            wish,
            has_attachments,
            request,
            budget,
            kind,
            warnings,
            expected_ms,
            room_bytes,
            deadline,
            created_ms,
        });
        let mut inner = self.lock();
        inner.live.insert(job.id.clone(), Arc::clone(&job));
        inner.queue.push(&job.client, Arc::clone(&job));
        self.tell_places(&inner);
        drop(inner);
        self.wake.notify_one();
        // A worker begins meanwhile; nobody is told of the job before this.
        if let Err(error) = self.store.sync(ticket) {
            self.stop(&job, Problem::new(Code::Internal, "the disk failed before the job was kept"));
            return Err(error.into());
        }
        self.lock().unsynced.remove(&job.id);
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        // Whoever closes looks for jobs after it has said so.
        if self.closed.load(Ordering::SeqCst) {
            self.stop(&job, Problem::new(Code::Interrupted, ends::INTERRUPTED));
        }
        Ok(job)
    }

    /// Promises a job its place in the queue and on the disk.
    fn promise(&self, client: &str, room_bytes: u64) -> Result<(), Problem> {
        let mut inner = self.lock();
        let needed = self.keep_free_bytes.saturating_add(inner.promised_bytes).saturating_add(room_bytes);
        if free_disk_bytes(self.store.folder()).is_some_and(|free| free < needed) {
            return Err(Problem::disk_full());
        }
        if let Err(full) = inner.queue.promise(client) {
            self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
            let message = match full {
                Full::All => format!("the queue is full: {} jobs wait", inner.queue.len()),
                Full::Client => format!("this client has {} jobs waiting, as many as it may", self.limits.queue_per_client),
            };
            let first_free_ms = inner.running.iter().map(|job| left_ms(job)).fold(f64::INFINITY, f64::min);
            let retry_after_s = Some(whole_seconds(if first_free_ms.is_finite() { first_free_ms } else { 0.0 }));
            return Err(Problem { retry_after_s, ..Problem::new(Code::QueueFull, message) });
        }
        inner.promised_bytes += room_bytes;
        Ok(())
    }

    /// Tells the jobs that wait where they are.
    fn tell_places(&self, inner: &Inner) {
        // A sum of nothing would be -0.
        let mut before_ms = inner.running.iter().fold(0.0, |sum, job| sum + left_ms(job));
        for (place, job) in inner.queue.in_order().into_iter().enumerate() {
            let wait_s = Some((before_ms / self.workers as f64).round() / 1_000.0);
            job.tell(JobEvent::State { state: State::Queued, place: Some(place), wait_s });
            before_ms += job.expected_ms;
        }
    }

    /// The next job for a worker; waits for one. `None` once the server ends.
    pub fn next(&self) -> Option<Arc<Job>> {
        let mut inner = self.lock();
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(job) = inner.queue.pop() {
                job.tell(JobEvent::State { state: State::Running, place: None, wait_s: None });
                inner.running.push(Arc::clone(&job));
                self.tell_places(&inner);
                return Some(job);
            }
            inner = self.wake.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The job called `id`, as long as it has not ended.
    #[must_use]
    pub fn live(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().live.get(id).cloned()
    }

    /// Repeats an ended job with the same wish. Blocks for the disk.
    ///
    /// # Errors
    /// As [`Dispatcher::submit`].
    pub fn repeat(&self, client: &str, record: &Record) -> Result<Arc<Job>, Problem> {
        let attachments = self.store.attachments(record.number)?;
        self.submit(client, record.wish.clone(), attachments, Some(&record.id))
    }
}

/// What is left of a running job, in milliseconds.
fn left_ms(job: &Job) -> f64 {
    let gone_ms = job.present().started.map_or(0.0, |(started, _)| started.elapsed().as_secs_f64() * 1_000.0);
    (job.expected_ms - gone_ms).max(0.0)
}

fn whole_seconds(ms: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time of at most a day")]
    let seconds = (ms / 1_000.0).ceil().clamp(1.0, 86_400.0) as u64;
    seconds
}

/// A name of 128 random bits.
fn new_id() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
