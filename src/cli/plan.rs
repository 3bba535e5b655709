//! `kiln plan`: how a picture would be made, in how much time and memory, each decision with its reason.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::inspect::megabytes;
use super::request::{Asked, RequestArguments};
use crate::bundle::Bundle;
use crate::error::is_refusal;
use crate::lineage::wrapped;
use crate::plan::{Assignments, Decision, MeasurementKey, Measurements, Plan, memory_text};
use crate::request::Resolved;
use crate::runtime::{Board, Runtime};

/// The fewest columns that a table is made for.
const NARROWEST: usize = 60;
/// Longer choices do not widen their column.
const WIDEST_CHOICE: usize = 24;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    asked: RequestArguments,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was measured of `bundle` on this device; none is no fault, and a file that is not true is told of.
pub(super) fn measurements(bundle: &Bundle, runtime: &Runtime) -> Option<Measurements> {
    // Telling what device this is takes longer than finding that nothing was measured.
    let cache = super::cache_folder().filter(|cache| MeasurementKey::any(cache, &bundle.fingerprint))?;
    let (board, plugin) = (Board::of_measurements(Path::new("/")), runtime.plugin());
    let key = MeasurementKey::new(&bundle.fingerprint, runtime.version(), runtime.path(), plugin.as_deref(), &board);
    match Measurements::load(&key.file(&cache), &key) {
        Ok(found) => found,
        Err(error) => {
            log::warn!("{error:#}; forecasts are estimates");
            None
        }
    }
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>) -> Result<ExitCode> {
    arguments.asked.warn_of_a_model_as_prompt();
    let Asked { record, folder, mut request, film, settings, .. } = arguments.asked.read()?;
    let bundle = settings.open_bundle(&folder)?;
    if let Some(film) = &film {
        film.put_into(&mut request, &bundle)?;
    }
    if let Some(record) = record.as_ref().filter(|_| !arguments.asked.force) {
        record.check_bundle(&bundle)?;
    }
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
    let assignments =
        runtime.as_deref().map(|runtime| Assignments::new(&bundle, &settings, runtime)).transpose()?.unwrap_or_default();
    // Only now is the plugin known, to which they belong as well.
    let measured = runtime.as_deref().and_then(|runtime| measurements(&bundle, runtime));
    let (resolved, plan) = Plan::within(&bundle, &request, &settings, &assignments, measured.as_ref(), &[])?;
    plan.warn(&resolved, &settings.budget);
    let text = match arguments.json {
        true => format!("{}\n", serde_json::to_string_pretty(&json_of(&bundle, &resolved, &plan))?),
        false => super::plain(&table(&bundle, &plan)),
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Three columns, the last of them wrapped; a choice that is too long for its own has the reason below it.
fn decisions(decisions: &[Decision], columns: usize) -> String {
    let widths = |of: fn(&Decision) -> &str| decisions.iter().map(move |decision| of(decision).chars().count());
    let what = widths(|decision| decision.what).max().unwrap_or(0);
    let choice = widths(|decision| &decision.choice).filter(|width| *width <= WIDEST_CHOICE).max().unwrap_or(0);
    let begins = what + 2 + choice + 2;
    let mut text = String::new();
    for decision in decisions {
        let mut line = format!("{:<what$}  {}", decision.what, decision.choice);
        if decision.choice.chars().count() > choice {
            text.push_str(&line);
            text.push('\n');
            line.clear();
        }
        for part in wrapped(&decision.because, columns.saturating_sub(begins).max(NARROWEST / 2)) {
            let _ = writeln!(text, "{line:<begins$}{part}");
            line.clear();
        }
    }
    text
}

fn table(bundle: &Bundle, plan: &Plan) -> String {
    let mut text = format!("{}\n\n{}", bundle.name(), decisions(&plan.decisions, super::columns().max(NARROWEST)));
    let _ = writeln!(text, "\n{:<18}{:>7}{:>12}{:>12}  from", "component", "calls", "ms", "memory");
    for component in &plan.forecast.components {
        let source = if component.is_measured { "measurement" } else { "estimate" };
        let memory = megabytes(component.memory_bytes);
        let _ = writeln!(
            text,
            "{:<18}{:>7}{:>12.0}{memory:>12}  {source}",
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
                "time_ms": component.time_ms, "memory_bytes": component.memory_bytes, "device_memory_bytes": component.device_memory_bytes, "measured": component.is_measured,
            })
        })
        .collect();
    json!({
        "model": bundle.name(), "sha256": bundle.fingerprint, "width": resolved.width, "height": resolved.height, "count": resolved.count, "frames": resolved.frames.map(|frames| frames.count),
        "steps": resolved.steps, "guidance": resolved.guidance, "sampler": resolved.sampler_name(), "threads": plan.threads,
        "memory": plan.memory.to_string(), "resident": plan.keeps_components(), "tile": plan.tile.map(crate::plan::Tile::pixels), "opens_ahead": plan.opens_ahead,
        "expected_time_ms": plan.forecast.time_ms, "networks_time_ms": plan.forecast.networks_ms, "expected_memory_bytes": plan.forecast.memory_bytes,
        "expected_device_memory_bytes": plan.forecast.device_memory_bytes, "expected_memory": memory_text(plan.forecast.memory_bytes), "measured": plan.forecast.is_measured,
        "components": components, "decisions": decisions,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_wrapped_and_long_choices_do_not_widen_the_table() {
        let decision = |what, choice: &str, because: &str| Decision { what, choice: choice.into(), because: because.into() };
        let long = "a reason of many words ".repeat(8);
        let made =
            [decision("size", "64x64", &long), decision("decoding", &"tiles ".repeat(8), "short"), decision("x", "y", "z")];
        for columns in [NARROWEST, 80, 200] {
            let text = decisions(&made, columns);
            assert!(text.lines().all(|line| line.trim_end().chars().count() <= columns), "{text}");
            assert_eq!(text.split_whitespace().filter(|word| *word == "reason").count(), 8, "{text}");
            let begins = text.lines().find(|line| line.starts_with('x')).unwrap().find('z').unwrap();
            assert_eq!(text.lines().find(|line| line.contains("short")).unwrap().trim_end().len(), begins + 5, "{text}");
        }
    }
}
