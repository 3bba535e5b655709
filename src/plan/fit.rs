//! Chooses a plan within a budget.
//!
//! What gives way, in this order: components stay resident → each is dropped after use → latents are decoded in tiles, larger ones first → by the tiny
//! decoder, where there is one → fewer
//! of the steps that the model was trained for → a smaller picture, where that is allowed. What a person said themselves does not
//! give way. The first plan that fits is taken; where none does, the error names the nearest that would.
//!
//! A time that was not measured refuses nothing: the quickest plan is then taken, with a warning. Where nobody speaks of memory, what is free is looked
//! at, and residence and whole decoding give way to it, again with a warning; nothing is refused for it.

use std::path::Path;

use anyhow::Result;

use super::budget::memory_text;
use super::candidate::{Candidate, changes, fits, fits_memory, limits, refused};
use super::{Assignments, ClipTile, Decision, DecoderChoice, Forecast, Measurements, Memory, Plan, Settings, Tile, TileChoice};
use crate::bundle::{Bundle, Role};
use crate::request::{Request, Resolved};
use crate::runtime::{MachineMemory, resident_memory_bytes};

/// Sizes that are tried below the one asked for, in parts of it.
const SMALLER: [(u32, u32); 3] = [(3, 4), (1, 2), (1, 4)];

/// What may give way beside how components are kept and decoded.
#[derive(Clone, Copy)]
struct Leave {
    steps: bool,
    size: bool,
    memory: bool,
    tile: bool,
    decoder: bool,
}

/// What candidates have in common.
#[derive(Clone, Copy)]
struct Planner<'a> {
    bundle: &'a Bundle,
    settings: &'a Settings,
    assignments: &'a Assignments,
    measurements: Option<&'a Measurements>,
    /// Components that are open already.
    open: &'a [Role],
    /// What the process can hold in all, where a plan gives way to that and it is known.
    free_bytes: Option<u64>,
    /// What the process can hold in all, where it is known.
    room_bytes: Option<u64>,
}

impl Plan {
    /// Decides how `request` is carried out within the budget of `settings`.
    ///
    /// * `open`: components that are open already, so that opening them takes no time
    ///
    /// # Errors
    /// As [`Request::resolve`] and [`Plan::new`]; a refusal: nothing fits the budget.
    pub fn within(
        bundle: &Bundle,
        request: &Request,
        settings: &Settings,
        assignments: &Assignments,
        measurements: Option<&Measurements>,
        open: &[Role],
    ) -> Result<(Resolved, Self)> {
        let minds_free = settings.budget.minds_free_memory && settings.budget.memory_bytes.is_none();
        let room_bytes = free_bytes();
        let free_bytes = room_bytes.filter(|_| minds_free);
        let found = Planner { bundle, settings, assignments, measurements, open, free_bytes, room_bytes }.choose(request)?;
        Ok((found.resolved, found.plan))
    }
}

/// What this process can hold in all without swapping, in bytes.
fn free_bytes() -> Option<u64> {
    let usable = MachineMemory::of_machine(Path::new("/")).usable_bytes()?;
    Some(usable.saturating_add(resident_memory_bytes().unwrap_or(0)))
}

impl Planner<'_> {
    /// The first way that fits the budget and, where it is known, what is free.
    fn choose(&self, request: &Request) -> Result<Candidate> {
        let (bundle, settings, free_bytes) = (self.bundle, self.settings, self.free_bytes);
        let budget = &settings.budget;
        let first = self.candidate(request.resolve(bundle)?, settings)?;
        let lacks_free = free_bytes.is_some_and(|free| first.plan.forecast.memory_bytes > free);
        if fits(budget, &first.plan.forecast) && !lacks_free {
            return Ok(first.reasoned(budget, None));
        }
        let leave = Leave {
            steps: request.steps.is_none(),
            size: budget.may_shrink,
            memory: settings.memory == Memory::Normal,
            tile: settings.tile == TileChoice::Auto,
            decoder: self.may_take_tiny(),
        };
        if fits(budget, &first.plan.forecast) {
            return Ok(self.within_free(request, first, leave, free_bytes.unwrap_or(0)));
        }
        let mut found = self.candidates(request, &first.resolved, leave);
        let limits = limits(budget);
        if let Some(index) = found.iter().position(|candidate| fits(budget, &candidate.plan.forecast)) {
            return Ok(found.swap_remove(index).reasoned(budget, Some((&first.plan, &limits))));
        }
        // A guess refuses nothing.
        let time = |candidate: &Candidate| candidate.plan.forecast.time_ms.unwrap_or(f64::INFINITY);
        found.retain(|candidate| fits_memory(budget, &candidate.plan.forecast) && time(candidate).is_finite());
        if let Some(quickest) = found.into_iter().min_by(|left, right| time(left).total_cmp(&time(right)))
            && !first.plan.forecast.is_measured
        {
            return Ok(quickest.reasoned(budget, Some((&first.plan, &limits))));
        }
        // With a budget of memory there is no way to ask for residence beside it.
        let memory = leave.memory || budget.memory_bytes.is_none();
        let all = Leave { steps: true, size: true, memory, tile: true, decoder: self.may_take_tiny() };
        let anything = self.candidates(request, &first.resolved, all);
        Err(refused(&first, settings, &anything))
    }

    /// `first`, or a way that `leave` allows and that holds at most `free_bytes`; which it is, a warning says.
    fn within_free(&self, request: &Request, first: Candidate, leave: Leave, free_bytes: u64) -> Candidate {
        let budget = &self.settings.budget;
        let leave = Leave { steps: false, size: false, decoder: false, ..leave };
        let takes = format!(
            "memory: this picture takes {} ({}), and {} are free",
            memory_text(first.plan.forecast.memory_bytes),
            first.plan.forecast.source(),
            memory_text(free_bytes)
        );
        let fits = |candidate: &&mut Candidate| {
            candidate.plan.forecast.memory_bytes <= free_bytes && fits(budget, &candidate.plan.forecast)
        };
        let mut ways = self.candidates(request, &first.resolved, leave);
        match ways.iter_mut().find(fits) {
            Some(found) => {
                let flags = changes(&first, found, Some(found.plan.memory).filter(|memory| *memory != first.plan.memory));
                found
                    .resolved
                    .warnings
                    .push(format!("{takes}; it is made as with `{flags}`; `--memory normal` makes it as asked"));
                let free = format!("in the {} that are free", memory_text(free_bytes));
                Candidate { resolved: found.resolved.clone(), plan: found.plan.clone() }
                    .reasoned(budget, Some((&first.plan, &free)))
            }
            None => {
                let mut first = first.reasoned(budget, None);
                let way =
                    if leave.tile && leave.memory { "a smaller --size takes less" } else { "--memory low and --tile take less" };
                first.resolved.warnings.push(format!("{takes}; the system may swap, or end the program; {way}"));
                first
            }
        }
    }

    /// Whether the tiny decoder may take the full one's place.
    fn may_take_tiny(&self) -> bool {
        self.settings.decoder == DecoderChoice::Auto && self.bundle.components.contains_key(&Role::TinyDecoder)
    }

    fn forecast(&self, resolved: &Resolved, plan: &Plan) -> Forecast {
        let forecast = Forecast::new(self.bundle, resolved, plan, self.measurements);
        // With little memory each picture opens them anew.
        let open = if plan.memory == Memory::Normal { self.open } else { &[] };
        forecast.beyond(open, if plan.opens_ahead { plan.threads } else { 1 })
    }

    fn candidate(&self, resolved: Resolved, settings: &Settings) -> Result<Candidate> {
        let mut plan = Plan::new(self.bundle, &resolved, settings, self.assignments)?;
        plan.opens_ahead = plan.may_open_ahead();
        plan.forecast = self.forecast(&resolved, &plan);
        let is_too_much = |bytes: u64| plan.forecast.memory_bytes > bytes;
        let because = if !plan.opens_ahead {
            "another way needs two threads of the processor, and room for all of them"
        } else if settings.budget.memory_bytes.is_some_and(is_too_much) || self.room_bytes.is_none_or(is_too_much) {
            plan.opens_ahead = false;
            plan.forecast = self.forecast(&resolved, &plan);
            "beside each other they take more memory than there is"
        } else {
            "the processor has cores to spare while a network is opened"
        };
        if plan.forecast.components.len() > 1 {
            let choice = if plan.opens_ahead { "beside each other" } else { "one after the other" };
            plan.decisions.push(Decision { what: "opening", choice: choice.to_owned(), because: because.to_owned() });
        }
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
            ways.extend(ClipTile::of(self.bundle).map(|_| (least, TileChoice::Frames)));
            let side = resolved.width.max(resolved.height) as usize;
            let tiles = [2, 4, 8].into_iter().filter_map(|part| Tile::within(self.bundle, side / part));
            // What is still too much in tiles of time is cut in its sides as well.
            let choice = if ClipTile::of(self.bundle).is_some() { TileChoice::PixelsAndFrames } else { TileChoice::Pixels };
            ways.extend(tiles.map(|tile| (least, u32::try_from(tile.pixels()).map_or(settings.tile, choice))));
        }
        let mut all: Vec<(Memory, TileChoice, DecoderChoice)> =
            ways.iter().map(|(memory, tile)| (*memory, *tile, settings.decoder.clone())).collect();
        if leave.decoder {
            all.extend(ways.into_iter().map(|(memory, tile)| (memory, tile, DecoderChoice::Tiny)));
        }
        for (memory, tile, decoder) in all {
            let settings = Settings { memory, tile, decoder, ..settings.clone() };
            match self.candidate(resolved.clone(), &settings) {
                Ok(candidate) => found.push(candidate),
                Err(error) => log::debug!("not planned: {error:#}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Role;
    use crate::plan::{Budget, Measurement, MeasurementKey};

    fn turbo() -> Bundle {
        Bundle::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles/sd_turbo")).unwrap()
    }

    fn choose(settings: &Settings, measurements: Option<&Measurements>, free_bytes: Option<u64>) -> Result<Candidate> {
        choose_at(512, settings, measurements, free_bytes)
    }

    fn choose_at(
        side: u32,
        settings: &Settings,
        measurements: Option<&Measurements>,
        free_bytes: Option<u64>,
    ) -> Result<Candidate> {
        choose_with(side, settings, measurements, &[], free_bytes)
    }

    fn choose_with(
        side: u32,
        settings: &Settings,
        measurements: Option<&Measurements>,
        open: &[Role],
        free_bytes: Option<u64>,
    ) -> Result<Candidate> {
        let (bundle, assignments) = (turbo(), Assignments::default());
        let request = Request { size: Some((side, side)), seed: Some(7), ..Request::new("a sun") };
        let room_bytes = Some(free_bytes.unwrap_or(u64::MAX));
        let assignments = &assignments;
        Planner { bundle: &bundle, settings, assignments, measurements, open, free_bytes, room_bytes }.choose(&request)
    }

    #[test]
    fn what_is_not_free_is_done_with_less_or_warned_of_and_never_refused() {
        let settings = Settings { threads: Some(1), ..Settings::default() };
        let asked = choose(&settings, None, None).unwrap();
        let takes = asked.plan.forecast.memory_bytes;
        assert_eq!((asked.resolved.warnings.len(), asked.plan.memory, asked.plan.tile), (0, Memory::Normal, None));
        let ample = choose(&settings, None, Some(takes)).unwrap();
        assert_eq!((ample.resolved.warnings.len(), ample.plan.memory, ample.plan.tile), (0, Memory::Normal, None));

        let less = choose(&settings, None, Some(takes - 1)).unwrap();
        assert!(less.plan.forecast.memory_bytes < takes && less.plan.memory == Memory::Low);
        assert_eq!((less.resolved.width, less.resolved.steps), (512, asked.resolved.steps), "what is made stays as asked");
        let [warning] = &less.resolved.warnings[..] else { panic!("{:?}", less.resolved.warnings) };
        assert!(warning.contains("are free; it is made as with `") && warning.contains("--memory low"), "{warning}");
        let because = less.plan.decisions.iter().find(|decision| decision.what == "components").unwrap().because.clone();
        assert!(because.contains("instead of stay resident") && because.contains("that are free"), "{because}");

        let nothing = choose(&settings, None, Some(1)).unwrap();
        assert_eq!((nothing.plan.memory, nothing.plan.tile), (Memory::Normal, None));
        let [warning] = &nothing.resolved.warnings[..] else { panic!("{:?}", nothing.resolved.warnings) };
        assert!(warning.contains("1MiB are free; the system may swap, or end the program"), "{warning}");
    }

    #[test]
    fn components_are_opened_beside_each_other_where_there_is_room() {
        let one = choose_at(32, &Settings { threads: Some(1), ..Settings::default() }, None, None).unwrap().plan;
        let settings = Settings { threads: Some(2), ..Settings::default() };
        let beside = choose_at(32, &settings, None, None).unwrap().plan;
        assert!(!one.opens_ahead && beside.opens_ahead);
        assert_eq!(beside.opened_ahead(), [Role::Unet, Role::VaeDecoder]);
        assert!(one.opened_ahead().is_empty());
        assert!(
            beside.forecast.memory_bytes > one.forecast.memory_bytes,
            "all may be opened at once, and opening takes more than running: {} {}",
            beside.forecast.memory_bytes,
            one.forecast.memory_bytes
        );
        let opening: f64 = beside.forecast.components.iter().map(|component| component.load_ms).sum();
        let total: f64 = beside.forecast.components.iter().map(|component| component.time_ms).sum();
        assert!(beside.forecast.networks_ms < total && beside.forecast.networks_ms >= total - opening / 2.0);

        for (budget, free_bytes) in
            [(Some(beside.forecast.memory_bytes - 1), None), (None, Some(beside.forecast.memory_bytes - 1))]
        {
            let budget = Budget { memory_bytes: budget, ..Budget::default() };
            let found = choose_at(32, &Settings { budget, ..settings.clone() }, None, free_bytes).unwrap();
            assert_eq!((found.plan.opens_ahead, found.plan.memory, found.resolved.warnings.len()), (false, Memory::Normal, 0));
            assert_eq!(found.plan.forecast.memory_bytes, one.forecast.memory_bytes);
        }
        let open_of = |forecast: &Forecast| {
            forecast
                .components
                .iter()
                .filter(|component| component.load_ms == 0.0)
                .map(|component| component.role)
                .collect::<Vec<_>>()
        };
        let some = choose_with(32, &settings, None, &[Role::Unet], None).unwrap().plan.forecast;
        assert_eq!(open_of(&some), [Role::Unet]);
        let all: Vec<Role> = beside.forecast.components.iter().map(|component| component.role).collect();
        let running: f64 = beside.forecast.components.iter().map(|component| component.time_ms - component.load_ms).sum();
        let open_ms = choose_with(32, &settings, None, &all, None).unwrap().plan.forecast.time_ms.unwrap();
        assert!((open_ms - running).abs() < 1e-6 && open_ms < some.time_ms.unwrap());
        assert!(some.time_ms < beside.forecast.time_ms);
        let settings = Settings { memory: Memory::Low, ..settings };
        let anew = choose_with(32, &settings, None, &all, None).unwrap().plan;
        assert!(open_of(&anew.forecast).is_empty(), "each picture opens them anew");
        let low = choose_at(32, &settings, None, None).unwrap().plan;
        assert!(!low.opens_ahead, "each is dropped before the next is opened");
    }

    #[test]
    fn only_a_measured_time_refuses() {
        let budget = Budget { within_ms: Some(1.0), ..Budget::default() };
        let settings = Settings { threads: Some(1), budget, ..Settings::default() };
        let guessed = choose(&settings, None, None).unwrap();
        assert!(!guessed.plan.forecast.is_measured && guessed.plan.forecast.time_ms.unwrap() > 1.0);

        let bundle = turbo();
        let key = MeasurementKey { bundle: bundle.fingerprint.clone(), runtime: "1.31.1".into(), device: "a board".into() };
        let mut measured = Measurements::new(key);
        for (role, component) in &bundle.components {
            // As `kiln tune` does, a text encoder at one size only.
            let side = if *role == Role::TextEncoder { 64 } else { 512 };
            measured.put(Measurement {
                role: role.to_string(),
                provider: "cpu".into(),
                precision: component.header.precision.clone(),
                threads: 1,
                width: side,
                height: side,
                batch: 1,
                load_ms: 20.0,
                first_run_ms: 30.0,
                run_ms: 25.0,
                runs: 5,
                peak_memory_bytes: Some(20 << 20),
                resident_bytes: Some(10 << 20),
            });
        }
        let error = choose(&settings, Some(&measured), None).err().unwrap().to_string();
        assert!(error.contains("where 1ms are allowed (measured on this device)"), "{error}");
        let settings = Settings { budget: Budget { within_ms: Some(10_000.0), ..budget }, ..settings };
        assert!(choose(&settings, Some(&measured), None).unwrap().plan.forecast.is_measured);
    }
}
