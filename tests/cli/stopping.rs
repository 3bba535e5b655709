//! Runs that are stopped: by Ctrl-C, by the system, by a reader that has seen enough.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::common::{self, names};
use super::model;

/// A run of hours, begun; it has said to the system that it handles interrupts itself.
fn begin(folder: &Path, more: &[&str]) -> Child {
    let model = model("sd");
    let mut command = common::command(folder);
    let long = ["--seed", "7", "--steps", "990", "--count", "1000", "--output", "a.png"];
    command.args(["generate", "a red apple", "--model", &model]).args(long).args(more);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !handles_interrupts(&child) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the run does not begin");
        sleep(Duration::from_millis(1));
    }
    child
}

/// Whether the process has a handler for signal 2, as the system's own record of it says.
pub(super) fn handles_interrupts(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() >> 1 & 1 == 1
}

pub(super) fn send(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Waits for the end; returns the exit code, the time that it took and what was said.
pub(super) fn wait(mut child: Child) -> (Option<i32>, Duration, String) {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not end");
        sleep(Duration::from_millis(5));
    }
    let took = begun.elapsed();
    let output = child.wait_with_output().unwrap();
    assert!(output.stdout.is_empty());
    (output.status.code(), took, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_interrupt_stops_in_about_a_second_and_leaves_nothing() {
    // While the library loads, while networks load, while steps are made.
    for (signal, delay) in [("-INT", 0), ("-INT", 100), ("-INT", 400), ("-INT", 2000), ("-TERM", 2000)] {
        let folder = tempfile::tempdir().unwrap();
        let child = begin(folder.path(), &[]);
        sleep(Duration::from_millis(delay));
        send(&child, signal);
        let (code, took, said) = wait(child);
        assert_eq!(code, Some(130), "{signal} after {delay} ms: {said}");
        assert_eq!(said, "kiln: stopped, nothing was written\n");
        assert!(took < Duration::from_millis(1500), "{signal} after {delay} ms took {took:?}");
        assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
    }
}

#[test]
fn an_interrupt_takes_the_preview_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let child = begin(folder.path(), &["--preview", "now.png"]);
    let begun = Instant::now();
    while !folder.path().join("now.png").exists() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no preview appears");
        sleep(Duration::from_millis(5));
    }
    send(&child, "-INT");
    assert_eq!(wait(child).0, Some(130));
    assert!(names(folder.path()).is_empty(), "{:?}", names(folder.path()));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (turbo, sd) = (model("sd_turbo"), model("sd"));
    let runs: [&[&str]; 4] = [
        &["generate", "a", "--seed", "1", "--model", &turbo, "--output", "-"],
        &["generate", "a", "--seed", "1", "--model", &turbo, "--json"],
        &["inspect", &sd],
        &["completions", "bash"],
    ];
    for arguments in runs {
        let mut child =
            common::command(folder.path()).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Closed before the first byte is written, or at latest after ten.
        let mut stdout = child.stdout.take().unwrap();
        if arguments[0] == "completions" {
            let mut some = [0; 10];
            stdout.read_exact(&mut some).unwrap();
        }
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_is_the_devices_fault() {
    if !Path::new("/dev/full").exists() {
        println!("skipped: there is no /dev/full here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let model = model("sd");
    let mut command = common::command(folder.path());
    let ran = common::run(command.args(["inspect", &model]).stdout(full));
    // `output` captures standard output only where it was not given away.
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("No space left on device"), "{}", ran.stderr);
}
