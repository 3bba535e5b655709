//! `kiln serve`: jobs over HTTP, kept on the disk, carried out one after the other on each device.
//!
//! In: settings, requests of clients. Out: pictures, events, metrics. Each interface turns its own words into a [`Wish`](wish::Wish) and
//! hands it to [`Dispatcher::submit`](dispatcher::Dispatcher::submit). Not here: arguments, signals, printing.

pub mod catalogue;
pub mod dispatcher;
mod film;
pub mod http;
pub mod job;
pub mod limits;
pub mod notify;
pub mod policy;
pub mod problem;
pub mod queue;
pub mod speed;
pub mod store;
pub mod wish;
mod worker;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;

use crate::bundle::ShelvedBundle;
use crate::plan::Settings;
use crate::refuse;
use catalogue::{Catalogue, FindMeasurements};
use dispatcher::Dispatcher;
use http::{Access, App, Listener};
use limits::Limits;
use notify::{notify, watchdog_interval};
use policy::Policy;
use store::{Retention, Store};
use worker::Worker;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(50);
/// For the last answers to leave, once no job is left.
const FAREWELL: Duration = Duration::from_millis(300);

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address; one that other machines reach asks for a token.
    Address(SocketAddr),
    /// A Unix socket, for whoever may open the file.
    Socket(PathBuf),
}

/// What an operator sets.
pub struct ServerSettings {
    /// Where it listens.
    pub listen: Listen,
    /// Who may ask.
    pub access: Access,
    /// The models, the default first.
    pub models: Vec<ShelvedBundle>,
    /// A worker for each.
    pub devices: Vec<Settings>,
    /// ONNX Runtime's library; the usual places without it.
    pub runtime: Option<PathBuf>,
    /// Finds what was measured on this device.
    pub find_measurements: FindMeasurements,
    /// Where jobs and pictures are kept.
    pub state_folder: PathBuf,
    /// Whether a damaged database is renamed and an empty one begun.
    pub set_damaged_aside: bool,
    /// How much is kept.
    pub retention: Retention,
    /// Room on the disk that is left alone, in bytes.
    pub keep_free_bytes: u64,
    /// The limits.
    pub limits: Limits,
    /// Which prompts are not carried out.
    pub policy: Option<Policy>,
    /// Whether prompts go into the log.
    pub log_prompts: bool,
    /// How long jobs may go on once the server shall end, in seconds.
    pub drain_s: f64,
}

/// Ends a server from another thread.
#[derive(Clone)]
pub struct Stop {
    asked: Arc<watch::Sender<u8>>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { asked: Arc::new(watch::Sender::new(0)) }
    }
}

impl Stop {
    /// The first call lets the jobs that are there end, the second interrupts them.
    pub fn stop(&self) {
        self.asked.send_modify(|asked| *asked = asked.saturating_add(1));
    }
}

/// Serves until `stop` is used and the jobs have ended.
///
/// * `ready`: is told the address once connections are taken
///
/// # Errors
/// Refusals: an address that other machines reach, and no token; a limit, a model, the state folder. Else: the address is taken, the disk or
/// ONNX Runtime fails.
pub fn serve(settings: ServerSettings, stop: &Stop, ready: impl FnOnce(&str)) -> Result<()> {
    settings.limits.check()?;
    if let Listen::Address(address) = &settings.listen
        && !address.ip().is_loopback()
        && settings.access.tokens.is_empty()
    {
        refuse!(
            "listen {address}: other machines reach this address, and there is no token; --token-file names one, or listen on 127.0.0.1"
        );
    }
    let ServerSettings { listen, access, models, devices, runtime, limits, .. } = settings;
    let Some(first) = devices.first() else { refuse!("there is no device to run on") };
    let catalogue = Catalogue::open(&models, first, runtime.as_deref(), &settings.find_measurements)?;
    let store = Store::open(&settings.state_folder, settings.retention, settings.set_damaged_aside)?;
    let dispatcher =
        Arc::new(Dispatcher::new(catalogue, limits, store, settings.policy, settings.keep_free_bytes, devices.len()));
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).max_blocking_threads(16).enable_all().build()?;
    let listener = tokio.block_on(bind(&listen))?;
    let address = match &listener {
        Listener::Tcp(listener) => format!("http://{}", listener.local_addr()?),
        #[cfg(unix)]
        Listener::Unix(_) => match &listen {
            Listen::Socket(path) => format!("unix:{}", path.display()),
            Listen::Address(address) => address.to_string(),
        },
    };
    let mut workers = Vec::new();
    for device in devices {
        let worker = Worker::new(Arc::clone(&dispatcher), device, runtime.clone());
        let employer = Arc::clone(&dispatcher);
        workers.push(std::thread::Builder::new().name("kiln-worker".into()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| worker.run())).is_err() {
                log::error!("a worker ended in a panic, which is a fault of Kiln's");
                employer.lose_worker();
            }
        })?);
    }
    let patience = Duration::from_secs_f64(limits.patience_s);
    let app = App {
        dispatcher: Arc::clone(&dispatcher),
        access,
        patience,
        log_prompts: settings.log_prompts,
        choices: http::Choices::default(),
        rooms: http::Rooms::new(limits.body_bytes),
    };
    let router = http::router(Arc::new(app));
    let drain = Duration::from_secs_f64(settings.drain_s.clamp(0.0, 86_400.0));
    tokio.spawn(http::accept(listener, router, limits.connections, patience));
    notify("READY=1");
    let (end, ended) = channel();
    let kept = Arc::clone(&dispatcher);
    let keeper = std::thread::Builder::new().name("kiln-keeper".into()).spawn(move || keep(&kept, &ended))?;
    ready(&address);
    tokio.block_on(until_stopped(&dispatcher, stop, drain));
    notify("STOPPING=1");
    dispatcher.close();
    for thread in workers {
        let _ = thread.join();
    }
    drop(end);
    let _ = keeper.join();
    dispatcher.tend();
    // A timer is made within the runtime.
    tokio.block_on(async { tokio::time::sleep(FAREWELL).await });
    tokio.shutdown_timeout(Duration::from_secs(2));
    if let Listen::Socket(path) = &listen {
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

/// Looks after deadlines and the service manager until `ended` is closed. A thread of its own: clients' requests, which wait for the disk
/// too, must not hold it up.
fn keep(dispatcher: &Dispatcher, ended: &Receiver<()>) {
    let watchdog = watchdog_interval();
    let mut told = Instant::now();
    while ended.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        let round = catch_unwind(AssertUnwindSafe(|| {
            dispatcher.expire();
            dispatcher.tend();
        }));
        if round.is_err() {
            log::error!("a look at deadlines ended in a panic, which is a fault of Kiln's");
            continue;
        }
        // A server whose workers are gone is not alive, and the manager starts it again.
        if watchdog.is_some_and(|interval| told.elapsed() >= interval) && dispatcher.has_all_workers() {
            notify("WATCHDOG=1");
            told = Instant::now();
        }
    }
}

/// Waits until the server shall end and its jobs have.
async fn until_stopped(dispatcher: &Dispatcher, stop: &Stop, drain: Duration) {
    let mut asked = stop.asked.subscribe();
    let mut until = None;
    loop {
        let _ = tokio::time::timeout(TICK, asked.changed()).await;
        let times = *asked.borrow();
        if times > 0 && until.is_none() {
            log::info!("the server ends once its jobs have, after {} s at the latest", drain.as_secs_f64());
            notify("STOPPING=1");
            dispatcher.drain();
            until = Some(Instant::now() + drain);
        }
        if let Some(until) = until
            && (times > 1 || dispatcher.is_idle() || Instant::now() >= until)
        {
            return;
        }
    }
}

async fn bind(listen: &Listen) -> Result<Listener> {
    match listen {
        Listen::Address(address) => {
            let listener = tokio::net::TcpListener::bind(address)
                .await
                .with_context(|| format!("listen {address}: cannot be listened at; --listen ADDRESS:PORT names another"))?;
            Ok(Listener::Tcp(listener))
        }
        #[cfg(unix)]
        Listen::Socket(path) => {
            use std::os::unix::fs::{FileTypeExt, PermissionsExt};
            let is_socket = std::fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
            // A socket that nobody listens on was left by a server that was killed.
            if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
                let _ = std::fs::remove_file(path);
            }
            let listener = tokio::net::UnixListener::bind(path).with_context(|| format!("socket {}", path.display()))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            Ok(Listener::Unix(listener))
        }
        #[cfg(not(unix))]
        Listen::Socket(path) => refuse!("socket {}: this system has none", path.display()),
    }
}
