//! Whole pictures, each made by a process of its own, to learn what one takes beside its networks.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::child::{Late, ended};
use super::look::Look;
use crate::bundle::Bundle;
use crate::plan::{Around, Assignments, Measurements, Memory, Plan, Settings};
use crate::request::Request;
use crate::runtime::Runtime;
use crate::tune::median;

/// Pictures that the median is of, after one that brings the files into memory.
const PICTURES: usize = 7;
/// Of a picture that takes longer, what is beside its networks is a small part, and too little to be told from their own unrest.
const LONGEST_MS: f64 = 4000.0;
/// How often a process at work is looked at: far below what is measured.
const LOOK: Duration = Duration::from_millis(1);

/// What a process takes beyond the networks of `bundle` to make its usual picture, from its start to its end.
///
/// Not measured where it makes clips, takes long, or not all of its networks were measured; 0 where a whole picture took less than they,
/// as where `kiln prepare` made them open quickly.
///
/// # Errors
/// No process could be started, one failed, or one took longer than the patience of `look`; the run was cancelled.
pub(super) fn around(bundle: &Bundle, model: &Path, measurements: &Measurements, look: Look<'_>) -> Result<Around> {
    let mut around = Around::default();
    if bundle.clip.is_some() {
        return Ok(around);
    }
    let prompt = if bundle.takes_text() { "a red apple" } else { "" };
    let runtime = Runtime::open(look.runtime)?;
    let mut ways = Vec::new();
    for memory in [Memory::Normal, Memory::Low] {
        let settings = Settings { memory, ..Settings::default() };
        let assignments = Assignments::new(bundle, &settings, &runtime)?;
        let (_, plan) = Plan::within(bundle, &Request::new(prompt), &settings, &assignments, Some(measurements), &[])?;
        if plan.forecast.is_measured && plan.forecast.time_ms.is_some_and(|time_ms| time_ms <= LONGEST_MS) {
            ways.push((memory, plan.forecast.networks_ms, Vec::new()));
        }
    }
    let scratch = tempfile::tempdir()?;
    let picture = scratch.path().join("picture.png");
    // In turn, so that a machine whose speed changes is as quick for one as for the other.
    for number in 0..=PICTURES {
        for (memory, _, times) in &mut ways {
            let took = picture_ms(prompt, model, *memory, &picture, look)?;
            if number > 0 {
                times.push(took);
            }
        }
    }
    for (memory, networks_ms, times) in ways {
        *around.of_mut(memory) = Some((median(&times) - networks_ms).max(0.0));
    }
    Ok(around)
}

/// How long a process takes to make a picture of `model`, in milliseconds.
fn picture_ms(prompt: &str, model: &Path, memory: Memory, picture: &Path, look: Look<'_>) -> Result<f64> {
    let mut command = Command::new(std::env::current_exe().context("the program's own file is not known")?);
    command.arg("generate").args((!prompt.is_empty()).then_some(prompt)).arg("--model").arg(model);
    command.args(["--seed", "7", "--quiet", "--memory", &memory.to_string(), "--output"]).arg(picture);
    if let Some(file) = look.runtime {
        command.arg("--runtime").arg(file);
    }
    let begun = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    match ended(&mut child, Some(look.patience), LOOK, look.cancel)? {
        Ok(status) => ensure!(status.success(), "`kiln generate --model {}` ended with {status}", model.display()),
        Err(Late(patience)) => bail!("the process that makes it did not end in {} s", patience.as_secs()),
    }
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}
