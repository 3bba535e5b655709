//! `kiln tune`: what is measured, where it is kept, what becomes of a file that is not to be believed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kiln::plan::Measurements;
use serde_json::Value;

use super::common::{Ran, command, names, run};
use super::model;

/// `kiln tune` of a model with its cache in `folder/cache`.
fn tune(folder: &Path, model: &str, more: &[&str]) -> Ran {
    run(command_of(folder, model, more).arg("--runs=2"))
}

fn command_of(folder: &Path, model: &str, more: &[&str]) -> Command {
    let mut command = command(folder);
    command.args(["tune", model]).args(more).env("XDG_CACHE_HOME", folder.join("cache"));
    command
}

/// The one file of measurements in the cache.
fn kept(folder: &Path) -> PathBuf {
    let place = folder.join("cache/kiln/tune");
    let found = names(&place);
    assert_eq!(found.len(), 1, "{found:?}");
    place.join(&found[0])
}

fn read(file: &Path) -> Measurements {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_model_is_measured_once_and_its_figures_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let ran = tune(folder.path(), "gan", &[]).expect_code(0);
    for part in ["mapping", "synthesis", "cpu", "call ms", "peak MB", "kept in"] {
        assert!(ran.text().contains(part), "{} lacks {part:?}", ran.text());
    }
    let file = kept(folder.path());
    let longest = ran.text().lines().filter(|line| !line.contains("kept in")).map(|line| line.chars().count()).max();
    assert!(longest.unwrap() <= 80, "{}", ran.text());
    let first = read(&file);
    assert!(first.rows.len() >= 2 && first.base_bytes.unwrap() > 1 << 20, "{first:?}");
    assert!(first.around.normal_ms.is_some() && first.around.low_ms.is_some(), "{first:?}");
    assert_eq!(ran.text().matches("beside its networks a picture takes").count(), 2, "{}", ran.text());
    for row in &first.rows {
        assert!(row.load_ms > 0.0 && row.run_ms > 0.0 && row.runs >= 2, "{row:?}");
        assert!(row.peak_memory_bytes.unwrap() > 0 && row.peak_memory_bytes >= row.resident_bytes, "{row:?}");
    }
    let loaded = Measurements::load(&file, &first.key).unwrap().unwrap();
    assert_eq!(loaded, first, "the crate reads what the program wrote");

    let ran = tune(folder.path(), "gan", &["--json"]).expect_code(0);
    let value: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((&value["measured"], &value["known_before"]), (&0.into(), &first.rows.len().into()));
    assert_eq!(read(&file), first, "what is known is not measured twice");

    let ran = tune(folder.path(), "gan", &["--again", "--json"]).expect_code(0);
    let value: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((&value["measured"], &value["known_before"]), (&first.rows.len().into(), &0.into()));
    assert_ne!(read(&file), first);
    assert_eq!(kept(folder.path()), file);
}

#[test]
fn a_file_that_is_not_to_be_believed_is_told_of_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("measured.json");
    let output = ["--output", "measured.json"];
    tune(folder.path(), "gan", &output).expect_code(0);
    assert_eq!(names(folder.path()), ["measured.json"], "the file that was named takes the cache's place");
    let whole = fs::read_to_string(&good).unwrap();
    let rows = read(&good).rows.len();
    let around = |normal_ms| {
        let mut measured = read(&good);
        measured.around.normal_ms = Some(normal_ms);
        serde_json::to_string(&measured).unwrap()
    };
    let cases = [
        ("no json".to_owned(), "is not JSON"),
        (whole[..whole.len() / 2].to_owned(), "is not JSON"),
        (whole.replace("\"schema\": 4", "\"schema\": 99"), "its `schema` is 99, expected 4"),
        (around(-1.0), "`around` `normal_ms` is -1, expected a time"),
        (whole.replacen("\"runtime\": \"", "\"runtime\": \"0.", 1), "is of another ONNX Runtime"),
        (whole.replace("\"role\": \"mapping\"", "\"role\": \"\""), "`role` is empty"),
    ];
    for (content, part) in cases {
        fs::write(&good, content).unwrap();
        let ran = tune(folder.path(), "gan", &output).expect_code(0);
        assert!(ran.stderr.contains(part) && ran.stderr.contains("measured again"), "{} lacks {part:?}", ran.stderr);
        assert_eq!(read(&good).rows.len(), rows);
    }
}

#[test]
fn what_cannot_be_tuned_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    tune(path, "nothing", &[]).refused(2, &["model nothing", "neither such a folder"]);
    tune(path, "gan", &["--output", "."]).refused(2, &["--output .: is a folder"]);
    tune(path, "gan", &["--runtime", "missing.so"]).refused(2, &["--runtime missing.so"]);
    tune(path, "gan", &["--child", "{}"]).refused(2, &["--child: is no configuration"]);
    let mut homeless = command(path);
    homeless.args(["tune", "gan"]).env_remove("XDG_CACHE_HOME").env_remove("HOME");
    run(&mut homeless).refused(2, &["say with --output FILE"]);
    assert_eq!(names(path), [""; 0], "nothing was written");
}

/// Waits until `ready`, for a long while at most.
fn wait(child: &mut Child, mut ready: impl FnMut(&mut Child) -> bool) {
    let begun = Instant::now();
    while !ready(child) {
        assert!(begun.elapsed() < Duration::from_secs(300), "nothing came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_keeps_what_is_measured_and_the_next_run_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd");
    let mut command = command_of(folder.path(), &model, &["--runs=2", "--output=measured.json"]);
    let file = folder.path().join("measured.json");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait(&mut child, |_| file.exists());
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    wait(&mut child, |child| child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let stopped = read(&file).rows;
    assert!(!stopped.is_empty());

    let ran = run(command_of(folder.path(), &model, &["--output=measured.json", "--json"]).arg("--runs=1")).expect_code(0);
    let value: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!(value["known_before"], stopped.len());
    let whole = read(&file).rows;
    assert_eq!(value["measured"], whole.len() - stopped.len());
    assert!(stopped.iter().all(|row| whole.contains(row)), "what was measured stands");
    assert_eq!(names(folder.path()), ["measured.json"]);
}
