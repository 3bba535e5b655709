//! How frames leave the engine, and what of a request the clip shows.

use kiln::pipeline::{Event, Observer};
use kiln::plan::TileChoice;
use kiln::request::SamplerChoice;
use kiln::{Cancel, Picture, Request, Settings, sampler};

use super::{engine, film, golden, short};

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
