//! `--from`: what a picture says of its making, and the pictures that went into it.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::bundle::{Bundle, Role, Shelf, sha256_of_bytes, sha256_of_file};
use crate::engine::Engine;
use crate::output::{self, ClipReader, ClipRecord, Picture, Provenance};
use crate::plan::{DecoderChoice, Memory, PrecisionWish, ProviderWish, TileChoice};
use crate::request::Request;
use crate::runtime::{Provider, ProviderSetup, logical_cores};
use crate::{refusal, refuse};

/// What made a picture that is to be made again.
pub(super) struct Record {
    provenance: Provenance,
}

impl Record {
    /// Reads it out of the picture or the clip `path`, or from beside it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let (_, provenance) = output::read(path)?;
        let provenance = provenance.ok_or_else(|| {
            refusal!(
                "--from {}: the file does not say what made it; expected a picture or a clip that kiln wrote",
                path.display()
            )
        })?;
        Ok(Self { provenance })
    }

    /// The request that makes it again, but for its input pictures.
    pub(super) fn request(&self) -> Result<Request> {
        Engine::request_of(&self.provenance)
    }

    /// Where its model lies: where it lay, else by its name on the shelf.
    pub(super) fn model_folder(&self) -> Result<PathBuf> {
        match &self.provenance.bundle.path {
            Some(path) if Path::new(path).is_dir() => Ok(PathBuf::from(path)),
            _ => Shelf::usual().find(Some(Path::new(&self.provenance.bundle.name))),
        }
    }

    /// Where its model lay, as it was typed.
    pub(super) fn model_path(&self) -> Option<String> {
        self.provenance.bundle.path.clone()
    }

    /// How it moves, where it is a clip.
    pub(super) fn clip(&self) -> Option<ClipRecord> {
        self.provenance.clip
    }

    /// The threads it was made with, as far as this device has them.
    pub(super) fn threads(&self) -> Option<usize> {
        Some(self.provenance.threads.min(logical_cores())).filter(|threads| *threads > 0)
    }

    /// The memory it was made with, since that decides how guidance runs.
    pub(super) fn memory(&self) -> Option<Memory> {
        self.provenance.memory.parse().ok()
    }

    /// The decoder that made it, where it was not the full one.
    pub(super) fn decoder(&self) -> Option<DecoderChoice> {
        self.provenance
            .decoder
            .as_deref()
            .and_then(|decoder| decoder.parse().ok())
            .filter(|decoder| *decoder == DecoderChoice::Tiny)
    }

    /// Whether it was enlarged when it was finished.
    pub(super) fn was_enlarged(&self) -> bool {
        !self.provenance.upscale.is_empty()
    }

    /// The tiles it was decoded in, which show in its last digits.
    pub(super) fn tile(&self) -> Option<TileChoice> {
        match (self.provenance.tile, self.provenance.clip_tiles) {
            (Some(pixels), true) => Some(TileChoice::PixelsAndFrames(pixels)),
            (Some(pixels), false) => Some(TileChoice::Pixels(pixels)),
            (None, true) => Some(TileChoice::Frames),
            (None, false) => None,
        }
    }

    /// The providers that its components ran on, since each rounds in its own way; `auto` where the record does not say.
    pub(super) fn providers(&self) -> Result<ProviderWish> {
        let mut found = Vec::new();
        for made in &self.provenance.components {
            let Some(role) = Role::ALL.into_iter().find(|role| role.folder() == made.role) else { continue };
            // The processor stands behind those that left it something.
            let name = made.provider.split('+').next().unwrap_or_default();
            match Provider::named(name) {
                Some(provider) => found.push((role, provider)),
                None if matches!(name, "" | "not known") => {}
                None => {
                    refuse!("--from: {role} was made on `{name}`, which Kiln does not know; --provider names another provider")
                }
            }
        }
        let Some((_, first)) = found.first().copied() else { return Ok(ProviderWish::default()) };
        if found.iter().all(|(_, provider)| *provider == first) && first == Provider::Cpu {
            return Ok(ProviderWish::default().for_all(vec![ProviderSetup::new(first)]));
        }
        let names: Vec<String> = found.iter().map(|(role, provider)| format!("{role}={provider}")).collect();
        log::warn!(
            "--from: it was made on {}; the record does not hold their options, and --provider takes them where there were any",
            names.join(",")
        );
        let wish =
            |wish: ProviderWish, (role, provider): &(Role, Provider)| wish.with(*role, vec![ProviderSetup::new(*provider)]);
        Ok(found.iter().fold(ProviderWish::default(), wish))
    }

    /// The files of components that it was made with, of those that lie side by side in `folder`.
    pub(super) fn precisions(&self, folder: &Path) -> Result<PrecisionWish> {
        let bundle = Bundle::open(folder)?;
        let mut wish = PrecisionWish::default();
        for made in &self.provenance.components {
            let component = bundle.components.values().find(|component| component.role.folder() == made.role);
            let Some(component) = component.filter(|component| component.variants.len() > 1 || made.file.is_some()) else {
                continue;
            };
            let is_file = |path: &Path| match &made.file {
                Some(name) => path.file_name().is_some_and(|found| found.to_str() == Some(name)),
                None => path == component.path,
            };
            let Some((precision, _)) = component.variants.iter().find(|(_, path)| is_file(path)) else {
                let name = made.file.as_deref().unwrap_or("model.onnx");
                refuse!("--from: it was made with {name} of {}, which is not there; --precision names another file", made.role);
            };
            wish = wish.with(component.role, *precision);
        }
        Ok(wish)
    }

    /// Refuses other words with vectors of their own than those that stand in its prompt; another prompt is a new one.
    pub(super) fn check_words(&self, engine: &Engine, prompt: &str) -> Result<()> {
        let made = &self.provenance;
        if made.prompt.as_deref() != Some(prompt) {
            return Ok(());
        }
        let found = engine.words(&[prompt, made.negative.as_deref().unwrap_or_default()]);
        if let Some(lacking) = made.embeddings.iter().find(|word| !found.contains(word)) {
            refuse!(
                "--from: it was made with the embedding `{}` ({}…), which is not there; name its file with --embedding, or --force makes it \
                 without",
                lacking.name,
                lacking.sha256.get(..10).unwrap_or(&lacking.sha256)
            );
        }
        Ok(())
    }

    /// Refuses another model than the one that made it.
    pub(super) fn check_bundle(&self, bundle: &Bundle) -> Result<()> {
        let found = &bundle.fingerprint;
        if let Some(recorded) = self.provenance.bundle.sha256.as_ref().filter(|recorded| *recorded != found) {
            refuse!(
                "--from: the picture was made by model {} ({}…), and what lies in {} is not that ({}…); --force takes it all the same",
                self.provenance.bundle.name,
                recorded.get(..10).unwrap_or(recorded),
                bundle.folder.display(),
                found.get(..10).unwrap_or(found)
            );
        }
        Ok(())
    }
}

/// The pictures that go into a request, as files.
pub(super) struct Inputs {
    input: Option<PathBuf>,
    mask: Option<PathBuf>,
    control: Option<PathBuf>,
}

impl Inputs {
    /// Those that were named, else those of the record, which must not have changed since.
    pub(super) fn of(input: Option<&Path>, mask: Option<&Path>, control: Option<&Path>, record: Option<&Record>) -> Result<Self> {
        let provenance = record.map(|record| &record.provenance);
        let recorded = |path: Option<&String>, sum: Option<&String>, flag: &str| -> Result<Option<PathBuf>> {
            let Some(path) = path.map(PathBuf::from) else { return Ok(None) };
            if !path.exists() && !is_pattern(&path) {
                refuse!("--from: it was made with {}, which is not there; name the picture with {flag}", path.display());
            }
            if let Some(sum) = sum
                && sum_of(&path)? != *sum
            {
                refuse!("--from: {} has changed since; name the picture it was made with by {flag}", path.display());
            }
            Ok(Some(path))
        };
        let input = match (input, provenance) {
            (Some(path), _) => Some(path.to_path_buf()),
            (None, Some(made)) => recorded(made.input.as_ref(), made.input_sha256.as_ref(), "--input")?,
            (None, None) => None,
        };
        let mask = match (mask, provenance) {
            (Some(path), _) => Some(path.to_path_buf()),
            (None, Some(made)) => recorded(made.mask.as_ref(), made.mask_sha256.as_ref(), "--mask")?,
            (None, None) => None,
        };
        let control = match (control, provenance) {
            (Some(path), _) => Some(path.to_path_buf()),
            (None, Some(made)) => recorded(made.control.as_ref(), made.control_sha256.as_ref(), "--control")?,
            (None, None) => None,
        };
        Ok(Self { input, mask, control })
    }

    /// The clip to begin with, where the input is one.
    pub(super) fn clip(&self) -> Result<Option<ClipReader>> {
        self.input.as_deref().map(ClipReader::open).transpose().map(Option::flatten)
    }

    /// The picture to begin with.
    pub(super) fn input(&self) -> Result<Option<Picture>> {
        self.input.as_deref().map(Picture::open).transpose()
    }

    /// Where it may change.
    pub(super) fn mask(&self) -> Result<Option<Picture>> {
        self.mask.as_deref().map(Picture::open).transpose()
    }

    /// What steers the denoiser.
    pub(super) fn control(&self) -> Result<Option<Picture>> {
        self.control.as_deref().map(Picture::open).transpose()
    }

    /// Writes the files and their checksums into a picture's record.
    pub(super) fn note(&self, provenance: &mut Provenance) -> Result<()> {
        for (path, text, sum) in [
            (&self.input, &mut provenance.input, &mut provenance.input_sha256),
            (&self.mask, &mut provenance.mask, &mut provenance.mask_sha256),
            (&self.control, &mut provenance.control, &mut provenance.control_sha256),
        ] {
            if let Some(path) = path {
                *sum = Some(sum_of(path)?);
                *text = Some(path.display().to_string());
            }
        }
        Ok(())
    }
}

fn is_pattern(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().contains('%'))
}

/// SHA-256 of a file; of numbered files, of the lines that `sha256sum` would print of them.
fn sum_of(path: &Path) -> Result<String> {
    if path.is_file() {
        return sha256_of_file(path);
    }
    let mut lines = String::new();
    for file in output::numbered_files(path)? {
        let name = file.file_name().unwrap_or_default().display();
        lines.push_str(&format!("{}  {name}\n", sha256_of_file(&file)?));
    }
    Ok(sha256_of_bytes(lines.as_bytes()))
}
