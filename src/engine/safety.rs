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

    /// Opens the checker of `files`, unless it is open.
    ///
    /// # Errors
    /// It does not load; the run was cancelled.
    pub(super) fn take_checker(&mut self, files: &SafetyFiles, plan: &Plan, cancel: &Cancel) -> Result<SafetyChecker> {
        if let Some(checker) = self.safety_checker.take() {
            return Ok(checker);
        }
        let (threads, memory_arena) = (plan.threads, plan.keeps_components());
        let options = NetworkOptions { threads, memory_arena, ..NetworkOptions::default() };
        SafetyChecker::open(&self.runtime, files, &options, cancel)
    }

    /// Keeps the checker for the next run, where the plan keeps networks.
    pub(super) fn keep_checker(&mut self, checker: SafetyChecker, plan: &Plan) {
        if plan.keeps_components() {
            self.safety_checker = Some(checker);
        }
    }

    /// Lets `pictures`, each with its seed, pass the checker of `files`.
    ///
    /// # Errors
    /// One is held back ([`HeldBack`]); the checker does not load or fails; the run was cancelled.
    pub(super) fn check_safety<'p>(
        &mut self,
        files: &SafetyFiles,
        plan: &Plan,
        mut pictures: impl Iterator<Item = (u64, &'p Picture)>,
        cancel: &Cancel,
    ) -> Result<()> {
        let mut checker = self.take_checker(files, plan, cancel)?;
        let checked = pictures.try_for_each(|(seed, picture)| pass(&mut checker, seed, picture, cancel));
        self.keep_checker(checker, plan);
        checked
    }
}

/// Lets a picture pass.
///
/// # Errors
/// It is held back ([`HeldBack`]); the checker fails; the run was cancelled.
pub(super) fn pass(checker: &mut SafetyChecker, seed: u64, picture: &Picture, cancel: &Cancel) -> Result<()> {
    if checker.holds_back(picture, cancel)? {
        return Err(HeldBack { seed }.into());
    }
    Ok(())
}
