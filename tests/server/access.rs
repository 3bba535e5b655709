//! Who may ask: tokens, names, pages of other sites, addresses that other machines reach, prompts that a policy blocks.

use serde_json::json;

use crate::client::{Server, command};
use crate::{common, sun};

#[test]
fn a_token_is_asked_for_but_by_the_page_and_by_health() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), &[]);
    let server = Server::spawn(command.env("KILN_TOKEN", "0123456789abcdef"));
    for path in ["/", "/page/app.js", "/healthz", "/readyz"] {
        server.get(path).expect(200);
    }
    for path in ["/jobs", "/bundles", "/metrics", "/status", "/lineage", "/jobs/0/events"] {
        let answer = server.get(path);
        assert_eq!(answer.header("www-authenticate"), Some("bearer"));
        answer.refused(401, "unauthorized");
    }
    for wrong in ["Bearer 0123456789abcdee", "Bearer", "Basic 0123456789abcdef", "Bearer 0123456789abcdef0"] {
        server.ask("GET", "/jobs", &[("Authorization", wrong)], None).refused(401, "unauthorized");
    }
    server.ask("GET", "/jobs", &[("Authorization", "Bearer 0123456789abcdef")], None).expect(200);
}

#[test]
fn other_names_and_other_sites_are_refused() {
    let server = Server::start(&["--host-name", "kiosk.example"]);
    server.ask("GET", "/jobs", &[("Host", "evil.example")], None).refused(421, "unknown_host");
    server.ask("GET", "/jobs", &[("Host", "kiosk.example")], None).expect(200);
    server.ask("GET", "/jobs", &[("Host", "localhost:1")], None).expect(200);
    let body = sun().to_string();
    let post = |headers: &[(&str, &str)]| server.ask("POST", "/jobs", headers, Some(body.as_bytes()));
    post(&[("Origin", "https://evil.example")]).refused(403, "foreign_origin");
    post(&[("Origin", "null")]).refused(403, "foreign_origin");
    post(&[("Sec-Fetch-Site", "cross-site")]).refused(403, "foreign_origin");
    post(&[("Content-Type", "text/plain")]).refused(415, "unsupported_media_type");
    post(&[("Origin", &format!("http://{}", server.address))]).expect(202);
}

#[test]
fn an_address_that_others_reach_asks_for_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let mut arguments = vec!["serve", "--listen", "0.0.0.0:0", "--state", "state"];
    common::kiln(folder.path(), &arguments).refused(2, &["--token-file"]);
    std::fs::write(folder.path().join("short"), "abc\n").unwrap();
    arguments.extend(["--token-file", "short"]);
    common::kiln(folder.path(), &arguments).refused(2, &["expected 16 or more"]);
}

#[test]
fn a_policy_blocks_and_a_broken_one_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(folder.path().join("policy.toml"), text).unwrap();
    for (text, part) in [("[en]\nwords = 3", "policy.toml"), ("[en]\npatterns = ['(']", "policy.toml"), ("", "blocks nothing")] {
        write(text);
        common::kiln(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--state", "state", "--policy", "policy.toml"])
            .refused(2, &[part]);
    }
    common::kiln(folder.path(), &["serve", "--listen", "127.0.0.1:0", "--state", "state", "--policy", "none.toml"])
        .refused(2, &["none.toml"]);
    write("[en]\nwords = [\"gun\"]\n[de]\nwords = [\"Waffe\"]");
    let server = Server::start_in(folder.path(), &["--policy", "policy.toml"]);
    let problem = server.post("/jobs", &json!({ "prompt": "a red Waffe" })).refused(422, "policy");
    assert!(!problem.to_string().contains("Waffe"));
    for prompt in ["a GUN", "g()un", "g(un:1.0)", "gun1", "_gun_"] {
        server.post("/plan", &json!({ "prompt": prompt })).refused(422, "policy");
    }
    // A negative prompt names what is not to be shown; a weight below nothing asks for it.
    for (negative, status) in [("gun", 200), ("(gun:1.3)", 200), ("(gun:-1)", 422), ("g(un:-1)", 422), ("gun, (tree:-9)", 422)] {
        let wish = json!({ "prompt": "a smiling sun", "negative_prompt": negative });
        assert_eq!(server.post("/plan", &wish).status, status, "{negative}");
    }
    let asked = json!({ "prompt": "a smiling sun", "negative_prompt": "(gun:-1)" });
    server.post("/sdapi/v1/txt2img", &asked).expect(400);
    server.post("/jobs", &sun()).expect(202);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("path=\"/jobs\" status=202") && !log.contains("sun"), "{log}");
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_served_and_taken_over_from_the_dead() {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut command = common::command(folder.path());
        command.args([
            "serve",
            "--socket",
            "kiln.sock",
            "--state",
            "state",
            "--model",
            concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker"),
        ]);
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "kiln serves on unix:kiln.sock\n");
        let mut stream = UnixStream::connect(folder.path().join("kiln.sock")).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        // Its socket file stays behind.
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
