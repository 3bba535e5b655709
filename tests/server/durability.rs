//! What a loss of power may take: everything that was not synced; and what many requests may leave behind: nothing.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::client::{Client, Server};
use crate::{both, common, sun};

#[test]
fn pictures_whose_files_were_not_synced_are_written_anew() {
    let folder = tempfile::tempdir().unwrap();
    let database_file = folder.path().join("state/kiln.db");
    let pictures = folder.path().join("state/pictures");
    // A system that lost its power has the names of some new files and the bytes of fewer.
    let losses: [fn(&Path); 3] = [
        |path| fs::write(path, b"").unwrap(),
        |path| fs::write(path, vec![0; fs::metadata(path).unwrap().len() as usize]).unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ];
    let mut lost = 0;
    // Files are synced some seconds after their jobs have ended, and may be lost until then alone.
    for _ in 0..5 {
        let mut server = Server::start_in(folder.path(), &[]);
        let ids: Vec<String> = (0..3).map(|_| server.submit(&sun())).collect();
        for id in &ids {
            server.wait(id, &["finished"]);
        }
        let before: Vec<Vec<u8>> = ids.iter().map(|id| server.get(&format!("/jobs/{id}/pictures/0")).expect(200).body).collect();
        server.kill();
        let database = rusqlite::Connection::open(&database_file).unwrap();
        for ((id, file), lose) in ids.iter().zip(&before).zip(losses) {
            let kept = "SELECT copy FROM pictures JOIN jobs ON job = number WHERE id = ?1";
            let copy: Option<Vec<u8>> = database.query_row(kept, [id], |row| row.get(0)).unwrap();
            let Some(copy) = copy else { continue };
            assert!(copy == *file, "what the server kept in the row is not what it showed");
            lose(&pictures.join(format!("{id}-0.png")));
            lost += 1;
        }
        drop(database);
        let mut server = Server::start_in(folder.path(), &[]);
        for (id, file) in ids.iter().zip(&before) {
            assert!(server.get(&format!("/jobs/{id}/pictures/0")).expect(200).body == *file, "{id}");
        }
        server.signal("TERM");
        assert_eq!(server.ended().code(), Some(0));
        if lost >= losses.len() {
            break;
        }
    }
    assert!(lost >= losses.len(), "{lost} pictures were in their rows");
    // Once files are synced the database does without them.
    let database = rusqlite::Connection::open(database_file).unwrap();
    let copies: i64 = database.query_row("SELECT count(copy) FROM pictures", [], |row| row.get(0)).unwrap();
    assert_eq!(copies, 0);
}

#[test]
fn a_database_of_the_version_before_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir_all(state.join("pictures")).unwrap();
    let database = rusqlite::Connection::open(state.join("kiln.db")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, client TEXT NOT NULL,
                model TEXT NOT NULL, wish TEXT NOT NULL, picture BLOB, mask BLOB, repeats TEXT, created_ms INTEGER NOT NULL, started_ms INTEGER,
                ended_ms INTEGER, error_code TEXT, error_message TEXT);
             CREATE TABLE pictures (job INTEGER NOT NULL REFERENCES jobs (number) ON DELETE CASCADE, n INTEGER NOT NULL, seed INTEGER NOT NULL,
                width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (job, n));
             INSERT INTO jobs (id, state, client, model, wish, created_ms) VALUES ('old', 'finished', 'local', 'sticker', '{\"prompt\": \"a red apple\"}', 9e12);
             INSERT INTO pictures VALUES (1, 0, 7, 64, 64, 4);
             PRAGMA user_version = 1;",
        )
        .unwrap();
    drop(database);
    fs::write(state.join("pictures/old-0.png"), b"file").unwrap();
    let server = Server::start_in(folder.path(), &[]);
    assert_eq!(server.get("/jobs/old/pictures/0").expect(200).body, b"file");
    let again = server.post("/jobs/old/repeat", &json!(null)).expect(202).json();
    assert_eq!(again["repeats"], "old");
    server.wait(again["id"].as_str().unwrap(), &["finished"]);
}

#[test]
fn jobs_that_wait_take_no_place_among_the_ended() {
    let server = Server::start(&both(&["--keep-jobs", "2"]));
    let ended: Vec<String> = (0..2)
        .map(|_| {
            let id = server.submit(&sun());
            server.wait(&id, &["finished"]);
            id
        })
        .collect();
    let running = server.endless();
    let waiting: Vec<String> = (0..3).map(|_| server.submit(&sun())).collect();
    // Longer than it takes until what is beyond the limit goes.
    std::thread::sleep(std::time::Duration::from_millis(500));
    for id in &ended {
        server.get(&format!("/jobs/{id}/pictures/0")).expect(200);
    }
    server.post(&format!("/jobs/{running}/cancel"), &json!(null)).expect(200);
    server.wait(&waiting[2], &["finished"]);
    let begun = std::time::Instant::now();
    while server.get("/jobs").json()["jobs"].as_array().unwrap().len() != 2 {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "more are kept than shall be");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn pictures_that_were_handed_in_are_counted_among_what_is_kept() {
    let mut dice = common::Dice(3);
    // Noise takes its full size as PNG.
    let noise: Vec<u8> = (0..256 * 256 * 3).map(|_| dice.below(256) as u8).collect();
    let picture = kiln::Picture { width: 256, height: 256, channels: 3, pixels: noise };
    let file = kiln::output::encode(&picture, None, kiln::output::Format::Png).unwrap();
    assert!(file.len() > 150 << 10);
    let sd = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bundles/sd");
    let server = Server::start(&["--model", sd, "--keep-bytes", "300KiB"]);
    // What is made is small beside what was handed in: one job fits into the limit, two do not.
    let wish =
        json!({ "prompt": "a red apple", "picture": STANDARD.encode(&file), "strength": 0.5, "steps": 2, "size": "64x64" });
    let ids: Vec<String> = (0..3)
        .map(|_| {
            let id = server.submit(&wish);
            server.wait(&id, &["finished"]);
            id
        })
        .collect();
    let begun = std::time::Instant::now();
    let left = || server.get("/jobs").json()["jobs"].as_array().unwrap().iter().map(|job| job["id"].clone()).collect::<Vec<_>>();
    while left() != [json!(ids[2])] {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{:?} of {ids:?} are left", left());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn thousands_of_requests_leave_nothing_behind() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 60;
    let server = Server::start(&["--queue", "1000"]);
    let run = |rounds: usize| {
        std::thread::scope(|threads| {
            for client in 0..CLIENTS {
                let asks = Client { address: server.address.clone() };
                threads.spawn(move || {
                    for round in 0..rounds {
                        let wish = json!({ "prompt": "a red apple", "seed": client, "steps": 1 }).to_string();
                        assert_eq!(asks.ask("POST", "/plan", &[], Some(wish.as_bytes())).status, 200);
                        assert_eq!(asks.ask("GET", "/jobs?limit=5", &[], None).status, 200);
                        assert_eq!(asks.ask("GET", "/jobs/nothing", &[], None).status, 404);
                        assert_eq!(asks.ask("POST", "/jobs", &[], Some(b"{")).status, 400);
                        if round % 10 == 0 {
                            let job = asks.ask("POST", "/jobs", &[], Some(wish.as_bytes()));
                            let id = job.text_of("id").unwrap();
                            // Some are watched to their end, some stopped, some left by their watcher.
                            let path = format!("/jobs/{id}");
                            match round / 10 % 3 {
                                0 => drop(asks.ask("GET", &format!("{path}/events"), &[], None)),
                                1 => drop(asks.ask("POST", &format!("{path}/cancel"), &[], None)),
                                _ => drop(asks.open("GET", &format!("{path}/events?own=true"), &[], None)),
                            }
                        }
                    }
                });
            }
        });
        // Everything ends before it is looked at.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while server.get("/status").json()["queue"] != json!({ "waiting": 0, "running": 0, "most": 1000 }) {
            assert!(std::time::Instant::now() < until, "jobs wait for ever");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        let process = format!("/proc/{}", server.process());
        let count = |name: &str| fs::read_dir(format!("{process}/{name}")).unwrap().count();
        let status = server.get("/status").json();
        (count("fd"), count("task"), status["memory"]["resident_bytes"].as_u64().unwrap())
    };
    let (files, threads, bytes) = run(20);
    let (files_after, threads_after, bytes_after) = run(ROUNDS * 5);
    assert!(files_after <= files + 4, "{files} files were open, and {files_after} are");
    // Threads that wait for the disk come and go, 16 at most.
    assert!(threads_after <= threads + 16, "{threads} threads ran, and {threads_after} do");
    assert!(bytes_after < bytes + (24 << 20), "{bytes} bytes were held, and {bytes_after} are");
}
