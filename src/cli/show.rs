//! `kiln show`: prints what made a picture.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use super::shell::{quoted, quoted_path};
use crate::output::{self, ClipRecord, Provenance, WalkPlace};
use crate::plan::Memory;
use crate::refuse;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A PNG or GIF file
    file: PathBuf,

    /// Print Kiln's own record as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (parameters, record) = output::read(&arguments.file)?;
    let name = arguments.file.display();
    if arguments.json {
        let Some(record) = record else {
            refuse!("{name}: holds no record of Kiln; without --json its parameters are shown if it has any")
        };
        super::print(format!("{}\n", serde_json::to_string_pretty(&record)?).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    if let Some(parameters) = &parameters {
        text.push_str(parameters);
        text.push('\n');
    }
    if let Some(record) = &record {
        text.push_str(&format!(
            "\nmodel     {} {} {}\nruntime   ONNX Runtime {}, {} threads, {} memory\n",
            record.bundle.name,
            record.bundle.version.as_deref().unwrap_or(""),
            record.bundle.sha256.as_deref().unwrap_or(""),
            record.runtime,
            record.threads,
            record.memory
        ));
        match (&record.walk, &record.clip) {
            (Some(walk), clip) => text.push_str(&walk_text(record.seed, walk, clip.as_ref())),
            (None, Some(clip)) => text.push_str(&format!("clip      {}\n", clip_text(clip, "frames"))),
            (None, None) => {}
        }
        for component in &record.components {
            let (role, provider, precision) = (&component.role, &component.provider, &component.precision);
            text.push_str(&format!(
                "{role:<18} {provider}, {precision}: {:.0} ms to load, {:.0} ms in {} calls\n",
                component.load_ms, component.run_ms, component.calls
            ));
        }
        text.push_str(&again_text(record, &name.to_string()));
    }
    if text.is_empty() {
        refuse!("{name}: does not say what made it");
    }
    super::print(super::plain(&text).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The lines that say how it is made again; what stands in them is a stranger's, and somebody's shell will read it.
fn again_text(record: &Provenance, name: &str) -> String {
    if !record.inversion {
        return format!("again     kiln generate --from {}\n", quoted_path(name));
    }
    let input = record.input.as_deref().unwrap_or("PICTURE");
    let sum = record.input_sha256.as_deref().unwrap_or("");
    let model = record.bundle.path.as_ref().unwrap_or(&record.bundle.name);
    let mut words = vec![quoted_path(input), "--model".to_owned(), quoted_path(model)];
    let mut add = |flag: &str, value: &str| words.push(format!("{flag}{}", quoted(value)));
    if record.seed != 0 {
        add("--seed ", &record.seed.to_string());
    }
    if record.memory == Memory::Low.to_string() {
        add("--memory ", &record.memory);
    }
    if let Some(class) = &record.prompt {
        // As one word, a class whose name begins with `-` is none of the options.
        add(if class.starts_with('-') { "--class=" } else { "--class " }, class);
    }
    // A family of one pass has no steps, and a solver may choose its own.
    if record.steps > 1 && record.sampler != "dopri5" {
        add("--steps ", &record.steps.to_string());
    }
    let said = |key: &str| record.sampler_overrides.get(key);
    if let Some(sampler) = said("sampler").or_else(|| said("solver")).and_then(|value| value.as_str()) {
        add("--sampler=", sampler);
    }
    if let Some(tolerance) = said("tolerance").and_then(|value| value.as_f64()) {
        #[expect(clippy::cast_possible_truncation, reason = "it was f32 when it was written")]
        add("--tolerance ", &(tolerance as f32).to_string());
    }
    format!("input     {} {sum}\nagain     kiln invert {}\n", quoted(input), words.join(" "))
}

/// The line that says where between two seeds a picture stands, or how a clip goes from one to the other.
fn walk_text(seed: u64, walk: &WalkPlace, clip: Option<&ClipRecord>) -> String {
    let to = walk.to;
    match clip {
        None => format!("walk      {} % of the way from seed {seed} to seed {to}\n", walk.share * 100.0),
        Some(clip) => format!("walk      from seed {seed} to seed {to} in {}\n", clip_text(clip, "pictures")),
    }
}

/// How many of `what` a clip has, and how they are shown.
fn clip_text(clip: &ClipRecord, what: &str) -> String {
    let ClipRecord { frames, frames_per_second, bounce } = clip;
    format!("{frames} {what}, {frames_per_second} a second{}", if *bounce { ", there and back" } else { "" })
}
