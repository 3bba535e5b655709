//! Clips: the frames that diffusers gives, how they are planned and handed out, what is refused.
//!
//! The cases and how they were made: `tests/tools/README.md`.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "../common/mod.rs"]
mod common;
mod golden;
mod handing_out;
mod plans;
mod refusals;

use std::path::PathBuf;

use kiln::{Cancel, Engine, Picture, Request, Settings};

fn golden(name: &str) -> PathBuf {
    common::reference::golden("clips", name)
}

fn engine(bundle: &str, settings: &Settings) -> Engine {
    Engine::open(&common::bundle(bundle), settings, None).unwrap()
}

fn short() -> Request {
    Request { seed: Some(1), steps: Some(2), size: Some((32, 32)), frames: Some(3), force: true, ..Request::new("a sun") }
}

/// The pixels of all frames below each other.
fn film(engine: &mut Engine, request: &Request) -> anyhow::Result<(Picture, kiln::GeneratedClip)> {
    let mut frames: Vec<Picture> = Vec::new();
    let sink = |frame: Picture| {
        frames.push(frame);
        Ok(())
    };
    let made = engine.generate_clip(request, sink, &mut (), &Cancel::new())?;
    assert_eq!(frames.len(), made.frames);
    let (width, height) = (frames[0].width, frames[0].height);
    let pixels = frames.iter().flat_map(|frame| frame.pixels.clone()).collect();
    Ok((Picture::new(width, height * u32::try_from(frames.len()).unwrap(), frames[0].channels, pixels)?, made))
}
