//! Whole pictures, each made by a process of its own, to learn what one takes beside its networks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::child::{Late, ended};
use super::look::Look;
use crate::bundle::Bundle;
use crate::plan::{Assignments, Measurements, Plan, Settings};
use crate::request::Request;
use crate::runtime::Runtime;
use crate::tune::median;

/// Pictures that the median is of, after one that brings the files into memory.
const PICTURES: usize = 7;
/// Of a picture that takes longer, what is beside its networks is a small part, and too little to be told from their own unrest.
const LONGEST_MS: f64 = 4000.0;
/// How often a process at work is looked at: far below what is measured.
const LOOK: Duration = Duration::from_millis(1);

/// What a process takes beyond the networks of `bundle` to make its usual picture, from its start to its end, in milliseconds.
///
/// `None` where it makes clips, takes long, not all of its networks were measured, or a whole picture took less than they, as where
/// `kiln prepare` made them open quickly.
///
/// # Errors
/// No process could be started, one failed, or one took longer than the patience of `look`; the run was cancelled.
pub(super) fn around_ms(bundle: &Bundle, model: &Path, measurements: &Measurements, look: Look<'_>) -> Result<Option<f64>> {
    if bundle.clip.is_some() {
        return Ok(None);
    }
    let prompt = if bundle.takes_text() { "a red apple" } else { "" };
    let runtime = Runtime::open(look.runtime)?;
    let settings = Settings::default();
    let assignments = Assignments::new(bundle, &settings, &runtime)?;
    let (_, plan) = Plan::within(bundle, &Request::new(prompt), &settings, &assignments, Some(measurements))?;
    let networks_ms = plan.forecast.networks_ms;
    if !plan.forecast.is_measured || plan.forecast.time_ms.is_none_or(|time_ms| time_ms > LONGEST_MS) {
        return Ok(None);
    }
    let scratch = tempfile::tempdir()?;
    let picture = scratch.path().join("picture.png");
    let mut times = Vec::new();
    for number in 0..=PICTURES {
        let mut command = Command::new(std::env::current_exe().context("the program's own file is not known")?);
        command.arg("generate").args((!prompt.is_empty()).then_some(prompt)).arg("--model").arg(model);
        command.args(["--seed", "7", "--quiet", "--output"]).arg(&picture);
        if let Some(file) = look.runtime {
            command.arg("--runtime").arg(file);
        }
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        match ended(&mut child, Some(look.patience), LOOK, look.cancel)? {
            Ok(status) => ensure!(status.success(), "`kiln generate --model {}` ended with {status}", model.display()),
            Err(Late(patience)) => bail!("the process that makes it did not end in {} s", patience.as_secs()),
        }
        if number > 0 {
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    Ok(Some(median(&times) - networks_ms).filter(|around_ms| *around_ms > 0.0))
}
