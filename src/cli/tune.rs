//! `kiln tune`: measures a bundle's components on this device and keeps the result for plans.
//!
//! Each configuration is measured by a process of its own, so that none pays for another's memory, and one that crashes its driver
//! is one row less.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::child::{answer, ask};
use super::look::{Library, Look, PATIENCE_S};
use super::{STOPPED, cache_folder, tell, whole};
use crate::bundle::{Bundle, Shelf};
use crate::plan::{Around, MeasurementKey, Measurements, Memory};
use crate::refuse;
use crate::runtime::{Board, Cancel, ProviderSetup, Runtime, load_average, logical_cores};
use crate::tune::{Configuration, Trial, configurations, measure};

/// A machine that has had more than this share of its cores at work is busy.
const BUSY: f64 = 0.5;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model: a folder, or a name that `kiln models` lists
    model: PathBuf,

    /// Calls whose median is taken, after two that warm up; fewer where they take long, more where they are soon done
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000), allow_negative_numbers = true)]
    runs: u16,

    /// Measure again what was measured before
    #[arg(long)]
    again: bool,

    /// A plugin that brings a provider to ONNX Runtime, such as libonnxruntime_providers_qnn.so
    #[arg(long, value_name = "FILE")]
    provider_library: Option<PathBuf>,

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
    let plugin = arguments.provider_library.as_deref();
    if let Some(configuration) = &arguments.child {
        return child(configuration, &bundle, named, arguments, cancel);
    }
    let look = Look { runtime: named, plugin, patience: Duration::from_secs(PATIENCE_S.into()), cancel };
    let library = look.library()?;
    let look = Look { runtime: library.file(), ..look };
    let board = Board::of_measurements(Path::new("/"));
    let key = MeasurementKey::new(&bundle.fingerprint, &library.version, &library.path, plugin, &board);
    let file = match (&arguments.output, cache_folder()) {
        (Some(file), _) if file.is_dir() => refuse!("--output {}: is a folder, expected a file", file.display()),
        (Some(file), _) => file.clone(),
        (None, Some(cache)) => key.file(&cache),
        (None, None) => refuse!("neither XDG_CACHE_HOME nor HOME is set; say with --output FILE where the result is kept"),
    };
    let mut measurements = known(&file, &key, arguments.again);
    let providers = usable_providers(look, &library)?;
    let all = configurations(&bundle, &providers, logical_cores());
    let (before, open): (Vec<Configuration>, Vec<Configuration>) =
        all.into_iter().partition(|configuration| measurements.find(&configuration.wanted()).is_some());

    if let Some(load) = load_average().filter(|load| !open.is_empty() && *load > BUSY * logical_cores() as f64) {
        log::warn!(
            "the machine is busy (load {load:.2} on {} cores), which lengthens times; end other programs and use --again",
            logical_cores()
        );
    }
    let bar = progress(open.len(), arguments.json);
    let mut failures = Vec::new();
    let mut done = 0;
    for configuration in &open {
        bar.set_message(text(configuration));
        match in_child(arguments, look, configuration) {
            Ok(trial) => {
                // Kept at once: whatever ends this process, what was measured stays.
                measurements.add(trial.measurement, trial.base_bytes, &file)?;
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
    if done > 0 || measurements.around == Around::default() {
        match whole::around(&bundle, &arguments.model, &measurements, look) {
            Ok(around) if around != Around::default() => measurements.add_around(around, &file)?,
            Ok(_) => log::info!("no whole picture is measured of such a model"),
            Err(error) if crate::error::is_cancelled(&error) => return Err(error),
            Err(error) => log::warn!("no whole picture was measured: {error:#}"),
        }
    }
    let printed = match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&json(&measurements, &file, done, before.len(), &failures))?),
        false => super::plain(&table(&bundle.name(), &measurements, &file, done, before.len())),
    };
    super::print(printed.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The names of the providers that run a small network; what does not is told.
fn usable_providers(look: Look<'_>, library: &Library) -> Result<Vec<String>> {
    let mut usable = Vec::new();
    for provider in library.providers() {
        match look.probe(&ProviderSetup::new(provider)) {
            Ok(_) => usable.push(provider.to_string()),
            Err(error) if crate::error::is_cancelled(&error) => return Err(error),
            Err(error) => log::warn!("provider {provider} does not run and is left out: {error:#}"),
        }
    }
    Ok(usable)
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
fn child(configuration: &str, bundle: &Bundle, named: Option<&Path>, arguments: &Arguments, cancel: &Cancel) -> Result<ExitCode> {
    let Ok(configuration) = serde_json::from_str::<Configuration>(configuration) else {
        refuse!("--child: is no configuration; it is for `kiln tune` itself");
    };
    let measured = || -> Result<Trial> {
        let runtime = Runtime::open(named)?;
        arguments.provider_library.as_deref().map(|plugin| runtime.register_plugin(plugin)).transpose()?;
        measure(&runtime, bundle, &configuration, usize::from(arguments.runs), cancel)
    };
    answer(measured())
}

/// Has a process of its own measure `configuration` with the library of `look`, and ends it once `cancel` was used.
fn in_child(arguments: &Arguments, look: Look<'_>, configuration: &Configuration) -> Result<Trial> {
    let mut command: Vec<OsString> = vec!["tune".into(), arguments.model.clone().into()];
    command.extend(["--runs".into(), arguments.runs.to_string().into()]);
    command.extend(["--child".into(), serde_json::to_string(configuration)?.into()]);
    for (flag, file) in [("--runtime", look.runtime), ("--provider-library", look.plugin)] {
        command.extend(file.into_iter().flat_map(|file| [flag.into(), file.into()]));
    }
    ask(&command, None, look.cancel)
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
        "{:<18}{:<9}{:<5}{:>7}{:>10}{:>5}{:>9}{:>9}{:>8}",
        "component", "provider", "kind", "threads", "size", "rows", "load ms", "call ms", "peak MB"
    );
    let mut rows: Vec<_> = measurements.rows.iter().collect();
    rows.sort_by_key(|row| (&row.role, &row.provider, &row.precision, row.width, row.height, row.batch, row.threads));
    for row in rows {
        let megabytes = row.peak_memory_bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes / 1_000_000).to_string());
        let _ = writeln!(
            text,
            "{:<18}{:<9}{:<5}{:>7}{:>10}{:>5}{:>9.1}{:>9.2}{:>8}",
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
    for memory in [Memory::Normal, Memory::Low] {
        if let Some(around_ms) = measurements.around.of(memory) {
            let _ = writeln!(text, "beside its networks a picture takes {around_ms:.0} ms (--memory {memory})");
        }
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
