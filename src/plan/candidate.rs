//! One way to carry a request out: whether it fits a budget, why it was chosen, what to say where none fits.

use super::budget::{memory_text, over_budget, time_text};
use super::{Budget, Decision, Forecast, Memory, Plan, Settings};
use crate::request::Resolved;

/// One way to carry a request out.
pub(super) struct Candidate {
    pub(super) resolved: Resolved,
    pub(super) plan: Plan,
}

/// Whether what `forecast` says is within `budget`.
pub(super) fn fits(budget: &Budget, forecast: &Forecast) -> bool {
    // A solver that chooses its steps promises nothing.
    let in_time = budget.within_ms.is_none_or(|within| forecast.time_ms.is_some_and(|time| time <= within));
    in_time && fits_memory(budget, forecast)
}

/// Whether the memory that `forecast` says is within `budget`.
pub(super) fn fits_memory(budget: &Budget, forecast: &Forecast) -> bool {
    budget.memory_bytes.is_none_or(|bytes| forecast.memory_bytes <= bytes)
}

/// The limits of `budget` in words.
pub(super) fn limits(budget: &Budget) -> String {
    let mut limits = Vec::new();
    limits.extend(budget.within_ms.map(|within| format!("within {}", time_text(within))));
    limits.extend(budget.memory_bytes.map(|bytes| format!("in {}", memory_text(bytes))));
    limits.join(" and ")
}

impl Candidate {
    /// Writes into the plan's reasons what gave way: of the plan that was asked for, to which limits.
    pub(super) fn reasoned(self, budget: &Budget, gave_way: Option<(&Plan, &str)>) -> Self {
        Self { plan: reasoned(self.plan, budget, gave_way), ..self }
    }
}

fn reasoned(mut plan: Plan, budget: &Budget, gave_way: Option<(&Plan, &str)>) -> Plan {
    let (within, memory) = (budget.within_ms.map(time_text), budget.memory_bytes.map(memory_text));
    if let Some((asked, limits)) = gave_way {
        for decision in &mut plan.decisions {
            let before = asked.decisions.iter().find(|before| before.what == decision.what);
            if let Some(before) = before.filter(|before| before.choice != decision.choice) {
                decision.because = format!("instead of {}, to be done {limits}", before.choice);
            }
        }
    }
    let forecast = &plan.forecast;
    let time = forecast.time_ms.map_or_else(|| "not known".to_owned(), time_text);
    let time_source = if forecast.time_ms.is_some() { forecast.source() } else { "the solver chooses its own steps" };
    let took = memory_text(forecast.memory_bytes);
    let mut made = vec![("expected time", time, time_source)];
    made.extend(within.map(|within| ("time allowed", within, "--within")));
    made.push(("expected memory", took, forecast.source()));
    made.extend(memory.map(|memory| ("memory allowed", memory, "--memory")));
    if forecast.device_memory_bytes > 0 {
        made.push(("device memory", memory_text(forecast.device_memory_bytes), "an estimate; --memory is of the process's own"));
    }
    let made = made.into_iter().map(|(what, choice, because)| Decision { what, choice, because: because.to_owned() });
    plan.decisions.extend(made);
    plan
}

/// Nothing fits: what it would take, the nearest that would fit, and what to say for that.
pub(super) fn refused(first: &Candidate, settings: &Settings, all: &[Candidate]) -> anyhow::Error {
    let (asked, budget) = (&first.plan.forecast, &settings.budget);
    let mut wants = Vec::new();
    if let Some(bytes) = budget.memory_bytes.filter(|bytes| asked.memory_bytes > *bytes) {
        wants.push(format!("{} of memory where {} are allowed", memory_text(asked.memory_bytes), memory_text(bytes)));
    }
    match (budget.within_ms, asked.time_ms) {
        (Some(within), Some(time)) if time > within => {
            wants.push(format!("{} where {} are allowed", time_text(time), time_text(within)))
        }
        (Some(_), None) => wants.push("a time that nobody knows, as its solver chooses its own steps".to_owned()),
        _ => {}
    }
    let takes = format!("budget: this picture takes {} ({})", wants.join(" and "), asked.source());
    if let Some(near) = all.iter().find(|candidate| fits(budget, &candidate.plan.forecast)) {
        let memory = (near.plan.memory != settings.memory && settings.memory == Memory::Low).then_some(near.plan.memory);
        return over_budget(&format!("{takes}; the nearest that fits: the same with `{}`", changes(first, near, memory)));
    }
    let least = |candidate: &&Candidate| candidate.plan.forecast.memory_bytes;
    let quickest = all.iter().filter_map(|candidate| candidate.plan.forecast.time_ms).fold(f64::INFINITY, f64::min);
    match (all.iter().min_by_key(least), budget.memory_bytes) {
        (Some(near), Some(bytes)) if near.plan.forecast.memory_bytes > bytes => over_budget(&format!(
            "{takes}; the least that this model takes is {}: the same with `{}`",
            memory_text(near.plan.forecast.memory_bytes),
            changes(first, near, Some(near.plan.memory))
        )),
        _ if quickest.is_finite() => over_budget(&format!(
            "{takes}; the quickest that this model makes takes {}; another model may do",
            time_text(quickest)
        )),
        _ => over_budget(&format!("{takes}; name a solver with fixed steps, such as --sampler rk4")),
    }
}

/// The flags that make `near` of what was asked for first.
pub(super) fn changes(first: &Candidate, near: &Candidate, memory: Option<Memory>) -> String {
    let (asked, found) = (&first.resolved, &near.resolved);
    let mut words = Vec::new();
    if found.steps != asked.steps {
        words.push(format!("--steps {}", found.steps));
    }
    if (found.width, found.height) != (asked.width, asked.height) {
        words.push(format!("--size {}x{}", found.width, found.height));
    }
    if (near.plan.tile, near.plan.clip_tile) != (first.plan.tile, first.plan.clip_tile) {
        let tiles = [near.plan.tile.map(|tile| tile.pixels().to_string()), near.plan.clip_tile.map(|_| "frames".to_owned())];
        let tiles: Vec<String> = tiles.into_iter().flatten().collect();
        words.push(format!("--tile {}", if tiles.is_empty() { "off".to_owned() } else { tiles.join(",") }));
    }
    if near.plan.decoder != first.plan.decoder {
        words.push("--decoder tiny".to_owned());
    }
    words.extend(memory.map(|memory| format!("--memory {memory}")));
    words.join(" ")
}
