//! Reads and checks model folders.
//!
//! In: a folder as `optimum-cli export onnx` writes it, with or without a card. Out: a [`Bundle`] whose components, shapes and
//! configuration agree with each other. Everything in a folder is hostile until it was checked here. Not here: opening the
//! networks (`runtime`), what to do with them (`pipeline`).

mod card;
mod checksum;
mod clip;
mod component;
mod contract;
mod external;
mod extras;
mod family;
mod first_frame;
mod geometry;
mod habits;
mod json;
mod latent_scaling;
mod layout;
pub mod names;
mod onnx;
mod port;
mod safety;
mod shelf;
mod upscale_card;
mod weights;
mod work;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub use card::{CARD_FILE, Card};
pub use checksum::{FileState, sha256_of_bytes, sha256_of_file, verify};
pub use clip::{ClipShape, DecodeTime, Window};
pub use component::{Component, Role, find};
pub use family::{Architecture, Family};
pub use first_frame::FirstFrame;
pub use geometry::{Geometry, PACKED_SIDE, PLACE};
pub use habits::Habits;
pub use latent_scaling::LatentScaling;
pub use onnx::{Header, read_header};
pub use safety::{ClipPreparation, SafetyFiles};
pub use shelf::{Shelf, ShelvedBundle};
pub use upscale_card::UpscaleCard;
pub use work::Work;

use crate::refuse;
use crate::sampler;
use contract::Conditioning;
use json::Object;
use layout::Layout;

/// A model folder that was read and checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Where it lies.
    pub folder: PathBuf,
    /// Its card, when it has one.
    pub card: Option<Card>,
    /// The `_class_name` of `model_index.json`.
    pub class_name: String,
    /// The name under which the model was published, when the export kept it.
    pub published_name: Option<String>,
    /// Its algorithm.
    pub family: Family,
    /// Names of the classes that it tells apart, in the order of their numbers; empty where it takes none.
    pub classes: Vec<String>,
    /// The number that stands for no class, with which guidance is possible.
    pub null_class: Option<usize>,
    /// Whether an empty negative prompt is all zeros rather than the encoding of nothing (SDXL).
    pub zeros_for_empty_prompt: bool,
    /// What a text encoder that follows instructions is told before each prompt (Sana).
    pub instruction: Option<String>,
    /// Its components by role.
    pub components: BTreeMap<Role, Component>,
    /// Its sampler's configuration, where it has one; where its class is not known, with the keys that any sampler takes from it.
    pub scheduler: Option<sampler::Config>,
    /// The class of its sampler when it is one that Kiln has not: a person must then name another.
    pub unknown_scheduler: Option<String>,
    /// Sizes of latents and pictures.
    pub geometry: Geometry,
    /// Frames of a clip; `None` where it makes pictures.
    pub clip: Option<ClipShape>,
    /// Steps and guidance that it takes.
    pub habits: Habits,
    /// Whether it came with a safety checker, be its files there or not.
    pub has_safety_checker: bool,
    /// What it is recognised by, as a SHA-256.
    pub fingerprint: String,
}

impl Bundle {
    /// Reads and checks the bundle in `folder`.
    ///
    /// # Errors
    /// The folder is not there or is no diffusers layout (the caller's fault); a file in it is missing, truncated, too large, of the
    /// wrong kind, points out of the folder, or does not fit the others.
    pub fn open(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            refuse!("model {}: there is no such folder; `kiln models` lists those that are found", folder.display());
        }
        let index_path = folder.join("model_index.json");
        if !index_path.exists() {
            refuse!(
                "model {}: there is no model_index.json in it, expected a diffusers export (`optimum-cli export onnx` writes one)",
                folder.display()
            );
        }
        let card = Card::open(folder)?;
        let index = Object::open(&index_path)?;
        let class_name = index.text("_class_name")?.with_context(|| format!("{}: has no `_class_name`", index_path.display()))?;
        let class_name = json::shortened(class_name);
        let layout = Layout::of(&class_name).with_context(|| index_path.display().to_string())?;
        let conditioning = Conditioning::of(layout);
        let mut components = BTreeMap::new();
        for role in layout.roles() {
            if let Some(component) = Component::open(folder, *role, conditioning)? {
                components.insert(*role, component);
            }
        }
        for role in layout.required() {
            ensure!(
                components.contains_key(role),
                "{}: there is no `{role}/model.onnx`, which a {class_name} needs",
                folder.display()
            );
        }
        let encoders = if let Layout::Text(architecture) = layout { architecture.text_encoders() } else { &[] };
        for (_, tokenizer) in encoders.iter().filter(|(role, _)| components.contains_key(role)) {
            ensure!(
                folder.join(tokenizer).is_dir(),
                "{}: there is no `{tokenizer}` folder, which a {class_name} needs",
                folder.display()
            );
        }

        let scheduler_path = folder.join("scheduler/scheduler_config.json");
        let has_scheduler = layout.takes_scheduler() && scheduler_path.exists();
        ensure!(
            has_scheduler || !layout.needs_scheduler(),
            "{}: there is no such file, which a {class_name} needs",
            scheduler_path.display()
        );
        let (scheduler, unknown_scheduler) = match has_scheduler {
            true => read_scheduler(&scheduler_path).map(|(config, unknown)| (Some(config), unknown))?,
            false => (None, None),
        };
        let geometry = geometry(layout, &components).with_context(|| folder.display().to_string())?;
        let (classes, null_class) =
            classes(card.as_ref(), &components).with_context(|| folder.join(CARD_FILE).display().to_string())?;
        let (width, height) = geometry.default_size;
        let values = geometry.picture_channels * width as usize * height as usize;
        let family = Family::read(layout, &components, values, classes.len()).with_context(|| folder.display().to_string())?;

        let clip = match layout {
            Layout::Text(architecture) => ClipShape::read(architecture, &class_name, &components, card.as_ref())
                .with_context(|| folder.display().to_string())?,
            _ => None,
        };

        let mut bundle = Self {
            folder: folder.to_path_buf(),
            card,
            class_name,
            published_name: index.text("_name_or_path")?.map(str::to_owned),
            family,
            classes,
            null_class,
            zeros_for_empty_prompt: index.boolean("force_zeros_for_empty_prompt")?.unwrap_or(true),
            instruction: layout.instruction(&index)?,
            components,
            scheduler,
            unknown_scheduler,
            geometry,
            clip,
            has_safety_checker: index.names("safety_checker") || folder.join("safety_checker").exists(),
            // Known once the rest is.
            habits: Habits::default(),
            fingerprint: String::new(),
        };
        bundle.habits = Habits::of(&bundle);
        bundle.check_card().with_context(|| folder.join(CARD_FILE).display().to_string())?;
        bundle.fingerprint = checksum::fingerprint(&bundle)?;
        Ok(bundle)
    }

    /// Whether `folder` says that it makes clips; a folder that is broken says nothing, and [`Bundle::open`] what is wrong with it.
    #[must_use]
    pub fn is_of_clips(folder: &Path) -> bool {
        let class = Object::open(&folder.join("model_index.json"))
            .and_then(|index| Ok(index.text("_class_name")?.map(str::to_owned)))
            .ok()
            .flatten();
        let layout = class.and_then(|class| Layout::of(&class).ok());
        matches!(layout, Some(Layout::Text(architecture)) if architecture.makes_clips())
    }

    /// The card's name, else the folder's.
    #[must_use]
    pub fn name(&self) -> String {
        self.card.as_ref().map_or_else(|| self.folder_name(), |card| card.name.clone())
    }

    /// The folder's name; in the Hugging Face cache, where it is a commit's number, the model's.
    fn folder_name(&self) -> String {
        let absolute = std::path::absolute(&self.folder).ok().filter(|path| path.file_name().is_some());
        let path = absolute.or_else(|| std::fs::canonicalize(&self.folder).ok()).unwrap_or_else(|| self.folder.clone());
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let snapshots = path.parent().filter(|parent| parent.ends_with("snapshots"));
        let cached = snapshots.and_then(Path::parent).and_then(name).filter(|name| name.starts_with("models--"));
        match cached.as_ref().and_then(|cached| cached.rsplit_once("--")) {
            Some((_, model)) => model.to_owned(),
            None => name(&path).unwrap_or_else(|| "model".to_owned()),
        }
    }

    /// Width and height in pixels that a picture has when nobody says.
    #[must_use]
    pub fn default_size(&self) -> (u32, u32) {
        let of_card = self.card.as_ref().and_then(|card| card.size.default).map(|[width, height]| (width, height));
        self.geometry.fixed_size.or(of_card).unwrap_or(self.geometry.default_size)
    }

    /// A card must not say what the model cannot do: a person who asked for nothing of it would be told off for it.
    fn check_card(&self) -> Result<()> {
        let Some(card) = &self.card else { return Ok(()) };
        let habits = &self.habits;
        let longest = self.scheduler.as_ref().map_or(usize::MAX, sampler::Config::num_train_timesteps);
        ensure!(
            habits.takes_steps(habits.default_steps) && habits.default_steps <= longest,
            "`steps.default` is {}, expected one of {}, and at most the timesteps of the sampler",
            habits.default_steps,
            habits.steps_text()
        );
        if let Some([width, height]) = card.size.default {
            let unit = self.geometry.side_unit;
            ensure!(
                width.is_multiple_of(unit) && height.is_multiple_of(unit),
                "`size.default` is {width}x{height}, expected multiples of {unit}"
            );
            if let Some((fixed_width, fixed_height)) = self.geometry.fixed_size {
                ensure!(
                    (width, height) == (fixed_width, fixed_height),
                    "`size.default` is {width}x{height}, and the export takes {fixed_width}x{fixed_height} only"
                );
            }
        }
        Ok(())
    }

    /// The component of `role`.
    ///
    /// # Errors
    /// The bundle has none.
    pub fn component(&self, role: Role) -> Result<&Component> {
        self.components.get(&role).with_context(|| format!("{}: there is no `{role}/model.onnx`", self.folder.display()))
    }

    /// Whether its pictures follow a text, rather than a class or nothing.
    #[must_use]
    pub fn takes_text(&self) -> bool {
        matches!(self.family, Family::LatentDiffusion(_))
    }

    /// Whether it is of the line with two text encoders.
    #[must_use]
    pub fn is_xl(&self) -> bool {
        self.family == Family::LatentDiffusion(Architecture::StableDiffusionXl)
    }

    /// Whether it makes clips rather than pictures.
    #[must_use]
    pub fn makes_clips(&self) -> bool {
        self.clip.is_some()
    }

    /// The layout of a model that reads; `None` for the other families.
    #[must_use]
    pub fn architecture(&self) -> Option<Architecture> {
        match self.family {
            Family::LatentDiffusion(architecture) => Some(architecture),
            _ => None,
        }
    }

    /// The component that predicts; for a family of one pass there is none of that role.
    #[must_use]
    pub fn denoiser(&self) -> Role {
        self.architecture().map_or(Role::Unet, Architecture::denoiser)
    }

    /// Whether guidance goes into the denoiser as an embedding, so that no second pass is made (latent consistency models, Flux).
    #[must_use]
    pub fn takes_guidance_embedding(&self) -> bool {
        let takes_guidance = |network: &Component| network.input(names::GUIDANCE).is_some();
        self.is_latent_consistency() || self.components.get(&Role::Transformer).is_some_and(takes_guidance)
    }

    /// Whether it is a latent consistency model, whose few steps are some of its teacher's.
    #[must_use]
    pub fn is_latent_consistency(&self) -> bool {
        self.components.get(&Role::Unet).is_some_and(|unet| unet.input(names::TIMESTEP_COND).is_some())
    }

    /// Whether the denoiser sees the mask and the masked picture beside the latents (an inpainting model).
    #[must_use]
    pub fn takes_mask(&self) -> bool {
        self.clip.is_none() && self.geometry.denoiser_channels > self.geometry.latent_channels
    }

    /// The sampler's configuration as diffusers' pipelines mend it when they are made: the first exports of the line carried
    /// values that do not belong to it, and their pictures are published with the mended ones. `None` where it has no sampler.
    ///
    /// # Errors
    /// The mended configuration is none that the sampler takes.
    pub fn repaired_scheduler(&self, inpainting: bool) -> Result<Option<sampler::Config>> {
        let Some(scheduler) = &self.scheduler else { return Ok(None) };
        let is_plain = self.family == Family::LatentDiffusion(Architecture::StableDiffusion)
            && !self.class_name.contains("LatentConsistency");
        if !is_plain || scheduler.is_flow() {
            return Ok(Some(scheduler.clone()));
        }
        let mut keys = serde_json::Map::new();
        keys.insert("steps_offset".into(), 1.into());
        if inpainting {
            keys.insert("skip_prk_steps".into(), true.into());
        } else {
            keys.insert("clip_sample".into(), false.into());
        }
        scheduler.with_keys(&keys).map(Some)
    }

    /// The size of all components in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.components.values().map(|component| component.header.size_bytes).sum()
    }
}

/// Reads the sampler's configuration. A class that Kiln has not is no reason to refuse the folder: its keys serve another sampler.
fn read_scheduler(path: &Path) -> Result<(sampler::Config, Option<String>)> {
    let read = || -> Result<(sampler::Config, Option<String>)> {
        let bytes = json::read_bounded(path, json::LARGEST_FILE_BYTES)?;
        let text = String::from_utf8(bytes).context("is not UTF-8 text")?;
        let value = sampler::Config::value_from_text(&text)?;
        let class = value.get("_class_name").and_then(serde_json::Value::as_str).map(json::shortened);
        match class {
            Some(class) if sampler::Kind::from_class_name(&class).is_err() => {
                let mut value = value;
                value["_class_name"] = sampler::Kind::Euler.class_name().into();
                Ok((sampler::Config::from_json(&value)?, Some(class)))
            }
            _ => Ok((sampler::Config::from_json(&value)?, None)),
        }
    };
    read().with_context(|| path.display().to_string())
}

/// The geometry of `layout`, from the component that has the picture at one of its ends.
fn geometry(layout: Layout, components: &BTreeMap<Role, Component>) -> Result<Geometry> {
    if let Layout::Text(architecture) = layout {
        return Geometry::of_latents(components, architecture);
    }
    let role = layout.picture_role();
    let component = components.get(&role).with_context(|| format!("there is no `{role}/model.onnx`"))?;
    let (port, key) = match role {
        Role::Unet => (component.input(names::SAMPLE), "in_channels"),
        _ => (component.header.outputs.first(), "out_channels"),
    };
    let port = port.with_context(|| format!("{role}: has no port for the picture"))?;
    ensure!(port.shape.len() == 4, "{role}: `{}` is {}, expected a picture of 4 dimensions", port.name, port.shape_text());
    Geometry::of_pixels(component, port, key)
}

/// The classes that the components tell apart, and the number that stands for none of them.
fn classes(card: Option<&Card>, components: &BTreeMap<Role, Component>) -> Result<(Vec<String>, Option<usize>)> {
    let named = card.map(|card| card.classes.clone()).unwrap_or_default();
    if !components.values().any(|component| component.input(names::CLASS_LABELS).is_some()) {
        ensure!(named.is_empty(), "`classes` has {} names, and no component takes class labels", named.len());
        return Ok((named, None));
    }
    let declared = match components.get(&Role::Unet) {
        Some(unet) => unet.integer("num_class_embeds", 1..=1001)?,
        None => None,
    };
    match (named.len(), declared) {
        (0, None) => bail!("a component takes class labels, and neither `classes` nor a config.json says how many there are"),
        (0, Some(count)) => Ok(((0..count).map(|class| class.to_string()).collect(), None)),
        (count, Some(embedded)) if embedded == count + 1 => Ok((named, Some(count))),
        (count, Some(embedded)) if embedded != count => bail!(
            "`classes` has {count} names, and unet/config.json says `num_class_embeds` {embedded}, expected {count}, or one more for no class"
        ),
        _ => Ok((named, None)),
    }
}
