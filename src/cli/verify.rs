//! `kiln verify`: holds a bundle against its card.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::bundle::{CARD_FILE, Card, FileState, Shelf, verify};
use crate::refuse;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model: a folder, or a name that `kiln models` lists
    model: PathBuf,

    /// Say nothing of files that match
    #[arg(long, short)]
    quiet: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let folder = Shelf::usual().find(Some(&arguments.model))?;
    let Some(card) = Card::open(&folder)?.filter(|card| !card.sha256.is_empty()) else {
        refuse!("model {}: has no {CARD_FILE} with checksums, so there is nothing to hold it against", folder.display());
    };
    let mut wrong = 0;
    for (file, state) in verify(&folder, &card)? {
        let word = match &state {
            FileState::Matches if arguments.quiet => continue,
            FileState::Matches => "ok".to_owned(),
            FileState::Beside => "not in the card, not used".to_owned(),
            FileState::Unlisted => "NOT IN THE CARD".to_owned(),
            FileState::Missing => "MISSING".to_owned(),
            FileState::Differs { found } => format!("DIFFERS (has {found})"),
        };
        wrong += usize::from(!matches!(state, FileState::Matches | FileState::Beside));
        super::print(format!("{}: {word}\n", super::plain(&file)).as_bytes())?;
    }
    if wrong > 0 {
        bail!("model {}: {wrong} files are not those that the card names", folder.display());
    }
    Ok(ExitCode::SUCCESS)
}
