//! The crate's own interface: events, previews, cancelling, seeds, what is refused.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use kiln::bundle::Role;
use kiln::error::{is_cancelled, is_refusal};
use kiln::pipeline::Inverted;
use kiln::plan::Budget;
use kiln::request::SamplerChoice;
use kiln::{Cancel, Engine, Event, Memory, Observer, Picture, Request, Settings, sampler};
use ndarray::{Array, ArrayD};

fn bundle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(name)
}

fn engine(name: &str) -> Engine {
    Engine::open(&bundle(name), &Settings::default(), None).unwrap()
}

fn request(steps: usize) -> Request {
    Request { seed: Some(7), steps: Some(steps), force: true, ..Request::new("a smiling sun") }
}

fn pixels(engine: &mut Engine, request: &Request) -> Vec<u8> {
    engine.generate(request, &mut (), &Cancel::new()).unwrap().remove(0).picture.pixels
}

/// Writes down what it is told, and stops the run after a step when asked to.
#[derive(Default)]
struct Notes {
    events: Vec<Event>,
    previews: Vec<Picture>,
    wants_preview: bool,
    stop_after: Option<(usize, Cancel)>,
}

impl Observer for Notes {
    fn event(&mut self, event: Event) {
        self.events.push(event);
        if let (Event::Step { step, .. }, Some((last, cancel))) = (event, &self.stop_after)
            && step == *last
        {
            cancel.cancel();
        }
    }

    fn wants_preview(&self) -> bool {
        self.wants_preview
    }

    fn preview(&mut self, _: usize, picture: &Picture) -> Result<()> {
        self.previews.push(picture.clone());
        Ok(())
    }
}

#[test]
fn an_observer_is_told_of_loading_steps_and_decoding_in_order() {
    let mut engine = engine("sd_turbo");
    let mut notes = Notes::default();
    engine.generate(&request(3), &mut notes, &Cancel::new()).unwrap();
    let (picture, pictures, steps) = (0, 1, 3);
    let step = |step| Event::Step { step, steps, picture, pictures };
    let loads = |role| [Event::Loading { role }, Event::Loaded { role }];
    let mut expected: Vec<Event> = loads(Role::TextEncoder).to_vec();
    expected.extend(loads(Role::Unet));
    expected.extend([step(1), step(2), step(3), Event::Decoding { picture }]);
    expected.extend(loads(Role::VaeDecoder));
    assert_eq!(notes.events, expected);

    let mut again = Notes::default();
    engine.generate(&request(3), &mut again, &Cancel::new()).unwrap();
    assert!(!again.events.iter().any(|event| matches!(event, Event::Loading { .. })), "components stay resident");
}

#[test]
fn low_memory_loads_each_component_once_for_each_request() {
    let settings = Settings { memory: Memory::Low, ..Settings::default() };
    let mut engine = Engine::open(&bundle("sd_turbo"), &settings, None).unwrap();
    for _ in 0..2 {
        let mut notes = Notes::default();
        engine.generate(&Request { count: 3, ..request(2) }, &mut notes, &Cancel::new()).unwrap();
        let loaded = notes.events.iter().filter(|event| matches!(event, Event::Loaded { .. })).count();
        assert_eq!(loaded, 3);
    }
}

#[test]
fn a_plan_that_opens_networks_otherwise_opens_them_anew() {
    let small = request(1);
    let large = Request { size: Some((256, 256)), ..request(1) };
    let memory_of = |asked: &Request, memory| {
        let settings = Settings { memory, ..Settings::default() };
        let engine = Engine::open(&bundle("sd_turbo"), &settings, None).unwrap();
        engine.plan(asked).unwrap().1.forecast.memory_bytes
    };
    let budget = memory_of(&large, Memory::Low).max(memory_of(&small, Memory::Normal));
    assert!(budget < memory_of(&large, Memory::Normal), "the large one has to give way");
    let settings = Settings { budget: Budget { memory_bytes: Some(budget), ..Budget::default() }, ..Settings::default() };
    let mut engine = Engine::open(&bundle("sd_turbo"), &settings, None).unwrap();
    for (asked, memory, expected) in [
        (&small, Memory::Normal, 3),
        (&small, Memory::Normal, 0),
        (&large, Memory::Low, 3),
        (&small, Memory::Normal, 3),
        (&small, Memory::Normal, 0),
    ] {
        assert_eq!(engine.plan(asked).unwrap().1.memory, memory);
        let mut notes = Notes::default();
        engine.generate(asked, &mut notes, &Cancel::new()).unwrap();
        let loaded = notes.events.iter().filter(|event| matches!(event, Event::Loaded { .. })).count();
        assert_eq!(loaded, expected);
    }
}

#[test]
fn looking_on_changes_nothing_and_shows_the_picture_as_it_develops() {
    let mut engine = engine("sd");
    let plain = pixels(&mut engine, &request(4));
    let mut notes = Notes { wants_preview: true, ..Notes::default() };
    let made = engine.generate(&request(4), &mut notes, &Cancel::new()).unwrap().remove(0);
    assert_eq!(made.picture.pixels, plain);
    let calls = made.provenance.timesteps.len();
    assert_eq!(notes.previews.len(), calls);
    let last = notes.previews.last().unwrap();
    assert_eq!((last.width, last.height), (made.picture.width, made.picture.height));
    let apart = |picture: &Picture| {
        let sum: u64 = picture.pixels.iter().zip(&plain).map(|(left, right)| u64::from(left.abs_diff(*right))).sum();
        sum / plain.len() as u64
    };
    assert!(apart(last) < apart(&notes.previews[0]), "the last preview is nearer to the picture than the first");
}

#[test]
fn picture_i_of_several_is_the_picture_of_seed_plus_i() {
    for name in ["sd_turbo", "sdxl_turbo", "lcm"] {
        let mut engine = engine(name);
        let several = engine.generate(&Request { count: 3, ..request(2) }, &mut (), &Cancel::new()).unwrap();
        for (index, made) in several.iter().enumerate() {
            let seed = 7 + index as u64;
            assert_eq!(made.provenance.seed, seed);
            let alone = pixels(&mut engine, &Request { seed: Some(seed), ..request(2) });
            assert_eq!(made.picture.pixels, alone, "{name}, picture {index}");
        }
    }
}

#[test]
fn a_record_makes_the_same_picture_again() {
    let mut engine = engine("sd");
    let mut asked = request(5);
    asked.negative = Some("a moon".into());
    asked.guidance = Some(3.5);
    asked.sampler = SamplerChoice {
        choice: Some("sde-dpm++-karras".parse().unwrap()),
        run: sampler::Run { spacing: Some("trailing".parse().unwrap()), ..sampler::Run::default() },
        ..SamplerChoice::default()
    };
    let made = engine.generate(&asked, &mut (), &Cancel::new()).unwrap().remove(0);
    let again = Engine::request_of(&made.provenance).unwrap();
    assert_eq!(pixels(&mut engine, &again), made.picture.pixels);
    assert_ne!(pixels(&mut engine, &Request { sampler: SamplerChoice::default(), ..again }), made.picture.pixels);
}

#[test]
fn a_run_that_is_cancelled_says_so_and_the_engine_lives_on() {
    let mut engine = engine("sd");
    let stopped = Cancel::new();
    stopped.cancel();
    assert!(is_cancelled(&engine.generate(&request(4), &mut (), &stopped).unwrap_err()));

    let cancel = Cancel::new();
    let mut notes = Notes { stop_after: Some((2, cancel.clone())), ..Notes::default() };
    let error = engine.generate(&request(20), &mut notes, &cancel).unwrap_err();
    assert!(is_cancelled(&error), "{error:#}");
    let steps = notes.events.iter().filter(|event| matches!(event, Event::Step { .. })).count();
    assert_eq!(steps, 2);
    assert_eq!(pixels(&mut engine, &request(2)).len(), 64 * 64 * 3);
}

#[test]
fn another_thread_stops_a_run_long_before_its_end() {
    let mut engine = engine("sd");
    let cancel = Cancel::new();
    let other = cancel.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        other.cancel();
    });
    let begun = Instant::now();
    let error = engine.generate(&Request { count: 500, ..request(900) }, &mut (), &cancel).unwrap_err();
    thread.join().unwrap();
    assert!(is_cancelled(&error), "{error:#}");
    assert!(begun.elapsed() < Duration::from_secs(30), "the whole request takes an hour");
}

#[test]
fn a_distilled_model_takes_its_own_steps_and_refuses_others() {
    let turbo = engine("sd_turbo");
    assert_eq!(turbo.plan(&Request::new("a sun")).unwrap().0.steps, 1);
    assert_eq!(turbo.plan(&Request::new("a sun")).unwrap().0.guidance, 1.0);
    let cases = [
        (Request { steps: Some(20), ..Request::new("a sun") }, "steps: is 20, expected 1, 2, 3 or 4"),
        (Request { steps: Some(0), ..Request::new("a sun") }, "steps: is 0"),
        (Request { guidance: Some(7.5), ..Request::new("a sun") }, "guidance: is 7.5"),
        (Request { size: Some((65, 64)), ..Request::new("a sun") }, "the nearest is 64x64"),
        (Request { size: Some((8192, 64)), ..Request::new("a sun") }, "up to 4096"),
        (Request { strength: Some(0.5), ..Request::new("a sun") }, "without an input picture"),
        (Request { count: 100_000, ..Request::new("a sun") }, "count: is 100000"),
        (Request::new("sun ".repeat(5000)), "prompt has 20000 characters"),
    ];
    for (asked, expected) in &cases {
        let error = turbo.plan(asked).unwrap_err();
        assert!(is_refusal(&error), "{error:#}");
        assert!(format!("{error:#}").contains(expected), "{error:#} does not say {expected:?}");
    }
    let forced = Request { steps: Some(20), guidance: Some(7.5), force: true, ..Request::new("a sun") };
    assert_eq!(turbo.plan(&forced).unwrap().0.steps, 20);
}

#[test]
fn a_picture_to_begin_with_gets_steps_enough_for_its_strength() {
    let turbo = engine("sd_turbo");
    let input = Picture::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pictures/input.png")).unwrap();
    let asked =
        |strength, steps| Request { input: Some(input.clone()), strength: Some(strength), steps, ..Request::new("a sun") };
    assert_eq!(turbo.plan(&asked(0.5, None)).unwrap().0.steps, 2);
    assert_eq!(turbo.plan(&asked(1.0, None)).unwrap().0.steps, 1);
    let error = format!("{:#}", turbo.plan(&asked(0.3, Some(3))).unwrap_err());
    assert!(error.contains("leaves none") && error.contains("take 4 steps"), "{error}");
    for strength in [0.0, -1.0, 1.5, f32::NAN] {
        assert!(is_refusal(&turbo.plan(&asked(strength, None)).unwrap_err()), "{strength}");
    }
}

#[test]
fn what_comes_back_is_compared_in_the_values_that_networks_see() {
    let engine = engine("flow");
    let picture = Picture::new(8, 8, 3, (64..=255).collect()).unwrap();
    let value = |channel: usize, at: usize| f32::from(picture.pixels[at * 3 + channel]) / 127.5 - 1.0;
    let mut again = Array::from_shape_fn((3, 8, 8), |(channel, row, column)| value(channel, row * 8 + column)).into_dyn();
    let found = |again: &ArrayD<f32>| {
        let inverted = Inverted { latent: ArrayD::zeros(vec![4]), again: again.clone() };
        engine.compare(&picture, &inverted).unwrap()
    };
    let same = found(&again);
    assert_eq!(same.picture, picture);
    assert!(same.difference.largest < 1e-4, "{:?}", same.difference);
    again[[0, 0, 0]] -= 3.0 / 127.5;
    let other = found(&again);
    assert_eq!(other.picture.pixels[0] + 3, picture.pixels[0]);
    assert!((other.difference.largest - 3.0).abs() < 1e-4, "{:?}", other.difference);
}

#[test]
fn an_inversion_has_no_guidance_no_chance_and_no_class_that_nobody_named() {
    let (ddpm, asked) = (engine("ddpm"), Request::new(""));
    let (resolved, _) = ddpm.plan_inversion(&asked).unwrap();
    assert_eq!((resolved.guidance, resolved.class_of(0)), (1.0, ddpm.bundle().null_class));
    let (resolved, _) = ddpm.plan_inversion(&Request { seed: Some(5), ..asked.clone() }).unwrap();
    assert_eq!(resolved.class_of(0), ddpm.bundle().null_class, "a seed says nothing of what a picture shows");
    let (resolved, _) = engine("cnf").plan_inversion(&Request { guidance: Some(3.0), ..Request::new("red") }).unwrap();
    assert_eq!(resolved.guidance, 3.0);
    let run = sampler::Run { eta: Some(0.5), ..sampler::Run::default() };
    let by_chance = Request { sampler: SamplerChoice { run, ..SamplerChoice::default() }, ..asked };
    let error = ddpm.plan_inversion(&by_chance).unwrap_err();
    assert!(is_refusal(&error) && error.to_string().starts_with("eta: is 0.5"), "{error:#}");
}

#[test]
fn a_sampler_that_would_give_noise_is_refused_unless_forced() {
    let engine = engine("sd");
    let asked = |force| Request {
        sampler: SamplerChoice { choice: Some("flow-euler".parse().unwrap()), ..SamplerChoice::default() },
        force,
        ..Request::new("a sun")
    };
    let error = engine.plan(&asked(false)).unwrap_err();
    assert!(is_refusal(&error) && format!("{error:#}").contains("would give noise"), "{error:#}");
    engine.plan(&asked(true)).unwrap();
}
