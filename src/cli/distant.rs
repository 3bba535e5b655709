//! `kiln generate --server`: a running `kiln serve` makes the pictures, which are written as those of this machine are.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};

use super::clip::begin;
use super::film::Film;
use super::generate::{Arguments, clip_goal, picture_target, tell_of, write};
use super::progress::Progress;
use super::target::{Goal, check_preview};
use crate::client::{Address, Client, Told};
use crate::error::is_cancelled;
use crate::output::{
    ClipFormat, ClipHead, ClipReader, Format, FrameRate, Picture, Provenance, Target, Written, check_clip, read_bytes,
};
use crate::pipeline::{Event, Observer};
use crate::runtime::Cancel;
use crate::{refusal, refuse};

/// What files that came are called.
const FROM: &str = "of the server";

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
    let (mut wish, inputs) = arguments.asked.wish()?;
    // What nobody could write or send is told of before the server is asked which of the two it will be.
    wish.check()?;
    let (pictures, clip) = match (picture_target(arguments, wish.count), clip_goal(arguments)) {
        (Err(error), Err(_)) => return Err(error),
        goals => goals,
    };
    let model = client.model(wish.model.as_deref(), cancel)?;
    let goal = match (arguments.asked.distant_film(&model.name, model.clip.is_some())?, model.clip) {
        (Some(film), Some(own)) => {
            let goal = clip?;
            let rate = film.rate.map_or_else(|| FrameRate::whole(own.frames_per_second), Ok)?;
            let seconds = film.seconds.map(|seconds| rate.frames_in(seconds)).transpose().context("--seconds")?;
            wish.frames = wish.frames.or(seconds);
            let (width, height) = wish.size.unwrap_or((model.size.width, model.size.height));
            let head = film.head(ClipHead::new(width, height, 3, rate));
            check_clip(wish.frames.unwrap_or(own.frames), head, goal.format())?;
            Output::Clip(film, goal)
        }
        _ => Output::Pictures(pictures?),
    };
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
        let (_, provenance) = read_bytes(&file, FROM)?;
        let mut provenance = provenance.ok_or_else(|| anyhow!("the server's picture does not say what made it"))?;
        inputs.note(&mut provenance)?;
        Ok((file, provenance))
    };
    let made: Vec<_> = made?.into_iter().map(read).collect::<Result<_>>()?;
    let written: Vec<_> = match &goal {
        Output::Pictures(goal) => {
            let made = made.into_iter().map(|(file, provenance)| Ok((Picture::read(&file, FROM)?, provenance)));
            let made: Vec<_> = made.collect::<Result<_>>()?;
            made.into_iter().map(|(picture, provenance)| write(picture, provenance, goal, wish.count)).collect::<Result<_>>()?
        }
        Output::Clip(film, goal) => made
            .into_iter()
            .map(|(file, provenance)| write_clip(&file, provenance, *film, goal, cancel))
            .collect::<Result<_>>()?,
    };
    if let Some((_, picture, _)) = written.last() {
        progress.preview(0, picture)?;
    }
    for (written, picture, provenance) in &written {
        tell_of(arguments, written, picture, provenance)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is written, and where it goes.
enum Output {
    Pictures(Goal<Format>),
    Clip(Film, Goal<ClipFormat>),
}

/// Writes the clip of `file`, an animated PNG, as `film` says and in the format of `goal`; returns its first frame as well.
fn write_clip(
    file: &[u8],
    mut provenance: Provenance,
    film: Film,
    goal: &Goal<ClipFormat>,
    cancel: &Cancel,
) -> Result<(Written, Picture, Provenance)> {
    let mut held = tempfile::NamedTempFile::new()?;
    held.write_all(file)?;
    let mut reader = ClipReader::open(held.path())?.context("the server's clip is a still picture")?;
    let (rate, frames) = (film.rate.or(reader.rate()), reader.frames());
    let rate = rate.context("the server's clip does not say how fast its frames follow each other")?;
    let first = reader.next().context("the server's clip has no frames")??;
    let head = film.head(ClipHead::new(first.width, first.height, first.channels.max(3), rate));
    check_clip(frames.unwrap_or(1), head, goal.format())?;
    let target = goal.target(provenance.prompt.as_deref(), &provenance.seed.to_string());
    let (mut writer, written) = begin(&target, head)?;
    writer.push(&first)?;
    for frame in reader {
        cancel.check()?;
        writer.push(&frame?)?;
    }
    writer.finish_with(&mut provenance)?;
    Ok((written, first, provenance))
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
        Told::Preview { step, file } => progress.preview(step, &Picture::read(&file, FROM)?)?,
    }
    Ok(())
}
