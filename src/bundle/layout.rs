//! Layouts: which family a bundle's class name stands for, and which components its folder holds.
//!
//! In: the `_class_name` of `model_index.json`. Out: a [`Layout`]. `models/README.md` is the norm.

use anyhow::{Result, bail, ensure};

use super::component::Role;
use super::family::Architecture;
use super::json::Object;

/// The longest instruction that is believed; a prompt is to follow it.
const LONGEST_INSTRUCTION: usize = 5000;

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
const CLASSES: [(&str, Layout); 36] = [
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
    ("PixArtAlphaPipeline", Layout::Text(Architecture::PixArtAlpha)),
    ("PixArtSigmaPipeline", Layout::Text(Architecture::PixArtSigma)),
    ("SanaPipeline", Layout::Text(Architecture::Sana)),
    ("SanaSprintPipeline", Layout::Text(Architecture::SanaSprint)),
    ("SanaSprintImg2ImgPipeline", Layout::Text(Architecture::SanaSprint)),
    ("AnimateDiffPipeline", Layout::Text(Architecture::AnimateDiff)),
    ("AnimateDiffVideoToVideoPipeline", Layout::Text(Architecture::AnimateDiff)),
    ("WanPipeline", Layout::Text(Architecture::Wan)),
    ("WanImageToVideoPipeline", Layout::Text(Architecture::Wan)),
    ("LTXPipeline", Layout::Text(Architecture::Ltx)),
    ("LTXImageToVideoPipeline", Layout::Text(Architecture::Ltx)),
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
        let is_of_a_task = |name: &str| ["Img2Img", "Inpaint", "ToVideo", "ControlNet"].iter().any(|task| name.contains(task));
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
            Self::Text(
                Architecture::PixArtAlpha
                | Architecture::PixArtSigma
                | Architecture::Sana
                | Architecture::SanaSprint
                | Architecture::Ltx,
            ) => &[Role::TextEncoder, Role::Transformer, Role::VaeDecoder],
            Self::Text(Architecture::Wan) => &[Role::TextEncoder, Role::Transformer, Role::VaeDecoderFirst, Role::VaeDecoder],
            Self::Vae | Self::Flow => &[Role::Encoder, Role::Decoder],
            Self::Gan => &[Role::Mapping, Role::Synthesis],
            Self::ContinuousFlow | Self::Score | Self::Diffusion => &[Role::Unet],
        }
    }

    /// The components that it looks for.
    pub(super) fn roles(self) -> &'static [Role] {
        match self {
            Self::Text(Architecture::Wan) => &[
                Role::TextEncoder,
                Role::ImageEncoder,
                Role::VaeEncoderFirst,
                Role::VaeEncoder,
                Role::Transformer,
                Role::VaeDecoderFirst,
                Role::VaeDecoder,
            ],
            Self::Text(Architecture::Ltx) => &[Role::TextEncoder, Role::VaeEncoder, Role::Transformer, Role::VaeDecoder],
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
            Self::Text(architecture) if architecture.is_transformer() => &[
                Role::TextEncoder,
                Role::TextEncoder2,
                Role::VaeEncoder,
                Role::Transformer,
                Role::PreviewDecoder,
                Role::TinyDecoder,
                Role::VaeDecoder,
            ],
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

    /// What stands before each prompt, as diffusers' pipelines of Sana call it.
    pub(super) fn instruction(self, index: &Object) -> Result<Option<String>> {
        const KEY: &str = "complex_human_instruction";
        match self {
            Self::Text(Architecture::Sana | Architecture::SanaSprint) => {
                let instruction = index.lines(KEY)?;
                if !index.entries.contains_key(KEY) {
                    log::warn!(
                        "model_index.json: has no `{KEY}`, which diffusers puts before each prompt; an empty list says that there is none"
                    );
                }
                let length = instruction.as_ref().map_or(0, |text| text.chars().count());
                ensure!(
                    length <= LONGEST_INSTRUCTION,
                    "model_index.json: `{KEY}` has {length} characters, expected at most {LONGEST_INSTRUCTION}"
                );
                Ok(instruction)
            }
            _ => Ok(None),
        }
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
