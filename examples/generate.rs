//! Makes a picture with the crate: opens a bundle, watches progress, can be stopped, writes a PNG.
//!
//! ```sh
//! cargo run --release --example generate -- models/sticker "a red apple" apple.png
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kiln::output::{self, Target};
use kiln::{Cancel, Engine, Event, Observer, Picture, Request, Settings};

/// Prints each step, and counts the previews it was shown.
struct Watcher {
    previews: usize,
}

impl Observer for Watcher {
    fn event(&mut self, event: Event) {
        match event {
            Event::Loaded { role } => eprintln!("loaded {role}"),
            Event::Step { step, steps, .. } => eprintln!("step {step} of {steps}"),
            _ => {}
        }
    }

    fn wants_preview(&self) -> bool {
        true
    }

    fn preview(&mut self, _step: usize, _picture: &Picture) -> Result<()> {
        self.previews += 1;
        Ok(())
    }
}

fn main() -> Result<()> {
    // ONNX Runtime looks at it as it is loaded, and gathers what it would send without it.
    // SAFETY: no other thread runs yet that could read the environment.
    unsafe { std::env::set_var("ORT_DISABLE_TELEMETRY", "1") };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, prompt, file] = arguments.as_slice() else {
        anyhow::bail!("usage: generate MODEL_FOLDER PROMPT FILE.png");
    };
    let mut engine = Engine::open(Path::new(folder), &Settings::default(), None)?;

    // Any thread may stop the run: here one that loses patience after a minute.
    let cancel = Cancel::new();
    let patience = cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(60));
        patience.cancel();
    });

    let request = Request { seed: Some(42), ..Request::new(prompt) };
    let mut watcher = Watcher { previews: 0 };
    let made = engine.generate(&request, &mut watcher, &cancel)?;
    let made = made.first().context("one picture was asked for")?;
    output::write(&made.picture, Some(&made.provenance), &Target::new(Path::new(file), None)?)?;
    eprintln!("{file} after {} previews, made in {:.0} ms", watcher.previews, made.provenance.total_ms);
    Ok(())
}
