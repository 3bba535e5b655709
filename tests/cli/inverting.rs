//! Pictures read by a model: their latents, the pictures made from those again, their likelihoods.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln::Picture;
use serde_json::Value;

use super::common::{self, Ran, kiln, listing, names};
use super::model;
use super::stopping::handles_interrupts;

/// Writes a picture of soft colours.
fn picture(folder: &Path, name: &str, width: u32, height: u32) -> Picture {
    let value = |at: u32| (90 + at % 3 * 30 + at / 3 % width * 3 + at / 3 / width * 2) as u8;
    let picture = Picture::new(width, height, 3, (0..width * height * 3).map(value).collect()).unwrap();
    let bytes = kiln::output::encode(&picture, None, kiln::output::Format::Png).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
    picture
}

fn ask(folder: &Path, verb: &str, bundle: &str, more: &[&str]) -> Ran {
    let model = model(bundle);
    let mut arguments = vec![verb, "--model", &model];
    arguments.extend(more);
    kiln(folder, &arguments)
}

/// The lines of JSON of a run that succeeds.
fn lines(ran: Ran) -> Vec<Value> {
    let ran = ran.expect_code(0);
    ran.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn figure(line: &Value, path: &str) -> f64 {
    line.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("{path} in {line}"))
}

#[test]
fn a_flow_gives_back_the_picture_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let given = picture(folder.path(), "a.png", 8, 8);
    let ran = ask(folder.path(), "invert", "flow", &["a.png"]).expect_code(0);
    let text = ran.text();
    assert!(text.starts_with("latent      192 values, mean ") && text.ends_with(" dB\na-again.png\n"), "{text}");
    assert_eq!(ran.stderr, "", "progress is silent where nobody watches");
    assert_eq!(Picture::open(&folder.path().join("a-again.png")).unwrap(), given);
    let line = &lines(ask(folder.path(), "invert", "flow", &["a.png", "--json"]))[0];
    assert_eq!((&line["file"], &line["family"], &line["class"]), (&"a-again-2.png".into(), &"flow".into(), &Value::Null));
    assert!(figure(line, "/difference/largest") < 0.01 && figure(line, "/difference/psnr_db") > 100.0, "{line}");
}

#[test]
fn each_family_with_a_way_back_goes_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    picture(path, "small.png", 8, 8);
    picture(path, "large.png", 16, 16);
    // Random weights reconstruct badly; the solvers of a field come back all the same.
    let exact = ["--sampler", "dopri5", "--tolerance", "1e-5"];
    type Case<'a> = (&'a str, &'a str, &'a [&'a str], Option<&'a str>, f64);
    let cases: [Case<'_>; 6] = [
        ("vae", "large.png", &[], Some("any"), 5.0),
        ("vae", "large.png", &["--class", "green"], Some("green"), 5.0),
        ("cnf", "small.png", &exact, Some("any"), 60.0),
        ("score_gaussian", "small.png", &exact, None, 60.0),
        ("ddpm", "large.png", &["--steps", "50"], None, 15.0),
        ("ddpm", "large.png", &["--steps", "50", "--class", "blue"], Some("blue"), 15.0),
    ];
    for (bundle, name, more, class, least) in cases {
        println!("{bundle} {more:?}");
        let line = &lines(ask(path, "invert", bundle, &[&[name, "--json", "-o", "again.png"], more].concat()))[0];
        match class {
            Some("any") => assert!(line["class"].is_string(), "{line}"),
            class => assert_eq!(line["class"], class.map_or(Value::Null, Value::from)),
        }
        assert!(figure(line, "/difference/psnr_db") > least, "{line}");
        assert!(figure(line, "/difference/mean") <= figure(line, "/difference/largest"), "{line}");
        let (given, again) = (Picture::open(&path.join(name)).unwrap(), Picture::open(&path.join("again.png")).unwrap());
        // Rounding to 8 bits adds at most half a step to what was told.
        let apart = given.pixels.iter().zip(&again.pixels).map(|(a, b)| f64::from(a.abs_diff(*b))).fold(0.0, f64::max);
        assert!(apart <= figure(line, "/difference/largest") + 0.51, "{apart}: {line}");
    }
}

#[test]
fn what_is_told_of_an_inversion_goes_where_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let given = picture(path, "a.png", 8, 8);
    let ran = ask(path, "invert", "flow", &["a.png", "--quiet", "-o", "b.webp"]).expect_code(0);
    assert_eq!((ran.text(), ran.stderr.as_str()), ("", ""));
    assert_eq!(Picture::open(&path.join("b.webp")).unwrap(), given);
    let ran = ask(path, "invert", "flow", &["a.png", "-o", "-"]).expect_code(0);
    assert_eq!(Picture::read(&ran.stdout, "stdout").unwrap(), given);
    let text = ask(path, "invert", "cnf", &["a.png", "-o", "c.png"]).expect_code(0).text().to_owned();
    assert!(text.starts_with("class       ") && text.contains(", the likeliest of 3\nlatent      192 values"), "{text}");
    let text = ask(path, "invert", "ddpm", &["a.png", "--steps", "2", "-o", "d.png"]).expect_code(0).text().to_owned();
    assert!(text.starts_with("class       none; --class names one\nlatent      768 values"), "{text}");
    assert_eq!(names(path), ["a.png", "b.webp", "c.png", "d.png"]);
}

#[test]
fn a_picture_made_again_says_of_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    picture(path, "a.png", 16, 16);
    ask(path, "invert", "ddpm", &["a.png", "--steps", "3", "--class", "blue", "--seed", "4", "-o", "b.png"]).expect_code(0);
    let record: Value = serde_json::from_str(kiln(path, &["show", "b.png", "--json"]).expect_code(0).text()).unwrap();
    let sum = kiln::bundle::sha256_of_file(&path.join("a.png")).unwrap();
    assert_eq!((&record["inversion"], &record["input"], &record["input_sha256"]), (&true.into(), &"a.png".into(), &sum.into()));
    assert_eq!((&record["prompt"], &record["sampler"]), (&"blue".into(), &"ddim".into()));
    assert_eq!((&record["steps"], &record["seed"]), (&3.into(), &4.into()));
    let shown = kiln(path, &["show", "b.png"]).expect_code(0);
    let again = shown.text().lines().find_map(|line| line.strip_prefix("again     kiln ")).unwrap().to_owned();
    assert!(again.ends_with(" --class blue --steps 3"), "{again}");
    kiln(path, &["generate", "--from", "b.png"]).refused(2, &["made again from its latent", "kiln show"]);
    // What it says makes the same picture.
    let words: Vec<&str> = again.split(' ').chain(["-o", "c.png"]).collect();
    kiln(path, &words).expect_code(0);
    assert_eq!(Picture::open(&path.join("b.png")).unwrap(), Picture::open(&path.join("c.png")).unwrap());
    ask(path, "invert", "ddpm", &["a.png", "--steps", "2", "--seed", "4", "-o", "d.png"]).expect_code(0);
    let record: Value = serde_json::from_str(kiln(path, &["show", "d.png", "--json"]).expect_code(0).text()).unwrap();
    assert_eq!(record.get("prompt"), None, "no class was named, and a seed is no class");
}

#[test]
fn a_likelihood_says_what_it_is_worth() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    picture(path, "a.png", 8, 8);
    let cases = [("flow", "exact"), ("vae", "lower_bound"), ("cnf", "estimate"), ("score", "estimate")];
    for (bundle, kind) in cases {
        println!("{bundle}");
        let line = &lines(ask(path, "likelihood", bundle, &["a.png", "--json"]))[0];
        assert_eq!((&line["file"], &line["kind"]), (&"a.png".into(), &kind.into()));
        let values = if bundle == "vae" { 768.0 } else { 192.0 };
        let bits = 7.0 - figure(line, "/nats") / (values * std::f64::consts::LN_2);
        assert!((figure(line, "/bits_per_dimension") - bits).abs() < 1e-9, "{line}");
        let text = ask(path, "likelihood", bundle, &["a.png"]).expect_code(0).text().to_owned();
        assert!(text.contains(" bits per dimension  (") && text.contains(&kind.replace('_', " ")), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert_eq!(names(path), ["a.png"], "nothing is written");
}

#[test]
fn a_class_that_nobody_names_is_the_mean_of_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    picture(path, "a.png", 16, 16);
    let nats = |more: &[&str]| figure(&lines(ask(path, "likelihood", "vae", &[&["a.png", "--json"], more].concat()))[0], "/nats");
    let of_classes = ["red", "green", "blue"].map(|class| nats(&["--class", class]));
    let most = of_classes.into_iter().fold(f64::NEG_INFINITY, f64::max);
    let mean = most + (of_classes.iter().map(|one| (one - most).exp()).sum::<f64>() / 3.0).ln();
    assert!((nats(&[]) - mean).abs() < 1e-6, "{of_classes:?}");
    assert!(of_classes[0] != of_classes[1], "{of_classes:?}");
    let text = ask(path, "likelihood", "vae", &["a.png"]).expect_code(0).text().to_owned();
    assert!(text.ends_with("(lower bound, mean over 3 classes)\n"), "{text}");
    // Draws of another seed, and more of them, are another bound.
    assert_ne!(nats(&["--class", "red", "--seed", "1"]), of_classes[0]);
    assert_ne!(nats(&["--class", "red", "--samples", "4"]), of_classes[0]);
}

#[test]
fn several_pictures_end_with_their_mean() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    for name in ["a.png", "longer.png"] {
        picture(path, name, 8, 8);
    }
    fs::write(path.join("a.png"), fs::read(common::bundle("real").join("sheet.png")).unwrap()).unwrap();
    let ran = ask(path, "likelihood", "flow", &["a.png", "longer.png"]).expect_code(0);
    let text: Vec<&str> = ran.text().lines().collect();
    let first: Vec<&str> = text.iter().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(first, ["a.png", "longer.png", "mean"]);
    let bits = |line: &str| line.split("nats").nth(1).unwrap().split_whitespace().next().unwrap().parse::<f64>().unwrap();
    assert!((bits(text[2]) - (bits(text[0]) + bits(text[1])) / 2.0).abs() < 1e-3, "{text:?}");
    assert!(ran.stderr.contains("warning: a.png is 96x64, and is brought to the model's 8x8"), "{}", ran.stderr);
    assert_eq!(lines(ask(path, "likelihood", "flow", &["a.png", "longer.png", "--json"])).len(), 2);
}

#[test]
fn what_cannot_be_read_or_asked_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    picture(path, "a.png", 8, 8);
    fs::write(path.join("text.png"), "a text about a cat").unwrap();
    fs::write(path.join("cut.png"), &fs::read(path.join("a.png")).unwrap()[..60]).unwrap();
    fs::create_dir(path.join("folder")).unwrap();
    let with_likelihood = "has no likelihood; vae, flow, cnf and score have";
    let with_way_back = "has no way from a picture back to a latent; vae, flow, cnf, score and ddpm have";
    let cases: &[(&str, &str, &[&str], &[&str])] = &[
        ("invert", "flow", &["nothing.png"], &["picture nothing.png is not readable"]),
        ("invert", "flow", &["text.png"], &["picture text.png is no picture"]),
        ("invert", "flow", &["cut.png"], &["picture cut.png is broken"]),
        ("invert", "flow", &["folder"], &["picture folder is a folder"]),
        ("likelihood", "flow", &["a.png", "nothing.png"], &["picture nothing.png is not readable"]),
        ("likelihood", "flow", &["a.png", "text.png"], &["picture text.png is no picture"]),
        ("invert", "gan", &["a.png"], &["model gan", with_way_back]),
        ("invert", "sd_turbo", &["a.png"], &["model sd_turbo", with_way_back]),
        ("invert", "consistency_cm", &["a.png"], &["model consistency_cm", with_way_back]),
        ("invert", "consistency", &["a.png"], &["model consistency", with_way_back]),
        ("likelihood", "gan", &["a.png"], &["model gan", with_likelihood]),
        ("likelihood", "ddpm", &["a.png"], &["model ddpm", with_likelihood]),
        ("likelihood", "sd", &["a.png"], &["model sd", with_likelihood]),
        ("likelihood", "nothing", &["a.png"], &["neither such a folder nor such a name"]),
        ("invert", "cnf", &["a.png", "--class", "violet"], &["is `violet`", "red, green, blue"]),
        ("likelihood", "flow", &["a.png", "--class", "red"], &["model flow takes none"]),
        ("likelihood", "vae", &["a.png", "--samples", "0"], &["samples: is 0"]),
        ("likelihood", "cnf", &["a.png", "--sampler", "heun", "--tolerance", "0.1"], &["tolerance", "heun"]),
        ("invert", "cnf", &["a.png", "--sampler", "magic"], &["--sampler", "magic"]),
        ("invert", "cnf", &["a.png", "--sampler", "flow-euler"], &["`flow-euler`", "euler, heun, rk4, dopri5"]),
        ("invert", "score", &["a.png", "--sampler", "ve"], &["`ve`", "euler, heun, rk4, dopri5"]),
        ("likelihood", "score", &["a.png", "--sampler", "langevin"], &["`langevin`", "euler, heun, rk4, dopri5"]),
        ("invert", "ddpm", &["a.png", "--sampler", "dpm++"], &["`dpm++", "`ddim`"]),
        ("invert", "cnf", &["a.png", "--steps", "0"], &["steps: is 0"]),
        ("invert", "flow", &["a.png", "-o", "b.gif"], &["b.gif ends in .gif"]),
        ("invert", "flow", &["a.png", "-o", "missing/b.png"], &["output folder missing is missing"]),
        ("invert", "flow", &["a.png", "-o", "-", "--json"], &["--json and --output -"]),
    ];
    let before = listing(path);
    for (verb, bundle, more, parts) in cases {
        println!("{verb} {bundle} {more:?}");
        ask(path, verb, bundle, more).refused(2, parts);
    }
    assert_eq!(cases.len(), 27);
    for arguments in [&["invert", "a.png"][..], &["likelihood", "a.png"], &["likelihood", "-m", "x"], &["invert", "-m", "x"]] {
        kiln(path, arguments).expect_code(2);
    }
    assert_eq!(listing(path), before, "nothing was written");
}

#[test]
fn an_interrupt_leaves_no_picture() {
    let folder = tempfile::tempdir().unwrap();
    picture(folder.path(), "a.png", 16, 16);
    let model = model("ddpm");
    let mut command = common::command(folder.path());
    command.args(["invert", "a.png", "--model", &model, "--steps", "1000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let begun = Instant::now();
    while !handles_interrupts(&child) {
        assert!(begun.elapsed() < Duration::from_secs(30), "the run does not begin");
        sleep(Duration::from_millis(1));
    }
    let stopped = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), said.as_ref()), (Some(130), "kiln: stopped, nothing was written\n"));
    assert_eq!(names(folder.path()), ["a.png"]);
}
