//! Sizes: of latents, of pictures, of embeddings, as a bundle's configuration and its ONNX files agree on them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::clip::frames_per_latent;
use super::component::{Component, Role, find};
use super::family::Architecture;
use super::latent_scaling::{DEFAULT_SCALING_FACTOR, LatentScaling};
use super::names;
use crate::runtime::Port;

/// Latents to a patch, each way, where they are packed for the transformer.
pub const PACKED_SIDE: usize = 2;
/// Numbers by which a transformer over packed latents is told a place: an index that is always 0, row, column.
pub const PLACE: usize = 3;
/// Of LTX-Video, where its configuration does not say.
const LTX_PIXELS_PER_LATENT: usize = 32;
/// Pictures that an export may fix as its batch; more would fill the memory before the network is asked.
const LARGEST_BATCH: usize = 64;

/// Sizes of latents and pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels that the denoiser takes: the latents', and for an inpainting model the mask's and the masked picture's.
    pub denoiser_channels: usize,
    /// Pixels to a latent, each way.
    pub pixels_per_latent: usize,
    /// What a picture's sides are multiples of, in pixels: the latents halve evenly at each level of the denoiser. A traced export
    /// joins the levels with the sizes it computed, and fails on a side that does not.
    pub side_unit: u32,
    /// Width and height in pixels that the model was trained for.
    pub default_size: (u32, u32),
    /// Width and height in pixels when the export takes no other.
    pub fixed_size: Option<(u32, u32)>,
    /// Channels of the picture: 3, or 4 with transparency.
    pub picture_channels: usize,
    /// The longest side in pixels that the denoiser has places for; `None` where it sets no bound.
    pub largest_side: Option<u32>,
    /// Pictures in a batch when the denoiser's export takes no other count.
    pub fixed_batch: Option<usize>,
    /// Length of the guidance embedding of a latent consistency model.
    pub guidance_embedding: Option<usize>,
    /// How latents are scaled for the autoencoder.
    pub scaling: LatentScaling,
    /// The same for the preview decoder.
    pub preview_scaling: LatentScaling,
    /// The same for the tiny decoder.
    pub tiny_scaling: LatentScaling,
}

impl Geometry {
    /// The geometry of a denoiser in the latents of an autoencoder.
    pub(super) fn of_latents(components: &BTreeMap<Role, Component>, architecture: Architecture) -> Result<Self> {
        let role = architecture.denoiser();
        let packed = architecture == Architecture::Flux;
        let denoiser = components.get(&role).with_context(|| format!("there is no {role}/model.onnx"))?;
        let decoder = components.get(&Role::VaeDecoder).context("there is no vae_decoder/model.onnx")?;
        let port = if architecture.is_transformer() { names::HIDDEN_STATES } else { names::SAMPLE };
        let sample = denoiser.input(port).with_context(|| format!("{role}: has no input for latents"))?;
        let latent = decoder.input(names::LATENT).context("vae_decoder: has no input for latents")?;

        // An autoencoder of clips says the same in other words.
        let (channels_key, blocks_key) = match architecture {
            Architecture::Wan => ("z_dim", "dim_mult"),
            Architecture::Sana | Architecture::SanaSprint => ("latent_channels", "encoder_block_out_channels"),
            _ => ("latent_channels", "block_out_channels"),
        };
        let dimension = |port: &Port, axis: usize| port.shape.get(axis).copied().flatten();
        let taken = dimension(sample, if packed { 2 } else { 1 });
        let taken = agree(role.folder(), "in_channels", denoiser.integer("in_channels", 1..=4096)?, taken)?;
        let denoiser_channels = match (architecture.is_transformer(), packed) {
            (true, true) => taken.map_or(16, |taken| taken / (PACKED_SIDE * PACKED_SIDE)),
            (true, false) => taken.unwrap_or(16),
            (false, _) => taken.unwrap_or(4),
        };
        let latent_channels = agree("vae_decoder", channels_key, decoder.integer(channels_key, 1..=1024)?, dimension(latent, 1))?
            .unwrap_or_else(|| if architecture.is_transformer() { denoiser_channels } else { denoiser_channels.min(4) });
        let as_many = match packed {
            true => taken.is_none_or(|taken| taken == latent_channels * PACKED_SIDE * PACKED_SIDE),
            false => denoiser_channels == latent_channels,
        };
        // Of a clip that begins with a picture: which frames are there, and their latents.
        let with_frames = match architecture {
            Architecture::Wan => Some(2 * latent_channels + frames_per_latent(decoder)?),
            _ => None,
        };
        ensure!(
            as_many
                || with_frames == Some(denoiser_channels)
                || (role == Role::Unet && denoiser_channels == 2 * latent_channels + 1),
            "{role} takes {} channels and vae_decoder {latent_channels}, expected {}",
            taken.unwrap_or(denoiser_channels),
            match (role, packed) {
                (Role::Unet, _) => format!("as many, or for inpainting {}", 2 * latent_channels + 1),
                (_, true) =>
                    format!("{}: patches of {PACKED_SIDE} by {PACKED_SIDE}", latent_channels * PACKED_SIDE * PACKED_SIDE),
                (_, false) => match with_frames {
                    Some(with_frames) => format!("as many, or to begin with a picture {with_frames}"),
                    None => "as many".to_owned(),
                },
            }
        );
        let blocks = decoder.list_length(blocks_key)?.unwrap_or(4);
        ensure!((1..=6).contains(&blocks), "vae_decoder/config.json: `{blocks_key}` has {blocks} entries, expected 1 to 6");
        let pixels_per_latent = match architecture {
            Architecture::Ltx => decoder.integer("spatial_compression_ratio", 1..=256)?.unwrap_or(LTX_PIXELS_PER_LATENT),
            _ => 1_usize << (blocks - 1),
        };

        let latents_per_unit = match architecture {
            Architecture::Flux => PACKED_SIDE,
            Architecture::StableDiffusion3 | Architecture::PixArtAlpha | Architecture::PixArtSigma => {
                denoiser.integer("patch_size", 1..=16)?.unwrap_or(2)
            }
            Architecture::Sana | Architecture::SanaSprint => denoiser.integer("patch_size", 1..=16)?.unwrap_or(1),
            // Each latent is a patch of its own.
            Architecture::Ltx => 1,
            Architecture::Wan => patch_side(denoiser)?,
            _ => {
                let levels = denoiser.list_length("block_out_channels")?.unwrap_or(1);
                ensure!(
                    (1..=8).contains(&levels),
                    "unet/config.json: `block_out_channels` has {levels} entries, expected 1 to 8"
                );
                1 << (levels - 1)
            }
        };
        let side_unit = u32::try_from(pixels_per_latent * latents_per_unit)?;
        let places = match architecture {
            Architecture::StableDiffusion3 => denoiser.integer("pos_embed_max_size", 1..=4096)?,
            _ => None,
        };
        let largest_side =
            places.map(|places| u32::try_from(places).map(|places| places.saturating_mul(side_unit))).transpose()?;

        // A clip's frames stand before its sides.
        let rows = if architecture.makes_clips() { 3 } else { 2 };
        let of_decoder = if architecture.decodes_clips() { 3 } else { 2 };
        let fixed = match (dimension(sample, rows), dimension(sample, rows + 1)) {
            (Some(height), Some(width)) if !packed => Some((width, height)),
            _ => match (dimension(latent, of_decoder), dimension(latent, of_decoder + 1)) {
                (Some(height), Some(width)) => Some((width, height)),
                _ => None,
            },
        };
        for port in [names::PATCH_PLACES, names::TOKEN_PLACES].into_iter().filter_map(|names| denoiser.input(names)) {
            ensure!(
                matches!(port.shape.as_slice(), [_, None | Some(PLACE)] | [_, _, None | Some(PLACE)]),
                "{role}/model.onnx: input `{}` is {}, expected places of {PLACE} numbers",
                port.name,
                port.shape_text()
            );
        }
        if let (true, Some(patches)) = (packed, dimension(sample, 1)) {
            ensure!(
                fixed.is_some_and(|(width, height)| width / PACKED_SIDE * (height / PACKED_SIDE) == patches),
                "{role}/model.onnx: input `{}` is {}, and vae_decoder/model.onnx does not fix as many latents; export both for one size",
                sample.name,
                sample.shape_text()
            );
        }
        let usual = match architecture {
            // 832 by 480 pixels.
            Architecture::Wan => (104, 60),
            // 704 by 512.
            Architecture::Ltx => (22, 16),
            Architecture::Sana | Architecture::SanaSprint => (32, 32),
            architecture if architecture.is_transformer() => (128, 128),
            _ => (64, 64),
        };
        let trained = sample_size(denoiser)?.or(fixed).unwrap_or(usual);
        let pixels = |(width, height): (usize, usize)| -> Result<(u32, u32)> {
            let side =
                |latents: usize| u32::try_from(latents.saturating_mul(pixels_per_latent)).ok().filter(|side| *side <= 8192);
            let size = side(width).zip(side(height));
            size.with_context(|| format!("{role}: latents of {width}x{height} make a picture of more than 8192 pixels a side"))
        };
        if let (Some(declared), Some(fixed)) = (sample_size(denoiser)?, fixed) {
            ensure!(
                declared == fixed,
                "{role}/model.onnx: input `{}` is {}, {role}/config.json says `sample_size` {}x{}",
                sample.name,
                sample.shape_text(),
                declared.1,
                declared.0
            );
        }
        check_embeddings(components, denoiser, architecture)?;

        let picture = decoder.header.outputs.first().context("vae_decoder: has no output")?;
        let picture_channels =
            agree("vae_decoder", "out_channels", decoder.integer("out_channels", 1..=1024)?, dimension(picture, 1))?.unwrap_or(3);
        ensure!(matches!(picture_channels, 1 | 3 | 4), "vae_decoder gives {picture_channels} channels, expected 1, 3 or 4");

        let guidance_embedding = match denoiser.input(names::TIMESTEP_COND) {
            Some(port) => Some(
                agree("unet", "time_cond_proj_dim", denoiser.integer("time_cond_proj_dim", 2..=65536)?, dimension(port, 1))?
                    .unwrap_or(256),
            ),
            None => None,
        };
        // Latents that have a mean and a deviation for each channel need no factor; nor do those of diffusers' `AutoencoderDC`.
        let factor = match architecture {
            Architecture::Wan | Architecture::Ltx | Architecture::Sana | Architecture::SanaSprint => 1.0,
            _ => DEFAULT_SCALING_FACTOR,
        };
        let fixed_batch = dimension(sample, 0);
        ensure!(
            fixed_batch.is_none_or(|batch| batch <= LARGEST_BATCH),
            "{role}/model.onnx: input `{}` is {}, expected at most {LARGEST_BATCH} pictures at once",
            sample.name,
            sample.shape_text()
        );
        let small = |role: Role| match components.get(&role) {
            Some(decoder) => LatentScaling::of_small(decoder, latent_channels),
            None => Ok(LatentScaling::NONE),
        };
        Ok(Self {
            latent_channels,
            denoiser_channels,
            pixels_per_latent,
            side_unit,
            default_size: pixels(trained)?,
            fixed_size: fixed.map(pixels).transpose()?,
            picture_channels,
            largest_side,
            fixed_batch,
            guidance_embedding,
            scaling: LatentScaling::of(decoder, factor, latent_channels)?,
            preview_scaling: small(Role::PreviewDecoder)?,
            tiny_scaling: small(Role::TinyDecoder)?,
        })
    }
}

impl Geometry {
    /// The geometry of a family whose network gives or takes pixels: the latents are the picture.
    ///
    /// * `port`: the picture, `[B, C, H, W]`
    pub(super) fn of_pixels(component: &Component, port: &Port, channels_key: &str) -> Result<Self> {
        let role = component.role;
        let dimension = |axis: usize| port.shape.get(axis).copied().flatten();
        let channels = agree(role.folder(), channels_key, component.integer(channels_key, 1..=1024)?, dimension(1))?.unwrap_or(3);
        ensure!(matches!(channels, 1 | 3 | 4), "{role} works on {channels} channels, expected 1, 3 or 4");
        let fixed = dimension(3).zip(dimension(2));
        let declared = sample_size(component)?;
        if let (Some(declared), Some(fixed)) = (declared, fixed) {
            ensure!(
                declared == fixed,
                "{role}/model.onnx: `{}` is {}, {role}/config.json says `sample_size` {}x{}",
                port.name,
                port.shape_text(),
                declared.1,
                declared.0
            );
        }
        let (width, height) = declared
            .or(fixed)
            .with_context(|| format!("{role}/config.json: has no `sample_size`, and the export leaves the size open"))?;
        let side = |side: usize| u32::try_from(side).ok().filter(|side| (1..=8192).contains(side));
        let size =
            side(width).zip(side(height)).with_context(|| format!("{role}: its pictures are of {width}x{height} pixels"))?;
        let first = component.header.inputs.first().and_then(|port| port.shape.first().copied().flatten());
        ensure!(
            first.is_none_or(|batch| batch <= LARGEST_BATCH),
            "{role}/model.onnx: takes batches of {}, expected at most {LARGEST_BATCH} pictures at once",
            first.unwrap_or_default()
        );
        Ok(Self {
            latent_channels: channels,
            denoiser_channels: channels,
            pixels_per_latent: 1,
            side_unit: 1,
            default_size: size,
            // Such a network makes pictures of the size it was trained for, and nothing of sense at another.
            fixed_size: Some(size),
            picture_channels: channels,
            largest_side: None,
            fixed_batch: first,
            guidance_embedding: None,
            scaling: LatentScaling::NONE,
            preview_scaling: LatentScaling::NONE,
            tiny_scaling: LatentScaling::NONE,
        })
    }
}

/// Latents to a side of a patch, of a transformer whose patches have frames, rows and columns.
fn patch_side(denoiser: &Component) -> Result<usize> {
    let Some(value) = denoiser.value("patch_size").filter(|value| !value.is_null()) else { return Ok(2) };
    let sides: Option<Vec<u64>> = value.as_array().and_then(|sides| sides.iter().map(serde_json::Value::as_u64).collect());
    match sides.as_deref() {
        Some([1, height, width]) if height == width && (1..=16).contains(height) => Ok(usize::try_from(*height)?),
        _ => anyhow::bail!(
            "{}/config.json: `patch_size` is not a list of 1 (frame), height and width, which are one number of 1 to 16",
            denoiser.role
        ),
    }
}

/// `sample_size` as width and height in latents; diffusers writes one number, or height and width.
fn sample_size(component: &Component) -> Result<Option<(usize, usize)>> {
    match component.value("sample_size") {
        Some(serde_json::Value::Array(sides)) => {
            let sides: Option<Vec<usize>> =
                sides.iter().map(|side| side.as_u64().and_then(|side| usize::try_from(side).ok())).collect();
            match sides.as_deref() {
                Some([height @ 1..=8192, width @ 1..=8192]) => Ok(Some((*width, *height))),
                _ => anyhow::bail!(
                    "{}/config.json: `sample_size` is not one number or height and width, 1 to 8192 each",
                    component.role
                ),
            }
        }
        _ => Ok(component.integer("sample_size", 1..=8192)?.map(|side| (side, side))),
    }
}

/// The width of the text embeddings is the denoiser's where both are fixed. SDXL's two encoders stand side by side; Stable Diffusion
/// 3 fills the two up to the width of the third.
fn check_embeddings(components: &BTreeMap<Role, Component>, denoiser: &Component, architecture: Architecture) -> Result<()> {
    let width = |role: Role| {
        let port = find(&components.get(&role)?.header.outputs, names::LAST_HIDDEN_STATE)?;
        port.shape.last().copied().flatten()
    };
    let pair = || width(Role::TextEncoder).zip(width(Role::TextEncoder2)).map(|(first, second)| first + second);
    let role = denoiser.role;
    let taken = denoiser.input(names::ENCODER_HIDDEN_STATES).and_then(|port| port.shape.last().copied().flatten());
    let given = match architecture {
        // With a second encoder it is not of this architecture, and is told so elsewhere.
        Architecture::StableDiffusion if components.contains_key(&Role::TextEncoder2) => None,
        Architecture::StableDiffusionXl => pair(),
        Architecture::StableDiffusion3 => width(Role::TextEncoder3),
        Architecture::Flux => width(Role::TextEncoder2),
        _ => width(Role::TextEncoder),
    };
    let Some(taken) = taken else { return Ok(()) };
    if let Some(given) = given {
        ensure!(
            taken == given,
            "{role} takes text embeddings of width {taken}, and the text encoders give {given}: they are of two models"
        );
    }
    if let (Architecture::StableDiffusion3, Some(given)) = (architecture, pair()) {
        ensure!(
            given <= taken,
            "{role} takes text embeddings of width {taken}, and the first two text encoders give {given}: they are of two models"
        );
    }
    Ok(())
}

pub(super) fn agree(role: &str, key: &str, declared: Option<usize>, found: Option<usize>) -> Result<Option<usize>> {
    if let (Some(declared), Some(found)) = (declared, found) {
        ensure!(declared == found, "{role}/model.onnx has {found} channels, {role}/config.json says `{key}` {declared}");
    }
    Ok(declared.or(found))
}
