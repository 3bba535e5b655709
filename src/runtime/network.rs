//! One ONNX file, opened: named tensors in, named tensors out.
//!
//! The caller speaks `f32` and `i64`; the network is asked for its own element types and is given those.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use half::{bf16, f16};
use ndarray::ArrayD;
use ort::logging::LogLevel;
use ort::session::builder::SessionBuilder;
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};

use super::cancel::Work;
use super::library::forward;
use super::provider::{LEFT_TO_PROCESSOR, PlacementLog, append};
use super::{Cancel, Element, Placement, Port, Provider, ProviderSetup, Runtime, Tensor, one_line};
use crate::error::{Cancelled, OutOfMemory, is_cancelled};

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
    load_time: Duration,
    run_time: Duration,
    calls: usize,
}

impl Network {
    /// Opens `path`.
    ///
    /// # Errors
    /// The file is no ONNX network that this runtime takes; a provider of `options` does not load, does not take the network, or leaves
    /// nodes to the processor where that is refused; the run was cancelled meanwhile.
    pub fn open(runtime: &Runtime, path: &Path, options: &NetworkOptions, cancel: &Cancel) -> Result<Self> {
        let begun = Instant::now();
        let wanted = options.providers.first().map_or(Provider::Cpu, ProviderSetup::provider);
        let (session, placement, fell_back) = match open_session(runtime, path, options, cancel) {
            Ok((session, log)) => {
                let placement = if wanted == Provider::Cpu { Placement::on_processor() } else { log.placement() };
                let fell_back = (wanted != Provider::Cpu).then(|| left_text(&placement, &log, wanted)).flatten();
                (session, placement, fell_back)
            }
            Err(error) if options.fallback != Fallback::Refused && wanted != Provider::Cpu && !is_cancelled(&error) => {
                let on_processor = NetworkOptions { providers: Vec::new(), ..options.clone() };
                let (session, _) = open_session(runtime, path, &on_processor, cancel)?;
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

/// The error of a run of the network `name`, of which the runtime `says` why.
fn failed(name: &str, says: &str) -> anyhow::Error {
    let message = format!("{name}: {says}");
    // The file's name may hold any words.
    if says_out_of_memory(says) { OutOfMemory(message).into() } else { anyhow!(message) }
}

/// Whether a failed call is one that found no memory. The runtime has no code of its own for it, so its words must tell: those of the
/// C++ library, of its own arena, and of the drivers of accelerators.
fn says_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["bad_alloc", "failed to allocate memory", "out of memory", "out_of_memory", "cudaerrormemoryallocation"]
        .iter()
        .any(|words| message.contains(words))
}

/// Opens a session on the providers of `options`, with the log that says where its nodes are.
fn open_session(runtime: &Runtime, path: &Path, options: &NetworkOptions, cancel: &Cancel) -> Result<(Session, PlacementLog)> {
    let wanted = options.providers.first().map_or(Provider::Cpu, ProviderSetup::provider);
    let log = PlacementLog::default();
    let says = |error: ort::Error| {
        let message = one_line(&error.to_string());
        match wanted {
            Provider::Cpu => anyhow!("{}: {message}", path.display()),
            _ => anyhow!("{}: {wanted} does not take it: {message}{}", path.display(), log.errors_text()),
        }
    };
    let mut builder = builder(runtime, options, &log).map_err(says)?;
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
            let (_, log) = open_session(runtime, path, &lenient, cancel)?;
            let why = left_text(&log.placement(), &log, wanted);
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
        if let Some(why) = left_text(&placement, &log, wanted) {
            bail!("{}: {why}", path.display());
        }
    }
    Ok((session, log))
}

/// Whether the processor may run what the other providers leave.
fn allows_processor(options: &NetworkOptions) -> bool {
    options.fallback == Fallback::Allowed || options.providers.iter().any(|setup| setup.provider() == Provider::Cpu)
}

/// Says what `wanted` leaves to the processor, and ONNX Runtime's reason; `None` where it leaves nothing but what it leaves on purpose.
fn left_text(placement: &Placement, log: &PlacementLog, wanted: Provider) -> Option<String> {
    let left = placement.nodes_of(Provider::Cpu);
    if placement.nodes_of(wanted) == 0 && !placement.is_empty() {
        return Some(format!("{wanted} takes none of its nodes{}", log.errors_text()));
    }
    if left == 0 || wanted.facts().leaves_shapes && placement.leaves_only_shapes() {
        return None;
    }
    Some(format!("{wanted} leaves {left} nodes to the processor ({}){}", placement.on_processor_text(), log.errors_text()))
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

/// Options of one run: the log's level is the session's otherwise, which is verbose while placements are read.
fn run_options() -> ort::Result<Arc<RunOptions>> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Warning)?;
    Ok(Arc::new(options))
}

fn port(name: &str, value: &ValueType) -> Result<Port> {
    let ValueType::Tensor { ty, shape, .. } = value else {
        bail!("`{name}` is not a tensor, and Kiln runs networks on tensors only");
    };
    let element = match ty {
        TensorElementType::Float32 => Element::Float32,
        TensorElementType::Float16 => Element::Float16,
        TensorElementType::Float64 => Element::Float64,
        TensorElementType::Bfloat16 => Element::BFloat16,
        TensorElementType::Int32 => Element::Int32,
        TensorElementType::Int64 => Element::Int64,
        TensorElementType::Bool => Element::Bool,
        _ => Element::Other(0),
    };
    Ok(Port { name: name.to_owned(), element, shape: shape.iter().map(|size| usize::try_from(*size).ok()).collect() })
}

/// Converts to the element type that the port declares, borrowing where none is needed.
fn value<'t>(port: &Port, tensor: &'t Tensor) -> Result<SessionInputValue<'t>> {
    fn owned<T: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
        array: ArrayD<T>,
    ) -> Result<SessionInputValue<'static>> {
        Ok(OrtTensor::from_array(array).map_err(|error| anyhow!("{error}"))?.into())
    }
    match (tensor, port.element) {
        (Tensor::Float(array), Element::Float32) if array.is_standard_layout() => {
            Ok(TensorRef::from_array_view(array.view()).map_err(|error| anyhow!("{error}"))?.into())
        }
        (Tensor::Float(array), Element::Float32) => owned(array.as_standard_layout().into_owned()),
        (Tensor::Float(array), Element::Float16) => owned(array.as_standard_layout().mapv(f16::from_f32)),
        (Tensor::Float(array), Element::BFloat16) => owned(array.as_standard_layout().mapv(bf16::from_f32)),
        (Tensor::Float(array), Element::Float64) => owned(array.as_standard_layout().mapv(f64::from)),
        (Tensor::Integer(array), Element::Int64) => owned(array.as_standard_layout().into_owned()),
        (Tensor::Integer(array), Element::Int32) => {
            let mut narrow = Vec::with_capacity(array.len());
            for value in array.iter() {
                narrow
                    .push(i32::try_from(*value).with_context(|| format!("{value} does not fit the i32 that the network takes"))?);
            }
            owned(ArrayD::from_shape_vec(array.raw_dim(), narrow)?)
        }
        #[expect(clippy::cast_precision_loss, reason = "ids and sizes are far below 2^23")]
        (Tensor::Integer(array), element) if element.is_float() => {
            let array = Tensor::Float(array.mapv(|value| value as f32));
            match (array, element) {
                (Tensor::Float(array), Element::Float16) => owned(array.mapv(f16::from_f32)),
                (Tensor::Float(array), Element::BFloat16) => owned(array.mapv(bf16::from_f32)),
                (Tensor::Float(array), Element::Float64) => owned(array.mapv(f64::from)),
                (Tensor::Float(array), _) => owned(array),
                (Tensor::Integer(_), _) => bail!("an integer tensor stayed one"),
            }
        }
        (Tensor::Float(_), element) => bail!("is {element}, and Kiln has floating-point numbers for it"),
        (Tensor::Integer(_), element) => bail!("is {element}, and Kiln has integers for it"),
    }
}

fn float_output(outputs: &SessionOutputs<'_>, name: &str) -> Result<ArrayD<f32>> {
    let value = outputs.get(name).context("was not returned")?;
    let ValueType::Tensor { ty, .. } = value.dtype() else {
        bail!("is not a tensor");
    };
    let array = match ty {
        TensorElementType::Float32 => value.try_extract_array::<f32>().map(|array| array.to_owned()),
        TensorElementType::Float16 => value.try_extract_array::<f16>().map(|array| array.mapv(f16::to_f32)),
        TensorElementType::Bfloat16 => value.try_extract_array::<bf16>().map(|array| array.mapv(bf16::to_f32)),
        #[expect(clippy::cast_possible_truncation, reason = "Kiln computes in f32")]
        TensorElementType::Float64 => value.try_extract_array::<f64>().map(|array| array.mapv(|value| value as f32)),
        other => bail!("is {other:?}, expected floating-point numbers"),
    };
    array.map_err(|error| anyhow!("{error}"))
}

fn names(ports: &[Port]) -> String {
    ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_out_of_memory;

    #[test]
    fn the_runtimes_words_for_no_memory_are_known() {
        for message in [
            "Non-zero status code returned while running Softmax node. Name:'' Status Message: std::bad_alloc",
            "bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate \
             memory for requested buffer of size 1073741824",
            "CUDA failure 2: out of memory ; GPU=0",
        ] {
            assert!(says_out_of_memory(message), "{message}");
        }
        let other = "Got invalid dimensions for input: latent_sample";
        assert!(!says_out_of_memory(other));
        assert!(!is_out_of_memory(&failed("out_of_memory/unet/model.onnx", other)), "a folder's name is no failure");
        assert!(is_out_of_memory(&failed("unet/model.onnx", "std::bad_alloc")));
    }
}
