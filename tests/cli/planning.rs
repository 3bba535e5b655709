//! `kiln plan` and budgets: what gives way, what is refused before anything is loaded, and that a plan is carried out.

use std::fs;

use serde_json::Value;

use super::common::{self, kiln, names};
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
        assert!(ran.stderr.contains("the nearest that fits: kiln generate 'a red apple'"), "{}", ran.stderr);
        let ran = kiln(folder.path(), &[verb, "a red apple", "--model", &bundle, "--memory", "1MiB"]).expect_code(2);
        assert!(ran.stderr.contains("the least that this model takes is"), "{}", ran.stderr);
        let ran = kiln(folder.path(), &[verb, "a red apple", "--model", &bundle, "--within", "1ms"]).expect_code(2);
        assert!(ran.stderr.contains("where 1ms are allowed") && ran.stderr.contains("another model may do"), "{}", ran.stderr);
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn the_nearest_plan_is_a_command_that_works() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    let ran =
        kiln(folder.path(), &["generate", "it's", "--model", &model, "--size", "512x512", "--memory", "200MiB"]).expect_code(2);
    let command = ran.stderr.split("the nearest that fits: kiln ").nth(1).unwrap().trim();
    let script = format!("exec \"$0\" {command} --output near.png");
    let mut shell = std::process::Command::new("sh");
    shell.current_dir(folder.path()).args(["-c", &script, env!("CARGO_BIN_EXE_kiln")]);
    common::run(&mut shell).expect_code(0);
    assert!(fs::read(folder.path().join("near.png")).unwrap().starts_with(b"\x89PNG"));
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
        ("--memory", ["0GiB", "-1GiB", "NaNGiB", "1e99GiB", "2", "lots"], "such as 2GiB or 900MiB, or low or normal"),
        ("--within", ["0s", "-1s", "NaNs", "1e99s", "2", "soon"], "such as 300ms or 2s"),
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
