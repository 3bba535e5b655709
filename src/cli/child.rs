//! Work handed to another process of this program, which may crash or hang without harm: its answer, or how it ended.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Cancelled, is_cancelled, is_refusal};
use crate::refusal;
use crate::runtime::Cancel;

/// An answer has some kilobytes; what is longer is cut.
const LONGEST_ANSWER_BYTES: u64 = 1 << 18;
/// How often a process at work is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Why a process has no answer.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    because: String,
    is_refusal: bool,
}

/// Has a process of its own do what `arguments` say, and returns what it gave to [`answer`].
///
/// * `patience`: how long it may take; as long as it likes where there is none
///
/// # Errors
/// What the process says went wrong; it crashed, was ended or gave no answer; it did not answer in time and was ended; the run was
/// cancelled, and the process ended.
pub(super) fn ask<T: DeserializeOwned>(arguments: &[OsString], patience: Option<Duration>, cancel: &Cancel) -> Result<T> {
    cancel.check()?;
    let (mut answer, mut messages) = (tempfile::tempfile()?, tempfile::tempfile()?);
    // What a process that crashes leaves of its own goes with this folder.
    let scratch = tempfile::tempdir()?;
    let mut child = Command::new(std::env::current_exe().context("the program's own file is not known")?)
        .args(arguments)
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .stdout(answer.try_clone()?)
        .stderr(messages.try_clone()?)
        .spawn()
        .context("another process of this program could not be started")?;
    let status = match ended(&mut child, patience, LOOK, cancel)? {
        Ok(status) => status,
        Err(Late(patience)) => bail!("did not answer in {} s{}", patience.as_secs(), last_words(&mut messages)?),
    };
    // Drivers print on standard output too, before the answer.
    let said = beginning(&mut answer)?;
    let outcome = said.lines().rev().find_map(|line| serde_json::from_str::<Result<T, Failure>>(line).ok());
    match outcome.filter(|_| status.success()) {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(Failure { because, is_refusal: true })) => Err(refusal!("{because}")),
        Some(Err(Failure { because, .. })) => Err(anyhow!(because)),
        None => bail!("{}{}", ending(status), last_words(&mut messages)?),
    }
}

/// A process was ended since it took longer than this.
pub(super) struct Late(pub(super) Duration);

/// Waits for the end of `child`, and ends it where it takes longer than `patience` or the run is cancelled.
///
/// * `look`: how often it is looked at
///
/// # Errors
/// The run was cancelled; the system does not say what became of the process.
pub(super) fn ended(
    child: &mut Child,
    patience: Option<Duration>,
    look: Duration,
    cancel: &Cancel,
) -> Result<Result<ExitStatus, Late>> {
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Ok(status);
        }
        let late = patience.filter(|patience| begun.elapsed() >= *patience);
        if cancel.is_cancelled() || late.is_some() {
            child.kill().and_then(|()| child.wait())?;
            cancel.check()?;
        }
        if let Some(patience) = late {
            break Err(Late(patience));
        }
        std::thread::sleep(look);
    };
    // Ctrl-C reaches the other process as well.
    cancel.check()?;
    Ok(status)
}

/// Hands `outcome` to the process that asked for it.
///
/// # Errors
/// The run was cancelled; standard output is closed.
pub(super) fn answer<T: Serialize>(outcome: Result<T>) -> Result<ExitCode> {
    if let Err(error) = &outcome
        && is_cancelled(error)
    {
        return Err(Cancelled.into());
    }
    let outcome = outcome.map_err(|error| Failure { because: format!("{error:#}"), is_refusal: is_refusal(&error) });
    super::print(format!("\n{}\n", serde_json::to_string(&outcome)?).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// How a process ended that gave no answer.
fn ending(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return match signal_name(signal) {
            // Nobody but a person and the kernel sends it.
            Some("SIGKILL") => "was ended from outside: signal 9 (SIGKILL), as by a system without memory".to_owned(),
            Some(name) => format!("crashed: signal {signal} ({name})"),
            None => format!("crashed: signal {signal}"),
        };
    }
    status.code().map_or_else(|| format!("ended with {status}"), |code| format!("ended without an answer: exit code {code}"))
}

/// The signals that end a program which went wrong, by the numbers that they have on Linux and macOS.
#[cfg(unix)]
fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [(i32, &str); 6] =
        [(4, "SIGILL"), (6, "SIGABRT"), (8, "SIGFPE"), (9, "SIGKILL"), (11, "SIGSEGV"), (15, "SIGTERM")];
    NAMES.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name)
}

/// The last line that a process said, behind a colon; nothing where it said nothing.
fn last_words(messages: &mut File) -> Result<String> {
    let said = beginning(messages)?;
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Ok(last.map(|line| format!(": {}", line.strip_prefix("kiln: ").unwrap_or(line).trim())).unwrap_or_default())
}

fn beginning(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(LONGEST_ANSWER_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
