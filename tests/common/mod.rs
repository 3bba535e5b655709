//! What the whole-program and the hostile-bundle tests share: copies of the tiny bundles, and the binary run from outside.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses its own part; a failed helper is a failed test"
)]

pub mod onnx;
pub mod reference;
pub mod spoil;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The folder of a bundle under `tests/bundles/`.
pub fn bundle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundles").join(name)
}

/// A copy of a bundle that a test may spoil; it lies in `bundle` below the returned folder.
pub fn copy_of(name: &str) -> (TempDir, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("bundle");
    copy_tree(&bundle(name), &folder);
    (temporary, folder)
}

/// Copies a folder with all that is in it.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below `folder` with its size and the time of its last change: two are equal when nothing was written between.
pub fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, std::time::SystemTime)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (metadata.len(), metadata.modified().unwrap()));
        }
    }
    found
}

/// Numbers that look random and are the same at every run (S. Vigna, 2015, splitmix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit.max(1) as u64) as usize
    }
}

/// Changes a few bytes of `bytes`: flips, overwrites, cuts, repeats, or swaps in numbers that readers stumble over.
pub fn mutate(bytes: &[u8], dice: &mut Dice) -> Vec<u8> {
    const NASTY: [&[u8]; 10] = [
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x00",
        b"-1",
        b"1e999",
        b"NaN",
        b"null",
        b"[[[[",
        b"{}",
        b"18446744073709551616",
        b"../",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = dice.below(bytes.len());
        match dice.below(6) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.roll() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + dice.below(16)).min(bytes.len()))),
            4 => drop(bytes.splice(at..at, NASTY[dice.below(NASTY.len())].iter().copied())),
            _ => {
                let part = bytes[at..(at + 32).min(bytes.len())].to_vec();
                drop(bytes.splice(at..at, part));
            }
        }
    }
    bytes
}

/// What a run of the binary left.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The same, after a look at the exit code.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {:?}\nstderr: {}", String::from_utf8_lossy(&self.stdout), self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Makes sure that the run was refused with `code` and one clear message that has all of `parts`, and printed nothing else.
    pub fn refused(self, code: i32, parts: &[&str]) {
        let ran = self.expect_code(code);
        for part in parts {
            assert!(ran.stderr.contains(part), "{:?} lacks {part:?}", ran.stderr);
        }
        assert_eq!(ran.stderr.matches("kiln: ").count(), 1, "one message: {:?}", ran.stderr);
        assert!(ran.stdout.is_empty(), "stdout: {}", String::from_utf8_lossy(&ran.stdout));
    }
}

/// The binary in `folder`, cut off from what the person who runs the tests has set.
pub fn command(folder: &Path) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_kiln")), folder)
}

/// Another copy of the binary in `folder`.
pub fn command_of(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("KILN_MODELS")
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE");
    command
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Ran {
    let output = command.output().unwrap();
    Ran { code: output.status.code(), stdout: output.stdout, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// Runs `kiln` with `arguments` in `folder`.
pub fn kiln(folder: &Path, arguments: &[&str]) -> Ran {
    run(command(folder).args(arguments))
}

/// The names of what is in `folder`, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A PNG file of a few kilobytes that says it is larger than any picture that is read.
pub fn bomb() -> Vec<u8> {
    let chunk = |kind: &[u8; 4], data: &[u8]| {
        let mut checked = kind.to_vec();
        checked.extend_from_slice(data);
        let mut sum = u32::MAX;
        for byte in &checked {
            sum ^= u32::from(*byte);
            for _ in 0..8 {
                sum = (sum >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(sum & 1));
            }
        }
        [&(data.len() as u32).to_be_bytes()[..], &checked, &(!sum).to_be_bytes()].concat()
    };
    let mut header = [30_000_u32.to_be_bytes(), 30_000_u32.to_be_bytes()].concat();
    header.extend([8, 6, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &[0; 4096]), chunk(b"IEND", &[])].concat()
}
