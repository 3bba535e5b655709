//! Whether what was made may be shown.

use std::path::Path;

use anyhow::{Context, Result};

use super::Engine;
use crate::bundle::SafetyFiles;
use crate::error::HeldBack;
use crate::output::Picture;
use crate::pipeline::{Event, Observer, SafetyChecker};
use crate::plan::{Plan, SafetyChoice};
use crate::refuse;
use crate::runtime::{Cancel, NetworkOptions};

/// An observer that sees no previews: the checker judges finished pictures alone.
pub(super) struct WithoutPreviews<'o>(pub(super) &'o mut dyn Observer);

impl Observer for WithoutPreviews<'_> {
    fn event(&mut self, event: Event) {
        self.0.event(event);
    }
}

impl Engine {
    /// The files of the checker that every picture has to pass; `None` where there is none, or it was switched off.
    ///
    /// # Errors
    /// There is to be one, and a file of it is missing or broken.
    pub(super) fn safety_files(&self) -> Result<Option<SafetyFiles>> {
        let folder: &Path = match &self.settings.safety {
            SafetyChoice::Off => return Ok(None),
            SafetyChoice::Own if !self.bundle.has_safety_checker => return Ok(None),
            SafetyChoice::Own => &self.bundle.folder,
            SafetyChoice::Folder(folder) if !folder.is_dir() => refuse!("--safety {}: there is no such folder", folder.display()),
            SafetyChoice::Folder(folder) => folder,
        };
        let ways = "no picture is made without its safety checker; --safety names a folder with one, --no-safety goes without";
        SafetyFiles::open(folder).context(ways).map(Some)
    }

    /// Lets `pictures`, each with its seed, pass the checker of `files`.
    ///
    /// # Errors
    /// One is held back ([`HeldBack`]); the checker does not load or fails; the run was cancelled.
    pub(super) fn check_safety<'p>(
        &mut self,
        files: &SafetyFiles,
        plan: &Plan,
        pictures: impl Iterator<Item = (u64, &'p Picture)>,
        cancel: &Cancel,
    ) -> Result<()> {
        let options =
            NetworkOptions { threads: plan.threads, memory_arena: plan.keeps_components(), ..NetworkOptions::default() };
        let mut checker = match self.safety_checker.take() {
            Some(checker) => checker,
            None => SafetyChecker::open(&self.runtime, files, &options, cancel)?,
        };
        for (seed, picture) in pictures {
            if checker.holds_back(picture, cancel)? {
                return Err(HeldBack { seed }.into());
            }
        }
        if plan.keeps_components() {
            self.safety_checker = Some(checker);
        }
        Ok(())
    }
}
