//! Libraries and plugins that crash or hang: `kiln doctor` and `kiln tune` say so and go on.

use std::path::Path;

use serde_json::Value;

use super::common::{kiln, names};
use super::model;
use super::runtime_library::{compiled, library};

const AT_LOADING: &str = "__attribute__((constructor)) static void start(void) { ACT }\n";
const AT_REGISTERING: &str =
    "void *CreateEpFactories(void) { ACT return 0; }\nvoid *ReleaseEpFactory(void *factory) { return factory; }\n";
/// The real ONNX Runtime with another `CreateSession`: the eighth function of its table, in every version.
const AT_OPENING: &str = "
#include <dlfcn.h>
#include <stdint.h>
#include <sys/mman.h>
typedef struct { void **(*api)(unsigned); const char *(*version)(void); } Base;
static const Base *real;
typedef void *Open(const void *, const void *, const void *, void **);
static Open *real_open;
static void *(*status)(int, const char *);
static void *open_session(const void *a, const void *b, const void *c, void **d) { ACT return real_open(a, b, c, d); }
static void **api(unsigned level) {
    void **table = real->api(level);
    if (!table) return table;
    uintptr_t page = sysconf(_SC_PAGESIZE);
    mprotect((void *)((uintptr_t)(table + 7) & ~(page - 1)), page, PROT_READ | PROT_WRITE);
    if (table[7] != (void *)open_session) real_open = (Open *)table[7];
    status = (void *(*)(int, const char *))table[0];
    table[7] = (void *)open_session;
    return table;
}
static const char *version(void) { return real->version(); }
static const Base base = { api, version };
const Base *OrtGetApiBase(void) {
    // The table outlives this library, which is opened twice.
    Dl_info own;
    dladdr((void *)open_session, &own);
    dlopen(own.dli_fname, RTLD_NOW | RTLD_NODELETE);
    real = ((const Base *(*)(void))dlsym(dlopen(REAL, RTLD_NOW), \"OrtGetApiBase\"))();
    return &base;
}
";
const ABORT: &str = "abort();";
const FAULT: &str = "*(volatile int *)0 = 1;";
const HANG: &str = "sleep(1000);";

/// A library that does `act` at a moment.
fn made(folder: &Path, name: &str, moment: &str, act: &str) {
    let real = format!("{:?}", library().display().to_string());
    let source = moment.replace("ACT", act).replace("REAL", &real);
    compiled(folder, name, &format!("#define _GNU_SOURCE\n#include <stdlib.h>\n#include <unistd.h>\n{source}"));
}

fn doctor(folder: &Path, code: i32, more: &[&str]) -> (Value, String) {
    let ran = kiln(folder, &[&["doctor", "--json"], more].concat()).expect_code(code);
    let text = kiln(folder, &[&["doctor"], more].concat()).expect_code(code);
    assert!(text.text().contains("\nboard\n") && text.text().contains("\nfree space\n"), "{}", text.text());
    (serde_json::from_str(ran.text()).unwrap(), text.text().split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn a_runtime_that_crashes_or_hangs_on_loading_is_told_and_the_doctor_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("aborts.so", ABORT, "crashed: signal 6 (SIGABRT)"),
        ("faults.so", FAULT, "crashed: signal 11 (SIGSEGV)"),
        ("hangs.so", HANG, "did not answer in 1 s"),
    ];
    for (name, act, said) in cases {
        made(folder.path(), name, AT_LOADING, act);
        let (report, text) = doctor(folder.path(), 1, &["--runtime", name, "--timeout", "1"]);
        let error = report["runtime"]["error"].as_str().unwrap();
        assert!(error.contains(name) && error.contains(said), "{error}");
        assert!(text.contains("no ONNX Runtime was loaded") && text.contains(said), "{text}");
        assert_eq!(report["can_generate"], false);
    }
}

#[test]
fn a_provider_that_crashes_or_hangs_is_told_and_the_doctor_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("aborts.so", ABORT, "crashed: signal 6 (SIGABRT)"),
        ("faults.so", FAULT, "crashed: signal 11 (SIGSEGV)"),
        ("hangs.so", HANG, "did not answer in 5 s"),
    ];
    for (name, act, said) in cases {
        made(folder.path(), name, AT_OPENING, act);
        let (report, text) = doctor(folder.path(), 1, &["--runtime", name, "--timeout", "5"]);
        assert!(report["runtime"]["version"].is_string(), "{report}");
        let cpu = &report["providers"][0];
        assert_eq!((&cpu["name"], &cpu["runs"], &cpu["probe_ms"]), (&"cpu".into(), &false.into(), &Value::Null));
        assert!(cpu["error"].as_str().unwrap().starts_with(said), "{cpu}");
        assert!(text.contains(&format!("provider cpu is there and does not run: {said}")), "{text}");
    }
    let tuned = kiln(folder.path(), &["tune", &model("gan"), "--runtime", "aborts.so", "-o", "a.json"]).expect_code(1);
    for part in ["provider cpu does not run and is left out: crashed: signal 6", "nothing was measured: no provider runs here"] {
        assert!(tuned.stderr.contains(part), "{}", tuned.stderr);
    }
    assert_eq!(names(folder.path()), cases.map(|(name, ..)| name), "nothing was written");
}

#[test]
fn a_plugin_that_crashes_or_hangs_is_told_and_the_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("loading.so", AT_LOADING, ABORT, "crashed: signal 6 (SIGABRT)"),
        ("registering.so", AT_REGISTERING, FAULT, "crashed: signal 11 (SIGSEGV)"),
        ("hanging.so", AT_REGISTERING, HANG, "did not answer in 5 s"),
    ];
    for (name, moment, act, said) in cases {
        made(folder.path(), name, moment, act);
        let (report, text) = doctor(folder.path(), 0, &["--provider-library", name, "--timeout", "5"]);
        assert!(report["plugin"]["error"].as_str().unwrap().starts_with(said), "{report}");
        assert!(text.contains(&format!("the plugin {name} cannot be used: {said}")), "{text}");
        assert_eq!((&report["providers"][0]["name"], &report["providers"][0]["runs"]), (&"cpu".into(), &true.into()));
    }
    let arguments = ["tune", &model("gan"), "--provider-library", "loading.so", "-o", "a.json"];
    kiln(folder.path(), &arguments).refused(1, &["crashed: signal 6 (SIGABRT)"]);
}

#[test]
fn a_session_that_finds_no_memory_is_opened_with_less_or_ends_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let short = "return status(1, \"std::bad_alloc\");";
    made(folder.path(), "once.so", AT_OPENING, &format!("static int times; if (times++ == 0) {short}"));
    made(folder.path(), "always.so", AT_OPENING, short);
    let model = model("gan");
    let generate =
        |library: &str| kiln(folder.path(), &["generate", "--seed", "1", "--model", &model, "--runtime", library, "-o", "a.png"]);
    let ran = generate("always.so").expect_code(1);
    assert!(ran.stderr.contains("out of memory") && ran.stderr.contains("--memory low"), "{}", ran.stderr);
    assert!(!folder.path().join("a.png").exists());
    let ran = generate("once.so").expect_code(0);
    assert!(ran.stderr.contains("opened again without an arena"), "{}", ran.stderr);
    assert!(folder.path().join("a.png").exists());
}
