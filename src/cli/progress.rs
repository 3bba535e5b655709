//! Progress on standard error, and the preview file.

use std::io::IsTerminal;

use anyhow::Result;

use super::bar::Bar;
use crate::output::{self, Picture, Target};
use crate::pipeline::{Event, Observer};

/// Draws a bar while pictures are made; silent where nobody would see it.
pub(super) struct Progress {
    bar: Bar,
    preview: Option<Target>,
    preview_written: bool,
    counting: bool,
    noun: &'static str,
}

impl Progress {
    pub(super) fn new(quiet: bool, preview: Option<Target>) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        Self { bar: Bar::new(visible), preview, preview_written: false, counting: false, noun: "picture" }
    }

    /// Calls each picture a frame.
    pub(super) fn of_clip(self) -> Self {
        Self { noun: "frame", ..self }
    }

    /// Says what is waited for.
    #[cfg(feature = "client")]
    pub(super) fn wait_for(&mut self, what: String) {
        self.counting = false;
        self.bar.wait(what);
    }

    pub(super) fn finish(&self) {
        self.bar.finish();
    }

    /// Takes the preview away again: a run that was stopped leaves no file behind.
    pub(super) fn discard_preview(&self) {
        if let Some(Target::File(path, _)) = self.preview.as_ref().filter(|_| self.preview_written)
            && path.is_file()
            && let Err(error) = std::fs::remove_file(path)
        {
            log::warn!("the preview {} stays: {error}", path.display());
        }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: Event) {
        match event {
            Event::Loading { role } => {
                self.counting = false;
                self.bar.wait(format!("loading {role}"));
            }
            Event::Loaded { .. } => self.bar.message("denoising".to_owned()),
            Event::Step { step, steps, picture, pictures } => {
                let (done, total) = ((picture * steps + step) as u64, (pictures * steps) as u64);
                if !self.counting {
                    self.counting = true;
                    self.bar.count_to(total);
                }
                let message =
                    if pictures > 1 { format!("{} {} of {pictures}", self.noun, picture + 1) } else { "denoising".to_owned() };
                self.bar.position(done, message);
            }
            Event::Decoding { .. } => self.bar.message("decoding".to_owned()),
        }
    }

    fn wants_preview(&self) -> bool {
        self.preview.is_some()
    }

    fn preview(&mut self, _: usize, picture: &Picture) -> Result<()> {
        if let Some(target) = &self.preview {
            output::write(picture, None, target)?;
            self.preview_written = true;
        }
        Ok(())
    }
}
