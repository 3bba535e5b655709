//! What the verbs that read pictures have in common: the model, how its equation is solved, the pictures.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::device::DeviceArguments;
use super::request::parse_memory;
use crate::bundle::{Bundle, Shelf, sha256_of_bytes};
use crate::engine::Engine;
use crate::output::{Picture, read_limited};
use crate::plan::{Memory, Settings};
use crate::request::{Request, SamplerChoice};

#[derive(Debug, clap::Args)]
pub(super) struct ReadingArguments {
    /// The model: a folder, or a name that `kiln models` lists
    #[arg(long, short, value_name = "DIR")]
    model: PathBuf,

    /// The picture's class, of a model that knows classes
    #[arg(long, value_name = "NAME")]
    class: Option<String>,

    /// Where random numbers begin, of a model that draws some
    #[arg(long, short, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = super::number::whole::<u64>)]
    seed: u64,

    /// Steps of the way through noise (cnf, score, ddpm) [default: the model's own]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    steps: Option<usize>,

    /// What solves the equation of a field (cnf, score): euler, heun, rk4, dopri5 [default: the model's own]
    #[arg(long, value_name = "NAME")]
    sampler: Option<String>,

    /// Error that a step may have, for a solver that chooses its own steps (dopri5)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    tolerance: Option<f32>,

    #[command(flatten)]
    device: DeviceArguments,

    /// low: load each component when it is needed and drop it after; normal: keep all [default: normal]
    #[arg(long, value_name = "low|normal", help_heading = "Device", value_parser = parse_memory)]
    memory: Option<Memory>,
}

impl ReadingArguments {
    /// The model as it was typed.
    pub(super) fn model(&self) -> String {
        self.model.display().to_string()
    }

    /// The model, opened.
    pub(super) fn engine(&self, runtime: Option<&Path>) -> Result<Engine> {
        let folder = Shelf::usual().find(Some(&self.model))?;
        let settings = Settings { memory: self.memory.unwrap_or_default(), ..self.device.settings()? };
        Engine::open(&folder, &settings, runtime)
    }

    /// What is asked of it.
    pub(super) fn request(&self) -> Result<Request> {
        let named = self.sampler.as_deref().map(SamplerChoice::named).transpose().context("--sampler")?;
        Ok(Request {
            seed: Some(self.seed),
            steps: self.steps,
            sampler: SamplerChoice { tolerance: self.tolerance, ..named.unwrap_or_default() },
            ..Request::new(self.class.as_deref().unwrap_or_default())
        })
    }

    /// Whether a model that knows classes has to find the picture's itself.
    pub(super) fn leaves_class_open(&self, bundle: &Bundle) -> bool {
        self.class.is_none() && !bundle.classes.is_empty()
    }
}

/// Reads a picture and brings it to the size of `bundle`; with the SHA-256 of its file.
pub(super) fn read_picture(path: &Path, bundle: &Bundle) -> Result<(Picture, String)> {
    // One reading for both: the file may change while the model runs.
    let bytes = read_limited(path)?;
    let (picture, sum) = (Picture::read(&bytes, &path.display().to_string())?, sha256_of_bytes(&bytes));
    let (width, height) = bundle.default_size();
    if (picture.width, picture.height) != (width, height) {
        let name = path.display();
        log::warn!("{name} is {}x{}, and is brought to the model's {width}x{height}", picture.width, picture.height);
    }
    Ok((picture.resize(width, height)?, sum))
}
