//! What carrying out a plan will probably take: memory and time, each with where it is known from.

use super::memory::{self, BASE_BYTES, FIRST_SESSION_BYTES, Need, Use, Weights, count};
use super::time::{self, Calls, Network};
use super::{GuidancePasses, Measurements, Memory, Plan, Tile, Wanted};
use crate::bundle::{Architecture, Bundle, ClipShape, Family, Role};
use crate::ode::Method;
use crate::request::{Resolved, Task, steps_taken};

/// What is added to a forecast of memory, in shares and in bytes: allocators round up.
const MARGIN: f64 = 1.06;
const MARGIN_BYTES: f64 = 5.0 * 1_048_576.0;
/// Reading a bundle's configuration and the runtime's library, and writing a picture, where that was not measured.
const AROUND_MS: f64 = 38.0;
/// Bytes of a tokenizer's files read in a millisecond.
const TOKENIZER_BYTES_PER_MS: f64 = 10_000.0;
/// What the first session of a process takes to open beyond its network, which a measurement, of a process of its own, holds each time.
const FIRST_SESSION_MS: f64 = 8.0;

/// One component's part in a forecast.
#[derive(Debug, Clone, PartialEq)]
pub struct ComponentForecast {
    /// Which component.
    pub role: Role,
    /// How often it is called.
    pub calls: usize,
    /// Opening it and all its calls, in milliseconds.
    pub time_ms: f64,
    /// Of that, opening it.
    pub load_ms: f64,
    /// The most that it holds of the process's memory, in bytes.
    pub memory_bytes: u64,
    /// The most that it holds of the device's memory, in bytes; 0 where the device has none of its own.
    pub device_memory_bytes: u64,
    /// Whether time and the process's memory were measured on this device.
    pub is_measured: bool,
}

/// What a plan will take.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Forecast {
    /// The most that the process will hold at once, in bytes.
    pub memory_bytes: u64,
    /// The most that a device with memory of its own will hold at once, in bytes; 0 where none runs anything. It is always an estimate.
    pub device_memory_bytes: u64,
    /// From the start of the program, or from the request where the networks are open already, to the finished picture, in milliseconds; `None` where a solver chooses how many steps it makes.
    pub time_ms: Option<f64>,
    /// Of that, what the networks take, some of which may be opened beside others.
    pub networks_ms: f64,
    /// Whether every component was measured on this device in this configuration.
    pub is_measured: bool,
    /// Each component that runs, in the order of use.
    pub components: Vec<ComponentForecast>,
}

impl Forecast {
    /// Where it is known from, in words.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match (self.is_measured, self.components.iter().any(|component| component.is_measured)) {
            (true, _) => "measured on this device",
            (false, true) => "partly measured on this device, else a quick estimate, which may be far off",
            (false, false) => "a quick estimate, which may be far off; `kiln tune` measures",
        }
    }

    /// Forecasts what `plan` takes for `request`.
    #[must_use]
    pub fn new(bundle: &Bundle, request: &Resolved, plan: &Plan, measurements: Option<&Measurements>) -> Self {
        let (mut parts, mut of_device) = (Vec::new(), Vec::new());
        let mut components = Vec::new();
        for (role, calls, rows) in calls(bundle, request, plan) {
            let Ok(component) = bundle.component(role) else { continue };
            let size = piece(role, request, plan.tile);
            let (width, height) = size;
            let assignment = plan.assignments.of(role);
            let header = &component.header;
            let weights = assignment.map_or(Weights { parameters: header.parameters, size_bytes: header.size_bytes }, |file| {
                Weights { parameters: file.parameters, size_bytes: file.size_bytes }
            });
            let arena = plan.memory == Memory::Normal;
            let frames = match role {
                Role::Transformer => frames_in(bundle, request, role),
                Role::VaeDecoder => decoded_at_once(bundle, request, plan),
                _ => 1,
            };
            let estimate = memory::need(bundle, component, weights, Use { size, frames, rows, calls, arena });
            let (estimate, device) = match plan.assignments.provider_of(role).facts().has_own_memory {
                true => memory::on_device(estimate, weights),
                false => (estimate, Need::default()),
            };
            let provider = plan.assignments.provider_of(role).to_string();
            let wanted = Wanted {
                role: role.folder(),
                provider: Some(&provider),
                precision: Some(assignment.map_or(&header.precision, |file| &file.precision)),
                threads: Some(plan.threads),
                // The size of the picture is nothing to an encoder of texts or for embeddings, which is measured at one.
                size: u32::try_from(width).ok().zip(u32::try_from(height).ok()).filter(|_| !sees_one_size(role)),
                batch: Some(if role == Role::Transformer { rows } else { rows / frames_in(bundle, request, role) }),
            };
            // Rows are of providers without options, which change both time and memory.
            let is_plain = assignment.and_then(|file| file.providers.first()).is_none_or(|setup| setup.options().is_empty());
            let usual = bundle.clip.as_ref().map_or(1, ClipShape::usual_latents);
            // Clips are measured at one length.
            let is_usual = match role {
                role if role == bundle.denoiser() => frames_in(bundle, request, role) == usual,
                Role::VaeDecoder if decodes_whole(bundle) => frames == usual,
                _ => true,
            };
            let is_plain = is_plain && is_usual;
            let measured = measurements.filter(|_| is_plain).and_then(|measurements| measurements.find(&wanted));
            let need = match measured.and_then(|row| row.peak_memory_bytes) {
                Some(peak) => {
                    #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
                    let peak = (peak as f64 - FIRST_SESSION_BYTES).max(0.0);
                    Need { loading: peak, resident: estimate.resident.min(peak), running: peak - estimate.resident.min(peak) }
                }
                None => estimate,
            };
            let (load_ms, run_ms) = match measured {
                Some(row) => {
                    let load_ms = (row.load_ms - if components.is_empty() { 0.0 } else { FIRST_SESSION_MS }).max(0.0);
                    (load_ms, row.first_run_ms.max(row.run_ms) + row.run_ms * count(calls.saturating_sub(1)))
                }
                None => {
                    let points = points(bundle, role, size) * count(frames);
                    let network = Network { header, weights, call_bytes: estimate.running + device.running, arena };
                    time::quick_ms(network, points, Calls { calls, rows, threads: plan.threads })
                }
            };
            components.push(ComponentForecast {
                role,
                calls,
                time_ms: load_ms + run_ms,
                load_ms,
                memory_bytes: bytes(need.peak()),
                device_memory_bytes: bytes(device.peak()),
                is_measured: measured.is_some_and(|row| row.peak_memory_bytes.is_some()),
            });
            parts.push(need);
            of_device.push(device);
        }
        let adaptive = request.solver.is_some_and(|solver| solver.method == Method::DormandPrince);
        let around_ms = measurements
            .and_then(|measurements| measurements.around.of(plan.memory))
            .unwrap_or_else(|| AROUND_MS + memory::tokenizer_bytes(bundle) / TOKENIZER_BYTES_PER_MS);
        let networks_ms = networks_ms(&components, if plan.opens_ahead { plan.threads } else { 1 });
        let base = measurements.and_then(|measurements| measurements.base_bytes).unwrap_or(BASE_BYTES);
        #[expect(clippy::cast_precision_loss, reason = "bytes of a process")]
        let held = base as f64 + FIRST_SESSION_BYTES + memory::beside(bundle, request, plan) + together(&parts, plan);
        Self {
            memory_bytes: bytes(held * MARGIN + MARGIN_BYTES),
            device_memory_bytes: bytes(together(&of_device, plan) * MARGIN),
            time_ms: (!adaptive).then_some(around_ms + networks_ms),
            networks_ms,
            is_measured: !components.is_empty() && components.iter().all(|component| component.is_measured),
            components,
        }
    }
}

impl Forecast {
    /// The same in a process that has started, where the networks of the roles `open` are open already.
    ///
    /// * `threads`: how many open networks at once
    pub(super) fn beyond(mut self, open: &[Role], threads: usize) -> Self {
        if open.is_empty() {
            return self;
        }
        for component in self.components.iter_mut().filter(|component| open.contains(&component.role)) {
            component.time_ms -= std::mem::take(&mut component.load_ms);
        }
        self.networks_ms = networks_ms(&self.components, threads);
        self.time_ms = self.time_ms.map(|_| self.networks_ms);
        self
    }
}

/// What the networks of `components` take together, in milliseconds.
///
/// * `threads`: how many open networks at once
fn networks_ms(components: &[ComponentForecast], threads: usize) -> f64 {
    let total: f64 = components.iter().map(|component| component.time_ms).sum();
    let opening: f64 = components.iter().map(|component| component.load_ms).sum();
    let longest = components.iter().map(|component| component.load_ms).fold(0.0, f64::max);
    total - opening + (opening / count(threads.max(1))).max(longest)
}

/// The most that components hold together: one at a time, one more after the other, or all of them opened at once.
fn together(parts: &[Need], plan: &Plan) -> f64 {
    if plan.opens_ahead {
        return parts.iter().map(|part| part.peak()).sum();
    }
    let (mut held, mut most) = (0.0_f64, 0.0_f64);
    for part in parts {
        let running = part.resident + part.running;
        most = most.max(held + part.loading.max(running));
        if plan.memory == Memory::Normal {
            held += running;
        }
    }
    most
}

fn sees_one_size(role: Role) -> bool {
    matches!(role, Role::TextEncoder | Role::TextEncoder2 | Role::TextEncoder3 | Role::ImageEncoder)
}

/// Frames of latents that a component sees at once.
fn frames_in(bundle: &Bundle, request: &Resolved, role: Role) -> usize {
    request.frames.filter(|_| role == bundle.denoiser()).map_or(1, |frames| frames.in_call().max(1))
}

fn decodes_whole(bundle: &Bundle) -> bool {
    bundle.architecture().is_some_and(Architecture::decodes_whole_clips)
}

/// Frames of latents that a decoder is given at once.
fn decoded_at_once(bundle: &Bundle, request: &Resolved, plan: &Plan) -> usize {
    let latents = request.frames.filter(|_| decodes_whole(bundle)).map_or(1, |frames| frames.latents);
    plan.clip_tile.map_or(latents, |tile| tile.latents_in_call().min(latents))
}

/// The size in pixels of what a component sees at once.
fn piece(role: Role, request: &Resolved, tile: Option<Tile>) -> (usize, usize) {
    let (width, height) = (request.width as usize, request.height as usize);
    match tile.filter(|_| matches!(role, Role::VaeDecoder | Role::VaeDecoderFirst | Role::TinyDecoder)) {
        Some(tile) => (width.min(tile.pixels()), height.min(tile.pixels())),
        None => (width, height),
    }
}

/// Height times width of what goes into a component that sees `size` in pixels.
fn points(bundle: &Bundle, role: Role, (width, height): (usize, usize)) -> f64 {
    let side = match role {
        Role::Unet | Role::Transformer | Role::VaeDecoder | Role::VaeDecoderFirst | Role::TinyDecoder | Role::PreviewDecoder => {
            bundle.geometry.pixels_per_latent.max(1)
        }
        _ => 1,
    };
    count(width / side) * count(height / side)
}

/// Which components run how often, and with how many rows at once.
fn calls(bundle: &Bundle, request: &Resolved, plan: &Plan) -> Vec<(Role, usize, usize)> {
    let batches = request.count.div_ceil(plan.batch.max(1));
    let once = |role| (role, batches, plan.batch);
    match &bundle.family {
        Family::Vae { .. } | Family::Flow { .. } => return vec![once(Role::Decoder)],
        Family::Gan { .. } => return vec![once(Role::Mapping), once(Role::Synthesis)],
        _ => {}
    }
    let sampler_calls = request.sampler.as_ref().and_then(|config| Some(config.build(&request.run).ok()?.timesteps().len()));
    let solver_calls = request.solver.map(|solver| request.steps * solver.method.evaluations_per_step());
    let full = sampler_calls.or(solver_calls).unwrap_or(request.steps);
    let taken = match request.task {
        Task::TextToPicture | Task::FirstFrame { .. } => full,
        _ => full * steps_taken(bundle, request.steps, request.strength) / request.steps.max(1),
    };
    let passes = if plan.guidance_passes == GuidancePasses::TwoRuns { 2 } else { 1 };
    let mut found = Vec::new();
    let texts = if plan.guidance_passes == GuidancePasses::One { 1 } else { 2 };
    if bundle.takes_text() {
        found.extend([Role::TextEncoder, Role::TextEncoder2, Role::TextEncoder3].map(|role| (role, texts, 1)));
        match &request.task {
            Task::TextToPicture => {}
            Task::PictureToPicture { .. } | Task::Inpaint { .. } => found.push((Role::VaeEncoder, 1, 1)),
            Task::ClipToClip { frames, .. } => found.push((Role::VaeEncoder, frames.len(), 1)),
            Task::FirstFrame { .. } => {
                // An encoder that does not go through the clip sees the picture alone.
                let goes_on = bundle.components.contains_key(&Role::VaeEncoderFirst);
                let further = request.frames.filter(|_| goes_on).map_or(1, |frames| frames.latents.saturating_sub(1));
                found.extend([(Role::ImageEncoder, 1, 1), (Role::VaeEncoderFirst, 1, 1), (Role::VaeEncoder, further, 1)]);
            }
        }
    }
    let shows = bundle.preview_decoder().filter(|_| plan.previews);
    found.extend(shows.filter(|role| *role != plan.decoder).map(|role| (role, taken * batches, 1)));
    let windows = request.frames.map_or(1, |frames| frames.windows().len());
    let in_call = frames_in(bundle, request, bundle.denoiser());
    // The frames of a clip go through the denoiser as pictures of a batch do.
    // A transformer sees them together instead.
    let rows = if bundle.denoiser() == Role::Transformer { 1 } else { in_call };
    found.push((bundle.denoiser(), taken * passes * batches * windows, memory::denoiser_rows(plan) * rows));
    if bundle.takes_text() {
        let side = bundle.geometry.pixels_per_latent;
        let along = |pixels: u32| plan.tile.map_or(1, |tile| (pixels as usize / side).div_ceil(tile.stride()));
        let tiles = along(request.width) * along(request.height);
        let frames = request.frames.map_or(1, |frames| frames.latents);
        let has_first = bundle.components.contains_key(&Role::VaeDecoderFirst);
        found.push((Role::VaeDecoderFirst, tiles, 1));
        let frames = match (decodes_whole(bundle), plan.clip_tile) {
            (true, Some(tile)) => tile.count(frames),
            (true, None) => 1,
            (false, _) => frames - usize::from(has_first),
        };
        let shown = if shows == Some(plan.decoder) { taken * batches } else { 0 };
        found.push((plan.decoder, request.count * frames * tiles + shown, 1));
    }
    found.retain(|(role, calls, _)| *calls > 0 && bundle.components.contains_key(role));
    found
}

fn bytes(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
    let bytes = value.max(0.0) as u64;
    bytes
}
