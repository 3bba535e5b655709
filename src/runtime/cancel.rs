//! Stopping a run from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::RunOptions;
use ort::session::builder::LoadCanceler;

use crate::error::Cancelled;

/// A handle that stops what runs under it; clones stop the same run, and a used handle stays used.
///
/// ONNX Runtime looks at it between kernels, so a run ends within one kernel, not within one network.
#[derive(Clone, Default)]
pub struct Cancel {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    asked: AtomicBool,
    current: Mutex<Vec<Arc<Work>>>,
}

pub(super) enum Work {
    Run(Arc<RunOptions>),
    Load(LoadCanceler),
    /// What runs beside it, under a handle of its own.
    Branch(Cancel),
}

impl Work {
    fn stop(&self) -> ort::Result<()> {
        match self {
            Self::Run(options) => options.terminate(),
            Self::Load(canceler) => canceler.cancel(),
            Self::Branch(cancel) => {
                cancel.cancel();
                Ok(())
            }
        }
    }
}

impl Cancel {
    /// A handle that nobody has used yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops the run: the networks that are loading or running now end with [`Cancelled`], and none is begun after them.
    pub fn cancel(&self) {
        let current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.asked.store(true, Ordering::SeqCst);
        for work in current.iter() {
            if let Err(error) = work.stop() {
                log::warn!("the running network could not be told to stop: {error}");
            }
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
    pub(super) fn watch(&self, work: Work) -> anyhow::Result<Watch> {
        let mut current = self.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a cancel between this look and the registration would be lost.
        self.check()?;
        let work = Arc::new(work);
        current.push(Arc::clone(&work));
        Ok(Watch { cancel: self.clone(), work })
    }

    /// A handle that this one stops too, and that stops nothing of this one, until the returned guard is dropped.
    ///
    /// # Errors
    /// The run was cancelled before.
    pub fn branch(&self) -> anyhow::Result<(Self, Watch)> {
        let branch = Self::new();
        let watch = self.watch(Work::Branch(branch.clone()))?;
        Ok((branch, watch))
    }
}

/// Keeps something under a [`Cancel`] until it is dropped.
pub struct Watch {
    cancel: Cancel,
    work: Arc<Work>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut current = self.cancel.shared.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.retain(|work| !Arc::ptr_eq(work, &self.work));
    }
}
