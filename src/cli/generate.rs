//! `kiln generate`: makes pictures.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::progress::Progress;
use crate::bundle::{Shelf, sha256_of_file};
use crate::engine::Engine;
use crate::error::is_cancelled;
use crate::output::{self, Picture, Provenance, Target, Written};
use crate::plan::{Memory, Settings};
use crate::random::Device;
use crate::request::{Request, SamplerChoice};
use crate::runtime::Cancel;
use crate::{refusal, refuse, sampler};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the picture shows
    #[arg(required_unless_present = "from")]
    prompt: Option<String>,

    /// The model: a folder, or a name that `kiln models` lists [default: sticker]
    #[arg(long, short, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Where the picture goes: .png, .jpg or .webp, `-` for standard output [default: made from prompt and seed]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What the picture does not show
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,

    /// Where its noise begins: the same seed makes the same picture [default: drawn]
    #[arg(long, short, value_name = "N")]
    seed: Option<u64>,

    /// Denoising steps [default: the model's own]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,

    /// How strictly the prompt is followed; 1 is without guidance [default: the model's own]
    #[arg(long, value_name = "X")]
    guidance: Option<f32>,

    /// Width and height in pixels, as 512x768 [default: the model's own]
    #[arg(long, value_name = "WxH", value_parser = parse_size)]
    size: Option<(u32, u32)>,

    /// How many pictures; each has the seed after the one before
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1)]
    count: usize,

    /// Another sampler, such as euler, ddim, dpm++-karras, unipc [default: the model's own]
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

    /// Share of fresh noise at each step, 0 to 1 (ddim, tcd)
    #[arg(long, value_name = "X", help_heading = "Sampler")]
    eta: Option<f64>,

    /// Whose random numbers a seed stands for: torch's on cpu or on cuda
    #[arg(long, value_name = "DEVICE", default_value = "cpu", help_heading = "Sampler")]
    rng: String,

    /// A picture to begin with
    #[arg(long, short, value_name = "FILE", help_heading = "Picture to picture")]
    input: Option<PathBuf>,

    /// Where the input picture may change: white may, black stays
    #[arg(long, value_name = "FILE", help_heading = "Picture to picture")]
    mask: Option<PathBuf>,

    /// How much of the input picture is made anew, above 0 to 1 [default: 0.8, with a mask 1]
    #[arg(long, value_name = "X", help_heading = "Picture to picture")]
    strength: Option<f32>,

    /// Repeat the picture that this PNG holds; other options change it
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,

    /// Threads within one operator [default: all cores]
    #[arg(long, value_name = "N", help_heading = "Device", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,

    /// low: load each component when it is needed and drop it after; normal: keep all
    #[arg(long, value_name = "low|normal", default_value = "normal", help_heading = "Device", value_parser = parse_memory)]
    memory: Memory,

    /// Write the picture to this file as it develops, after each step
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
    let record = arguments.from.as_deref().map(recorded).transpose()?;
    let folder = model_folder(arguments, record.as_ref())?;
    let request = request(arguments, record.as_ref())?;
    let target = arguments.output.as_deref().map(|path| Target::new(path, None)).transpose()?;
    let preview = arguments.preview.as_deref().map(|path| Target::new(path, None)).transpose()?;
    check_targets(arguments, target.as_ref(), preview.as_ref(), request.count)?;

    let settings = Settings { threads: arguments.threads.map(usize::from), memory: arguments.memory };
    let mut engine = Engine::open(&folder, &settings, runtime)?;
    if let Some(record) = &record {
        check_bundle(&engine, record, arguments.force)?;
    }
    let mut progress = Progress::new(arguments.quiet, preview);
    let made = engine.generate(&request, &mut progress, cancel);
    progress.finish();
    // Between the last kernel and the first file a person may still change their mind.
    let made = made.and_then(|made| cancel.check().map(|()| made));
    if made.as_ref().is_err_and(is_cancelled) {
        progress.discard_preview();
    }
    for made in made? {
        let mut provenance = made.provenance;
        note_inputs(&mut provenance, arguments, record.as_ref())?;
        let target = match &target {
            Some(target) => numbered(target, provenance.seed, request.count),
            None => Target::new(&free_name(provenance.prompt.as_deref().unwrap_or_default(), provenance.seed), None)?,
        };
        report(arguments, &made.picture, &provenance, &target)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes one picture and says so.
fn report(arguments: &Arguments, picture: &Picture, provenance: &Provenance, target: &Target) -> Result<()> {
    match output::write(picture, Some(provenance), target)? {
        Written::Bytes(bytes) => super::print(&bytes)?,
        Written::File(path) => {
            if arguments.json {
                let mut line = serde_json::to_value(provenance)?;
                line["file"] = path.display().to_string().into();
                super::print(format!("{line}\n").as_bytes())?;
            } else if !arguments.quiet {
                #[cfg(feature = "terminal")]
                if std::io::stdout().is_terminal()
                    && let Err(error) = output::show_in_terminal(picture)
                {
                    log::info!("the terminal shows no picture: {error:#}");
                }
                super::print(format!("{}\n", path.display()).as_bytes())?;
            }
        }
    }
    Ok(())
}

fn request(arguments: &Arguments, record: Option<&Provenance>) -> Result<Request> {
    let base = match record {
        Some(record) => Engine::request_of(record)?,
        None => Request::default(),
    };
    let open = |path: Option<&PathBuf>| path.map(|path| Picture::open(path)).transpose();
    let input = arguments.input.clone().or_else(|| record?.input.as_ref().map(PathBuf::from));
    let mask = arguments.mask.clone().or_else(|| record?.mask.as_ref().map(PathBuf::from));
    if let Some(record) = record {
        same_file(input.as_ref().filter(|_| arguments.input.is_none()), record.input_sha256.as_deref(), "--input")?;
        same_file(mask.as_ref().filter(|_| arguments.mask.is_none()), record.mask_sha256.as_deref(), "--mask")?;
    }
    Ok(Request {
        prompt: arguments.prompt.clone().unwrap_or(base.prompt),
        negative: arguments.negative.clone().or(base.negative),
        seed: arguments.seed.or(base.seed),
        random_device: match record {
            Some(_) if arguments.rng == Device::default().to_string() => base.random_device,
            _ => arguments.rng.parse().map_err(|error| refusal!("--rng: {error}"))?,
        },
        steps: arguments.steps.or(base.steps),
        guidance: arguments.guidance.or(base.guidance),
        size: arguments.size.or(base.size),
        count: arguments.count,
        sampler: sampler_choice(arguments, base.sampler)?,
        input: open(input.as_ref())?,
        mask: open(mask.as_ref())?,
        strength: arguments.strength.or(base.strength),
        force: arguments.force || base.force,
    })
}

fn sampler_choice(arguments: &Arguments, base: SamplerChoice) -> Result<SamplerChoice> {
    fn word<T: std::str::FromStr<Err = anyhow::Error>>(flag: &str, text: Option<&String>) -> Result<Option<T>> {
        text.map(|text| text.parse().with_context(|| flag.to_owned())).transpose()
    }
    Ok(SamplerChoice {
        config: base.config,
        choice: word("--sampler", arguments.sampler.as_ref())?.or(base.choice),
        run: sampler::Run {
            timesteps: arguments.timesteps.clone().or(base.run.timesteps),
            sigmas: arguments.sigmas.clone().or(base.run.sigmas),
            eta: arguments.eta.or(base.run.eta),
            spacing: word("--spacing", arguments.spacing.as_ref())?.or(base.run.spacing),
            shift: arguments.shift.or(base.run.shift),
            ..base.run
        },
    })
}

fn recorded(path: &Path) -> Result<Provenance> {
    let (_, record) = output::read(path)?;
    record
        .ok_or_else(|| refusal!("--from {}: the file does not say what made it; expected a PNG that kiln wrote", path.display()))
}

/// The named model, else that of the record: by its name on the shelf, else where it lay.
fn model_folder(arguments: &Arguments, record: Option<&Provenance>) -> Result<PathBuf> {
    let shelf = Shelf::usual();
    let Some(record) = record.filter(|_| arguments.model.is_none()) else {
        return shelf.find(arguments.model.as_deref());
    };
    match &record.bundle.path {
        Some(path) if Path::new(path).is_dir() => Ok(PathBuf::from(path)),
        _ => shelf.find(Some(Path::new(&record.bundle.name))),
    }
}

fn check_bundle(engine: &Engine, record: &Provenance, force: bool) -> Result<()> {
    let found = &engine.bundle().fingerprint;
    if let Some(recorded) = record.bundle.sha256.as_ref().filter(|recorded| *recorded != found)
        && !force
    {
        refuse!(
            "--from: the picture was made by model {} ({}…), and {} is another version of it ({}…); --force takes it all the same",
            record.bundle.name,
            recorded.get(..10).unwrap_or(recorded),
            engine.bundle().folder.display(),
            found.get(..10).unwrap_or(found)
        );
    }
    Ok(())
}

fn same_file(path: Option<&PathBuf>, recorded: Option<&str>, flag: &str) -> Result<()> {
    let (Some(path), Some(recorded)) = (path, recorded) else { return Ok(()) };
    if !path.is_file() {
        refuse!("--from: it was made with {}, which is not there; name the picture with {flag}", path.display());
    }
    if sha256_of_file(path)? != recorded {
        refuse!("--from: {} has changed since; name the picture it was made with by {flag}", path.display());
    }
    Ok(())
}

fn note_inputs(provenance: &mut Provenance, arguments: &Arguments, record: Option<&Provenance>) -> Result<()> {
    let path = |given: &Option<PathBuf>, recorded: Option<&String>| given.clone().or_else(|| recorded.map(PathBuf::from));
    for (path, text, sum) in [
        (
            path(&arguments.input, record.and_then(|record| record.input.as_ref())),
            &mut provenance.input,
            &mut provenance.input_sha256,
        ),
        (
            path(&arguments.mask, record.and_then(|record| record.mask.as_ref())),
            &mut provenance.mask,
            &mut provenance.mask_sha256,
        ),
    ] {
        if let Some(path) = path {
            *sum = Some(sha256_of_file(&path)?);
            *text = Some(path.display().to_string());
        }
    }
    Ok(())
}

fn check_targets(arguments: &Arguments, target: Option<&Target>, preview: Option<&Target>, count: usize) -> Result<()> {
    if let Some(target) = target {
        target.check()?;
        if matches!(target, Target::Stdout(_)) {
            if count > 1 {
                refuse!("--output -: takes one picture, and --count is {count}");
            }
            if arguments.json {
                refuse!("--json and --output - would both go to standard output; name a file");
            }
            if std::io::stdout().is_terminal() {
                refuse!("--output -: standard output is a terminal; send it to a file or a program");
            }
        }
    }
    match preview {
        Some(Target::Stdout(_)) => refuse!("--preview: is `-`, expected a file"),
        Some(preview) => preview.check(),
        None => Ok(()),
    }
}

/// Of several pictures each has its seed in its name.
fn numbered(target: &Target, seed: u64, count: usize) -> Target {
    match target {
        Target::File(path, format) if count > 1 => {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            Target::File(path.with_file_name(format!("{stem}-{seed}.{extension}")), *format)
        }
        other => other.clone(),
    }
}

/// A name that says what the picture is, and that no file has yet.
fn free_name(prompt: &str, seed: u64) -> PathBuf {
    const LONGEST: usize = 48;
    let mut slug = String::new();
    for letter in prompt.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            slug.push(letter);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() >= LONGEST {
            break;
        }
    }
    let slug = slug.trim_matches('-');
    let stem = if slug.is_empty() { format!("picture-{seed}") } else { format!("{slug}-{seed}") };
    let mut path = PathBuf::from(format!("{stem}.png"));
    let mut number = 2;
    while path.exists() {
        path = PathBuf::from(format!("{stem}-{number}.png"));
        number += 1;
    }
    path
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_made_of_the_prompts_letters() {
        assert_eq!(free_name("A smiling sun!", 42), Path::new("a-smiling-sun-42.png"));
        assert_eq!(free_name("../../etc/passwd", 1), Path::new("etc-passwd-1.png"));
        assert_eq!(free_name(" ♥ ", 7), Path::new("picture-7.png"));
        assert!(free_name(&"long ".repeat(100), 7).as_os_str().len() < 70);
    }

    #[test]
    fn a_size_is_two_numbers_with_an_x_between() {
        assert_eq!(parse_size("512x768"), Ok((512, 768)));
        assert!(parse_size("512").is_err());
        assert!(parse_size("-1x2").is_err());
        assert!(parse_size("99999999999x2").is_err());
    }
}
