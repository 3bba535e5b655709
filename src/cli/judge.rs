//! The judge: the network in whose features samples are compared, and the real pictures that they are compared with.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ndarray::{Array2, Axis, concatenate, stack};
use serde::Deserialize;

use crate::bundle::Shelf;
use crate::lineage::{Quality, RealPictures, judged};
use crate::output::Picture;
use crate::random::{Device, Generator};
use crate::runtime::{Cancel, Network, NetworkOptions, Runtime, Tensor, logical_cores};

/// What both are called on the shelf.
const JUDGE: &str = "judge";
const REAL: &str = "real";
const LARGEST_CONFIG_BYTES: u64 = 1024 * 1024;
/// Directions of the sliced distance, and the seed that they are drawn from.
const DIRECTIONS: usize = 256;
const DIRECTIONS_SEED: u64 = 0;
/// Pictures that the network is given at a time.
const BATCH: usize = 16;

/// An opened judge.
pub(super) struct Judge {
    network: Network,
    side: usize,
    real: RealPictures,
    directions: Array2<f32>,
    held_out: Array2<f32>,
}

#[derive(Deserialize)]
struct Config {
    sample_size: usize,
}

impl Judge {
    /// Opens the judge on `shelf`; `None` where it or the real pictures are not there.
    pub(super) fn open(shelf: &Shelf, runtime: Option<&Path>, cancel: &Cancel) -> Result<Option<Self>> {
        let (Some(folder), Some(pictures)) = (shelf.folder_with(JUDGE, "model.onnx"), shelf.folder_with(REAL, "sheet.png"))
        else {
            return Ok(None);
        };
        let real = RealPictures::open(&pictures)?;
        let path = folder.join("config.json");
        let about = std::fs::metadata(&path).with_context(|| path.display().to_string())?;
        ensure!(about.is_file() && about.len() <= LARGEST_CONFIG_BYTES, "{}: is no small file", path.display());
        let config = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let Config { sample_size } = serde_json::from_str(&config).with_context(|| path.display().to_string())?;
        let options = NetworkOptions { threads: logical_cores(), ..NetworkOptions::default() };
        let network = Network::open(&*Runtime::open(runtime)?, &folder.join("model.onnx"), &options, cancel)?;
        let nothing = Array2::zeros((0, 0));
        let mut judge = Self { network, side: sample_size, real, directions: nothing.clone(), held_out: nothing };
        judge.held_out = judge.features(&judge.real.held_out.clone(), cancel)?;
        let features = judge.held_out.ncols();
        let values = Generator::new(Device::Cpu, DIRECTIONS_SEED).normals(DIRECTIONS * features);
        judge.directions = Array2::from_shape_vec((DIRECTIONS, features), values)?;
        Ok(Some(judge))
    }

    /// The real pictures.
    pub(super) fn real(&self) -> &RealPictures {
        &self.real
    }

    /// The numbers of `count` held-out pictures, spread over all.
    pub(super) fn spread(&self, count: usize) -> Vec<usize> {
        (0..count).map(|number| number * self.real.held_out.len() / count.max(1)).collect()
    }

    /// How far `pictures` lie from the held-out ones.
    pub(super) fn quality(&mut self, pictures: &[Picture], cancel: &Cancel) -> Result<Quality> {
        let features = self.features(pictures, cancel)?;
        Quality::measure(self.held_out.view(), features.view(), self.directions.view())
    }

    /// How far `count` of the training pictures, spread over all, lie from the held-out ones: what a model would reach that learned them by
    /// heart. As many as there are of each row, since some distances depend on how many.
    pub(super) fn floor(&mut self, count: usize, cancel: &Cancel) -> Result<Quality> {
        let training = &self.real.training;
        let count = count.min(training.len());
        let chosen: Vec<Picture> =
            (0..count).filter_map(|number| training.get(number * training.len() / count).cloned()).collect();
        self.quality(&chosen, cancel)
    }

    /// `[N, F]` f32 features of pictures.
    fn features(&mut self, pictures: &[Picture], cancel: &Cancel) -> Result<Array2<f32>> {
        let mut parts = Vec::new();
        for batch in pictures.chunks(BATCH) {
            let tensors =
                batch.iter().map(|picture| judged(picture, self.real.tile_size, self.side)).collect::<Result<Vec<_>>>()?;
            let views: Vec<_> = tensors.iter().map(|tensor| tensor.view()).collect();
            let sample = Tensor::Float(stack(Axis(0), &views)?.into_dyn());
            let mut outputs = self.network.run(&[("sample", &sample)], &["features"], cancel)?;
            let features = outputs.pop().context("the judge gave nothing")?;
            ensure!(
                features.ndim() == 2 && features.shape().first() == Some(&batch.len()),
                "judge: `features` is {:?}, expected [{}, F]",
                features.shape(),
                batch.len()
            );
            parts.push(features.into_dimensionality::<ndarray::Ix2>()?);
        }
        let views: Vec<_> = parts.iter().map(|part| part.view()).collect();
        Ok(concatenate(Axis(0), &views)?)
    }
}
