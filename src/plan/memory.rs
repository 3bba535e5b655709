//! How much memory a component needs, from its files and its configuration: a fitted model, meant to say rather too much than too little.
//!
//! Weights: while a file is read, ONNX Runtime holds it and its copy; after, the weights and what was repacked of them. Weights of less than
//! 32 bits are counted as if widened, which the runtime does to most of them. Activations: of a denoiser and of an autoencoder the two things that grow, the
//! scores of self-attention, square in the number of latents, and the feature maps of the finest level. From the second call on the runtime's arena holds
//! them twice: once as they came, and once in the one block that it then plans. The factors were fitted to
//! peaks on a processor and include the temporary copies that kernels make.

use crate::bundle::{Architecture, Bundle, Component, Role};
use crate::plan::{GuidancePasses, Plan};
use crate::request::{Resolved, Task};

/// The process with ONNX Runtime loaded and no network open, where it was not measured.
pub(super) const BASE_BYTES: u64 = 30 << 20;
/// What the first session brings in of the runtime's code and tables; the others share it.
pub(super) const FIRST_SESSION_BYTES: f64 = 8.5 * MEBIBYTE;
/// A session with its graph, beside its weights.
const SESSION_BYTES: f64 = 2.0 * MEBIBYTE;
const MEBIBYTE: f64 = 1_048_576.0;
/// Of the weights' size: held while a file is read, and after.
const WHILE_LOADING: f64 = 2.5;
const LOADED: f64 = 1.5;
/// Tokens of the texts beside a transformer's patches: CLIP's and T5's.
const TOKENS_OF_TEXTS: f64 = 512.0;
/// Tensors of attention scores held at once: before and after the softmax.
const SCORES: f64 = 2.15;
/// Feature maps of the finest level held at once.
const FEATURE_MAPS: f64 = 6.0;
/// Freed blocks up to this size the C library keeps for itself, in pieces that do not fit again.
const KEPT_BYTES: f64 = 32.0 * MEBIBYTE;
/// Activations that the arena holds once there was more than one call, for each that one call needs.
const IN_ARENA: f64 = 2.0;
/// Channels and maps of a network that does not say its own.
const UNKNOWN_CHANNELS: f64 = 192.0;
/// Heads of attention where a configuration does not say; the published ones have 5 to 8.
const UNKNOWN_HEADS: f64 = 8.0;
/// A tokenizer's tables, for each byte of its files.
const TOKENIZER_BYTES: f64 = 12.0;
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

impl Need {
    /// The most at once.
    pub(super) fn peak(self) -> f64 {
        self.loading.max(self.resident + self.running)
    }
}

/// How a component is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    /// Width and height in pixels of what it sees at once.
    pub size: (usize, usize),
    /// Frames of latents that a transformer sees together in one row; 1 of a picture.
    pub frames: usize,
    /// Rows in one call.
    pub rows: usize,
    /// Calls while it is open.
    pub calls: usize,
    /// Whether freed memory is kept for the next call.
    pub arena: bool,
}

/// What `component`, opened from a file with `weights`, needs when it runs on a processor.
pub(super) fn need(bundle: &Bundle, component: &Component, weights: Weights, used: Use) -> Need {
    let running = activations(bundle, component, used.size, used.frames) * count(used.rows);
    let running = match (used.arena, used.calls) {
        (true, 0 | 1) => running,
        (true, _) => running * IN_ARENA,
        (false, _) => running + running.min(KEPT_BYTES),
    };
    let weights = weights.widened();
    Need { loading: weights * WHILE_LOADING + SESSION_BYTES, resident: weights * LOADED + SESSION_BYTES, running }
}

/// What is left of `need` for the process, and what the device holds, where that has memory of its own.
pub(super) fn on_device(need: Need, weights: Weights) -> (Need, Need) {
    let weights = weights.widened();
    let process = Need { loading: weights + SESSION_BYTES, resident: SESSION_BYTES, running: 0.0 };
    (process, Need { loading: weights, resident: weights, running: need.running })
}

impl Weights {
    /// Their size in bytes, narrow ones widened to 32 bits.
    pub(super) fn widened(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let widened = (self.size_bytes as f64).max(self.parameters as f64 * FLOAT_BYTES);
        widened
    }
}

/// Bytes of activations for one row.
fn activations(bundle: &Bundle, component: &Component, (width, height): (usize, usize), frames: usize) -> f64 {
    let points = |factor: usize| count(width / factor.max(1)) * count(height / factor.max(1));
    let side = bundle.geometry.pixels_per_latent;
    let channels = channels(component);
    let maps = |channels: f64, points: f64| channels * points * FLOAT_BYTES * FEATURE_MAPS;
    match component.role {
        Role::TextEncoder if reads_sentences(bundle) => 32.0 * MEBIBYTE,
        Role::TextEncoder | Role::TextEncoder2 => 4.0 * MEBIBYTE,
        Role::TextEncoder3 | Role::ImageEncoder => 32.0 * MEBIBYTE,
        Role::Transformer if is_ltx(bundle) => transformer(component, points(side) * count(frames) + TOKENS_OF_TEXTS),
        Role::VaeDecoder if is_ltx(bundle) => clip_decoder(bundle, component, points(1), frames),
        Role::Transformer if has_linear_attention(bundle) => linear_transformer(component, points(side)),
        Role::Transformer => transformer(component, points(side) / 4.0 * count(frames) + TOKENS_OF_TEXTS),
        // It has no attention, and the same channels at each size.
        Role::TinyDecoder => maps(channels.last().copied().unwrap_or(UNKNOWN_CHANNELS), points(1)),
        Role::VaeDecoder | Role::VaeDecoderFirst | Role::VaeEncoder | Role::VaeEncoderFirst
            if bundle.architecture() == Some(Architecture::Wan) =>
        {
            // Of each feature map two frames are remembered beside those at work.
            let width = component.value("base_dim").and_then(serde_json::Value::as_f64).unwrap_or(UNKNOWN_CHANNELS / 2.0);
            let frames_each = bundle.clip.as_ref().map_or(1, |shape| shape.frames_per_latent);
            let is_first = matches!(component.role, Role::VaeDecoderFirst | Role::VaeEncoderFirst);
            // Its attention looks at one frame of latents.
            let scores = points(side).powi(2) * FLOAT_BYTES * SCORES;
            maps(2.0 * width, points(1)) * count(if is_first { 1 } else { frames_each }) + scores
        }
        Role::VaeDecoder | Role::VaeDecoderFirst | Role::VaeEncoder | Role::VaeEncoderFirst | Role::PreviewDecoder => {
            // Before its last block a decoder works at full size with the channels of the block before.
            let finest = channels.iter().take(2).copied().fold(0.0, f64::max);
            let finest = if channels.is_empty() { UNKNOWN_CHANNELS } else { finest };
            maps(finest, points(1)) + points(side).powi(2) * FLOAT_BYTES * SCORES
        }
        Role::Unet if bundle.takes_text() => {
            let levels = if channels.is_empty() { vec![UNKNOWN_CHANNELS] } else { channels };
            let scores = (0..levels.len())
                .filter(|level| attends(component, *level))
                .map(|level| points(side << level).powi(2) * heads(component, level) * FLOAT_BYTES)
                .fold(0.0, f64::max);
            let finest = levels.iter().enumerate().map(|(level, channels)| channels * points(side << level)).fold(0.0, f64::max);
            scores * SCORES + maps(1.0, 2.0 * finest)
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
    tokens.powi(2) * heads * FLOAT_BYTES * SCORES + tokens * width * FLOAT_BYTES * FEATURE_MAPS * 4.0
}

/// Bytes of activations of a decoder of whole clips: its convolutions make all frames of its finest level, of `points` pixels each.
fn clip_decoder(bundle: &Bundle, component: &Component, points: f64, latents: usize) -> f64 {
    let number = |key: &str, otherwise: f64| component.value(key).and_then(serde_json::Value::as_f64).unwrap_or(otherwise);
    let first = |key: &str| component.value(key)?.as_array()?.first()?.as_f64().filter(|value| *value >= 1.0);
    let channels = first("decoder_block_out_channels").unwrap_or(UNKNOWN_CHANNELS) / first("upsample_factor").unwrap_or(1.0);
    let patch = number("patch_size", 4.0).max(1.0).powi(2);
    let frames = frames_of(bundle, latents);
    // Pixels leave it as channels of patches.
    let finest = channels.max(count(bundle.geometry.picture_channels) * patch);
    finest * points / patch * frames * FLOAT_BYTES * FEATURE_MAPS
}

/// Frames of a clip that so many frames of latents stand for.
fn frames_of(bundle: &Bundle, latents: usize) -> f64 {
    let each = bundle.clip.as_ref().map_or(1, |shape| shape.frames_per_latent);
    count(latents.saturating_sub(1) * each + 1)
}

fn is_ltx(bundle: &Bundle) -> bool {
    bundle.architecture() == Some(Architecture::Ltx)
}

/// The same where only the text is looked at with scores, and patches are single latents; its convolutions widen the features.
fn linear_transformer(component: &Component, patches: f64) -> f64 {
    let number = |key: &str, otherwise: f64| component.value(key).and_then(serde_json::Value::as_f64).unwrap_or(otherwise);
    let width = number("num_attention_heads", 70.0) * number("attention_head_dim", 32.0);
    let scores = patches * TOKENS_OF_TEXTS * number("num_cross_attention_heads", 20.0);
    let widened = 2.0 * number("mlp_ratio", 2.5);
    (scores * SCORES + patches * width * widened * FEATURE_MAPS) * FLOAT_BYTES
}

/// Whether the first text encoder is a T5 or a language model.
fn reads_sentences(bundle: &Bundle) -> bool {
    let reads = |architecture: Architecture| architecture.decodes_clips() || architecture.is_masked();
    bundle.architecture().is_some_and(reads)
}

fn has_linear_attention(bundle: &Bundle) -> bool {
    matches!(bundle.architecture(), Some(Architecture::Sana | Architecture::SanaSprint))
}

/// `block_out_channels`, the finest level first; empty where the configuration does not say.
fn channels(component: &Component) -> Vec<f64> {
    let list = component.value("block_out_channels").or_else(|| component.value("decoder_block_out_channels"));
    let list = list.and_then(serde_json::Value::as_array);
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
    let pixels = count(request.width as usize) * count(request.height as usize);
    let channels = count(bundle.geometry.picture_channels);
    // Bytes of every picture; of the one at work also its values, a tile's copy of them and the one that is checked.
    let finished = pixels * channels * count(request.count);
    // Frames of another size: as they came, as they were resolved for the file's head, and as the run resolves them.
    let given = match &request.task {
        Task::ClipToClip { frames, copied } => {
            let held = if *copied { 3.0 } else { 1.0 };
            held * pixels * channels * count(frames.len())
        }
        _ => 0.0,
    };
    // A causal decoder takes each tile through the whole clip, whose frames wait for the last: as values, of the tile at work twice more.
    let of_tiles = match (plan.tile, &request.frames) {
        (Some(tile), Some(frames)) if bundle.components.contains_key(&Role::VaeDecoderFirst) => {
            (pixels + 2.0 * count(tile.pixels()).powi(2)) * channels * FLOAT_BYTES * count(frames.count)
        }
        _ => 0.0,
    };
    let latents = request.frames.filter(|_| is_ltx(bundle)).map(|frames| frames.latents);
    let at_once = latents.map(|latents| plan.clip_tile.map_or(latents, |tile| tile.latents_in_call().min(latents)));
    // Of a tile of the sides what was decoded, and what is blended with it.
    let of_sides = match (at_once, plan.tile) {
        (Some(latents), Some(tile)) => 2.0 * count(tile.pixels()).powi(2) * channels * FLOAT_BYTES * frames_of(bundle, latents),
        _ => 0.0,
    };
    // Frames that are decoded together wait for their turn, and those that the next tile is blended with.
    let waiting = at_once
        .map_or(0.0, |latents| frames_of(bundle, latents) + plan.clip_tile.map_or(0.0, |tile| count(tile.overlap_frames())));
    let at_work = pixels * channels * FLOAT_BYTES * (3.0 * count(plan.batch) + waiting);
    tokenizer_bytes(bundle) * TOKENIZER_BYTES
        + finished
        + at_work
        + given
        + of_tiles
        + of_sides
        + latents_of_clip(bundle, request)
}

/// Latents of all frames of a clip: the sample, what the sampler remembers and makes of it, what the windows add up to. The frames
/// themselves are handed out one by one.
fn latents_of_clip(bundle: &Bundle, request: &Resolved) -> f64 {
    const HELD_AT_ONCE: f64 = 6.0;
    let side = bundle.geometry.pixels_per_latent.max(1);
    let points = count(request.width as usize / side) * count(request.height as usize / side);
    let frames = request.frames.map_or(0, |frames| frames.latents);
    // A denoiser that sees the first frame has it beside the latents throughout, and once more at each call.
    let beside = 2 * bundle.geometry.denoiser_channels.saturating_sub(bundle.geometry.latent_channels);
    let channels = count(bundle.geometry.latent_channels) * HELD_AT_ONCE + count(beside);
    points * count(frames) * channels * FLOAT_BYTES
}

/// The size of the tokenizers' files in bytes.
pub(super) fn tokenizer_bytes(bundle: &Bundle) -> f64 {
    let files =
        ["tokenizer", "tokenizer_2", "tokenizer_3"].iter().map(|name| folder_bytes(&bundle.folder.join(name))).sum::<u64>();
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let bytes = files as f64;
    bytes
}

fn folder_bytes(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    // Through links: a folder of a hub's cache is made of them.
    entries.flatten().filter_map(|entry| std::fs::metadata(entry.path()).ok()).map(|metadata| metadata.len()).sum()
}

/// Rows that a denoiser is given at once.
pub(super) fn denoiser_rows(plan: &Plan) -> usize {
    plan.batch.max(1) * if plan.guidance_passes == GuidancePasses::BatchOfTwo { 2 } else { 1 }
}

#[expect(clippy::cast_precision_loss, reason = "counts of pixels, rows and pictures")]
pub(super) fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn files_behind_links_are_counted() {
        let (there, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(there.path().join("blob"), [0; 1000]).unwrap();
        std::fs::write(folder.path().join("merges.txt"), [0; 10]).unwrap();
        std::os::unix::fs::symlink(there.path().join("blob"), folder.path().join("vocab.json")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("broken")).unwrap();
        assert_eq!(folder_bytes(folder.path()), 1010);
        assert_eq!(folder_bytes(&folder.path().join("missing")), 0);
    }

    #[test]
    fn activations_count_twice_in_an_arena_that_is_used_again_and_lie_on_the_device_that_has_its_own() {
        let bundle = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/sd_turbo");
        let bundle = Bundle::open(&bundle).unwrap();
        let weights = Weights { parameters: 1000, size_bytes: 3000 };
        let of = |calls, arena| {
            let used = Use { size: (512, 512), frames: 1, rows: 1, calls, arena };
            need(&bundle, bundle.component(Role::Unet).unwrap(), weights, used)
        };
        let once = of(1, true);
        assert!(once.running > 64.0 * MEBIBYTE);
        assert_eq!(of(4, true).running, 2.0 * once.running);
        assert_eq!(of(4, false).running, once.running + KEPT_BYTES);
        let (process, device) = on_device(once, weights);
        assert_eq!((process.running, device.running, device.resident), (0.0, once.running, 4000.0));
        assert!(process.peak() < once.peak() / 10.0);
    }
}
