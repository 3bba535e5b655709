//! The ports of each component: which it must have, and which it may.
//!
//! In: a role, and what its family's denoiser is told. Out: names and ranks. `models/README.md` is the norm.

use super::component::Role;
use super::family::Architecture;
use super::layout::Layout;
use super::names;

/// What a denoiser is told beside the noise level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conditioning {
    /// Embeddings of a prompt.
    Text,
    /// The same, beside latents that are packed into patches.
    PackedText,
    /// Embeddings of a prompt, beside latents with frames.
    TextOfClip,
    /// The same for a decoder that goes through the clip and remembers.
    CausalClip,
    /// Embeddings of a prompt and where its padding is, the frame rate and a timestep for each frame, beside latents with frames; for a
    /// decoder that takes them whole.
    TimedClip,
    /// Embeddings of a prompt, and which of its tokens are padding.
    MaskedText,
    /// The same, and the guidance scale.
    MaskedTextAndScale,
    /// A class, or nothing.
    Class,
}

impl Conditioning {
    /// What the denoiser of `layout` is told.
    pub(super) fn of(layout: Layout) -> Self {
        let Layout::Text(architecture) = layout else { return Self::Class };
        match architecture {
            Architecture::StableDiffusion | Architecture::StableDiffusionXl | Architecture::StableDiffusion3 => Self::Text,
            Architecture::Flux => Self::PackedText,
            Architecture::AnimateDiff => Self::TextOfClip,
            Architecture::Wan => Self::CausalClip,
            Architecture::Ltx => Self::TimedClip,
            Architecture::PixArtAlpha | Architecture::PixArtSigma | Architecture::Sana => Self::MaskedText,
            Architecture::SanaSprint => Self::MaskedTextAndScale,
        }
    }
}

impl Role {
    /// The inputs that every such component has: what each is, its rank, and the names that exporters give it.
    pub(super) fn inputs(self, conditioning: Conditioning) -> &'static [(&'static str, usize, &'static [&'static str])] {
        match (self, conditioning) {
            (Self::TextEncoder | Self::TextEncoder2 | Self::TextEncoder3, _) => &[("token ids", 2, names::INPUT_IDS)],
            (Self::Transformer, Conditioning::PackedText) => &[
                ("packed latents", 3, names::HIDDEN_STATES),
                ("timestep", 1, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
                ("pooled text embedding", 2, names::POOLED_PROJECTIONS),
            ],
            (Self::Transformer, Conditioning::CausalClip) => &[
                ("latents of a clip", 5, names::HIDDEN_STATES),
                ("timestep", 1, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
            ],
            (Self::Transformer, Conditioning::TimedClip) => &[
                ("latents of a clip", 5, names::HIDDEN_STATES),
                ("timestep of each frame", 2, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
                ("mask of the padding", 2, names::ENCODER_ATTENTION_MASK),
                ("frame rate", 1, names::FRAME_RATE),
            ],
            (Self::Transformer, Conditioning::MaskedText) => &[
                ("latents", 4, names::HIDDEN_STATES),
                ("timestep", 1, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
                ("mask of the padding", 2, names::ENCODER_ATTENTION_MASK),
            ],
            (Self::Transformer, Conditioning::MaskedTextAndScale) => &[
                ("latents", 4, names::HIDDEN_STATES),
                ("timestep", 1, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
                ("mask of the padding", 2, names::ENCODER_ATTENTION_MASK),
                ("guidance scale", 1, names::GUIDANCE),
            ],
            (Self::Transformer, _) => &[
                ("latents", 4, names::HIDDEN_STATES),
                ("timestep", 1, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
                ("pooled text embedding", 2, names::POOLED_PROJECTIONS),
            ],
            (Self::Unet, Conditioning::TextOfClip) => &[
                ("latents of a clip", 5, names::SAMPLE),
                ("timestep", 1, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
            ],
            (Self::Unet, Conditioning::Class) => &[("picture", 4, names::SAMPLE), ("timestep", 1, names::TIMESTEP)],
            (Self::Unet, _) => &[
                ("latents", 4, names::SAMPLE),
                ("timestep", 1, names::TIMESTEP),
                ("text embeddings", 3, names::ENCODER_HIDDEN_STATES),
            ],
            (Self::ImageEncoder, _) => &[("picture", 4, names::PIXEL_VALUES)],
            (Self::VaeEncoder | Self::VaeEncoderFirst, Conditioning::CausalClip) => &[("frames", 5, names::PICTURE)],
            (Self::VaeEncoder | Self::VaeEncoderFirst | Self::Encoder, _) => &[("picture", 4, names::PICTURE)],
            (Self::VaeDecoder | Self::VaeDecoderFirst, Conditioning::CausalClip) => &[("latents of a frame", 5, names::LATENT)],
            (Self::VaeDecoder, Conditioning::TimedClip) => &[("latents of a clip", 5, names::LATENT)],
            (Self::VaeDecoder | Self::VaeDecoderFirst | Self::TinyDecoder | Self::PreviewDecoder, _) => {
                &[("latents", 4, names::LATENT)]
            }
            (Self::Decoder | Self::Mapping, _) => &[("latent", 2, names::LATENT)],
            (Self::Synthesis, _) => &[("styles", 3, names::STYLES)],
        }
    }

    /// Every input that such a component may have.
    pub(super) fn known(self, conditioning: Conditioning) -> &'static [&'static [&'static str]] {
        match (self, conditioning) {
            (Self::TextEncoder | Self::TextEncoder2 | Self::TextEncoder3, _) => &[names::INPUT_IDS, names::ATTENTION_MASK],
            (Self::Transformer, Conditioning::PackedText) => &[
                names::HIDDEN_STATES,
                names::TIMESTEP,
                names::ENCODER_HIDDEN_STATES,
                names::POOLED_PROJECTIONS,
                names::PATCH_PLACES,
                names::TOKEN_PLACES,
                names::GUIDANCE,
            ],
            (Self::Transformer, Conditioning::CausalClip) => {
                &[names::HIDDEN_STATES, names::TIMESTEP, names::ENCODER_HIDDEN_STATES, names::ENCODER_HIDDEN_STATES_IMAGE]
            }
            (Self::Transformer, Conditioning::TimedClip) => &[
                names::HIDDEN_STATES,
                names::TIMESTEP,
                names::ENCODER_HIDDEN_STATES,
                names::ENCODER_ATTENTION_MASK,
                names::FRAME_RATE,
            ],
            (Self::Transformer, Conditioning::MaskedText) => &[
                names::HIDDEN_STATES,
                names::TIMESTEP,
                names::ENCODER_HIDDEN_STATES,
                names::ENCODER_ATTENTION_MASK,
                names::RESOLUTION,
                names::ASPECT_RATIO,
            ],
            (Self::Transformer, Conditioning::MaskedTextAndScale) => &[
                names::HIDDEN_STATES,
                names::TIMESTEP,
                names::ENCODER_HIDDEN_STATES,
                names::ENCODER_ATTENTION_MASK,
                names::GUIDANCE,
            ],
            (Self::Transformer, _) => {
                &[names::HIDDEN_STATES, names::TIMESTEP, names::ENCODER_HIDDEN_STATES, names::POOLED_PROJECTIONS]
            }
            (Self::Unet, Conditioning::TextOfClip) => &[names::SAMPLE, names::TIMESTEP, names::ENCODER_HIDDEN_STATES],
            (Self::Unet, Conditioning::Class) => &[names::SAMPLE, names::TIMESTEP, names::CLASS_LABELS, names::STEP_COUNT],
            (Self::Unet, _) => &[
                names::SAMPLE,
                names::TIMESTEP,
                names::ENCODER_HIDDEN_STATES,
                names::TIMESTEP_COND,
                names::TEXT_EMBEDS,
                names::TIME_IDS,
                names::CONTROL,
                names::CONTROL_SCALE,
            ],
            (Self::ImageEncoder, _) => &[names::PIXEL_VALUES],
            (Self::VaeEncoder | Self::VaeEncoderFirst, _) => &[names::PICTURE],
            (Self::Encoder, _) => &[names::PICTURE, names::CLASS_LABELS],
            (Self::VaeDecoder, Conditioning::TimedClip) => &[names::LATENT, names::TIMESTEP],
            (Self::VaeDecoder | Self::VaeDecoderFirst | Self::TinyDecoder | Self::PreviewDecoder, _) => &[names::LATENT],
            (Self::Decoder | Self::Mapping, _) => &[names::LATENT, names::CLASS_LABELS],
            (Self::Synthesis, _) => &[names::STYLES, names::CLASS_LABELS],
        }
    }
}
