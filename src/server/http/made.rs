//! Pictures for clients that wait for them: a job that goes when its client does.

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::answer::blocking;
use super::events::Owner;
use super::room::Room;
use super::{App, Client};
use crate::error::PROMPTS;
use crate::server::job::{Failure, Job, JobEvent, PictureRecord, State};
use crate::server::problem::{Code, Problem};
use crate::server::wish::{Attachments, Wish};

/// A finished picture.
pub(super) struct Made {
    pub(super) record: PictureRecord,
    /// The PNG file.
    pub(super) file: Vec<u8>,
}

/// A job that somebody waits for; it is stopped when this is dropped before its end.
pub(super) struct Waiting {
    pub(super) job: Arc<Job>,
    events: Receiver<JobEvent>,
    /// The end, of a job that had ended before anybody looked.
    due: Option<JobEvent>,
    _owner: Owner,
}

impl Waiting {
    /// Takes a job in, on behalf of `client`.
    ///
    /// * `room`: of what came with it, which is held no more once the job is kept
    ///
    /// # Errors
    /// As [`Dispatcher::submit`](crate::server::dispatcher::Dispatcher::submit).
    pub(super) async fn submit(
        app: &Arc<App>,
        client: &Client,
        wish: Wish,
        attachments: Attachments,
        room: Room,
    ) -> Result<Self, Problem> {
        if app.log_prompts {
            log::info!(target: PROMPTS, "client={} prompt={:?}", client.0, wish.prompt);
        }
        let (dispatcher, client) = (Arc::clone(&app.dispatcher), client.0.clone());
        // The owner is made where the job is: a client that goes meanwhile takes the job along.
        blocking(move || {
            let _room = room;
            let job = dispatcher.submit(&client, wish, attachments, None)?;
            let (present, events) = job.watch();
            let owner = Owner { dispatcher, job: Arc::clone(&job) };
            Ok(Self { job, events, due: present.end, _owner: owner })
        })
        .await
    }

    /// What happens next; the end is the last.
    pub(super) async fn next(&mut self) -> Option<JobEvent> {
        loop {
            if let Some(event) = self.due.take() {
                return Some(event);
            }
            match self.events.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {
                    let (present, events) = self.job.watch();
                    (self.due, self.events) = (present.end, events);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The job failed or was stopped.
    pub(super) async fn pictures(mut self, app: &Arc<App>) -> Result<Vec<Made>, Problem> {
        while let Some(event) = self.next().await {
            if let JobEvent::End { state, pictures, error } = event {
                return made(app, &self.job.id, state, pictures, error).await;
            }
        }
        Err(Problem::new(Code::Internal, "the job ended without a word"))
    }
}

/// The pictures of a job that has ended.
///
/// # Errors
/// It failed or was stopped, or its pictures were deleted since.
pub(super) async fn made(
    app: &Arc<App>,
    id: &str,
    state: State,
    pictures: Vec<PictureRecord>,
    error: Option<Failure>,
) -> Result<Vec<Made>, Problem> {
    if state != State::Finished {
        let (code, message) = match error {
            Some(Failure { code, message }) => (Code::named(&code).unwrap_or(Code::Internal), message),
            None => (Code::Conflict, format!("the job was {}", state.name())),
        };
        return Err(Problem::new(code, message));
    }
    let (app, id) = (Arc::clone(app), id.to_owned());
    blocking(move || {
        let gone = || Problem::new(Code::NotFound, "the pictures were deleted before they were read");
        let found = app.dispatcher.find(&id)?.ok_or_else(gone)?;
        let files = pictures.into_iter().map(|record| {
            let file = app.dispatcher.store.picture(&found, record.n)?.ok_or_else(gone)?;
            Ok(Made { record, file })
        });
        files.collect()
    })
    .await
}

/// The status of a problem in the words of interfaces that know fewer.
pub(super) fn plain_status(code: Code) -> u16 {
    match code {
        Code::Refused | Code::Policy => 400,
        code => code.status(),
    }
}
