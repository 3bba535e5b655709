//! `kiln upscale`: enlarges a picture with a super-resolution network.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::bar::Bar;
use super::device::DeviceArguments;
use super::target::{check_output, free_name};
use crate::output::{self, Picture, Provenance, Target, UpscaleRecord, Written, read_limited};
use crate::plan::Settings;
use crate::refuse;
use crate::runtime::{Cancel, Fallback, NetworkOptions, Runtime, logical_cores};
use crate::upscale::Upscaler;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A PNG, JPEG or WebP file
    picture: PathBuf,

    /// The network that enlarges: an ONNX file, or a folder with model.onnx and perhaps a card
    #[arg(long, short, value_name = "PATH")]
    model: PathBuf,

    /// Where the picture goes: .png, .jpg or .webp, `-` for standard output [default: made from the picture's name]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Side of the tiles in pixels that the network sees at once [default: the card's, else 256]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    tile: Option<usize>,

    /// No progress, no path; only errors
    #[arg(long, short)]
    pub(super) quiet: bool,

    #[command(flatten)]
    device: DeviceArguments,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let target = arguments.output.as_deref().map(|path| Target::new(path, None)).transpose()?;
    target.iter().try_for_each(|target| check_output(target, false))?;
    let bytes = read_limited(&arguments.picture)?;
    let name = arguments.picture.display().to_string();
    let picture = Picture::read(&bytes, &name)?;
    // A JPEG says nothing of its making, and what another program wrote is not Kiln's.
    let mut record = output::read_bytes(&bytes, &name).ok().and_then(|(_, record)| record);
    let runtime = Runtime::open(runtime)?;
    let mut enlarger = Enlarger::open(&arguments.model, &arguments.device.settings()?, &runtime, arguments.quiet, cancel)?;
    let enlarged = enlarger.enlarge(&picture, arguments.tile, record.as_mut(), cancel)?;
    let target = match target {
        Some(target) => target,
        None => {
            let stem = arguments.picture.file_stem().unwrap_or_default().to_string_lossy();
            Target::new(&free_name(&stem, &format!("{}x", enlarger.factor()), ".png"), None)?
        }
    };
    cancel.check()?;
    match output::write(&enlarged, record.as_ref(), &target)? {
        Written::Bytes(bytes) => super::print(&bytes)?,
        Written::File(path) if !arguments.quiet => super::print(format!("{}\n", path.display()).as_bytes())?,
        Written::File(_) | Written::Streamed => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// A network that enlarges, and a bar that says how far it is.
pub(super) struct Enlarger {
    upscaler: Upscaler,
    quiet: bool,
}

impl Enlarger {
    /// Opens the network at `path` on the provider and with the threads of `settings`.
    pub(super) fn open(path: &Path, settings: &Settings, runtime: &Runtime, quiet: bool, cancel: &Cancel) -> Result<Self> {
        settings.check()?;
        let providers = settings.providers.common().cloned().unwrap_or_default();
        if let Some(lacking) = providers.iter().find(|setup| !runtime.has(setup.provider())) {
            refuse!("--provider: {} is not in ONNX Runtime {}", lacking.provider(), runtime.version());
        }
        let options = NetworkOptions {
            threads: settings.threads.unwrap_or_else(logical_cores),
            providers,
            fallback: if settings.allow_fallback { Fallback::Allowed } else { Fallback::Refused },
            ..NetworkOptions::default()
        };
        Ok(Self { upscaler: Upscaler::open(runtime, path, &options, cancel)?, quiet })
    }

    /// How many times as large a picture becomes.
    pub(super) fn factor(&self) -> usize {
        self.upscaler.factor()
    }

    /// Enlarges `picture` and notes in its record by what.
    pub(super) fn enlarge(
        &mut self,
        picture: &Picture,
        tile: Option<usize>,
        record: Option<&mut Provenance>,
        cancel: &Cancel,
    ) -> Result<Picture> {
        let mut bar = Bar::new(!self.quiet && std::io::stderr().is_terminal());
        let tell = |done, all| bar.wait(format!("enlarging: {done} of {all} tiles"));
        let outcome = self.upscaler.enlarge(picture, tile, cancel, tell);
        bar.finish();
        if let Some(record) = record {
            let (name, factor) = (self.upscaler.name().to_owned(), self.factor());
            record.upscale.push(UpscaleRecord { name, sha256: self.upscaler.sha256()?, factor });
        }
        outcome
    }
}
