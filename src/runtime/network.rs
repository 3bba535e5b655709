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
use super::held::Bindings;
use super::opening::{Optimising, left_text, open_prepared, open_session};
use super::tensor::names;
use super::{Cancel, Dimensions, Given, Graph, HeldInputs, Placement, Port, Provider, ProviderSetup, Runtime, Tensor, one_line};
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
    /// What its device holds; `None` where that is the processor, whose memory the tensors are in already.
    pub(super) bindings: Option<Bindings>,
    /// The memory in which its outputs can stay, the device's number, and how other networks are opened there.
    pub(super) keeps: Option<(&'static str, i32, ProviderSetup)>,
    pub(super) session: Session,
    pub(super) path: PathBuf,
    placement: Placement,
    /// Why the providers that were asked for do not run it whole.
    fell_back: Option<String>,
    pub(super) inputs: Vec<Port>,
    outputs: Vec<Port>,
    is_prepared: bool,
    /// Small networks on the same device, each with what it was opened from.
    pub(super) beside: Vec<(Graph, Network)>,
    load_time: Duration,
    pub(super) run_time: Duration,
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
        let has_own_memory =
            |setup: &&ProviderSetup| setup.provider().facts().has_own_memory && placement.nodes_of(setup.provider()) > 0;
        let device = options.providers.iter().find(has_own_memory);
        let (bindings, keeps) = (device.map(|_| Bindings::default()), device.and_then(ProviderSetup::keeps));
        #[cfg(test)]
        let (bindings, keeps) = super::device_tensor::stand_in::standing_in(bindings, keeps);
        let network = Self::with_session(session, path, placement)?;
        Ok(Self { bindings, keeps, fell_back, is_prepared, load_time: begun.elapsed(), ..network })
    }

    pub(super) fn with_session(session: Session, path: &Path, placement: Placement) -> Result<Self> {
        let inputs = session.inputs().iter().map(|outlet| port(outlet.name(), outlet.dtype())).collect::<Result<_>>();
        let outputs = session.outputs().iter().map(|outlet| port(outlet.name(), outlet.dtype())).collect::<Result<_>>();
        let (inputs, outputs) = inputs.and_then(|inputs| Ok((inputs, outputs?))).with_context(|| path.display().to_string())?;
        Ok(Self {
            bindings: None,
            keeps: None,
            session,
            path: path.to_path_buf(),
            placement,
            fell_back: None,
            inputs,
            outputs,
            is_prepared: false,
            beside: Vec::new(),
            load_time: Duration::ZERO,
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

    /// Time spent inside ONNX Runtime, networks beside it included, and number of calls, since the last call of this function.
    pub fn take_run_time(&mut self) -> (Duration, usize) {
        let beside: Duration = self.beside.iter_mut().map(|(_, network)| network.take_run_time().0).sum();
        (std::mem::take(&mut self.run_time) + beside, std::mem::take(&mut self.calls))
    }

    /// Runs the network on `inputs` and returns the outputs named in `wanted`, in that order, as `f32`.
    ///
    /// # Errors
    /// An input is missing, not declared, or of a shape that the network does not take; an output that is wanted is not there or
    /// holds no numbers; ONNX Runtime fails; the run was cancelled.
    pub fn run(&mut self, inputs: &[(&str, &Tensor)], wanted: &[&str], cancel: &Cancel) -> Result<Vec<ArrayD<f32>>> {
        self.run_beside(&HeldInputs::default(), inputs, wanted, cancel)
    }

    /// As [`Network::run`], on `inputs` and on those that are `held`, which a device with memory of its own is handed once.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_beside(
        &mut self,
        held: &HeldInputs,
        inputs: &[(&str, &Tensor)],
        wanted: &[&str],
        cancel: &Cancel,
    ) -> Result<Vec<ArrayD<f32>>> {
        if self.bindings.is_some() && !held.is_empty() {
            let inputs: Vec<(&str, Given<'_>)> = inputs.iter().map(|(name, tensor)| (*name, Given::Here(tensor))).collect();
            return self.run_to_processor(held, &inputs, wanted, cancel);
        }
        let given: Vec<(&str, &Tensor)> = held.iter().chain(inputs.iter().copied()).collect();
        self.check(&given.iter().map(|(name, tensor)| (*name, tensor.shape())).collect::<Vec<_>>(), wanted)?;
        let name = self.path.display().to_string();
        let mut values = Vec::with_capacity(given.len());
        for port in &self.inputs {
            for (_, tensor) in given.iter().filter(|(name, _)| *name == port.name) {
                let value = value(port, tensor).with_context(|| format!("{name}: input `{}`", port.name))?;
                values.push((port.name.clone(), value));
            }
        }
        self.call(cancel, |network, options| {
            let begun = Instant::now();
            let outputs = network.session.run_with_options(values, options).map_err(|error| anyhow!("{error}"))?;
            network.run_time += begun.elapsed();
            wanted.iter().map(|output| float_output(&outputs, output).with_context(|| format!("output `{output}`"))).collect()
        })
    }

    /// Makes sure that each input of the network is among those `given`, in its shape, and nothing else, and that it has the outputs `wanted`.
    pub(super) fn check(&self, given: &[(&str, &[usize])], wanted: &[&str]) -> Result<()> {
        let name = self.path.display();
        for port in &self.inputs {
            let Some((_, shape)) = given.iter().find(|(name, _)| *name == port.name) else {
                bail!("{name}: input `{}` was not given", port.name);
            };
            if !port.accepts(shape) {
                bail!("{name}: input `{}` was given {shape:?}, the network takes {}", port.name, port.shape_text());
            }
        }
        if let Some((unknown, _)) = given.iter().find(|(name, _)| !self.inputs.iter().any(|port| port.name == *name)) {
            bail!("{name}: there is no input `{unknown}`; it has {}", names(&self.inputs));
        }
        for output in wanted {
            if !self.outputs.iter().any(|port| port.name == *output) {
                bail!("{name}: there is no output `{output}`; it has {}", names(&self.outputs));
            }
        }
        Ok(())
    }

    /// One call, which `cancel` stops; what goes wrong is told with the file's name.
    pub(super) fn call<T>(&mut self, cancel: &Cancel, run: impl FnOnce(&mut Self, &RunOptions) -> Result<T>) -> Result<T> {
        let name = self.path.display().to_string();
        let options = run_options().map_err(|error| anyhow!("{name}: run options: {error}"))?;
        let _watch = cancel.watch(Work::Run(Arc::clone(&options)))?;
        self.calls += 1;
        run(self, &options).map_err(|error| match cancel.is_cancelled() {
            true => Cancelled.into(),
            false => failed(&name, &one_line(&format!("{error:#}"))),
        })
    }
}

/// Options of one run: the log's level is the session's otherwise, which is verbose while placements are read.
fn run_options() -> ort::Result<Arc<RunOptions>> {
    let mut options = RunOptions::new()?;
    options.set_log_level(LogLevel::Warning)?;
    Ok(Arc::new(options))
}

#[cfg(test)]
mod tests {
    use ndarray::IxDyn;

    use super::*;

    fn wave(shape: &[usize], phase: f32) -> Tensor {
        let mut angle = phase;
        Tensor::Float(ArrayD::from_shape_simple_fn(IxDyn(shape), || {
            angle += 0.37;
            angle.sin()
        }))
    }

    /// What SDXL's denoiser is told of a text.
    fn told(batch: usize, phase: f32) -> HeldInputs {
        let input = |name: &str, shape: &[usize]| (name.to_owned(), wave(shape, phase));
        HeldInputs::new(vec![
            input("encoder_hidden_states", &[batch, 7, 64]),
            input("text_embeds", &[batch, 32]),
            input("time_ids", &[batch, 6]),
        ])
    }

    #[test]
    fn inputs_that_stay_are_handed_over_once_and_change_nothing() {
        let (runtime, cancel) = (Runtime::open(None).unwrap(), Cancel::new());
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/sdxl/unet/model.onnx");
        let open = || Network::open(&runtime, &path, &NetworkOptions::default(), &cancel).unwrap();
        let (mut plain, mut bound) = (open(), open());
        assert!(plain.bindings.is_none(), "the processor has no memory of its own");
        // Binding is the runtime's, whatever the device; here the processor stands for one with memory of its own.
        bound.bindings = Some(Bindings::default());
        let output = plain.outputs()[0].name.clone();
        let mut both = |held: &HeldInputs, batch: usize, phase: f32| {
            let (sample, timestep) = (wave(&[batch, 4, 8, 8], phase), wave(&[], 100.0 * phase));
            let inputs = [("sample", &sample), ("timestep", &timestep)];
            let [left, right] =
                [&mut plain, &mut bound].map(|network| network.run_beside(held, &inputs, &[&output], &cancel).unwrap());
            assert!(left[0].iter().zip(&right[0]).all(|(left, right)| left.to_bits() == right.to_bits()));
            let bindings = bound.bindings.as_ref().unwrap();
            (left, bindings.handed_over, bindings.bound())
        };
        let (prompt, negative) = (told(1, 0.1), told(1, 0.7));
        let mut seen = Vec::new();
        for step in 1..4 {
            for held in [&prompt, &negative, &prompt.clone()] {
                let (given, handed_over, _) = both(held, 1, step as f32);
                assert!(handed_over <= 6, "step {step}");
                seen.push(given);
            }
        }
        assert!((0..3).all(|step| seen[3 * step] == seen[3 * step + 2] && seen[3 * step] != seen[3 * step + 1]));
        drop((prompt, negative));
        let (_, handed_over, bound) = both(&told(2, 0.1), 2, 1.0);
        assert_eq!((handed_over, bound), (9, 1), "what nobody holds any more is dropped");
        both(&told(1, 0.1), 1, 1.0);
    }
}
