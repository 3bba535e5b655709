//! What goes through a network whose batch is fixed, and what has to hold of what comes out.

use anyhow::{Result, bail};
use ndarray::ArrayD;

use crate::bundle::{Role, names};
use crate::runtime::{Port, Tensor};

/// Makes sure that `output`, which the component of `role` calls `name`, is finite and not one value throughout.
///
/// # Errors
/// It is not, which is blamed on the component.
pub(super) fn check_values(role: Role, name: &str, output: &ArrayD<f32>) -> Result<()> {
    if let Some(value) = output.iter().find(|value| !value.is_finite()) {
        bail!(
            "{role}: its output `{name}` holds {value}; the network overflows at this precision or its file is damaged \
             (an fp16 export does so where an fp32 one does not; `kiln verify` checks the file)"
        );
    }
    let first = output.first().copied().unwrap_or_default();
    // What a network remembers may be nothing yet.
    let is_result = !name.starts_with(names::PRESENT);
    if is_result && output.len() > 1 && output.iter().all(|value| value.to_bits() == first.to_bits()) {
        bail!("{role}: every value of its output `{name}` is {first}; its file is damaged (`kiln verify` checks it)");
    }
    Ok(())
}

/// The batch that `inputs` have, and the larger one that the network's ports are fixed to, if there is such a one.
///
/// The first input, which is the largest, tells: a timestep has a rank of its own.
pub(super) fn batches(ports: &[Port], inputs: &[(&str, &Tensor)]) -> (usize, Option<usize>) {
    let Some((name, tensor)) = inputs.first() else { return (1, None) };
    let asked_for = tensor.shape().first().copied().unwrap_or(1);
    let port = ports.iter().find(|port| port.name == *name);
    let fixed = port.and_then(|port| port.shape.first().copied().flatten()).filter(|fixed| *fixed > asked_for);
    (asked_for, fixed)
}

/// Gives `tensor` the network's batch, unless its port has none or one of its own.
pub(super) fn padded_for(ports: &[Port], name: &str, tensor: &Tensor, fixed: usize) -> Tensor {
    let first = ports.iter().find(|port| port.name == name).and_then(|port| port.shape.first());
    // A port left open follows the others: the rows of all inputs belong together.
    let has_batch = first.is_some_and(|size| size.is_none_or(|size| size == fixed));
    if has_batch { tensor.padded(fixed) } else { tensor.clone() }
}
