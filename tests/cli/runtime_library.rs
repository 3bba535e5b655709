//! Where the ONNX Runtime library is looked for, in which order, and what is said of one that will not do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::common::{Ran, command, command_of, names, run};
use super::model;

/// The library that the tests run with.
pub(super) fn library() -> PathBuf {
    let named = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|path| path.is_file());
    let beside = Path::new(env!("CARGO_BIN_EXE_kiln")).with_file_name("libonnxruntime.so");
    named.unwrap_or_else(|| fs::canonicalize(beside).expect("build.rs lays the library beside the binary"))
}

/// The arguments of a small run.
fn arguments(model: &str) -> Vec<&str> {
    vec!["generate", "a", "--seed", "1", "--model", model, "--output", "a.png"]
}

/// Runs with `--runtime file`, or with `file` in `ORT_DYLIB_PATH`.
fn with_library(folder: &Path, file: &str, named: bool) -> Ran {
    let model = model("sd_turbo");
    let mut command = command(folder);
    command.args(arguments(&model));
    if named {
        command.args(["--runtime", file]).env_remove("ORT_DYLIB_PATH")
    } else {
        command.env("ORT_DYLIB_PATH", file)
    };
    run(&mut command)
}

/// A library made by the C compiler, which any machine that builds Rust has.
pub(super) fn compiled(folder: &Path, name: &str, source: &str) {
    let file = folder.join(format!("{name}.c"));
    fs::write(&file, source).unwrap();
    let status = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(folder.join(name)).arg(&file).status().unwrap();
    assert!(status.success());
    fs::remove_file(file).unwrap();
}

/// A library that says it is ONNX Runtime `version`, and gives no interface.
fn pretender(folder: &Path, name: &str, version: &str) {
    let source = format!(
        "static const void *get_api(unsigned level) {{ (void)level; return 0; }}\n\
         static const char *get_version(void) {{ return {version}; }}\n\
         static const struct {{ const void *(*api)(unsigned); const char *(*version)(void); }} base = {{ get_api, get_version }};\n\
         const void *OrtGetApiBase(void) {{ return &base; }}\n"
    );
    compiled(folder, name, &source);
}

#[test]
fn a_library_that_will_not_do_is_one_clear_message() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("text.so"), "this is no library\n").unwrap();
    fs::write(path.join("empty.so"), "").unwrap();
    fs::write(path.join("cut.so"), &fs::read(library()).unwrap()[..100_000]).unwrap();
    fs::create_dir(path.join("folder.so")).unwrap();
    compiled(path, "other.so", "int nothing(void) { return 0; }\n");
    compiled(path, "null.so", "const void *OrtGetApiBase(void) { return 0; }\n");
    pretender(path, "old.so", "\"1.16.3\"");
    pretender(path, "hollow.so", "\"1.31.1\"");
    pretender(path, "strange.so", "\"latest\"");
    pretender(path, "binary.so", "\"\\xff\\xfe\"");
    pretender(path, "nameless.so", "0");
    let cases: [(&str, &str); 12] = [
        ("missing.so", "is not there"),
        ("folder.so", "is not a file"),
        ("text.so", "text.so"),
        ("empty.so", "empty.so"),
        ("cut.so", "is cut off: it has 100000 bytes"),
        ("other.so", "is a library, but not ONNX Runtime"),
        ("null.so", "gives nothing"),
        ("old.so", "is ONNX Runtime 1.16.3, which is older than 1.22"),
        ("hollow.so", "has no interface of 1.22"),
        ("strange.so", "is a library of version `latest`"),
        ("binary.so", "is a library of version"),
        ("nameless.so", "is a library without a version"),
    ];
    let before = names(path);
    for (file, part) in cases {
        let expected = "expected an ONNX Runtime library, 1.22 or newer";
        with_library(path, file, true).refused(2, &[&format!("--runtime {file}: "), part, expected]);
        with_library(path, file, false).refused(2, &[&format!("ORT_DYLIB_PATH={file}: "), part, expected]);
    }
    let mut version = command(path);
    let ran = run(version.args(["--version", "--runtime", "text.so"])).expect_code(2);
    assert!(ran.stderr.contains("--runtime text.so"), "{}", ran.stderr);
    assert_eq!(names(path), before, "nothing was written");
}

#[test]
fn the_argument_stands_before_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (model, library) = (model("sd_turbo"), library());
    let mut right = command(folder.path());
    right.args(arguments(&model)).arg("--runtime").arg(&library).env("ORT_DYLIB_PATH", "missing.so");
    run(&mut right).expect_code(0);
    let mut wrong = command(folder.path());
    wrong.args(arguments(&model)).args(["--runtime", "missing.so"]).env("ORT_DYLIB_PATH", &library);
    run(&mut wrong).refused(2, &["--runtime missing.so"]);
    let mut empty = command(folder.path());
    // A variable that is set to nothing is not set.
    empty.args(["--version"]).env("ORT_DYLIB_PATH", "");
    run(&mut empty).expect_code(0);
}

/// A copy of the binary at `place` under `folder`, with no library anywhere but where a test puts it.
fn lonely(folder: &Path, place: &str) -> PathBuf {
    let binary = folder.join(place);
    fs::create_dir_all(binary.parent().unwrap()).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_kiln"), &binary).unwrap();
    binary
}

fn alone(binary: &Path, folder: &Path, arguments: &[&str]) -> Ran {
    run(command_of(binary, folder).args(arguments).env_remove("ORT_DYLIB_PATH").env_remove("LD_LIBRARY_PATH"))
}

#[test]
fn without_a_library_the_message_lists_where_it_looked() {
    let folder = tempfile::tempdir().unwrap();
    let binary = lonely(folder.path(), "bin/kiln");
    let model = model("sd_turbo");
    let ran = alone(&binary, folder.path(), &arguments(&model));
    if ran.code == Some(0) {
        println!("skipped: this system has an ONNX Runtime of its own");
        return;
    }
    let ran = ran.expect_code(1);
    for part in [
        "no ONNX Runtime library (1.22 or newer)",
        "bin/libonnxruntime.so: is not there",
        "../lib/kiln/libonnxruntime.so: ",
        "--runtime FILE",
    ] {
        assert!(ran.stderr.contains(part), "{} lacks {part:?}", ran.stderr);
    }
    assert_eq!(names(folder.path()), ["bin"]);
    let ran = alone(&binary, folder.path(), &["--version"]).expect_code(0);
    assert!(ran.text().contains("onnxruntime not found (expected 1.22 or newer)"), "{}", ran.text());
    // What needs no library works without.
    alone(&binary, folder.path(), &["inspect", &model]).expect_code(0);
}

#[test]
fn the_library_is_found_beside_the_binary_and_where_packages_put_it() {
    let (model, library) = (model("sd_turbo"), library());
    for place in
        ["bin/libonnxruntime.so", "bin/libonnxruntime.so.1", "lib/kiln/libonnxruntime.so", "lib/kiln/libonnxruntime.so.1"]
    {
        let folder = tempfile::tempdir().unwrap();
        let binary = lonely(folder.path(), "bin/kiln");
        let laid = folder.path().join(place);
        fs::create_dir_all(laid.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(&library, &laid).unwrap();
        // Run through a link from elsewhere, as packages do.
        let link = folder.path().join("kiln-link");
        std::os::unix::fs::symlink(&binary, &link).unwrap();
        for binary in [&binary, &link] {
            alone(binary, folder.path(), &arguments(&model)).expect_code(0);
        }
        let ran = alone(&binary, folder.path(), &["--version"]).expect_code(0);
        assert!(ran.text().contains(place.rsplit('/').next().unwrap()), "{place}: {}", ran.text());
    }
}

#[test]
fn a_broken_library_beside_the_binary_gives_way_to_a_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let binary = lonely(folder.path(), "bin/kiln");
    fs::write(folder.path().join("bin/libonnxruntime.so"), "no library").unwrap();
    fs::create_dir_all(folder.path().join("lib/kiln")).unwrap();
    std::os::unix::fs::symlink(library(), folder.path().join("lib/kiln/libonnxruntime.so")).unwrap();
    let model = model("sd_turbo");
    alone(&binary, folder.path(), &arguments(&model)).expect_code(0);
}

/// From 1.29 on the library gathers what it would send in a database in the user's cache, unless it is told not to before it is loaded.
#[test]
fn nothing_is_gathered_of_who_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let homes = ["XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "HOME", "TMPDIR"];
    let in_folder = |arguments: &[&str]| {
        run(command(here).args(arguments).envs(homes.map(|name| (name, here))).env_remove("ORT_DISABLE_TELEMETRY"))
    };
    for arguments in
        [&["--version"][..], &["doctor"], &["generate", "--model", &model("gan"), "--seed", "7", "--output", "a.png"]]
    {
        in_folder(arguments).expect_code(0);
    }
    assert_eq!(names(here), ["a.png"]);
}
