//! One prediction of a network that works on pixels and is told a class, with classifier-free guidance.
//!
//! In: noisy pictures, a timestep, classes. Out: the prediction, of the pictures' shape: noise, velocity, score, as the network was
//! trained. Guidance as in `denoiser.rs`; the pass without a class has the label that stands for none.

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, Axis, concatenate};

use super::call::ClassLabels;
use super::denoiser::guide;
use super::networks::Networks;
use crate::bundle::{Bundle, Role, find, names};
use crate::plan::GuidancePasses;
use crate::runtime::{Cancel, Port, Tensor};

/// A denoiser of pixels made ready for one run.
pub struct ClassDenoiser {
    passes: GuidancePasses,
    guidance: f32,
    null_class: Option<usize>,
    step_count: usize,
    ports: Vec<Port>,
    output: String,
}

impl ClassDenoiser {
    /// Asks the network for its ports and makes ready.
    ///
    /// * `step_count`: into how many steps the way is cut; a denoiser that was distilled by halving is told
    ///
    /// # Errors
    /// The network does not open, or has no output.
    pub fn new(
        bundle: &Bundle,
        networks: &mut Networks,
        passes: GuidancePasses,
        guidance: f32,
        step_count: usize,
        cancel: &Cancel,
    ) -> Result<Self> {
        let ports = networks.inputs(Role::Unet, cancel)?.to_vec();
        let output = networks.outputs(Role::Unet, cancel)?.first().context("unet: has no output")?.name.clone();
        Ok(Self { passes, guidance, null_class: bundle.null_class, step_count, ports, output })
    }

    /// Predicts at `timestep`.
    ///
    /// * `sample`: `[B, C, H, W]` f32, scaled for the network
    ///
    /// Returns `[B, C, H, W]` f32 with guidance applied.
    ///
    /// # Errors
    /// The network fails, gives another shape, or is cancelled.
    pub fn predict(
        &self,
        networks: &mut Networks,
        sample: &ArrayD<f32>,
        timestep: f32,
        labels: &ClassLabels,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let guided = self.null_class.filter(|_| self.passes != GuidancePasses::One);
        let prediction = match guided.map(|null| labels.all(null)) {
            None => self.call(networks, sample.clone(), timestep, labels, cancel)?,
            Some(none) if self.passes == GuidancePasses::TwoRuns => {
                let unconditional = self.call(networks, sample.clone(), timestep, &none, cancel)?;
                let conditional = self.call(networks, sample.clone(), timestep, labels, cancel)?;
                guide(unconditional.view(), conditional.view(), self.guidance)
            }
            Some(none) => {
                let twice = concatenate(Axis(0), &[sample.view(), sample.view()])?;
                let both = self.call(networks, twice, timestep, &none.followed_by(labels), cancel)?;
                let (unconditional, conditional) = both.view().split_at(Axis(0), sample.len_of(Axis(0)));
                guide(unconditional, conditional, self.guidance)
            }
        };
        Ok(prediction)
    }

    fn call(
        &self,
        networks: &mut Networks,
        sample: ArrayD<f32>,
        timestep: f32,
        labels: &ClassLabels,
        cancel: &Cancel,
    ) -> Result<ArrayD<f32>> {
        let (batch, expected) = (sample.len_of(Axis(0)), sample.shape().to_vec());
        let sample = Tensor::from(sample);
        let mut given: Vec<(&str, Tensor)> = Vec::new();
        for port in &self.ports {
            let name = port.name.as_str();
            let tensor = if names::SAMPLE.contains(&name) {
                continue;
            } else if names::TIMESTEP.contains(&name) {
                Tensor::number_for(port, timestep, batch)
            } else if names::CLASS_LABELS.contains(&name) {
                labels.tensor(Role::Unet, batch)?
            } else if names::STEP_COUNT.contains(&name) {
                #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
                Tensor::number_for(port, self.step_count as f32, batch)
            } else {
                bail!("unet: takes an input `{name}` that Kiln does not know");
            };
            given.push((name, tensor));
        }
        let port = find(&self.ports, names::SAMPLE).context("unet: has no input for the picture")?;
        let mut inputs: Vec<(&str, &Tensor)> = vec![(port.name.as_str(), &sample)];
        inputs.extend(given.iter().map(|(name, tensor)| (*name, tensor)));
        let mut outputs = networks.run(Role::Unet, &inputs, &[&self.output], cancel)?;
        let prediction = outputs.pop().context("unet: gave nothing")?;
        ensure!(
            prediction.shape() == expected,
            "unet: gave a prediction of shape {:?}, expected the picture's {expected:?}",
            prediction.shape()
        );
        Ok(prediction)
    }
}
