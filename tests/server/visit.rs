//! A visit: a picture is asked for, watched, fetched, repeated, stopped, deleted; clients side by side.

use std::io::Read;
use std::process::Command;

use serde_json::{Value, json};

use crate::client::Server;
use crate::{BOTH, both, sun};

#[test]
fn what_has_no_effect_is_told_of_and_no_word_of_a_prompt_is_logged() {
    let server = Server::start(&["-v"]);
    let wish = json!({ "prompt": "a xylographic qwertzuiop", "negative_prompt": "a blue moon", "within_s": 0.001, "steps": 1 });
    let plan = server.post("/plan", &wish).expect(200).json();
    let job = server.post("/jobs", &wish).expect(202).json();
    assert_eq!(plan["warnings"], job["warnings"]);
    let warnings: Vec<&str> = job["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap()).collect();
    let [negative, within] = warnings[..] else { panic!("{warnings:?}") };
    assert!(
        negative.contains("the negative prompt has no effect") && within.contains("`within_s`): 1ms may not be enough"),
        "{warnings:?}"
    );
    server.wait(job["id"].as_str().unwrap(), &["finished"]);
    assert!(server.post("/plan", &sun()).expect(200).json()["warnings"].as_array().unwrap().is_empty());
    let log = server.log();
    for word in ["xylographic", "qwertzuiop", "blue moon"] {
        assert!(!log.contains(word), "{log}");
    }
    assert!(log.contains("/jobs"), "the log is written at all: {log}");

    // Guidance that the model was not made for is refused, unless the job insists.
    let wish = json!({ "prompt": "a sun", "guidance": 7 });
    let refused = server.post("/jobs", &wish).refused(422, "refused");
    assert!(refused["error"]["message"].as_str().unwrap().contains("`force`"), "{refused}");
    let forced = json!({ "prompt": "a sun", "guidance": 7, "force": true });
    server.wait(&server.submit(&forced), &["finished"]);

    let asked = Server::start(&["--log-prompts"]);
    asked.wait(&asked.submit(&json!({ "prompt": "a xylographic sun", "steps": 1 })), &["finished"]);
    let log = asked.log();
    assert!(log.contains("prompt=\"a xylographic sun\"") && log.contains("does not know the words: xylographic"), "{log}");
}

#[test]
fn a_picture_is_asked_for_watched_and_fetched() {
    let server = Server::start(&[]);
    let id = server.submit(&sun());
    let events = server.events(&id);
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    let first_step = names.iter().position(|name| *name == "step").unwrap_or(names.len());
    assert!(names[..first_step].iter().all(|name| *name == "state"), "{names:?}");
    assert_eq!(names.iter().filter(|name| **name == "end").count(), 1);
    let (last, end) = events.last().unwrap();
    assert_eq!((last.as_str(), &end["state"], &end["pictures"][0]["seed"]), ("end", &json!("finished"), &json!(7)));
    let steps: Vec<u64> =
        events.iter().filter(|(name, _)| name == "step").map(|(_, data)| data["step"].as_u64().unwrap()).collect();
    assert!(steps.is_sorted(), "{steps:?}");

    let picture = server.get(end["pictures"][0]["url"].as_str().unwrap()).expect(200);
    assert_eq!(picture.header("content-type"), Some("image/png"));
    assert!(picture.header("cache-control").unwrap().contains("immutable"));
    let decoded = kiln::Picture::read(&picture.body, "served").unwrap();
    assert_eq!((decoded.width, decoded.height), (64, 64));
    // The same as the command line makes.
    let folder = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker");
    crate::common::kiln(folder.path(), &["generate", "a smiling sun", "--seed", "7", "--model", model, "-o", "sun.png", "-q"])
        .expect_code(0);
    assert_eq!(decoded, kiln::Picture::open(&folder.path().join("sun.png")).unwrap());
    // It tells nothing of this machine's folders.
    assert!(!picture.body.windows(7).any(|window| window == b"/models"));

    let again = server.post(&format!("/jobs/{id}/repeat"), &json!(null)).expect(202).json();
    assert_eq!((&again["repeats"], &again["wish"]["seed"]), (&json!(id), &json!(7)));
    let done = server.wait(again["id"].as_str().unwrap(), &["finished"]);
    let repeated = server.get(done["pictures"][0]["url"].as_str().unwrap()).expect(200);
    assert_eq!(kiln::Picture::read(&repeated.body, "repeated").unwrap(), decoded);

    let list = server.get("/jobs?limit=1").expect(200).json();
    assert_eq!((list["jobs"].as_array().unwrap().len(), &list["jobs"][0]["id"]), (1, &again["id"]));
    let older = server.get(&format!("/jobs?before={}", list["next"])).expect(200).json();
    assert_eq!(older["jobs"][0]["id"], json!(id));

    server.ask("DELETE", &format!("/jobs/{id}"), &[], None).expect(200);
    server.get(&format!("/jobs/{id}")).refused(404, "not_found");
    server.get(&format!("/jobs/{id}/pictures/0")).refused(404, "not_found");
}

#[test]
fn a_watcher_sees_every_step_and_preview() {
    let server = Server::start(&BOTH);
    // The first keeps the worker until the second is watched.
    let first = server.endless();
    let second = server.submit(&json!({ "prompt": "a red apple", "seed": 1, "model": "sticker", "steps": 4 }));
    let stream = server.open("GET", &format!("/jobs/{second}/events"), &[], None);
    std::thread::sleep(std::time::Duration::from_millis(300));
    server.post(&format!("/jobs/{first}/cancel"), &json!(null)).expect(200);
    let answer = crate::client::Answer::read(stream);
    let events = crate::client::events(std::str::from_utf8(&answer.body).unwrap());
    let of =
        |wanted: &str| events.iter().filter(|(name, _)| name == wanted).map(|(_, data)| data.clone()).collect::<Vec<Value>>();
    assert_eq!(of("state")[0]["state"], "queued");
    assert_eq!(of("state")[0]["place"], 0);
    assert!(of("state")[0]["wait_s"].as_f64().unwrap() >= 0.0);
    assert_eq!(of("step").iter().map(|step| step["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(of("preview").len(), 4);
    for preview in of("preview") {
        use base64::Engine as _;
        let png = base64::engine::general_purpose::STANDARD.decode(preview["png"].as_str().unwrap()).unwrap();
        assert_eq!(kiln::Picture::read(&png, "preview").unwrap().width, 64);
    }
    assert_eq!(of("end")[0]["state"], "finished");
}

#[test]
fn a_job_is_stopped_while_it_runs_and_while_it_waits() {
    let server = Server::start(&BOTH);
    let running = server.endless();
    let waiting = server.submit(&sun());
    assert_eq!(server.get(&format!("/jobs/{waiting}")).json()["state"], "queued");
    server.ask("DELETE", &format!("/jobs/{running}"), &[], None).refused(409, "conflict");
    let stopped = server.post(&format!("/jobs/{waiting}/cancel"), &json!(null)).expect(200).json();
    assert_eq!(stopped["state"], "cancelled");
    server.post(&format!("/jobs/{running}/cancel"), &json!(null)).expect(200);
    assert_eq!(server.wait(&running, &["cancelled"])["pictures"], json!([]));
    // One that has ended stays as it is.
    assert_eq!(server.post(&format!("/jobs/{running}/cancel"), &json!(null)).json()["state"], "cancelled");
    let next = server.submit(&sun());
    server.wait(&next, &["finished"]);
}

#[test]
fn an_owner_that_goes_away_takes_its_job_along_and_a_watcher_does_not() {
    let server = Server::start(&BOTH);
    let watched = server.endless();
    let mut stream = server.open("GET", &format!("/jobs/{watched}/events"), &[], None);
    stream.read_exact(&mut [0; 64]).unwrap();
    drop(stream);
    let mut stream = server.open("GET", &format!("/jobs/{watched}/events?own=true"), &[], None);
    stream.read_exact(&mut [0; 64]).unwrap();
    assert_eq!(server.get(&format!("/jobs/{watched}")).json()["state"], "running");
    drop(stream);
    let job = server.wait(&watched, &["cancelled"]);
    assert!(job["error"]["message"].as_str().unwrap().contains("went away"), "{job}");
}

#[test]
fn clients_are_served_in_turn_and_the_queue_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokens"), "anna 0123456789abcdef\nben fedcba9876543210\n").unwrap();
    let server = Server::start_in(folder.path(), &both(&["--token-file", "tokens", "--queue", "6"]));
    let submit = |token: &str, wish: &Value| {
        let bearer = format!("Bearer {token}");
        server.ask("POST", "/jobs", &[("Authorization", &bearer)], Some(wish.to_string().as_bytes()))
    };
    let (anna, ben) = ("0123456789abcdef", "fedcba9876543210");
    let long = json!({ "prompt": "animal", "model": "ddpm", "steps": 1000, "count": 8, "sampler": "ddpm" });
    let first = submit(anna, &long).expect(202).json()["id"].as_str().unwrap().to_owned();
    let get = |path: &str| server.ask("GET", path, &[("Authorization", "Bearer 0123456789abcdef")], None).expect(200).json();
    while get(&format!("/jobs/{first}"))["state"] != "running" {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let ids: Vec<String> = (0..3).map(|_| submit(anna, &sun()).expect(202).json()["id"].as_str().unwrap().to_owned()).collect();
    let full = submit(anna, &sun()).expect(429);
    assert!(full.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    full.refused(429, "queue_full");
    let of_ben = submit(ben, &sun()).expect(202).json()["id"].as_str().unwrap().to_owned();
    let place = |id: &str| get(&format!("/jobs/{id}"))["place"].clone();
    assert_eq!([place(&ids[0]), place(&of_ben), place(&ids[1]), place(&ids[2])], [json!(0), json!(1), json!(2), json!(3)]);
    for _ in 0..2 {
        submit(ben, &sun()).expect(202);
    }
    submit(ben, &sun()).refused(429, "queue_full");
}

#[test]
fn models_plans_the_tree_and_the_figures_are_told() {
    let server = Server::start(&BOTH);
    let bundles = server.get("/bundles").expect(200).json();
    assert_eq!(bundles["bundles"][0]["name"], "sticker");
    assert_eq!((&bundles["bundles"][0]["default"], &bundles["bundles"][1]["default"]), (&json!(true), &json!(false)));
    let plan = server.post("/plan", &json!({ "prompt": "a red apple", "steps": 2 })).expect(200).json();
    assert_eq!((&plan["steps"], &plan["width"]), (&json!(2), &json!(64)));
    assert!(plan["expected_time_s"].as_f64().unwrap() > 0.0);
    let tree = server.get("/lineage").expect(200).json();
    assert!(tree["algorithms"].as_array().unwrap().len() > 20);
    server.get("/healthz").expect(200);
    server.get("/readyz").expect(200);
    let id = server.submit(&sun());
    server.wait(&id, &["finished"]);
    let metrics = String::from_utf8(server.get("/metrics").expect(200).body).unwrap();
    assert!(metrics.contains("\nkiln_jobs_finished_total 1\n"), "{metrics}");
    assert_eq!(server.get("/status").expect(200).json()["jobs"]["finished"], 1);
}

#[test]
fn the_page_comes_with_a_strict_policy() {
    let server = Server::start(&[]);
    for path in ["/", "/page/app.js"] {
        let answer = server.get(path).expect(200);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    server.get("/page/..%2fmod.rs").refused(404, "not_found");
}

#[test]
fn a_client_of_another_maker_is_understood() {
    let server = Server::start(&[]);
    let url = format!("http://{}/jobs", server.address);
    let run = Command::new("curl").args(["-sS", "-H", "Content-Type: application/json", "-d", &sun().to_string(), &url]).output();
    let Ok(run) = run else { return println!("skipped: there is no curl") };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let job: Value = serde_json::from_slice(&run.stdout).unwrap();
    let events = format!("{url}/{}/events", job["id"].as_str().unwrap());
    let run = Command::new("curl").args(["-sSN", &events]).output().unwrap();
    assert!(String::from_utf8(run.stdout).unwrap().contains("event: end\ndata: {\"state\":\"finished\""));
}
