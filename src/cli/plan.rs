//! `kiln plan`: how a picture would be made, in how much time and memory, each decision with its reason.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::generate::{parse_size, parse_tile};
use super::inspect::megabytes;
use crate::bundle::{Bundle, Shelf};
use crate::error::is_refusal;
use crate::plan::{
    Assignments, Budget, Decision, MeasurementKey, Measurements, Memory, Plan, Settings, TileChoice, memory_text, parse_bytes,
    parse_time,
};
use crate::request::{Request, Resolved};
use crate::runtime::{Board, Runtime};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the picture would show
    prompt: Option<String>,

    /// The model: a folder, or a name that `kiln models` lists [default: sticker]
    #[arg(long, short, value_name = "DIR")]
    model: Option<PathBuf>,

    /// The longest that it may take, loading included, such as 300ms or 2s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    within: Option<f64>,

    /// low, normal, or the most to hold, such as 2GiB or 900MiB [default: normal]
    #[arg(long, value_name = "low|normal|SIZE", value_parser = MemoryWish::parse)]
    memory: Option<MemoryWish>,

    /// Allow a smaller picture where --memory or --within asks for it
    #[arg(long)]
    may_shrink: bool,

    /// Denoising steps [default: the model's own]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,

    /// Guidance scale [default: the model's own]
    #[arg(long, value_name = "X")]
    guidance: Option<f32>,

    /// Width and height in pixels [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    size: Option<(u32, u32)>,

    /// How many pictures
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// Decode latents in tiles of this side in pixels [default: auto]
    #[arg(long, value_name = "N|off|auto", value_parser = parse_tile)]
    tile: Option<TileChoice>,

    /// Threads within one operator [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--memory` takes: a way to keep components, or a budget.
#[derive(Debug, Clone, Copy)]
pub(super) enum MemoryWish {
    Mode(Memory),
    Budget(u64),
}

impl MemoryWish {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(mode) => Ok(Self::Mode(mode)),
            Err(_) => parse_bytes(text).map(Self::Budget).map_err(|error| format!("{error}, or low or normal")),
        }
    }

    pub(super) fn mode(wish: Option<Self>) -> Option<Memory> {
        match wish? {
            Self::Mode(memory) => Some(memory),
            Self::Budget(_) => None,
        }
    }

    pub(super) fn budget(wish: Option<Self>) -> Option<u64> {
        match wish? {
            Self::Mode(_) => None,
            Self::Budget(bytes) => Some(bytes),
        }
    }
}

/// What was measured of `bundle` on this device; none is no fault, and a file that is not true is told of.
pub(super) fn measurements(bundle: &Bundle, runtime: &Runtime) -> Option<Measurements> {
    let cache = super::cache_folder()?;
    let key = MeasurementKey {
        bundle: bundle.fingerprint.clone(),
        runtime: runtime.version().to_owned(),
        device: Board::read(Path::new("/")).identity(),
    };
    match Measurements::load(&key.file(&cache), &key) {
        Ok(found) => found,
        Err(error) => {
            log::warn!("{error:#}; forecasts are estimates");
            None
        }
    }
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>) -> Result<ExitCode> {
    let bundle = Bundle::open(&Shelf::usual().find(arguments.model.as_deref())?)?;
    let settings = Settings {
        threads: arguments.threads.map(usize::from),
        memory: MemoryWish::mode(arguments.memory).unwrap_or_default(),
        tile: arguments.tile.unwrap_or_default(),
        budget: Budget {
            within_ms: arguments.within,
            memory_bytes: MemoryWish::budget(arguments.memory),
            may_shrink: arguments.may_shrink,
        },
        ..Settings::default()
    };
    let request = Request {
        steps: arguments.steps,
        guidance: arguments.guidance,
        size: arguments.size,
        count: usize::try_from(arguments.count)?,
        ..Request::new(arguments.prompt.clone().unwrap_or_default())
    };
    let runtime = match Runtime::open(runtime) {
        Ok(runtime) => Some(runtime),
        // A library was named, and it is not one.
        Err(error) if is_refusal(&error) => return Err(error),
        // Without a runtime nothing can have been measured, and a plan can be made all the same.
        Err(error) => {
            log::info!("{error:#}");
            None
        }
    };
    let measured = runtime.as_deref().and_then(|runtime| measurements(&bundle, runtime));
    let assignments =
        runtime.as_deref().map(|runtime| Assignments::new(&bundle, &settings, runtime)).transpose()?.unwrap_or_default();
    let (resolved, plan) = Plan::within(&bundle, &request, &settings, &assignments, measured.as_ref())?;
    plan.warn_of_estimate(&settings.budget);
    let text = match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&json_of(&bundle, &resolved, &plan))?),
        false => super::plain(&table(&bundle, &plan)),
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn table(bundle: &Bundle, plan: &Plan) -> String {
    let mut text = format!("{}\n\n", bundle.name());
    let widest =
        |of: fn(&Decision) -> &str| plan.decisions.iter().map(|decision| of(decision).chars().count()).max().unwrap_or(0);
    let (what, choice) = (widest(|decision| decision.what), widest(|decision| &decision.choice));
    for decision in &plan.decisions {
        let _ = writeln!(text, "{:<what$}  {:<choice$}  {}", decision.what, decision.choice, decision.because);
    }
    let _ = writeln!(text, "\n{:<16}{:>7}{:>12}{:>12}  from", "component", "calls", "ms", "memory");
    for component in &plan.forecast.components {
        let source = if component.is_measured { "measurement" } else { "estimate" };
        let memory = megabytes(component.memory_bytes);
        let _ = writeln!(
            text,
            "{:<16}{:>7}{:>12.0}{memory:>12}  {source}",
            component.role.folder(),
            component.calls,
            component.time_ms
        );
    }
    text
}

fn json_of(bundle: &Bundle, resolved: &Resolved, plan: &Plan) -> serde_json::Value {
    let decisions: Vec<_> = plan
        .decisions
        .iter()
        .map(|decision| json!({ "what": decision.what, "choice": decision.choice, "because": decision.because }))
        .collect();
    let components: Vec<_> = plan
        .forecast
        .components
        .iter()
        .map(|component| {
            let assigned = plan.assignments.of(component.role).map(|assignment| assignment.precision.clone());
            let precision =
                assigned.or_else(|| bundle.component(component.role).ok().map(|found| found.header.precision.clone()));
            json!({
                "role": component.role.folder(), "provider": plan.assignments.provider_of(component.role).to_string(), "precision": precision, "calls": component.calls,
                "time_ms": component.time_ms, "memory_bytes": component.memory_bytes, "measured": component.is_measured,
            })
        })
        .collect();
    json!({
        "model": bundle.name(), "sha256": bundle.fingerprint, "width": resolved.width, "height": resolved.height, "count": resolved.count,
        "steps": resolved.steps, "guidance": resolved.guidance, "sampler": resolved.sampler_name(), "threads": plan.threads,
        "memory": plan.memory.to_string(), "resident": plan.keeps_components(), "tile": plan.tile.map(crate::plan::Tile::pixels),
        "expected_time_ms": plan.forecast.time_ms, "expected_memory_bytes": plan.forecast.memory_bytes,
        "expected_memory": memory_text(plan.forecast.memory_bytes), "measured": plan.forecast.is_measured,
        "components": components, "decisions": decisions,
    })
}
