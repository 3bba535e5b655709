//! `kiln generate --server`: another process has the server make its pictures.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use kiln::output::read;
use serde_json::json;

use crate::client::{Server, command};
use crate::{BOTH, both, common};

const TOKEN: &str = "0123456789abcdef";

fn url(server: &Server) -> String {
    format!("http://{}", server.address)
}

/// A program that goes on beside the test.
fn begun(folder: &std::path::Path, arguments: &[&str]) -> Child {
    let mut command = common::command(folder);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ended(mut child: Child) -> (Option<i32>, String) {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Waits for a job that runs; returns its name.
fn running(server: &Server) -> String {
    let begun = Instant::now();
    loop {
        let jobs = server.get("/jobs").expect(200).json();
        if let Some(job) = jobs["jobs"].as_array().unwrap().iter().find(|job| job["state"] == "running") {
            return job["id"].as_str().unwrap().to_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "no job runs: {jobs}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

const LONG: [&str; 8] = ["generate", "animal", "--model", "ddpm", "--steps", "1000", "--sampler", "ddpm"];

#[test]
fn the_picture_is_the_one_that_this_machine_makes() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let sticker = concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker");
    let url = url(&server);
    let mut count = 0;
    for more in [
        &["a smiling sun", "--seed", "7"][..],
        &["a red apple", "--seed", "3", "--steps", "2", "--size", "64x64", "--guidance", "1"],
        &["a red apple", "--seed", "3", "--input", "far.png", "--strength", "0.5"],
    ] {
        let ask = |place: [&str; 2], file: &str| {
            common::kiln(folder.path(), &[&["generate"][..], more, &place, &["-o", file]].concat()).expect_code(0)
        };
        ask(["--model", sticker], "near.png");
        let said = ask(["--server", &url], "far-new.png");
        assert_eq!(said.text(), "far-new.png\n");
        let [near, far] = ["near.png", "far-new.png"].map(|file| folder.path().join(file));
        assert_eq!(kiln::Picture::open(&near).unwrap(), kiln::Picture::open(&far).unwrap(), "{more:?}");
        let [near, made] = [&near, &far].map(|file| read(file).unwrap().1.unwrap());
        assert_eq!((&near.prompt, near.seed, near.steps, &near.sampler), (&made.prompt, made.seed, made.steps, &made.sampler));
        assert_eq!(
            (&near.bundle.sha256, &near.input, &near.input_sha256),
            (&made.bundle.sha256, &made.input, &made.input_sha256)
        );
        fs::rename(&far, folder.path().join("far.png")).unwrap();
        count += 1;
    }
    assert_eq!(count, 3);
    let line = common::kiln(
        folder.path(),
        &["generate", "a red apple", "--server", &url, "--seed", "5", "-n", "2", "-o", "a.webp", "--json", "--preview", "p.png"],
    )
    .expect_code(0);
    let lines: Vec<serde_json::Value> = line.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!([&lines[0]["file"], &lines[1]["file"]], ["a-5.webp", "a-6.webp"]);
    let last = kiln::Picture::open(&folder.path().join("p.png")).unwrap();
    assert_eq!(last, kiln::Picture::open(&folder.path().join("a-6.webp")).unwrap());
    common::kiln(folder.path(), &["generate", "A smiling sun", "--seed", "7", "--server", &url, "-q"]).expect_code(0);
    assert!(folder.path().join("a-smiling-sun-7.png").is_file());
}

#[test]
fn what_only_this_machine_can_do_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("none.png"), b"no picture").unwrap();
    fs::write(folder.path().join("empty"), b"# none\n").unwrap();
    let mut count = 0;
    for (more, part) in [
        (&["--provider", "cpu"][..], "--provider: is this machine's"),
        (&["--threads", "2"], "--threads"),
        (&["--memory", "low"], "--memory"),
        (&["--runtime", "x.so"], "--runtime"),
        (&["--shift", "3"], "--shift: is not taken by a server"),
        (&["--interpolate", "1:2"], "--interpolate"),
        (&["--guidance", "nan"], "guidance: is NaN"),
        (&["--model", "models/sticker"], "a name that the server has"),
        (&["--input", "none.png"], "none.png"),
        (&["--output", "no/such/folder/a.png"], "no/such/folder"),
        (&["--token-file", "none"], "--token-file none"),
        (&["--token-file", "empty"], "holds no token"),
        (&["--server", "https://127.0.0.1:1"], "TLS"),
        (&["--server", "127.0.0.1:1"], "expected http://"),
    ] {
        // Nobody listens there: nothing is sent.
        let server = if more[0] == "--server" { &[][..] } else { &["--server", "http://127.0.0.1:1"] };
        common::kiln(folder.path(), &[&["generate", "x"], server, more].concat()).refused(2, &[part]);
        count += 1;
    }
    assert_eq!(count, 14);
    common::kiln(folder.path(), &["generate", "x", "--server", "http://127.0.0.1:1"]).refused(1, &["no server is reached"]);
    common::kiln(folder.path(), &["generate", "x", "--server", "unix:none.sock"]).refused(1, &["unix:none.sock", "no server"]);
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &[]);
    let server = Server::spawn(command.env("KILN_TOKEN", TOKEN));
    let url = url(&server);
    fs::write(folder.path().join("right"), format!("# of the kiosk\nkiosk {TOKEN}\n")).unwrap();
    fs::write(folder.path().join("wrong"), "fedcba9876543210\n").unwrap();
    let ask = |more: &[&str]| common::kiln(folder.path(), &[&["generate", "x", "--server", &url, "-o", "x.png"], more].concat());
    ask(&[]).refused(2, &["--token-file or KILN_TOKEN"]);
    ask(&["--token-file", "wrong"]).refused(2, &["a token of this server"]);
    ask(&["--token-file", "right"]).expect_code(0);
    let refused = |more: &[&str], part: &str| ask(&[&["--token-file", "right"], more].concat()).refused(2, &[part]);
    refused(&["--steps", "100000"], "steps: is 100000");
    refused(&["--model", "nothing"], "known are sticker");
    refused(&["--sampler", "nothing"], "sampler");
    refused(&["--count", "1000"], "count: is 1000");
    refused(&["--size", "63x63"], "size");
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_the_job_at_the_server_too() {
    let server = Server::start(&BOTH);
    let folder = tempfile::tempdir().unwrap();
    let url = url(&server);
    for (signal, code) in [("INT", Some(130)), ("KILL", None)] {
        let child = begun(folder.path(), &[&LONG[..], &["--count", "8", "--server", &url, "-o", "x.png"]].concat());
        let id = running(&server);
        // Its events are being watched by now, or soon.
        while !server.log().contains(&format!("{id}/events")) && signal == "KILL" {
            std::thread::sleep(Duration::from_millis(10));
            if server.get(&format!("/jobs/{id}")).json()["step"].as_u64().is_some_and(|step| step > 20) {
                break;
            }
        }
        let sent = std::process::Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        assert_eq!(ended(child).0, code, "{signal}");
        server.wait(&id, &["cancelled"]);
        assert_eq!(common::names(folder.path()).iter().filter(|name| name.ends_with(".png")).count(), 0);
    }
}

#[test]
fn a_server_that_goes_away_is_told_of() {
    let mut server = Server::start(&BOTH);
    let folder = tempfile::tempdir().unwrap();
    let child = begun(folder.path(), &[&LONG[..], &["--count", "8", "--server", &url(&server), "-o", "x.png"]].concat());
    running(&server);
    server.kill();
    let (code, said) = ended(child);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("lost before the job ended") || said.contains("connection ended") || said.contains("no server"),
        "{said}"
    );
    assert!(!folder.path().join("x.png").exists());
}

#[test]
fn a_full_queue_is_waited_for() {
    let server = Server::start(&both(&["--queue", "1"]));
    let first = server.endless();
    let waiting = server.submit(&json!({ "prompt": "a red apple" }));
    let folder = tempfile::tempdir().unwrap();
    let child = begun(folder.path(), &["generate", "a smiling sun", "--server", &url(&server), "-o", "sun.png"]);
    while !server.log().contains("status=429") {
        std::thread::sleep(Duration::from_millis(10));
    }
    server.post(&format!("/jobs/{waiting}/cancel"), &json!(null)).expect(200);
    server.post(&format!("/jobs/{first}/cancel"), &json!(null)).expect(200);
    let (code, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("queue is full") && said.contains("again in"), "{said}");
    assert!(folder.path().join("sun.png").is_file());
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_spoken_to() {
    let folder = tempfile::tempdir().unwrap();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker");
    let mut child = begun(folder.path(), &["serve", "--socket", "kiln.sock", "--state", "state", "--model", model]);
    let begun = Instant::now();
    while !folder.path().join("kiln.sock").exists() {
        assert!(begun.elapsed() < Duration::from_secs(120));
        std::thread::sleep(Duration::from_millis(10));
    }
    let made = common::kiln(folder.path(), &["generate", "a smiling sun", "--server", "unix:kiln.sock", "-o", "sun.png"]);
    child.kill().unwrap();
    child.wait().unwrap();
    made.expect_code(0);
    assert!(folder.path().join("sun.png").is_file());
}
