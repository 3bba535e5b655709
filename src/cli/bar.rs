//! A line on standard error that says how far a run is: a moving bar, or plain words where the feature `progress` is left out.

#[cfg(feature = "progress")]
pub(super) use moving::Bar;
#[cfg(not(feature = "progress"))]
pub(super) use plain::Bar;

#[cfg(feature = "progress")]
mod moving {
    use std::time::Duration;

    use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

    /// A bar with the time that is left.
    pub(in super::super) struct Bar(ProgressBar);

    impl Bar {
        /// `visible` is whether anybody would see it.
        pub(in super::super) fn new(visible: bool) -> Self {
            let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
            let bar = ProgressBar::with_draw_target(None, target);
            bar.enable_steady_tick(Duration::from_millis(120));
            Self(bar)
        }

        /// Says what is done where nothing can be counted.
        pub(in super::super) fn wait(&mut self, message: String) {
            self.style("{spinner} {msg}");
            self.0.set_message(message);
        }

        /// Says what is done, and leaves the count.
        pub(in super::super) fn message(&mut self, message: String) {
            self.0.set_message(message);
        }

        /// Counts to `total` from here on; the time left is told from what follows alone.
        pub(in super::super) fn count_to(&mut self, total: u64) {
            self.style("{spinner} {msg} {wide_bar} {pos}/{len} {eta} left");
            self.0.set_length(total);
            self.0.reset_eta();
        }

        pub(in super::super) fn position(&mut self, done: u64, message: String) {
            self.0.set_message(message);
            self.0.set_position(done);
        }

        pub(in super::super) fn finish(&self) {
            self.0.finish_and_clear();
        }

        fn style(&self, template: &str) {
            // The templates are the ones above; a bar without its style is no reason to lose the picture.
            match ProgressStyle::with_template(template) {
                Ok(style) => self.0.set_style(style.progress_chars("━╸ ")),
                Err(error) => log::debug!("progress: {error}"),
            }
        }
    }
}

#[cfg(not(feature = "progress"))]
mod plain {
    use std::io::Write;

    /// A line that is written over.
    pub(in super::super) struct Bar {
        visible: bool,
        total: u64,
    }

    impl Bar {
        /// `visible` is whether anybody would see it.
        pub(in super::super) fn new(visible: bool) -> Self {
            Self { visible, total: 0 }
        }

        /// Says what is done where nothing can be counted.
        pub(in super::super) fn wait(&mut self, message: String) {
            self.message(message);
        }

        /// Says what is done, and leaves the count.
        pub(in super::super) fn message(&mut self, message: String) {
            self.write(&message);
        }

        /// Counts to `total` from here on.
        pub(in super::super) fn count_to(&mut self, total: u64) {
            self.total = total;
        }

        pub(in super::super) fn position(&mut self, done: u64, message: String) {
            self.write(&format!("{message} {done}/{}", self.total));
        }

        pub(in super::super) fn finish(&self) {
            self.write("");
        }

        fn write(&self, line: &str) {
            if self.visible {
                // ANSI X3.64: to the first column, and away with what stood there. Nobody is left to tell where it fails.
                let _ = write!(std::io::stderr(), "\r\u{1b}[K{line}");
            }
        }
    }
}
