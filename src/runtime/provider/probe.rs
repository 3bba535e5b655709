//! Which providers the loaded library and the registered plugins hold, and whether one runs a small network.

use std::sync::OnceLock;

use anyhow::{Result, anyhow, ensure};
use ndarray::{ArrayD, IxDyn};

use super::{Provider, ProviderSetup, is_built_in};
use crate::runtime::{Cancel, Network, NetworkOptions, Runtime, Tensor};

impl Runtime {
    /// Whether the library holds `provider`, or a plugin that was registered does.
    #[must_use]
    pub fn has(&self, provider: Provider) -> bool {
        is_built_in(provider) || self.plugin_devices(provider) > 0
    }

    /// Every provider that is there, in the order of [`Provider::ALL`].
    #[must_use]
    pub fn providers(&self) -> Vec<Provider> {
        Provider::ALL.into_iter().filter(|provider| self.has(*provider)).collect()
    }

    /// How many devices the plugin for `provider` offers.
    #[must_use]
    pub fn plugin_devices(&self, provider: Provider) -> usize {
        let name = provider.runtime_name();
        self.devices().iter().filter(|device| device.ep().is_ok_and(|found| found == name)).count()
    }

    /// Runs a small network on `provider` alone and compares the result with the known answer.
    ///
    /// # Errors
    /// The provider is not there, does not load, does not take the network, fails, or computes something else.
    pub fn probe(&self, provider: Provider) -> Result<()> {
        self.probe_setup(&ProviderSetup::new(provider))
    }

    /// As [`Runtime::probe`], with the options of `setup`.
    ///
    /// # Errors
    /// As [`Runtime::probe`].
    pub fn probe_setup(&self, setup: &ProviderSetup) -> Result<()> {
        let provider = setup.provider();
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("probe.onnx");
        std::fs::write(&path, network())?;
        let options = NetworkOptions { providers: vec![setup.clone()], ..NetworkOptions::default() };
        let cancel = Cancel::new();
        let mut network = Network::open(self, &path, &options, &cancel)?;
        let input = Tensor::Float(ArrayD::from_shape_fn(IxDyn(&[1, SIDE]), |index| index[1] as f32 / 4.0 - 1.0));
        let output = network.run(&[("x", &input)], &["y"], &cancel)?.pop().ok_or_else(|| anyhow!("gave nothing"))?;
        for (column, found) in output.iter().enumerate() {
            // The weights are the identity, then a sum with itself.
            let expected = (column as f32 / 4.0 - 1.0) * 2.0;
            let tolerance = provider.facts().tolerance.max(1e-6) * 2.0;
            ensure!((found - expected).abs() <= tolerance, "{provider} gave {found} where {expected} is right");
        }
        Ok(())
    }
}

const SIDE: usize = 8;

/// An ONNX model: `y = x·W + x·W` on `[1, 8]` f32, with the identity for `W`.
fn network() -> &'static [u8] {
    static NETWORK: OnceLock<Vec<u8>> = OnceLock::new();
    NETWORK.get_or_init(|| {
        let weights: Vec<u8> =
            (0..SIDE * SIDE).flat_map(|index| if index % (SIDE + 1) == 0 { 1.0_f32 } else { 0.0 }.to_le_bytes()).collect();
        let node = |operator: &str, inputs: [&str; 2], output: &str| {
            let [left, right] = inputs.map(|input| field(1, input.as_bytes()));
            [left, right, field(2, output.as_bytes()), field(4, operator.as_bytes())].concat()
        };
        let port = |name: &str| {
            let shape = [field(1, &number(1, 1)), field(1, &number(1, SIDE as u8))].concat();
            let tensor = [number(1, 1), field(2, &shape)].concat();
            [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
        };
        let weight = [number(1, SIDE as u8), number(1, SIDE as u8), number(2, 1), field(8, b"w"), field(9, &weights)].concat();
        let graph = [
            field(1, &node("MatMul", ["x", "w"], "z")),
            field(1, &node("Add", ["z", "z"], "y")),
            field(2, b"probe"),
            field(5, &weight),
            field(11, &port("x")),
            field(12, &port("y")),
        ]
        .concat();
        [number(1, 8), field(7, &graph), field(8, &[field(1, b""), number(2, 17)].concat())].concat()
    })
}

/// A field of bytes in a protocol buffer.
pub(super) fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut encoded = vec![tag << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        encoded.push((length % 128) as u8 | 128);
        length /= 128;
    }
    encoded.push(length as u8);
    encoded.extend_from_slice(bytes);
    encoded
}

/// A field of one number below 128.
pub(super) fn number(tag: u8, value: u8) -> Vec<u8> {
    vec![tag << 3, value]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_runs_the_small_network() {
        let runtime = Runtime::open(None).unwrap();
        assert!(runtime.has(Provider::Cpu) && runtime.providers()[0] == Provider::Cpu);
        runtime.probe(Provider::Cpu).unwrap();
        let missing = Provider::ALL.into_iter().find(|provider| !runtime.has(*provider)).unwrap();
        let error = runtime.probe(missing).unwrap_err();
        assert!(format!("{error:#}").contains("offers no device"), "{error:#}");
    }
}
