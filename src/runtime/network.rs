//! One ONNX file, opened: named tensors in, named tensors out.
//!
//! The caller speaks `f32` and `i64`; the network is asked for its own element types and is given those.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ndarray::ArrayD;
use ort::logging::LogLevel;
use ort::session::{RunOptions, Session};

use super::cancel::Work;
use super::conversion::{float_output, port, value};
use super::failure::failed;
use super::opening::{Optimising, left_text, open_prepared, open_session};
use super::tensor::names;
use super::{Cancel, Dimensions, Placement, Port, Provider, ProviderSetup, Runtime, Tensor, one_line};
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
    /// The sizes that its open dimensions are fixed to; none but for a provider that wants them fixed.
    pub dimensions: Dimensions,
    /// The same network as [`Network::save_optimised`] or [`Network::save_compiled`] left it on this machine, for the same providers and dimensions;
    /// opened in place of the file.
    pub prepared: Option<PathBuf>,
    /// Open a text encoder with a door for vectors of one's own, see [`token_vectors`](super::token_vectors).
    pub token_vectors: bool,
}

impl Default for NetworkOptions {
    /// One thread of the processor.
    fn default() -> Self {
        Self {
            threads: 1,
            memory_arena: true,
            providers: Vec::new(),
            fallback: Fallback::default(),
            dimensions: Dimensions::default(),
            prepared: None,
            token_vectors: false,
        }
    }
}

impl NetworkOptions {
    /// The provider that is most wanted.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.providers.first().map_or(Provider::Cpu, ProviderSetup::provider)
    }

    /// Whether a network of open dimensions has to be opened anew for each shape.
    #[must_use]
    pub fn wants_fixed_shapes(&self) -> bool {
        self.providers.iter().any(|setup| setup.provider().facts().takes_fixed_shapes)
    }
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
        let wanted = options.provider();
        let prepared = open_prepared(runtime, options, cancel)?;
        let is_prepared = prepared.is_some();
        let opened = match prepared {
            Some(opened) => Ok(opened),
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
        let options = NetworkOptions { memory_arena: false, ..NetworkOptions::default() };
        open_session(runtime, path, &options, Optimising::AndKept(target, weights, packed), cancel)?;
        if !target.is_file() {
            bail!("{}: ONNX Runtime {} kept nothing of it", path.display(), runtime.version());
        }
        Ok(())
    }

    /// Has the providers of `options` compile the network in `path` for its dimensions, and keeps what they made: a network in `target`, and
    /// beside it the files that it names. It serves these providers with these options on this device alone.
    ///
    /// # Errors
    /// As [`Network::open`]; the provider keeps nothing; the files cannot be written.
    pub fn save_compiled(runtime: &Runtime, path: &Path, target: &Path, options: &NetworkOptions, cancel: &Cancel) -> Result<()> {
        open_session(runtime, path, options, Optimising::Compiled(target), cancel)?;
        if !target.is_file() {
            bail!("{}: {} kept nothing that it compiled of it", path.display(), options.provider());
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

/// Options of one run: the log's level is the session's otherwise, which is verbose while placements are read.
fn run_options() -> ort::Result<Arc<RunOptions>> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Warning)?;
    Ok(Arc::new(options))
}
