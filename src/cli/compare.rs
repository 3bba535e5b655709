//! `kiln compare`: the branches of the family tree side by side, on the same seeds, against the same real pictures.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::contest::{Contestant, bits_per_dimension};
use super::device::DeviceArguments;
use super::judge::Judge;
use super::lineage::{find, style};
use crate::bundle::Shelf;
use crate::engine::Engine;
use crate::error::is_cancelled;
use crate::lineage::{Comparison, Tree, draw_contact_sheet};
use crate::output::{self, Picture};
use crate::plan::parse_time;
use crate::refuse;
use crate::runtime::Cancel;

/// Pictures of each row that the contact sheet shows.
const SHOWN: usize = 10;
/// With --quick a row may take this long in all.
const QUICK_ROW_MS: f64 = 15_000.0;
/// A run that will probably take this much longer than the time that is given is not measured.
const CLEARLY_SLOW: f64 = 1.5;
/// A longer comparison says beforehand how long.
const LONG_MS: f64 = 15_000.0;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Algorithms or bundles, as `kiln lineage` and `kiln models` name them [default: all that are installed]
    families: Vec<String>,

    /// Seed of the first picture of each row; the others follow
    #[arg(long, short, value_name = "N", default_value_t = 0, allow_negative_numbers = true, value_parser = super::number::whole::<u64>)]
    seed: u64,

    /// Pictures of each row
    #[arg(long, short = 'n', value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(8..=1000), allow_negative_numbers = true)]
    count: u16,

    /// Say which branch to take when a picture may take this long here, such as 300ms or 2s
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    within: Option<f64>,

    /// Leave out rows that would take more than a quarter of a minute, and likelihoods that take a solver
    #[arg(long)]
    quick: bool,

    /// Held-out pictures whose likelihood is measured, where a family has one
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(0..=10_000), allow_negative_numbers = true)]
    likelihoods: u16,

    /// Draw a contact sheet to this file, an SVG
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArguments,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    if let Some(file) = &arguments.output {
        check_output(file)?;
    }
    let (tree, shelf) = (Tree::carried()?, Shelf::usual());
    let contestants = contestants(&tree, &shelf, &arguments.families)?;
    let bar = bar();
    bar.set_message("opening the judge");
    let judge = Judge::open(&shelf, runtime, cancel)?;
    if judge.is_none() {
        let missing = "the folders judge and real are not among the models, so distances are not measured";
        if arguments.within.is_some() {
            refuse!("--within: {missing}; KILN_MODELS names the folder in which they lie");
        }
        log::warn!("{missing}");
    }
    let mut contest = Contest::new(arguments, runtime, cancel, bar, judge);
    let (comparison, samples) = contest.hold(contestants)?;
    contest.bar.finish_and_clear();
    cancel.check()?;

    if let Some(file) = &arguments.output {
        let held_out = contest.judge.as_ref().map(|judge| judge.real().held_out.as_slice()).unwrap_or_default();
        let of_row =
            |row: &Vec<Picture>| -> Vec<Picture> { contest.shown.iter().filter_map(|shown| row.get(*shown).cloned()).collect() };
        let real: Vec<Picture> =
            contest.shown.iter().filter_map(|shown| held_out.get(*contest.real_numbers.get(*shown)?).cloned()).collect();
        let captions: Vec<String> = contest.shown.iter().filter_map(|shown| contest.classes.get(*shown).cloned()).collect();
        let samples: Vec<Vec<Picture>> = samples.iter().map(of_row).collect();
        output::save(draw_contact_sheet(&comparison, &captions, &real, &samples)?.as_bytes(), file)?;
    }
    let choice = arguments.within.and_then(|budget_ms| comparison.choose(budget_ms));
    let text = if arguments.json {
        let mut value = serde_json::to_value(&comparison)?;
        value["choice"] = serde_json::to_value(&choice)?;
        value["threads"] = arguments.device.threads.map_or_else(crate::runtime::logical_cores, usize::from).into();
        format!("{}\n", serde_json::to_string_pretty(&value)?)
    } else {
        let mut text = comparison.table(style());
        if let Some(choice) = &choice {
            let _ = write!(text, "\ntake      {}\n", choice.name);
            for reason in &choice.because {
                let _ = writeln!(text, "          {reason}");
            }
            let _ = writeln!(text, "try       kiln generate {}", choice.options);
        }
        if let Some(file) = &arguments.output {
            let _ = writeln!(text, "\n{}", file.display());
        }
        text
    };
    super::print(super::plain(&text).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// A comparison while it is made.
struct Contest<'a> {
    arguments: &'a Arguments,
    runtime: Option<&'a Path>,
    cancel: &'a Cancel,
    bar: ProgressBar,
    judge: Option<Judge>,
    engines: BTreeMap<String, Engine>,
    /// For each picture of a row a held-out picture, whose class it is to have: so classes are as frequent as among the real ones.
    real_numbers: Vec<usize>,
    /// The class of each picture of a row; empty where classes are not known.
    classes: Vec<String>,
    /// Which pictures of a row the contact sheet shows.
    shown: Vec<usize>,
}

impl<'a> Contest<'a> {
    fn new(
        arguments: &'a Arguments,
        runtime: Option<&'a Path>,
        cancel: &'a Cancel,
        bar: ProgressBar,
        judge: Option<Judge>,
    ) -> Self {
        let count = usize::from(arguments.count);
        let real_numbers = judge.as_ref().map(|judge| judge.spread(count)).unwrap_or_default();
        let of = |number: &usize| judge.as_ref()?.real().held_out_classes.get(*number).cloned();
        let classes: Vec<String> = real_numbers.iter().filter_map(of).collect();
        let shown = in_turn(&classes, count, SHOWN);
        Self { arguments, runtime, cancel, bar, judge, engines: BTreeMap::new(), real_numbers, classes, shown }
    }

    fn hold(&mut self, contestants: Vec<Contestant<'_>>) -> Result<(Comparison, Vec<Vec<Picture>>)> {
        let arguments = self.arguments;
        let count = usize::from(arguments.count);
        let (mut left_out, mut failure) = (Vec::new(), None);
        let mut ready = Vec::new();
        for mut contestant in contestants {
            self.bar.set_message(format!("timing {}", contestant.name()));
            match self.probe(&mut contestant) {
                Ok(()) => ready.push(contestant),
                Err(error) if is_cancelled(&error) => return Err(error),
                Err(error) => {
                    left_out.push((contestant.name(), format!("it failed: {error:#}")));
                    failure.get_or_insert(error);
                }
            }
        }
        if let (true, Some(error)) = (ready.is_empty(), failure) {
            return Err(error.context("nothing is left to compare"));
        }
        let quickest = ready.iter().map(|contestant| contestant.expected_ms).fold(f64::INFINITY, f64::min);
        ready.retain(|contestant| {
            let expected = contestant.expected_ms;
            #[expect(clippy::cast_precision_loss, reason = "a count of pictures")]
            let too_long = arguments.quick && expected * count as f64 > QUICK_ROW_MS;
            // The quickest is measured whatever it takes: it is what is left where nothing keeps to the time.
            let too_slow = arguments.within.is_some_and(|budget| expected > budget * CLEARLY_SLOW && expected > quickest);
            if too_long || too_slow {
                left_out.push((contestant.name(), format!("a picture takes about {expected:.0} ms")));
            }
            !too_long && !too_slow
        });
        self.announce(&ready, count);

        let mut comparison = Comparison { seed: arguments.seed, count, real: None, real_count: 0, rows: Vec::new(), left_out };
        if let Some(judge) = &mut self.judge {
            comparison.real = Some(judge.floor(count, self.cancel)?);
            comparison.real_count = judge.real().held_out.len();
        }
        let mut samples = Vec::new();
        let (mut memory, mut bits) = (BTreeMap::new(), BTreeMap::new());
        for contestant in &ready {
            let name = contestant.name();
            let begun = self.bar.position();
            let Some(engine) = self.engines.get_mut(&contestant.run.bundle) else { continue };
            let (bar, expected_ms) = (&self.bar, contestant.expected_ms);
            let done = |number: usize| {
                bar.set_message(format!("{name}, {number} of {count}"));
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a bar's position"
                )]
                bar.set_position(begun + (expected_ms * number as f64) as u64);
            };
            let (mut row, pictures) = match contestant.make(engine, (arguments.seed, count), &self.classes, &done, self.cancel) {
                Ok(made) => made,
                Err(error) if is_cancelled(&error) => return Err(error),
                Err(error) => {
                    comparison.left_out.push((name, format!("it failed: {error:#}")));
                    continue;
                }
            };
            if let Some(judge) = &mut self.judge {
                row.quality = Some(judge.quality(&pictures, self.cancel)?);
            }
            // Within a given time only times and distances matter.
            if arguments.within.is_none() {
                let bundle = contestant.run.bundle.clone();
                let measured = || contestant.peak_memory_bytes(engine, self.runtime, &arguments.device);
                row.peak_memory_bytes = *memory.entry(bundle.clone()).or_insert_with(measured);
                if let (Some(judge), false) = (&self.judge, bits.contains_key(&bundle)) {
                    self.bar.set_message(format!("{name}, likelihood"));
                    let (count, quick) = (usize::from(arguments.likelihoods), arguments.quick);
                    bits.insert(bundle.clone(), bits_per_dimension(engine, judge.real(), count, quick, self.cancel)?);
                }
                if let Some((value, kind)) = bits.get(&bundle).cloned().flatten() {
                    row.bits_per_dimension = Some(value);
                    row.likelihood = Some(kind);
                }
            }
            comparison.rows.push(row);
            samples.push(pictures);
        }
        Ok((comparison, samples))
    }

    fn probe(&mut self, contestant: &mut Contestant<'_>) -> Result<()> {
        let bundle = &contestant.run.bundle;
        if !self.engines.contains_key(bundle) {
            let settings = self.arguments.device.settings()?;
            self.engines.insert(bundle.clone(), Engine::open(&contestant.folder, &settings, self.runtime)?);
        }
        match self.engines.get_mut(bundle) {
            Some(engine) => contestant.probe(engine, self.cancel),
            None => Ok(()),
        }
    }

    /// Says how long it will take, where that is long.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate of times"
    )]
    fn announce(&self, ready: &[Contestant<'_>], count: usize) {
        let of = |contestant: &Contestant<'_>| contestant.expected_ms * count as f64;
        let total: f64 = ready.iter().map(of).sum();
        self.bar.set_length(total.max(1.0) as u64);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {wide_bar} {eta} left") {
            self.bar.set_style(style.progress_chars("━╸ "));
        }
        self.bar.reset_eta();
        let slowest = ready.iter().max_by(|left, right| of(left).total_cmp(&of(right)));
        if let Some(slowest) = slowest.filter(|_| total > LONG_MS) {
            let message = format!(
                "kiln: about {:.0} s, {:.0} s of it for {}; --quick and a smaller --count take less",
                total / 1000.0,
                of(slowest) / 1000.0,
                slowest.name()
            );
            self.bar.suspend(|| {
                // Nobody is left to tell when standard error is closed.
                let _ = writeln!(std::io::stderr(), "{message}");
            });
        }
    }
}

/// Every installed run of what was named, in the tree's order, many steps before few.
fn contestants<'t>(tree: &'t Tree, shelf: &Shelf, names: &[String]) -> Result<Vec<Contestant<'t>>> {
    let folders: BTreeMap<String, PathBuf> = shelf.bundles().into_iter().map(|bundle| (bundle.name, bundle.folder)).collect();
    let mut chosen = Vec::new();
    let wanted = |algorithm: &crate::lineage::Algorithm, bundle: &str, name: &str| {
        algorithm.name == name || (bundle == name && tree.find(name).is_none_or(|named| named.runs.is_empty()))
    };
    for name in names {
        let known =
            tree.algorithms().iter().any(|algorithm| algorithm.runs.iter().any(|run| wanted(algorithm, &run.bundle, name)));
        if !known {
            let algorithm = find(tree, name)?;
            refuse!("compare: no bundle shows {}; `kiln lineage` marks those that one shows", algorithm.name);
        }
    }
    let mut missing = Vec::new();
    for algorithm in tree.algorithms() {
        let mut runs: Vec<_> = algorithm
            .runs
            .iter()
            .filter(|run| names.is_empty() || names.iter().any(|name| wanted(algorithm, &run.bundle, name)))
            .collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.steps));
        for run in runs {
            // Two algorithms may be shown by one run.
            if chosen.iter().any(|contestant: &Contestant<'_>| contestant.run == run) {
                continue;
            }
            match folders.get(&run.bundle) {
                Some(folder) => chosen.push(Contestant::new(algorithm, run, folder.clone())),
                None => missing.push(run.bundle.as_str()),
            }
        }
    }
    missing.dedup();
    if chosen.is_empty() {
        refuse!("compare: none of the bundles is there ({}); KILN_MODELS names the folder in which they lie", missing.join(", "));
    }
    if !names.is_empty() && !missing.is_empty() {
        log::warn!("not there and left out: {}", missing.join(", "));
    }
    Ok(chosen)
}

fn check_output(file: &Path) -> Result<()> {
    if file.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("svg")) {
        refuse!("--output {}: a contact sheet is an SVG, expected a name that ends in .svg", file.display());
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if file.is_dir() || !folder.is_dir() {
        refuse!("--output {}: expected a file in a folder that is there", file.display());
    }
    Ok(())
}

/// Numbers of `shown` out of `count` pictures, of each class in its turn; the first ones where classes are not known.
fn in_turn(classes: &[String], count: usize, shown: usize) -> Vec<usize> {
    if classes.is_empty() {
        return (0..count.min(shown)).collect();
    }
    let mut queues: Vec<(&String, Vec<usize>)> = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        match queues.iter_mut().find(|(known, _)| *known == class) {
            Some((_, numbers)) => numbers.push(number),
            None => queues.push((class, vec![number])),
        }
    }
    queues.sort_by_key(|(class, _)| *class);
    let longest = queues.iter().map(|(_, numbers)| numbers.len()).max().unwrap_or(0);
    let rounds = (0..longest).flat_map(|round| queues.iter().filter_map(move |(_, numbers)| numbers.get(round).copied()));
    rounds.take(shown).collect()
}

fn bar() -> ProgressBar {
    let visible = std::io::stderr().is_terminal();
    let target = if visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_is_shown_in_its_turn() {
        let classes = ["b", "b", "a", "c", "a", "b"].map(str::to_owned);
        assert_eq!(in_turn(&classes, 6, 5), [2, 0, 3, 4, 1]);
        assert_eq!(in_turn(&classes, 6, 10).len(), 6);
        assert_eq!(in_turn(&[], 8, 3), [0, 1, 2]);
    }
}
