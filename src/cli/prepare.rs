//! `kiln prepare`: has a model's networks open quickly from now on, on this machine.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::device::DeviceArguments;
use super::inspect::megabytes;
use super::{STOPPED, cache_folder, tell};
use crate::bundle::{Bundle, Shelf};
use crate::error::is_cancelled;
use crate::plan::{Assignments, Settings};
use crate::prepare::{Listed, Prepared, PreparedShelf, Wanted, check, clear, list, prepare};
use crate::refuse;
use crate::runtime::{Cancel, Runtime, logical_cores};

const NOTES: &str = "\
What is prepared lies in kiln/prepared in the user's cache, belongs to one model, ONNX Runtime, provider and machine, and is used by
itself wherever these are the same. For the processor it is the optimised graph with packed weights, which may take more room than
the model; for openvino, tensorrt, qnn and their kin what they compile. Pictures stay the same. qnn compiles for one size at a time:
several lie beside each other, and a size that was not prepared is compiled when it is asked for.";

#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Arguments {
    /// The model: a folder, or a name that `kiln models` lists
    #[arg(required_unless_present_any = ["list", "clear", "check"])]
    model: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArguments,

    /// Size of the pictures that engines and contexts are compiled for [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = super::number::size)]
    size: Option<(u32, u32)>,

    /// Prepare again what is prepared already
    #[arg(long)]
    again: bool,

    /// List what is prepared, of all models
    #[arg(long, conflicts_with_all = ["model", "again", "size", "clear", "check"])]
    list: bool,

    /// Read all that is prepared, and hold it against the checksums of the day on which it was made
    #[arg(long, conflicts_with_all = ["model", "again", "size", "clear"])]
    check: bool,

    /// Remove all that is prepared
    #[arg(long, conflicts_with_all = ["model", "again", "size"])]
    clear: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let Some(cache) = cache_folder() else {
        refuse!("neither XDG_CACHE_HOME nor HOME is set, so there is no place to keep anything")
    };
    match &arguments.model {
        _ if arguments.list || arguments.check => listing(&cache, arguments),
        _ if arguments.clear => {
            let bytes = clear(&cache)?;
            let said = if arguments.json {
                format!("{}\n", json!({ "removed_bytes": bytes }))
            } else {
                format!("removed {}\n", megabytes(bytes))
            };
            super::print(said.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Some(model) => all(arguments, model, &cache, runtime, cancel),
        None => refuse!("say which model, such as `kiln prepare sticker`"),
    }
}

fn all(arguments: &Arguments, model: &Path, cache: &Path, named: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let bundle = Bundle::open(&Shelf::usual().find(Some(model))?)?;
    let runtime = Runtime::open(named)?;
    let settings = Settings { prepared: None, ..arguments.device.settings()? };
    let assignments = Assignments::new(&bundle, &settings, &runtime)?;
    let shelf = PreparedShelf::new(cache, &bundle, &runtime);
    let wanted = Wanted {
        threads: settings.threads.unwrap_or_else(logical_cores),
        size: arguments.size.unwrap_or(bundle.default_size()),
        again: arguments.again,
    };
    let bar = super::tune::progress(assignments.iter().count(), arguments.json);
    let mut done: Vec<Prepared> = Vec::new();
    for (role, assignment) in assignments.iter() {
        bar.set_message(role.to_string());
        match prepare(&bundle, role, assignment, &runtime, &shelf, wanted, cancel) {
            Ok(prepared) => done.push(prepared),
            Err(error) if is_cancelled(&error) => {
                bar.finish_and_clear();
                tell(&format!("stopped; {} of {} components are prepared", done.len(), assignments.iter().count()));
                return Ok(ExitCode::from(STOPPED));
            }
            Err(error) => {
                bar.finish_and_clear();
                return Err(error);
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let printed = match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&rows_json(&bundle, &shelf, &done))?),
        false => table(&bundle.name(), &shelf, &done),
    };
    super::print(super::plain(&printed).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn table(name: &str, shelf: &PreparedShelf, done: &[Prepared]) -> String {
    let mut text = format!("{name}\n\n{:<18} {:>10} {:>10} {:>10}\n", "component", "opens ms", "prepared", "size");
    for row in done {
        let there = if row.was_there { "  was prepared already" } else { "" };
        let _ = writeln!(
            text,
            "{:<18} {:>10.1} {:>10.1} {:>10}{there}",
            row.role.folder(),
            row.load_before_ms,
            row.load_after_ms,
            megabytes(row.size_bytes)
        );
    }
    let total = |value: fn(&Prepared) -> f64| done.iter().map(value).sum::<f64>();
    let bytes = megabytes(done.iter().map(|row| row.size_bytes).sum());
    let (before, after) = (total(|row| row.load_before_ms), total(|row| row.load_after_ms));
    let _ = writeln!(text, "{:<18} {before:>10.1} {after:>10.1} {bytes:>10}\nkept in {}", "in all", shelf.folder().display());
    text
}

fn rows_json(bundle: &Bundle, shelf: &PreparedShelf, done: &[Prepared]) -> serde_json::Value {
    let row = |row: &Prepared| {
        json!({
            "component": row.role.folder(),
            "folder": row.folder,
            "size_bytes": row.size_bytes,
            "load_before_ms": row.load_before_ms,
            "load_after_ms": row.load_after_ms,
            "was_there": row.was_there,
        })
    };
    json!({ "model": bundle.name(), "folder": shelf.folder(), "components": done.iter().map(row).collect::<Vec<_>>() })
}

/// Lists what is prepared; with `--check` each file is read, and the exit code says whether all is as it was made.
fn listing(cache: &Path, arguments: &Arguments) -> Result<ExitCode> {
    let mut sound = true;
    let mut rows = Vec::new();
    for Listed { folder, size_bytes, manifest } in list(cache) {
        let state = match (&manifest, arguments.check) {
            (Err(why), _) => Err(why.clone()),
            (Ok(_), true) => check(&folder).map_err(|error| format!("{error:#}")),
            (Ok(_), false) => Ok(()),
        };
        sound &= state.is_ok();
        rows.push((folder, size_bytes, manifest.ok(), state));
    }
    let printed = match arguments.json {
        true => {
            let row = |(folder, size_bytes, manifest, state): &(
                PathBuf,
                u64,
                Option<crate::prepare::Manifest>,
                Result<(), String>,
            )| {
                json!({ "folder": folder, "size_bytes": size_bytes, "manifest": manifest, "wrong": state.as_ref().err() })
            };
            format!("{}\n", serde_json::to_string_pretty(&rows.iter().map(row).collect::<Vec<_>>())?)
        }
        false if rows.is_empty() => "nothing is prepared; `kiln prepare MODEL` does it\n".to_owned(),
        false => {
            let line = |(folder, size_bytes, _, state): &(PathBuf, u64, _, Result<(), String>)| {
                let why = state.as_ref().err().map(|why| format!("  {why}")).unwrap_or_default();
                format!("{:>10}  {}{why}\n", megabytes(*size_bytes), folder.display())
            };
            rows.iter().map(line).collect()
        }
    };
    super::print(super::plain(&printed).as_bytes())?;
    Ok(if arguments.check && !sound { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
