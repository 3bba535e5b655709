//! `kiln likelihood`: says how likely a model finds pictures.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::progress::Progress;
use super::reading::{ReadingArguments, read_picture};
use crate::pipeline::Likelihood;
use crate::request::Request;
use crate::runtime::Cancel;

/// What the figures are of.
const FIGURES: &str = "\
Figures are the model's density at the middles of the cells that the picture's 8-bit values stand for: `nats` in [-1, 1], bits
per dimension with the cells' size. `exact`, `lower bound` and `estimate` say how near they are to that density.";

#[derive(Debug, clap::Args)]
#[command(after_help = FIGURES)]
pub(super) struct Arguments {
    /// Pictures: PNG, JPEG or WebP
    #[arg(required = true)]
    pictures: Vec<PathBuf>,

    #[command(flatten)]
    reading: ReadingArguments,

    /// How many draws a bound or an estimate is the mean over (vae, cnf, score) [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    samples: Option<usize>,

    /// Print each picture's figures as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>) -> Result<ExitCode> {
    let request = Request { samples: arguments.samples, ..arguments.reading.request()? };
    let mut engine = arguments.reading.engine(runtime)?;
    engine.plan_likelihood(&request)?;
    // All are read before the first is measured: the last of a hundred may be missing.
    let read = |path: &PathBuf| Ok(read_picture(path, engine.bundle())?.0);
    let pictures = arguments.pictures.iter().map(read).collect::<Result<Vec<_>>>()?;

    let open = arguments.reading.leaves_class_open(engine.bundle());
    let over = if open { format!(", mean over {} classes", engine.bundle().classes.len()) } else { String::new() };
    let model = engine.bundle().name();
    let width = arguments.pictures.iter().map(|path| path.display().to_string().chars().count()).max().unwrap_or(0);
    let mut found = Vec::with_capacity(pictures.len());
    for (path, picture) in arguments.pictures.iter().zip(&pictures) {
        let mut progress = Progress::new(arguments.json, None);
        let likelihood = engine.likelihood(&request, picture, &mut progress, &Cancel::new());
        progress.finish();
        let likelihood = likelihood?;
        let line = if arguments.json {
            json(path, &model, &request, likelihood).to_string()
        } else {
            row(&path.display().to_string(), width, likelihood, &over)
        };
        super::print(super::plain(&format!("{line}\n")).as_bytes())?;
        found.push(likelihood);
    }
    if let (Some(first), true, false) = (found.first(), found.len() > 1, arguments.json) {
        let mean = Likelihood {
            nats: mean(found.iter().map(|one| one.nats)),
            bits_per_dimension: mean(found.iter().map(|one| one.bits_per_dimension)),
            kind: first.kind,
        };
        super::print(format!("{}\n", row("mean", width, mean, &over)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(name: &str, width: usize, likelihood: Likelihood, over: &str) -> String {
    let Likelihood { nats, bits_per_dimension, kind } = likelihood;
    format!("{name:<width$}  {nats:>11.2} nats  {bits_per_dimension:>7.4} bits per dimension  ({kind}{over})")
}

fn json(path: &Path, model: &str, request: &Request, likelihood: Likelihood) -> serde_json::Value {
    serde_json::json!({
        "file": path.display().to_string(),
        "model": model,
        "class": Some(&request.prompt).filter(|class| !class.is_empty()),
        "nats": likelihood.nats,
        "bits_per_dimension": likelihood.bits_per_dimension,
        "kind": likelihood.kind.to_string().replace(' ', "_"),
    })
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "pictures named on one command line")]
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}
