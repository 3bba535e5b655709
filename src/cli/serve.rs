//! `kiln serve`: makes pictures for other programs and for a page, over HTTP.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;

use super::device::{DeviceArguments, SafetyArguments};
use super::plan::measurements;
use crate::bundle::{Shelf, ShelvedBundle};
use crate::plan::{Settings, parse_bytes};
use crate::server::http::{Access, Tokens, check_origin};
use crate::server::limits::Limits;
use crate::server::policy::Policy;
use crate::server::store::Retention;
use crate::server::{Listen, ServerSettings, Stop, serve};
use crate::{refusal, refuse};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A model to serve, a folder or a name that `kiln models` lists; the first is the default one [default: all that are found]
    #[arg(long, short, value_name = "DIR")]
    model: Vec<PathBuf>,

    /// Address and port to listen on; one that other machines reach asks for a token
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8321", value_parser = address)]
    listen: SocketAddr,

    /// Listen on this Unix socket instead
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    socket: Option<PathBuf>,

    /// Bearer tokens that clients must have, one a line as TOKEN or NAME TOKEN; or one token in KILN_TOKEN
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// A name under which clients reach this server, beside localhost and addresses
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,

    /// A site whose pages may ask this server, such as `https://kiosk.example`; may be given several times
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,

    /// Where jobs and pictures are kept [default: STATE_DIRECTORY, or kiln in the user's state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Rename a damaged database and begin an empty one
    #[arg(long)]
    set_damaged_aside: bool,

    /// The most ended jobs to keep
    #[arg(long, value_name = "N", default_value_t = Retention::default().jobs, allow_negative_numbers = true, value_parser = super::number::whole::<u64>)]
    keep_jobs: u64,

    /// The most bytes of pictures to keep, made and handed in, such as 4GiB [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    keep_bytes: Option<u64>,

    /// The oldest jobs to keep, in days
    #[arg(long, value_name = "DAYS", default_value_t = Retention::default().days)]
    keep_days: f64,

    /// Room on the disk to leave alone; new jobs are refused before it is touched [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
    keep_free: Option<u64>,

    /// Blocked words and patterns: a TOML file with a table for each language
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,

    /// The most jobs that wait; of one client half as many
    #[arg(long, value_name = "N", default_value_t = Limits::default().queue, allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    queue: usize,

    /// The longest that a job may wait and run together, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().deadline_s)]
    deadline: f64,

    /// How long a client may keep the server waiting, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().patience_s)]
    patience: f64,

    /// The longest side of a picture, in pixels
    #[arg(long, value_name = "N", default_value_t = Limits::default().side_px, allow_negative_numbers = true, value_parser = super::number::whole::<u32>)]
    most_side: u32,

    /// The most pictures of one job
    #[arg(long, value_name = "N", default_value_t = Limits::default().count, allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    most_count: usize,

    /// The most frames of a clip
    #[arg(long, value_name = "N", default_value_t = Limits::default().frames, allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    most_frames: usize,

    /// How many models stay in memory
    #[arg(long, value_name = "N", default_value_t = Limits::default().resident_models, allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    resident: usize,

    /// How long jobs may go on once the server shall end, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    drain: f64,

    /// Write prompts to the log
    #[arg(long)]
    pub(super) log_prompts: bool,

    #[command(flatten)]
    safety: SafetyArguments,

    #[command(flatten)]
    device: DeviceArguments,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>) -> Result<ExitCode> {
    let settings = ServerSettings {
        listen: match &arguments.socket {
            Some(path) => Listen::Socket(path.clone()),
            None => Listen::Address(arguments.listen),
        },
        access: Access { tokens: tokens(arguments)?, host_names: arguments.host_name.clone(), origins: origins(arguments)? },
        models: models(arguments)?,
        devices: vec![Settings { safety: arguments.safety.choice(), ..arguments.device.settings()? }],
        runtime: runtime.map(Path::to_path_buf),
        find_measurements: Arc::new(measurements),
        state_folder: state_folder(arguments)?,
        set_damaged_aside: arguments.set_damaged_aside,
        retention: Retention {
            jobs: arguments.keep_jobs,
            bytes: arguments.keep_bytes.unwrap_or(Retention::default().bytes),
            days: arguments.keep_days,
        },
        keep_free_bytes: arguments.keep_free.unwrap_or(64 << 20),
        limits: Limits {
            queue: arguments.queue,
            queue_per_client: arguments.queue.div_ceil(2),
            deadline_s: arguments.deadline,
            patience_s: arguments.patience,
            side_px: arguments.most_side,
            count: arguments.most_count,
            frames: arguments.most_frames,
            resident_models: arguments.resident,
            ..Limits::default()
        },
        policy: arguments.policy.as_deref().map(Policy::open).transpose()?,
        log_prompts: arguments.log_prompts,
        drain_s: arguments.drain,
    };
    let stop = Stop::default();
    let asked = stop.clone();
    ctrlc::set_handler(move || asked.stop())?;
    serve(settings, &stop, |address| {
        // Nobody is left to tell when standard output is closed.
        let _ = super::print(format!("kiln serves on {address}\n").as_bytes());
    })?;
    Ok(ExitCode::SUCCESS)
}

/// An address with its port.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address in numbers and a port, such as 127.0.0.1:8321 or 0.0.0.0:80".to_owned())
}

fn origins(arguments: &Arguments) -> Result<Vec<String>> {
    arguments.cors.iter().try_for_each(|origin| check_origin(origin))?;
    Ok(arguments.cors.clone())
}

fn tokens(arguments: &Arguments) -> Result<Tokens> {
    if let Some(path) = &arguments.token_file {
        let text = std::fs::read_to_string(path).map_err(|error| refusal!("--token-file {}: {error}", path.display()))?;
        return Tokens::parse(&text);
    }
    match std::env::var("KILN_TOKEN") {
        Ok(token) => Tokens::parse(token.trim()),
        Err(std::env::VarError::NotPresent) => Ok(Tokens::default()),
        Err(error) => refuse!("KILN_TOKEN: {error}"),
    }
}

fn models(arguments: &Arguments) -> Result<Vec<ShelvedBundle>> {
    let shelf = Shelf::usual();
    if !arguments.model.is_empty() {
        let found = arguments.model.iter().map(|model| {
            let folder = shelf.find(Some(model))?;
            let name = std::path::absolute(&folder)?.file_name().map(|name| name.to_string_lossy().into_owned());
            Ok(ShelvedBundle { name: name.ok_or_else(|| refusal!("--model {}: has no name", model.display()))?, folder })
        });
        return found.collect();
    }
    let default = shelf.find(None).ok();
    let mut found = shelf.bundles();
    // The judge of comparisons and what else makes no pictures is left out, and a broken bundle must not keep the others from being served.
    found.retain(|shelved| match crate::bundle::Bundle::open(&shelved.folder) {
        Ok(_) => true,
        Err(error) => {
            log::warn!("model {} is not served: {error:#}", shelved.name);
            false
        }
    });
    found.sort_by_key(|shelved| Some(&shelved.folder) != default.as_ref());
    Ok(found)
}

fn state_folder(arguments: &Arguments) -> Result<PathBuf> {
    let named = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let found = arguments.state.clone().or_else(|| named("STATE_DIRECTORY")).or_else(|| {
        let states = named("XDG_STATE_HOME").or_else(|| Some(named("HOME")?.join(".local/state")))?;
        Some(states.join("kiln"))
    });
    found.ok_or_else(|| refusal!("there is no folder to keep jobs in; name one with --state"))
}
