//! Every golden clip: the same bundle, prompt and seed give the frames that diffusers gives.
//!
//! The cases and how they were made: `tests/tools/README.md`. A clip that differs is left under `tests/output/`, its frames below each
//! other.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln::error::is_refusal;
use kiln::output::FrameRate;
use kiln::pipeline::{Event, Observer};
use kiln::plan::TileChoice;
use kiln::request::SamplerChoice;
use kiln::{Cancel, Engine, Memory, Picture, Request, Settings, sampler};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    bundle: String,
    task: String,
    prompt: String,
    negative: Option<String>,
    seed: u64,
    steps: usize,
    guidance: f32,
    width: u32,
    height: u32,
    frames: usize,
    strength: Option<f32>,
    input: Option<String>,
    clip: Option<String>,
    sampler: Option<SamplerCase>,
    frame_rate: Option<u32>,
    tiles: Option<[usize; 2]>,
    tolerance: u8,
    latent_tolerance: f32,
}

#[derive(Deserialize)]
struct SamplerCase {
    class: String,
    config: Map<String, Value>,
}

fn tests_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn golden(name: &str) -> PathBuf {
    tests_folder().join("golden/clips").join(name)
}

fn cases() -> Vec<Case> {
    serde_json::from_str::<Cases>(&fs::read_to_string(golden("cases.json")).unwrap()).unwrap().cases
}

fn engine(bundle: &str, settings: &Settings) -> Engine {
    Engine::open(&tests_folder().join("bundles").join(bundle), settings, None).unwrap()
}

/// The sampler as `from_config` of the named class makes it from the bundle's file.
fn sampler_choice(case: &Case) -> SamplerChoice {
    let Some(other) = &case.sampler else { return SamplerChoice::default() };
    let path = tests_folder().join("bundles").join(&case.bundle).join("scheduler/scheduler_config.json");
    let mut config: Map<String, Value> = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    config.extend(other.config.clone());
    config.insert("_class_name".into(), other.class.clone().into());
    SamplerChoice { config: Some(sampler::Config::from_json(&Value::Object(config)).unwrap()), ..SamplerChoice::default() }
}

/// The first `count` frames of a clip.
fn taken(name: &str, count: usize) -> Arc<[Picture]> {
    let reader = kiln::output::ClipReader::open(&golden(name)).unwrap().unwrap();
    reader.take(count).collect::<anyhow::Result<Vec<_>>>().unwrap().into()
}

fn request(case: &Case) -> Request {
    Request {
        negative: case.negative.clone(),
        seed: Some(case.seed),
        steps: Some(case.steps),
        guidance: Some(case.guidance),
        size: Some((case.width, case.height)),
        frames: Some(case.frames),
        sampler: sampler_choice(case),
        input: case.input.as_ref().map(|name| Picture::open(&golden(name)).unwrap()),
        input_frames: case.clip.as_ref().map(|name| taken(name, case.frames)).unwrap_or_default(),
        strength: case.strength,
        frame_rate: case.frame_rate.map(|rate| FrameRate::whole(rate).unwrap()),
        // The cases run models beyond what they were distilled for, to test the arithmetic.
        force: true,
        ..Request::new(case.prompt.clone())
    }
}

/// The pixels of all frames below each other.
fn film(engine: &mut Engine, request: &Request) -> anyhow::Result<(Picture, kiln::GeneratedClip)> {
    let mut frames: Vec<Picture> = Vec::new();
    let sink = |frame: Picture| {
        frames.push(frame);
        Ok(())
    };
    let made = engine.generate_clip(request, sink, &mut (), &Cancel::new())?;
    assert_eq!(frames.len(), made.frames);
    let (width, height) = (frames[0].width, frames[0].height);
    let pixels = frames.iter().flat_map(|frame| frame.pixels.clone()).collect();
    Ok((Picture::new(width, height * u32::try_from(frames.len()).unwrap(), frames[0].channels, pixels)?, made))
}

/// Compares one case; returns what is wrong with it.
fn run_case(engine: &mut Engine, case: &Case, latents: &SafeTensors<'_>) -> Option<String> {
    let (sheet, made) = match film(engine, &request(case)) {
        Ok(made) => made,
        Err(error) => return Some(format!("{}: {error:#}", case.name)),
    };
    let tensor = latents.tensor(&case.name).unwrap();
    let expected: Vec<f32> = tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!(tensor.shape()[1..], *made.latents.shape(), "{}", case.name);
    let apart = made.latents.iter().zip(&expected).map(|(left, right)| (left - right).abs()).fold(0.0_f32, f32::max);
    let picture = Picture::open(&golden(&format!("{}.png", case.name))).unwrap();
    assert_eq!((sheet.width, sheet.height), (picture.width, picture.height), "{}", case.name);
    let bytes = sheet.pixels.iter().zip(&picture.pixels).map(|(left, right)| left.abs_diff(*right)).max().unwrap();
    if bytes <= case.tolerance && apart <= case.latent_tolerance {
        return None;
    }
    let folder = tests_folder().join("output");
    fs::create_dir_all(&folder).unwrap();
    let target = kiln::output::Target::new(&folder.join(format!("{}.png", case.name)), None).unwrap();
    kiln::output::write(&sheet, None, &target).unwrap();
    Some(format!("{}: {bytes}/255 apart, latents {apart:e}", case.name))
}

#[test]
fn every_golden_clip_is_made_again() {
    let cases = cases();
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let latents = SafeTensors::deserialize(&bytes).unwrap();
    let mut engines: BTreeMap<(String, bool), Engine> = BTreeMap::new();
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let tile = if case.tiles.is_some() { TileChoice::Frames } else { TileChoice::Auto };
        let settings = Settings { tile, ..Settings::default() };
        let key = (case.bundle.clone(), case.tiles.is_some());
        let engine = engines.entry(key).or_insert_with(|| engine(&case.bundle, &settings));
        wrong.extend(run_case(engine, case, &latents));
        *counts.entry((case.bundle.clone(), case.task.clone())).or_default() += 1;
    }
    println!("golden clips: {} cases, {counts:?}", cases.len());
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let bundles: BTreeSet<&str> = cases.iter().map(|case| case.bundle.as_str()).collect();
    assert_eq!((cases.len(), bundles.len()), (96, 6), "the cases in cases.json, and their bundles");
}

#[test]
fn low_memory_gives_the_same_clips() {
    let cases = cases();
    let bytes = fs::read(golden("latents.safetensors")).unwrap();
    let latents = SafeTensors::deserialize(&bytes).unwrap();
    let names = [
        "animatediff_negative",
        "animatediff_long_12",
        "animatediff_picture_lightning",
        "animatediff_clip_many",
        "wan_negative",
        "wan_frames_17",
        "wan_i2v_negative",
        "wan_i2v_frames_17",
        "ltx_picture_negative",
        "ltx_distilled_frames_17",
    ];
    let settings = Settings { memory: Memory::Low, threads: Some(1), ..Settings::default() };
    let mut ran = 0;
    for case in cases.iter().filter(|case| names.contains(&case.name.as_str())) {
        assert_eq!(run_case(&mut engine(&case.bundle, &settings), case, &latents), None);
        ran += 1;
    }
    assert_eq!(ran, names.len());
}

fn short() -> Request {
    Request { seed: Some(1), steps: Some(2), size: Some((32, 32)), frames: Some(3), force: true, ..Request::new("a sun") }
}

#[test]
fn frames_are_handed_out_as_they_are_decoded_and_a_sink_that_fails_ends_the_run() {
    let mut engine = engine("animatediff", &Settings::default());
    struct Order(std::rc::Rc<std::cell::RefCell<Vec<String>>>);
    impl Observer for Order {
        fn event(&mut self, event: Event) {
            if let Event::Decoding { picture } = event {
                self.0.borrow_mut().push(format!("decode {picture}"));
            }
        }
    }
    let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let sink = |_| {
        seen.borrow_mut().push("frame".to_owned());
        Ok(())
    };
    engine.generate_clip(&short(), sink, &mut Order(seen.clone()), &Cancel::new()).unwrap();
    assert_eq!(*seen.borrow(), ["decode 0", "frame", "decode 1", "frame", "decode 2", "frame"]);

    let mut taken = 0;
    let full = |_| {
        taken += 1;
        anyhow::bail!("the disk is full")
    };
    let error = engine.generate_clip(&short(), full, &mut (), &Cancel::new()).unwrap_err();
    assert_eq!((format!("{error:#}").as_str(), taken), ("the disk is full", 1));
}

#[test]
fn a_sink_that_runs_out_of_memory_is_no_reason_to_decode_again() {
    for (tile, last) in [(TileChoice::Auto, 0), (TileChoice::Auto, 4), (TileChoice::Pixels(32), 0), (TileChoice::Pixels(32), 4)] {
        let mut engine = engine("wan", &Settings { tile, ..Settings::default() });
        let mut taken = 0;
        let full = |_| {
            taken += 1;
            anyhow::ensure!(taken <= last, kiln::error::OutOfMemory("of the sink".into()));
            Ok(())
        };
        let request = Request { size: Some((64, 64)), frames: Some(9), ..short() };
        let error = engine.generate_clip(&request, full, &mut (), &Cancel::new()).unwrap_err();
        assert!(error.is::<kiln::error::OutOfMemory>(), "{error:#}");
        assert_eq!(taken, last + 1, "{tile:?}");
    }
}

#[test]
fn a_clip_that_is_looked_at_while_it_is_made_is_the_same() {
    struct Onlooker(usize);
    impl Observer for Onlooker {
        fn wants_preview(&self) -> bool {
            true
        }
        fn preview(&mut self, _: usize, picture: &Picture) -> anyhow::Result<()> {
            assert_eq!((picture.width, picture.height), (32, 32));
            self.0 += 1;
            Ok(())
        }
    }
    let mut engine = engine("animatediff", &Settings::default());
    let (alone, _) = film(&mut engine, &short()).unwrap();
    let (mut frames, mut onlooker) = (Vec::new(), Onlooker(0));
    let sink = |frame: Picture| {
        frames.extend(frame.pixels);
        Ok(())
    };
    engine.generate_clip(&short(), sink, &mut onlooker, &Cancel::new()).unwrap();
    assert_eq!((onlooker.0, frames), (2, alone.pixels));
}

#[test]
fn what_a_model_of_clips_does_not_take_is_refused_before_anything_is_loaded() {
    let refused = |bundle: &str, change: &dyn Fn(&mut Request)| {
        let mut request = Request { frames: None, ..short() };
        change(&mut request);
        let error = engine(bundle, &Settings::default()).plan(&request).unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    };
    let says = |bundle: &str, change: &dyn Fn(&mut Request), expected: &str| {
        let said = refused(bundle, change);
        assert!(said.contains(expected), "{said:?}, expected {expected:?}");
    };
    says("animatediff", &|request| request.frames = Some(0), "frames: is 0, expected 1 to 1000");
    says("animatediff", &|request| request.frames = Some(1001), "frames: is 1001, expected 1 to 1000");
    says("animatediff", &|request| request.frames = Some(usize::MAX), "expected 1 to 1000");
    says("animatediff", &|request| request.count = 2, "makes one clip at a time");
    says("animatediff", &|request| request.walk = Some(kiln::request::Walk::new(2, 4).unwrap()), "walk between two seeds");
    let cuda = kiln::random::Device::Cuda;
    says("animatediff", &|request| (request.frames, request.random_device) = (Some(20), cuda), "leave --rng out");
    says("animatediff_windows", &|request| request.frames = Some(9), "this export takes 10 only");
    says("animatediff_windows", &|request| request.frames = Some(11), "this export takes 10 only");
    let picture = Picture::new(8, 8, 3, vec![7; 192]).unwrap();
    says("animatediff_windows", &|request| request.input = Some(picture.clone()), "has no vae_encoder");
    says("animatediff", &|request| (request.input, request.mask) = (Some(picture.clone()), Some(picture.clone())), "mask:");
    says("sd", &|request| request.frames = Some(8), "makes pictures one by one");
    says("wan", &|request| request.frames = Some(8), "a multiple of 4 and one more; the nearest are 5 and 9");
    says("wan", &|request| request.frames = Some(10), "the nearest are 9 and 13");
    says("wan", &|request| request.frames = Some(0), "expected 1 to 1000");
    says("wan", &|request| request.frames = Some(1001), "expected 1 to 1000");
    says("wan", &|request| request.input = Some(picture.clone()), "has no vae_encoder");
    for bundle in ["ltx", "ltx_distilled"] {
        for frames in [0, 1001, usize::MAX] {
            says(bundle, &|request| request.frames = Some(frames), "expected 1 to 1000");
        }
        says(bundle, &|request| request.frames = Some(8), "a multiple of 8 and one more; the nearest are 1 and 9");
        says(bundle, &|request| request.frames = Some(80), "the nearest are 73 and 81");
        says(bundle, &|request| request.size = Some((32, 40)), "expected multiples of 16");
        says(
            bundle,
            &|request| (request.input, request.strength) = (Some(picture.clone()), Some(0.5)),
            "goes on from the picture",
        );
        says(bundle, &|request| (request.input, request.mask) = (Some(picture.clone()), Some(picture.clone())), "mask:");
    }
    says("ltx", &|request| request.steps = Some(1), "`shift_terminal` 0.1 cannot stretch; use more steps");
    says(
        "ltx_distilled",
        &|request| (request.steps, request.force) = (Some(7), false),
        "steps: is 7, expected 4 (known from the card)",
    );
    says(
        "ltx_distilled",
        &|request| (request.guidance, request.force, request.steps) = (Some(3.0), false, None),
        "distilled to work without",
    );
    let in_tiles = |bundle, tile| {
        let settings = Settings { tile, ..Settings::default() };
        let error = engine(bundle, &settings).plan(&Request { frames: None, ..short() }).unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        format!("{error:#}")
    };
    for bundle in ["sd", "wan", "animatediff"] {
        assert!(in_tiles(bundle, TileChoice::Frames).contains("tile: is `frames`"), "{bundle}");
    }
    assert!(in_tiles("ltx", TileChoice::Pixels(256)).contains("--tile frames"));

    let clip: Arc<[Picture]> = vec![picture.clone(); 3].into();
    let given = |request: &mut Request| request.input_frames = clip.clone();
    says(
        "animatediff",
        &|request| (given(request), request.frames = Some(4)).1,
        "frames: is 4, and the clip to begin with has 3",
    );
    says("animatediff", &|request| (given(request), request.input = Some(picture.clone())).1, "a picture and a clip are given");
    says("animatediff", &|request| (given(request), request.mask = Some(picture.clone())).1, "mask:");
    for strength in [0.0, -0.5, 1.01, f32::NAN, f32::INFINITY] {
        let expected = format!("strength: is {strength}, expected above 0 and at most 1");
        says("animatediff", &|request| (given(request), request.strength = Some(strength)).1, &expected);
    }
    says("animatediff", &|request| (given(request), request.strength = Some(0.3)).1, "leaves none; take 4 steps or more");
    says("animatediff_windows", &|request| request.input_frames = vec![picture.clone(); 10].into(), "has no vae_encoder");
    says("animatediff_windows", &given, "this export takes 10 only");
    let other = Picture::new(9, 8, 3, vec![7; 216]).unwrap();
    says("animatediff", &|request| request.input_frames = [picture.clone(), other.clone()].into(), "frame 1 of the clip");
    let empty = Picture { width: 0, ..picture.clone() };
    says("animatediff", &|request| request.input_frames = [empty.clone()].into(), "the picture is empty");
    says("wan", &|request| request.input_frames = vec![picture.clone(); 5].into(), "begin with a picture at most");
    says("sd", &given, "`Engine::redraw` makes each frame of a clip anew");
    says(
        "gan",
        &|request| (given(request), *request = Request { prompt: String::new(), steps: None, size: None, ..request.clone() }).1,
        "is a clip",
    );

    says("wan_i2v", &|_| {}, "go on from a picture; name it with --input");
    says("wan_i2v", &|request| request.strength = Some(0.5), "strength: is given without an input picture");
    let begun = |request: &mut Request| request.input = Some(picture.clone());
    says("wan_i2v", &|request| (begun(request), request.strength = Some(0.5)).1, "goes on from the picture");
    says("wan_i2v", &|request| (begun(request), request.mask = Some(picture.clone())).1, "mask:");
    says("wan_i2v", &|request| request.input = Some(empty.clone()), "the picture is empty");
    says("wan_i2v", &|request| (begun(request), request.frames = Some(8)).1, "the nearest are 5 and 9");
    says("wan_i2v", &|request| request.input_frames = vec![picture.clone(); 5].into(), "begin with a picture at most");

    let error = engine("animatediff", &Settings::default()).generate(&short(), &mut (), &Cancel::new()).unwrap_err();
    assert!(is_refusal(&error) && format!("{error:#}").contains("makes clips"), "{error:#}");
    let pictures = Request { frames: None, ..short() };
    let error = engine("sd", &Settings::default()).generate_clip(&pictures, |_| Ok(()), &mut (), &Cancel::new()).unwrap_err();
    assert!(is_refusal(&error) && format!("{error:#}").contains("no clips"), "{error:#}");
}

#[test]
fn the_decoder_of_a_causal_clip_takes_as_much_memory_for_any_length() {
    let engine = engine("wan", &Settings::default());
    let of = |frames, role: &str| {
        let (_, plan) = engine.plan(&Request { frames: Some(frames), ..short() }).unwrap();
        let found = plan.forecast.components.into_iter().find(|component| component.role.folder() == role);
        found.map(|component| (component.calls, component.memory_bytes))
    };
    assert_eq!(of(1, "vae_decoder"), None, "one frame is the first");
    assert_eq!(of(17, "vae_decoder_first").unwrap().0, 1);
    let (short, long) = (of(9, "vae_decoder").unwrap(), of(81, "vae_decoder").unwrap());
    assert_eq!((short.0, long.0), (2, 20));
    assert_eq!(short.1, long.1);
    assert!(of(9, "transformer").unwrap().1 < of(29, "transformer").unwrap().1, "it sees all frames at once");
    let (whole, windowed) = (of(29, "transformer").unwrap(), of(81, "transformer").unwrap());
    assert_eq!((whole.0, windowed.0), (2, 16), "two steps, of one window and of eight");
    assert_eq!(whole.1, windowed.1, "and no more than it was trained for");
}

#[test]
fn every_way_in_which_a_first_frame_is_seen_changes_the_clip() {
    let mut engine = engine("wan_i2v", &Settings::default());
    let picture = |name: &str| Picture::open(&golden(name)).unwrap();
    let mut of = |input: Picture| {
        let request = Request { input: Some(input), guidance: Some(1.0), frames: Some(5), ..short() };
        film(&mut engine, &request).unwrap().1.latents
    };
    let (input, wide) = (picture("input.png"), picture("input_wide.png"));
    // At the clip's size they are the same for the autoencoder, and not for the image encoder, which sees a picture as it was given.
    let (as_given, scaled) = (of(wide.clone()), of(wide.resize(32, 32).unwrap()));
    let another = of(input);
    let apart = |other: &ndarray::ArrayD<f32>| {
        as_given.iter().zip(other).map(|(left, right)| (left - right).abs()).fold(0.0_f32, f32::max)
    };
    println!("{} by the image encoder alone, {} by all", apart(&scaled), apart(&another));
    assert!(apart(&scaled) > 0.01 && apart(&another) > 0.1, "{} {}", apart(&scaled), apart(&another));
}

#[test]
fn a_clip_that_goes_on_from_a_picture_has_its_shape_and_counts_what_encodes_it() {
    let engine = engine("wan_i2v", &Settings::default());
    let picture = Picture::open(&golden("input_wide.png")).unwrap();
    let request = Request { input: Some(picture), size: None, frames: Some(13), ..short() };
    let (resolved, plan) = engine.plan(&request).unwrap();
    // 416 by 240 pixels are as many as 447 by 223, whose sides are brought to multiples of 8.
    assert_eq!((resolved.width, resolved.height, resolved.task.name()), (440, 216, "picture to clip"));
    let calls: Vec<(&str, usize)> =
        plan.forecast.components.iter().map(|component| (component.role.folder(), component.calls)).collect();
    let expected = [
        ("text_encoder", 2),
        ("image_encoder", 1),
        ("vae_encoder_first", 1),
        ("vae_encoder", 3),
        ("transformer", 2),
        ("vae_decoder_first", 1),
        ("vae_decoder", 3),
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_causal_clip_is_decoded_in_tiles_where_the_memory_asks_for_it() {
    let asked = Request { size: Some((96, 96)), frames: Some(9), ..short() };
    let whole = engine("wan", &Settings::default()).plan(&asked).unwrap().1;
    let tiled_settings = Settings { tile: TileChoice::Pixels(32), memory: Memory::Low, ..Settings::default() };
    let mut tiled = engine("wan", &tiled_settings);
    let plan = tiled.plan(&asked).unwrap().1;
    let of = |plan: &kiln::plan::Plan, role: &str| {
        let found = plan.forecast.components.iter().find(|component| component.role.folder() == role).unwrap();
        (found.calls, found.memory_bytes)
    };
    // Sixteen tiles of 32 pixels every 24.
    assert_eq!((of(&plan, "vae_decoder_first").0, of(&plan, "vae_decoder").0), (16, 32));
    assert!(of(&plan, "vae_decoder").1 < of(&whole, "vae_decoder").1);
    let (sheet, made) = film(&mut tiled, &asked).unwrap();
    assert_eq!((made.provenance.tile, sheet.height), (Some(32), 9 * 96));

    // A budget that the whole does not fit chooses tiles by itself; of one frame the decoder takes more than the transformer.
    let low = Settings { memory: Memory::Low, ..Settings::default() };
    let large = Request { size: Some((768, 768)), frames: Some(1), ..asked };
    let needed = engine("wan", &low).plan(&large).unwrap().1.forecast.memory_bytes;
    let budget = kiln::plan::Budget { memory_bytes: Some(needed - 1), ..Default::default() };
    let plan = engine("wan", &Settings { budget, ..Settings::default() }).plan(&large).unwrap().1;
    assert!(plan.tile.is_some() && plan.forecast.memory_bytes < needed, "{:?}", plan.tile);
}

#[test]
fn a_decoder_of_whole_clips_takes_more_memory_for_more_frames_and_in_tiles_as_much_for_any() {
    let plan = |frames, tile| {
        let settings = Settings { tile, ..Settings::default() };
        engine("ltx", &settings).plan(&Request { frames: Some(frames), size: Some((256, 256)), ..short() }).unwrap().1
    };
    let of_decoder = |frames, tile| {
        let found = plan(frames, tile).forecast.components.into_iter().find(|part| part.role.folder() == "vae_decoder").unwrap();
        (found.calls, found.memory_bytes)
    };
    let (nine, long) = (of_decoder(9, TileChoice::Auto), of_decoder(161, TileChoice::Auto));
    assert_eq!((nine.0, long.0), (1, 1));
    assert!(long.1 > 5 * nine.1, "{nine:?} {long:?}");
    let (some, many) = (of_decoder(41, TileChoice::Frames), of_decoder(161, TileChoice::Frames));
    assert_eq!((some.0, many.0), (5, 20));
    assert!(some.1 == many.1 && many.1 < long.1, "{some:?} {many:?} {long:?}");
    assert_eq!(of_decoder(9, TileChoice::Frames), nine, "within one tile");
    let decided = |plan: kiln::plan::Plan| plan.decisions.into_iter().find(|made| made.what == "decoding").unwrap().choice;
    assert_eq!(decided(plan(161, TileChoice::Auto)), "the whole clip at once");
    assert_eq!(decided(plan(161, TileChoice::Frames)), "tiles of 16 frames, 8 of them blended");

    // A budget of memory that the whole clip does not fit takes tiles by itself.
    let request = Request { frames: Some(161), size: Some((256, 256)), ..short() };
    let low = Settings { memory: Memory::Low, ..Settings::default() };
    let whole = engine("ltx", &low).plan(&request).unwrap().1;
    assert_eq!(whole.clip_tile, None, "low memory alone makes the same frames");
    let memory_bytes = Some(whole.forecast.memory_bytes - 1);
    let budget = kiln::plan::Budget { memory_bytes, ..kiln::plan::Budget::default() };
    let found = engine("ltx", &Settings { budget, ..Settings::default() }).plan(&request).unwrap().1;
    assert!(found.clip_tile.is_some() && Some(found.forecast.memory_bytes) <= memory_bytes);
}

#[test]
fn the_first_frame_of_latents_is_the_pictures_whatever_the_sampler_does() {
    let mut engine = engine("ltx", &Settings::default());
    let picture = Picture::open(&golden("input.png")).unwrap();
    let mut first = |sampler: Option<sampler::Kind>, steps| {
        let choice = sampler.map(Into::into);
        let request = Request {
            input: Some(picture.clone()),
            steps: Some(steps),
            frames: Some(9),
            sampler: SamplerChoice { choice, ..SamplerChoice::default() },
            ..short()
        };
        let (_, made) = film(&mut engine, &request).unwrap();
        made.latents.index_axis(ndarray::Axis(1), 0).to_owned()
    };
    let own = first(None, 2);
    assert_eq!(own, first(None, 5));
    assert_eq!(own, first(Some(sampler::Kind::FlowMatchHeun), 3));
}

#[test]
fn a_long_clip_is_planned_in_windows_and_takes_as_much_memory_in_the_denoiser() {
    let engine = engine("animatediff", &Settings::default());
    let plan = |frames| engine.plan(&Request { frames: Some(frames), ..short() }).unwrap();
    let of_unet = |frames| {
        let forecast = plan(frames).1.forecast;
        let found = forecast.components.into_iter().find(|component| component.role.folder() == "unet").unwrap();
        (found.calls, found.memory_bytes)
    };
    let (short, long) = (of_unet(8), of_unet(20));
    assert_eq!((short.0, long.0), (2, 14), "two steps, of one window and of seven");
    assert_eq!(short.1, long.1);
    assert!(of_unet(4).1 < short.1);
    let decoded = |frames: usize| {
        plan(frames).1.forecast.components.iter().find(|found| found.role.folder() == "vae_decoder").unwrap().calls
    };
    assert_eq!((decoded(8), decoded(20)), (8, 20));
    let windows = plan(20).1.decisions.into_iter().find(|decision| decision.what == "windows").unwrap();
    assert_eq!(windows.choice, "7 of 8 frames");
}
