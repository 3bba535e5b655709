//! Networks called for what stays on their device: a component, and the small networks beside it.

use anyhow::{Context, Result};
use ndarray::ArrayD;

use super::networks::Networks;
use super::rows::check_values;
use crate::bundle::Role;
use crate::runtime::{Cancel, DeviceTensor, Dimensions, Given, Graph, HeldInputs, Network, Runtime};

impl Networks {
    /// Whether what the component of `role` gives can stay on its device.
    ///
    /// # Errors
    /// As [`Networks::open`].
    pub fn keeps_outputs(&mut self, role: Role, cancel: &Cancel) -> Result<bool> {
        Ok(!self.is_by_shape(role)? && self.asked(role, cancel, |network, _| Ok(network.keeps_outputs()))?)
    }

    /// Has what the component of `role` gives stay on its device no more, as long as it is open.
    ///
    /// # Errors
    /// As [`Networks::open`].
    pub(super) fn stop_keeping_outputs(&mut self, role: Role, cancel: &Cancel) -> Result<()> {
        self.asked(role, cancel, |network, _| {
            network.stop_keeping_outputs();
            Ok(())
        })
    }

    /// How many values went to the device of the component of `role` so far; see [`Network::sent_values`].
    ///
    /// # Errors
    /// As [`Networks::open`].
    pub(super) fn sent_values(&mut self, role: Role, cancel: &Cancel) -> Result<usize> {
        self.asked(role, cancel, |network, _| Ok(network.sent_values()))
    }

    /// Opens the network in `graph` beside the component of `role`, unless it is open.
    ///
    /// # Errors
    /// As [`Network::beside`].
    pub(super) fn open_beside(&mut self, role: Role, graph: &Graph, cancel: &Cancel) -> Result<()> {
        self.asked(role, cancel, |network, runtime| network.beside(runtime, graph, cancel).map(|_| ()))
    }

    /// Runs the component of `role`, and leaves the outputs `wanted` on its device.
    ///
    /// # Errors
    /// As [`Network::run_on_device`].
    pub(super) fn run_on_device(
        &mut self,
        role: Role,
        held: &HeldInputs,
        inputs: &[(&str, Given<'_>)],
        wanted: &[&str],
        cancel: &Cancel,
    ) -> Result<Vec<DeviceTensor>> {
        self.asked(role, cancel, |network, _| network.run_on_device(held, inputs, wanted, cancel))
    }

    /// Runs the network in `graph` beside the component of `role`, and leaves the outputs `wanted` on the device.
    ///
    /// # Errors
    /// As [`Network::beside`] and [`Network::run_on_device`].
    pub(super) fn run_beside_on_device(
        &mut self,
        role: Role,
        graph: &Graph,
        held: &HeldInputs,
        inputs: &[(&str, Given<'_>)],
        wanted: &[&str],
        cancel: &Cancel,
    ) -> Result<Vec<DeviceTensor>> {
        self.asked(role, cancel, |network, runtime| {
            network.beside(runtime, graph, cancel)?.run_on_device(held, inputs, wanted, cancel)
        })
    }

    /// As [`Networks::run_beside_on_device`], but brings one output to the processor and checks it as an output of the component.
    ///
    /// * `wanted`: the output, and the component's that it comes from
    ///
    /// # Errors
    /// As [`Networks::run_beside_on_device`]; it holds what is no number, or one value only.
    pub(super) fn fetch_beside(
        &mut self,
        role: Role,
        graph: &Graph,
        held: &HeldInputs,
        inputs: &[(&str, Given<'_>)],
        (wanted, of): (&str, &str),
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let mut fetched = self.asked(role, cancel, |network, runtime| {
            network.beside(runtime, graph, cancel)?.run_to_processor(held, inputs, &[wanted], cancel)
        })?;
        let fetched = fetched.pop().context("a step gave nothing")?;
        // What is no number stays none from step to step, so that it is seen here whichever step it came from.
        check_values(role, of, &fetched)?;
        Ok(fetched)
    }

    fn asked<T>(&mut self, role: Role, cancel: &Cancel, run: impl FnOnce(&mut Network, &Runtime) -> Result<T>) -> Result<T> {
        self.with_network(role, &Dimensions::default(), cancel, run)
    }
}
