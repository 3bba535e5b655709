//! What a causal network remembers of earlier frames, handed from one call to the next.

use anyhow::{Context, Result};
use ndarray::ArrayD;

use super::networks::Networks;
use crate::bundle::{Role, find, names};
use crate::runtime::{Cancel, Tensor};

/// What was remembered last, by the names under which it is taken; nothing before the first frame.
#[derive(Default)]
pub(super) struct Past(Vec<(String, ArrayD<f32>)>);

impl Past {
    /// Whether nothing went through yet.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs `role` over `array`, the input that has one of `names`, beside what is remembered; returns its one other output.
    pub(super) fn call(
        &mut self,
        networks: &mut Networks,
        role: Role,
        names: &[&str],
        array: ArrayD<f32>,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let port = find(networks.inputs(role, cancel)?, names).with_context(|| format!("{role}: has no input `{}`", names[0]))?;
        let port = port.name.clone();
        let outputs = networks.outputs(role, cancel)?;
        let remembers = |name: &&str| name.starts_with(names::PRESENT);
        let all: Vec<String> = outputs.iter().map(|output| output.name.clone()).collect();
        let result = all.iter().map(String::as_str).find(|name| !remembers(name));
        let result = result.with_context(|| format!("{role}: gives nothing but what it remembers"))?;
        let present: Vec<&str> = all.iter().map(String::as_str).filter(remembers).collect();
        let wanted: Vec<&str> = std::iter::once(result).chain(present.iter().copied()).collect();

        let tensor = Tensor::from(array);
        let past: Vec<(String, Tensor)> =
            std::mem::take(&mut self.0).into_iter().map(|(name, value)| (name, Tensor::from(value))).collect();
        let inputs: Vec<(&str, &Tensor)> =
            std::iter::once((port.as_str(), &tensor)).chain(past.iter().map(|(name, value)| (name.as_str(), value))).collect();
        let mut found = networks.run(role, &inputs, &wanted, cancel)?.into_iter();
        let given = found.next().with_context(|| format!("{role}: gave nothing"))?;
        let number = |name: &str| format!("{}{}", names::PAST, name.trim_start_matches(names::PRESENT));
        self.0 = present.iter().map(|name| number(name)).zip(found).collect();
        Ok(given)
    }
}
