//! Families: which algorithm a bundle's class stands for, and the facts of it that its pipeline needs.
//!
//! In: the class name, the components. Out: a [`Family`]. `models/README.md` describes the files of each family and is the norm.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::component::{Component, Role};
use super::layout::Layout;
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
    /// A transformer told by a T5 and by its padding, and of the picture's size where it is trained for large ones: PixArt-Alpha.
    PixArtAlpha,
    /// The same with longer texts and another autoencoder: PixArt-Sigma.
    PixArtSigma,
    /// A transformer of linear attention over latents that stand for many pixels, told by a Gemma: Sana.
    Sana,
    /// Sana distilled to a few steps, and told the guidance scale: Sana-Sprint.
    SanaSprint,
    /// A transformer over a clip's patches told by a UMT5, a decoder that goes through the clip: Wan 2.1.
    Wan,
    /// A transformer over a clip's latents told by a T5, by where its padding is and by the frame rate: LTX-Video.
    Ltx,
}

impl Architecture {
    /// The component that predicts.
    #[must_use]
    pub fn denoiser(self) -> Role {
        if self.is_transformer() { Role::Transformer } else { Role::Unet }
    }

    /// Whether it is a transformer over patches, rather than a convolutional denoiser.
    #[must_use]
    pub fn is_transformer(self) -> bool {
        !matches!(self, Self::StableDiffusion | Self::StableDiffusionXl | Self::AnimateDiff)
    }

    /// Whether its denoiser is told which tokens of a text are padding.
    #[must_use]
    pub fn is_masked(self) -> bool {
        matches!(self, Self::PixArtAlpha | Self::PixArtSigma | Self::Sana | Self::SanaSprint)
    }

    /// Whether it begins with pictures, and whether it paints parts of them anew: where diffusers does, whose numbers it is held to.
    #[must_use]
    pub fn takes_pictures(self) -> (bool, bool) {
        match self {
            Self::PixArtAlpha | Self::PixArtSigma | Self::Sana => (false, false),
            Self::SanaSprint => (true, false),
            _ => (true, true),
        }
    }

    /// Whether it makes clips out of clips.
    #[must_use]
    pub fn takes_clips(self) -> bool {
        self == Self::AnimateDiff
    }

    /// Whether it makes clips, many frames at once, rather than pictures.
    #[must_use]
    pub fn makes_clips(self) -> bool {
        matches!(self, Self::AnimateDiff | Self::Wan | Self::Ltx)
    }

    /// Whether its decoder takes frames of latents rather than pictures of them.
    #[must_use]
    pub fn decodes_clips(self) -> bool {
        matches!(self, Self::Wan | Self::Ltx)
    }

    /// Whether its decoder looks at frames before and after, so that a clip is decoded whole, or in tiles of time.
    #[must_use]
    pub fn decodes_whole_clips(self) -> bool {
        self == Self::Ltx
    }

    /// Tokens of a text that the encoder of `role` is given at most, and one that is told its padding always, as diffusers' pipelines have it
    /// whatever the tokenizer says.
    #[must_use]
    pub fn sentence_tokens(self, role: Role) -> usize {
        match (self, role) {
            (Self::StableDiffusion3, Role::TextEncoder3) => 256,
            (Self::PixArtAlpha, _) => 120,
            (Self::Ltx, _) => 128,
            (Self::PixArtSigma | Self::Sana | Self::SanaSprint, _) => 300,
            _ => 512,
        }
    }

    /// Whether every text is filled up to that length, whatever its tokenizer says.
    #[must_use]
    pub fn fills_up(self) -> bool {
        self.is_masked() || self == Self::Ltx
    }

    /// Its text encoders, each with the folder of its tokenizer, in the order in which their embeddings are joined.
    #[must_use]
    pub fn text_encoders(self) -> &'static [(Role, &'static str)] {
        const ALL: &[(Role, &str)] =
            &[(Role::TextEncoder, "tokenizer"), (Role::TextEncoder2, "tokenizer_2"), (Role::TextEncoder3, "tokenizer_3")];
        match self {
            Self::StableDiffusionXl | Self::Flux => &ALL[..2],
            Self::StableDiffusion3 => ALL,
            _ => &ALL[..1],
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
