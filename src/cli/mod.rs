//! The command line: one file per verb.
//!
//! In: arguments. Out: files, text, an exit code: 0 done, 1 Kiln's or the device's fault, 2 the caller's, 130 stopped.

mod bar;
mod bench;
mod child;
mod clip;
#[cfg(feature = "lineage")]
mod compare;
#[cfg(feature = "lineage")]
mod contest;
mod device;
#[cfg(feature = "client")]
mod distant;
mod doctor;
mod film;
mod frames;
mod generate;
mod inspect;
mod invert;
#[cfg(feature = "lineage")]
mod judge;
mod likelihood;
#[cfg(feature = "lineage")]
mod lineage;
mod look;
#[cfg(feature = "manual")]
mod manual;
mod models;
mod number;
mod plan;
#[cfg(feature = "tune")]
mod prepare;
mod progress;
mod reading;
mod record;
mod request;
#[cfg(feature = "server")]
mod serve;
mod shell;
mod show;
mod target;
#[cfg(feature = "tune")]
mod tune;
mod upscale;
mod verify;
#[cfg(feature = "tune")]
mod whole;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
#[cfg(any(feature = "manual", test))]
use clap::CommandFactory;
use clap::{Parser, Subcommand};

use crate::error::{is_cancelled, is_refusal};
use crate::refuse;
use crate::runtime::{Cancel, OLDEST_RUNTIME, Runtime};

/// Exit code after Ctrl-C: 128 and the number of the interrupt signal, as shells have it.
const STOPPED: u8 = 130;
/// What a file or a pipe is written for.
const USUAL_COLUMNS: usize = 80;

/// Makes pictures on this device: a prompt or a picture becomes a picture, with no network.
#[derive(Debug, Parser)]
#[command(name = "kiln", disable_version_flag = true, arg_required_else_help = true, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,

    /// Print the version of Kiln and of ONNX Runtime
    #[arg(long, short = 'V')]
    version: bool,

    /// The ONNX Runtime library to load [default: ORT_DYLIB_PATH, beside kiln, ../lib/kiln, the system's paths]
    #[arg(long, value_name = "FILE", global = true)]
    runtime: Option<PathBuf>,

    /// Say more of what happens; twice for every detail
    #[arg(long, short, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a picture
    Generate(Box<generate::Arguments>),
    /// Say how a picture would be made, in how much time and memory, and why
    Plan(Box<plan::Arguments>),
    /// Enlarge a picture with a super-resolution network
    Upscale(Box<upscale::Arguments>),
    /// Find a picture's latent, and make the picture from it again
    Invert(Box<invert::Arguments>),
    /// Say how likely a model finds pictures, in nats and bits
    Likelihood(Box<likelihood::Arguments>),
    /// List the models that are found by name
    Models(models::Arguments),
    /// Draw the family tree of generative models, or tell the story of one
    #[cfg(feature = "lineage")]
    Lineage(lineage::Arguments),
    /// Compare the branches of the family tree: time, memory, distance from real pictures
    #[cfg(feature = "lineage")]
    Compare(compare::Arguments),
    /// Print what a model folder holds: components, tensors, sampler, sizes, licence
    Inspect(inspect::Arguments),
    /// Check a model folder against the checksums of its card
    Verify(verify::Arguments),
    /// Print what made a picture
    Show(show::Arguments),
    /// Measure a model on this device: loading, each component, each step, memory
    Bench(bench::Arguments),
    /// Measure each component of a model on this device, and keep the result for plans
    #[cfg(feature = "tune")]
    Tune(tune::Arguments),
    /// Have a model's networks open quickly from now on, on this machine
    #[cfg(feature = "tune")]
    Prepare(Box<prepare::Arguments>),
    /// Say whether Kiln runs on this machine, on what, and what would make it run better
    Doctor(doctor::Arguments),
    /// Make pictures for other programs and for a page, over HTTP
    #[cfg(feature = "server")]
    Serve(Box<serve::Arguments>),
    /// Print the completions of a shell
    #[cfg(feature = "manual")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a folder
    #[cfg(feature = "manual")]
    #[command(hide = true)]
    Manual(manual::Arguments),
}

impl Verb {
    fn is_quiet(&self) -> bool {
        match self {
            Self::Generate(verb) => verb.quiet,
            Self::Invert(verb) => verb.quiet,
            Self::Upscale(verb) => verb.quiet,
            _ => false,
        }
    }

    fn quotes_prompts(&self) -> Option<bool> {
        match self {
            #[cfg(feature = "server")]
            Self::Serve(verb) => Some(verb.log_prompts),
            _ => None,
        }
    }

    /// The other verbs leave nothing behind, and an interrupt may end them at once.
    fn stops_cleanly(&self) -> bool {
        match self {
            Self::Doctor(_) | Self::Generate(_) | Self::Upscale(_) | Self::Invert(_) | Self::Bench(_) => true,
            #[cfg(feature = "tune")]
            Self::Tune(_) | Self::Prepare(_) => true,
            #[cfg(feature = "lineage")]
            Self::Lineage(_) | Self::Compare(_) => true,
            _ => false,
        }
    }
}

/// Reads the process's arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    if cfg!(panic = "abort") {
        // Without unwinding nothing turns a library's panic into an error, and this is the last to be told of it.
        std::panic::set_hook(Box::new(|panic| {
            tell(&format!("a library that kiln uses, or kiln itself, found something impossible: {panic}"));
            std::process::exit(1);
        }));
    }
    let verb = arguments.verb.as_ref();
    start_logger(arguments.verbose, verb.is_some_and(Verb::is_quiet), verb.and_then(Verb::quotes_prompts));
    let cancel = Cancel::new();
    if arguments.verb.as_ref().is_some_and(Verb::stops_cleanly)
        && let Err(error) = listen_for_interrupts(&cancel)
    {
        log::warn!("Ctrl-C will end the program at once: {error}");
    }
    match run(&arguments, &cancel) {
        Ok(code) => code,
        Err(error) if is_cancelled(&error) => {
            tell("stopped, nothing was written");
            ExitCode::from(STOPPED)
        }
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("{error:#}"));
            ExitCode::from(if is_refusal(&error) { 2 } else { 1 })
        }
    }
}

fn run(arguments: &Arguments, cancel: &Cancel) -> Result<ExitCode> {
    let runtime = arguments.runtime.as_deref();
    if arguments.version {
        return version(runtime);
    }
    match &arguments.verb {
        None => refuse!("say what to do, such as `kiln generate \"a red apple\"`; `kiln --help` lists the verbs"),
        Some(Verb::Generate(verb)) => generate::run(verb, runtime, cancel),
        Some(Verb::Plan(verb)) => plan::run(verb, runtime),
        Some(Verb::Upscale(verb)) => upscale::run(verb, runtime, cancel),
        Some(Verb::Invert(verb)) => invert::run(verb, runtime, cancel),
        Some(Verb::Likelihood(verb)) => likelihood::run(verb, runtime),
        Some(Verb::Models(verb)) => models::run(verb),
        #[cfg(feature = "lineage")]
        Some(Verb::Compare(verb)) => compare::run(verb, runtime, cancel),
        #[cfg(feature = "lineage")]
        Some(Verb::Lineage(verb)) => lineage::run(verb, runtime, cancel),
        Some(Verb::Inspect(verb)) => inspect::run(verb),
        Some(Verb::Verify(verb)) => verify::run(verb),
        Some(Verb::Show(verb)) => show::run(verb),
        Some(Verb::Bench(verb)) => bench::run(verb, runtime, cancel),
        #[cfg(feature = "tune")]
        Some(Verb::Tune(verb)) => tune::run(verb, runtime, cancel),
        #[cfg(feature = "tune")]
        Some(Verb::Prepare(verb)) => prepare::run(verb, runtime, cancel),
        Some(Verb::Doctor(verb)) => doctor::run(verb, runtime, cancel),
        #[cfg(feature = "server")]
        Some(Verb::Serve(verb)) => serve::run(verb, runtime),
        #[cfg(feature = "manual")]
        Some(Verb::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "kiln", &mut script);
            print(&script)?;
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "manual")]
        Some(Verb::Manual(verb)) => manual::run(verb, Arguments::command()),
    }
}

/// The version is told even where no library is found; that there is none is then the news.
fn version(runtime: Option<&std::path::Path>) -> Result<ExitCode> {
    let found = match Runtime::open(runtime) {
        Ok(runtime) => format!("{} ({})", runtime.version(), runtime.path().display()),
        Err(error) if is_refusal(&error) => return Err(error),
        Err(_) => format!("not found (expected {OLDEST_RUNTIME} or newer)"),
    };
    print(format!("kiln {}\nonnxruntime {found}\n", env!("CARGO_PKG_VERSION")).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The folder that applications keep their caches in; `None` where the environment names none.
fn cache_folder() -> Option<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))
}

/// How many columns the terminal has.
fn columns() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    set.or_else(|| terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))).unwrap_or(USUAL_COLUMNS)
}

/// Writes bytes to standard output whole.
fn print(bytes: &[u8]) -> Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()?;
    Ok(())
}

/// Says what the program ends with, whatever level of messages was asked for.
fn tell(message: &str) {
    if log::log_enabled!(log::Level::Error) {
        log::error!("{message}");
    } else {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(std::io::stderr(), "kiln: {}", plain(message));
    }
}

/// Text out of files, its control characters made visible: a terminal would obey them.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && !matches!(letter, '\n' | '\t') {
            plain.extend(letter.escape_default())
        } else {
            plain.push(letter)
        }
    }
    plain
}

/// * `quotes_prompts`: whether prompts are written to the log of a server, where they are strangers'; nothing elsewhere
fn start_logger(verbose: u8, quiet: bool, quotes_prompts: Option<bool>) {
    let level = match verbose {
        0 if quiet => log::LevelFilter::Error,
        0 => log::LevelFilter::Warn,
        1 => log::LevelFilter::Info,
        2 => log::LevelFilter::Debug,
        _ => log::LevelFilter::Trace,
    };
    let mut builder = env_logger::Builder::new();
    builder.filter_level(level);
    if let Some(quotes_prompts) = quotes_prompts {
        builder.filter_module(crate::error::PROMPTS, if quotes_prompts { log::LevelFilter::Info } else { log::LevelFilter::Off });
    }
    builder.parse_default_env();
    builder.format(|formatter, record| {
        #[cfg(feature = "colour")]
        let (begin, end) =
            (formatter.default_level_style(record.level()), formatter.default_level_style(record.level()).render_reset());
        #[cfg(not(feature = "colour"))]
        let (begin, end) = ("", "");
        let name = match record.level() {
            log::Level::Error => "kiln",
            log::Level::Warn => "kiln: warning",
            _ => "kiln: note",
        };
        writeln!(formatter, "{begin}{name}{end}: {}", plain(&record.args().to_string()))
    });
    if let Err(error) = builder.try_init() {
        // Another logger is set already, as in a test that calls `main`.
        log::debug!("{error}");
    }
}

/// The first interrupt stops the run cleanly, the second ends the program.
fn listen_for_interrupts(cancel: &Cancel) -> Result<()> {
    let cancel = cancel.clone();
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(STOPPED));
        }
        cancel.cancel();
    })?;
    Ok(())
}

/// A reader that has seen enough (`kiln models | head -1`) is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_declared_without_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn control_characters_are_shown_and_not_sent() {
        assert_eq!(plain("a\u{1b}[2J\r\n\tü\u{9b}"), "a\\u{1b}[2J\\r\n\tü\\u{9b}");
    }
}
