//! What the disk does: it fills, it is slow, it fails; and what is asked of it before anybody is told of anything.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{self, Server};
use crate::{BOTH, both, common, sun};

/// Says that a test could not be run; where everything shall be run, that is a failure.
fn skipped(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "could not be run: {why}");
    // The harness keeps what tests that pass print to itself.
    let _ = std::io::stderr().write_all(format!("skipped: {why}\n").as_bytes());
}

/// A disk of some megabytes, under the name `state` in a folder.
struct SmallDisk {
    state: PathBuf,
    mounted: bool,
    _shared: Option<tempfile::TempDir>,
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Whoever fills the one shared memory there is does so alone.
static SHARED: Mutex<()> = Mutex::new(());

impl SmallDisk {
    /// Whoever may mount gets a disk of 4 MiB. Containers without that right have one of 64 MiB as their shared memory.
    fn new(folder: &Path) -> Option<Self> {
        let state = folder.join("state");
        fs::create_dir(&state).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&state).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { state, mounted: true, _shared: None, _alone: None });
        }
        let size = Command::new("df").args(["--output=size,fstype", "/dev/shm"]).output().ok()?;
        let told = String::from_utf8_lossy(&size.stdout).into_owned();
        let (kilobytes, kind) = told.lines().last()?.trim().split_once(' ')?;
        if kind.trim() != "tmpfs" || kilobytes.parse::<u64>().ok()? > 128 << 10 {
            return None;
        }
        let alone = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = tempfile::tempdir_in("/dev/shm").ok()?;
        fs::remove_dir(&state).unwrap();
        std::os::unix::fs::symlink(shared.path(), &state).unwrap();
        Some(Self { state, mounted: false, _shared: Some(shared), _alone: Some(alone) })
    }

    /// Somebody else takes all that is left.
    fn fill(&self) -> PathBuf {
        let ballast = self.state.join("ballast");
        let mut file = fs::File::create(&ballast).unwrap();
        for size in [1 << 20, 4096] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.state).status();
        }
    }
}

/// What the database itself says of a job.
fn row(state: &Path, id: &str) -> Option<String> {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(state.join("kiln.db"), flags).unwrap();
    database.query_row("SELECT state FROM jobs WHERE id = ?1", [id], |row| row.get(0)).ok()
}

/// Where a job stands: by itself, in the list, and at the end of its events.
fn told(server: &Server, id: &str) -> [Value; 3] {
    let list = server.get("/jobs?limit=200").expect(200).json();
    let listed = list["jobs"].as_array().unwrap().iter().find(|job| job["id"] == id).unwrap_or_else(|| panic!("{list}"));
    let events = server.events(id);
    let job = server.get(&format!("/jobs/{id}")).expect(200).json();
    assert_eq!((&job["error"], &job["pictures"]), (&listed["error"], &listed["pictures"]), "{job} {listed}");
    [job["state"].clone(), listed["state"].clone(), events.last().unwrap().1["state"].clone()]
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_disk_that_fills_while_jobs_run_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::new(folder.path()) else { return skipped("a full disk: no small one can be made here") };
    let server = Server::start_in(folder.path(), &["--keep-free", "1KiB"]);
    let first = server.submit(&sun());
    server.wait(&first, &["finished"]);
    let second = server.submit(&json!({ "prompt": "a red apple", "steps": 4, "count": 8 }));
    let ballast = disk.fill();
    server.post("/jobs", &sun()).refused(507, "disk_full");
    fs::remove_file(&ballast).unwrap();
    server.wait(&second, &["finished"]);
    for n in 0..8 {
        server.get(&format!("/jobs/{second}/pictures/{n}")).expect(200);
    }
    server.get(&format!("/jobs/{first}/pictures/0")).expect(200);
}

#[test]
fn on_a_full_disk_ends_that_were_told_of_stay_true_and_pictures_outlast_their_deadline() {
    // Far longer than a picture takes on a machine with other work.
    const DEADLINE: Duration = Duration::from_secs(60);
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::new(folder.path()) else { return skipped("a full disk: no small one can be made here") };
    let more = both(&["--keep-free", "1KiB"]);
    let mut server = Server::start_in(folder.path(), &more);
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    let stopped = server.endless();
    let made = server.submit(&json!({ "prompt": "a red apple", "model": "sticker", "deadline_s": DEADLINE.as_secs() }));
    let submitted = Instant::now();
    let late = server.submit(&json!({ "prompt": "animal", "deadline_s": 10, "model": "ddpm" }));
    let ballast = disk.fill();

    server.wait(&late, &["failed"]);
    let answer = server.post(&format!("/jobs/{stopped}/cancel"), &json!(null)).expect(200).json();
    assert!(answer["state"] == "cancelled" || answer["state"] == "running", "{answer}");
    server.wait(&stopped, &["cancelled"]);
    for id in [&stopped, &late] {
        assert_eq!(row(&disk.state, id).as_deref(), Some("queued"), "the disk took its end, and nothing is tested");
    }
    let check = |server: &Server| {
        assert_eq!(told(server, &stopped), ["cancelled", "cancelled", "cancelled"]);
        assert_eq!(told(server, &late), ["failed", "failed", "failed"]);
        assert_eq!(server.get(&format!("/jobs/{late}")).json()["error"]["code"], "deadline");
    };
    check(&server);

    // Its pictures are there before its time is up, and wait for longer.
    until("its pictures wait for room", || log().contains(&format!("job {made}: its pictures wait for room")));
    assert!(submitted.elapsed() < DEADLINE, "the machine is too slow for this test");
    std::thread::sleep(DEADLINE.saturating_sub(submitted.elapsed()) + Duration::from_secs(1));
    assert_eq!(server.get(&format!("/jobs/{made}")).json()["state"], "running");
    assert_eq!(server.get("/readyz").expect(503).json()["code"], "disk_full");
    server.post("/jobs", &sun()).refused(507, "disk_full");
    assert_eq!(log().matches("wait for room").count(), 1, "it is said once");

    fs::remove_file(&ballast).unwrap();
    server.wait(&made, &["finished"]);
    let picture = server.get(&format!("/jobs/{made}/pictures/0")).expect(200).body;
    until("the server is ready again", || server.get("/readyz").status == 200);
    check(&server);
    assert_eq!(row(&disk.state, &stopped).as_deref(), Some("cancelled"));
    server.kill();
    let server = Server::start_in(folder.path(), &more);
    check(&server);
    assert_eq!(server.get(&format!("/jobs/{made}/pictures/0")).expect(200).body, picture);
}

#[test]
fn a_picture_that_waits_for_room_can_be_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::new(folder.path()) else { return skipped("a full disk: no small one can be made here") };
    let server = Server::start_in(folder.path(), &both(&["--keep-free", "1KiB"]));
    let first = server.endless();
    let made = server.submit(&json!({ "prompt": "a red apple", "model": "sticker" }));
    let ballast = disk.fill();
    server.post(&format!("/jobs/{first}/cancel"), &json!(null)).expect(200);
    let log = || fs::read_to_string(folder.path().join("log")).unwrap();
    until("its pictures wait for room", || log().contains(&format!("job {made}: its pictures wait for room")));
    server.post(&format!("/jobs/{made}/cancel"), &json!(null)).expect(200);
    server.wait(&made, &["cancelled"]);
    fs::remove_file(&ballast).unwrap();
    until("the server is ready again", || server.get("/readyz").status == 200);
    assert_eq!(told(&server, &made), ["cancelled", "cancelled", "cancelled"]);
    assert_eq!(common::names(&disk.state.join("pictures")), [""; 0], "no half of a picture is left");
    server.wait(&server.submit(&sun()), &["finished"]);
}

/// A server below strace, which writes what it saw to `trace`; `None` where there is none.
fn traced(folder: &Path, options: &[&str], more: &[&str]) -> Option<Server> {
    // Where it is installed it may be forbidden.
    let probe = Command::new("strace").args(["-D", "-f", "-o", "/dev/null", "true"]).output();
    if !probe.is_ok_and(|asked| asked.status.success()) {
        return None;
    }
    // A database that is there already begins with fewer syncs.
    let mut server = Server::start_in(folder, more);
    server.signal("TERM");
    server.ended();
    let command = client::command(folder, more);
    let mut traced = Command::new("strace");
    // The server stays the child of this process, and is killed as ever.
    traced.args(["-D", "-f", "-qq", "-y", "-s", "120", "-o"]).arg(folder.join("trace")).args(options);
    traced.arg(command.get_program()).args(command.get_args()).current_dir(folder);
    traced.env_remove("KILN_TOKEN").env_remove("NOTIFY_SOCKET").env_remove("STATE_DIRECTORY").env_remove("KILN_MODELS");
    traced.stdout(std::process::Stdio::piped()).stderr(fs::File::create(folder.join("log")).unwrap());
    Some(Server::spawn(&mut traced))
}

#[test]
fn a_job_is_shown_to_nobody_before_it_is_synced() {
    const DELAY: Duration = Duration::from_secs(6);
    let folder = tempfile::tempdir().unwrap();
    let delay = format!("inject=fdatasync:delay_enter={}", DELAY.as_micros());
    let log = folder.path().join("state/kiln.db-wal").display().to_string();
    let options = ["-e", "trace=fdatasync", "-P", &log, "-e", &delay];
    let Some(server) = traced(folder.path(), &options, &[]) else {
        return skipped("a slow disk: strace is missing or forbidden");
    };
    let state = folder.path().join("state");
    std::thread::scope(|threads| {
        let asked = threads.spawn(|| server.submit(&sun()));
        let written = || {
            let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
            let database = rusqlite::Connection::open_with_flags(state.join("kiln.db"), flags).unwrap();
            database.query_row("SELECT count(*) FROM jobs", [], |row| row.get::<_, i64>(0)).unwrap_or(0)
        };
        until("its row is written", || written() == 1);
        let begun = Instant::now();
        let listed = || server.get("/jobs").expect(200).json()["jobs"].as_array().unwrap().len();
        let mut looks = 0;
        while listed() == 0 {
            looks += 1;
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(looks >= 1 && begun.elapsed() > DELAY / 3, "it was listed after {looks} looks, {:?}", begun.elapsed());
        let id = asked.join().unwrap();
        server.wait(&id, &["finished"]);
    });
}

#[test]
fn a_job_whose_sync_failed_is_refused_and_shown_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("state/kiln.db-wal").display().to_string();
    // The first sync of a thread passes: the log's first is SQLite's own, of its head.
    let options = ["-e", "trace=fdatasync", "-P", &log, "-e", "inject=fdatasync:error=EIO:when=2+"];
    let Some(server) = traced(folder.path(), &options, &[]) else {
        return skipped("a disk that fails: strace is missing or forbidden");
    };
    let mut refused = 0;
    let mut known = Vec::new();
    // The server answers by several threads.
    for _ in 0..60 {
        let answer = server.post("/jobs", &sun());
        match answer.status {
            202 if refused == 0 => known.push(answer.json()["id"].as_str().unwrap().to_owned()),
            _ => {
                answer.refused(500, "internal");
                refused += 1;
            }
        }
        if refused == 4 {
            break;
        }
    }
    assert_eq!(refused, 4, "once the disk failed, no job is accepted");
    for id in &known {
        server.wait(id, &["failed", "finished", "cancelled"]);
        let told = told(&server, id);
        assert!(told.iter().all(|state| *state == told[0]), "{told:?}");
    }
    assert_eq!(server.get("/jobs").expect(200).json()["jobs"].as_array().unwrap().len(), known.len());
    assert_eq!(server.get("/readyz").expect(503).json()["code"], "internal");
    server.post("/jobs", &sun()).refused(500, "internal");
}

/// Lines of a trace: which thread did what, and whether it began, ended or did both there.
struct Trace {
    lines: Vec<(String, String)>,
}

impl Trace {
    fn read(folder: &Path) -> Self {
        let text = String::from_utf8_lossy(&fs::read(folder.join("trace")).unwrap()).into_owned();
        let parted = |line: &str| line.split_once(' ').map(|(thread, call)| (thread.to_owned(), call.trim().to_owned()));
        Self { lines: text.lines().filter_map(parted).collect() }
    }

    /// The first line from `from` on, of a call that has all of `parts`.
    fn find(&self, from: usize, parts: &[&str]) -> Option<usize> {
        let mut rest = self.lines.iter().enumerate().skip(from);
        rest.find(|(_, (_, call))| parts.iter().all(|part| call.contains(part))).map(|(line, _)| line)
    }

    /// The line on which the call that began on `line` ended well.
    fn end(&self, line: usize) -> Option<usize> {
        let (thread, call) = &self.lines[line];
        if !call.contains("<unfinished ...>") {
            return call.ends_with("= 0").then_some(line);
        }
        let mut rest = self.lines.iter().enumerate().skip(line + 1);
        let (end, (_, call)) = rest.find(|(_, (other, call))| other == thread && call.starts_with("<... "))?;
        call.ends_with("= 0").then_some(end)
    }

    /// The lines before `until` that write to the log of the database.
    fn log_writes(&self, from: usize, until: usize) -> Vec<usize> {
        let is_write =
            |line: &usize| self.lines[*line].1.starts_with("pwrite64(") && self.lines[*line].1.contains("kiln.db-wal>");
        (from..until).filter(is_write).collect()
    }

    /// Makes sure that a sync of what is called `name` begins after `from` and has ended before `until`.
    fn synced(&self, name: &str, from: usize, until: usize) {
        let begun = (from + 1..until).filter(|line| {
            let call = &self.lines[*line].1;
            (call.starts_with("fdatasync(") || call.starts_with("fsync(")) && call.contains(name)
        });
        let ends: Vec<usize> = begun.filter_map(|line| self.end(line)).collect();
        assert!(
            ends.iter().any(|end| *end < until),
            "{name} is not synced between lines {from} and {until}: {:#?}",
            &self.lines[from..=until]
        );
    }
}

#[test]
fn nobody_is_told_of_a_job_or_a_picture_before_the_disk_has_it() {
    let sd = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/sd");
    let small = sun();
    // Together beyond what goes into rows as well.
    let large = json!({ "prompt": "a red apple", "steps": 1, "size": "256x256", "seed": 1, "count": 2, "previews": false });
    let mut count = 0;
    for (model, wish, in_rows) in [(BOTH[1], small, true), (sd, large, false)] {
        let folder = tempfile::tempdir().unwrap();
        let options = ["-e", "trace=fdatasync,fsync,pwrite64,write,writev,sendto,sendmsg,recvfrom,read,readv"];
        let Some(mut server) = traced(folder.path(), &options, &["--model", model, "--threads", "1"]) else {
            return skipped("the order of syncs and answers: strace is missing or forbidden");
        };
        let id = server.submit(&wish);
        let stream = server.open("GET", &format!("/jobs/{id}/events"), &[], None);
        let answer = client::Answer::read(stream);
        let events = client::events(std::str::from_utf8(&answer.body).unwrap());
        assert_eq!(events.last().unwrap().1["state"], "finished");
        let picture = server.get(&format!("/jobs/{id}/pictures/0")).expect(200).body;
        server.kill();
        std::thread::sleep(Duration::from_millis(500));

        let trace = Trace::read(folder.path());
        let asked = trace.find(0, &["POST /jobs HTTP"]).expect("the request is in the trace");
        let accepted = trace.find(asked, &["HTTP/1.1 202"]).expect("its answer is in the trace");
        let writes = trace.log_writes(asked, accepted);
        // The thread that took the job in; a worker may have begun meanwhile.
        let thread = &trace.lines[*writes.first().expect("the job is written before it is answered")].0;
        let last = writes.iter().rev().find(|line| trace.lines[**line].0 == *thread).unwrap();
        trace.synced("kiln.db-wal", *last, accepted);

        let ended = trace.find(asked, &["event: end"]).expect("the end is in the trace");
        let writes = trace.log_writes(asked, ended);
        let worker = &trace.lines[*writes.last().unwrap()].0;
        assert_ne!(worker, thread);
        let of_worker: Vec<usize> = writes.iter().copied().filter(|line| trace.lines[*line].0 == *worker).collect();
        trace.synced("kiln.db-wal", *of_worker.last().unwrap(), ended);
        // A page of the log and its head for each; the picture is among them, or its file was synced before its row was written.
        if in_rows {
            assert!(of_worker.len() / 2 * 4096 > picture.len(), "{} writes for {} bytes", of_worker.len(), picture.len());
        } else {
            trace.synced(".part", asked, of_worker[0]);
            trace.synced("/pictures>", asked, of_worker[0]);
        }
        count += 1;
    }
    assert_eq!(count, 2);
}
