//! Sizes for the open dimensions of a graph, for providers that take networks whose shapes are known when they are opened.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{Port, Tensor};

/// Open dimensions of a graph by its own names for them, each with the size that it is fixed to.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Dimensions {
    sizes: BTreeMap<String, usize>,
}

impl Dimensions {
    /// The sizes that `inputs` give to the open dimensions of `ports`.
    ///
    /// # Errors
    /// An input is not given or is of another rank; an open dimension has no name in the graph, so that nothing can be said of it; one
    /// name stands for two sizes.
    pub fn of(ports: &[Port], inputs: &[(&str, &Tensor)]) -> Result<Self> {
        let mut sizes = BTreeMap::new();
        for port in ports {
            let given = inputs.iter().find(|(name, _)| *name == port.name);
            let shape = given.with_context(|| format!("input `{}` was not given", port.name))?.1.shape();
            ensure!(
                shape.len() == port.shape.len(),
                "input `{}` was given {shape:?}, the network takes {}",
                port.name,
                port.shape_text()
            );
            for (place, size) in shape.iter().enumerate().filter(|(place, _)| port.shape[*place].is_none()) {
                let Some((_, name)) = port.dimension_names.iter().find(|(named, _)| *named == place) else {
                    bail!(
                        "dimension {place} of input `{}` is open and has no name in the file, so no size can be fixed for it; export the network \
                         with named dimensions or with fixed ones",
                        port.name
                    );
                };
                let known = *sizes.entry(name.clone()).or_insert(*size);
                ensure!(
                    known == *size,
                    "its dimension `{name}` is {known} and {size} in one call, and a network of fixed shapes has one size for a name"
                );
            }
        }
        Ok(Self { sizes })
    }

    /// Each name with its size.
    pub fn iter(&self) -> impl Iterator<Item = (&str, usize)> {
        self.sizes.iter().map(|(name, size)| (name.as_str(), *size))
    }

    /// Whether none is fixed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }
}

impl fmt::Display for Dimensions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.iter().map(|(name, size)| format!("{name} {size}")).collect();
        formatter.write_str(&texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, IxDyn};

    use super::*;
    use crate::runtime::Element;

    fn port(name: &str, dimensions: &[Result<usize, &str>]) -> Port {
        let names = dimensions.iter().enumerate().filter_map(|(place, dimension)| Some((place, (*dimension).err()?.to_owned())));
        Port {
            name: name.to_owned(),
            element: Element::Float32,
            shape: dimensions.iter().map(|dimension| dimension.ok()).collect(),
            dimension_names: names.filter(|(_, name)| !name.is_empty()).collect(),
        }
    }

    fn tensor(shape: &[usize]) -> Tensor {
        Tensor::Float(ArrayD::zeros(IxDyn(shape)))
    }

    #[test]
    fn sizes_are_those_of_the_call_and_of_open_dimensions_alone() {
        let ports = [port("sample", &[Err("batch"), Ok(4), Err("side"), Err("side")]), port("timestep", &[Err("batch")])];
        let (sample, timestep) = (tensor(&[2, 4, 8, 8]), tensor(&[2]));
        let found = Dimensions::of(&ports, &[("timestep", &timestep), ("sample", &sample)]).unwrap();
        assert_eq!(found.to_string(), "batch 2, side 8");
        assert_eq!(serde_json::to_string(&found).unwrap(), r#"{"batch":2,"side":8}"#);
        assert!(Dimensions::of(&[port("x", &[Ok(3)])], &[("x", &tensor(&[3]))]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_fixed_is_told() {
        let of = |port: Port, shape: &[usize]| Dimensions::of(&[port], &[("x", &tensor(shape))]).unwrap_err().to_string();
        assert!(of(port("x", &[Err("side"), Err("side")]), &[8, 9]).contains("`side` is 8 and 9 in one call"));
        assert!(of(port("x", &[Ok(1), Err("")]), &[1, 9]).contains("dimension 1 of input `x` is open and has no name"));
        assert!(of(port("x", &[Ok(1)]), &[1, 9]).contains("was given [1, 9], the network takes [1]"));
        assert!(of(port("y", &[Ok(1)]), &[1]).contains("input `y` was not given"));
    }
}
