//! The house rules of `ARCHITECTURE.md`, held against the sources: who may use whom, who may name what, how files look.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms of the house from the ground up, and what each uses: nothing but rooms below it, so there are no circles.
const ROOMS: [(&str, &[&str]); 19] = [
    ("error", &[]),
    ("random", &[]),
    ("ode", &["error"]),
    ("sampler", &["error"]),
    ("runtime", &["error"]),
    ("text", &["error"]),
    ("output", &["error"]),
    ("lineage", &["error", "output"]),
    ("bundle", &["error", "sampler", "runtime"]),
    ("upscale", &["error", "runtime", "output", "bundle"]),
    ("request", &["error", "ode", "random", "sampler", "text", "output", "bundle"]),
    ("plan", &["error", "ode", "runtime", "output", "bundle", "request"]),
    ("tune", &["runtime", "bundle", "plan"]),
    ("prepare", &["error", "runtime", "bundle", "plan", "tune"]),
    ("stage", &["error", "runtime", "text", "bundle", "plan"]),
    ("pipeline", &["error", "ode", "random", "sampler", "runtime", "output", "bundle", "request", "plan", "stage"]),
    ("engine", &["error", "runtime", "output", "bundle", "request", "plan", "prepare", "stage", "pipeline"]),
    ("client", &["error", "runtime"]),
    ("server", &["error", "runtime", "text", "output", "lineage", "bundle", "request", "plan", "pipeline", "engine"]),
];
/// The roof: the command line uses the whole house but for the rooms between a request and a picture.
const NOT_FOR_THE_COMMAND_LINE: [&str; 2] = ["stage", "text"];

/// Words that stand for one room alone: the word, where it may stand, why.
const WORDS: [(&str, &[&str], &str); 12] = [
    ("hyper::client", &["src/client/"], "one place opens connections"),
    ("tokio::net::TcpStream::connect", &["src/client/"], "one place opens connections"),
    ("ort::", &["src/runtime/"], "one place names ONNX Runtime"),
    ("libloading::", &["src/runtime/"], "one place loads libraries"),
    (
        "unsafe",
        &["src/runtime/library.rs", "src/main.rs"],
        "one file asks a library for its version, and the program sets its environment",
    ),
    ("image::", &["src/output/"], "one place knows picture formats"),
    ("png::", &["src/output/"], "one place knows picture formats"),
    ("gif::", &["src/output/"], "one place knows picture formats"),
    ("clap::", &["src/cli/"], "one place knows arguments"),
    ("println!", &["src/cli/"], "one place prints"),
    ("print!", &["src/cli/"], "one place prints"),
    ("std::process::exit", &["src/cli/"], "one place ends the program"),
];
/// Words that stand nowhere outside tests.
const NOWHERE: [&str; 8] = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "dbg!(", "eprintln!(", "eprint!("];

/// Files that may be longer than [`LONGEST_FILE_LINES`], each with the reason.
const LONG_FILES: [(&str, &str); 0] = [];
const LONGEST_FILE_LINES: usize = 400;

/// Crates that open connections, or are there for nothing else.
const CONNECTED: [&str; 13] = [
    "reqwest",
    "ureq",
    "hyper-tls",
    "hyper-rustls",
    "curl",
    "attohttpc",
    "isahc",
    "minreq",
    "hf-hub",
    "rustls",
    "native-tls",
    "openssl-sys",
    "tungstenite",
];

struct Source {
    /// Path from the repository's root, with slashes.
    path: String,
    text: String,
    /// The text without comments and without the tests at its end.
    code: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
                let code = without_comments(text.split("\n#[cfg(test)]\nmod tests").next().unwrap());
                found.push(Source { path, text, code });
            }
        }
    }
    assert!(found.len() > 60, "{} sources were found", found.len());
    found
}

/// Takes away what stands behind `//`; a `//` within a string goes too, which hides nothing that a rule looks for.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The room that a source belongs to: its folder under `src/`, or its own name.
fn room(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap();
    inner.split('/').next().unwrap().trim_end_matches(".rs")
}

/// Where `word` stands in `code` as a word of its own.
fn places(code: &str, word: &str) -> usize {
    let joins = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word)
        .filter(|(at, _)| !word.starts_with(joins) || !code[..*at].ends_with(|letter: char| joins(letter) || letter == ':'))
        .filter(|(at, _)| !word.ends_with(joins) || !code[at + word.len()..].starts_with(joins))
        .count()
}

/// The rooms that `code` names behind `crate::`; the macros of refusals are the errors' room.
fn uses(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut note = |path: &str| {
        let name: String = path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        if !name.is_empty() {
            found.insert(if matches!(name.as_str(), "refuse" | "refusal") { "error".to_owned() } else { name });
        }
    };
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('$')) {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => note(rest),
            Some(group) => {
                let mut depth = 0;
                let mut begun = 0;
                for (position, letter) in group.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth > 0 => depth -= 1,
                        ',' | '}' if depth == 0 => {
                            note(&group[begun..position]);
                            begun = position + 1;
                            if letter == '}' {
                                break;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn each_room_uses_only_rooms_below_it() {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        let room = room(&source.path).to_owned();
        let mut rooms = uses(&source.code);
        rooms.remove(&room);
        used.entry(room).or_default().extend(rooms);
    }
    let names: Vec<&str> = ROOMS.iter().map(|(name, _)| *name).collect();
    for (floor, (name, allowed)) in ROOMS.iter().enumerate() {
        for below in *allowed {
            assert!(names[..floor].contains(below), "the table lets `{name}` use `{below}`, which does not stand below it");
        }
        let found = used.remove(*name).unwrap_or_else(|| panic!("there is no room `{name}`"));
        let allowed: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        let more: Vec<_> = found.difference(&allowed).collect();
        assert!(more.is_empty(), "`{name}` uses {more:?}, which it may not; see the table in tests/layout.rs");
        let less: Vec<_> = allowed.difference(&found).collect();
        assert!(less.is_empty(), "`{name}` uses {less:?} no more: take it out of the table in tests/layout.rs");
    }
    let of_roof = used.remove("cli").unwrap();
    for name in &of_roof {
        assert!(names.contains(&name.as_str()) && !NOT_FOR_THE_COMMAND_LINE.contains(&name.as_str()), "`cli` uses `{name}`");
    }
    assert_eq!(used.keys().collect::<Vec<_>>(), ["lib", "main"], "rooms that the table does not know");
}

#[test]
fn the_reader_of_uses_sees_every_form() {
    let code = "use crate::a::{b, c};\nuse crate::{d, e::{f, g}, refuse};\nlet x = crate::h::i();\n$crate::j::k; /* */ crate::refusal!(1)";
    let expected = ["a", "d", "e", "error", "h"].map(str::to_owned);
    assert_eq!(uses(code), expected.into());
    assert_eq!(places("use ort::x; sort::y; crate::ort::z", "ort::"), 1);
    assert_eq!(places("eprintln!(); println!()", "println!"), 1);
    assert_eq!(places("unsafe_op unsafe {", "unsafe"), 1);
}

#[test]
fn each_word_stands_in_its_own_room() {
    let sources = sources();
    for (word, folders, why) in WORDS {
        let mut at_home = 0;
        for source in &sources {
            let count = places(&source.code, word);
            let allowed = folders.iter().any(|folder| source.path.starts_with(folder));
            assert!(allowed || count == 0, "{} names `{word}`, which only {folders:?} may: {why}", source.path);
            at_home += count;
        }
        // The command line prints through one function, which may or may not be a macro.
        assert!(
            at_home > 0 || word.ends_with("print!") || word.ends_with("println!"),
            "`{word}` stands nowhere: take it out of the table"
        );
    }
    for word in NOWHERE {
        for source in &sources {
            assert_eq!(places(&source.code, word), 0, "{} holds `{word}` outside its tests", source.path);
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    for source in sources() {
        let lines = source.text.lines().count();
        let reason = LONG_FILES.iter().find(|(path, _)| *path == source.path);
        match reason {
            None => {
                assert!(lines <= LONGEST_FILE_LINES, "{} has {lines} lines, expected at most {LONGEST_FILE_LINES}", source.path)
            }
            Some(_) => assert!(lines > LONGEST_FILE_LINES, "{} has {lines} lines: it needs no exception", source.path),
        }
        let first = source.text.lines().next().unwrap();
        // The crate's own page is the README.
        let says = first.starts_with("//! ") || (source.path == "src/lib.rs" && first.starts_with("#![doc = include_str!"));
        assert!(says, "{} begins with {first:?}, expected `//!` and what it is for", source.path);
    }
}

#[test]
fn tests_are_at_the_end_of_their_file() {
    for source in sources() {
        let code = source.text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        assert!(!code.contains("#[test]"), "{} has a test outside `mod tests`, where the rules would not see it", source.path);
        let after = source.text.split("\n#[cfg(test)]\nmod tests").nth(1).unwrap_or_default();
        let outside = after.lines().skip_while(|line| *line != "}").skip(1).find(|line| !line.trim().is_empty());
        assert_eq!(outside, None, "{} has code behind its tests, where the rules do not see it", source.path);
    }
}

/// The text of a source without the signs that begin its comments, on one line.
fn prose(text: &str) -> String {
    let words = |line: &str| line.trim_start().trim_start_matches(['/', '!', '*']).trim().to_owned();
    text.lines().map(words).collect::<Vec<_>>().join(" ")
}

#[test]
fn papers_are_cited_as_the_family_tree_cites_them() {
    let tree: toml::Table = fs::read_to_string(root().join("models/lineage.toml")).unwrap().parse().unwrap();
    let mut texts: Vec<(String, String)> = sources().into_iter().map(|source| (source.path, prose(&source.text))).collect();
    for folder in ["lineage", "sticker", "sticker-motion"].map(|name| root().join("models/recipes").join(name)) {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let scripts = files.filter(|path| path.extension().is_some_and(|extension| extension == "py"));
        texts.extend(scripts.map(|path| (path.display().to_string(), prose(&fs::read_to_string(path).unwrap()))));
    }
    let mut cited = 0;
    for algorithm in tree["algorithm"].as_array().unwrap() {
        let paper = |key: &str| algorithm["paper"].get(key).and_then(toml::Value::as_str);
        let Some(number) = paper("arxiv") else { continue };
        let title = paper("title").unwrap().to_lowercase();
        let first_author = paper("authors").unwrap().split(',').next().unwrap();
        for (path, text) in &texts {
            for (at, _) in text.match_indices(&format!("arXiv:{number}")) {
                // Elsewhere the number stands alone, or behind a year.
                let Some((before, said)) = text[..at].strip_suffix("\", ").and_then(|before| before.rsplit_once('"')) else {
                    continue;
                };
                // A title may be cut at its colon.
                assert!(title.starts_with(&said.to_lowercase()), "{path} calls arXiv:{number} {said:?}, the tree {title:?}");
                let before = before.trim_end_matches([',', ' ']);
                let year = algorithm["year"].to_string();
                assert!(before.ends_with(&year), "{path} dates arXiv:{number} other than {year}");
                let near: String = before.chars().rev().take(160).collect::<Vec<_>>().into_iter().rev().collect();
                assert!(near.contains(first_author), "{path} does not name {first_author} before arXiv:{number}");
                cited += 1;
            }
        }
    }
    assert!(cited >= 25, "{cited} citations were compared");
}

#[test]
fn nothing_in_the_tree_opens_connections() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let names: BTreeSet<&str> = lock.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
    assert!(names.contains("kiln") && names.contains("ort"), "Cargo.lock was read");
    for name in CONNECTED {
        assert!(
            !names.contains(name),
            "Cargo.lock holds `{name}`, and nothing but `kiln generate --server` may open a connection"
        );
    }
}
