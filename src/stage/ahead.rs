//! Components that other threads open while the first of them runs already.
//!
//! In: how each is opened, in the order of use. Out: open networks, each when it is asked for. Opening a network keeps one core busy, so that
//! with two threads the second component is open by the time the first has run.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Result;

use crate::bundle::Role;
use crate::error::is_cancelled;
use crate::runtime::{Cancel, Network, NetworkOptions, Runtime, Watch};

/// What is to be opened.
pub(super) struct Wish {
    pub(super) role: Role,
    pub(super) path: PathBuf,
    pub(super) options: NetworkOptions,
}

type Waiting = Arc<Mutex<VecDeque<(Wish, SyncSender<Result<Network>>)>>>;

/// Networks that are being opened. Dropping it ends what nobody asked for.
pub(super) struct Ahead {
    waiting: Waiting,
    coming: BTreeMap<Role, Receiver<Result<Network>>>,
    openers: Vec<JoinHandle<()>>,
    cancel: Cancel,
    _watch: Watch,
}

impl Ahead {
    /// Begins to open `wishes`, the first ones first.
    ///
    /// * `threads`: how many are opened at once
    /// * `cancel`: stops it, too
    ///
    /// Where the system starts no thread, whoever needs a component opens it.
    ///
    /// # Errors
    /// The run was cancelled.
    pub(super) fn begin(runtime: &Arc<Runtime>, wishes: Vec<Wish>, threads: usize, cancel: &Cancel) -> Result<Self> {
        let (cancel, watch) = cancel.branch()?;
        let (mut waiting, mut coming) = (VecDeque::new(), BTreeMap::new());
        for wish in wishes {
            // One place each: an opener never waits for somebody to take what it opened.
            let (sender, receiver) = sync_channel(1);
            coming.insert(wish.role, receiver);
            waiting.push_back((wish, sender));
        }
        let waiting = Arc::new(Mutex::new(waiting));
        let mut ahead = Self { waiting, coming, openers: Vec::new(), cancel, _watch: watch };
        for _ in 0..threads.min(ahead.coming.len()) {
            let (runtime, waiting, cancel) = (Arc::clone(runtime), Arc::clone(&ahead.waiting), ahead.cancel.clone());
            match std::thread::Builder::new().name("opener".into()).spawn(move || open(&runtime, &waiting, &cancel)) {
                Ok(opener) => ahead.openers.push(opener),
                Err(error) => log::info!("components are opened one after the other: no thread is started: {error}"),
            }
        }
        Ok(ahead)
    }

    /// Leaves `role` to whoever needs it later; what was opened of it is dropped.
    pub(super) fn give_up(&mut self, role: Role) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|(wish, _)| wish.role != role);
        self.coming.remove(&role);
    }

    /// The network of `role` once it is open; `None` where nobody has begun to open it, or it did not open.
    pub(super) fn take(&mut self, role: Role) -> Option<Network> {
        let coming = self.coming.remove(&role)?;
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|(wish, _)| wish.role != role);
        // Where nobody has begun, its sender went with its wish.
        match coming.recv() {
            Ok(Ok(network)) => Some(network),
            Ok(Err(error)) if is_cancelled(&error) => None,
            Ok(Err(error)) => {
                log::info!("{role}: did not open beside others, and is opened again: {error:#}");
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.cancel.cancel();
        for opener in self.openers.drain(..) {
            if opener.join().is_err() {
                log::warn!("a thread that opens components ended in the middle");
            }
        }
    }
}

/// Opens what is waited for until there is nothing left.
fn open(runtime: &Runtime, waiting: &Waiting, cancel: &Cancel) {
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((Wish { path, options, .. }, sender)) = next else { return };
        // Nobody waits any more where this fails.
        let _ = sender.send(Network::open(runtime, &path, &options, cancel));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn wish(role: Role, file: &str) -> Wish {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/sd").join(file);
        Wish { role, path, options: NetworkOptions::default() }
    }

    #[test]
    fn what_was_wished_for_is_open_and_the_rest_is_left_to_others() {
        let runtime = Runtime::open(None).unwrap();
        let wishes = vec![
            wish(Role::TextEncoder, "text_encoder/model.onnx"),
            wish(Role::Unet, "missing/model.onnx"),
            wish(Role::VaeDecoder, "vae_decoder/model.onnx"),
        ];
        let mut ahead = Ahead::begin(&runtime, wishes, 2, &Cancel::new()).unwrap();
        while !ahead.waiting.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert!(ahead.take(Role::VaeEncoder).is_none(), "nobody wished for it");
        assert!(ahead.take(Role::TextEncoder).is_some_and(|network| network.inputs().len() == 1));
        assert!(ahead.take(Role::VaeDecoder).is_some());
        assert!(ahead.take(Role::Unet).is_none(), "it is no file, of which whoever opens it in its place tells");
        assert!(ahead.take(Role::TextEncoder).is_none(), "it was taken");
    }

    #[test]
    fn nothing_is_opened_once_it_is_cancelled_or_dropped() {
        let runtime = Runtime::open(None).unwrap();
        let wishes = || vec![wish(Role::TextEncoder, "text_encoder/model.onnx"), wish(Role::Unet, "unet/model.onnx")];
        // Nobody opens: all is left in the queue.
        let mut ahead = Ahead::begin(&runtime, wishes(), 0, &Cancel::new()).unwrap();
        assert!(ahead.take(Role::TextEncoder).is_none());
        assert_eq!(ahead.waiting.lock().unwrap().len(), 1);
        ahead.give_up(Role::Unet);
        assert!(ahead.waiting.lock().unwrap().is_empty() && ahead.coming.is_empty());
        let ahead = Ahead::begin(&runtime, wishes(), 0, &Cancel::new()).unwrap();
        let waiting = Arc::clone(&ahead.waiting);
        drop(ahead);
        assert!(waiting.lock().unwrap().is_empty());

        let cancel = Cancel::new();
        let ahead = Ahead::begin(&runtime, wishes(), 1, &cancel).unwrap();
        cancel.cancel();
        assert!(ahead.cancel.is_cancelled(), "who stops the run stops what is opened for it");
        drop(ahead);
        assert!(Ahead::begin(&runtime, wishes(), 1, &cancel).is_err_and(|error| is_cancelled(&error)));
    }
}
