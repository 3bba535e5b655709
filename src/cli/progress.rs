//! Progress on standard error, and the preview file.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::{self, Picture, Target};
use crate::pipeline::{Event, Observer};

/// Draws a bar while pictures are made; silent where nobody would see it.
pub(super) struct Progress {
    bar: ProgressBar,
    preview: Option<Target>,
    preview_written: bool,
    counting: bool,
    noun: &'static str,
}

impl Progress {
    pub(super) fn new(quiet: bool, preview: Option<Target>) -> Self {
        let visible = !quiet && std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            None,
            if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, preview, preview_written: false, counting: false, noun: "picture" }
    }

    /// Calls each picture a frame.
    pub(super) fn of_clip(self) -> Self {
        Self { noun: "frame", ..self }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
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

    fn style(&self, template: &str) {
        // The templates are the ones below; a bar without its style is no reason to lose the picture.
        match ProgressStyle::with_template(template) {
            Ok(style) => self.bar.set_style(style.progress_chars("━╸ ")),
            Err(error) => log::debug!("progress: {error}"),
        }
    }
}

impl Observer for Progress {
    fn event(&mut self, event: Event) {
        match event {
            Event::Loading { role } => {
                self.counting = false;
                self.style("{spinner} {msg}");
                self.bar.set_message(format!("loading {role}"));
            }
            Event::Loaded { .. } => self.bar.set_message("denoising"),
            Event::Step { step, steps, picture, pictures } => {
                let (done, total) = ((picture * steps + step) as u64, (pictures * steps) as u64);
                if !self.counting {
                    self.counting = true;
                    self.style("{spinner} {msg} {wide_bar} {pos}/{len} {eta} left");
                    self.bar.set_length(total);
                    // The time left is told from the steps alone, not from the loading before them.
                    self.bar.reset_eta();
                }
                let message =
                    if pictures > 1 { format!("{} {} of {pictures}", self.noun, picture + 1) } else { "denoising".to_owned() };
                self.bar.set_message(message);
                self.bar.set_position(done);
            }
            Event::Decoding { .. } => self.bar.set_message("decoding"),
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
