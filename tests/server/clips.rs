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
    let plan = server.post("/plan", &json!({ "prompt": "a spinning cat" })).expect(200).json();
    assert!(plan["expected_time_s"].as_f64().unwrap() < 600.0, "{plan}");

    let id = server.submit(&json!({ "prompt": "a spinning cat", "seed": 3, "steps": 2 }));
    let events = server.events(&id);
    assert_eq!(events.iter().filter(|(name, _)| name == "step").count(), 2);
    let end = &events.last().unwrap().1;
    assert_eq!((&end["state"], &end["pictures"][0]["seed"]), (&json!("finished"), &json!(3)));
    let served = server.get(&format!("/jobs/{id}/pictures/0")).expect(200);
    assert_eq!(served.header("content-type"), Some("image/png"));
    assert!(!served.body.windows(7).any(|window| window == b"/models"), "it tells nothing of this machine's folders");

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
    server.post("/jobs", &json!({ "prompt": "a spinning cat", "size": "128x128" })).refused(422, "refused");
}

#[cfg(feature = "client")]
#[test]
fn a_clip_of_another_machine_is_not_taken_for_a_picture() {
    let server = Server::start(&MOTION);
    let folder = tempfile::tempdir().unwrap();
    let address = format!("http://{}", server.address);
    common::kiln(folder.path(), &["generate", "a spinning cat", "--steps", "1", "-q", "-o", "a.png", "--server", &address])
        .refused(2, &["makes clips"]);
    assert_eq!(common::names(folder.path()), [""; 0]);
}
