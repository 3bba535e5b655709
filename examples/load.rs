//! Measures `kiln serve`: what it adds to the bare engine, and what hundreds of clients at once do to it.
//!
//! `cargo build --release && cargo run --release --example load -- [CLIENTS] [SECONDS]` starts `target/release/kiln serve` beside itself, on
//! the model `sticker` and a state folder of its own (in TMPDIR).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails says where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kiln::output::{Format, encode};
use kiln::{Cancel, Engine, Request, Settings};
use serde_json::{Value, json};

const PAIRS: usize = 100;
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker");

struct Silent;
impl kiln::Observer for Silent {
    fn event(&mut self, _: kiln::Event) {}
}

/// An answer: status, head, body.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head, bytes[end + 4..].to_vec())
}

fn json_of(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// Asks for a picture and waits for its file, as a client does.
fn served(address: &str, seed: usize) -> Vec<u8> {
    let wish = json!({ "prompt": "a red apple", "seed": seed, "previews": false }).to_string();
    let (status, _, body) = ask(address, "POST", "/jobs", &wish);
    assert_eq!(status, 202);
    let id = json_of(&body)["id"].as_str().unwrap().to_owned();
    let (_, _, events) = ask(address, "GET", &format!("/jobs/{id}/events"), "");
    assert!(String::from_utf8_lossy(&events).contains("\"finished\""));
    ask(address, "GET", &format!("/jobs/{id}/pictures/0"), "").2
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn memory_mib(process: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let clients = arguments.next().unwrap_or(200);
    let seconds = arguments.next().unwrap_or(60);
    let program = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("kiln");
    let state = tempfile::tempdir().unwrap();
    let mut server = Command::new(program)
        .args(["serve", "--listen", "127.0.0.1:0", "--model", MODEL, "--state"])
        .arg(state.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit_once("http://").unwrap().1.to_owned();

    let mut engine = Engine::open(Path::new(MODEL), &Settings::default(), None).unwrap();
    let mut bare = |seed: usize| {
        let request = Request { seed: Some(seed as u64), ..Request::new("a red apple") };
        let made = engine.generate(&request, &mut Silent, &Cancel::new()).unwrap();
        encode(&made[0].picture, Some(&made[0].provenance), Format::Png).unwrap()
    };
    let time = |work: &mut dyn FnMut() -> Vec<u8>| {
        // Threads of the one before have come to rest.
        std::thread::sleep(Duration::from_millis(30));
        let begun = Instant::now();
        assert!(!work().is_empty());
        begun.elapsed().as_secs_f64() * 1_000.0
    };
    for seed in 0..5 {
        bare(seed);
        served(&address, seed);
    }
    let mut pairs: Vec<(f64, f64)> = Vec::new();
    for seed in 0..PAIRS {
        let (near, far) = (time(&mut || bare(seed)), time(&mut || served(&address, seed)));
        pairs.push((near, far));
    }
    let sorted = |pick: &dyn Fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = pairs.iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (near, far, more) = (sorted(&|pair| pair.0), sorted(&|pair| pair.1), sorted(&|pair| pair.1 - pair.0));
    println!(
        "{PAIRS} pictures in turn, ms at the median: engine and PNG {:.2}, served {:.2}",
        quantile(&near, 0.5),
        quantile(&far, 0.5)
    );
    let quarters = [0.25, 0.5, 0.75].map(|share| quantile(&more, share));
    println!("served less engine, ms: median {:.2} (quarters {:.2} to {:.2})", quarters[1], quarters[0], quarters[2]);

    let before_mib = memory_mib(server.id());
    let waits = Mutex::new(Vec::new());
    let counts = Mutex::new([0_u64; 3]);
    let most_waiting = Mutex::new(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|threads| {
        for client in 0..clients {
            let (address, waits, counts, most_waiting) = (&address, &waits, &counts, &most_waiting);
            threads.spawn(move || {
                while Instant::now() < end {
                    let wish = json!({ "prompt": "a red apple", "seed": client, "steps": 1, "previews": false }).to_string();
                    let (status, head, body) = ask(address, "POST", "/jobs", &wish);
                    counts.lock().unwrap()[0] += 1;
                    if status == 429 {
                        assert!(head.to_lowercase().contains("retry-after: "));
                        counts.lock().unwrap()[1] += 1;
                        std::thread::sleep(Duration::from_millis(200 + client % 7 * 50));
                        continue;
                    }
                    assert_eq!(status, 202);
                    let job = json_of(&body);
                    let place = job["place"].as_u64().unwrap_or(0);
                    let mut most = most_waiting.lock().unwrap();
                    *most = place.max(*most);
                    drop(most);
                    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
                    ask(address, "GET", &format!("{path}/events"), "");
                    let job = json_of(&ask(address, "GET", &path, "").2);
                    assert_eq!(job["state"], "finished");
                    assert_eq!(ask(address, "GET", &format!("{path}/pictures/0"), "").0, 200);
                    let mut counts = counts.lock().unwrap();
                    counts[0] += 3;
                    counts[2] += 1;
                    drop(counts);
                    waits.lock().unwrap().push(job["started_ms"].as_f64().unwrap() - job["created_ms"].as_f64().unwrap());
                }
            });
        }
    });
    let [requests, refused, pictures] = counts.into_inner().unwrap();
    let mut waits: Vec<f64> = waits.into_inner().unwrap();
    waits.sort_by(f64::total_cmp);
    println!(
        "{clients} clients for {seconds} s: {requests} requests, {refused} of them told to come back (429), {pictures} pictures"
    );
    println!(
        "{:.1} pictures/s; the last place in the queue that was given: {}",
        pictures as f64 / seconds as f64,
        most_waiting.into_inner().unwrap()
    );
    let [half, most, last] = [0.5, 0.95, 1.0].map(|share| quantile(&waits, share));
    println!("time in the queue, ms: median {half:.0}, 95 % below {most:.0}, longest {last:.0}");
    println!("memory of the server, MiB: {before_mib:.1} before, {:.1} after", memory_mib(server.id()));
    server.kill().unwrap();
    server.wait().unwrap();
}
