//! Inputs that stay the same over many calls of a network, and their places on a device with memory of its own.

use std::sync::{Arc, Weak};

use anyhow::{Context, Result, anyhow};
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};

use super::conversion::owned_value;
use super::{DeviceTensor, Given, Port, Tensor};

/// Tensors, each with its port's name.
type NamedTensors = Vec<(String, Tensor)>;

/// Inputs that stay the same over many calls, each by its port's name; clones are the same inputs.
///
/// A device with memory of its own is handed them once, and keeps them as long as they are held here.
#[derive(Debug, Clone, Default)]
pub struct HeldInputs {
    inputs: Arc<NamedTensors>,
}

impl HeldInputs {
    /// Holds `inputs`.
    #[must_use]
    pub fn new(inputs: Vec<(String, Tensor)>) -> Self {
        Self { inputs: Arc::new(inputs) }
    }

    /// The inputs, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.inputs.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }
}

/// What is bound beside one set of inputs that stay.
struct Bound {
    of: Weak<NamedTensors>,
    binding: IoBinding,
    /// What of the inputs that the binding knows another network made: its session has to outlive the binding that knows them.
    from_others: Vec<DeviceTensor>,
}

/// The inputs that a session's device holds.
#[derive(Default)]
pub(super) struct Bindings {
    /// Guidance in two runs has two at a time, one for each text.
    bound: Vec<Bound>,
    /// How many inputs were handed over to stay.
    pub(super) handed_over: usize,
    /// Values that were handed over for one call each, to networks beside it that were dropped too.
    pub(super) sent: usize,
}

impl Bindings {
    /// How many sets of inputs are held.
    #[cfg(test)]
    pub(super) fn bound(&self) -> usize {
        self.bound.len()
    }

    /// A binding in which `inputs` beside `held` are bound anew, `held` as they were where they are known, and the outputs `wanted` to
    /// `memory`, the processor's where there is none.
    ///
    /// # Errors
    /// A tensor is not of the type that its port takes; the device takes no more.
    pub(super) fn bind(
        &mut self,
        session: &Session,
        ports: &[Port],
        held: &HeldInputs,
        inputs: &[(&str, Given<'_>)],
        wanted: &[&str],
        memory: Option<&MemoryInfo<'_>>,
    ) -> Result<&IoBinding> {
        self.bound.retain(|bound| bound.of.strong_count() > 0);
        let mark = Arc::downgrade(&held.inputs);
        let place = match self.bound.iter().position(|bound| bound.of.ptr_eq(&mark)) {
            Some(place) => place,
            None => {
                let mut binding = session.create_binding().map_err(|error| anyhow!("{error}"))?;
                let kept: Vec<(&str, Given<'_>)> = held.iter().map(|(name, tensor)| (name, Given::Here(tensor))).collect();
                bind_inputs(&mut binding, ports, &kept)?;
                // A device may still be copying, and what is copied may be dropped meanwhile.
                binding.synchronize_inputs().map_err(|error| anyhow!("{error}"))?;
                self.handed_over += kept.len();
                if !kept.is_empty() {
                    log::debug!("{} inputs stay on the device", kept.len());
                }
                self.bound.push(Bound { of: mark, binding, from_others: Vec::new() });
                self.bound.len() - 1
            }
        };
        let Bound { binding, from_others, .. } = self.bound.get_mut(place).context("a binding was lost")?;
        // A binding that is given up half-way knows some of either, so that both are kept until one knows all of the new.
        let before = from_others.len();
        from_others.extend(inputs.iter().filter_map(|(_, given)| given.there()).cloned());
        self.sent += bind_inputs(binding, ports, inputs)?;
        from_others.drain(..before);
        // What was bound for the last call has that call's shape.
        binding.clear_outputs();
        let of_processor = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        let of_processor = of_processor.map_err(|error| anyhow!("{error}"))?;
        for output in wanted {
            let bound = binding.bind_output_to_device(*output, memory.unwrap_or(&of_processor));
            bound.map_err(|error| anyhow!("output `{output}`: {error}"))?;
        }
        Ok(binding)
    }
}

/// Binds `inputs`, and returns how many values of them are copied to the device.
fn bind_inputs(binding: &mut IoBinding, ports: &[Port], inputs: &[(&str, Given<'_>)]) -> Result<usize> {
    let mut sent = 0;
    for (name, given) in inputs {
        let port = ports.iter().find(|port| port.name == *name).with_context(|| format!("there is no input `{name}`"))?;
        let bound = match given {
            Given::Here(tensor) => {
                sent += tensor.shape().iter().product::<usize>();
                let value = owned_value(port, tensor).with_context(|| format!("input `{name}`"))?;
                binding.bind_input(*name, &*value)
            }
            Given::There(tensor) => binding.bind_input(*name, tensor.value()),
        };
        bound.map_err(|error| anyhow!("input `{name}`: {error}"))?;
    }
    Ok(sent)
}
