//! What goes wrong: the server is killed, ended, its disk full, its database damaged, its model broken, a job late.

use std::fs;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;

use crate::client::{Client, Server, command};
use crate::{BOTH, both, common, sun};

#[test]
fn finished_work_survives_a_kill_and_unfinished_work_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(folder.path(), &BOTH);
    let done = server.submit(&sun());
    let url = server.wait(&done, &["finished"])["pictures"][0]["url"].as_str().unwrap().to_owned();
    let before = server.get(&url).expect(200).body;
    let running = server.endless();
    let waiting = server.submit(&json!({ "prompt": "a red apple" }));
    server.kill();
    // What a kill between file and row leaves.
    let pictures = folder.path().join("state/pictures");
    fs::write(pictures.join(format!("{waiting}-0.png")), b"half").unwrap();
    fs::write(pictures.join(".tmp123.part"), b"half").unwrap();
    // What others keep there, and what another database tells of.
    let others = ["0123456789abcdef0123456789abcdef-0.png", "holiday.part", "holiday.png"];
    for name in others {
        fs::write(pictures.join(name), b"theirs").unwrap();
    }

    let server = Server::start_in(folder.path(), &BOTH);
    assert_eq!(server.get(&url).expect(200).body, before);
    let mut kept = vec![format!("{done}-0.png")];
    kept.extend(others.map(str::to_owned));
    kept.sort();
    assert_eq!(common::names(&pictures), kept);
    for id in [&running, &waiting] {
        let job = server.get(&format!("/jobs/{id}")).expect(200).json();
        assert_eq!((&job["state"], &job["error"]["code"]), (&json!("interrupted"), &json!("interrupted")));
    }
    let seed = server.get(&format!("/jobs/{waiting}")).json()["wish"]["seed"].clone();
    assert!(seed.is_u64(), "the seed that was drawn is kept");
    let again = server.post(&format!("/jobs/{waiting}/repeat"), &json!(null)).expect(202).json();
    let again = server.wait(again["id"].as_str().unwrap(), &["finished"]);
    assert_eq!(again["pictures"][0]["seed"], seed);
}

#[test]
fn kills_at_any_moment_lose_nothing_that_was_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = common::Dice(11);
    let (accepted, pictures) = (Mutex::new(Vec::<String>::new()), Mutex::new(Vec::<String>::new()));
    for round in 0..5 {
        let mut server = Server::start_in(folder.path(), &["--queue", "1000"]);
        let address = server.address.clone();
        let (before, more) = (pictures.lock().unwrap().len(), 1 + dice.below(3));
        std::thread::scope(|threads| {
            // They ask until nobody answers.
            for client in 0..3 {
                let (accepted, pictures, client_of) = (&accepted, &pictures, Client { address: address.clone() });
                threads.spawn(move || {
                    let wish = json!({ "prompt": "a red apple", "steps": 1, "seed": client }).to_string();
                    let mut open = Vec::new();
                    loop {
                        let answer = client_of.ask("POST", "/jobs", &[], Some(wish.as_bytes()));
                        let Some(id) = answer.text_of("id").filter(|_| answer.status == 202) else { break };
                        open.push(id.clone());
                        accepted.lock().unwrap().push(id);
                        open.retain(|id| {
                            let answer = client_of.ask("GET", &format!("/jobs/{id}"), &[], None);
                            let is_finished = answer.text_of("state").is_some_and(|state| state == "finished");
                            if is_finished {
                                pictures.lock().unwrap().push(format!("/jobs/{id}/pictures/0"));
                            }
                            !is_finished
                        });
                    }
                });
            }
            while pictures.lock().unwrap().len() < before + more {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(dice.below(100) as u64));
            server.kill();
        });
        assert!(accepted.lock().unwrap().len() > round, "every server took jobs");
    }
    let server = Server::start_in(folder.path(), &[]);
    for url in pictures.into_inner().unwrap() {
        kiln::Picture::read(&server.get(&url).expect(200).body, "kept").unwrap();
    }
    let mut interrupted = None;
    for id in accepted.into_inner().unwrap() {
        let state = server.get(&format!("/jobs/{id}")).expect(200).json()["state"].clone();
        assert!(state == "finished" || state == "interrupted", "{id}: {state}");
        if state == "interrupted" {
            interrupted = Some(id);
        }
    }
    let id = interrupted.expect("jobs waited when the server was killed");
    let again = server.post(&format!("/jobs/{id}/repeat"), &json!(null)).expect(202).json();
    server.wait(again["id"].as_str().unwrap(), &["finished"]);
}

#[cfg(unix)]
#[test]
fn an_ending_server_lets_its_jobs_end_and_takes_no_more() {
    let mut server = Server::start(&both(&["--drain", "60"]));
    let running = server.submit(&json!({ "model": "ddpm", "steps": 100, "sampler": "ddpm", "count": 2 }));
    server.wait(&running, &["running"]);
    let stream = server.open("GET", &format!("/jobs/{running}/events"), &[], None);
    server.signal("TERM");
    while server.get("/readyz").status == 200 {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.post("/jobs", &sun()).refused(503, "draining");
    let answer = crate::client::Answer::read(stream);
    assert!(String::from_utf8_lossy(&answer.body).contains("\"state\":\"finished\""));
    assert_eq!(server.ended().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn who_cannot_wait_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(folder.path(), &both(&["--drain", "0.2"]));
    let running = server.endless();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    let server = Server::start_in(folder.path(), &BOTH);
    assert_eq!(server.get(&format!("/jobs/{running}")).json()["state"], "interrupted");
}

#[test]
fn a_late_job_fails_with_its_reason() {
    let server = Server::start(&BOTH);
    let wish = json!({ "model": "ddpm", "steps": 1000, "sampler": "ddpm", "count": 8, "deadline_s": 0.3 });
    let id = server.submit(&wish);
    let job = server.wait(&id, &["failed"]);
    assert_eq!(job["error"]["code"], "deadline");
}

#[test]
fn a_damaged_database_is_refused_and_set_aside_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(folder.path(), &[]);
    let id = server.submit(&sun());
    server.wait(&id, &["finished"]);
    server.signal("TERM");
    server.ended();
    let state = folder.path().join("state");
    let database = state.join("kiln.db");
    let whole = fs::read(&database).unwrap();
    let mut scribbled = whole.clone();
    // Behind the first page, which says how many there are.
    scribbled[4096..8192].fill(0x5a);
    let cases = [
        ("garbage", vec![0x5a; 5000]),
        ("a head and garbage", [b"SQLite format 3\0".as_slice(), &[0x5a; 5000]].concat()),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("scribbled over", scribbled),
    ];
    let mut count = 0;
    for (name, bytes) in cases {
        fs::write(&database, &bytes).unwrap();
        common::kiln(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--state", "state"])
            .refused(2, &["damaged", "--set-damaged-aside"]);
        assert!(fs::read(&database).unwrap() == bytes, "{name}: it was left alone");
        let mut server = Server::start_in(folder.path(), &["--set-damaged-aside"]);
        assert_eq!(server.get("/jobs").json()["jobs"], json!([]));
        server.kill();
        // Nor does a start that sets nothing aside take them.
        let mut server = Server::start_in(folder.path(), &[]);
        assert_eq!(server.get("/jobs").json()["jobs"], json!([]));
        assert!(fs::read_to_string(folder.path().join("log")).unwrap().contains("1 files are of no job"), "{name}");
        server.kill();
        count += 1;
        let aside: Vec<_> = common::names(&state).into_iter().filter(|name| name.starts_with("kiln.db.damaged-")).collect();
        assert!(aside.iter().any(|aside| fs::read(state.join(aside)).unwrap() == bytes), "{name}: {aside:?}");
        assert_eq!(common::names(&state.join("pictures")), [format!("{id}-0.png")], "pictures stay");
        for part in ["kiln.db", "kiln.db-wal", "kiln.db-shm"] {
            let _ = fs::remove_file(state.join(part));
        }
    }
    assert_eq!(count, 4);
}

#[test]
fn databases_of_a_newer_kiln_and_of_other_programs_stay_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let database = state.join("kiln.db");
    let of = |statement: &str| {
        let _ = fs::remove_file(&database);
        rusqlite::Connection::open(&database).unwrap().execute_batch(statement).unwrap();
    };
    for (statement, part) in [
        ("CREATE TABLE jobs (number INTEGER); PRAGMA user_version = 7;", "is of version 7"),
        ("CREATE TABLE recipes (name TEXT);", "not of Kiln's making"),
    ] {
        of(statement);
        let before = fs::read(&database).unwrap();
        for more in [&[][..], &["--set-damaged-aside"]] {
            let arguments = [&["serve", "--listen", "127.0.0.1:0", "--state", "state"][..], more].concat();
            common::kiln(folder.path(), &arguments).refused(2, &[part]);
        }
        assert!(fs::read(&database).unwrap() == before, "{part}");
        assert_eq!(common::names(&state).iter().filter(|name| name.starts_with("kiln.db")).count(), 1);
    }
}

#[test]
fn one_folder_has_one_server() {
    let server = Server::start(&[]);
    let folder = server.state();
    let parent = folder.parent().unwrap();
    common::kiln(parent, &["serve", "--listen", "127.0.0.1:0", "--state", "state"]).refused(2, &["another server uses it"]);
}

#[test]
fn a_full_disk_refuses_new_jobs_and_keeps_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(folder.path(), &[]);
    let id = server.submit(&sun());
    server.wait(&id, &["finished"]);
    server.kill();
    // More room is to be left alone than there is.
    let server = Server::start_in(folder.path(), &["--keep-free", "1000000GiB"]);
    server.post("/jobs", &sun()).refused(507, "disk_full");
    assert_eq!(server.get("/readyz").status, 503);
    server.get(&format!("/jobs/{id}/pictures/0")).expect(200);
}

#[test]
fn old_jobs_give_way() {
    let server = Server::start(&["--keep-jobs", "2"]);
    let ids: Vec<String> = (0..4)
        .map(|_| {
            let id = server.submit(&sun());
            server.wait(&id, &["finished"]);
            id
        })
        .collect();
    // The last may just be giving way.
    std::thread::sleep(Duration::from_millis(500));
    let left: Vec<String> =
        server.get("/jobs").json()["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(left, [ids[3].clone(), ids[2].clone()]);
    assert_eq!(common::names(&server.state().join("pictures")).len(), 2);
}

#[test]
fn a_model_that_fails_is_opened_anew_and_then_not_ready() {
    let (_kept, bundle) = common::copy_of("sd");
    let unet = bundle.join("unet/model.onnx");
    let whole = fs::read(&unet).unwrap();
    let model = bundle.display().to_string();
    let server = Server::start(&["--model", &model]);
    // The header stays as it was; what the runtime reads is broken.
    fs::write(&unet, &whole[..whole.len() / 2]).unwrap();
    let id = server.submit(&json!({ "prompt": "a red apple" }));
    let job = server.wait(&id, &["failed"]);
    assert_eq!(job["error"]["code"], "internal");
    assert!(server.log().contains("is opened anew"));
    let not_ready = server.get("/readyz").expect(503).json();
    assert_eq!(not_ready["ready"], false);
    fs::write(&unet, &whole).unwrap();
    let id = server.submit(&json!({ "prompt": "a red apple" }));
    server.wait(&id, &["finished"]);
    server.get("/readyz").expect(200);
}

#[test]
fn a_model_that_gives_no_numbers_fails_its_job() {
    let (_kept, bundle) = common::copy_of("sd_turbo");
    let unet = bundle.join("unet/model.onnx");
    let whole = fs::read(&unet).unwrap();
    common::onnx::fill_weights(&unet, 64, f32::NAN);
    let model = bundle.display().to_string();
    let server = Server::start(&["--model", &model, "--model", concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker")]);
    let id = server.submit(&json!({ "prompt": "a red apple" }));
    let job = server.wait(&id, &["failed"]);
    assert_eq!(job["error"]["code"], "internal");
    let message = job["error"]["message"].as_str().unwrap();
    assert!(message.contains("unet") && message.contains("NaN"), "{message}");
    assert_eq!(job["pictures"], json!([]));
    assert_eq!(common::names(&server.state().join("pictures")), [""; 0], "no black picture");
    server.get("/readyz").expect(503);
    let reopened = || server.log().matches("the model is opened anew").count();
    assert_eq!(reopened(), 1, "it was tried twice and no more");
    // The other model is served as before.
    let id = server.submit(&json!({ "prompt": "a red apple", "model": "sticker" }));
    server.wait(&id, &["finished"]);
    // What fails in the middle of a run is opened anew, and what is well then does the job.
    fs::write(&unet, whole).unwrap();
    let id = server.submit(&json!({ "prompt": "a red apple" }));
    server.wait(&id, &["finished"]);
    assert_eq!(reopened(), 2);
    server.get("/readyz").expect(200);
}

#[cfg(target_os = "linux")]
#[test]
fn the_service_manager_is_told() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let name = format!("kiln-test-{}", std::process::id());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let sockets = [
        (UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(), format!("@{name}")),
        (UnixDatagram::bind(&path).unwrap(), path.display().to_string()),
    ];
    for (manager, address) in sockets {
        manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut command = command(folder.path(), &[]);
        let mut server = Server::spawn(command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", "200000"));
        let said = || {
            let mut bytes = [0; 64];
            let length = manager.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        assert_eq!([said(), said(), said()], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"], "{address}");
        server.signal("TERM");
        while said() != "STOPPING=1" {}
        assert_eq!(server.ended().code(), Some(0));
    }
}
