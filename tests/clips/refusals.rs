//! What a model of clips does not take: refused before anything is loaded.

use std::sync::Arc;

use kiln::error::is_refusal;
use kiln::plan::TileChoice;
use kiln::{Cancel, Picture, Request, Settings};

use super::{engine, short};

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
        assert!(in_tiles(bundle, TileChoice::Frames).contains("tile: says `frames`"), "{bundle}");
    }
    assert!(
        in_tiles("ltx", TileChoice::Pixels(100)).contains("expected a multiple of 64 pixels from 128 on; the nearest is 128")
    );
    assert!(in_tiles("wan", TileChoice::PixelsAndFrames(32)).contains("tile: says `frames`"));

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
    let narrow = Picture::new(1, 300, 3, vec![7; 900]).unwrap();
    let begun_narrow = |request: &mut Request| request.input = Some(narrow.clone());
    says(
        "wan_i2v",
        &begun_narrow,
        "input: is 1x300, which the image encoder of model wan_i2v sees with its shorter side at 28 pixels",
    );
    says("wan_i2v", &begun_narrow, "the longer would have 8400, and 8192 are the most; cut it");
    says("wan_i2v", &|request| (begun(request), request.frames = Some(8)).1, "the nearest are 5 and 9");
    says("wan_i2v", &|request| request.input_frames = vec![picture.clone(); 5].into(), "begin with a picture at most");

    let error = engine("animatediff", &Settings::default()).generate(&short(), &mut (), &Cancel::new()).unwrap_err();
    assert!(is_refusal(&error) && format!("{error:#}").contains("makes clips"), "{error:#}");
    let pictures = Request { frames: None, ..short() };
    let error = engine("sd", &Settings::default()).generate_clip(&pictures, |_| Ok(()), &mut (), &Cancel::new()).unwrap_err();
    assert!(is_refusal(&error) && format!("{error:#}").contains("no clips"), "{error:#}");
}
