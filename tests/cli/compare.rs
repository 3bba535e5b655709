//! `kiln compare`: the table, the contact sheet, the choice for a given time.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::away;
use super::common::{Ran, bundle, copy_tree, names, run};
use super::stopping::{handles_interrupts, send, wait};

/// `kiln compare` in `folder`, with a shelf of these bundles.
fn compare(folder: &Path, bundles: &[&str], arguments: &[&str]) -> Ran {
    let shelf = folder.join("shelf");
    for name in bundles {
        copy_tree(&bundle(name), &shelf.join(name));
    }
    run(away(folder).arg("compare").args(arguments))
}

#[test]
fn families_are_measured_on_the_same_seeds_and_drawn_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let bundles = ["vae", "gan", "flow", "ddpm", "progressive", "consistency", "judge", "real"];
    let named = ["vae", "gan", "flow", "ddim", "progressive", "consistency"];
    let options = ["--count", "8", "--likelihoods", "2", "--json", "--output", "sheet.svg"];
    let ran = compare(folder.path(), &bundles, &[&named[..], &options].concat()).expect_code(0);
    let value: Value = serde_json::from_str(ran.text()).unwrap();
    let rows = value["rows"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name}: {}", ran.text()));
    assert_eq!(rows.len(), 12, "{}", ran.text());
    assert_eq!(value["left_out"], serde_json::json!([]));
    for (name, calls) in [("vae", 1.0), ("gan", 2.0), ("ddpm ddim 50", 50.0), ("ddpm ddim 10", 10.0), ("progressive 1", 1.0)] {
        assert_eq!(row(name)["calls"], calls, "{name}");
    }
    for row in rows {
        let quality = &row["quality"];
        assert!(quality["sliced_wasserstein"].as_f64().unwrap() > 0.0 && quality["kernel_distance"].is_f64(), "{row}");
        assert!((0.0..=1.0).contains(&quality["precision"].as_f64().unwrap()), "{row}");
        assert!(row["picture_ms"].as_f64().unwrap() > 0.0 && row["peak_memory_bytes"].as_u64().unwrap() > 1_000_000, "{row}");
        let has_likelihood = ["vae", "flow"].contains(&row["name"].as_str().unwrap());
        assert_eq!(row["bits_per_dimension"].is_f64(), has_likelihood, "{row}");
    }
    assert_eq!((&row("vae")["likelihood"], &row("flow")["likelihood"]), (&"lower bound".into(), &"exact".into()));
    assert!(value["real"]["kernel_distance"].is_f64());
    let sheet = fs::read_to_string(folder.path().join("sheet.svg")).unwrap();
    assert_eq!(sheet.matches("data:image/png;base64,").count(), 12 * 8 + 8, "eight of each row and eight real ones");
    assert_eq!(names(folder.path()), ["bin", "sheet.svg", "shelf"]);
    // The same seeds give the same pictures, and so the same distances.
    let again = compare(folder.path(), &[], &[&["gan"][..], &["--count", "8", "--json"]].concat()).expect_code(0);
    let again: Value = serde_json::from_str(again.text()).unwrap();
    assert_eq!(again["rows"][1]["quality"], row("gan")["quality"]);
}

#[test]
fn the_table_fits_and_a_given_time_gives_a_choice_with_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let bundles = ["vae", "gan", "progressive", "judge", "real"];
    let ran = compare(folder.path(), &bundles, &["--count", "8", "--within", "10s"]).expect_code(0);
    assert!(ran.text().lines().take(8).all(|line| line.chars().count() <= 84), "{}", ran.text());
    for part in ["real stickers", "progressive 8", "take  ", "nearest to the real pictures", "try       kiln generate --model"] {
        assert!(ran.text().contains(part), "{part}: {}", ran.text());
    }
    let ran = compare(folder.path(), &[], &["--count", "8", "--within", "0.001ms", "vae", "gan"]).expect_code(0);
    assert!(ran.text().contains("No branch keeps to 0.0 ms here; the quickest is"), "{}", ran.text());
}

#[test]
fn what_is_missing_or_wrong_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let alone = |arguments: &[&str]| compare(folder.path(), &["gan"], arguments);
    alone(&["vae"]).refused(2, &["none of the bundles is there (vae)"]);
    alone(&["bayes"]).refused(2, &["no bundle shows bayes"]);
    alone(&["gam"]).refused(2, &["the tree has no \"gam\"", "gan"]);
    alone(&["gan", "--within", "300ms"]).refused(2, &["--within", "judge and real are not among the models"]);
    let ran = alone(&["gan", "--provider", "cuda"]).expect_code(2);
    assert!(ran.stderr.contains("nothing is left to compare: --provider: cuda is not in ONNX Runtime"), "{}", ran.stderr);
    alone(&["gan", "--output", "sheet.png"]).refused(2, &["expected a name that ends in .svg"]);
    alone(&["gan", "--output", "nowhere/sheet.svg"]).refused(2, &["expected a file in a folder that is there"]);
    assert_eq!(alone(&["gan", "--within", "300"]).code, Some(2));
    // Without a judge there are times and no distances.
    let ran = alone(&["gan", "--count", "8"]).expect_code(0);
    assert!(ran.stderr.contains("distances are not measured") && ran.text().contains("gan 0.7"), "{}", ran.text());
    // A bundle that fails costs its own row only.
    copy_tree(&bundle("vae"), &folder.path().join("shelf/vae"));
    fs::write(folder.path().join("shelf/vae/decoder/model.onnx"), "hello").unwrap();
    let ran = alone(&["gan", "vae", "--count", "8"]).expect_code(0);
    assert!(ran.text().contains("left out: vae, it failed") && ran.text().contains("gan 0.7"), "{}", ran.text());
}

#[test]
fn an_interrupt_stops_a_comparison_and_leaves_no_sheet() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ddpm", "judge", "real"] {
        copy_tree(&bundle(name), &folder.path().join("shelf").join(name));
    }
    let mut command = away(folder.path());
    command.args(["compare", "ddpm", "--count", "1000", "--output", "sheet.svg"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !handles_interrupts(&child) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the comparison does not begin");
        sleep(Duration::from_millis(1));
    }
    sleep(Duration::from_millis(1500));
    send(&child, "-INT");
    let (code, _, said) = wait(child);
    assert_eq!(code, Some(130), "{said}");
    assert!(said.ends_with("kiln: stopped, nothing was written\n"), "{said}");
    assert_eq!(names(folder.path()), ["bin", "shelf"]);
}
