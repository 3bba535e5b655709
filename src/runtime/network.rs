//! One ONNX file, opened: named tensors in, named tensors out.
//!
//! The caller speaks `f32` and `i64`; the network is asked for its own element types and is given those.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ndarray::ArrayD;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{RunOptions, Session};

use super::cancel::Work;
use super::conversion::{float_output, port, value};
use super::failure::{failed, says_out_of_memory};
use super::library::forward;
use super::provider::{LEFT_TO_PROCESSOR, PlacementLog, ShapeNodes, append};
use super::{Cancel, Placement, Port, Provider, ProviderSetup, Runtime, Tensor, one_line};
use crate::error::{Cancelled, is_cancelled, is_out_of_memory};

/// What becomes of a network that the providers asked for do not take, or not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// An error, which says which nodes and why.
    #[default]
    Refused,
    /// The processor runs the rest, or all of it.
    Allowed,
    /// The processor runs all of it.
    Whole,
}

/// How a network is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Threads within one operator.
    pub threads: usize,
    /// Keep freed memory for the next run: faster, and more of it held.
    pub memory_arena: bool,
    /// Where it runs, the most wanted first; on the processor where there is none.
    pub providers: Vec<ProviderSetup>,
    /// What becomes of it where they do not take it.
    pub fallback: Fallback,
    /// The same network as [`Network::save_optimised`] left it on this machine; opened in place of the file, on the processor alone.
    pub prepared: Option<PathBuf>,
}

/// An opened network.
pub struct Network {
    session: Session,
    path: PathBuf,
    placement: Placement,
    /// Why the providers that were asked for do not run it whole.
    fell_back: Option<String>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    is_prepared: bool,
    load_time: Duration,
    run_time: Duration,
    calls: usize,
}

/// How a session treats the graph.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Optimising<'p> {
    /// As it is opened.
    Now,
    /// It was done before.
    Before,
    /// As it is opened, and the result is kept in the file, its weights in the file of this name beside it, and packed if so wanted.
    AndKept(&'p Path, &'p str, bool),
}

impl Network {
    /// Opens `path`, without an arena of memory where there is no room for one.
    ///
    /// # Errors
    /// The device runs out of memory. The file is no ONNX network that this runtime takes; a provider of `options` does not load, does not take the network, or leaves
    /// nodes to the processor where that is refused; the run was cancelled meanwhile.
    pub fn open(runtime: &Runtime, path: &Path, options: &NetworkOptions, cancel: &Cancel) -> Result<Self> {
        let way_out = "take smaller weights (--precision), --memory low, or a smaller model, or end other programs";
        match Self::open_once(runtime, path, options, cancel) {
            Err(error) if is_out_of_memory(&error) && options.memory_arena => {
                log::warn!("{error:#}; it is opened again without an arena, which takes less memory and more time");
                let without = NetworkOptions { memory_arena: false, ..options.clone() };
                Self::open_once(runtime, path, &without, cancel)
            }
            outcome => outcome,
        }
        .map_err(|error| if is_out_of_memory(&error) { error.context(way_out) } else { error })
    }

    fn open_once(runtime: &Runtime, path: &Path, options: &NetworkOptions, cancel: &Cancel) -> Result<Self> {
        let begun = Instant::now();
        let wanted = options.providers.first().map_or(Provider::Cpu, ProviderSetup::provider);
        let prepared = open_prepared(runtime, options, wanted, cancel)?;
        let is_prepared = prepared.is_some();
        let opened = match prepared {
            Some(session) => Ok((session, PlacementLog::default())),
            None => open_session(runtime, path, options, Optimising::Now, cancel),
        };
        let (session, placement, fell_back) = match opened {
            Ok((session, log)) => {
                let placement = if wanted == Provider::Cpu { Placement::on_processor() } else { log.placement() };
                let fell_back = (wanted != Provider::Cpu).then(|| left_text(path, &placement, &log, wanted)).flatten();
                (session, placement, fell_back)
            }
            Err(error) if options.fallback != Fallback::Refused && wanted != Provider::Cpu && !is_cancelled(&error) => {
                let on_processor = NetworkOptions { providers: Vec::new(), ..options.clone() };
                let (session, _) = open_session(runtime, path, &on_processor, Optimising::Now, cancel)?;
                (session, Placement::on_processor(), Some(format!("{error:#}")))
            }
            Err(error) => return Err(error),
        };
        let inputs = session.inputs().iter().map(|outlet| port(outlet.name(), outlet.dtype())).collect::<Result<_>>();
        let outputs = session.outputs().iter().map(|outlet| port(outlet.name(), outlet.dtype())).collect::<Result<_>>();
        let (inputs, outputs) = inputs.and_then(|inputs| Ok((inputs, outputs?))).with_context(|| path.display().to_string())?;
        Ok(Self {
            session,
            path: path.to_path_buf(),
            placement,
            fell_back,
            inputs,
            outputs,
            is_prepared,
            load_time: begun.elapsed(),
            run_time: Duration::ZERO,
            calls: 0,
        })
    }

    /// The inputs, in the graph's order.
    #[must_use]
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The outputs, in the graph's order.
    #[must_use]
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Which providers run it.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// Why the providers that were asked for do not run it whole; `None` where they do.
    #[must_use]
    pub fn fell_back(&self) -> Option<&str> {
        self.fell_back.as_deref()
    }

    /// Optimises the network in `path` for the processor and keeps the result: the graph in `target`, the weights in the
    /// file called `weights` beside it, `packed` for this processor's instructions or as they are. It serves this runtime on this processor alone.
    ///
    /// # Errors
    /// As [`Network::open`]; the files cannot be written.
    pub fn save_optimised(
        runtime: &Runtime,
        path: &Path,
        target: &Path,
        weights: &str,
        packed: bool,
        cancel: &Cancel,
    ) -> Result<()> {
        let options = NetworkOptions {
            threads: 1,
            memory_arena: false,
            providers: Vec::new(),
            fallback: Fallback::Refused,
            prepared: None,
        };
        open_session(runtime, path, &options, Optimising::AndKept(target, weights, packed), cancel)?;
        if !target.is_file() {
            bail!("{}: ONNX Runtime {} kept nothing of it", path.display(), runtime.version());
        }
        Ok(())
    }

    /// Whether what was prepared is open, rather than the file itself.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.is_prepared
    }

    /// How long opening took.
    #[must_use]
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// Time spent inside ONNX Runtime and number of calls, since the last call of this function.
    pub fn take_run_time(&mut self) -> (Duration, usize) {
        (std::mem::take(&mut self.run_time), std::mem::take(&mut self.calls))
    }

    /// Runs the network on `inputs` and returns the outputs named in `wanted`, in that order, as `f32`.
    ///
    /// # Errors
    /// An input is missing, not declared, or of a shape that the network does not take; an output that is wanted is not there or
    /// holds no numbers; ONNX Runtime fails; the run was cancelled.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)], wanted: &[&str], cancel: &Cancel) -> Result<Vec<ArrayD<f32>>> {
        let name = self.path.display();
        let mut values = Vec::with_capacity(inputs.len());
        for port in &self.inputs {
            let Some((_, tensor)) = inputs.iter().find(|(name, _)| *name == port.name) else {
                bail!("{name}: input `{}` was not given", port.name);
            };
            if !port.accepts(tensor.shape()) {
                bail!("{name}: input `{}` was given {:?}, the network takes {}", port.name, tensor.shape(), port.shape_text());
            }
            let value = value(port, tensor).with_context(|| format!("{name}: input `{}`", port.name))?;
            values.push((port.name.as_str(), value));
        }
        if let Some((unknown, _)) = inputs.iter().find(|(name, _)| !self.inputs.iter().any(|port| port.name == *name)) {
            bail!("{name}: there is no input `{unknown}`; it has {}", names(&self.inputs));
        }
        for output in wanted {
            if !self.outputs.iter().any(|port| port.name == *output) {
                bail!("{name}: there is no output `{output}`; it has {}", names(&self.outputs));
            }
        }
        let options = run_options().map_err(|error| anyhow!("{name}: run options: {error}"))?;
        let begun = Instant::now();
        let _watch = cancel.watch(Work::Run(Arc::clone(&options)))?;
        let outcome = self.session.run_with_options(values, &*options);
        self.run_time += begun.elapsed();
        self.calls += 1;
        let outputs = outcome.map_err(|error| {
            if cancel.is_cancelled() {
                return Cancelled.into();
            }
            failed(&name.to_string(), &one_line(&error.to_string()))
        })?;
        wanted.iter().map(|output| float_output(&outputs, output).with_context(|| format!("{name}: output `{output}`"))).collect()
    }
}

/// Opens what was prepared, where there is such a file; nothing where it does not open, which is told.
fn open_prepared(runtime: &Runtime, options: &NetworkOptions, wanted: Provider, cancel: &Cancel) -> Result<Option<Session>> {
    let Some(path) = options.prepared.as_ref().filter(|_| wanted == Provider::Cpu) else { return Ok(None) };
    match open_session(runtime, path, options, Optimising::Before, cancel) {
        Ok((session, _)) => Ok(Some(session)),
        Err(error) if is_cancelled(&error) => Err(error),
        Err(error) => {
            log::warn!("what was prepared does not open, and the model's own file is: {error:#}");
            Ok(None)
        }
    }
}

/// Opens a session on the providers of `options`, with the log that says where its nodes are.
fn open_session(
    runtime: &Runtime,
    path: &Path,
    options: &NetworkOptions,
    optimising: Optimising<'_>,
    cancel: &Cancel,
) -> Result<(Session, PlacementLog)> {
    let wanted = options.providers.first().map_or(Provider::Cpu, ProviderSetup::provider);
    let log = PlacementLog::default();
    let says = |error: ort::Error| {
        let message = one_line(&error.to_string());
        match wanted {
            Provider::Cpu => failed(&path.display().to_string(), &message),
            _ if says_out_of_memory(&message) => failed(&format!("{}: {wanted}", path.display()), &message),
            _ => anyhow!("{}: {wanted} does not take it: {message}{}", path.display(), log.errors_text()),
        }
    };
    let mut builder = builder(runtime, options, &log).and_then(|builder| optimised(builder, optimising)).map_err(says)?;
    let outcome = {
        let _watch = cancel.watch(Work::Load(builder.canceler()))?;
        builder.commit_from_file(path)
    };
    let session = match outcome {
        Ok(session) => session,
        Err(_) if cancel.is_cancelled() => return Err(Cancelled.into()),
        // ONNX Runtime refuses before it says what is where: only a session that may fall back tells.
        Err(error) if error.to_string().contains(LEFT_TO_PROCESSOR) => {
            let lenient = NetworkOptions { fallback: Fallback::Allowed, ..options.clone() };
            let (_, log) = open_session(runtime, path, &lenient, Optimising::Now, cancel)?;
            let why = left_text(path, &log.placement(), &log, wanted);
            bail!(
                "{}: {}",
                path.display(),
                why.unwrap_or_else(|| format!("{wanted} does not take it: {}", one_line(&error.to_string())))
            );
        }
        Err(error) => return Err(says(error)),
    };
    if wanted != Provider::Cpu && !allows_processor(options) {
        let placement = log.placement();
        if placement.is_empty() {
            bail!("{}: this ONNX Runtime does not say which nodes {wanted} runs", path.display());
        }
        if let Some(why) = left_text(path, &placement, &log, wanted) {
            bail!("{}: {why}", path.display());
        }
    }
    Ok((session, log))
}

/// Whether the processor may run what the other providers leave.
fn allows_processor(options: &NetworkOptions) -> bool {
    options.fallback == Fallback::Allowed || options.providers.iter().any(|setup| setup.provider() == Provider::Cpu)
}

/// Says what `wanted` leaves to the processor of the network in `path`, and ONNX Runtime's reason; `None` where it leaves nothing but
/// what it leaves on purpose.
fn left_text(path: &Path, placement: &Placement, log: &PlacementLog, wanted: Provider) -> Option<String> {
    let left = placement.nodes_of(Provider::Cpu);
    if placement.nodes_of(wanted) == 0 && !placement.is_empty() {
        return Some(format!("{wanted} takes none of its nodes{}", log.errors_text()));
    }
    if left == 0 {
        return None;
    }
    let mut beyond = String::new();
    if wanted.facts().leaves_shapes {
        let shapes = ShapeNodes::read(path).unwrap_or_else(|error| {
            log::debug!("{}: which operators compute on shapes is not known: {error:#}", path.display());
            ShapeNodes::default()
        });
        match placement.beyond(&shapes).as_deref() {
            Some([]) => return None,
            Some([(operator, name), others @ ..]) => {
                beyond = format!(", {} of them not on shapes, the first {operator} `{name}`", others.len() + 1);
            }
            None => {}
        }
    }
    Some(format!(
        "{wanted} leaves {left} nodes to the processor ({}){beyond}{}",
        placement.on_processor_text(),
        log.errors_text()
    ))
}

fn builder(runtime: &Runtime, options: &NetworkOptions, log: &PlacementLog) -> ort::Result<SessionBuilder> {
    let environment = &runtime.environment;
    let processor = ProviderSetup::default();
    let mut builder =
        Session::builder(environment)?.with_intra_threads(options.threads.max(1))?.with_memory_pattern(options.memory_arena)?;
    let wanted: Vec<&ProviderSetup> = options.providers.iter().filter(|setup| setup.provider() != Provider::Cpu).collect();
    if wanted.is_empty() {
        builder = append(builder, environment, &processor)?;
    } else {
        let log = log.clone();
        builder =
            builder.with_log_level(LogLevel::Verbose)?.with_logger(Arc::new(move |level, category, _, location, message| {
                log.note(matches!(level, LogLevel::Error | LogLevel::Fatal), message);
                // What goes wrong while opening is told by the error.
                forward(if level > LogLevel::Warning { LogLevel::Warning } else { level }, category, location, message);
            }))?;
        // What ONNX Runtime itself refuses is refused before anything is compiled.
        if !allows_processor(options) && !wanted.iter().any(|setup| setup.provider().facts().leaves_shapes) {
            builder = builder.with_disable_cpu_fallback()?;
        }
        for setup in wanted {
            builder = append(builder, environment, setup)?;
        }
    }
    if !options.memory_arena {
        builder = builder.with_execution_providers([ort::ep::CPU::default().with_arena_allocator(false).build()])?;
    }
    Ok(builder)
}

/// A graph that was optimised before is taken as it is; one that is kept has its weights, as they were packed, in a file that can be
/// mapped into memory.
fn optimised(builder: SessionBuilder, optimising: Optimising<'_>) -> ort::Result<SessionBuilder> {
    Ok(match optimising {
        Optimising::Now => builder,
        Optimising::Before => builder.with_optimization_level(GraphOptimizationLevel::Disable)?,
        Optimising::AndKept(target, weights, packed) => builder
            .with_optimized_model_path(target)?
            .with_config_entry("session.optimized_model_external_initializers_file_name", weights)?
            .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")?
            .with_config_entry("session.save_external_prepacked_constant_initializers", if packed { "1" } else { "0" })?,
    })
}

/// Options of one run: the log's level is the session's otherwise, which is verbose while placements are read.
fn run_options() -> ort::Result<Arc<RunOptions>> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Warning)?;
    Ok(Arc::new(options))
}

fn names(ports: &[Port]) -> String {
    ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ")
}
