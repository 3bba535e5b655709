//! The card: `kiln.toml`, what a bundle's maker says of it.
//!
//! `models/README.md` describes each key and is the norm; this file is its reader. A bundle without a card works: what the
//! card would say is then inferred in `habits.rs`.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::json::{read_bounded, shortened};
use super::upscale_card::UpscaleCard;

/// The card's file name.
pub const CARD_FILE: &str = "kiln.toml";

const LARGEST_CARD_BYTES: u64 = 256 * 1024;
const LONGEST_TEXT: usize = 4096;
const MOST_CLASSES: usize = 1000;
const MOST_TIMESTEPS: usize = 1000;
const MOST_FRAMES: usize = 1000;

/// What `kiln.toml` holds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Card {
    /// Short name, as `--model` takes it.
    pub name: String,
    /// Version of the weights.
    #[serde(default)]
    pub version: Option<String>,
    /// The algorithm, such as `latent_diffusion`.
    #[serde(default)]
    pub family: Option<String>,
    /// Licence of the weights, as an SPDX expression.
    #[serde(default, alias = "license")]
    pub licence: Option<String>,
    /// One sentence on what it makes.
    #[serde(default)]
    pub description: Option<String>,
    /// Whose work the training data is, and under which licence.
    #[serde(default)]
    pub attribution: Vec<String>,
    /// Step counts.
    #[serde(default)]
    pub steps: Steps,
    /// Guidance.
    #[serde(default)]
    pub guidance: Guidance,
    /// Picture size.
    #[serde(default)]
    pub size: Size,
    /// How a preview is made.
    #[serde(default)]
    pub preview: Preview,
    /// Names of the classes that the model tells apart, in the order of their numbers.
    #[serde(default)]
    pub classes: Vec<String>,
    /// How many frames a clip has.
    #[serde(default)]
    pub clip: ClipHabits,
    /// How a network that enlarges pictures is called.
    #[serde(default)]
    pub upscale: UpscaleCard,
    /// Where it stands in the family tree.
    #[serde(default)]
    pub lineage: Lineage,
    /// SHA-256 of each file, by its path within the bundle.
    #[serde(default)]
    pub sha256: BTreeMap<String, String>,
    /// Keys that this version of Kiln does not know.
    #[serde(skip)]
    pub ignored: Vec<String>,
}

/// `[steps]`: how many steps the model takes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Steps {
    /// The counts a distilled model was trained for; empty for an undistilled one.
    #[serde(default)]
    pub trained: Vec<usize>,
    /// Taken when the person names none.
    #[serde(default)]
    pub default: Option<usize>,
    /// More would spoil the picture or waste the time.
    #[serde(default)]
    pub largest: Option<usize>,
    /// The timesteps that the weights were distilled at, descending; taken for as many steps.
    #[serde(default)]
    pub timesteps: Vec<f32>,
}

/// `[guidance]`: the guidance scale.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Guidance {
    /// Taken when the person names none.
    #[serde(default)]
    pub default: Option<f32>,
}

/// `[size]`: the picture's size.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Size {
    /// Width and height in pixels, taken when the person names none.
    #[serde(default)]
    pub default: Option<[u32; 2]>,
}

/// `[preview]`: a linear map from latents to colours.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Preview {
    /// One row for each latent channel and one for the offset, each with a value for each colour channel.
    #[serde(default)]
    pub latent_to_rgb: Vec<Vec<f32>>,
}

/// `[clip]`: the frames of a clip.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ClipHabits {
    /// How many it was trained for; more are made in windows of the most.
    #[serde(default)]
    pub frames: Vec<usize>,
    /// Made when the person names no number.
    #[serde(default)]
    pub default_frames: Option<usize>,
    /// How many are shown in a second when the person does not say.
    #[serde(default)]
    pub fps: Option<u32>,
}

/// `[lineage]`: the model's place in the family tree.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Lineage {
    /// The algorithms or models it descends from.
    #[serde(default)]
    pub parents: Vec<String>,
    /// The paper.
    #[serde(default)]
    pub paper: Option<String>,
}

impl Card {
    /// Reads the card in `folder`; `None` when there is none.
    ///
    /// # Errors
    /// The file cannot be read, is too large, is not TOML, or a value is of the wrong type or out of its range.
    pub fn open(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CARD_FILE);
        // A link to nothing is there, and an error when it is read.
        if std::fs::symlink_metadata(&path).is_err() {
            return Ok(None);
        }
        let bytes = read_bounded(&path, LARGEST_CARD_BYTES)?;
        let text = std::str::from_utf8(&bytes).with_context(|| format!("{}: is not UTF-8 text", path.display()))?;
        Self::parse(text).with_context(|| path.display().to_string()).map(Some)
    }

    /// Reads a card out of `text`.
    ///
    /// # Errors
    /// The text is not TOML, or a value is of the wrong type or out of its range.
    pub fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = toml::from_str(text).map_err(|error| anyhow::anyhow!("{}", first_lines(&error.to_string())))?;
        let ignored = unknown_keys(&table);
        let mut card: Self =
            table.try_into().map_err(|error: toml::de::Error| anyhow::anyhow!("{}", first_lines(&error.to_string())))?;
        for key in &ignored {
            log::info!("{CARD_FILE}: `{key}` is not known to this version and is ignored");
        }
        card.ignored = ignored;
        card.check()?;
        Ok(card)
    }

    fn check(&self) -> Result<()> {
        let name = &self.name;
        ensure!(
            !name.is_empty()
                && name.len() <= 100
                && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
                && !name.starts_with('.'),
            "`name` is {:?}, expected up to 100 of a-z, 0-9, `-`, `_` and `.`",
            shortened(name)
        );
        for (key, text) in
            [("version", &self.version), ("family", &self.family), ("licence", &self.licence), ("description", &self.description)]
        {
            let length = text.as_ref().map_or(0, String::len);
            ensure!(length <= LONGEST_TEXT, "`{key}` has {length} bytes, expected at most {LONGEST_TEXT}");
        }
        let counts = self.steps.trained.iter().chain(&self.steps.default).chain(&self.steps.largest);
        for count in counts {
            ensure!((1..=10_000).contains(count), "`steps` holds {count}, expected 1 to 10000");
        }
        if let (Some(default), Some(largest)) = (self.steps.default, self.steps.largest) {
            ensure!(default <= largest, "`steps.default` is {default}, expected at most `steps.largest`, which is {largest}");
        }
        let timesteps = &self.steps.timesteps;
        ensure!(
            timesteps.len() <= MOST_TIMESTEPS
                && timesteps.iter().all(|timestep| (0.0..=1000.0).contains(timestep))
                && timesteps.is_sorted_by(|left, right| left > right),
            "`steps.timesteps` holds {} numbers, expected at most {MOST_TIMESTEPS}, each below the one before it, from 1000 to 0",
            timesteps.len()
        );
        if let Some(default) = self.guidance.default {
            ensure!((0.0..=100.0).contains(&default), "`guidance.default` is {default}, expected 0 to 100");
        }
        if let Some([width, height]) = self.size.default {
            ensure!(
                (8..=8192).contains(&width) && (8..=8192).contains(&height),
                "`size.default` is {width}x{height}, expected 8 to 8192 each way"
            );
        }
        for count in self.clip.frames.iter().chain(&self.clip.default_frames) {
            ensure!((1..=MOST_FRAMES).contains(count), "`clip` holds {count} frames, expected 1 to {MOST_FRAMES}");
        }
        if let Some(fps) = self.clip.fps {
            ensure!((1..=100).contains(&fps), "`clip.fps` is {fps}, expected 1 to 100");
        }
        ensure!(
            self.classes.len() <= MOST_CLASSES,
            "`classes` has {} names, expected at most {MOST_CLASSES}",
            self.classes.len()
        );
        for (index, class) in self.classes.iter().enumerate() {
            ensure!(
                !class.trim().is_empty()
                    && class.len() <= 100
                    && !class.contains(char::is_control)
                    && !self.classes[..index].contains(class),
                "`classes` holds {:?}, expected names of 1 to 100 bytes without control characters, each once",
                shortened(class)
            );
        }
        self.upscale.check()?;
        let columns = self.preview.latent_to_rgb.first().map_or(3, Vec::len);
        ensure!(
            matches!(columns, 3 | 4)
                && self.preview.latent_to_rgb.len() <= 129
                && self.preview.latent_to_rgb.iter().all(|row| row.len() == columns && row.iter().all(|value| value.is_finite())),
            "`preview.latent_to_rgb` is not a table of rows of three (or four) finite numbers"
        );
        for (file, sum) in &self.sha256 {
            let shown = shortened(file);
            let stays = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
            ensure!(
                stays && !file.is_empty() && !file.contains('\\'),
                "`sha256` names {shown:?}, expected a path within the bundle"
            );
            ensure!(
                sum.len() == 64 && sum.chars().all(|digit| digit.is_ascii_hexdigit()),
                "`sha256` of {shown:?} is {:?}, expected 64 hexadecimal digits",
                shortened(sum)
            );
        }
        Ok(())
    }
}

/// The keys this version knows, by table; the outermost table is "".
const KNOWN: [(&str, &[&str]); 8] = [
    (
        "",
        &[
            "name",
            "version",
            "family",
            "licence",
            "license",
            "description",
            "attribution",
            "steps",
            "guidance",
            "size",
            "preview",
            "upscale",
            "classes",
            "clip",
            "lineage",
            "sha256",
        ],
    ),
    ("steps", &["trained", "default", "largest", "timesteps"]),
    ("guidance", &["default"]),
    ("size", &["default"]),
    ("preview", &["latent_to_rgb"]),
    ("clip", &["frames", "default_frames", "fps"]),
    ("upscale", &["factor", "tile", "multiple", "range"]),
    ("lineage", &["parents", "paper"]),
];

fn unknown_keys(table: &toml::Table) -> Vec<String> {
    let mut unknown = Vec::new();
    for (name, keys) in KNOWN {
        let inner = if name.is_empty() { Some(table) } else { table.get(name).and_then(toml::Value::as_table) };
        for key in inner.into_iter().flat_map(toml::Table::keys).filter(|key| !keys.contains(&key.as_str())) {
            unknown.push(if name.is_empty() { key.clone() } else { format!("{name}.{key}") });
        }
    }
    unknown
}

/// TOML errors draw the line with a caret below it; the words are in the last line, the place in the first.
fn first_lines(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = shortened(lines.next().unwrap_or("is not TOML"));
    match lines.next_back() {
        Some(last) if !last.contains('^') => format!("{first}: {}", shortened(last)),
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_with_a_name_alone_is_enough() {
        let card = Card::parse("name = \"sticker\"").unwrap();
        assert_eq!(card.name, "sticker");
        assert_eq!(card.steps, Steps::default());
    }

    #[test]
    fn keys_of_a_later_version_are_ignored_and_named() {
        let card = Card::parse("name = \"a\"\ncolour = 1\n[steps]\nsmallest = 3").unwrap();
        assert_eq!(card.ignored, ["colour", "steps.smallest"]);
    }

    #[test]
    fn each_wrong_value_is_one_clear_error() {
        let hash = "0".repeat(64);
        let cases = [
            ("", "missing field `name`"),
            ("name = 3", "invalid type"),
            ("name = \"../x\"", "`name`"),
            ("name = \"a\"\n[steps]\ntrained = [0]", "`steps` holds 0"),
            ("name = \"a\"\n[steps]\ndefault = 9\nlargest = 4", "`steps.default` is 9"),
            ("name = \"a\"\n[steps]\ntrained = [-1]", "invalid value"),
            ("name = \"a\"\n[guidance]\ndefault = nan", "`guidance.default`"),
            ("name = \"a\"\n[upscale]\nfactor = 17", "`upscale.factor` is 17, expected 1 to 16"),
            ("name = \"a\"\n[upscale]\nmultiple = 0", "`upscale.multiple` is 0"),
            ("name = \"a\"\n[upscale]\nrange = [1, nan]", "`upscale.range`"),
            ("name = \"a\"\n[size]\ndefault = [64]", "invalid length"),
            ("name = \"a\"\n[size]\ndefault = [64, 999999]", "`size.default`"),
            ("name = \"a\"\nclasses = [\"cat\", \"cat\"]", "each once"),
            ("name = \"a\"\nclasses = [\" \"]", "`classes`"),
            ("name = \"a\"\n[clip]\nframes = [0]", "`clip` holds 0 frames"),
            ("name = \"a\"\n[clip]\ndefault_frames = 1001", "`clip` holds 1001 frames"),
            ("name = \"a\"\n[clip]\nfps = 0", "`clip.fps` is 0"),
            ("name = \"a\"\n[clip]\nfps = -3", "invalid value"),
            ("name = \"a\"\nclasses = [\"\\u001b[2J\"]", "`classes`"),
            ("name = \"a\"\n[preview]\nlatent_to_rgb = [[1.0]]", "latent_to_rgb"),
            ("name = \"a\"\n[sha256]\n\"../x\" = \"00\"", "within the bundle"),
            (&format!("name = \"a\"\n[sha256]\n\"/etc/passwd\" = \"{hash}\""), "within the bundle"),
            ("name = \"a\"\n[sha256]\nx = \"zz\"", "64 hexadecimal digits"),
            ("name = ", "TOML parse error"),
        ];
        for (text, expected) in cases {
            let error = format!("{:#}", Card::parse(text).expect_err(text));
            assert!(error.contains(expected), "{text:?} gave {error:?}, expected {expected:?}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        let text = format!("name = \"a\"\nx = {}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Card::parse(&text).is_err());
    }
}
