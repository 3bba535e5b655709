//! The files of a safety checker, which says whether a picture may be shown.
//!
//! In: a folder as diffusers' exporter wrote it, `safety_checker/model.onnx` beside `feature_extractor/preprocessor_config.json`. Out: the
//! network's file and how a picture is prepared for it, checked. Whoever asks for it gets all of it or an error.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::component::find;
use super::json::Object;
use super::names;
use super::onnx::read_header;
use super::weights::check_weights;

/// Sides of what a checker sees, in pixels.
const LARGEST_SIDE: u64 = 2048;
/// CLIP's own, where a configuration does not say.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// Pillow's numbers of filters.
const BICUBIC: usize = 3;

/// A safety checker's files.
#[derive(Debug, Clone, PartialEq)]
pub struct SafetyFiles {
    /// The network.
    pub network: PathBuf,
    /// How a picture becomes what it sees.
    pub preparation: ClipPreparation,
}

/// How a picture is prepared for CLIP: scaled with a bicubic filter, cut out of the middle, brought to numbers about 0.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipPreparation {
    /// The shorter side after scaling, in pixels.
    pub shorter_px: u32,
    /// Width and height of what is cut out, in pixels.
    pub cut_px: (u32, u32),
    /// What a byte is multiplied by.
    pub factor: f32,
    /// What is then taken away, of red, green and blue.
    pub mean: [f32; 3],
    /// What it is then divided by.
    pub deviation: [f32; 3],
}

impl SafetyFiles {
    /// Reads and checks the checker in `folder`.
    ///
    /// # Errors
    /// A file is missing or broken, the network has other ports, the configuration prepares pictures in another way.
    pub fn open(folder: &Path) -> Result<Self> {
        let network = folder.join("safety_checker/model.onnx");
        ensure!(network.is_file(), "{}: there is no such file", network.display());
        let preparation = ClipPreparation::open(&folder.join("feature_extractor/preprocessor_config.json"))?;
        let checked = || -> Result<()> {
            let header = read_header(&network)?;
            let (width, height) = preparation.cut_px;
            let channels_first = [None, Some(3), Some(height as usize), Some(width as usize)];
            for (names, expected) in [(names::CLIP_INPUT, channels_first), (names::SHOWN, [None, None, None, Some(3)])] {
                let port = find(&header.inputs, names)
                    .with_context(|| format!("is no safety checker: it has no input `{}`", names[0]))?;
                let fits = |(found, expected): (&Option<usize>, &Option<usize>)| {
                    found.is_none() || expected.is_none() || found == expected
                };
                ensure!(
                    port.shape.len() == 4 && port.shape.iter().zip(&expected).all(fits),
                    "input `{}` is {}, and pictures are prepared as {width}x{height}",
                    port.name,
                    port.shape_text()
                );
            }
            ensure!(header.inputs.len() == 2, "is no safety checker: it takes {} inputs, expected 2", header.inputs.len());
            ensure!(
                find(&header.outputs, names::VERDICT).is_some(),
                "is no safety checker: it has no output `{}`",
                names::VERDICT[0]
            );
            check_weights(&network)
        };
        checked().with_context(|| network.display().to_string())?;
        Ok(Self { network, preparation })
    }
}

impl ClipPreparation {
    /// Width and height in pixels that a picture is scaled to before a part is cut out.
    #[must_use]
    pub fn scaled(&self, width: u32, height: u32) -> (u64, u64) {
        let shorter = u64::from(self.shorter_px);
        // As transformers computes it, cut off to whole pixels.
        let longer = |short: u32, long: u32| shorter * u64::from(long) / u64::from(short.max(1));
        if width <= height { (shorter, longer(width, height)) } else { (longer(height, width), shorter) }
    }

    pub(super) fn open(path: &Path) -> Result<Self> {
        let config = Object::open(path)?;
        for step in ["do_resize", "do_center_crop", "do_rescale", "do_normalize"] {
            ensure!(
                config.boolean(step)?.unwrap_or(true),
                "{}: `{step}` is false, and Kiln prepares pictures as CLIP does",
                path.display()
            );
        }
        let read = || -> Result<Self> {
            let resample = config.integer("resample", 0..=5)?.unwrap_or(BICUBIC);
            ensure!(resample == BICUBIC, "`resample` is {resample}, expected {BICUBIC} (bicubic)");
            let (shorter_px, other) = sides(&config, "size", 224)?;
            ensure!(shorter_px == other, "`size` is {shorter_px}x{other}, expected a shortest edge or a square");
            let cut_px = sides(&config, "crop_size", 224)?;
            ensure!(
                cut_px.0 <= shorter_px && cut_px.1 <= shorter_px,
                "`crop_size` is {}x{}, expected at most the `size` of {shorter_px}",
                cut_px.0,
                cut_px.1
            );
            let factor = config.number("rescale_factor")?.unwrap_or(1.0 / 255.0);
            let (mean, deviation) = (colours(&config, "image_mean", MEAN)?, colours(&config, "image_std", DEVIATION)?);
            ensure!(deviation.iter().all(|value| *value > 0.0), "`image_std` is {deviation:?}, expected numbers above 0");
            Ok(Self { shorter_px, cut_px, factor, mean, deviation })
        };
        read().with_context(|| path.display().to_string())
    }
}

/// Width and height under `key`: one number, a shortest edge, or both.
fn sides(config: &Object, key: &str, default: u32) -> Result<(u32, u32)> {
    let side =
        |value: &Value| value.as_u64().filter(|side| (1..=LARGEST_SIDE).contains(side)).and_then(|side| side.try_into().ok());
    let Some(value) = config.entries.get(key).filter(|value| !value.is_null()) else { return Ok((default, default)) };
    let square = |side: u32| (side, side);
    let found = match value {
        Value::Object(parts) => match parts.get("shortest_edge") {
            Some(edge) => side(edge).map(square),
            None => parts.get("width").and_then(side).zip(parts.get("height").and_then(side)),
        },
        single => side(single).map(square),
    };
    found.with_context(|| format!("`{key}` is no size in pixels, expected sides of 1 to {LARGEST_SIDE}"))
}

fn colours(config: &Object, key: &str, default: [f32; 3]) -> Result<[f32; 3]> {
    let Some(value) = config.entries.get(key).filter(|value| !value.is_null()) else { return Ok(default) };
    #[expect(clippy::cast_possible_truncation, reason = "Kiln computes in f32")]
    let number = |value: &Value| value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
    let numbers = value.as_array().and_then(|values| values.iter().map(number).collect::<Option<Vec<f32>>>());
    numbers.and_then(|numbers| numbers.try_into().ok()).with_context(|| format!("`{key}` is not three finite numbers"))
}
