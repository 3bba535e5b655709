//! Families: which algorithm a bundle's class stands for, and the facts of it that its pipeline needs.
//!
//! In: the class name, the components. Out: a [`Family`]. `models/README.md` describes the files of each family and is the norm.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::component::{Component, Role};
use super::names;

/// Values that a latent or a style may have; more would fill the memory before a network is asked.
const LARGEST_LATENT: u64 = 1 << 20;
const LARGEST_STYLE_COUNT: u64 = 256;

/// Which layout a text-to-picture bundle has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// One text encoder: SD 1.x, 2.x, SD-Turbo, latent consistency models, the small models in the box.
    StableDiffusion,
    /// Two text encoders, pooled embeddings and sizes: SDXL and what was distilled from it.
    StableDiffusionXl,
    /// A transformer told by two CLIP encoders and a T5, which may be missing: Stable Diffusion 3 and 3.5.
    StableDiffusion3,
    /// A transformer over packed latents told by CLIP's pooled embedding and a T5: Flux.
    Flux,
    /// Stable Diffusion with motion modules between its blocks, which makes clips: AnimateDiff and what was distilled from it.
    AnimateDiff,
    /// A transformer over a clip's patches told by a UMT5, a decoder that goes through the clip: Wan 2.1.
    Wan,
}

impl Architecture {
    /// The component that predicts.
    #[must_use]
    pub fn denoiser(self) -> Role {
        if self.is_transformer() { Role::Transformer } else { Role::Unet }
    }

    /// Whether it is a transformer that follows a rectified flow, rather than a convolutional denoiser.
    #[must_use]
    pub fn is_transformer(self) -> bool {
        matches!(self, Self::StableDiffusion3 | Self::Flux | Self::Wan)
    }

    /// Whether it makes clips, many frames at once, rather than pictures.
    #[must_use]
    pub fn makes_clips(self) -> bool {
        matches!(self, Self::AnimateDiff | Self::Wan)
    }

    /// Its text encoders, each with the folder of its tokenizer, in the order in which their embeddings are joined.
    #[must_use]
    pub fn text_encoders(self) -> &'static [(Role, &'static str)] {
        const ALL: &[(Role, &str)] =
            &[(Role::TextEncoder, "tokenizer"), (Role::TextEncoder2, "tokenizer_2"), (Role::TextEncoder3, "tokenizer_3")];
        match self {
            Self::StableDiffusion | Self::AnimateDiff | Self::Wan => &ALL[..1],
            Self::StableDiffusionXl | Self::Flux => &ALL[..2],
            Self::StableDiffusion3 => ALL,
        }
    }
}

/// The algorithm that turns a bundle's components into pictures.
#[derive(Debug, Clone, PartialEq)]
pub enum Family {
    /// A denoiser in the latents of an autoencoder, told by text.
    LatentDiffusion(Architecture),
    /// A variational autoencoder.
    Vae {
        /// Values of a latent.
        latent_size: usize,
        /// Standard deviation of a picture's values about the decoder's, both in [-1, 1].
        deviation: f32,
    },
    /// A style-based generator.
    Gan {
        /// Values of a latent.
        latent_size: usize,
        /// Layers that take a style each.
        style_count: usize,
        /// The mean style, one row for all classes or one for each: what truncation draws styles toward.
        mean_styles: Vec<Vec<f32>>,
        /// Truncation when the person names none.
        truncation: f32,
    },
    /// An invertible network.
    Flow {
        /// Values of a latent, as many as a picture has.
        latent_size: usize,
        /// Temperature when the person names none.
        temperature: f32,
    },
    /// A velocity field that is integrated.
    ContinuousFlow,
    /// A score at each noise level.
    Score {
        /// The least noise level it was trained for.
        sigma_min: f32,
        /// The greatest.
        sigma_max: f32,
    },
    /// A denoiser of pixels: ancestral, implicit, distilled.
    Diffusion,
}

/// A family before its components were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Text(Architecture),
    Vae,
    Gan,
    Flow,
    ContinuousFlow,
    Score,
    Diffusion,
}

/// The pipeline classes that this build runs; exporters put a prefix before diffusers' own names.
const CLASSES: [(&str, Layout); 28] = [
    ("StableDiffusionPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("StableDiffusionImg2ImgPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("StableDiffusionInpaintPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("StableDiffusionControlNetPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("StableDiffusionControlNetImg2ImgPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("StableDiffusionControlNetInpaintPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("StableDiffusionXLControlNetPipeline", Layout::Text(Architecture::StableDiffusionXl)),
    ("LatentConsistencyModelPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("LatentConsistencyModelImg2ImgPipeline", Layout::Text(Architecture::StableDiffusion)),
    ("StableDiffusionXLPipeline", Layout::Text(Architecture::StableDiffusionXl)),
    ("StableDiffusionXLImg2ImgPipeline", Layout::Text(Architecture::StableDiffusionXl)),
    ("StableDiffusionXLInpaintPipeline", Layout::Text(Architecture::StableDiffusionXl)),
    ("StableDiffusion3Pipeline", Layout::Text(Architecture::StableDiffusion3)),
    ("StableDiffusion3Img2ImgPipeline", Layout::Text(Architecture::StableDiffusion3)),
    ("FluxPipeline", Layout::Text(Architecture::Flux)),
    ("FluxImg2ImgPipeline", Layout::Text(Architecture::Flux)),
    ("AnimateDiffPipeline", Layout::Text(Architecture::AnimateDiff)),
    ("AnimateDiffVideoToVideoPipeline", Layout::Text(Architecture::AnimateDiff)),
    ("WanPipeline", Layout::Text(Architecture::Wan)),
    ("VaePipeline", Layout::Vae),
    ("GanPipeline", Layout::Gan),
    ("FlowPipeline", Layout::Flow),
    ("ContinuousFlowPipeline", Layout::ContinuousFlow),
    ("ScorePipeline", Layout::Score),
    ("DDPMPipeline", Layout::Diffusion),
    ("DDIMPipeline", Layout::Diffusion),
    ("ConsistencyModelPipeline", Layout::Diffusion),
    ("LCMPipeline", Layout::Diffusion),
];

impl Layout {
    /// Finds the layout of a diffusers class.
    pub(super) fn of(class_name: &str) -> Result<Self> {
        let plain = class_name.strip_prefix("ORT").or_else(|| class_name.strip_prefix("Onnx")).unwrap_or(class_name);
        if let Some((_, layout)) = CLASSES.iter().find(|(name, _)| *name == plain) {
            return Ok(*layout);
        }
        let is_of_a_task = |name: &str| ["Img2Img", "Inpaint", "ToVideo"].iter().any(|task| name.contains(task));
        let known: Vec<&str> = CLASSES.iter().map(|(name, _)| *name).filter(|name| !is_of_a_task(name)).collect();
        bail!("`_class_name` is `{class_name}`, and this build runs {}", known.join(", "));
    }

    /// The components that it cannot do without.
    pub(super) fn required(self) -> &'static [Role] {
        match self {
            Self::Text(Architecture::StableDiffusion | Architecture::AnimateDiff) => {
                &[Role::TextEncoder, Role::Unet, Role::VaeDecoder]
            }
            Self::Text(Architecture::StableDiffusionXl) => &[Role::TextEncoder, Role::TextEncoder2, Role::Unet, Role::VaeDecoder],
            Self::Text(Architecture::StableDiffusion3 | Architecture::Flux) => {
                &[Role::TextEncoder, Role::TextEncoder2, Role::Transformer, Role::VaeDecoder]
            }
            Self::Text(Architecture::Wan) => &[Role::TextEncoder, Role::Transformer, Role::VaeDecoderFirst, Role::VaeDecoder],
            Self::Vae | Self::Flow => &[Role::Encoder, Role::Decoder],
            Self::Gan => &[Role::Mapping, Role::Synthesis],
            Self::ContinuousFlow | Self::Score | Self::Diffusion => &[Role::Unet],
        }
    }

    /// The components that it looks for.
    pub(super) fn roles(self) -> &'static [Role] {
        match self {
            Self::Text(Architecture::StableDiffusion3) => &[
                Role::TextEncoder,
                Role::TextEncoder2,
                Role::TextEncoder3,
                Role::VaeEncoder,
                Role::Transformer,
                Role::PreviewDecoder,
                Role::TinyDecoder,
                Role::VaeDecoder,
            ],
            Self::Text(Architecture::Flux) => &[
                Role::TextEncoder,
                Role::TextEncoder2,
                Role::VaeEncoder,
                Role::Transformer,
                Role::PreviewDecoder,
                Role::TinyDecoder,
                Role::VaeDecoder,
            ],
            Self::Text(Architecture::Wan) => self.required(),
            Self::Text(_) => &[
                Role::TextEncoder,
                Role::TextEncoder2,
                Role::VaeEncoder,
                Role::Unet,
                Role::PreviewDecoder,
                Role::TinyDecoder,
                Role::VaeDecoder,
            ],
            other => other.required(),
        }
    }

    /// Whether it is nothing without `scheduler/scheduler_config.json`; a field that can be integrated has solvers instead.
    pub(super) fn needs_scheduler(self) -> bool {
        matches!(self, Self::Text(_) | Self::Diffusion)
    }

    /// Whether it may have `scheduler/scheduler_config.json`.
    pub(super) fn takes_scheduler(self) -> bool {
        !matches!(self, Self::Vae | Self::Gan | Self::Flow)
    }

    /// The component whose input or output is the picture, and that port.
    pub(super) fn picture_role(self) -> Role {
        match self {
            Self::Text(architecture) => architecture.denoiser(),
            Self::ContinuousFlow | Self::Score | Self::Diffusion => Role::Unet,
            Self::Vae | Self::Flow => Role::Decoder,
            Self::Gan => Role::Synthesis,
        }
    }
}

impl Family {
    /// Reads the facts of `layout` out of its components.
    ///
    /// * `values`: of a picture, all channels together
    /// * `classes`: how many classes the components tell apart; 0 for none
    pub(super) fn read(layout: Layout, components: &BTreeMap<Role, Component>, values: usize, classes: usize) -> Result<Self> {
        let component = |role: Role| components.get(&role).with_context(|| format!("there is no `{role}/model.onnx`"));
        Ok(match layout {
            Layout::Text(architecture) => {
                ensure!(
                    architecture.text_encoders().len() > 1 || !components.contains_key(&Role::TextEncoder2),
                    "model_index.json: `_class_name` is of a model with one text encoder, and there is a text_encoder_2"
                );
                Self::LatentDiffusion(architecture)
            }
            Layout::Vae => {
                let decoder = component(Role::Decoder)?;
                let deviation = decoder.number("deviation")?.unwrap_or(1.0);
                ensure!(
                    deviation > 0.0 && deviation <= 100.0,
                    "decoder/config.json: `deviation` is {deviation}, expected above 0 to 100"
                );
                Self::Vae { latent_size: latent_size(decoder)?, deviation }
            }
            Layout::Gan => {
                let mapping = component(Role::Mapping)?;
                let truncation = mapping.number("truncation")?.unwrap_or(1.0);
                ensure!((0.0..=1.0).contains(&truncation), "mapping/config.json: `truncation` is {truncation}, expected 0 to 1");
                let (style_count, mean_styles) = styles(mapping, component(Role::Synthesis)?, classes)?;
                Self::Gan { latent_size: latent_size(mapping)?, style_count, mean_styles, truncation }
            }
            Layout::Flow => {
                let decoder = component(Role::Decoder)?;
                let latent_size = latent_size(decoder)?;
                ensure!(
                    latent_size == values,
                    "decoder/config.json: `latent_size` is {latent_size}, and a picture has {values} values: a flow keeps their number"
                );
                let temperature = decoder.number("temperature")?.unwrap_or(1.0);
                ensure!(
                    (0.0..=2.0).contains(&temperature),
                    "decoder/config.json: `temperature` is {temperature}, expected 0 to 2"
                );
                Self::Flow { latent_size, temperature }
            }
            Layout::ContinuousFlow => Self::ContinuousFlow,
            Layout::Score => {
                let unet = component(Role::Unet)?;
                let sigma_min = unet.number("sigma_min")?.unwrap_or(0.01);
                let sigma_max = unet.number("sigma_max")?.unwrap_or(50.0);
                ensure!(
                    sigma_min > 0.0 && sigma_min < sigma_max && sigma_max <= 1e5,
                    "unet/config.json: `sigma_min` is {sigma_min} and `sigma_max` {sigma_max}, expected above 0, the first below the second"
                );
                Self::Score { sigma_min, sigma_max }
            }
            Layout::Diffusion => Self::Diffusion,
        })
    }

    /// The name in cards and provenance where a card gives none.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::LatentDiffusion(_) => "latent_diffusion",
            Self::Vae { .. } => "vae",
            Self::Gan { .. } => "gan",
            Self::Flow { .. } => "flow",
            Self::ContinuousFlow => "cnf",
            Self::Score { .. } => "score",
            Self::Diffusion => "ddpm",
        }
    }

    /// Whether one pass through the networks makes a picture, with no steps to choose.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        matches!(self, Self::Vae { .. } | Self::Gan { .. } | Self::Flow { .. })
    }

    /// Whether its network is a field that an ODE solver can follow.
    #[must_use]
    pub fn is_integrated(&self) -> bool {
        matches!(self, Self::ContinuousFlow | Self::Score { .. })
    }
}

fn latent_size(component: &Component) -> Result<usize> {
    let role = component.role;
    let declared = component.integer("latent_size", 1..=LARGEST_LATENT)?;
    let port = component.input(names::LATENT).with_context(|| format!("{role}: has no input for latents"))?;
    let found = port.shape.get(1).copied().flatten();
    if let (Some(declared), Some(found)) = (declared, found) {
        ensure!(declared == found, "{role}/model.onnx: takes latents of {found} values, {role}/config.json says {declared}");
    }
    let size = declared.or(found).with_context(|| format!("{role}/config.json: has no `latent_size`"))?;
    within(&format!("{role}/model.onnx: the latent"), size, LARGEST_LATENT)
}

/// What the graph says is as little to be trusted as what the configuration says.
fn within(what: &str, size: usize, largest: u64) -> Result<usize> {
    ensure!((1..=largest).contains(&(size as u64)), "{what} has a size of {size}, expected 1 to {largest}");
    Ok(size)
}

/// How many styles the synthesis network takes, and the mean ones.
fn styles(mapping: &Component, synthesis: &Component, classes: usize) -> Result<(usize, Vec<Vec<f32>>)> {
    let port = synthesis.input(names::STYLES).context("synthesis: has no input for styles")?;
    let dimension = |axis: usize| port.shape.get(axis).copied().flatten();
    let agree = |key: &str, found: Option<usize>, largest: u64| -> Result<usize> {
        let declared = synthesis.integer(key, 1..=largest)?;
        if let (Some(declared), Some(found)) = (declared, found) {
            ensure!(
                declared == found,
                "synthesis/model.onnx: `{}` is {}, synthesis/config.json says `{key}` {declared}",
                port.name,
                port.shape_text()
            );
        }
        let size = declared.or(found).with_context(|| format!("synthesis/config.json: has no `{key}`"))?;
        within(&format!("synthesis/model.onnx: `{}`", port.name), size, largest)
    };
    let count = agree("style_count", dimension(1), LARGEST_STYLE_COUNT)?;
    let size = agree("style_size", dimension(2), LARGEST_LATENT)?;
    let rows = mapping.rows("mean_styles")?.context("mapping/config.json: has no `mean_styles`, which truncation needs")?;
    ensure!(
        (rows.len() == 1 || rows.len() == classes.max(1)) && rows.iter().all(|row| row.len() == size),
        "mapping/config.json: `mean_styles` has {} rows of {} numbers, expected 1{} of {size}",
        rows.len(),
        rows.first().map_or(0, Vec::len),
        if classes > 1 { format!(" or {classes}") } else { String::new() }
    );
    Ok((count, rows))
}
