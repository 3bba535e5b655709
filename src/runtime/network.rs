//! One ONNX file, opened: named tensors in, named tensors out.
//!
//! The caller speaks `f32` and `i64`; the network is asked for its own element types and is given those.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use half::{bf16, f16};
use ndarray::ArrayD;
use ort::session::builder::SessionBuilder;
use ort::session::{RunOptions, Session, SessionInputValue, SessionOutputs};
use ort::value::{Tensor as OrtTensor, TensorElementType, TensorRef, ValueType};

use super::cancel::Work;
use super::{Cancel, Element, Port, Provider, Runtime, Tensor, one_line};
use crate::error::{Cancelled, OutOfMemory};

/// How a network is opened.
#[derive(Debug, Clone)]
pub struct NetworkOptions {
    /// Threads within one operator.
    pub threads: usize,
    /// Keep freed memory for the next run: faster, and more of it held.
    pub memory_arena: bool,
    /// Where it runs.
    pub provider: Provider,
}

/// An opened network.
pub struct Network {
    session: Session,
    path: PathBuf,
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
    /// The file is no ONNX network that this runtime takes; the run was cancelled meanwhile.
    pub fn open(runtime: &Runtime, path: &Path, options: &NetworkOptions, cancel: &Cancel) -> Result<Self> {
        let begun = Instant::now();
        let mut builder = builder(runtime, options).map_err(|error| anyhow!("{}: session options: {error}", path.display()))?;
        let outcome = {
            let _watch = cancel.watch(Work::Load(builder.canceler()))?;
            builder.commit_from_file(path)
        };
        let session = outcome.map_err(|error| {
            if cancel.is_cancelled() { Cancelled.into() } else { anyhow!("{}: {}", path.display(), one_line(&error.to_string())) }
        })?;
        let inputs = session.inputs().iter().map(|outlet| port(outlet.name(), outlet.dtype())).collect::<Result<_>>();
        let outputs = session.outputs().iter().map(|outlet| port(outlet.name(), outlet.dtype())).collect::<Result<_>>();
        let (inputs, outputs) = inputs.and_then(|inputs| Ok((inputs, outputs?))).with_context(|| path.display().to_string())?;
        Ok(Self {
            session,
            path: path.to_path_buf(),
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
        let options = Arc::new(RunOptions::new().map_err(|error| anyhow!("{name}: run options: {error}"))?);
        let begun = Instant::now();
        let _watch = cancel.watch(Work::Run(Arc::clone(&options)))?;
        let outcome = self.session.run_with_options(values, &*options);
        self.run_time += begun.elapsed();
        self.calls += 1;
        let outputs = outcome.map_err(|error| {
            if cancel.is_cancelled() {
                return Cancelled.into();
            }
            let message = format!("{name}: {}", one_line(&error.to_string()));
            if says_out_of_memory(&message) { OutOfMemory(message).into() } else { anyhow!(message) }
        })?;
        wanted.iter().map(|output| float_output(&outputs, output).with_context(|| format!("{name}: output `{output}`"))).collect()
    }
}

/// Whether a failed call is one that found no memory. The runtime has no code of its own for it, so its words must tell: those of the
/// C++ library, of its own arena, and of the drivers of accelerators.
fn says_out_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["bad_alloc", "failed to allocate memory", "out of memory", "out_of_memory", "cudaerrormemoryallocation"]
        .iter()
        .any(|words| message.contains(words))
}

fn builder(runtime: &Runtime, options: &NetworkOptions) -> ort::Result<SessionBuilder> {
    let environment = &runtime.environment;
    let provider = options.provider.runtime_name();
    // Without explicit devices a session follows `ort`'s default policy, which may take any plugin that is registered.
    let devices: Vec<_> = environment.devices().filter(|device| device.ep().is_ok_and(|name| name == provider)).collect();
    if devices.is_empty() {
        return Err(ort::Error::new(format!("this ONNX Runtime offers no device for {provider}")));
    }
    let mut builder = Session::builder(environment)?
        .with_intra_threads(options.threads.max(1))?
        .with_devices(devices, None)?
        .with_memory_pattern(options.memory_arena)?;
    if !options.memory_arena {
        builder = builder.with_execution_providers([ort::ep::CPU::default().with_arena_allocator(false).build()])?;
    }
    Ok(builder)
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
        assert!(!says_out_of_memory("Got invalid dimensions for input: latent_sample"));
    }
}
