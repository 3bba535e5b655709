//! Not written yet.
use super::config::Config;
use super::{Run, Sampler, Step};
use anyhow::{Result, bail};
use ndarray::ArrayD;
pub(super) struct UniPc;
impl UniPc {
    pub(super) fn new(config: &Config, _run: &Run) -> Result<Self> {
        bail!("sampler `{}` is not there yet", config.kind())
    }
}
impl Sampler for UniPc {
    fn timesteps(&self) -> &[f32] {
        &[]
    }
    fn step(&mut self, _: usize, _: &ArrayD<f32>, _: &ArrayD<f32>, _: Option<&ArrayD<f32>>) -> Result<Step> {
        bail!("not there yet")
    }
    fn add_noise(&self, _: &ArrayD<f32>, _: &ArrayD<f32>, _: usize) -> Result<ArrayD<f32>> {
        bail!("not there yet")
    }
}
