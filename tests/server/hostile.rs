//! What strangers send: every answer is a problem told as JSON, and the server goes on.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::client::{Answer, Server};
use crate::{common, sun};

#[test]
fn bodies_of_no_sense_are_refused() {
    let server = Server::start(&[]);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let long = json!({ "prompt": "a".repeat(3_000) }).to_string();
    let cases: Vec<(&[u8], u16)> = vec![
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe{}", 400),
        (deep.as_bytes(), 400),
        (b"{\"prompt\": NaN}", 400),
        (b"{\"prompt\": 3}", 400),
        (b"{\"guidance\": NaN}", 400),
        (b"{\"guidance\": 1e999}", 400),
        (b"{\"guidance\": 1e39}", 422),
        (b"{\"within_s\": -1}", 422),
        (b"{\"deadline_s\": 0}", 422),
        (b"{\"steps\": -1}", 400),
        (b"{\"steps\": 18446744073709551616}", 400),
        (b"{\"steps\": 1000000}", 422),
        (b"{\"seed\": \"x\"}", 400),
        (b"{\"count\": 1000000000}", 422),
        (b"{\"size\": \"4294967295x4294967295\"}", 422),
        (b"{\"size\": \"64x64x64\"}", 422),
        (b"{\"sampler\": \"../../../etc/passwd\"}", 422),
        (b"{\"model\": \"../sticker\"}", 404),
        (b"{\"model\": \"/etc\"}", 404),
        (b"{\"model\": \"\"}", 404),
        (b"{\"prompt\": \"a\\u0000b\"}", 422),
        (b"{\"prompts\": \"x\"}", 400),
        (b"{\"picture\": \"/etc/passwd\"}", 422),
        (b"{\"picture\": \"file:///etc/passwd\"}", 422),
        (b"{\"picture\": \"\"}", 422),
        (b"{\"strength\": 0.5}", 422),
        (long.as_bytes(), 413),
    ];
    let count = cases.len();
    for (body, status) in cases {
        for path in ["/jobs", "/plan"] {
            let answer = server.ask("POST", path, &[], Some(body));
            let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
            assert_eq!(answer.status, status, "{path} {shown}: {:?}", String::from_utf8_lossy(&answer.body));
            assert!(answer.json()["error"]["code"].is_string());
        }
    }
    assert_eq!(count, 31);
    assert_eq!(server.get("/jobs").json()["jobs"], json!([]));
    let id = server.submit(&sun());
    server.wait(&id, &["finished"]);
    assert!(!server.log().contains("panicked"));
}

#[test]
fn mutated_bodies_never_break_the_server() {
    let server = Server::start(&["--queue", "100000"]);
    let mut dice = common::Dice(5);
    let whole =
        json!({ "prompt": "a red apple", "seed": 3, "steps": 1, "size": "64x64", "guidance": 1.0, "count": 1 }).to_string();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..300 {
        let body = common::mutate(whole.as_bytes(), &mut dice);
        let answer = server.ask("POST", "/plan", &[], Some(&body));
        assert!(answer.status == 200 || (400..500).contains(&answer.status), "{body:?}: {answer:?}");
        seen.insert(answer.status);
    }
    assert!(seen.contains(&400) && seen.contains(&200), "{seen:?}");
    server.get("/healthz").expect(200);
}

#[test]
fn a_bomb_and_a_body_too_large_are_refused() {
    let server = Server::start(&["--model", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/sd")]);
    // A small file of a picture that would take a gigabyte.
    let mut bomb = common::bomb();
    let wish = json!({ "prompt": "x", "picture": STANDARD.encode(&bomb) });
    let problem = server.post("/jobs", &wish).refused(422, "refused");
    assert!(problem["error"]["message"].as_str().unwrap().contains("too large"), "{problem}");
    bomb.truncate(20);
    server.post("/jobs", &json!({ "prompt": "x", "picture": STANDARD.encode(&bomb) })).refused(422, "refused");
    let head = format!(
        "POST /jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n",
        server.address
    );
    server.raw(head.as_bytes()).refused(413, "too_large");
    let mut stream = server.connect();
    let head = format!(
        "POST /jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        server.address
    );
    stream.write_all(head.as_bytes()).unwrap();
    let begun = Instant::now();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    for _ in 0..40 {
        // It stops listening once it has refused.
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    // Where it closes while more is being sent, its answer may be lost.
    let answer = Answer::read(stream);
    assert!(matches!(answer.status, 0 | 413), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(60), "the connection stays open");
    server.get("/healthz").expect(200);
}

#[test]
fn bodies_of_many_connections_are_bounded_together() {
    let server = Server::start(&["--patience", "60"]);
    let head = format!(
        "POST /jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{{",
        server.address,
        16 << 20
    );
    let mut large: Vec<_> = (0..6)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(head.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            stream
        })
        .collect();
    // Four have the room, whichever came first; the server goes on reading them.
    let begun = Instant::now();
    while large.len() > 4 {
        if let Some(answered) = large.iter().position(|stream| stream.peek(&mut [0]).is_ok()) {
            let answer = Answer::read(large.remove(answered));
            assert_eq!(answer.header("retry-after"), Some("5"));
            answer.refused(503, "busy");
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody is refused");
    }
    assert!(large.iter().all(|stream| stream.peek(&mut [0]).is_err()));
    // A prompt takes no room that is counted.
    server.wait(&server.submit(&sun()), &["finished"]);
    drop(large);
    let begun = Instant::now();
    while server.post("/jobs", &json!({ "prompt": "a".repeat(1 << 20) })).status != 413 {
        assert!(begun.elapsed() < Duration::from_secs(60), "the room is not given back");
    }
}

#[test]
fn paths_lead_nowhere_but_to_jobs() {
    let server = Server::start(&[]);
    let id = server.submit(&sun());
    server.wait(&id, &["finished"]);
    for path in [
        "/jobs/../../etc/passwd".to_owned(),
        "/jobs/..%2f..%2fkiln.db".to_owned(),
        "/jobs/%00".to_owned(),
        "/jobs/'%20OR%201=1".to_owned(),
        format!("/jobs/{id}/pictures/-1"),
        format!("/jobs/{id}/pictures/1"),
        format!("/jobs/{id}/pictures/0x0"),
        format!("/jobs/{id}/pictures/..%2f0"),
        format!("/jobs/{id}/pictures/99999999999999999999999"),
        "/page/".to_owned(),
        "/page/%2e%2e%2fmod.rs".to_owned(),
        "//etc/passwd".to_owned(),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
        assert!(answer.json()["error"]["code"].is_string());
    }
    server.get("/jobs?before=x").refused(400, "malformed");
    server.get("/jobs?limit=-1").refused(400, "malformed");
    server.ask("PUT", "/jobs", &[], None).refused(405, "method_not_allowed");
    for bytes in ["GARBAGE", "GET", "GET / HTTP/9", "\u{0}\u{1}\u{2}", "GET / HTTP/1.1"] {
        let answer = server.raw(format!("{bytes}\r\n\r\n").as_bytes());
        assert!((400..500).contains(&answer.status), "{bytes:?}: {answer:?}");
    }
}

#[test]
fn slow_clients_are_let_go() {
    let server = Server::start(&["--patience", "1"]);
    for start in [
        String::new(),
        "GET /jobs HT".to_owned(),
        format!(
            "POST /jobs HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{{",
            server.address
        ),
    ] {
        let mut stream = server.connect();
        stream.write_all(start.as_bytes()).unwrap();
        let begun = Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(begun.elapsed() < Duration::from_secs(15), "{start:?} was waited for");
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{start:?}");
    }
    server.get("/healthz").expect(200);
}

#[test]
fn drops_do_not_keep_a_connection_open() {
    let server = Server::start(&["--patience", "1"]);
    let head = format!("Host: {}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n", server.address);
    for (start, drop_of) in [("GET /jobs HTTP/1.1\r\n".to_owned(), "X: y\r\n"), (format!("POST /jobs HTTP/1.1\r\n{head}"), " ")] {
        let mut stream = server.connect();
        stream.write_all(start.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let begun = Instant::now();
        let mut answer = Vec::new();
        loop {
            let mut some = [0; 1024];
            match stream.read(&mut some) {
                Ok(0) => break,
                Ok(length) => answer.extend_from_slice(&some[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let _ = stream.write_all(drop_of.as_bytes());
                }
                Err(_) => break,
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "{start:?} was waited for");
        }
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{start:?}");
    }
    server.get("/healthz").expect(200);
}
