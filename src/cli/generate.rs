//! `kiln generate`: makes pictures.

#[cfg(feature = "terminal")]
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::clip;
use super::device::{DeviceArguments, tell_choice};
use super::plan::{MemoryWish, measurements};
use super::progress::Progress;
use super::record::{Inputs, Record};
use super::target::{check_output, check_preview, free_name, numbered};
use crate::bundle::Shelf;
use crate::engine::{Engine, Generated};
use crate::error::is_cancelled;
use crate::output::{self, ClipFormat, Picture, Provenance, Target, Written};
use crate::pipeline::Observer;
use crate::plan::{Budget, Memory, Settings, TileChoice, parse_time};
use crate::request::{Request, SamplerChoice, StyleMix};
use crate::runtime::Cancel;
use crate::{refusal, refuse, sampler};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the picture shows; of a model that knows classes, a class, or nothing for each in its turn
    prompt: Option<String>,

    /// The model: a folder, or a name that `kiln models` lists [default: sticker]
    #[arg(long, short, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Where the picture goes: .png, .jpg or .webp (a clip: .png or .gif), `-` for standard output [default: made from prompt and
    /// seed]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What the picture does not show
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,

    /// Where its noise begins: the same seed makes the same picture [default: drawn]
    #[arg(long, short, value_name = "N", allow_negative_numbers = true)]
    seed: Option<u64>,

    /// Denoising steps [default: the model's own]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,

    /// How strictly the prompt is followed; 1 is without guidance [default: the model's own]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance: Option<f32>,

    /// Width and height in pixels, as 512x768 [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    size: Option<(u32, u32)>,

    /// How many pictures; each has the seed after the one before, and its seed in its name
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,

    /// Another sampler, such as euler, ddim, dpm++-karras, unipc; for a field also rk4, dopri5 [default: the model's own]
    #[arg(long, value_name = "NAME", help_heading = "Sampler")]
    sampler: Option<String>,

    /// How timesteps are spaced: linspace, leading or trailing
    #[arg(long, value_name = "RULE", help_heading = "Sampler")]
    spacing: Option<String>,

    /// Shift of the noise levels of a flow-matching model
    #[arg(long, value_name = "X", help_heading = "Sampler")]
    shift: Option<f64>,

    /// Timesteps of your own, as 999,749,499,249
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Sampler")]
    timesteps: Option<Vec<f32>>,

    /// Noise levels of your own, as 1,0.75,0.5,0.25 (euler wants the last, 0, as well)
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = "Sampler", conflicts_with = "timesteps")]
    sigmas: Option<Vec<f32>>,

    /// Error that a step may have, for a solver that chooses its own steps (dopri5) [default: 0.001]
    #[arg(long, value_name = "X", help_heading = "Sampler")]
    tolerance: Option<f32>,

    /// Share of fresh noise at each step, 0 to 1 (ddim, tcd)
    #[arg(long, value_name = "X", help_heading = "Sampler")]
    eta: Option<f64>,

    /// Whose random numbers a seed stands for: torch's on cpu or on cuda [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = "Sampler")]
    rng: Option<String>,

    /// A picture to begin with; it is brought to the size of the new one
    #[arg(long, short, value_name = "FILE", help_heading = "Picture to picture")]
    input: Option<PathBuf>,

    /// Where the input picture may change: white may, black stays; opacity is not looked at
    #[arg(long, value_name = "FILE", help_heading = "Picture to picture")]
    mask: Option<PathBuf>,

    /// How much of the input picture is made anew, above 0 to 1 [default: 0.8, with a mask 1; SDXL 0.3 and 0.9999]
    #[arg(long, value_name = "X", help_heading = "Picture to picture", allow_negative_numbers = true)]
    strength: Option<f32>,

    /// How far a style keeps from the mean one: 0 is the mean picture, 1 all that was learned (gan) [default: the model's own]
    #[arg(long, value_name = "X", help_heading = "Families", allow_negative_numbers = true)]
    truncation: Option<f32>,

    /// Take the later layers' style from another seed, as 7 or 7:4, the layer it begins at (gan)
    #[arg(long, value_name = "SEED[:LAYER]", help_heading = "Families")]
    style_mix: Option<StyleMix>,

    /// Deviation of the latent that is drawn: below 1 nearer to the commonest picture (vae, flow) [default: the model's own]
    #[arg(long, value_name = "X", help_heading = "Families", allow_negative_numbers = true)]
    temperature: Option<f32>,

    #[command(flatten)]
    clip: clip::ClipArguments,

    /// Repeat the picture or the clip that this PNG or GIF holds; other options change it
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceArguments,

    /// low: load each component when it is needed and drop it after; normal: keep all; or the most to hold, such as 2GiB or
    /// 900MiB [default: normal]
    #[arg(long, value_name = "low|normal|SIZE", help_heading = "Device", value_parser = MemoryWish::parse)]
    memory: Option<MemoryWish>,

    /// The longest that it may take, loading included, such as 500ms, 2s or 1m30s
    #[arg(long, value_name = "TIME", help_heading = "Device", value_parser = parse_time)]
    within: Option<f64>,

    /// Make a smaller picture where --memory or --within asks for it
    #[arg(long, help_heading = "Device")]
    may_shrink: bool,

    /// Decode latents in tiles of this side in pixels; auto: where --memory asks for it, or where memory runs out and the system does not end the process [default: auto]
    #[arg(long, value_name = "N|off|auto", help_heading = "Device", value_parser = parse_tile)]
    tile: Option<TileChoice>,

    /// Write the picture to this file as it develops, after each step and when it is done
    #[arg(long, value_name = "FILE")]
    preview: Option<PathBuf>,

    /// No progress, no picture in the terminal, no path; only errors
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// Print what made each picture as a line of JSON
    #[arg(long)]
    json: bool,

    /// Take steps, guidance or a sampler that the model was not made for
    #[arg(long)]
    force: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let record = arguments.from.as_deref().map(Record::open).transpose()?;
    let folder = match record.as_ref().filter(|_| arguments.model.is_none()) {
        Some(record) => record.model_folder()?,
        None => Shelf::usual().find(arguments.model.as_deref())?,
    };
    let base = record.as_ref().map(Record::request).transpose()?.unwrap_or_default();
    let inputs = Inputs::of(arguments.input.as_deref(), arguments.mask.as_deref(), record.as_ref())?;
    let mut request = request(arguments, base, &inputs)?;
    let clip = arguments.clip.wish(arguments.seed, request.count, record.as_ref().and_then(Record::clip))?;
    if let Some(clip) = &clip {
        clip.put_into(&mut request)?;
    } else if request.walk.is_some() && request.count > 1 {
        refuse!("--count: is {}, and the picture of --from stands at one place between two seeds", request.count);
    }
    let output = Output::new(arguments, clip, request.count)?;
    let preview = arguments.preview.as_deref().map(|path| Target::new(path, None)).transpose()?;
    check_preview(preview.as_ref())?;
    let of_device = arguments.device.settings()?;
    let settings = Settings {
        threads: arguments.device.threads.map(usize::from).or(record.as_ref().and_then(Record::threads)),
        memory: MemoryWish::mode(arguments.memory).or(record.as_ref().and_then(Record::memory)).unwrap_or_default(),
        budget: Budget {
            within_ms: arguments.within,
            memory_bytes: MemoryWish::budget(arguments.memory),
            may_shrink: arguments.may_shrink,
        },
        tile: arguments.tile.or(record.as_ref().and_then(Record::tile)).unwrap_or_default(),
        precisions: match record.as_ref().filter(|_| arguments.device.precision.is_none()) {
            Some(record) => record.precisions(&folder)?,
            None => of_device.precisions.clone(),
        },
        ..of_device
    };
    let mut engine = Engine::open(&folder, &settings, runtime)?;
    engine.set_measurements(measurements(engine.bundle(), engine.runtime()));
    let has_something = arguments.prompt.is_some() || record.is_some() || arguments.input.is_some();
    if engine.bundle().takes_text() && !has_something {
        refuse!("say what the picture shows, such as `kiln generate \"a red apple\"`");
    }
    if let Some(record) = record.as_ref().filter(|_| !arguments.force) {
        record.check_bundle(engine.bundle())?;
    }
    let knows_classes = !engine.bundle().takes_text() && !engine.bundle().classes.is_empty();
    let class_of_seed = matches!(output, Output::Clip(..)) && knows_classes && request.prompt.trim().is_empty();
    tell_choice(&engine, arguments.quiet);
    let mut progress = Progress::new(arguments.quiet, preview);
    if let Output::Clip(clip, target) = &output {
        clip.check(&engine, &request, target.as_ref().map(Target::format).unwrap_or_default())?;
        progress = progress.of_clip();
    }
    let made = engine.generate(&request, &mut progress, cancel);
    progress.finish();
    // Between the last kernel and the first file a person may still change their mind.
    let made = made.and_then(|made| cancel.check().map(|()| made));
    if made.as_ref().is_err_and(is_cancelled) {
        progress.discard_preview();
    }

    let made = made?;
    let last = made.last().map(|made| made.picture.clone());
    // All are written before the first is told of: a reader that goes away must not cost a picture.
    let written = output.write(made, request.count, |provenance| {
        inputs.note(provenance)?;
        // A picture goes to strangers: of this device's folders it tells only what was typed.
        let typed = arguments.model.as_ref().map(|model| model.display().to_string());
        provenance.bundle.path = typed.or_else(|| record.as_ref().and_then(Record::model_path));
        Ok(())
    })?;
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
    Pictures(Option<Target>),
    Clip(clip::Wish, Option<Target<ClipFormat>>),
}

impl Output {
    /// Takes what the arguments say, after a look at whether it can be written.
    fn new(arguments: &Arguments, clip: Option<clip::Wish>, count: usize) -> Result<Self> {
        let path = arguments.output.as_deref();
        if let Some(clip) = clip {
            let target = path.map(|path| Target::of_clip(path, None)).transpose()?;
            target.iter().try_for_each(|target| check_output(target, arguments.json))?;
            return Ok(Self::Clip(clip, target));
        }
        let target = path.map(|path| Target::new(path, None)).transpose()?;
        if count > 1 && matches!(target, Some(Target::Stdout(_))) {
            refuse!("--output -: takes one picture, and --count is {count}");
        }
        target.iter().try_for_each(|target| check_output(target, arguments.json))?;
        Ok(Self::Pictures(target))
    }

    /// Writes what was made; `note` adds to a record what the engine does not know.
    fn write(
        &self,
        made: Vec<Generated>,
        count: usize,
        note: impl Fn(&mut Provenance) -> Result<()>,
    ) -> Result<Vec<(Written, Picture, Provenance)>> {
        let target = match self {
            Self::Clip(clip, target) => return Ok(vec![clip.write(made, target.as_ref(), note)?]),
            Self::Pictures(target) => target.as_ref(),
        };
        made.into_iter()
            .map(|Generated { picture, mut provenance, .. }| {
                note(&mut provenance)?;
                let target = match target {
                    Some(target) => numbered(target, provenance.seed, count),
                    None => {
                        let prompt = provenance.prompt.as_deref().unwrap_or_default();
                        Target::new(&free_name(prompt, &provenance.seed.to_string()), None)?
                    }
                };
                Ok((output::write(&picture, Some(&provenance), &target)?, picture, provenance))
            })
            .collect()
    }
}

/// Says what was written.
fn tell_of(arguments: &Arguments, written: &Written, picture: &Picture, provenance: &Provenance) -> Result<()> {
    let path = match written {
        Written::Bytes(bytes) => return super::print(bytes),
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

/// What was asked for; what was not said is `base`'s.
fn request(arguments: &Arguments, base: Request, inputs: &Inputs) -> Result<Request> {
    let rng = arguments.rng.as_ref().map(|rng| rng.parse().map_err(|error| refusal!("--rng: {error}"))).transpose()?;
    // Of steps, timesteps and noise levels the one that is said takes the place of the ones that are not.
    let says_levels = arguments.timesteps.is_some() || arguments.sigmas.is_some();
    let base_levels = base.sampler.run.timesteps.is_some() || base.sampler.run.sigmas.is_some();
    let base_steps = base.steps.filter(|_| !says_levels && (arguments.steps.is_none() || !base_levels));
    Ok(Request {
        prompt: arguments.prompt.clone().unwrap_or(base.prompt),
        negative: arguments.negative.clone().or(base.negative),
        seed: arguments.seed.or(base.seed),
        random_device: rng.unwrap_or(base.random_device),
        steps: arguments.steps.or(base_steps),
        guidance: arguments.guidance.or(base.guidance),
        size: arguments.size.or(base.size),
        count: usize::try_from(arguments.count)?,
        sampler: sampler_choice(arguments, base.sampler)?,
        input: inputs.input()?,
        mask: inputs.mask()?,
        strength: arguments.strength.or(base.strength),
        truncation: arguments.truncation.or(base.truncation),
        style_mix: arguments.style_mix.or(base.style_mix),
        temperature: arguments.temperature.or(base.temperature),
        walk: base.walk,
        samples: None,
        force: arguments.force || base.force,
    })
}

fn sampler_choice(arguments: &Arguments, base: SamplerChoice) -> Result<SamplerChoice> {
    fn word<T: std::str::FromStr<Err = anyhow::Error>>(flag: &str, text: Option<&String>) -> Result<Option<T>> {
        text.map(|text| text.parse().with_context(|| flag.to_owned())).transpose()
    }
    let named = arguments.sampler.as_deref().map(SamplerChoice::named).transpose().context("--sampler")?;
    let (choice, method) = named.map_or((base.choice, base.method), |named| (named.choice, named.method));
    let keeps_levels = arguments.steps.is_none() && arguments.timesteps.is_none() && arguments.sigmas.is_none();
    Ok(SamplerChoice {
        config: base.config,
        choice,
        method,
        tolerance: arguments.tolerance.or(base.tolerance),
        run: sampler::Run {
            timesteps: arguments.timesteps.clone().or(base.run.timesteps.filter(|_| keeps_levels)),
            sigmas: arguments.sigmas.clone().or(base.run.sigmas.filter(|_| keeps_levels)),
            eta: arguments.eta.or(base.run.eta),
            spacing: word("--spacing", arguments.spacing.as_ref())?.or(base.run.spacing),
            shift: arguments.shift.or(base.run.shift),
            ..base.run
        },
    })
}

pub(super) fn parse_size(text: &str) -> Result<(u32, u32), String> {
    let sides = text
        .split_once(['x', 'X', '×'])
        .and_then(|(width, height)| Some((width.trim().parse().ok()?, height.trim().parse().ok()?)));
    sides.ok_or_else(|| "expected width and height as 512x768".to_owned())
}

pub(super) fn parse_memory(text: &str) -> Result<Memory, String> {
    text.parse()
}

pub(super) fn parse_tile(text: &str) -> Result<TileChoice, String> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_two_numbers_with_an_x_between() {
        assert_eq!(parse_size("512x768"), Ok((512, 768)));
        assert!(parse_size("512").is_err());
        assert!(parse_size("-1x2").is_err());
        assert!(parse_size("99999999999x2").is_err());
    }
}
