//! Stopping a run from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::RunOptions;
use ort::session::builder::LoadCanceler;

use crate::error::Cancelled;

/// A handle that stops what runs under it, one run at a time; clones stop the same run, and a used handle stays used.
///
/// ONNX Runtime looks at it between kernels, so a run ends within one kernel, not within one network.
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    asked: AtomicBool,
    current: Mutex<Option<Work>>,
}

pub(super) enum Work {
    Run(Arc<RunOptions>),
    Load(LoadCanceler),
}

impl Cancel {
    /// A handle that nobody has used yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run: the network that is loading or running now ends with [`Cancelled`], and none is begun after it.
    pub fn cancel(&self) {
        let current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.asked.store(true, Ordering::SeqCst);
        let outcome = match current.as_ref() {
            Some(Work::Run(options)) => options.terminate(),
            Some(Work::Load(canceler)) => canceler.cancel(),
            None => Ok(()),
        };
        if let Err(error) = outcome {
            log::warn!("the running network could not be told to stop: {error}");
        }
    }

    /// Whether [`Cancel::cancel`] was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Fails with [`Cancelled`] once [`Cancel::cancel`] was called.
    ///
    /// # Errors
    /// The run was cancelled.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.is_cancelled() { Err(Cancelled.into()) } else { Ok(()) }
    }

    /// Makes `work` what [`Cancel::cancel`] stops, until the returned guard is dropped.
    ///
    /// # Errors
    /// The run was cancelled before.
    pub(super) fn watch(&self, work: Work) -> anyhow::Result<Watch<'_>> {
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a cancel between this look and the registration would be lost.
        self.check()?;
        *current = Some(work);
        Ok(Watch { cancel: self })
    }
}

pub(super) struct Watch<'a> {
    cancel: &'a Cancel,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        *self.cancel.shared.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
