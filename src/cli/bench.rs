//! `kiln bench`: measures a bundle on this device.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::json;

use super::device::{DeviceArguments, tell_choice};
use super::inspect::megabytes;
use crate::bundle::Shelf;
use crate::engine::Engine;
use crate::output::{ComponentRun, Provenance};
use crate::plan::{Memory, Settings, TileChoice};
use crate::request::Request;
use crate::runtime::{Cancel, peak_memory_bytes};
use crate::tune::median;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model: a folder, or a name that `kiln models` lists
    model: PathBuf,

    /// Pictures that are made for the figures, after one that loads the components
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000), allow_negative_numbers = true)]
    runs: u16,

    /// Denoising steps [default: the model's own]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    steps: Option<usize>,

    /// Guidance scale [default: the model's own]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance: Option<f32>,

    /// Width and height in pixels [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = super::number::size)]
    size: Option<(u32, u32)>,

    /// The prompt [default: "a red apple" where the model takes text]
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,

    /// Frames of a clip [default: the model's own, where it makes clips]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = super::number::whole::<usize>)]
    frames: Option<usize>,

    #[command(flatten)]
    device: DeviceArguments,

    /// low: load each component when it is needed and drop it after; normal: keep all
    #[arg(long, value_name = "low|normal", default_value = "normal", value_parser = super::request::parse_memory)]
    memory: Memory,

    /// Decode in tiles of this side in pixels
    #[arg(long, value_name = "N|off|auto", default_value = "auto", value_parser = super::request::parse_tile)]
    tile: TileChoice,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One component's figures, in milliseconds.
struct Row {
    role: String,
    provider: String,
    precision: String,
    load_ms: f64,
    run_ms: f64,
    calls: usize,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let folder = Shelf::usual().find(Some(&arguments.model))?;
    let settings = Settings { memory: arguments.memory, tile: arguments.tile, ..arguments.device.settings()? };
    let begun = Instant::now();
    let mut engine = Engine::open(&folder, &settings, runtime)?;
    tell_choice(&engine, arguments.json);
    let open_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let default = if engine.bundle().takes_text() { "a red apple" } else { "" };
    let request = Request {
        seed: Some(0),
        steps: arguments.steps,
        guidance: arguments.guidance,
        size: arguments.size,
        frames: arguments.frames,
        ..Request::new(arguments.prompt.as_deref().unwrap_or(default))
    };

    let begun = Instant::now();
    let first = make(&mut engine, &request, cancel)?;
    let first_ms = begun.elapsed().as_secs_f64() * 1000.0;
    let (mut totals, mut shares, mut outsides, mut runs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let begun = Instant::now();
        let made = make(&mut engine, &request, cancel)?;
        let total_ms = begun.elapsed().as_secs_f64() * 1000.0;
        // With low memory components are opened again for each picture; that too is ONNX Runtime's time.
        let inside: f64 = made.components.iter().map(|component| component.run_ms + component.load_ms).sum();
        totals.push(total_ms);
        outsides.push(total_ms - inside);
        shares.push((total_ms - inside) / total_ms * 100.0);
        runs.push(made);
    }
    let rows: Vec<Row> = first
        .components
        .iter()
        .map(|component| {
            let of_role = |made: &Provenance| made.components.iter().find(|found| found.role == component.role).cloned();
            let run_ms: Vec<f64> = runs.iter().filter_map(of_role).map(|component| component.run_ms).collect();
            let ComponentRun { role, provider, precision, load_ms, calls, .. } = component.clone();
            Row { role, provider, precision, load_ms, run_ms: median(&run_ms), calls }
        })
        .collect();
    let steps = first.timesteps.len();
    let denoiser = engine.bundle().denoiser().folder();
    let unet_ms = rows.iter().find(|row| row.role == denoiser).map_or(0.0, |row| row.run_ms);
    #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
    let step_ms = unet_ms / steps.max(1) as f64;
    let peak = peak_memory_bytes();

    if arguments.json {
        let components: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "role": row.role, "provider": row.provider, "precision": row.precision, "load_ms": row.load_ms,
                    "run_ms": row.run_ms, "calls": row.calls,
                })
            })
            .collect();
        let value = json!({
            "model": first.bundle.name, "sha256": first.bundle.sha256, "runtime": first.runtime, "threads": first.threads,
            "memory": first.memory, "width": first.width, "height": first.height, "steps": first.steps, "guidance": first.guidance,
            "sampler": first.sampler, "runs": arguments.runs, "open_ms": open_ms, "first_picture_ms": first_ms,
            "picture_ms": { "median": median(&totals), "least": least(&totals), "most": most(&totals) },
            "frames": first.clip.map(|clip| clip.frames), "step_ms": step_ms, "outside_runtime_ms": median(&outsides), "outside_runtime_percent": median(&shares),
            "peak_memory_bytes": peak, "components": components,
        });
        super::print(format!("{}\n", serde_json::to_string_pretty(&value)?).as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = format!(
        "{} {}x{}, {steps} steps of {}, guidance {}, ONNX Runtime {}, {} threads, {} memory\n\n",
        first.bundle.name, first.width, first.height, first.sampler, first.guidance, first.runtime, first.threads, first.memory
    );
    let _ = writeln!(text, "{:<18}{:>10}{:>12}{:>8}{:>12}  runs on", "component", "load ms", "picture ms", "calls", "call ms");
    for row in &rows {
        #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
        let call_ms = row.run_ms / row.calls.max(1) as f64;
        let Row { role, provider, precision, load_ms, run_ms, calls } = row;
        let _ = writeln!(text, "{role:<18}{load_ms:>10.1}{run_ms:>12.2}{calls:>8}{call_ms:>12.2}  {provider}, {precision}");
    }
    let what = if first.clip.is_some() { "clip" } else { "picture" };
    let _ = writeln!(text, "\nopen folder and library  {open_ms:>9.1} ms");
    let _ = writeln!(text, "{:<25}{first_ms:>9.1} ms", format!("first {what}"));
    let _ = writeln!(
        text,
        "{what:<25}{:>9.1} ms  ({:.1} to {:.1} in {} runs)",
        median(&totals),
        least(&totals),
        most(&totals),
        arguments.runs
    );
    if let Some(clip) = &first.clip {
        #[expect(clippy::cast_precision_loss, reason = "a count of frames")]
        let frame_ms = median(&totals) / clip.frames.max(1) as f64;
        let (made, shown) = (1000.0 / frame_ms, clip.frames_per_second);
        let _ = writeln!(
            text,
            "frame                    {frame_ms:>9.2} ms  ({} of them; {made:.1} a second, shown at {shown})",
            clip.frames
        );
    }
    let _ = writeln!(text, "step                     {step_ms:>9.2} ms");
    let _ = writeln!(text, "outside ONNX Runtime     {:>9.2} ms  ({:.2} %)", median(&outsides), median(&shares));
    let _ = writeln!(text, "peak memory              {:>12}", peak.map_or_else(|| "not known".to_owned(), megabytes));
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a picture, or a clip whose frames nobody keeps.
fn make(engine: &mut Engine, request: &Request, cancel: &Cancel) -> Result<Provenance> {
    if engine.bundle().makes_clips() {
        return Ok(engine.generate_clip(request, |_| Ok(()), &mut (), cancel)?.provenance);
    }
    let made = engine.generate(request, &mut (), cancel)?;
    Ok(made.into_iter().next().context("no picture was made")?.provenance)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}
