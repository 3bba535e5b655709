//! `kiln generate --server`: a running `kiln serve` makes the pictures, which are written as those of this machine are.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;

use super::generate::{Arguments, picture_target, tell_of, write};
use super::progress::Progress;
use super::target::check_preview;
use crate::client::{Address, Client, Told};
use crate::error::is_cancelled;
use crate::output::{Picture, Target, read_bytes};
use crate::pipeline::{Event, Observer};
use crate::runtime::Cancel;
use crate::{refusal, refuse};

#[derive(Debug, clap::Args)]
pub(super) struct ServerArguments {
    /// Have a running `kiln serve` make it: http://ADDRESS:PORT or unix:FILE; the model is one of the server's
    #[arg(long, value_name = "URL", help_heading = "Server")]
    server: Option<String>,

    /// A file with the server's token, the first one as --token-file of `kiln serve` has them; or the token in KILN_TOKEN
    #[arg(long, value_name = "FILE", help_heading = "Server", requires = "server")]
    token_file: Option<PathBuf>,
}

impl ServerArguments {
    /// Who is asked; `None` where this machine makes the pictures.
    pub(super) fn client(&self) -> Result<Option<Client>> {
        let Some(text) = &self.server else { return Ok(None) };
        let address: Address = text.parse().map_err(|error| refusal!("--server {text}: {error}"))?;
        let token = match &self.token_file {
            Some(path) => Some(token_of(path)?),
            None => std::env::var("KILN_TOKEN").ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()),
        };
        Client::new(address, token.as_deref()).map(Some)
    }
}

/// The first token of a file of lines, each `TOKEN` or `NAME TOKEN`.
fn token_of(path: &Path) -> Result<String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| refusal!("--token-file {shown}: {error}"))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let token = line.and_then(|line| line.split_whitespace().last());
    token.map(str::to_owned).ok_or_else(|| refusal!("--token-file {shown}: holds no token, expected one on a line"))
}

pub(super) fn run(client: &Client, arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    if runtime.is_some() {
        refuse!("--runtime: is this machine's, and --server has another make the picture; leave one of them out");
    }
    let (wish, inputs) = arguments.asked.wish()?;
    let goal = picture_target(arguments, wish.count)?;
    let preview = arguments.asked.preview.as_deref().map(|path| Target::new(path, None)).transpose()?;
    check_preview(preview.as_ref())?;
    let mut progress = Progress::new(arguments.quiet, preview);
    let made = client.make(&wish, cancel, &mut |told| tell(&mut progress, told));
    progress.finish();
    let made = made.and_then(|made| cancel.check().map(|()| made));
    if made.as_ref().is_err_and(is_cancelled) {
        progress.discard_preview();
    }
    let read = |file: Vec<u8>| -> Result<_> {
        let picture = Picture::read(&file, "of the server")?;
        let (_, provenance) = read_bytes(&file, "of the server")?;
        let mut provenance = provenance.ok_or_else(|| anyhow::anyhow!("the server's picture does not say what made it"))?;
        if provenance.clip.is_some() {
            refuse!(
                "--server: the server's model makes clips, which are fetched from its page or with POST /jobs; name one of pictures"
            );
        }
        inputs.note(&mut provenance)?;
        Ok((picture, provenance))
    };
    let made: Vec<_> = made?.into_iter().map(read).collect::<Result<_>>()?;
    let last = made.last().map(|(picture, _)| picture.clone());
    let written: Vec<_> =
        made.into_iter().map(|(picture, provenance)| write(picture, provenance, &goal, wish.count)).collect::<Result<_>>()?;
    if let Some(picture) = last {
        progress.preview(0, &picture)?;
    }
    for (written, picture, provenance) in &written {
        tell_of(arguments, written, picture, provenance)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(progress: &mut Progress, told: Told) -> Result<()> {
    match told {
        Told::Full { again_in_s } => {
            log::warn!("the server's queue is full; it is asked again in {again_in_s} s");
            progress.wait_for("waiting for a place in the queue".to_owned());
        }
        Told::Queued { place, wait_s } => {
            let before = place.map(|place| format!(", {place} before it")).unwrap_or_default();
            let wait = wait_s.map(|wait_s| format!(", about {wait_s:.0} s")).unwrap_or_default();
            progress.wait_for(format!("waiting{before}{wait}"));
        }
        Told::Running => progress.wait_for("the server makes it".to_owned()),
        // The server counts over all pictures.
        Told::Step { step, steps } => progress.event(Event::Step { step, steps, picture: 0, pictures: 1 }),
        Told::Preview { step, file } => progress.preview(step, &Picture::read(&file, "of the server")?)?,
    }
    Ok(())
}
