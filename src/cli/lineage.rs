//! `kiln lineage`: draws the family tree, tells the story of one algorithm.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::bundle::{Bundle, Shelf};
use crate::engine::Engine;
use crate::error::is_cancelled;
use crate::lineage::{Algorithm, LARGEST_FILE_BYTES, Run, TerminalStyle, Tree, draw, draw_svg, tell};
use crate::output::{self, Picture};
use crate::plan::Settings;
use crate::request::{Request, SamplerChoice};
use crate::runtime::Cancel;
use crate::{refusal, refuse};

/// The seed of the samples in the drawing.
const SAMPLE_SEED: u64 = 8;
/// What a model that takes text is asked for.
const SAMPLE_PROMPT: &str = "a smiling sun";
/// Names this similar are offered; 1 is the same name.
const LEAST_SIMILARITY: f64 = 0.4;
const MOST_OFFERED: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An algorithm of the tree, whose story is told
    name: Option<String>,

    /// Draw the tree as a picture to this file, with a sample of each installed model
    #[arg(long, value_name = "FILE", conflicts_with = "name")]
    svg: Option<PathBuf>,

    /// Leave the samples out of the picture
    #[arg(long, requires = "svg")]
    no_samples: bool,

    /// Another tree than Kiln's own: a TOML file
    #[arg(long, value_name = "FILE")]
    tree: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let tree = open_tree(arguments.tree.as_deref())?;
    let shelf = Shelf::usual();
    let installed: BTreeSet<String> = shelf.bundles().into_iter().map(|bundle| bundle.name).collect();
    let chosen = arguments.name.as_deref().map(|name| find(&tree, name)).transpose()?;
    if let Some(file) = &arguments.svg {
        if file.is_dir() {
            refuse!(
                "--svg {} is a folder, expected a file in it, such as {}",
                file.display(),
                file.join("lineage.svg").display()
            );
        }
        let samples = if arguments.no_samples { BTreeMap::new() } else { samples(&tree, &shelf, &installed, runtime, cancel)? };
        let svg = draw_svg(&tree, &samples)?;
        output::save(svg.as_bytes(), file)?;
    }
    let text = match chosen {
        _ if arguments.json => {
            let value = match chosen {
                Some(algorithm) => json_of(&tree, algorithm, &installed)?,
                None => tree.algorithms().iter().map(|algorithm| json_of(&tree, algorithm, &installed)).collect::<Result<_>>()?,
            };
            format!("{}\n", serde_json::to_string_pretty(&value)?)
        }
        Some(algorithm) => tell(&tree, algorithm, &installed, style()),
        None => match &arguments.svg {
            Some(file) => format!("{}\n", super::plain(&file.display().to_string())),
            None => draw(&tree, &installed, style()),
        },
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// The tree in `file`, or the one that Kiln carries.
pub(super) fn open_tree(file: Option<&Path>) -> Result<Tree> {
    let Some(file) = file else { return Tree::carried() };
    let unreadable = |error: std::io::Error| refusal!("tree {}: {error}", file.display());
    let about = fs::metadata(file).map_err(unreadable)?;
    if !about.is_file() || about.len() > LARGEST_FILE_BYTES as u64 {
        refuse!("tree {}: is no file of at most {LARGEST_FILE_BYTES} bytes", file.display());
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    Tree::parse(&text, &file.display().to_string())
}

/// The algorithm called `name`.
///
/// # Errors
/// There is none; the message offers those with the nearest names.
pub(super) fn find<'t>(tree: &'t Tree, name: &str) -> Result<&'t Algorithm> {
    let wanted = name.to_lowercase().replace([' ', '-'], "_");
    let by_title = || tree.algorithms().iter().find(|algorithm| algorithm.title.eq_ignore_ascii_case(name));
    if let Some(found) = tree.find(name).or_else(|| tree.find(&wanted)).or_else(by_title) {
        return Ok(found);
    }
    let similarity = |algorithm: &&Algorithm| {
        let by_title = strsim::jaro_winkler(&wanted, &algorithm.title.to_lowercase().replace([' ', '-'], "_"));
        strsim::normalized_damerau_levenshtein(&wanted, &algorithm.name).max(0.9 * by_title)
    };
    let mut near: Vec<(f64, &Algorithm)> =
        tree.algorithms().iter().map(|algorithm| (similarity(&algorithm), algorithm)).collect();
    near.sort_by(|(left, _), (right, _)| right.total_cmp(left));
    let offered: Vec<&str> = near
        .iter()
        .filter(|(similarity, _)| *similarity >= LEAST_SIMILARITY)
        .take(MOST_OFFERED)
        .map(|(_, algorithm)| algorithm.name.as_str())
        .collect();
    let offer = if offered.is_empty() { String::new() } else { format!("the nearest are {}; ", offered.join(", ")) };
    refuse!("lineage: the tree has no {name:?}; {offer}`kiln lineage` lists them all")
}

/// What this terminal can show.
pub(super) fn style() -> TerminalStyle {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    // A file or a pipe keeps the letters; whether it shows colours nobody knows.
    let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default().to_lowercase();
    let to_terminal = std::io::stdout().is_terminal();
    TerminalStyle {
        width: super::columns(),
        unicode: cfg!(windows) || locale.contains("utf-8") || locale.contains("utf8"),
        colour: to_terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|terminal| terminal != "dumb"),
    }
}

/// A picture of each algorithm whose bundle is installed. A model that fails is told of and left out: the tree can do without.
fn samples(
    tree: &Tree,
    shelf: &Shelf,
    installed: &BTreeSet<String>,
    runtime: Option<&Path>,
    cancel: &Cancel,
) -> Result<BTreeMap<String, Picture>> {
    let mut samples = BTreeMap::new();
    for algorithm in tree.algorithms() {
        let Some(run) = algorithm.runs.iter().find(|run| installed.contains(&run.bundle)) else { continue };
        let made = shelf.find(Some(Path::new(&run.bundle))).and_then(|folder| {
            let mut engine = Engine::open(&folder, &Settings::default(), runtime)?;
            let request = Request { seed: Some(SAMPLE_SEED), ..request_of(run, engine.bundle())? };
            engine.generate(&request, &mut (), cancel)
        });
        match made {
            Ok(made) => samples.extend(made.into_iter().next().map(|made| (algorithm.name.clone(), made.picture))),
            Err(error) if is_cancelled(&error) => return Err(error),
            Err(error) => log::warn!("no sample of {}: {error:#}", algorithm.name),
        }
    }
    Ok(samples)
}

/// What `kiln generate` is asked for to show an algorithm; one picture.
pub(super) fn request_of(run: &Run, bundle: &Bundle) -> Result<Request> {
    let mut sampler = run.sampler.as_deref().map(SamplerChoice::named).transpose()?.unwrap_or_default();
    sampler.run.eta = run.eta;
    let prompt = if bundle.takes_text() { SAMPLE_PROMPT } else { "" };
    Ok(Request { steps: run.steps, truncation: run.truncation, sampler, ..Request::new(prompt) })
}

fn json_of(tree: &Tree, algorithm: &Algorithm, installed: &BTreeSet<String>) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(algorithm)?;
    value["children"] = tree.children(&algorithm.name).map(|child| child.name.clone()).collect();
    value["story"] = algorithm.paragraphs().collect();
    value["installed"] = json!(algorithm.runs.iter().any(|run| installed.contains(&run.bundle)));
    Ok(value)
}
