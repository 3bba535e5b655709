//! `kiln plan` and budgets: what gives way, what is refused before anything is loaded, and that a plan is carried out.

use serde_json::Value;

use super::common::{self, command, kiln, names, run};
use super::{generate, model};

fn planned(folder: &std::path::Path, name: &str, more: &[&str]) -> Value {
    let model = model(name);
    let mut arguments = vec!["plan", "a red apple", "--json", "--threads", "1", "--model", &model];
    arguments.extend(more);
    serde_json::from_slice(&kiln(folder, &arguments).expect_code(0).stdout).unwrap()
}

fn because(plan: &Value, what: &str) -> String {
    let decisions = plan["decisions"].as_array().unwrap();
    let found = decisions.iter().find(|decision| decision["what"] == what).unwrap();
    found["because"].as_str().unwrap().to_owned()
}

#[test]
fn what_gives_way_first_is_residence_then_the_whole_picture_then_nothing_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let free = planned(here, "sd_turbo", &["--size", "256x256"]);
    assert_eq!((free["memory"].as_str(), free["tile"].is_null()), (Some("normal"), true));
    let whole = free["expected_memory_bytes"].as_u64().unwrap();
    let mut seen = Vec::new();
    for share in (20..=105).rev().step_by(5) {
        let budget = format!("{}KiB", whole / 1024 * share / 100);
        let model = model("sd_turbo");
        let arguments =
            ["plan", "a red apple", "--json", "--threads", "1", "--model", &model, "--size", "256x256", "--memory", &budget];
        let ran = kiln(here, &arguments);
        if ran.code == Some(2) {
            break;
        }
        let plan: Value = serde_json::from_slice(&ran.expect_code(0).stdout).unwrap();
        assert!(plan["expected_memory_bytes"].as_u64().unwrap() <= whole * share / 100);
        assert_eq!((plan["width"].as_u64(), plan["steps"].as_u64()), (Some(256), free["steps"].as_u64()));
        if plan["memory"] == "low" {
            assert!(because(&plan, "components").contains("instead of stay resident"), "{plan}");
        }
        seen.push((plan["memory"] == "low", !plan["tile"].is_null()));
    }
    let mut ordered = seen.clone();
    ordered.sort_unstable();
    assert_eq!(seen, ordered, "less memory never gives more back");
    assert!(seen.contains(&(false, false)) && seen.contains(&(true, false)), "{seen:?}");
}

#[test]
fn a_plan_out_of_budget_is_refused_before_a_session_is_opened_and_names_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = model("sd_turbo");
    for verb in ["plan", "generate"] {
        let arguments = [verb, "a red apple", "--model", &bundle, "--size", "512x512", "--memory", "200MiB"];
        let ran = kiln(folder.path(), &arguments).expect_code(2);
        assert!(ran.stderr.contains("of memory where 200MiB are allowed"), "{}", ran.stderr);
        assert!(ran.stderr.contains("the nearest that fits: the same with `--size "), "{}", ran.stderr);
        let ran = kiln(folder.path(), &[verb, "a red apple", "--model", &bundle, "--memory", "1MiB"]).expect_code(2);
        assert!(ran.stderr.contains("the least that this model takes is"), "{}", ran.stderr);
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_time_refuses_once_it_was_measured_and_warns_before() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = model("gan");
    let with_cache = |arguments: &[&str]| {
        let here = folder.path();
        run(command(here).env("XDG_CACHE_HOME", here.join("cache")).args(arguments))
    };
    for verb in ["plan", "generate"] {
        let ran = with_cache(&[verb, "--model", &bundle, "--within", "1ms"]).expect_code(0);
        assert_eq!(ran.stderr.matches("`within_s`): 1ms may not be enough").count(), 1, "{}", ran.stderr);
    }
    let plan = |arguments: &[&str]| -> Value { serde_json::from_slice(&with_cache(arguments).expect_code(0).stdout).unwrap() };
    with_cache(&["tune", &bundle, "--runs", "1"]).expect_code(0);
    let before = names(folder.path());
    let measured = plan(&["tune", &bundle, "--json"]);
    for memory in ["normal", "low"] {
        let found = plan(&["plan", "--model", &bundle, "--memory", memory, "--json"]);
        let networks = found["networks_time_ms"].as_f64().unwrap();
        let around = measured["measurements"]["around"][format!("{memory}_ms")].as_f64().unwrap();
        let expected = found["expected_time_ms"].as_f64().unwrap();
        assert!((networks + around - expected).abs() < 0.01, "{memory}: {networks} + {around} is not {expected}");
    }
    for verb in ["plan", "generate"] {
        let ran = with_cache(&[verb, "--model", &bundle, "--within", "1ms"]).expect_code(2);
        assert!(ran.stderr.contains("where 1ms are allowed (measured on this device)"), "{}", ran.stderr);
        assert!(ran.stderr.contains("another model may do"), "{}", ran.stderr);
    }
    assert_eq!(names(folder.path()), before);
}

#[test]
fn a_plan_takes_what_generate_takes() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    generate(here, "sd", &["--output", "first.png"]).expect_code(0);
    let plan = planned(
        here,
        "sd",
        &["--input", "first.png", "--strength", "0.5", "--sampler", "euler", "--provider", "cpu", "--precision", "f32"],
    );
    let roles: Vec<&str> = plan["components"].as_array().unwrap().iter().map(|found| found["role"].as_str().unwrap()).collect();
    assert!(roles.contains(&"vae_encoder"), "{roles:?}");
    assert!(plan["sampler"].as_str().unwrap().contains("euler"), "{plan}");
    assert_eq!(because(&plan, "provider"), "asked for");
    let again: Value =
        serde_json::from_slice(&kiln(here, &["plan", "--from", "first.png", "--json"]).expect_code(0).stdout).unwrap();
    assert_eq!((again["model"].as_str(), again["width"].as_u64()), (Some("sd"), Some(64)));
    let model = model("sd");
    for (arguments, part) in [
        (["--provider", "abacus"], "there is no provider `abacus`"),
        (["--precision", "int8"], "only f32"),
        (["--sampler", "abacus"], "--sampler"),
        (["--provider-library", "missing.so"], "missing.so"),
    ] {
        kiln(here, &["plan", "x", "--model", &model, arguments[0], arguments[1]]).refused(2, &[part]);
    }
}

#[test]
fn a_preview_decoder_counts_where_there_is_a_preview() {
    let (_kept, bundle) = common::copy_of("sd");
    common::copy_tree(&bundle.join("vae_decoder"), &bundle.join("preview_decoder"));
    let folder = tempfile::tempdir().unwrap();
    let roles = |more: &[&str]| {
        let mut arguments = vec!["plan", "x", "--json", "--model", bundle.to_str().unwrap()];
        arguments.extend(more);
        let plan: Value = serde_json::from_slice(&kiln(folder.path(), &arguments).expect_code(0).stdout).unwrap();
        let role = |found: &Value| (found["role"].as_str().unwrap().to_owned(), found["calls"].as_u64().unwrap());
        plan["components"].as_array().unwrap().iter().map(role).collect::<std::collections::BTreeMap<_, _>>()
    };
    let (without, with) = (roles(&[]), roles(&["--preview", "seen.png"]));
    assert!(!without.contains_key("preview_decoder"));
    assert_eq!(with["preview_decoder"], with["unet"]);
    assert!(names(folder.path()).is_empty(), "a plan writes nothing");
}

#[test]
fn a_picture_beyond_all_memory_is_planned_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["plan", "x", "--model", &model("sd_turbo"), "--size", "4096x4096"];
    let ran = kiln(folder.path(), &arguments).expect_code(0);
    assert_eq!(ran.stderr.matches("memory: this picture takes ").count(), 1, "{}", ran.stderr);
    let asked = run(command(folder.path()).args(arguments).args(["--memory", "normal"])).expect_code(0);
    assert!(!asked.stderr.contains("are free"), "{}", asked.stderr);
}

#[test]
fn the_nearest_plan_is_what_was_asked_with_the_flags_that_change() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    let asked = ["generate", "it's", "--model", &model, "--seed", "9", "--memory", "200MiB"];
    let ran = run(command(folder.path()).args(asked).args(["--size", "512x512"])).expect_code(2);
    let flags = ran.stderr.split("the same with `").nth(1).unwrap().split('`').next().unwrap();
    for other in ["it's", "--model", "--seed", "--memory"] {
        assert!(!flags.contains(other), "{flags}");
    }
    run(command(folder.path()).args(asked).args(flags.split(' ')).args(["--output", "near.png"])).expect_code(0);
    assert_eq!(kiln::output::read(&folder.path().join("near.png")).unwrap().1.unwrap().seed, 9);
}

#[test]
fn a_time_that_was_not_measured_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    for verb in ["plan", "generate"] {
        let ran = run(command(folder.path())
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .args([verb, "x", "--model", &model, "--within", "1000s"]));
        let ran = ran.expect_code(0);
        assert_eq!(ran.stderr.matches("the time is an estimate").count(), 1, "{}", ran.stderr);
        let free = kiln(folder.path(), &[verb, "x", "--model", &model]).expect_code(0);
        assert!(!free.stderr.contains("estimate"), "{}", free.stderr);
    }
}

#[test]
fn a_library_that_was_named_and_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    kiln(folder.path(), &["plan", "x", "--model", &model, "--runtime", "missing.so"]).refused(2, &["--runtime missing.so"]);
    run(command(folder.path()).args(["plan", "x", "--model", &model]).env("ORT_DYLIB_PATH", "missing.so"))
        .refused(2, &["ORT_DYLIB_PATH=missing.so"]);
}

#[test]
fn a_name_cannot_paint_on_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    common::copy_tree(&common::bundle("sd"), &folder.path().join("a\u{1b}[2Jb"));
    let ran = kiln(folder.path(), &["plan", "x", "--model", "a\u{1b}[2Jb"]).expect_code(0);
    assert!(ran.text().contains("a\\u{1b}[2Jb") && !ran.text().contains('\u{1b}'), "{:?}", ran.text());
}

#[test]
fn a_budget_is_carried_out_and_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    generate(here, "sd_turbo", &["--size", "512x512", "--memory", "250MiB", "--may-shrink", "--output", "small.png"])
        .expect_code(0);
    let made = kiln::output::read(&here.join("small.png")).unwrap().1.unwrap();
    assert!(made.width < 512, "{}", made.width);
    generate(here, "sd_turbo", &["--memory", "2GiB", "--within", "1000s", "--output", "free.png"]).expect_code(0);
    assert_eq!(kiln::output::read(&here.join("free.png")).unwrap().1.unwrap().memory, "normal");
}

#[test]
fn budgets_that_are_none_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for (flag, texts, part) in [
        (
            "--memory",
            ["0GiB", "-1GiB", "NaNGiB", "1e99GiB", "2", "lots"],
            "such as 2GiB, 900MB or 1G (which is 1GiB), or low or normal",
        ),
        ("--within", ["0s", "-1s", "NaNs", "1e99s", "2", "soon"], "such as 500ms, 2s, 2min or 1m30s"),
    ] {
        for text in texts {
            for verb in ["plan", "generate"] {
                let argument = format!("{flag}={text}");
                let refused = kiln(folder.path(), &[verb, "x", "--model", &model("sd_turbo"), &argument]).expect_code(2);
                assert!(refused.stderr.contains(part), "{argument}: {}", refused.stderr);
                ran += 1;
            }
        }
    }
    assert_eq!(ran, 24);
}

#[test]
fn budgets_are_written_in_many_ways_and_stand_on_their_own_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for (memory, time, read) in [("1G", "1m30s", "1024MiB"), ("1g", "90s", "1024MiB"), ("1GB", "1min", "954MiB")] {
        let planned = kiln(folder.path(), &["plan", "x", "--model", &model("sd_turbo"), "--memory", memory, "--within", time]);
        let planned = planned.expect_code(0);
        let text = planned.text();
        let line = |begin: &str| text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{text}")).to_owned();
        assert!(line("memory allowed").contains(read) && line("memory allowed").ends_with("--memory"), "{text}");
        assert!(line("time allowed").ends_with("--within"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        ran += 1;
    }
    assert_eq!(ran, 3);
}

#[test]
fn a_request_is_warned_of_once_however_many_plans_were_tried() {
    let folder = tempfile::tempdir().unwrap();
    for verb in ["plan", "generate"] {
        let mut arguments =
            vec!["--model", "MODEL", "--size", "512x512", "--memory", "250MiB", "--may-shrink", "--negative", "blue"];
        let model = model("sd_turbo");
        arguments[1] = &model;
        let ran = run(command(folder.path()).args([verb, "x"]).args(arguments)).expect_code(0);
        assert_eq!(ran.stderr.matches("the negative prompt has no effect").count(), 1, "{}", ran.stderr);
    }
}

#[test]
fn a_model_in_the_place_of_a_prompt_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let told = |arguments: &[&str]| kiln(here, arguments).expect_code(0).stderr.contains("is the name of a model");
    assert!(told(&["plan", "gan"]));
    let sd = model("sd");
    assert!(!told(&["plan", "gan", "--model", &sd]) && !told(&["plan", "a red apple"]));
}
