//! `kiln serve` as a program: a visit, what it refuses, and that finished work outlives it.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed helper is a failed test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A server of its own, ended with the test.
struct Server {
    process: Child,
    address: String,
}

/// An answer: its status, its head, its body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Server {
    fn start(state: &Path, more: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_kiln"))
            .args(["serve", "--listen", "127.0.0.1:0", "--state"])
            .arg(state)
            .args(["--model", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/sd_turbo")])
            .args(more)
            .env_remove("KILN_TOKEN")
            .env("XDG_CACHE_HOME", state.join("cache"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("{line}")).1.to_owned();
        Self { process, address }
    }

    fn send(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(all.len());
        let head = String::from_utf8_lossy(&all[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head, body: all.get(end + 4..).unwrap_or_default().to_vec() }
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        );
        self.send(request.as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, "", &body.to_string())
    }

    /// Waits until the job has ended; returns it.
    fn ended(&self, id: &str) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.get(&format!("/jobs/{id}")).json();
            if job["ended_ms"].is_number() {
                return job;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{job}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn job(more: Value) -> Value {
    let mut job = json!({ "prompt": "a red apple", "seed": 4, "steps": 2, "size": "64x64" });
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job
}

#[test]
fn a_visit_from_a_prompt_to_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    for path in ["/healthz", "/readyz", "/bundles", "/status", "/lineage", "/metrics", "/", "/page/app.js", "/page/texts.json"] {
        let answer = server.get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.head);
    }
    assert!(server.get("/").head.contains("content-security-policy: default-src 'none'"));
    let answer = server.post("/jobs", &job(json!({})));
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let events = server.get(&format!("/jobs/{id}/events"));
    let text = String::from_utf8_lossy(&events.body).into_owned();
    assert!(text.contains("event: end"), "{text}");
    let ended = server.ended(&id);
    assert_eq!(ended["state"], "finished", "{ended}");
    let picture = server.get(ended["pictures"][0]["url"].as_str().unwrap());
    assert!(picture.status == 200 && picture.head.contains("image/png"), "{}", picture.head);
    // The same request on the command line gives the same pixels.
    let file = folder.path().join("a.png");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/sd_turbo");
    let arguments = ["generate", "a red apple", "--seed", "4", "--steps", "2", "--size", "64x64", "--model", model, "-q", "-o"];
    assert!(Command::new(env!("CARGO_BIN_EXE_kiln")).args(arguments).arg(&file).status().unwrap().success());
    let served = folder.path().join("served.png");
    std::fs::write(&served, &picture.body).unwrap();
    let open = |path: &Path| kiln::Picture::open(path).unwrap();
    assert!(open(&file).pixels == open(&served).pixels);
    assert_eq!(server.get("/jobs").json()["jobs"].as_array().unwrap().len(), 1);
    assert!(server.ask("DELETE", &format!("/jobs/{id}"), "", "").status < 300);
    assert_eq!(server.get(&format!("/jobs/{id}")).status, 404);
}

#[test]
fn what_is_no_request_is_refused_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--patience", "2"]);
    let deep = "[".repeat(100_000);
    let long = json!({ "prompt": "a".repeat(200_000) }).to_string();
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        "{\"prompt\": 7}",
        "{\"prompt\": \"a\", \"steps\": -1}",
        "{\"prompt\": \"a\", \"steps\": 1e99}",
        "{\"prompt\": \"a\", \"guidance\": NaN}",
        "{\"prompt\": \"a\", \"size\": \"0x0\"}",
        "{\"prompt\": \"a\", \"size\": \"100000x100000\"}",
        "{\"prompt\": \"a\", \"count\": 100000}",
        "{\"prompt\": \"a\", \"model\": \"../../etc\"}",
        "{\"prompt\": \"a\", \"picture\": \"not base64!\"}",
        "{\"prompt\": \"a\", \"unknown\": 1}",
        "{\"prompt\": \"a\\u0000b\"}",
        deep.as_str(),
        long.as_str(),
    ];
    for body in bodies {
        let answer = server.ask("POST", "/jobs", "", body);
        let shown: String = body.chars().take(60).collect();
        assert!((400..500).contains(&answer.status), "{shown}: {}", answer.head);
        assert!(answer.json()["error"]["message"].is_string(), "{shown}");
    }
    for path in ["/jobs/../../etc/passwd", "/page/../../Cargo.toml", "/page/%2e%2e%2fmod.rs", "/jobs/x/pictures/0", "/nothing"] {
        let answer = server.get(path);
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.head);
    }
    for bytes in ["", "\r\n\r\n", "GET", "GET / HTTP/9\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let answer = server.send(format!("{bytes}\r\n\r\n").as_bytes());
        assert!(answer.status == 0 || (400..500).contains(&answer.status), "{bytes:?}: {}", answer.head);
    }
    // Another site that has its name point here must not speak for a person.
    let foreign = server.send(b"GET /jobs HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert!((400..500).contains(&foreign.status), "{}", foreign.head);
    assert_eq!(server.get("/healthz").status, 200);
    assert_eq!(bodies.len(), 17);
}

#[test]
fn finished_work_outlives_a_kill_and_unfinished_work_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let first = server.post("/jobs", &job(json!({}))).json()["id"].as_str().unwrap().to_owned();
    server.ended(&first);
    let slow = job(json!({ "size": "256x256", "count": 4, "steps": 4 }));
    let left: Vec<String> = (0..3).map(|_| server.post("/jobs", &slow).json()["id"].as_str().unwrap().to_owned()).collect();
    drop(server);
    let server = Server::start(folder.path(), &[]);
    let again = server.get(&format!("/jobs/{first}")).json();
    assert_eq!(again["state"], "finished", "{again}");
    assert_eq!(server.get(again["pictures"][0]["url"].as_str().unwrap()).status, 200);
    let states: Vec<Value> = left.iter().map(|id| server.get(&format!("/jobs/{id}")).json()["state"].clone()).collect();
    assert!(states.iter().all(|state| state == "interrupted" || state == "finished"), "{states:?}");
    assert!(states.iter().any(|state| state == "interrupted"), "{states:?}");
}

#[test]
fn a_full_queue_says_when_to_come_back_and_a_job_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--queue", "2"]);
    let slow = job(json!({ "size": "256x256", "count": 4, "steps": 4 }));
    let answers: Vec<Answer> = (0..6).map(|_| server.post("/jobs", &slow)).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert!(refused.head.to_lowercase().contains("retry-after: "), "{}", refused.head);
    for taken in answers.iter().filter(|answer| answer.status == 202) {
        let id = taken.json()["id"].as_str().unwrap().to_owned();
        assert!(server.post(&format!("/jobs/{id}/cancel"), &json!({})).status < 300);
        assert_eq!(server.ended(&id)["state"], "cancelled");
    }
}

#[test]
fn whoever_listens_beyond_this_machine_needs_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_kiln"))
        .args(["serve", "--listen", "0.0.0.0:0", "--state"])
        .arg(folder.path())
        .env_remove("KILN_TOKEN")
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("token"));
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "0123456789abcdef0123456789abcdef\n").unwrap();
    let server = Server::start(&folder.path().join("state"), &["--token-file", tokens.to_str().unwrap()]);
    assert_eq!(server.get("/jobs").status, 401);
    assert_eq!(server.ask("GET", "/jobs", "authorization: Bearer wrong\r\n", "").status, 401);
    assert_eq!(server.ask("GET", "/jobs", "authorization: Bearer 0123456789abcdef0123456789abcdef\r\n", "").status, 200);
}
