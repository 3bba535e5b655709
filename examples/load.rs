//! Measures `kiln serve`: what it adds to the bare engine, and what hundreds of clients at once do to it.
//!
//! `cargo build --release && cargo run --release --example load -- [CLIENTS] [SECONDS] [PICTURES]` starts `target/release/kiln serve` beside
//! itself, on the model `sticker`: once with its state in a folder of TMPDIR, once in memory (`/dev/shm`, where that is). With 0 clients or
//! 0 pictures that part is left out.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails says where")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kiln::output::{Format, encode};
use kiln::{Cancel, Engine, Request, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker");

struct Silent;
impl kiln::Observer for Silent {
    fn event(&mut self, _: kiln::Event) {}
}

struct Server {
    process: Child,
    address: String,
    _state: TempDir,
}

impl Server {
    fn start(state: TempDir) -> Self {
        let program = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join("kiln");
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--model", MODEL, "--state"]).arg(state.path());
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").unwrap().1.to_owned();
        Self { process, address, _state: state }
    }

    fn memory_mib(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Answer {
    status: u16,
    retry_after: bool,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A connection that is kept from request to request, as clients keep theirs.
struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), address: address.to_owned() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_ascii_lowercase()
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let (address, length) = (&self.address, body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}");
        self.stream.get_mut().write_all(format!("{head}\r\n\r\n{body}").as_bytes()).unwrap();
        let status = self.line().split(' ').nth(1).unwrap().parse().unwrap();
        let (mut length, mut retry_after) = (None, false);
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            match name {
                "content-length" => length = Some(value.parse().unwrap()),
                "retry-after" => retry_after = true,
                _ => {}
            }
        }
        let body = match length {
            Some(length) => self.take(length),
            None => {
                let mut body = Vec::new();
                loop {
                    let length = usize::from_str_radix(&self.line(), 16).unwrap();
                    body.extend(self.take(length));
                    self.line();
                    if length == 0 {
                        break body;
                    }
                }
            }
        };
        Answer { status, retry_after, body }
    }

    /// Asks for a picture, watches it and fetches its file: three requests.
    fn own(&mut self, seed: usize) -> Vec<u8> {
        let wish = json!({ "prompt": "a red apple", "seed": seed, "previews": false }).to_string();
        let job = self.ask("POST", "/jobs", &wish);
        assert_eq!(job.status, 202);
        let path = format!("/jobs/{}", job.json()["id"].as_str().unwrap());
        let events = self.ask("GET", &format!("{path}/events"), "");
        assert!(String::from_utf8_lossy(&events.body).contains("\"finished\""));
        self.ask("GET", &format!("{path}/pictures/0"), "").body
    }

    /// The same by OpenAI's interface: one request.
    fn openai(&mut self, seed: usize) -> Vec<u8> {
        let wish = json!({ "prompt": "a red apple", "seed": seed }).to_string();
        let answer = self.ask("POST", "/v1/images/generations", &wish);
        assert_eq!(answer.status, 200);
        answer.body
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

/// What the server adds to the bare engine with the PNG file's encoding, each in turn.
fn overhead(servers: &[(&str, Server)], pictures: usize) {
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
    let mut connections: Vec<(&str, Connection)> =
        servers.iter().map(|(name, server)| (*name, Connection::open(&server.address))).collect();
    let (mut near, mut far) = (Vec::new(), vec![Vec::new(); connections.len() * 2]);
    let all = 1 + far.len();
    for seed in 0..pictures + 5 {
        for turn in 0..all {
            // Each follows each equally often: what was at work last is still in the caches. The strides are those that `all`, a prime, allows.
            match (seed + turn * (1 + seed / all % (all - 1))) % all {
                0 => near.push(time(&mut || bare(seed))),
                other => {
                    let connection = &mut connections[(other - 1) / 2].1;
                    far[other - 1].push(match other % 2 {
                        1 => time(&mut || connection.own(seed)),
                        _ => time(&mut || connection.openai(seed)),
                    });
                }
            }
        }
    }
    // The first of each open the networks.
    let median = |values: &[f64]| quantile(&sorted(values[5..].to_vec()), 0.5);
    println!("{pictures} pictures in turn, ms: engine and PNG {:.2} at the median", median(&near));
    for (index, times) in far.iter().enumerate() {
        let more = sorted(times[5..].iter().zip(&near[5..]).map(|(far, near)| far - near).collect());
        let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(&more, share));
        println!(
            "state on {}, {}: {:.2} at the median, served less engine {middle:.2} (quarters {low:.2} to {high:.2})",
            connections[index / 2].0,
            ["own interface", "OpenAI's"][index % 2],
            median(times),
        );
    }
}

/// Many clients at once, of which each asks again as soon as it has its picture.
fn load(server: &Server, clients: u64, seconds: u64) {
    let before_mib = server.memory_mib();
    let waits = Mutex::new(Vec::new());
    let counts = Mutex::new([0_u64; 3]);
    let most_waiting = Mutex::new(0);
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|threads| {
        for client in 0..clients {
            let (address, waits, counts, most_waiting) = (&server.address, &waits, &counts, &most_waiting);
            threads.spawn(move || {
                let mut connection = Connection::open(address);
                while Instant::now() < end {
                    let wish = json!({ "prompt": "a red apple", "seed": client, "steps": 1, "previews": false }).to_string();
                    let answer = connection.ask("POST", "/jobs", &wish);
                    counts.lock().unwrap()[0] += 1;
                    if answer.status == 429 {
                        assert!(answer.retry_after);
                        counts.lock().unwrap()[1] += 1;
                        std::thread::sleep(Duration::from_millis(200 + client % 7 * 50));
                        continue;
                    }
                    assert_eq!(answer.status, 202);
                    let job = answer.json();
                    let place = job["place"].as_u64().unwrap_or(0);
                    let mut most = most_waiting.lock().unwrap();
                    *most = place.max(*most);
                    drop(most);
                    let path = format!("/jobs/{}", job["id"].as_str().unwrap());
                    connection.ask("GET", &format!("{path}/events"), "");
                    let job = connection.ask("GET", &path, "").json();
                    assert_eq!(job["state"], "finished");
                    assert_eq!(connection.ask("GET", &format!("{path}/pictures/0"), "").status, 200);
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
    let waits = sorted(waits.into_inner().unwrap());
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
    println!("memory of the server, MiB: {before_mib:.1} before, {:.1} after", server.memory_mib());
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u64>().unwrap());
    let clients = arguments.next().unwrap_or(200);
    let seconds = arguments.next().unwrap_or(60);
    let pictures = arguments.next().unwrap_or(100);
    let mut servers = vec![("disk", Server::start(tempfile::tempdir().unwrap()))];
    if let Ok(memory) = tempfile::tempdir_in("/dev/shm") {
        servers.push(("memory", Server::start(memory)));
    }
    if pictures > 0 {
        overhead(&servers, usize::try_from(pictures).unwrap());
    }
    if clients > 0 {
        load(&servers[0].1, clients, seconds);
    }
}
