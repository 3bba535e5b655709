//! Tensors that stay in a device's memory from one network to the next.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ndarray::ArrayD;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{SessionOutputs, SharedSessionInner};
use ort::value::{DynTensorValueType, DynValue};

use super::conversion::float_output;
use super::held::Bindings;
use super::opening::open_graph;
use super::{Cancel, Fallback, Graph, HeldInputs, Network, NetworkOptions, Runtime, Tensor};

/// A network has as many beside it at most, those last used: requests differ in the sizes of their samples.
const MOST_BESIDE: usize = 4;

/// An output of a network that stays where it was computed; clones are the same tensor.
#[derive(Clone)]
pub struct DeviceTensor {
    value: Arc<DynValue>,
    shape: Vec<usize>,
    /// What allocated it goes after it.
    _session: Arc<SharedSessionInner>,
}

impl DeviceTensor {
    /// The dimensions.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub(super) fn value(&self) -> &DynValue {
        &self.value
    }
}

/// A tensor on its way into a network.
#[derive(Clone, Copy)]
pub enum Given<'t> {
    /// In the processor's memory.
    Here(&'t Tensor),
    /// In the device's.
    There(&'t DeviceTensor),
}

impl<'t> Given<'t> {
    /// The dimensions.
    #[must_use]
    pub fn shape(self) -> &'t [usize] {
        match self {
            Self::Here(tensor) => tensor.shape(),
            Self::There(tensor) => tensor.shape(),
        }
    }

    pub(super) fn there(self) -> Option<&'t DeviceTensor> {
        match self {
            Self::Here(_) => None,
            Self::There(tensor) => Some(tensor),
        }
    }
}

impl Network {
    /// Whether its outputs can stay on its device for another network.
    #[must_use]
    pub fn keeps_outputs(&self) -> bool {
        self.keeps.is_some() && self.bindings.is_some()
    }

    /// Has its outputs stay on its device no more, nor anything beside it: what was refused once is refused each time.
    pub fn stop_keeping_outputs(&mut self) {
        self.keeps = None;
        self.drop_beside(0);
    }

    /// The small network in `graph` on the device of this one, for what stays there; it is opened unless it is open.
    ///
    /// # Errors
    /// The outputs do not stay on the device; its provider does not take the graph whole; the run was cancelled.
    pub fn beside(&mut self, runtime: &Runtime, graph: &Graph, cancel: &Cancel) -> Result<&mut Self> {
        let used = match self.beside.iter().position(|(known, _)| known == graph) {
            Some(place) => self.beside.remove(place),
            None => {
                let keeps = self.keeps.clone().context("its outputs stay on no device")?;
                let (providers, fallback) = (vec![keeps.2.clone()], Fallback::Allowed);
                let options = NetworkOptions { providers, fallback, ..NetworkOptions::default() };
                let (session, placement) = open_graph(runtime, &graph.to_onnx(), &options, cancel)?;
                let mut network = Self::with_session(session, &self.path.with_file_name("the step after it"), placement)?;
                (network.bindings, network.keeps) = (Some(Bindings::default()), Some(keeps));
                self.drop_beside(MOST_BESIDE - 1);
                (graph.clone(), network)
            }
        };
        self.beside.insert(0, used);
        Ok(&mut self.beside.first_mut().context("a network was lost")?.1)
    }

    /// Drops the networks beside it but for the `kept` last used; what went to them counts on.
    fn drop_beside(&mut self, kept: usize) {
        let dropped: usize = self.beside.iter().skip(kept).map(|(_, network)| network.sent_values()).sum();
        self.beside.truncate(kept);
        if let Some(bindings) = &mut self.bindings {
            bindings.sent += dropped;
        }
    }

    /// Runs the network on `inputs` beside those `held`, and leaves the outputs `wanted` on the device, in that order.
    ///
    /// # Errors
    /// As [`Network::run`]; the device does not keep an output.
    pub fn run_on_device(
        &mut self,
        held: &HeldInputs,
        inputs: &[(&str, Given<'_>)],
        wanted: &[&str],
        cancel: &Cancel,
    ) -> Result<Vec<DeviceTensor>> {
        let (name, device, _) = self.keeps.clone().context("its outputs stay on no device")?;
        let memory = MemoryInfo::new(AllocationDevice::new(name), device, AllocatorType::Device, MemoryType::Default);
        let memory = memory.map_err(|error| anyhow!("{}: memory {name} {device}: {error}", self.path.display()))?;
        let session = self.session.inner();
        let is_processors = name == AllocationDevice::CPU.as_str();
        self.run_bound(held, inputs, wanted, Some(&memory), cancel, |outputs, output| {
            let value = outputs.remove(output).context("was not returned")?;
            let tensor = value.view().downcast::<DynTensorValueType>().map_err(|error| anyhow!("{error}"))?;
            // What has no such memory gives the processor's instead, and does not say so.
            let found = tensor.memory_info();
            ensure!(is_processors || !found.is_cpu_accessible(), "came back to the processor, expected it in {name}");
            let shape = tensor.shape().iter().map(|size| usize::try_from(*size)).collect::<Result<Vec<_>, _>>()?;
            drop(tensor);
            Ok(DeviceTensor { value: Arc::new(value), shape, _session: Arc::clone(&session) })
        })
    }

    /// As [`Network::run_on_device`], but brings the outputs to the processor, as `f32`.
    ///
    /// # Errors
    /// As [`Network::run`].
    pub fn run_to_processor(
        &mut self,
        held: &HeldInputs,
        inputs: &[(&str, Given<'_>)],
        wanted: &[&str],
        cancel: &Cancel,
    ) -> Result<Vec<ArrayD<f32>>> {
        self.run_bound(held, inputs, wanted, None, cancel, |outputs, output| float_output(outputs, output))
    }

    /// How many values went to the device for one call each, since it was opened, networks beside it included; what is held does not count.
    #[must_use]
    pub fn sent_values(&self) -> usize {
        let beside: usize = self.beside.iter().map(|(_, network)| network.sent_values()).sum();
        self.bindings.as_ref().map_or(0, |bindings| bindings.sent) + beside
    }

    fn run_bound<T>(
        &mut self,
        held: &HeldInputs,
        inputs: &[(&str, Given<'_>)],
        wanted: &[&str],
        memory: Option<&MemoryInfo<'_>>,
        cancel: &Cancel,
        take: impl Fn(&mut SessionOutputs<'_>, &str) -> Result<T>,
    ) -> Result<Vec<T>> {
        if self.bindings.is_none() {
            bail!("{}: runs on the processor, whose memory holds everything", self.path.display());
        }
        let given: Vec<(&str, &[usize])> =
            held.iter().map(|(name, tensor)| (name, tensor.shape())).chain(inputs.iter().map(|(n, g)| (*n, g.shape()))).collect();
        self.check(&given, wanted)?;
        self.call(cancel, |network, options| {
            let begun = Instant::now();
            let bindings = network.bindings.as_mut().context("a binding was lost")?;
            let binding = bindings.bind(&network.session, &network.inputs, held, inputs, wanted, memory)?;
            let mut outputs = network.session.run_binding_with_options(binding, options).map_err(|error| anyhow!("{error}"))?;
            network.run_time += begun.elapsed();
            wanted.iter().map(|output| take(&mut outputs, output).with_context(|| format!("output `{output}`"))).collect()
        })
    }
}

#[cfg(test)]
pub(crate) mod stand_in {
    use std::cell::Cell;

    use super::Bindings;
    use crate::runtime::ProviderSetup;

    thread_local! {
        /// Whether the processor stands for a device with memory of its own, for networks that this thread opens.
        pub(crate) static PROCESSOR_KEEPS: Cell<bool> = const { Cell::new(false) };
    }

    type Keeps = Option<(&'static str, i32, ProviderSetup)>;

    pub(in crate::runtime) fn standing_in(bindings: Option<Bindings>, keeps: Keeps) -> (Option<Bindings>, Keeps) {
        match PROCESSOR_KEEPS.get() {
            true => (Some(Bindings::default()), Some(("Cpu", 0, ProviderSetup::default()))),
            false => (bindings, keeps),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ndarray::IxDyn;

    use super::super::Element;
    use super::stand_in::PROCESSOR_KEEPS;
    use super::*;
    use crate::error::is_cancelled;

    /// What is twice as much, of two rows.
    fn doubling() -> Graph {
        let mut graph = Graph::default();
        graph.input("once", Element::Float32, &[2, 3]);
        graph.operator("Add", &["once", "once"], &["twice"], None);
        graph.output("twice", Element::Float32, &[2, 3]);
        graph
    }

    fn open(keeps: bool) -> (std::sync::Arc<Runtime>, Network) {
        PROCESSOR_KEEPS.set(keeps);
        let runtime = Runtime::open(None).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/gan/mapping/model.onnx");
        let network = Network::open(&runtime, &path, &NetworkOptions::default(), &Cancel::new()).unwrap();
        PROCESSOR_KEEPS.set(false);
        (runtime, network)
    }

    #[test]
    fn what_one_network_leaves_another_takes_and_nothing_is_handed_over_for_it() {
        let ((runtime, mut network), cancel, held) = (open(true), Cancel::new(), HeldInputs::default());
        let beside = network.beside(&runtime, &doubling(), &cancel).unwrap();
        let first = Tensor::Float(ArrayD::from_shape_fn(IxDyn(&[2, 3]), |at| (at[0] * 3 + at[1]) as f32));
        let mut left = beside.run_on_device(&held, &[("once", Given::Here(&first))], &["twice"], &cancel).unwrap().remove(0);
        for _ in 0..3 {
            let once = left.clone();
            left = beside.run_on_device(&held, &[("once", Given::There(&once))], &["twice"], &cancel).unwrap().remove(0);
        }
        let found = beside.run_to_processor(&held, &[("once", Given::There(&left))], &["twice"], &cancel).unwrap().remove(0);
        assert_eq!(found.iter().copied().collect::<Vec<_>>(), [0.0, 32.0, 64.0, 96.0, 128.0, 160.0]);
        assert_eq!(network.sent_values(), 6);
        drop(network);
        assert_eq!(left.shape(), [2, 3], "what is left outlives the network");
    }

    /// The sum of two rows of `length`.
    fn adding(length: usize) -> Graph {
        let mut graph = Graph::default();
        graph.input("left", Element::Float32, &[length]);
        graph.input("right", Element::Float32, &[length]);
        graph.operator("Add", &["left", "right"], &["sum"], None);
        graph.output("sum", Element::Float32, &[length]);
        graph
    }

    #[test]
    fn the_longest_unused_is_dropped_and_what_went_to_it_counts_on() {
        let ((runtime, mut network), cancel, held) = (open(true), Cancel::new(), HeldInputs::default());
        for length in [2, 3, 2, 4, 5, 2, 6] {
            let beside = network.beside(&runtime, &adding(length), &cancel).unwrap();
            let row = Tensor::Float(ArrayD::ones(IxDyn(&[length])));
            let inputs = [("left", Given::Here(&row)), ("right", Given::Here(&row))];
            beside.run_on_device(&held, &inputs, &["sum"], &cancel).unwrap();
        }
        let open: Vec<bool> = (2..7).map(|length| network.beside.iter().any(|(known, _)| *known == adding(length))).collect();
        assert_eq!(open, [true, false, true, true, true]);
        assert_eq!(network.sent_values(), 2 * (2 + 3 + 2 + 4 + 5 + 2 + 6));
        network.stop_keeping_outputs();
        assert!(!network.keeps_outputs() && network.beside.is_empty());
        assert_eq!(network.sent_values(), 48);
        assert!(network.beside(&runtime, &adding(2), &cancel).is_err());
    }

    #[test]
    fn what_a_binding_knows_stays_as_long_even_if_the_next_is_given_up_half_way() {
        let ((runtime, mut network), cancel, held) = (open(true), Cancel::new(), HeldInputs::default());
        let mut graph = Graph::default();
        graph.input("left", Element::Float32, &[2]);
        graph.input("right", Element::Int64, &[2]);
        graph.operator("Cast", &["right"], &["wide"], Some(("to", Element::Float32.to_onnx())));
        graph.operator("Add", &["left", "wide"], &["sum"], None);
        graph.output("sum", Element::Float32, &[2]);
        let beside = network.beside(&runtime, &graph, &cancel).unwrap();
        let (row, whole) = (Tensor::Float(ArrayD::ones(IxDyn(&[2]))), Tensor::Integer(ArrayD::zeros(IxDyn(&[2]))));
        let here = [("left", Given::Here(&row)), ("right", Given::Here(&whole))];
        let made = beside.run_on_device(&held, &here, &["sum"], &cancel).unwrap().remove(0);
        let misfit = [("left", Given::There(&made)), ("right", Given::Here(&row))];
        assert!(beside.run_on_device(&held, &misfit, &["sum"], &cancel).is_err());
        assert_eq!(Arc::strong_count(&made.value), 2, "the binding knows it");
        beside.run_on_device(&held, &here, &["sum"], &cancel).unwrap();
        assert_eq!(Arc::strong_count(&made.value), 1, "the binding knows it no more");
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_a_used_handle_stops_it() {
        let (runtime, mut plain) = open(false);
        let (cancel, held) = (Cancel::new(), HeldInputs::default());
        assert!(!plain.keeps_outputs());
        assert!(plain.beside(&runtime, &doubling(), &cancel).is_err());
        let (runtime, mut network) = open(true);
        let mut nonsense = doubling();
        nonsense.operator("NoSuchOperator", &["once"], &["never"], None);
        assert!(network.beside(&runtime, &nonsense, &cancel).is_err());
        let beside = network.beside(&runtime, &doubling(), &cancel).unwrap();
        let wide = Tensor::Float(ArrayD::zeros(IxDyn(&[2, 4])));
        let says = |outcome: Result<Vec<DeviceTensor>>| format!("{:#}", outcome.err().unwrap());
        let error = says(beside.run_on_device(&held, &[("once", Given::Here(&wide))], &["twice"], &cancel));
        assert!(error.contains("`once` was given [2, 4], the network takes [2, 3]"), "{error}");
        let fits = Tensor::Float(ArrayD::zeros(IxDyn(&[2, 3])));
        assert!(says(beside.run_on_device(&held, &[("once", Given::Here(&fits))], &["none"], &cancel)).contains("`none`"));
        assert!(says(beside.run_on_device(&held, &[], &["twice"], &cancel)).contains("was not given"));
        cancel.cancel();
        let outcome = beside.run_on_device(&held, &[("once", Given::Here(&fits))], &["twice"], &cancel);
        assert!(is_cancelled(&outcome.err().unwrap()));
    }
}
