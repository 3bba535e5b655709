//! A component: one ONNX file with a role, and what that role must take and give.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::contract::Conditioning;
use super::json::Object;
use super::names;
use super::onnx::{Header, read_header};
use crate::runtime::{Port, Precision};

/// What a component does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Words into embeddings.
    TextEncoder,
    /// The second text encoder: SDXL's and Stable Diffusion 3's larger CLIP, Flux's T5.
    TextEncoder2,
    /// The third text encoder: Stable Diffusion 3's T5.
    TextEncoder3,
    /// One denoising prediction.
    Unet,
    /// One denoising prediction of a transformer over patches.
    Transformer,
    /// A picture into embeddings.
    ImageEncoder,
    /// The first frame of a clip into its first latents, and what the encoder remembers of it.
    VaeEncoderFirst,
    /// A picture into latents; of a clip further frames into further latents.
    VaeEncoder,
    /// The first latents of a clip into its first frame, and what the decoder remembers of it.
    VaeDecoderFirst,
    /// Latents into a picture; of a clip further latents into further frames.
    VaeDecoder,
    /// Latents into a picture, small and approximate, in place of the decoder and for previews.
    TinyDecoder,
    /// The same, smaller yet, for previews alone.
    PreviewDecoder,
    /// A picture into a latent vector.
    Encoder,
    /// A latent vector into a picture.
    Decoder,
    /// A latent vector into a style.
    Mapping,
    /// Styles into a picture.
    Synthesis,
}

impl Role {
    /// Every role, in the order in which they are used.
    pub const ALL: [Self; 16] = [
        Self::TextEncoder,
        Self::TextEncoder2,
        Self::TextEncoder3,
        Self::ImageEncoder,
        Self::VaeEncoderFirst,
        Self::VaeEncoder,
        Self::Encoder,
        Self::Mapping,
        Self::Unet,
        Self::Transformer,
        Self::PreviewDecoder,
        Self::TinyDecoder,
        Self::VaeDecoderFirst,
        Self::VaeDecoder,
        Self::Decoder,
        Self::Synthesis,
    ];

    /// The name of its folder in a bundle, by which messages name it.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
            Self::TextEncoder3 => "text_encoder_3",
            Self::Unet => "unet",
            Self::Transformer => "transformer",
            Self::ImageEncoder => "image_encoder",
            Self::VaeEncoderFirst => "vae_encoder_first",
            Self::VaeEncoder => "vae_encoder",
            Self::VaeDecoderFirst => "vae_decoder_first",
            Self::VaeDecoder => "vae_decoder",
            Self::TinyDecoder => "vae_decoder_tiny",
            Self::PreviewDecoder => "preview_decoder",
            Self::Encoder => "encoder",
            Self::Decoder => "decoder",
            Self::Mapping => "mapping",
            Self::Synthesis => "synthesis",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.folder())
    }
}

/// The first of `ports` that carries one of `names`.
#[must_use]
pub fn find<'p>(ports: &'p [Port], names: &[&str]) -> Option<&'p Port> {
    names.iter().find_map(|name| ports.iter().find(|port| port.name == *name))
}

/// A component of a bundle, checked from the outside.
#[derive(Debug, Clone)]
pub struct Component {
    /// What it does.
    pub role: Role,
    /// The plain ONNX file, which gives the bundle its shape; the first of the variants where there is no plain one.
    pub path: PathBuf,
    /// Its files by precision, the plain one among them.
    pub variants: BTreeMap<Precision, PathBuf>,
    /// What the file says of itself.
    pub header: Header,
    config: Option<Object>,
}

impl Component {
    /// Reads the component of `role` in the bundle `root`; `None` when its folder is not there.
    pub(super) fn open(root: &Path, role: Role, conditioning: Conditioning) -> Result<Option<Self>> {
        let folder = root.join(role.folder());
        if !folder.is_dir() {
            return Ok(None);
        }
        Self::open_in(&folder, role, conditioning).map(Some)
    }

    /// Reads the component of `role` whose files lie in `folder`.
    pub(super) fn open_in(folder: &Path, role: Role, conditioning: Conditioning) -> Result<Self> {
        let mut variants: BTreeMap<Precision, PathBuf> = VARIANTS
            .into_iter()
            .map(|(precision, name)| (precision, folder.join(name)))
            // Backwards, so that of two names for one precision the first stays.
            .rev()
            .filter(|(_, path)| path.is_file())
            .collect();
        let plain = folder.join("model.onnx");
        let path = match variants.values().next() {
            Some(variant) if !plain.is_file() => variant.clone(),
            _ => plain,
        };
        ensure!(path.is_file(), "{}: there is no such file, expected the {role} as ONNX", path.display());
        let header = read_header(&path)?;
        if path.ends_with("model.onnx") {
            variants.insert(plain_precision(&header), path.clone());
        }
        let config_path = folder.join("config.json");
        let config = match std::fs::symlink_metadata(&config_path) {
            Ok(_) => Some(Object::open(&config_path)?.called(format!("{role}/config.json"))),
            Err(_) => None,
        };
        let component = Self { role, path, variants, header, config };
        component.check_ports(conditioning).with_context(|| component.path.display().to_string())?;
        Ok(component)
    }

    /// The precisions that there are files of, as headers call them.
    #[must_use]
    pub fn precisions(&self) -> Vec<String> {
        let of = |(precision, path): (&Precision, &PathBuf)| match *path == self.path {
            true => self.header.precision.clone(),
            false => precision.weights().to_owned(),
        };
        self.variants.iter().map(of).collect()
    }

    /// The file whose weights are of `precision`, as [`Component::precisions`] lists it.
    #[must_use]
    pub fn file_of(&self, precision: &str) -> Option<&Path> {
        if self.header.precision == precision {
            return Some(&self.path);
        }
        self.variants.iter().find(|(variant, _)| variant.weights() == precision).map(|(_, path)| path.as_path())
    }

    /// Reads the variant of `precision` and checks that it has the ports of the plain file.
    ///
    /// # Errors
    /// There is none; the file is broken, as for [`read_header`]; its ports are others.
    pub fn variant(&self, precision: Precision) -> Result<(&Path, Header)> {
        let path = self.variants.get(&precision).with_context(|| format!("{} has no {precision} file", self.role))?;
        if *path == self.path {
            return Ok((path, self.header.clone()));
        }
        let header = read_header(path)?;
        for (of_plain, found) in [(&self.header.inputs, &header.inputs), (&self.header.outputs, &header.outputs)] {
            // A variant may have other element types, and shapes that are fixed where the plain file's are not.
            let fits = |port: &Port| found.iter().any(|other| other.name == port.name && other.shape.len() == port.shape.len());
            ensure!(
                of_plain.len() == found.len() && of_plain.iter().all(fits),
                "{}: has the ports {}, and {} has {}",
                path.display(),
                list(found),
                self.path.display(),
                list(of_plain)
            );
        }
        Ok((path, header))
    }

    /// A whole number of `config.json` within `range`; `None` when it is not said.
    pub(super) fn integer(&self, key: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<usize>> {
        self.config.as_ref().map_or(Ok(None), |config| config.integer(key, range))
    }

    /// A finite number of `config.json`; `None` when it is not said.
    pub(crate) fn number(&self, key: &str) -> Result<Option<f32>> {
        self.config.as_ref().map_or(Ok(None), |config| config.number(key))
    }

    /// The length of a list of `config.json`; `None` when it is not said.
    pub(super) fn list_length(&self, key: &str) -> Result<Option<usize>> {
        self.config.as_ref().map_or(Ok(None), |config| config.list_length(key))
    }

    /// A table of finite numbers of `config.json`; `None` when it is not said.
    pub(super) fn rows(&self, key: &str) -> Result<Option<Vec<Vec<f32>>>> {
        let Some(value) = self.value(key).filter(|value| !value.is_null()) else { return Ok(None) };
        #[expect(clippy::cast_possible_truncation, reason = "Kiln computes in f32")]
        let number = |value: &serde_json::Value| value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        let row = |row: &serde_json::Value| row.as_array()?.iter().map(number).collect::<Option<Vec<f32>>>();
        let rows = value.as_array().and_then(|rows| rows.iter().map(row).collect::<Option<Vec<_>>>());
        rows.map(Some).with_context(|| format!("{}/config.json: `{key}` is not a table of finite numbers", self.role))
    }

    /// A raw value of `config.json`.
    pub(crate) fn value(&self, key: &str) -> Option<&serde_json::Value> {
        self.config.as_ref()?.entries.get(key)
    }

    /// How many token ids a text encoder knows; `None` when it is not said.
    ///
    /// # Errors
    /// `vocab_size` of `config.json` is no sensible number.
    pub fn vocabulary_size(&self) -> Result<Option<usize>> {
        self.integer("vocab_size", 1..=10_000_000)
    }

    /// The input that carries one of `names`.
    #[must_use]
    pub fn input(&self, names: &[&str]) -> Option<&Port> {
        find(&self.header.inputs, names)
    }

    fn check_ports(&self, conditioning: Conditioning) -> Result<()> {
        let role = self.role;
        for (meaning, rank, names) in role.inputs(conditioning) {
            let Some(port) = self.input(names) else {
                bail!(
                    "is not a {role}: it takes {}, expected an input `{}` for the {meaning}",
                    list(&self.header.inputs),
                    names[0]
                );
            };
            if *rank == 1 {
                ensure!(port.shape.len() <= 1, "input `{}` has shape {}, expected a number", port.name, port.shape_text());
                continue;
            }
            ensure!(
                port.shape.is_empty() || port.shape.len() == *rank,
                "input `{}` has shape {}, expected {rank} dimensions for the {meaning}",
                port.name,
                port.shape_text()
            );
        }
        for port in self.header.inputs.iter().chain(&self.header.outputs) {
            if let Some(size) = port.shape.iter().flatten().find(|size| **size == 0 || **size > 1 << 20) {
                bail!("`{}` has shape {}, and no dimension of a {role} is {size}", port.name, port.shape_text());
            }
        }
        let known = role.known(conditioning);
        let is_past = |port: &Port| {
            matches!((role, conditioning), (Role::VaeDecoder | Role::VaeEncoder, Conditioning::CausalClip))
                && port.name.starts_with(names::PAST)
        };
        let is_known = |port: &Port| is_past(port) || known.iter().any(|names| names.contains(&port.name.as_str()));
        if let Some(port) = self.header.inputs.iter().find(|port| !is_known(port)) {
            bail!("takes an input `{}` ({}) that Kiln does not know for a {role}", port.name, port.shape_text());
        }
        Ok(())
    }
}

/// File names of variants by the precision of their weights, as exporters of the ONNX community write them.
const VARIANTS: [(Precision, &str); 4] = [
    (Precision::Fp16, "model_fp16.onnx"),
    (Precision::Int8, "model_int8.onnx"),
    (Precision::Int8, "model_quantized.onnx"),
    (Precision::Q4, "model_q4.onnx"),
];

/// The precision of a plain file, by what most of its weights are.
fn plain_precision(header: &Header) -> Precision {
    Precision::ALL.into_iter().find(|precision| precision.weights() == header.precision).unwrap_or_default()
}

fn list(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "nothing".into();
    }
    ports.iter().map(|port| format!("`{}`", port.name)).collect::<Vec<_>>().join(", ")
}
