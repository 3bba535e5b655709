//! One call of a small family's component: inputs by what they mean, outputs by name.

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, Axis, IxDyn};

use super::networks::Networks;
use crate::bundle::{Bundle, Role, find, names};
use crate::runtime::{Cancel, Tensor};

/// What a picture is made as: its class, where the model knows classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassLabels(Vec<usize>);

impl ClassLabels {
    /// One label for each picture of a batch; none where the model knows no classes.
    #[must_use]
    pub fn new(labels: Vec<usize>) -> Self {
        Self(labels)
    }

    /// As many labels, all `label`.
    #[must_use]
    pub fn all(&self, label: usize) -> Self {
        Self(vec![label; self.0.len()])
    }

    /// The labels of both, one after the other.
    #[must_use]
    pub fn followed_by(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).copied().collect())
    }

    pub(super) fn tensor(&self, role: Role, batch: usize) -> Result<Tensor> {
        ensure!(self.0.len() == batch, "{role}: takes class labels, and {} are there for {batch} pictures", self.0.len());
        let labels = self.0.iter().map(|label| i64::try_from(*label)).collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::Integer(ArrayD::from_shape_vec(IxDyn(&[batch]), labels)?))
    }
}

/// Calls the component of `role`.
///
/// * `given`: what it is for, by the names that exporters give it; `[B, …]` f32
/// * `wanted`: the outputs, each by the names that exporters give it; one that the graph names otherwise is taken by its place
///
/// # Errors
/// The network fails, wants an input that is not given, lacks an output, or gives another batch.
pub fn call(
    networks: &mut Networks,
    role: Role,
    given: &[(&[&str], &ArrayD<f32>)],
    labels: &ClassLabels,
    wanted: &[&[&str]],
    cancel: &Cancel,
) -> Result<Vec<ArrayD<f32>>> {
    let (_, first) = given.first().with_context(|| format!("{role}: nothing is given"))?;
    let batch = first.len_of(Axis(0));
    let ports = networks.inputs(role, cancel)?.to_vec();
    let mut tensors: Vec<(&str, Tensor)> = Vec::new();
    for (names, array) in given {
        let port = find(&ports, names).with_context(|| format!("{role}: has no input `{}`", names[0]))?;
        tensors.push((&port.name, Tensor::from((*array).clone())));
    }
    for port in ports.iter().filter(|port| !given.iter().any(|(names, _)| names.contains(&port.name.as_str()))) {
        if !names::CLASS_LABELS.contains(&port.name.as_str()) {
            bail!("{role}: takes an input `{}` that Kiln does not know", port.name);
        }
        tensors.push((&port.name, labels.tensor(role, batch)?));
    }
    let outputs = networks.outputs(role, cancel)?.to_vec();
    let mut names = Vec::with_capacity(wanted.len());
    for (place, aliases) in wanted.iter().enumerate() {
        let port = find(&outputs, aliases).or_else(|| outputs.get(place).filter(|_| outputs.len() == wanted.len()));
        names.push(port.with_context(|| format!("{role}: has no output `{}`", aliases[0]))?.name.as_str());
    }
    let given: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let results = networks.run(role, &given, &names, cancel)?;
    for (name, result) in names.iter().zip(&results) {
        ensure!(
            result.shape().first() == Some(&batch),
            "{role}: its output `{name}` is of shape {:?}, expected {batch} rows",
            result.shape()
        );
    }
    Ok(results)
}

/// Makes sure that `array`, an output of `role`, is of `shape` after its batch.
///
/// # Errors
/// It is not.
pub fn check_shape(role: Role, what: &str, array: &ArrayD<f32>, shape: &[usize]) -> Result<()> {
    ensure!(
        array.shape().get(1..) == Some(shape),
        "{role}: gave a {what} of shape {:?}, expected {shape:?} for each picture",
        array.shape()
    );
    Ok(())
}

/// The shape of one picture of `bundle`, `[C, H, W]`.
#[must_use]
pub fn picture_shape(bundle: &Bundle) -> [usize; 3] {
    let (width, height) = bundle.geometry.default_size;
    [bundle.geometry.picture_channels, height as usize, width as usize]
}
