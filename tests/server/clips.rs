//! A model of clips: what its jobs make, and what they are refused.

use serde_json::json;

use crate::client::Server;
use crate::common;

const MOTION: [&str; 2] = ["--model", concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker-motion")];

#[test]
fn a_clip_is_made_and_served_as_an_animated_picture() {
    let server = Server::start(&MOTION);
    let told = server.get("/bundles").expect(200).json()["bundles"][0].clone();
    assert_eq!(told["clip"], json!({ "frames": 24, "frames_per_second": 24 }));
    assert_eq!((&told["takes_mask"], &told["needs_picture"]), (&json!(false), &json!(false)));

    let id = server.submit(&json!({ "prompt": "a spinning cat", "seed": 3, "steps": 2 }));
    let events = server.events(&id);
    assert_eq!(events.iter().filter(|(name, _)| name == "step").count(), 2);
    let end = &events.last().unwrap().1;
    assert_eq!((&end["state"], &end["pictures"][0]["seed"]), (&json!("finished"), &json!(3)));
    let served = server.get(&format!("/jobs/{id}/pictures/0")).expect(200);
    assert_eq!(served.header("content-type"), Some("image/png"));
    assert!(!served.body.windows(7).any(|window| window == b"/models"), "it tells nothing of this machine's folders");

    // What a clip took is what a plan of its like expects, once nothing is left to be opened for it.
    let id = server.submit(&json!({ "prompt": "a spinning cat", "seed": 4, "steps": 2 }));
    let job = server.wait(&id, &["finished"]);
    let took_s = (job["ended_ms"].as_f64().unwrap() - job["started_ms"].as_f64().unwrap()) / 1000.0;
    let plan = server.post("/plan", &json!({ "prompt": "a spinning cat", "steps": 2 })).expect(200).json();
    let expected_s = plan["expected_time_s"].as_f64().unwrap();
    assert!((0.5..2.0).contains(&(expected_s / took_s)), "{expected_s} is expected of what took {took_s}");

    // The same as the command line makes, frame by frame.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("served.png"), &served.body).unwrap();
    let arguments = ["generate", "a spinning cat", "--seed", "3", "--steps", "2", "-q", "-o", "own.png", MOTION[0], MOTION[1]];
    common::kiln(folder.path(), &arguments).expect_code(0);
    let frames = |name: &str| {
        let mut reader = kiln::output::ClipReader::open(&folder.path().join(name)).unwrap().expect("a clip");
        std::iter::from_fn(|| reader.next().map(Result::unwrap)).collect::<Vec<_>>()
    };
    let (served, own) = (frames("served.png"), frames("own.png"));
    assert_eq!(served.len(), 24);
    assert!(served == own);

    // The interface of another server hands it over too.
    let answer = server.post("/v1/images/generations", &json!({ "prompt": "a bouncing star", "steps": 1 })).expect(200).json();
    assert!(answer["data"][0]["b64_json"].as_str().unwrap().len() > 1_000);
}

#[test]
fn what_a_clip_cannot_be_is_refused_before_it_is_made() {
    let server = Server::start(&MOTION);
    let problem = server.post("/jobs", &json!({ "prompt": "a spinning cat", "count": 2 })).refused(422, "refused");
    assert!(problem["error"]["message"].as_str().unwrap().contains("one clip at a time"), "{problem}");
    for (name, value) in
        [("size", json!("128x128")), ("frames", json!(0)), ("frames", json!(100_000)), ("fps", json!(0)), ("fps", json!(1e9))]
    {
        let mut wish = json!({ "prompt": "a spinning cat" });
        wish[name] = value;
        let problem = server.post("/jobs", &wish).refused(422, "refused");
        assert!(problem["error"]["message"].as_str().unwrap().contains(name), "{problem}");
    }
    let still = Server::start(&[]);
    for name in ["frames", "fps"] {
        let mut wish = json!({ "prompt": "a red apple" });
        wish[name] = 8.into();
        let problem = still.post("/jobs", &wish).refused(422, "refused");
        assert!(problem["error"]["message"].as_str().unwrap().contains("no clips"), "{problem}");
    }
}

#[test]
fn a_clip_has_the_frames_and_the_speed_that_were_asked_for() {
    let server = Server::start(&MOTION);
    let id = server.submit(&json!({ "prompt": "a spinning cat", "steps": 1, "frames": 8, "fps": 12.5 }));
    server.events(&id);
    let served = server.get(&format!("/jobs/{id}/pictures/0")).expect(200);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("served.png");
    std::fs::write(&path, &served.body).unwrap();
    let reader = kiln::output::ClipReader::open(&path).unwrap().expect("a clip");
    assert_eq!((reader.frames(), reader.rate().map(|rate| rate.to_string())), (Some(8), Some("25/2".into())));
    let (_, record) = kiln::output::read_bytes(&served.body, "served").unwrap();
    let clip = record.unwrap().clip.unwrap();
    assert_eq!((clip.frames, clip.frames_per_second.to_string()), (8, "25/2".to_owned()));
}

#[cfg(feature = "client")]
#[test]
fn a_clip_of_another_machine_is_written_as_one_of_this() {
    let server = Server::start(&MOTION);
    let folder = tempfile::tempdir().unwrap();
    let (here, address) = (folder.path(), format!("http://{}", server.address));
    let generate = |arguments: &[&str]| {
        let common = ["generate", "a spinning cat", "--steps", "1", "--seed", "3", "-q"];
        common::kiln(here, &[&common, arguments].concat())
    };
    let distant = ["--server", &address];
    for name in ["a.png", "a.gif", "a.webp"] {
        let flags = ["--frames", "8", "--fps", "12", "--bounce"];
        generate(&[&["-o", name], &flags[..], &distant[..]].concat()).expect_code(0);
        let own = format!("own-{name}");
        generate(&[&["-o", &own], &flags[..], &MOTION[..]].concat()).expect_code(0);
        let (_, record) = kiln::output::read(&here.join(name)).unwrap();
        let clip = record.unwrap().clip.unwrap();
        assert_eq!((clip.frames, clip.frames_per_second.to_string(), clip.bounce), (8, "12".to_owned(), true), "{name}");
    }
    let frames = |name: &str| {
        let reader = kiln::output::ClipReader::open(&here.join(name)).unwrap().expect("a clip");
        reader.map(Result::unwrap).collect::<Vec<_>>()
    };
    for name in ["a.png", "a.gif", "a.webp"] {
        assert_eq!(frames(name).len(), 14, "there and back");
        assert!(frames(name) == frames(&format!("own-{name}")), "{name}");
    }
    generate(&[&["-o", "c.png", "--seconds", "0.5"], &distant[..]].concat()).expect_code(0);
    assert_eq!(frames("c.png").len(), 12);
    let before = common::names(here);
    generate(&[&["-o", "b.jpg"], &distant[..]].concat()).refused(2, &["b.jpg"]);
    generate(&[&["-o", "b.gif", "--fps", "60"], &distant[..]].concat()).refused(2, &["60 frames per second"]);
    generate(&[&["-o", "b.png", "--interpolate", "1:2"], &distant[..]].concat())
        .refused(2, &["--interpolate", "not taken by a server"]);
    assert_eq!(server.get("/jobs").expect(200).json()["jobs"].as_array().unwrap().len(), 4, "what cannot be written is not made");
    generate(&[&["-o", "b.png", "--frames", "0"], &distant[..]].concat()).refused(2, &["frames"]);
    generate(&[&["-o", "b.png", "--model", "none"], &distant[..]].concat()).refused(2, &["no model none", "sticker-motion"]);
    let still = Server::start(&[]);
    let address = format!("http://{}", still.address);
    generate(&["-o", "b.png", "--frames", "24", "--server", &address]).refused(2, &["--frames", "makes pictures"]);
    assert_eq!(common::names(here), before);
}
