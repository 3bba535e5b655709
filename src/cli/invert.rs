//! `kiln invert`: finds a picture's latent and makes the picture from it again.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::progress::Progress;
use super::reading::{ReadingArguments, read_picture};
use super::target::{check_output, unused};
use crate::bundle::Bundle;
use crate::output::{self, Target, Written};
use crate::pipeline::{Again, likelihood_kind};
use crate::runtime::Cancel;

/// A picture that comes back with a smaller ratio of signal to noise is another to the eye, in decibels.
const POOR_DB: f64 = 18.0;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A picture: PNG, JPEG or WebP
    picture: PathBuf,

    #[command(flatten)]
    reading: ReadingArguments,

    /// Where the picture made again goes: .png, .jpg or .webp, `-` for standard output [default: the picture's name and `-again`]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    /// No progress and no figures; only errors
    #[arg(long, short)]
    pub(super) quiet: bool,

    /// Print the figures as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, runtime: Option<&Path>, cancel: &Cancel) -> Result<ExitCode> {
    let target = match &arguments.output {
        Some(path) => Target::new(path, None)?,
        None => {
            let stem = arguments.picture.file_stem().unwrap_or_default().to_string_lossy();
            Target::new(&unused(&format!("{stem}-again"), ".png"), None)?
        }
    };
    check_output(&target, arguments.json)?;
    let mut request = arguments.reading.request()?;
    let mut engine = arguments.reading.engine(runtime)?;
    let leaves_open = arguments.reading.leaves_class_open(engine.bundle());
    engine.plan_inversion(&request)?;
    let begun = Instant::now();
    let (picture, sum) = read_picture(&arguments.picture, engine.bundle())?;

    let mut progress = Progress::new(arguments.quiet, None);
    let class = engine.inversion_class(&request, &picture, &mut progress, cancel)?;
    // So that the likeliest is not looked for again.
    request.prompt = class.clone().unwrap_or_default();
    let inverted = engine.invert(&request, &picture, &mut progress, cancel);
    progress.finish();
    let again = engine.compare(&picture, &inverted?)?;
    cancel.check()?;
    let mut record = engine.inversion_provenance(&request, begun.elapsed().as_secs_f64() * 1000.0)?;
    record.input = Some(arguments.picture.display().to_string());
    record.input_sha256 = Some(sum);
    // A picture goes to strangers: of this device's folders it tells only what was typed.
    record.bundle.path = Some(arguments.reading.model());
    if again.difference.peak_signal_to_noise_db < POOR_DB {
        log::warn!(
            "the picture comes back as another ({:.1} dB): it is not one that the model would make with this class and these steps; \
             --class says what it shows, more --steps follow its path more closely",
            again.difference.peak_signal_to_noise_db
        );
    }
    let written = output::write(&again.picture, Some(&record), &target)?;

    let path = match written {
        Written::Bytes(bytes) => {
            super::print(&bytes)?;
            return Ok(ExitCode::SUCCESS);
        }
        Written::Streamed => return Ok(ExitCode::SUCCESS),
        Written::File(path) => path,
    };
    if arguments.json {
        let line = json(engine.bundle(), class.as_deref(), &again, &path);
        super::print(format!("{line}\n").as_bytes())?;
    } else if !arguments.quiet {
        let class = match class {
            Some(class) => Some((class, why(leaves_open, engine.bundle()))),
            None if leaves_open => Some(("none".to_owned(), "; --class names one".to_owned())),
            None => None,
        };
        super::print(super::plain(&table(class, &again, &path)).as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Why the model was told its class.
fn why(leaves_open: bool, bundle: &Bundle) -> String {
    match (leaves_open, likelihood_kind(bundle)) {
        (false, _) => String::new(),
        (true, Some(_)) => format!(", the likeliest of {}", bundle.classes.len()),
        (true, None) => ", which the seed gives; --class names another".to_owned(),
    }
}

fn table(class: Option<(String, String)>, again: &Again, path: &Path) -> String {
    let difference = again.difference;
    let mut text = class.map(|(class, why)| format!("class       {class}{why}\n")).unwrap_or_default();
    text.push_str(&format!(
        "latent      {} values, mean {:.3}, deviation {:.3}\ndifference  mean {}, largest {} of 255",
        again.latent_values,
        again.latent_mean,
        again.latent_deviation,
        short(difference.mean),
        short(difference.largest)
    ));
    match difference.peak_signal_to_noise_db {
        decibels if decibels.is_finite() => text.push_str(&format!("; {decibels:.1} dB\n")),
        _ => text.push_str("; the same\n"),
    }
    text.push_str(&format!("{}\n", path.display()));
    text
}

/// Two digits behind the point, or the power of ten where they would say nothing.
fn short(value: f64) -> String {
    if value == 0.0 || value >= 0.01 { format!("{value:.2}") } else { format!("{value:.0e}") }
}

fn json(bundle: &Bundle, class: Option<&str>, again: &Again, path: &Path) -> serde_json::Value {
    let difference = again.difference;
    serde_json::json!({
        "file": path.display().to_string(),
        "model": bundle.name(),
        "family": bundle.family.name(),
        "class": class,
        "latent": { "values": again.latent_values, "mean": again.latent_mean, "deviation": again.latent_deviation },
        // An infinite ratio is null in JSON.
        "difference": { "mean": difference.mean, "largest": difference.largest, "psnr_db": difference.peak_signal_to_noise_db },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_differences_keep_a_digit() {
        assert_eq!([0.0, 1.234, 0.01, 0.0012, 3e-7].map(short), ["0.00", "1.23", "0.01", "1e-3", "3e-7"]);
    }
}
