//! What made a picture, written into it and read back.
//!
//! Two texts go into a PNG file. `kiln` is the JSON of [`Provenance`], from which the picture can be made again; `parameters` is
//! the customary text that Automatic1111's web UI began and that galleries and other generators read. Clips of other formats hold the
//! JSON alone, or have it beside them.
//!
//! Not here: the customary text (`parameters.rs`), how texts lie in a file (`text_chunk.rs`, `container/`), reading them back
//! (`record.rs`), and gathering the facts.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::provenance_parts::{BundleId, ClipRecord, ComponentRun, EmbeddingId, UpscaleRecord, WalkPlace};
use crate::{refusal, refuse};

/// The version of the JSON; a reader refuses another one.
pub const PROVENANCE_SCHEMA: u32 = 1;
/// Keyword of the customary text.
pub(super) const PARAMETERS: &str = "parameters";
/// Keyword of the JSON.
pub(super) const KILN: &str = "kiln";

/// What made a picture.
///
/// What a reader does not know is ignored, and what is optional may be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// [`PROVENANCE_SCHEMA`].
    pub schema: u32,
    /// The version of Kiln.
    pub kiln: String,
    /// The model folder.
    pub bundle: BundleId,
    /// The algorithm, such as `latent_diffusion`.
    pub family: String,
    /// The prompt; `None` for a model that takes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The negative prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative: Option<String>,
    /// Whether brackets were letters and a long prompt was cut; `None` without a prompt in words, or of versions that weighed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_prompt: Option<bool>,
    /// The words with vectors of their own (textual inversion) that stand in its prompts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<EmbeddingId>,
    /// The seed that gives this very picture, also when it is one of several.
    pub seed: u64,
    /// Whose random numbers: `cpu` or `cuda`.
    pub rng: String,
    /// The sampler, such as `euler`.
    pub sampler: String,
    /// What the person changed in the sampler's configuration.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub sampler_overrides: serde_json::Map<String, serde_json::Value>,
    /// Steps asked for.
    pub steps: usize,
    /// Training timesteps visited, noisiest first.
    #[serde(default)]
    pub timesteps: Vec<f32>,
    /// Scale of classifier-free guidance; 1 is none.
    pub guidance: f32,
    /// Noise put back by DDIM and its kin, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<f32>,
    /// How far a style kept from the mean one, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncation: Option<f32>,
    /// Another seed's style from a layer on, as `SEED:LAYER`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style_mix: Option<String>,
    /// Deviation of the latent that was drawn, where the family draws one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Where it stands between the seed's noise and another seed's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walk: Option<WalkPlace>,
    /// The clip of a whole walk; the other values are its first picture's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<ClipRecord>,
    /// Whether it is the input picture, made again from its latent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inversion: bool,
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How much of the input picture was repainted, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strength: Option<f32>,
    /// Whether steps, guidance or a sampler were taken that the model was not made for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forced: bool,
    /// Path of the input picture as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// SHA-256 of the input picture's file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_sha256: Option<String>,
    /// Path of the mask as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// SHA-256 of the mask's file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mask_sha256: Option<String>,
    /// Path of the picture that steered as it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// SHA-256 of its file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_sha256: Option<String>,
    /// How strongly it steered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_scale: Option<f32>,
    /// Threads of the runtime within one operator.
    #[serde(default)]
    pub threads: usize,
    /// `low` or `normal`.
    #[serde(default)]
    pub memory: String,
    /// `tiny` where a tiny decoder made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<String>,
    /// Side in pixels of the tiles in which it was decoded, where they were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<u32>,
    /// Whether a clip was decoded in tiles of its time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clip_tiles: bool,
    /// What enlarged it afterwards, in turn; the size above is the one before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upscale: Vec<UpscaleRecord>,
    /// Whether the decoder ran out of memory first and the latents were decoded again in smaller tiles.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ran_out_of_memory: bool,
    /// Version of ONNX Runtime.
    #[serde(default)]
    pub runtime: String,
    /// What ran, in the order of its first run.
    #[serde(default)]
    pub components: Vec<ComponentRun>,
    /// From the request to the finished pixels, in milliseconds; like the components' times, for all pictures of a request.
    #[serde(default)]
    pub total_ms: f64,
}

impl Provenance {
    /// Gives the JSON on one line.
    ///
    /// # Errors
    /// None that a [`Provenance`] can cause.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// Reads the JSON; `name` is what messages call the file it came from.
    ///
    /// # Errors
    /// A [`Refusal`](crate::error::Refusal): `text` is not this JSON, or of another schema.
    pub fn from_json(text: &str, name: &str) -> Result<Self> {
        /// Read first, since another schema may differ in everything else.
        #[derive(Deserialize)]
        struct Head {
            schema: u32,
        }
        let broken = |error| refusal!("provenance in {name} is broken: {error}");
        let head: Head = serde_json::from_str(text).map_err(broken)?;
        if head.schema != PROVENANCE_SCHEMA {
            refuse!("provenance in {name} is of schema {}, expected {PROVENANCE_SCHEMA}; use a newer kiln", head.schema);
        }
        serde_json::from_str(text).map_err(broken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::is_refusal;
    use crate::output::{Format, FrameRate, Picture, encode, read, save, text_chunk};

    fn provenance() -> Provenance {
        Provenance {
            schema: PROVENANCE_SCHEMA,
            kiln: "0.1.0".into(),
            bundle: BundleId {
                name: "sticker".into(),
                version: Some("1".into()),
                sha256: Some("0123456789abcdef".into()),
                path: None,
            },
            family: "latent_diffusion".into(),
            prompt: Some("a red apple".into()),
            negative: Some("worm".into()),
            plain_prompt: Some(false),
            embeddings: vec![EmbeddingId { name: "<toy>".into(), sha256: "89ab".into() }],
            seed: 42,
            rng: "cpu".into(),
            sampler: "euler".into(),
            sampler_overrides: serde_json::Map::new(),
            steps: 4,
            timesteps: vec![999.0, 749.5, 499.0, 249.0],
            guidance: 1.0,
            eta: None,
            truncation: Some(0.5),
            style_mix: Some("7:4".into()),
            temperature: None,
            walk: Some(WalkPlace { to: 9, share: 0.25 }),
            clip: Some(ClipRecord { frames: 16, frames_per_second: FrameRate::whole(12).unwrap(), bounce: true }),
            inversion: false,
            width: 64,
            height: 64,
            strength: None,
            forced: false,
            input: None,
            input_sha256: None,
            mask: None,
            mask_sha256: None,
            control: None,
            control_sha256: None,
            control_scale: None,
            threads: 2,
            memory: "normal".into(),
            decoder: None,
            tile: None,
            clip_tiles: false,
            upscale: Vec::new(),
            ran_out_of_memory: false,
            runtime: "1.23.0".into(),
            components: vec![ComponentRun { role: "unet".into(), calls: 4, run_ms: 12.5, ..ComponentRun::default() }],
            total_ms: 20.0,
        }
    }

    fn png(texts: &[(&str, String)]) -> Vec<u8> {
        text_chunk::encode(&Picture::new(1, 1, 3, vec![0; 3]).unwrap(), texts).unwrap()
    }

    fn read_bytes(bytes: &[u8]) -> Result<(Option<String>, Option<Provenance>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        save(bytes, &path).unwrap();
        read(&path)
    }

    fn message(bytes: &[u8]) -> String {
        let error = read_bytes(bytes).unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    }

    #[test]
    fn the_customary_text_is_as_galleries_know_it() {
        assert_eq!(
            provenance().parameters(),
            "a red apple\nNegative prompt: worm\nSteps: 4, Sampler: euler, CFG scale: 1, Seed: 42, Size: 64x64, Model: sticker, \
             Model hash: 0123456789, Version: kiln 0.1.0"
        );
        let mut bare = provenance();
        (bare.prompt, bare.negative, bare.strength, bare.guidance) = (None, Some(String::new()), Some(0.75), 7.5);
        bare.bundle = BundleId { name: "a, \"b\": c".into(), ..BundleId::default() };
        assert_eq!(
            bare.parameters(),
            "Steps: 4, Sampler: euler, CFG scale: 7.5, Seed: 42, Size: 64x64, Denoising strength: 0.75, \
             Model: \"a, \\\"b\\\": c\", Version: kiln 0.1.0"
        );
    }

    #[test]
    fn a_png_gives_back_what_made_it() {
        let mut made = provenance();
        made.seed = u64::MAX;
        made.sampler_overrides.insert("shift".into(), 3.into());
        let picture = Picture::new(1, 1, 3, vec![1, 2, 3]).unwrap();
        let bytes = encode(&picture, Some(&made), Format::Png).unwrap();
        assert_eq!(Picture::read(&bytes, "x").unwrap(), picture);
        assert_eq!(read_bytes(&bytes).unwrap(), (Some(made.parameters()), Some(made)));
    }

    #[test]
    fn a_png_of_another_generator_gives_its_text() {
        let text = "masterpiece\nSteps: 20".to_owned();
        assert_eq!(read_bytes(&png(&[("parameters", text.clone())])).unwrap(), (Some(text), None));
        assert_eq!(read_bytes(&png(&[])).unwrap(), (None, None));
    }

    #[test]
    fn unknown_fields_are_ignored_and_optional_ones_may_be_missing() {
        let json = r#"{"schema": 1, "kiln": "9", "bundle": {"name": "x", "colour": 1}, "family": "gan", "seed": 1, "rng": "cpu",
            "sampler": "none", "steps": 1, "guidance": 1, "width": 8, "height": 8, "weather": {"rain": true}}"#;
        let read = Provenance::from_json(json, "x").unwrap();
        assert_eq!((read.prompt, read.bundle.version, read.components.len()), (None, None, 0));
        let written = serde_json::to_value(provenance()).unwrap();
        assert!(provenance().to_json().unwrap().starts_with(r#"{"schema":1,"#));
        assert!(written.get("strength").is_none());
    }

    #[test]
    fn refuses_what_is_no_provenance() {
        let with = |json: &str| message(&png(&[("kiln", json.to_owned())]));
        assert!(with("{").contains("is broken"));
        assert!(with("[1, 2]").contains("is broken"));
        assert!(with(r#"{"schema": 1}"#).contains("missing field `kiln`"));
        assert!(with(r#"{"schema": 2}"#).contains("is of schema 2, expected 1; use a newer kiln"));
        assert!(with(r#"{"schema": "one"}"#).contains("is broken"));
        for deep in ["[".repeat(100_000), format!(r#"{{"schema": 1, "sampler_overrides": {{"a": {}"#, "[".repeat(100_000))] {
            assert!(with(&deep).contains("is broken"));
        }
        assert!(
            message(b"BM")
                .contains("is no PNG, GIF, WebP, MP4 or WebM and has no record beside it; only these say what made them")
        );
        assert!(message(b"GIF89a").contains("is broken"));
        assert!(message(b"").contains("is no PNG, GIF"));
    }

    #[test]
    fn refuses_more_text_than_is_sensible() {
        for length in [2 << 20, 20 << 20] {
            assert!(message(&png(&[("parameters", "a".repeat(length))])).contains("holds too much text, expected at most 1 MiB"));
        }
        // Compressed, so that a small file unfolds into a large text.
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(png::ColorType::Rgb);
        encoder.add_ztxt_chunk("parameters".into(), "a".repeat(30 << 20)).unwrap();
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&[0; 3]).unwrap();
        writer.finish().unwrap();
        assert!(bytes.len() < 1 << 20);
        assert!(message(&bytes).contains("picture"));
    }

    #[test]
    fn a_file_that_was_cut_short_says_what_made_it_or_is_refused() {
        let picture = Picture::new(32, 32, 3, (0..32 * 32 * 3).map(|index| (index * 7 % 251) as u8).collect()).unwrap();
        let bytes = encode(&picture, Some(&provenance()), Format::Png).unwrap();
        let pixels = bytes.windows(4).position(|window| window == b"IDAT").unwrap();
        for length in (0..bytes.len()).step_by(7) {
            match read_bytes(&bytes[..length]) {
                Ok(read) => assert!(length > pixels && read.1 == Some(provenance()), "{length} of {}", bytes.len()),
                Err(error) => assert!(is_refusal(&error) && length < pixels + 8, "{length}: {error:#}"),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_prompt_survives_the_way_through_a_file(
            prompt in r#"([a-z ,:"\\\n\r\tàé]|🌞|猫|\PC){0,40}"#,
            negative in proptest::option::of("\\PC{0,40}"),
            name in "\\PC{1,20}",
            (seed, steps, guidance) in (any::<u64>(), 1..1000_usize, 0.0..30.0_f32),
        ) {
            let mut made = provenance();
            (made.prompt, made.negative, made.bundle.name) = (Some(prompt.clone()), negative, name);
            (made.seed, made.steps, made.guidance) = (seed, steps, guidance);
            let picture = Picture::new(1, 1, 3, vec![0; 3]).unwrap();
            let bytes = encode(&picture, Some(&made), Format::Png).unwrap();
            let (parameters, read) = crate::output::read_bytes(&bytes, "x").unwrap();
            prop_assert!(parameters.as_deref().unwrap().starts_with(&prompt));
            prop_assert_eq!((parameters, read), (Some(made.parameters()), Some(made)));
        }
    }
}
