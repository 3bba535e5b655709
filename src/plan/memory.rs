//! How much memory a component needs, from its files and its configuration: a fitted model, meant to say rather too much than too little.
//!
//! Weights: while a file is read, ONNX Runtime holds it and its copy; after, the weights and what was repacked of them. Weights of less than
//! 32 bits are counted as if widened, which the runtime does to most of them. Activations: of a denoiser and of an autoencoder the two things that grow, the
//! scores of self-attention, square in the number of latents, and the feature maps of the finest level. The factors were fitted to
//! peaks on a processor and include the temporary copies that kernels make.

use crate::bundle::{Bundle, Component, Role};
use crate::plan::{GuidancePasses, Memory, Plan};
use crate::request::Resolved;

/// The process with ONNX Runtime loaded and no network open.
pub(super) const BASE_BYTES: u64 = 56 << 20;
/// A session with its graph, beside its weights.
const SESSION_BYTES: f64 = 2.0 * MEBIBYTE;
const MEBIBYTE: f64 = 1_048_576.0;
/// Of the weights' size: held while a file is read, and after.
const WHILE_LOADING: f64 = 2.5;
const LOADED: f64 = 1.5;
/// Tokens of the texts beside a transformer's patches: CLIP's and T5's.
const TOKENS_OF_TEXTS: f64 = 512.0;
/// Tensors of attention scores that a denoiser holds at once.
const SCORES_OF_A_DENOISER: f64 = 2.5;
/// The same for an autoencoder, without and with the runtime's arena, which grows in powers of two.
const SCORES_OF_A_DECODER: f64 = 3.0;
const SCORES_OF_A_DECODER_IN_ARENA: f64 = 4.5;
/// Feature maps of the finest level held at once.
const FEATURE_MAPS: f64 = 13.0;
/// Channels and maps of a network that does not say its own.
const UNKNOWN_CHANNELS: f64 = 192.0;
/// Heads of attention where a configuration does not say; the published ones have 5 to 8.
const UNKNOWN_HEADS: f64 = 8.0;
/// A tokenizer's tables, for each byte of its files.
const TOKENIZER_BYTES: u64 = 12;
const FLOAT_BYTES: f64 = 4.0;

/// How much a component's file brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    /// Number of weights.
    pub parameters: u64,
    /// Size of the file and of the files of weights beside it, in bytes.
    pub size_bytes: u64,
}

/// What a component holds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Need {
    /// While it is opened.
    pub loading: f64,
    /// Once it is open.
    pub resident: f64,
    /// More than `resident` while it runs.
    pub running: f64,
}

/// What `component`, opened from a file with `weights`, needs for a picture of `size` in pixels, `rows` at once.
pub(super) fn need(
    bundle: &Bundle,
    component: &Component,
    weights: Weights,
    memory: Memory,
    size: (usize, usize),
    rows: usize,
) -> Need {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let weights = (weights.size_bytes as f64).max(weights.parameters as f64 * FLOAT_BYTES);
    Need {
        loading: weights * WHILE_LOADING + SESSION_BYTES,
        resident: weights * LOADED + SESSION_BYTES,
        running: activations(bundle, component, memory, size) * count(rows),
    }
}

/// Bytes of activations for one row.
fn activations(bundle: &Bundle, component: &Component, memory: Memory, (width, height): (usize, usize)) -> f64 {
    let points = |factor: usize| count(width / factor.max(1)) * count(height / factor.max(1));
    let side = bundle.geometry.pixels_per_latent;
    let channels = channels(component);
    let maps = |channels: f64, points: f64| channels * points * FLOAT_BYTES * FEATURE_MAPS;
    match component.role {
        Role::TextEncoder | Role::TextEncoder2 => 4.0 * MEBIBYTE,
        Role::TextEncoder3 => 32.0 * MEBIBYTE,
        Role::Transformer => transformer(component, points(side) / 4.0 + TOKENS_OF_TEXTS),
        Role::VaeDecoder | Role::VaeEncoder | Role::PreviewDecoder => {
            // Before its last block a decoder works at full size with the channels of the block before.
            let finest = channels.iter().take(2).copied().fold(0.0, f64::max);
            let finest = if channels.is_empty() { UNKNOWN_CHANNELS } else { finest };
            let copies = if memory == Memory::Low { SCORES_OF_A_DECODER } else { SCORES_OF_A_DECODER_IN_ARENA };
            maps(finest, points(1)) + points(side).powi(2) * FLOAT_BYTES * copies
        }
        Role::Unet if bundle.takes_text() => {
            let levels = if channels.is_empty() { vec![UNKNOWN_CHANNELS] } else { channels };
            let scores = (0..levels.len())
                .filter(|level| attends(component, *level))
                .map(|level| points(side << level).powi(2) * heads(component, level) * FLOAT_BYTES)
                .fold(0.0, f64::max);
            let finest = levels.iter().enumerate().map(|(level, channels)| channels * points(side << level)).fold(0.0, f64::max);
            scores * SCORES_OF_A_DENOISER + maps(1.0, 2.0 * finest)
        }
        // The small families say nothing of their inside; their pictures are small.
        _ => maps(UNKNOWN_CHANNELS, points(1)),
    }
}

/// Bytes of activations of a transformer over `tokens` of picture and text.
fn transformer(component: &Component, tokens: f64) -> f64 {
    let number = |key: &str, otherwise: f64| {
        component.value(key).and_then(serde_json::Value::as_f64).filter(|value| *value >= 1.0).unwrap_or(otherwise)
    };
    let heads = number("num_attention_heads", 24.0);
    let width = heads * number("attention_head_dim", 64.0);
    tokens.powi(2) * heads * FLOAT_BYTES * SCORES_OF_A_DENOISER + tokens * width * FLOAT_BYTES * FEATURE_MAPS * 4.0
}

/// `block_out_channels`, the finest level first; empty where the configuration does not say.
fn channels(component: &Component) -> Vec<f64> {
    let list = component.value("block_out_channels").and_then(serde_json::Value::as_array);
    list.map(|list| list.iter().filter_map(serde_json::Value::as_f64).filter(|value| *value > 0.0).collect()).unwrap_or_default()
}

/// Whether a denoiser's level has attention; every one where the configuration does not say.
fn attends(component: &Component, level: usize) -> bool {
    let list = component.value("down_block_types").and_then(serde_json::Value::as_array);
    list.and_then(|list| list.get(level)?.as_str()).is_none_or(|kind| kind.contains("Attn"))
}

/// Heads of attention at a level. diffusers' `attention_head_dim` is their number in its older denoisers.
fn heads(component: &Component, level: usize) -> f64 {
    let of = |key: &str| match component.value(key) {
        Some(serde_json::Value::Array(list)) => list.get(level).and_then(serde_json::Value::as_f64),
        Some(value) => value.as_f64(),
        None => None,
    };
    of("num_attention_heads").or_else(|| of("attention_head_dim")).filter(|heads| *heads >= 1.0).unwrap_or(UNKNOWN_HEADS)
}

/// What is held beside the networks: tokenizers, latents, decoded pictures.
pub(super) fn beside(bundle: &Bundle, request: &Resolved, plan: &Plan) -> f64 {
    let files =
        ["tokenizer", "tokenizer_2", "tokenizer_3"].iter().map(|name| folder_bytes(&bundle.folder.join(name))).sum::<u64>();
    let pixels = count(request.width as usize) * count(request.height as usize);
    let channels = count(bundle.geometry.picture_channels);
    // Bytes of every picture; of the one at work also its values, a tile's copy of them and the one that is checked.
    let finished = pixels * channels * count(request.count);
    let at_work = pixels * channels * FLOAT_BYTES * 3.0 * count(plan.batch);
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let tokenizers = (files * TOKENIZER_BYTES) as f64;
    tokenizers + finished + at_work
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Rows that a denoiser is given at once.
pub(super) fn denoiser_rows(plan: &Plan) -> usize {
    plan.batch.max(1) * if plan.guidance_passes == GuidancePasses::BatchOfTwo { 2 } else { 1 }
}

#[expect(clippy::cast_precision_loss, reason = "counts of pixels, rows and pictures")]
pub(super) fn count(number: usize) -> f64 {
    number as f64
}
