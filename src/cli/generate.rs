//! `kiln generate`: makes pictures.

#[cfg(feature = "terminal")]
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use super::clip;
use super::device::tell_choice;
#[cfg(feature = "client")]
use super::distant::{self, ServerArguments};
use super::film::Film;
use super::frames::Frames;
use super::plan::measurements;
use super::progress::Progress;
use super::record::Record;
use super::request::{Asked, RequestArguments};
use super::target::{Goal, check_output, check_preview, numbered, parse_format};
use super::upscale::Enlarger;
use crate::engine::{Engine, Generated};
use crate::error::is_cancelled;
use crate::output::{self, ClipFormat, Format, Picture, Provenance, Target, Written};
use crate::pipeline::Observer;
use crate::refuse;
use crate::runtime::Cancel;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) asked: RequestArguments,

    #[cfg(feature = "client")]
    #[command(flatten)]
    server: ServerArguments,

    /// Where the picture goes: .png, .jpg or .webp; a clip: .png, .gif, .webp, .mp4, .webm, .y4m, a folder or frames/%04d.png; `-`
    /// for standard output [default: made from prompt and seed]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The format, whatever the name: png, jpg, webp; of a clip png, gif, webp, mp4, webm, y4m, frames [default: as the name says]
    #[arg(long, value_name = "NAME")]
    format: Option<String>,

    /// Enlarge the finished picture with a super-resolution network: an ONNX file, or a folder with model.onnx and perhaps a card
    #[arg(long, value_name = "PATH")]
    upscale: Option<PathBuf>,

    /// No progress, no picture in the terminal, no path; only errors
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// Print what made each picture as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    #[cfg(feature = "client")]
    if let Some(client) = arguments.server.client()? {
        if arguments.upscale.is_some() {
            refuse!("--upscale: is not taken by a server; `kiln upscale` enlarges what it made");
        }
        return distant::run(&client, arguments, runtime, cancel);
    }
    let Asked { record, folder, mut request, clip, film, frames, inputs, settings } = arguments.asked.read()?;
    let output = Output::new(arguments, clip, film, frames, request.count)?;
    let preview = arguments.asked.preview.as_deref().map(|path| Target::new(path, None)).transpose()?;
    check_preview(preview.as_ref())?;
    let mut engine = Engine::open(&folder, &settings, runtime)?;
    engine.set_measurements(measurements(engine.bundle(), engine.runtime()));
    let mut enlarger = match &arguments.upscale {
        Some(_) if matches!(output, Output::Clip(..)) => refuse!("--upscale: enlarges pictures, and a clip is asked for"),
        Some(path) => Some(Enlarger::open(path, &settings, engine.runtime(), arguments.quiet, cancel)?),
        None => None,
    };
    if enlarger.is_none() && record.as_ref().is_some_and(Record::was_enlarged) {
        log::warn!("--from: the picture was enlarged afterwards, and is made as it was before; --upscale enlarges it again");
    }
    let has_something = arguments.asked.says_something();
    if engine.bundle().takes_text() && !has_something {
        refuse!("say what the picture shows, such as `kiln generate \"a red apple\"`");
    }
    if let Some(record) = record.as_ref().filter(|_| !arguments.asked.force) {
        record.check_bundle(engine.bundle())?;
        record.check_words(&engine, &request.prompt)?;
    }
    let knows_classes = !engine.bundle().takes_text() && !engine.bundle().classes.is_empty();
    let class_of_seed = matches!(output, Output::Clip(..)) && knows_classes && request.prompt.trim().is_empty();
    tell_choice(&engine, arguments.quiet);
    let mut progress = Progress::new(arguments.quiet, preview);
    if let Output::Clip(clip, target) = &output {
        clip.check(&engine, &request, target.format())?;
        progress = progress.of_clip();
    }
    let note = |provenance: &mut Provenance| {
        inputs.note(provenance)?;
        // A picture goes to strangers: of this device's folders it tells only what was typed.
        let typed = arguments.asked.model.as_ref().map(|model| model.display().to_string());
        provenance.bundle.path = typed.or_else(|| record.as_ref().and_then(Record::model_path));
        Ok(())
    };
    let output = match output {
        Output::Pictures(_) | Output::Clip(..) => output,
        streamed => {
            let made = match streamed {
                Output::Film(film, goal) => {
                    film.put_into(&mut request, engine.bundle())?;
                    film.make(&mut engine, &request, &goal, &mut progress, cancel, note)
                }
                Output::Frames(frames, goal) => {
                    frames.check(&engine, &request, goal.format())?;
                    progress = progress.of_clip();
                    frames.write(&mut engine, &request, &goal, &mut progress, cancel, note)
                }
                Output::Pictures(_) | Output::Clip(..) => bail!("pictures are written when all are made"),
            };
            progress.finish();
            if made.as_ref().is_err_and(is_cancelled) {
                progress.discard_preview();
            }
            let (written, picture, provenance) = made?;
            progress.preview(0, &picture)?;
            tell_of(arguments, &written, &picture, &provenance)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    let made = engine.generate(&request, &mut progress, cancel);
    progress.finish();
    // Between the last kernel and the first file a person may still change their mind.
    let made = made.and_then(|made| cancel.check().map(|()| made));
    if made.as_ref().is_err_and(is_cancelled) {
        progress.discard_preview();
    }

    let mut made = made?;
    if let Some(enlarger) = &mut enlarger {
        for Generated { picture, provenance, .. } in &mut made {
            *picture = enlarger.enlarge(picture, None, Some(provenance), cancel)?;
        }
    }
    let last = made.last().map(|made| made.picture.clone());
    // All are written before the first is told of: a reader that goes away must not cost a picture.
    let written = output.write(made, request.count, note)?;
    if let Some(picture) = last {
        progress.preview(0, &picture)?;
    }
    for (written, picture, provenance) in &written {
        let class = provenance.prompt.as_ref().filter(|_| class_of_seed);
        if let (Some(class), false, Written::File(_)) = (class, arguments.quiet || arguments.json, written) {
            let seed = provenance.seed;
            super::print(super::plain(&format!("class {class}, which seed {seed} gives; a prompt names another\n")).as_bytes())?;
        }
        tell_of(arguments, written, picture, provenance)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is written, and where it goes; without a target it is named when it is made.
enum Output {
    Pictures(Goal<Format>),
    Clip(clip::Wish, Goal<ClipFormat>),
    Film(Film, Goal<ClipFormat>),
    Frames(Box<Frames>, Goal<ClipFormat>),
}

impl Output {
    /// Takes what the arguments say, after a look at whether it can be written.
    fn new(
        arguments: &Arguments,
        clip: Option<clip::Wish>,
        film: Option<Film>,
        frames: Option<Frames>,
        count: usize,
    ) -> Result<Self> {
        match (clip, film, frames) {
            (Some(clip), ..) => Ok(Self::Clip(clip, clip_goal(arguments)?)),
            (None, Some(film), _) => Ok(Self::Film(film, clip_goal(arguments)?)),
            (None, None, Some(frames)) => Ok(Self::Frames(Box::new(frames), clip_goal(arguments)?)),
            (None, None, None) => Ok(Self::Pictures(picture_target(arguments, count)?)),
        }
    }

    /// Writes what was made; `note` adds to a record what the engine does not know.
    fn write(
        &self,
        made: Vec<Generated>,
        count: usize,
        note: impl Fn(&mut Provenance) -> Result<()>,
    ) -> Result<Vec<(Written, Picture, Provenance)>> {
        let goal = match self {
            Self::Clip(clip, goal) => return Ok(vec![clip.write(made, goal, note)?]),
            Self::Pictures(goal) => goal,
            Self::Film(..) | Self::Frames(..) => bail!("frames are written as they are made"),
        };
        made.into_iter()
            .map(|Generated { picture, mut provenance, .. }| {
                note(&mut provenance)?;
                write(picture, provenance, goal, count)
            })
            .collect()
    }
}

/// Writes one of `count` pictures.
pub(super) fn write(
    picture: Picture,
    provenance: Provenance,
    goal: &Goal<Format>,
    count: usize,
) -> Result<(Written, Picture, Provenance)> {
    let target = match goal {
        Goal::At(target) => numbered(target, provenance.seed, count),
        Goal::Named(_) => goal.target(provenance.prompt.as_deref(), &provenance.seed.to_string()),
    };
    Ok((output::write(&picture, Some(&provenance), &target)?, picture, provenance))
}

/// Where a clip goes, after a look at whether it can be written.
pub(super) fn clip_goal(arguments: &Arguments) -> Result<Goal<ClipFormat>> {
    let format = parse_format(arguments.format.as_deref())?;
    let Some(path) = arguments.output.as_deref() else { return Ok(Goal::Named(format.unwrap_or_default())) };
    let target = Target::of_clip(path, format)?;
    check_output(&target, arguments.json)?;
    Ok(Goal::At(target))
}

/// The target of pictures, after a look at whether it can be written.
pub(super) fn picture_target(arguments: &Arguments, count: usize) -> Result<Goal<Format>> {
    let format = parse_format(arguments.format.as_deref())?;
    let Some(path) = arguments.output.as_deref() else { return Ok(Goal::Named(format.unwrap_or_default())) };
    let target = Target::new(path, format)?;
    if count > 1 && matches!(target, Target::Stdout(_)) {
        refuse!("--output -: takes one picture, and --count is {count}");
    }
    check_output(&target, arguments.json)?;
    Ok(Goal::At(target))
}

/// Says what was written.
pub(super) fn tell_of(arguments: &Arguments, written: &Written, picture: &Picture, provenance: &Provenance) -> Result<()> {
    let path = match written {
        Written::Bytes(bytes) => return super::print(bytes),
        Written::Streamed => return Ok(()),
        Written::File(path) => path,
    };
    if arguments.json {
        let mut line = serde_json::to_value(provenance)?;
        line["file"] = path.display().to_string().into();
        return super::print(format!("{line}\n").as_bytes());
    }
    if arguments.quiet {
        return Ok(());
    }
    #[cfg(feature = "terminal")]
    if std::io::stdout().is_terminal()
        && let Err(error) = output::show_in_terminal(picture)
    {
        log::info!("the terminal shows no picture: {error:#}");
    }
    #[cfg(not(feature = "terminal"))]
    let _ = picture;
    super::print(format!("{}\n", path.display()).as_bytes())
}
