//! `kiln lineage`: the tree drawn, its stories, the picture of it.

use std::fs;

use serde_json::Value;

use super::away;
use super::common::{Ran, bundle, copy_tree, names, run};

/// `kiln lineage` in a folder of its own, with a shelf of one bundle called `sticker`.
fn lineage(arguments: &[&str], environment: &[(&str, &str)]) -> (tempfile::TempDir, Ran) {
    let temporary = tempfile::tempdir().unwrap();
    copy_tree(&bundle("sd_turbo"), &temporary.path().join("shelf/sticker"));
    let mut command = away(temporary.path());
    command.arg("lineage").args(arguments).env_remove("COLUMNS");
    let ran = run(command.envs(environment.iter().copied()));
    (temporary, ran)
}

#[test]
fn the_tree_is_drawn_in_eighty_columns_and_marks_what_is_installed() {
    let (_, ran) = lineage(&[], &[]);
    let ran = ran.expect_code(0);
    let text = ran.text();
    assert!(text.lines().count() > 40 && text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(text.contains("1763  · bayes") && text.contains("● latent_diffusion") && text.contains("╰─"), "{text}");
    assert_eq!(ran.stderr, "");
    let (_, wide) = lineage(&[], &[("COLUMNS", "160")]);
    assert!(wide.expect_code(0).text().contains("Predicts the noise instead"));
    let (_, ascii) = lineage(&[], &[("LC_ALL", "C")]);
    let ascii = ascii.expect_code(0);
    assert!(ascii.text().is_ascii() && ascii.text().contains("* latent_diffusion"), "{}", ascii.text());
}

#[test]
fn a_story_has_its_paper_formula_relatives_and_command() {
    for name in ["ddim", "DDIM"] {
        let (_, ran) = lineage(&[name], &[]);
        let ran = ran.expect_code(0);
        for part in ["arXiv:2010.02502", "√ᾱₛ x̂₀", "ddpm (2020)", "progressive (2022)", "--model ddpm --sampler ddim --steps 50"]
        {
            assert!(ran.text().contains(part), "{part}: {}", ran.text());
        }
    }
    let (_, ran) = lineage(&["latent-diffusion"], &[("LC_ALL", "C")]);
    let ran = ran.expect_code(0);
    assert!(ran.text().is_ascii() && !ran.text().contains("missing"), "{}", ran.text());
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest() {
    let (_, ran) = lineage(&["ddmp"], &[]);
    ran.refused(2, &["the tree has no \"ddmp\"", "ddpm", "`kiln lineage` lists them all"]);
    let (_, ran) = lineage(&["wasserstein"], &[]);
    ran.refused(2, &["wasserstein_gan"]);
}

#[test]
fn the_picture_of_the_tree_is_written_with_samples_of_what_is_installed() {
    let (temporary, ran) = lineage(&["--svg", "tree.svg"], &[]);
    let ran = ran.expect_code(0);
    assert_eq!(ran.text(), "tree.svg\n");
    let svg = fs::read_to_string(temporary.path().join("tree.svg")).unwrap();
    assert!(svg.starts_with("<svg xmlns") && svg.ends_with("</svg>\n"));
    assert!(svg.matches("data:image/png;base64,").count() >= 1, "the sticker model was asked for a sample");
    assert_eq!(names(temporary.path()), ["bin", "shelf", "tree.svg"]);
    let (temporary, ran) = lineage(&["--svg", "bare.svg", "--no-samples"], &[]);
    ran.expect_code(0);
    assert!(!fs::read_to_string(temporary.path().join("bare.svg")).unwrap().contains("base64"));
    let (_, ran) = lineage(&["--svg", "shelf"], &[]);
    ran.refused(2, &["--svg shelf is a folder"]);
    let (_, ran) = lineage(&["--svg", "nowhere/tree.svg", "--no-samples"], &[]);
    ran.refused(2, &["output folder nowhere is missing"]);
}

#[test]
fn json_has_every_algorithm() {
    let (_, ran) = lineage(&["--json"], &[]);
    let list: Vec<Value> = serde_json::from_str(ran.expect_code(0).text()).unwrap();
    assert!(list.len() > 35, "{}", list.len());
    let of = |name: &str| list.iter().find(|algorithm| algorithm["name"] == name).unwrap();
    assert_eq!((&of("latent_diffusion")["installed"], &of("vae")["installed"]), (&true.into(), &false.into()));
    assert!(of("ddpm")["children"].as_array().unwrap().contains(&"ddim".into()));
    assert_eq!(of("ddpm")["paper"]["arxiv"], "2006.11239");
    let (_, ran) = lineage(&["vae", "--json"], &[]);
    let one: Value = serde_json::from_str(ran.expect_code(0).text()).unwrap();
    assert_eq!((&one["name"], &one["year"]), (&"vae".into(), &2013.into()));
}

#[test]
fn another_tree_is_read_and_a_broken_one_is_one_message() {
    let temporary = tempfile::tempdir().unwrap();
    let tree = "[[branch]]\nname = \"b\"\ntitle = \"B & <b>\"\ncolumn = 0\n[[algorithm]]\nname = \"mine\"\ntitle = \"A < B & C\"\nyear = 2030\n\
                branch = \"b\"\nchanged = \"c\"\nformula = \"f\"\nstory = \"s\"\npaper = { authors = \"A\", title = \"P\" }\n";
    fs::write(temporary.path().join("mine.toml"), tree).unwrap();
    let kiln = |arguments: &[&str]| run(away(temporary.path()).arg("lineage").args(arguments));
    assert!(kiln(&["--tree", "mine.toml"]).expect_code(0).text().contains("2030"));
    kiln(&["--tree", "mine.toml", "--svg", "mine.svg"]).expect_code(0);
    let svg = fs::read_to_string(temporary.path().join("mine.svg")).unwrap();
    assert!(svg.contains("A &lt; B &amp; C") && svg.contains("B &amp; &lt;b&gt;"));
    fs::write(temporary.path().join("mine.toml"), tree.replace("year = 2030", "year = 2030\nparents = [\"nobody\"]")).unwrap();
    kiln(&["--tree", "mine.toml"]).refused(2, &["mine.toml: algorithm \"mine\": its parent \"nobody\" is not in the tree"]);
    kiln(&["--tree", "nothing.toml"]).refused(2, &["tree nothing.toml"]);
}
