//! A server in a fresh folder, and a client that speaks HTTP/1.1 over a plain socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The settings of a server: the state's folder and more arguments.
pub fn command(state: &Path, more: &[&str]) -> Command {
    let mut command = common::command(state);
    command.args(["serve", "-v", "--listen", "127.0.0.1:0", "--state"]).arg(state.join("state")).args(more);
    if !more.contains(&"--model") {
        command.args(["--model", concat!(env!("CARGO_MANIFEST_DIR"), "/models/sticker")]);
    }
    command.env_remove("KILN_TOKEN").env_remove("NOTIFY_SOCKET").env_remove("STATE_DIRECTORY");
    command.stdout(Stdio::piped()).stderr(Stdio::from(std::fs::File::create(state.join("log")).unwrap()));
    command
}

pub struct Server {
    child: Child,
    pub address: String,
    folder: Option<TempDir>,
}

impl Server {
    /// Started in a folder of its own.
    pub fn start(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = Self::start_in(folder.path(), more);
        server.folder = Some(folder);
        server
    }

    pub fn start_in(folder: &Path, more: &[&str]) -> Self {
        Self::spawn(&mut command(folder, more))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("kiln serves on http://").unwrap_or_else(|| panic!("it said {line:?}")).to_owned();
        Self { child, address, folder: None }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.as_ref().unwrap().path().join("log")).unwrap()
    }

    pub fn process(&self) -> u32 {
        self.child.id()
    }

    pub fn state(&self) -> std::path::PathBuf {
        self.folder.as_ref().unwrap().path().join("state")
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends a request as it is, and reads the answer to its end.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        Answer::read(stream)
    }

    /// Sends a request and returns the stream to read from.
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> TcpStream {
        let client = Client { address: self.address.clone() };
        client.open(method, path, headers, body).unwrap()
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        Answer::read(self.open(method, path, headers, body))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask("POST", path, &[], Some(body.to_string().as_bytes()))
    }

    /// Asks for a job and returns its name.
    pub fn submit(&self, wish: &Value) -> String {
        let answer = self.post("/jobs", wish).expect(202);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// The events of a job to its end.
    pub fn events(&self, id: &str) -> Vec<(String, Value)> {
        let answer = self.get(&format!("/jobs/{id}/events")).expect(200);
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        events(std::str::from_utf8(&answer.body).unwrap())
    }

    /// Waits until a job is in one of the states, and returns it.
    pub fn wait(&self, id: &str, states: &[&str]) -> Value {
        let begun = Instant::now();
        loop {
            let job = self.get(&format!("/jobs/{id}")).expect(200).json();
            if states.contains(&job["state"].as_str().unwrap()) {
                return job;
            }
            assert!(begun.elapsed() < PATIENCE, "{job}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A job that runs until it is stopped.
    pub fn endless(&self) -> String {
        let id = self.submit(&json!({ "prompt": "animal", "model": "ddpm", "steps": 1000, "count": 8, "sampler": "ddpm" }));
        self.wait(&id, &["running"]);
        id
    }

    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "the server does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Who asks a server that may be gone.
pub struct Client {
    pub address: String,
}

impl Client {
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> std::io::Result<TcpStream> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            if !headers.iter().any(|(name, _)| *name == "Content-Type") {
                head += "Content-Type: application/json\r\n";
            }
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let _ = stream.write_all(&[head.as_bytes(), b"\r\n", body.unwrap_or_default()].concat());
        Ok(stream)
    }

    /// An answer, of status 0 where nobody gives one.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Answer {
        match self.open(method, path, headers, body) {
            Ok(stream) => Answer::read(stream),
            Err(_) => Answer { status: 0, headers: String::new(), body: Vec::new() },
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        // A server that closes while more is being sent resets the connection behind its answer.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else { return Self { status: 0, headers: String::new(), body: bytes } };
        let headers = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let mut body = bytes[end + 4..].to_vec();
        if headers.contains("transfer-encoding: chunked") {
            body = unchunked(&body);
        }
        Self { status: headers.split(' ').nth(1).unwrap().parse().unwrap(), headers, body }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// A text of a JSON object, if it is one that is whole.
    pub fn text_of(&self, name: &str) -> Option<String> {
        serde_json::from_slice::<Value>(&self.body).ok()?[name].as_str().map(str::to_owned)
    }

    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{} {:?}", self.headers, String::from_utf8_lossy(&self.body));
        self
    }

    /// Makes sure that it is a problem of this kind, told as JSON.
    pub fn refused(self, status: u16, code: &str) -> Value {
        let problem = self.expect(status).json();
        assert_eq!(problem["error"]["code"], code, "{problem}");
        assert!(!problem["error"]["message"].as_str().unwrap().is_empty());
        problem
    }
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        let rest = &bytes[end + 2..];
        if length == 0 || rest.len() < length + 2 {
            break;
        }
        whole.extend_from_slice(&rest[..length]);
        bytes = &rest[length + 2..];
    }
    whole
}

pub fn events(text: &str) -> Vec<(String, Value)> {
    let blocks = text.split("\n\n").filter_map(|block| {
        let (name, data) = block.split_once('\n')?;
        Some((name.strip_prefix("event: ")?.to_owned(), serde_json::from_str(data.strip_prefix("data: ")?).unwrap()))
    });
    blocks.collect()
}
