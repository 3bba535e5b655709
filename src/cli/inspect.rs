//! `kiln inspect`: prints what a bundle holds.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::bundle::{Architecture, Bundle, ClipShape, Shelf};
use crate::runtime::Port;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The model: a folder, or a name that `kiln models` lists
    model: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let bundle = Bundle::open(&Shelf::usual().find(Some(&arguments.model))?)?;
    let text = if arguments.json {
        format!("{}\n", serde_json::to_string_pretty(&json(&bundle))?)
    } else {
        super::plain(&table(&bundle))
    };
    super::print(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Bytes as a person reads them.
pub(super) fn megabytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let bytes = bytes as f64;
    if bytes >= 1e9 { format!("{:.2} GB", bytes / 1e9) } else { format!("{:.1} MB", bytes / 1e6) }
}

fn tasks(bundle: &Bundle) -> Vec<&'static str> {
    let mut tasks = Vec::new();
    if let Some(shape) = &bundle.clip {
        if shape.first_frame.is_some() {
            return vec!["picture to clip"];
        }
        tasks.push("text to clip");
        if bundle.components.contains_key(&crate::bundle::Role::VaeEncoder) {
            tasks.push("picture to clip");
        }
        if bundle.architecture().is_some_and(Architecture::takes_clips) && tasks.len() > 1 {
            tasks.push("clip to clip");
        }
        return tasks;
    }
    if !bundle.takes_text() {
        return vec![if bundle.classes.is_empty() { "noise to picture" } else { "class to picture" }];
    }
    if !bundle.takes_mask() {
        tasks.push("text to picture");
    }
    if bundle.components.contains_key(&crate::bundle::Role::VaeEncoder) {
        if !bundle.takes_mask() {
            tasks.push("picture to picture");
        }
        tasks.push("inpainting");
    }
    tasks
}

fn frames_text(shape: &ClipShape) -> String {
    let mut text = format!("{} by default, {} in a second", shape.default_frames, shape.frames_per_second);
    if !shape.trained.is_empty() {
        let trained: Vec<String> = shape.trained.iter().map(ToString::to_string).collect();
        let _ = write!(text, "; trained for {}", trained.join(", "));
    }
    match (shape.window, shape.fixed) {
        (Some(window), _) => {
            let _ = write!(text, "; more than {} in windows of {}", shape.frames_of(shape.whole), shape.frames_of(window.length));
        }
        (None, Some(_)) => text.push_str(" and no other"),
        (None, None) => {}
    }
    text
}

fn sampler_text(bundle: &Bundle) -> String {
    let Some(config) = &bundle.scheduler else {
        return if bundle.family.is_integrated() { "solvers of its field" } else { "none: one pass" }.to_owned();
    };
    let mut text = format!("{} ({}), predicts {}", config.kind(), config.kind().class_name(), config.prediction());
    if let Some(spacing) = config.spacing() {
        let _ = write!(text, ", {spacing} spacing");
    }
    if let Some(schedule) = config.sigma_schedule() {
        let _ = write!(text, ", {schedule} noise levels");
    }
    text
}

fn table(bundle: &Bundle) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    let card = bundle.card.as_ref();
    let (width, height) = bundle.default_size();
    line("name", &bundle.name());
    if let Some(version) = card.and_then(|card| card.version.as_ref()) {
        line("version", version);
    }
    if let Some(description) = card.and_then(|card| card.description.as_ref()) {
        line("about", description);
    }
    line("folder", &bundle.folder.display().to_string());
    line("class", &bundle.class_name);
    line("licence", card.and_then(|card| card.licence.as_deref()).unwrap_or("not said"));
    for work in card.iter().flat_map(|card| &card.attribution) {
        line("", work);
    }
    line("makes", &tasks(bundle).join(", "));
    line("sampler", &sampler_text(bundle));
    if let Some(config) = bundle.scheduler.as_ref().filter(|config| !config.ignored().is_empty()) {
        line("", &format!("keys it does not take: {}", config.ignored().join(", ")));
    }
    if !bundle.classes.is_empty() {
        line("classes", &bundle.classes.join(", "));
    }
    let habits = &bundle.habits;
    line("steps", &format!("{}, {} by default (known from {})", habits.steps_text(), habits.default_steps, habits.source));
    line("guidance", &if habits.without_guidance { "none".to_owned() } else { format!("{} by default", habits.guidance) });
    let only = if bundle.geometry.fixed_size.is_some() { " and no other" } else { "" };
    line(
        "size",
        &match bundle.takes_text() {
            true => format!(
                "{width}x{height}{only}, {} channels; latents of {} channels, {} pixels to a latent",
                bundle.geometry.picture_channels, bundle.geometry.latent_channels, bundle.geometry.pixels_per_latent
            ),
            false => format!("{width}x{height}{only}, {} channels", bundle.geometry.picture_channels),
        },
    );
    if let Some(shape) = &bundle.clip {
        line("frames", &frames_text(shape));
    }
    line("checksum", &bundle.fingerprint);
    line("in all", &megabytes(bundle.size_bytes()));
    for (role, component) in &bundle.components {
        let header = &component.header;
        let opset = header.opset.map_or_else(String::new, |opset| format!(", opset {opset}"));
        line("", "");
        #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
        let parameters = header.parameters as f64 / 1e6;
        line(role.folder(), &format!("{}, {parameters:.2} M weights, {}{opset}", megabytes(header.size_bytes), header.precision));
        for file in &header.external_files {
            line("", &format!("weights in {}", file.display()));
        }
        for (precision, path) in component.variants.iter().filter(|(_, path)| **path != component.path) {
            let size = std::fs::metadata(path).map_or_else(|error| error.to_string(), |about| megabytes(about.len()));
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            line("", &format!("beside it {name}, {precision}, {size}"));
        }
        for port in &header.inputs {
            line("", &format!("takes {port}"));
        }
        for port in &header.outputs {
            line("", &format!("gives {port}"));
        }
    }
    text
}

fn json(bundle: &Bundle) -> serde_json::Value {
    let port = |port: &Port| serde_json::json!({ "name": port.name, "type": port.element.to_string(), "shape": port.shape });
    let components: serde_json::Map<String, serde_json::Value> = bundle
        .components
        .iter()
        .map(|(role, component)| {
            let header = &component.header;
            let value = serde_json::json!({
                "file": component.path.display().to_string(),
                "size_bytes": header.size_bytes,
                "parameters": header.parameters,
                "precision": header.precision,
                "opset": header.opset,
                "variants": component.variants.iter().map(|(precision, path)| (precision.name(), path.display().to_string()))
                    .collect::<std::collections::BTreeMap<_, _>>(),
                "external_files": header.external_files,
                "inputs": header.inputs.iter().map(port).collect::<Vec<_>>(),
                "outputs": header.outputs.iter().map(port).collect::<Vec<_>>(),
            });
            (role.folder().to_owned(), value)
        })
        .collect();
    let card = bundle.card.as_ref();
    let habits = &bundle.habits;
    serde_json::json!({
        "name": bundle.name(),
        "version": card.and_then(|card| card.version.clone()),
        "folder": bundle.folder.display().to_string(),
        "class": bundle.class_name,
        "licence": card.and_then(|card| card.licence.clone()),
        "attribution": card.map(|card| card.attribution.clone()).unwrap_or_default(),
        "tasks": tasks(bundle),
        "family": bundle.family.name(),
        "classes": bundle.classes,
        "sampler": bundle.scheduler.as_ref().map(|config| serde_json::json!({
            "name": config.kind().name(),
            "class": config.kind().class_name(),
            "prediction": config.prediction().to_string(),
            "ignored_keys": config.ignored(),
        })),
        "steps": { "trained": habits.trained_steps, "default": habits.default_steps, "largest": habits.largest_steps },
        "guidance": habits.guidance,
        "size": { "default": [bundle.default_size().0, bundle.default_size().1], "fixed": bundle.geometry.fixed_size.is_some() },
        "sha256": bundle.fingerprint,
        "size_bytes": bundle.size_bytes(),
        "components": components,
    })
}
