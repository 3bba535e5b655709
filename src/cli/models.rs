//! `kiln models`: lists the bundles that are found by name.

use std::process::ExitCode;

use anyhow::Result;

use crate::bundle::{Bundle, Shelf};
use crate::lineage::wrapped;

/// Where what is said of a model begins: behind its name.
const INDENT: usize = 17;
/// A terminal narrower than this cuts the lines itself.
const NARROWEST: usize = 40;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let room = super::columns().max(NARROWEST) - INDENT;
    let mut list = Vec::new();
    let mut text = String::new();
    for shelved in Shelf::usual().bundles() {
        let opened = Bundle::open(&shelved.folder);
        let about = match &opened {
            Ok(bundle) => {
                let card = bundle.card.as_ref();
                let description = card.and_then(|card| card.description.as_deref()).unwrap_or(&bundle.class_name);
                let (width, height) = bundle.default_size();
                format!("{width}x{height}, {}, {description}", super::inspect::megabytes(bundle.size_bytes()))
            }
            Err(error) => format!("broken: {error:#}"),
        };
        let mut name = shelved.name.as_str();
        for line in wrapped(&about, room) {
            text.push_str(&format!("{name:<16} {line}\n"));
            name = "";
        }
        // A path is one word, to be copied whole.
        text.push_str(&format!("{:<16} {}\n", "", shelved.folder.display()));
        list.push(serde_json::json!({
            "name": shelved.name,
            "folder": shelved.folder.display().to_string(),
            "licence": opened.as_ref().ok().and_then(|bundle| bundle.card.as_ref()?.licence.clone()),
            "size_bytes": opened.as_ref().ok().map(Bundle::size_bytes),
            "error": opened.as_ref().err().map(|error| format!("{error:#}")),
        }));
    }
    if arguments.json {
        super::print(format!("{}\n", serde_json::to_string_pretty(&list)?).as_bytes())?;
    } else if list.is_empty() {
        log::warn!("no models were found; `kiln generate --model DIR` takes a folder, and KILN_MODELS names a folder of folders");
    } else {
        super::print(super::plain(&text).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}
