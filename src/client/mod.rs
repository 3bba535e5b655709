//! Has pictures made by a running `kiln serve`: the one place of the crate that opens a connection, to a server that somebody named.
//!
//! In: an address, a [`Wish`]. Out: picture files as the server made them. Not here: models, file names, printing.

mod address;
mod connection;
mod events;
mod wish;

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use serde::Deserialize;
use tokio::time::{sleep, timeout};

pub use address::Address;
pub use wish::Wish;

use crate::error::{Cancelled, is_cancelled, refusal};
use crate::runtime::Cancel;
use connection::{Answer, Connection, next, whole};
use events::{End, Failure, JobEvent, Reader};

/// How often an interrupt is looked for.
const GLANCE: Duration = Duration::from_millis(50);
/// How long a full queue is asked again.
const QUEUE_PATIENCE: Duration = Duration::from_secs(600);
/// The longest time between two questions, in seconds.
const LONGEST_PAUSE_S: u64 = 60;
/// For a server to be told that nobody waits any more.
const FAREWELL: Duration = Duration::from_secs(5);

/// What is told while a job is on its way.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// The queue is full, and the server is asked again.
    Full {
        /// In how many seconds.
        again_in_s: u64,
    },
    /// The job waits.
    Queued {
        /// How many are before it.
        place: Option<usize>,
        /// How long it will probably wait, in seconds.
        wait_s: Option<f64>,
    },
    /// The model is opened, or its first step is on its way.
    Running,
    /// A step is done.
    Step {
        /// How many are, over all pictures.
        step: usize,
        /// Of how many.
        steps: usize,
    },
    /// The picture as it stands.
    Preview {
        /// After which step.
        step: usize,
        /// A PNG file.
        file: Vec<u8>,
    },
}

#[derive(Deserialize)]
struct Accepted {
    id: String,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Catalogue {
    bundles: Vec<Listed>,
}

/// A model of the server's.
#[derive(Debug, Clone, Deserialize)]
pub struct Listed {
    /// What requests call it.
    pub name: String,
    /// Whether it is meant by requests that name none.
    #[serde(rename = "default")]
    pub is_default: bool,
    /// What its clips are; `None` of a model of pictures.
    pub clip: Option<ListedClip>,
    /// Its pictures' size where nobody says it, in pixels.
    pub size: ListedSize,
}

/// The clips of a model.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct ListedClip {
    /// How many frames one has where nobody says it.
    pub frames: usize,
    /// How many are shown in a second where nobody says it.
    pub frames_per_second: u32,
}

/// The size of a model's pictures, in pixels.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct ListedSize {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

#[derive(Deserialize)]
struct Refused {
    error: Failure,
}

/// A server that was named.
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Nothing is connected to yet.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): the token holds what no header may.
    pub fn new(address: Address, token: Option<&str>) -> Result<Self> {
        Ok(Self { connection: Connection::new(address, token)? })
    }

    /// The model that `name` names, or the one that is meant where nobody names one.
    ///
    /// # Errors
    /// There is none of that name (a [`Refusal`](crate::error::Refusal)), the server is not reached, or `cancel` was used.
    pub fn model(&self, name: Option<&str>, cancel: &Cancel) -> Result<Listed> {
        let asked = async {
            let answer = self.connection.ask(Method::GET, "/bundles", String::new()).await?;
            if answer.status != 200 {
                return Err(problem(answer).await);
            }
            Ok(json::<Catalogue>(answer).await?.bundles)
        };
        let listed = self.carry_out(unless_cancelled(cancel, asked))?;
        let names = listed.iter().map(|model| model.name.clone()).collect::<Vec<_>>().join(", ");
        let is_meant = |model: &Listed| name.map_or(model.is_default, |name| name == model.name);
        listed.into_iter().find(is_meant).ok_or_else(|| {
            let name = name.unwrap_or("default");
            refusal!("{}: has no model {name}; known are {names}", self.connection.address)
        })
    }

    /// Has the pictures made: PNG files with their provenance, in order of their seeds. A full queue is asked again for ten minutes.
    ///
    /// * `cancel`: stops the job at the server too
    /// * `tell`: is told of what happens
    ///
    /// # Errors
    /// What the server refuses is a [`Refusal`](crate::error::Refusal). Else: it is not reached, its queue stays full, the job fails, the
    /// connection ends before the job does, or `cancel` was used.
    pub fn make(&self, wish: &Wish, cancel: &Cancel, tell: &mut dyn FnMut(Told) -> Result<()>) -> Result<Vec<Vec<u8>>> {
        self.carry_out(self.run(wish, cancel, tell))
    }

    /// Waits for `work`.
    fn carry_out<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let done = runtime.block_on(work);
        // A name that is still being looked up must not hold up the end.
        runtime.shutdown_background();
        done.with_context(|| self.connection.address.to_string())
    }

    async fn run(&self, wish: &Wish, cancel: &Cancel, tell: &mut dyn FnMut(Told) -> Result<()>) -> Result<Vec<Vec<u8>>> {
        let id = self.submit(wish, cancel, tell).await?;
        let made = unless_cancelled(cancel, self.follow(&id, tell)).await;
        if made.as_ref().is_err_and(is_cancelled) {
            let path = format!("/jobs/{id}/cancel");
            let told = self.connection.ask(Method::POST, &path, String::new());
            if !matches!(timeout(FAREWELL, told).await, Ok(Ok(_))) {
                log::warn!("the server could not be told to stop; it stops a job whose client is gone by itself");
            }
        }
        made
    }

    /// Hands the job in; returns its name.
    async fn submit(&self, wish: &Wish, cancel: &Cancel, tell: &mut dyn FnMut(Told) -> Result<()>) -> Result<String> {
        let body = wish.to_json()?;
        let begun = Instant::now();
        loop {
            cancel.check()?;
            // Not given up while it is on its way: a job that was taken in would run for nobody.
            let answer = self.connection.ask(Method::POST, "/jobs", body.clone()).await?;
            let (status, retry_after_s) = (answer.status, answer.retry_after_s);
            if status == 202 {
                let Accepted { id, warnings } = json(answer).await?;
                warnings.iter().for_each(|warning| log::warn!("{warning}"));
                return Ok(id);
            }
            let problem = problem(answer).await;
            if status != 429 || begun.elapsed() > QUEUE_PATIENCE {
                return Err(problem);
            }
            let again_in_s = retry_after_s.unwrap_or(1).clamp(1, LONGEST_PAUSE_S);
            tell(Told::Full { again_in_s })?;
            let pause = async {
                sleep(Duration::from_secs(again_in_s)).await;
                Ok(())
            };
            unless_cancelled(cancel, pause).await?;
        }
    }

    /// Follows the job to its end and fetches its pictures.
    async fn follow(&self, id: &str, tell: &mut dyn FnMut(Told) -> Result<()>) -> Result<Vec<Vec<u8>>> {
        let answer = self.connection.ask(Method::GET, &format!("/jobs/{id}/events?own=true"), String::new()).await?;
        if answer.status != 200 {
            return Err(problem(answer).await);
        }
        let end =
            watch(answer, tell).await.context("the server was lost before the job ended; it stops a job whose client is gone")?;
        if end.state != "finished" {
            return Err(failure(&end));
        }
        let mut pictures = Vec::new();
        for picture in &end.pictures {
            let answer = self.connection.ask(Method::GET, &picture.url, String::new()).await?;
            if answer.status != 200 {
                return Err(problem(answer).await);
            }
            pictures.push(whole(answer.body).await?);
        }
        Ok(pictures)
    }
}

/// Tells of events until the last, which is returned.
async fn watch(mut answer: Answer, tell: &mut dyn FnMut(Told) -> Result<()>) -> Result<End> {
    let mut reader = Reader::default();
    while let Some(piece) = next(&mut answer.body).await? {
        reader.push(&piece)?;
        while let Some(event) = reader.next()? {
            match event {
                JobEvent::State(state) if state.state == "queued" => {
                    tell(Told::Queued { place: state.place, wait_s: state.wait_s })?
                }
                JobEvent::State(state) if state.state == "running" => tell(Told::Running)?,
                JobEvent::State(_) => {}
                JobEvent::Step(step) => tell(Told::Step { step: step.step, steps: step.steps })?,
                JobEvent::Preview(preview) => {
                    let file = STANDARD.decode(&preview.png).context("its preview is no base64")?;
                    tell(Told::Preview { step: preview.step, file })?;
                }
                JobEvent::End(end) => return Ok(end),
            }
        }
    }
    bail!("the connection ended")
}

/// The outcome of `work`, unless `cancel` is used first.
async fn unless_cancelled<T>(cancel: &Cancel, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut work = pin!(work);
    loop {
        if let Ok(outcome) = timeout(GLANCE, work.as_mut()).await {
            return outcome;
        }
        if cancel.is_cancelled() {
            return Err(Cancelled.into());
        }
    }
}

async fn json<T: for<'a> Deserialize<'a>>(answer: Answer) -> Result<T> {
    serde_json::from_slice(&whole(answer.body).await?).context("its answer is not understood; is it `kiln serve`?")
}

/// Why the server does not do what it was asked for: what the caller can mend is a refusal.
async fn problem(answer: Answer) -> anyhow::Error {
    let status = answer.status;
    let message = match json::<Refused>(answer).await {
        Ok(Refused { error }) => error.message,
        Err(_) => return anyhow!("it answered with status {status} and no reason; is it `kiln serve`?"),
    };
    match status {
        401 => refusal!("{message}; --token-file or KILN_TOKEN names it"),
        400..=428 => refusal!("{message}"),
        _ => anyhow!("{message}"),
    }
}

/// Why a job has no pictures.
fn failure(end: &End) -> anyhow::Error {
    let Some(error) = &end.error else { return anyhow!("the job is {} and has no pictures", end.state) };
    match error.code.as_str() {
        "refused" | "policy" | "too_large" | "malformed" | "not_found" => refusal!("{}", error.message),
        _ => anyhow!("the job is {}: {}", end.state, error.message),
    }
}
