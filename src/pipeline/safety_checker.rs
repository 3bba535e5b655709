//! The safety checker that came with Stable Diffusion 1: a picture is let through, or held back.
//!
//! J. Rando, D. Paleka, D. Lindner, L. Heim, F. Tramèr, "Red-Teaming the Stable Diffusion Safety Filter", 2022, arXiv:2210.04610, describes it:
//! CLIP's embedding of the picture is compared with those of 17 concepts, whose thresholds are lower where one of 3 others is near.
//!
//! In: a picture as it would be shown. Out: the network's verdict, and nothing but a clear one lets a picture through.

use anyhow::{Context, Result, bail, ensure};
use ndarray::{ArrayD, IxDyn};

use crate::bundle::{ClipPreparation, SafetyFiles, names};
use crate::output::Picture;
use crate::runtime::{Cancel, Network, NetworkOptions, Runtime, Tensor};

/// A safety checker that is open.
pub struct SafetyChecker {
    network: Network,
    preparation: ClipPreparation,
    /// Its two inputs and its verdict, as its file calls them.
    ports: [String; 3],
}

impl SafetyChecker {
    /// Opens the network of `files`.
    ///
    /// # Errors
    /// It does not load; the run was cancelled.
    pub fn open(runtime: &Runtime, files: &SafetyFiles, options: &NetworkOptions, cancel: &Cancel) -> Result<Self> {
        let network = Network::open(runtime, &files.network, options, cancel).context("safety_checker")?;
        let named = |ports: &[crate::runtime::Port], names: &[&str]| {
            let found = crate::bundle::find(ports, names).map(|port| port.name.clone());
            found.with_context(|| format!("safety_checker: has no `{}`", names[0]))
        };
        let ports = [
            named(network.inputs(), names::CLIP_INPUT)?,
            named(network.inputs(), names::SHOWN)?,
            named(network.outputs(), names::VERDICT)?,
        ];
        Ok(Self { network, preparation: files.preparation.clone(), ports })
    }

    /// Whether `picture` must not be shown.
    ///
    /// # Errors
    /// The network fails, or its verdict is neither true nor false: then the picture must not be shown either.
    pub fn holds_back(&mut self, picture: &Picture, cancel: &Cancel) -> Result<bool> {
        let clip_input = Tensor::Float(clip_input(&self.preparation, picture)?);
        let shown = picture.on_white();
        let pixels = shown.pixels.iter().map(|byte| f32::from(*byte) / 255.0).collect();
        let shape = IxDyn(&[1, shown.height as usize, shown.width as usize, 3]);
        let images = Tensor::Float(ArrayD::from_shape_vec(shape, pixels)?);
        let [clip_name, image_name, verdict_name] = &self.ports;
        let inputs = [(clip_name.as_str(), &clip_input), (image_name.as_str(), &images)];
        let outputs = self.network.run(&inputs, &[verdict_name], cancel).context("safety_checker")?;
        let verdict = outputs.first().context("safety_checker: gave nothing")?;
        ensure!(verdict.len() == 1, "safety_checker: its verdict is of shape {:?}, expected one value", verdict.shape());
        match verdict.first() {
            Some(&0.0) => Ok(false),
            Some(&1.0) => Ok(true),
            other => bail!("safety_checker: its verdict is {other:?}, expected true or false"),
        }
    }
}

/// A picture as CLIP sees it: `[1, 3, H, W]` f32, about 0.
///
/// # Errors
/// A side is larger than pictures may be after scaling.
pub fn clip_input(preparation: &ClipPreparation, picture: &Picture) -> Result<ArrayD<f32>> {
    let ClipPreparation { cut_px: (width, height), factor, mean, deviation, .. } = preparation;
    let (scaled_width, scaled_height) = preparation.scaled(picture.width, picture.height);
    let (scaled_width, scaled_height) = (u32::try_from(scaled_width)?, u32::try_from(scaled_height)?);
    let scaled = picture.on_white().resize_bicubic(scaled_width, scaled_height)?;
    let (left, top) = ((scaled_width - width) as usize / 2, (scaled_height - height) as usize / 2);
    let (rows, columns, stride) = (*height as usize, *width as usize, scaled_width as usize);
    let value = |index: ndarray::IxDyn| {
        let (channel, row, column) = (index[1], index[2], index[3]);
        let byte = scaled.pixels.get(((top + row) * stride + left + column) * 3 + channel).copied().unwrap_or_default();
        (f32::from(byte) * factor - mean[channel]) / deviation[channel]
    };
    Ok(ArrayD::from_shape_fn(IxDyn(&[1, 3, rows, columns]), value))
}
