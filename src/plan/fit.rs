//! Chooses a plan within a budget.
//!
//! What gives way, in this order: components stay resident → each is dropped after use → latents are decoded in tiles, larger ones first → fewer
//! of the steps that the model was trained for → a smaller picture, where that is allowed. What a person said themselves does not
//! give way. The first plan that fits is taken; where none does, the error names the nearest that would.

use anyhow::Result;

use super::budget::{memory_text, over_budget, time_text};
use super::{Assignments, Budget, Decision, Forecast, Measurements, Memory, Plan, Settings, Tile, TileChoice};
use crate::bundle::Bundle;
use crate::request::{Request, Resolved};

/// Sizes that are tried below the one asked for, in parts of it.
const SMALLER: [(u32, u32); 3] = [(3, 4), (1, 2), (1, 4)];

/// What may give way beside how components are kept and decoded.
#[derive(Clone, Copy)]
struct Leave {
    steps: bool,
    size: bool,
    memory: bool,
    tile: bool,
}

/// One way to carry a request out.
struct Candidate {
    resolved: Resolved,
    plan: Plan,
}

/// What candidates have in common.
#[derive(Clone, Copy)]
struct Planner<'a> {
    bundle: &'a Bundle,
    settings: &'a Settings,
    assignments: &'a Assignments,
    measurements: Option<&'a Measurements>,
}

impl Plan {
    /// Decides how `request` is carried out within the budget of `settings`.
    ///
    /// # Errors
    /// As [`Request::resolve`] and [`Plan::new`]; a refusal: nothing fits the budget.
    pub fn within(
        bundle: &Bundle,
        request: &Request,
        settings: &Settings,
        assignments: &Assignments,
        measurements: Option<&Measurements>,
    ) -> Result<(Resolved, Self)> {
        let planner = Planner { bundle, settings, assignments, measurements };
        let budget = &settings.budget;
        let first = planner.candidate(request.resolve(bundle)?, settings)?;
        if budget.is_free() || fits(budget, &first.plan.forecast) {
            return Ok((first.resolved, reasoned(first.plan, budget, None)));
        }
        let leave = Leave {
            steps: request.steps.is_none(),
            size: budget.may_shrink,
            memory: settings.memory == Memory::Normal,
            tile: settings.tile == TileChoice::Auto,
        };
        let found = planner.candidates(request, &first.resolved, leave);
        if let Some(found) = found.into_iter().find(|candidate| fits(budget, &candidate.plan.forecast)) {
            return Ok((found.resolved, reasoned(found.plan, budget, Some(&first.plan))));
        }
        // With a budget of memory there is no way to ask for residence beside it.
        let memory = leave.memory || budget.memory_bytes.is_none();
        let all = Leave { steps: true, size: true, memory, tile: true };
        let anything = planner.candidates(request, &first.resolved, all);
        Err(refused(&first, settings, &anything))
    }
}

impl Planner<'_> {
    fn candidate(&self, resolved: Resolved, settings: &Settings) -> Result<Candidate> {
        let mut plan = Plan::new(self.bundle, &resolved, settings, self.assignments)?;
        plan.forecast = Forecast::new(self.bundle, &resolved, &plan, self.measurements);
        Ok(Candidate { resolved, plan })
    }

    /// Every way that `leave` allows, in the order of giving way; one that the bundle does not take is left out.
    fn candidates(&self, request: &Request, asked: &Resolved, leave: Leave) -> Vec<Candidate> {
        let bundle = self.bundle;
        let mut steps = vec![request.steps];
        if leave.steps {
            let fewer = bundle.habits.trained_steps.iter().rev().filter(|steps| **steps < asked.steps);
            steps.extend(fewer.map(|steps| Some(*steps)));
        }
        let mut sizes = vec![request.size];
        if leave.size && bundle.geometry.fixed_size.is_none() {
            let unit = bundle.geometry.side_unit.max(1);
            sizes.extend(SMALLER.map(|(part, of)| {
                let side = |pixels: u32| (pixels * part / of / unit * unit).max(unit);
                Some((side(asked.width), side(asked.height)))
            }));
        }
        let mut found = Vec::new();
        for size in sizes {
            for steps in &steps {
                let resolved = match (size, steps) == (request.size, &request.steps) {
                    true => Ok(asked.clone()),
                    // One seed for all: it is the same picture in other ways.
                    false => Request { steps: *steps, size, seed: Some(asked.seed), ..request.clone() }.resolve(bundle),
                };
                match resolved {
                    Ok(resolved) => self.ways(&resolved, leave, &mut found),
                    Err(error) => log::debug!("not planned: {error:#}"),
                }
            }
        }
        found
    }

    /// Adds the ways of keeping components and of decoding that `leave` allows for one request.
    fn ways(&self, resolved: &Resolved, leave: Leave, found: &mut Vec<Candidate>) {
        let settings = self.settings;
        let memories = if leave.memory { vec![Memory::Normal, Memory::Low] } else { vec![settings.memory] };
        let mut ways: Vec<(Memory, TileChoice)> = memories.iter().map(|memory| (*memory, settings.tile)).collect();
        if leave.tile {
            let least = *memories.last().unwrap_or(&settings.memory);
            let side = resolved.width.max(resolved.height) as usize;
            let tiles = [2, 4, 8].into_iter().filter_map(|part| Tile::within(self.bundle, side / part));
            ways.extend(tiles.map(|tile| (least, u32::try_from(tile.pixels()).map_or(settings.tile, TileChoice::Pixels))));
        }
        for (memory, tile) in ways {
            let settings = Settings { memory, tile, ..settings.clone() };
            match self.candidate(resolved.clone(), &settings) {
                Ok(candidate) => found.push(candidate),
                Err(error) => log::debug!("not planned: {error:#}"),
            }
        }
    }
}

fn fits(budget: &Budget, forecast: &Forecast) -> bool {
    // A solver that chooses its steps promises nothing.
    let in_time = budget.within_ms.is_none_or(|within| forecast.time_ms.is_some_and(|time| time <= within));
    in_time && budget.memory_bytes.is_none_or(|bytes| forecast.memory_bytes <= bytes)
}

/// Writes into the plan's reasons what gave way to `budget`.
fn reasoned(mut plan: Plan, budget: &Budget, asked: Option<&Plan>) -> Plan {
    let (within, memory) = (budget.within_ms.map(time_text), budget.memory_bytes.map(memory_text));
    if let Some(asked) = asked {
        let mut limits = Vec::new();
        limits.extend(within.as_ref().map(|within| format!("within {within}")));
        limits.extend(memory.as_ref().map(|memory| format!("in {memory}")));
        let limits = limits.join(" and ");
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
    let made = made.into_iter().map(|(what, choice, because)| Decision { what, choice, because: because.to_owned() });
    plan.decisions.extend(made);
    plan
}

/// Nothing fits: what it would take, the nearest that would fit, and what to say for that.
fn refused(first: &Candidate, settings: &Settings, all: &[Candidate]) -> anyhow::Error {
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
fn changes(first: &Candidate, near: &Candidate, memory: Option<Memory>) -> String {
    let (asked, found) = (&first.resolved, &near.resolved);
    let mut words = Vec::new();
    if found.steps != asked.steps {
        words.push(format!("--steps {}", found.steps));
    }
    if (found.width, found.height) != (asked.width, asked.height) {
        words.push(format!("--size {}x{}", found.width, found.height));
    }
    if let Some(tile) = near.plan.tile.filter(|_| near.plan.tile != first.plan.tile) {
        words.push(format!("--tile {}", tile.pixels()));
    }
    words.extend(memory.map(|memory| format!("--memory {memory}")));
    words.join(" ")
}
