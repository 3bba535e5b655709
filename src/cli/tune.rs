//! `kiln tune`: measures a bundle's components on this device and keeps the result for plans.
//!
//! Each configuration is measured by a process of its own, so that none pays for another's memory, and one that crashes its driver
//! is one row less.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{STOPPED, cache_folder, tell};
use crate::bundle::{Bundle, Shelf};
use crate::error::Cancelled;
use crate::plan::{MeasurementKey, Measurements};
use crate::refuse;
use crate::runtime::{Board, Cancel, Runtime};
use crate::tune::{Configuration, Trial, configurations, measure};

/// A row of JSON and a message are far smaller; what is longer is cut.
const LONGEST_ANSWER_BYTES: u64 = 1 << 16;
/// How often a running measurement is looked at.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model: a folder, or a name that `kiln models` lists
    model: PathBuf,

    /// Calls whose median is taken, after two that warm up; fewer where they take long
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,

    /// Measure again what was measured before
    #[arg(long)]
    again: bool,

    /// Where the result is kept [default: kiln/tune in the user's cache]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Print the measurements as JSON
    #[arg(long)]
    json: bool,

    /// Measure one configuration in this process, and print it
    #[arg(long, hide = true, value_name = "JSON")]
    child: Option<String>,
}

/// A configuration that could not be measured.
struct Failure {
    configuration: Configuration,
    because: String,
}

pub(super) fn run(arguments: &Arguments, named: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let bundle = Bundle::open(&Shelf::usual().find(Some(&arguments.model))?)?;
    let runtime = Runtime::open(named)?;
    if let Some(configuration) = &arguments.child {
        return child(configuration, &bundle, &runtime, usize::from(arguments.runs), cancel);
    }
    let board = Board::read(Path::new("/"));
    let key =
        MeasurementKey { bundle: bundle.fingerprint.clone(), runtime: runtime.version().to_owned(), device: board.identity() };
    let file = match (&arguments.output, cache_folder()) {
        (Some(file), _) if file.is_dir() => refuse!("--output {}: is a folder, expected a file", file.display()),
        (Some(file), _) => file.clone(),
        (None, Some(cache)) => key.file(&cache),
        (None, None) => refuse!("neither XDG_CACHE_HOME nor HOME is set; say with --output FILE where the result is kept"),
    };
    let mut measurements = known(&file, &key, arguments.again);
    let usable = |provider: &crate::runtime::Provider| match runtime.probe(*provider) {
        Ok(()) => true,
        Err(error) => {
            log::warn!("provider {provider} does not run and is left out: {error:#}");
            false
        }
    };
    let providers: Vec<String> =
        runtime.providers().iter().filter(|provider| usable(provider)).map(ToString::to_string).collect();
    let all = configurations(&bundle, &providers, board.processor.usable_cores());
    let (before, open): (Vec<Configuration>, Vec<Configuration>) =
        all.into_iter().partition(|configuration| measurements.find(&configuration.wanted()).is_some());

    let bar = progress(open.len(), arguments.json);
    let mut failures = Vec::new();
    let mut done = 0;
    for configuration in &open {
        bar.set_message(text(configuration));
        match in_child(arguments, &runtime, configuration, cancel) {
            Ok(trial) => {
                measurements.base_bytes = measurements.base_bytes.max(trial.base_bytes);
                measurements.put(trial.measurement);
                // Kept at once: whatever ends this process, what was measured stays.
                measurements.save(&file)?;
                done += 1;
            }
            Err(error) if crate::error::is_cancelled(&error) => {
                bar.finish_and_clear();
                tell(&format!("stopped; {done} of {} were measured and are kept in {}", open.len(), file.display()));
                return Ok(ExitCode::from(STOPPED));
            }
            Err(error) => {
                bar.suspend(|| log::warn!("{} was not measured: {error:#}", text(configuration)));
                failures.push(Failure { configuration: configuration.clone(), because: format!("{error:#}") });
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if done + before.len() == 0 {
        bail!("nothing was measured: {}", failures.first().map_or("no provider runs here", |failure| &failure.because));
    }
    let printed = match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&json(&measurements, &file, done, before.len(), &failures))?),
        false => super::plain(&table(&bundle.name(), &measurements, &file, done, before.len())),
    };
    super::print(printed.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// What was measured before under the same key; nothing where that is not to be believed, and then it is said why.
fn known(file: &Path, key: &MeasurementKey, again: bool) -> Measurements {
    let loaded = if again { Ok(None) } else { Measurements::load(file, key) };
    match loaded {
        Ok(known) => known.unwrap_or_else(|| Measurements::new(key.clone())),
        Err(error) => {
            log::warn!("{error:#}; all is measured again, and the file replaced");
            Measurements::new(key.clone())
        }
    }
}

/// Measures in this process, for the one that started it.
fn child(configuration: &str, bundle: &Bundle, runtime: &Runtime, runs: usize, cancel: &Cancel) -> Result<ExitCode> {
    let Ok(configuration) = serde_json::from_str::<Configuration>(configuration) else {
        refuse!("--child: is no configuration; it is for `kiln tune` itself");
    };
    let trial = measure(runtime, bundle, &configuration, runs, cancel)?;
    super::print(format!("{}\n", serde_json::to_string(&trial)?).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Has a process of its own measure `configuration`, and ends it once `cancel` was used.
fn in_child(arguments: &Arguments, runtime: &Runtime, configuration: &Configuration, cancel: &Cancel) -> Result<Trial> {
    cancel.check()?;
    let (mut answer, mut messages) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut command = Command::new(std::env::current_exe().context("the program's own file is not known")?);
    command.arg("tune").arg(&arguments.model).args(["--runs", &arguments.runs.to_string()]);
    command.args(["--child", &serde_json::to_string(configuration)?]);
    // The same library, wherever this process found it; a bare name is the system loader's to find.
    if runtime.path().components().count() > 1 {
        command.arg("--runtime").arg(runtime.path());
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(answer.try_clone()?)
        .stderr(messages.try_clone()?)
        .spawn()
        .context("a process that measures could not be started")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if cancel.is_cancelled() {
            child.kill().and_then(|()| child.wait())?;
            return Err(Cancelled.into());
        }
        std::thread::sleep(LOOK);
    };
    // Ctrl-C reaches the child as well.
    cancel.check()?;
    if !status.success() {
        let said = beginning(&mut messages)?;
        let last = said.lines().last().map_or("it said nothing", |line| line.strip_prefix("kiln: ").unwrap_or(line));
        return Err(match status.code() {
            Some(1 | 2) => anyhow!("{last}"),
            _ => anyhow!("the process that measures ended with {status}: {last}"),
        });
    }
    serde_json::from_str(&beginning(&mut answer)?).context("the process that measures gave no measurement")
}

fn beginning(file: &mut std::fs::File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(LONGEST_ANSWER_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn progress(length: usize, quiet: bool) -> ProgressBar {
    let visible = !quiet && std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(length as u64), target);
    match ProgressStyle::with_template("{spinner} {pos}/{len} {wide_bar} {msg}") {
        Ok(style) => bar.set_style(style.progress_chars("━╸ ")),
        Err(error) => log::debug!("progress: {error}"),
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn text(configuration: &Configuration) -> String {
    let Configuration { role, provider, precision, threads, width, height, batch } = configuration;
    let rows = if *batch == 1 { String::new() } else { format!(", {batch} rows") };
    format!("{role} {precision} on {provider}, {threads} threads, {width}x{height}{rows}")
}

fn table(name: &str, measurements: &Measurements, file: &Path, done: usize, before: usize) -> String {
    let key = &measurements.key;
    let mut text = format!("{name}, ONNX Runtime {}\n{}\n\n", key.runtime, key.device);
    let _ = writeln!(
        text,
        "{:<15}{:<9}{:<6}{:>7}{:>11}{:>5}{:>9}{:>9}{:>8}",
        "component", "provider", "kind", "threads", "size", "rows", "load ms", "call ms", "peak MB"
    );
    let mut rows: Vec<_> = measurements.rows.iter().collect();
    rows.sort_by_key(|row| (&row.role, &row.provider, &row.precision, row.width, row.height, row.batch, row.threads));
    for row in rows {
        let megabytes = row.peak_memory_bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes / 1_000_000).to_string());
        let _ = writeln!(
            text,
            "{:<15}{:<9}{:<6}{:>7}{:>11}{:>5}{:>9.1}{:>9.2}{:>8}",
            row.role,
            row.provider,
            row.precision,
            row.threads,
            format!("{}x{}", row.width, row.height),
            row.batch,
            row.load_ms,
            row.run_ms,
            megabytes
        );
    }
    if let Some(base) = measurements.base_bytes {
        let _ = writeln!(text, "\nbefore any network is opened, Kiln and ONNX Runtime hold {} MB", base / 1_000_000);
    }
    let known = if before == 0 { String::new() } else { format!(", {before} known from before (--again measures them too)") };
    let _ = writeln!(text, "{done} measured{known}\nkept in {}", file.display());
    text
}

fn json(measurements: &Measurements, file: &Path, done: usize, before: usize, failures: &[Failure]) -> serde_json::Value {
    let failure = |failure: &Failure| serde_json::json!({ "configuration": failure.configuration, "because": failure.because });
    serde_json::json!({
        "file": file.display().to_string(),
        "measured": done,
        "known_before": before,
        "failed": failures.iter().map(failure).collect::<Vec<_>>(),
        "measurements": measurements,
    })
}
