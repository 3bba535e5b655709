//! The verbs that only look: inspect, verify, models, version, help, completions.

use std::fs;
use std::process::{Command, Stdio};

use kiln::bundle::sha256_of_file;
use serde_json::Value;

use super::common::{bundle, command, copy_of, copy_tree, kiln, listing, names, run};
use super::model;

#[test]
fn inspect_prints_what_a_folder_holds() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [(&str, &[&str]); 4] = [
        (
            "sd",
            &[
                "StableDiffusionPipeline",
                "pndm (PNDMScheduler)",
                "takes sample f32 [?, 4, ?, ?]",
                "text to picture, picture to picture, inpainting",
            ],
        ),
        ("sd_external", &["weights in model.onnx_data"]),
        ("sdxl", &["text_encoder_2", "takes time_ids", "euler"]),
        ("sd_fp16", &["f16", "not said"]),
    ];
    for (name, parts) in cases {
        let ran = kiln(folder.path(), &["inspect", &model(name)]).expect_code(0);
        for part in parts.iter().copied().chain(["64x64", "checksum", "licence"]) {
            assert!(ran.text().contains(part), "{name} lacks {part:?}:\n{}", ran.text());
        }
        assert_eq!(ran.stderr, "");
    }
}

#[test]
fn inspect_as_json_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let bundles: Vec<String> =
        names(&bundle("")).into_iter().filter(|name| bundle(name).join("model_index.json").exists()).collect();
    assert!(bundles.len() >= 15, "{bundles:?}");
    for name in bundles {
        let ran = kiln(folder.path(), &["inspect", &model(&name), "--json"]).expect_code(0);
        let value: Value = serde_json::from_str(ran.text()).unwrap();
        assert_eq!(value["name"], name.as_str());
        let side = match value["family"] == "latent_diffusion" {
            // Flux's configuration says no size, and diffusers takes 128 latents a side.
            true => Value::from(if name.starts_with("flux") { 512 } else { 64 }),
            false => {
                let configs = ["unet", "decoder", "synthesis"].map(|role| bundle(&name).join(role).join("config.json"));
                let config = fs::read(configs.iter().find(|path| path.exists()).unwrap()).unwrap();
                serde_json::from_slice::<Value>(&config).unwrap()["sample_size"].clone()
            }
        };
        // PixArt-Alpha tells its transformer the picture's size where it is of 128 latents alone.
        let side = if name == "pixart_lcm" { Value::from(512) } else { side };
        // The pipelines of Wan and LTX-Video say their size, which no configuration does.
        let size = match name.split('_').next() {
            Some("wan") => serde_json::json!([416, 240]),
            Some("ltx") => serde_json::json!([352, 256]),
            _ => serde_json::json!([side, side]),
        };
        assert_eq!(value["size"]["default"], size, "{name}");
        assert_eq!(value["sha256"].as_str().unwrap().len(), 64);
        assert!(value["components"].is_array() || value["components"].is_object());
    }
}

#[test]
fn inspect_of_a_broken_folder_is_one_message_and_exit_code_1() {
    let (temporary, folder) = copy_of("sd");
    fs::write(folder.join("unet/model.onnx"), "hello").unwrap();
    let path = folder.display().to_string();
    kiln(temporary.path(), &["inspect", &path]).refused(1, &["unet/model.onnx", "is not an ONNX model"]);
    kiln(temporary.path(), &["generate", "a", "--model", &path]).refused(1, &["unet/model.onnx", "is not an ONNX model"]);
    kiln(temporary.path(), &["inspect", "nothing"]).refused(2, &["model nothing", "neither such a folder"]);
}

#[test]
fn a_description_cannot_paint_on_the_terminal() {
    let (temporary, folder) = copy_of("sd");
    fs::write(folder.join("kiln.toml"), "name = \"a\"\ndescription = \"\\u001b[2J\\u0007all is well\"").unwrap();
    let models = run(command(temporary.path()).args(["models"]).env("KILN_MODELS", temporary.path())).expect_code(0);
    let inspected = kiln(temporary.path(), &["inspect", &folder.display().to_string()]).expect_code(0);
    for ran in [models, inspected] {
        assert!(ran.text().contains("all is well") && !ran.text().contains(['\u{1b}', '\u{7}']), "{:?}", ran.text());
    }
}

#[test]
fn long_descriptions_of_models_keep_to_the_width() {
    let (temporary, folder) = copy_of("sd");
    let description = "flat stickers of many things ".repeat(10);
    fs::write(folder.join("kiln.toml"), format!("name = \"a\"\ndescription = \"{description}\"")).unwrap();
    let models = |width: &str, more: &[&str]| {
        let mut command = command(temporary.path());
        command.arg("models").args(more).env("KILN_MODELS", temporary.path()).env("COLUMNS", width);
        run(&mut command).expect_code(0).text().to_owned()
    };
    let place = folder.display().to_string();
    let lines = |text: &str| text.lines().filter(|line| !line.contains('/')).map(str::to_owned).collect::<Vec<_>>();
    for (width, letters) in [("60", 60), ("100", 100), ("3", 40), ("nonsense", 80)] {
        let text = models(width, &[]);
        assert!(text.contains(&format!("{:17}{place}\n", "")), "the path is whole: {text}");
        let lines = lines(&text);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= letters), "{width}: {text}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("bundle           ")).count(), 1, "{text}");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(description.trim()), "not a word is lost: {text}");
    }
    assert_eq!(models("60", &["--json"]), models("200", &["--json"]));
}

#[test]
fn verify_holds_a_folder_against_its_card() {
    let (temporary, folder) = copy_of("sd");
    let path = folder.display().to_string();
    kiln(temporary.path(), &["verify", &path]).refused(2, &["has no kiln.toml with checksums"]);
    let mut card = "name = \"tiny\"\n[sha256]\n".to_owned();
    for (file, _) in listing(&folder) {
        if file.is_file() {
            card += &format!("\"{}\" = \"{}\"\n", file.strip_prefix(&folder).unwrap().display(), sha256_of_file(&file).unwrap());
        }
    }
    fs::write(folder.join("kiln.toml"), card).unwrap();
    let ran = kiln(temporary.path(), &["verify", &path]).expect_code(0);
    assert!(ran.text().lines().count() > 10 && ran.text().lines().all(|line| line.ends_with(": ok")), "{}", ran.text());
    assert_eq!(kiln(temporary.path(), &["verify", &path, "--quiet"]).expect_code(0).text(), "");

    fs::write(folder.join("extra.txt"), "more").unwrap();
    let ran = kiln(temporary.path(), &["verify", &path, "--quiet"]).expect_code(0);
    assert_eq!(ran.text(), "extra.txt: not in the card, not used\n");

    let mut bytes = fs::read(folder.join("vae_decoder/model.onnx")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(folder.join("vae_decoder/model.onnx"), bytes).unwrap();
    fs::remove_file(folder.join("tokenizer/special_tokens_map.json")).unwrap();
    // Cut off, so that the bundle does not open; which file is at fault can be told all the same.
    let whole = fs::read(folder.join("unet/model.onnx")).unwrap();
    fs::write(folder.join("unet/model.onnx"), &whole[..whole.len() / 2]).unwrap();
    let ran = kiln(temporary.path(), &["verify", &path, "--quiet"]).expect_code(1);
    assert!(ran.text().contains("vae_decoder/model.onnx: DIFFERS"), "{}", ran.text());
    assert!(ran.text().contains("unet/model.onnx: DIFFERS"), "{}", ran.text());
    assert!(ran.text().contains("tokenizer/special_tokens_map.json: MISSING"), "{}", ran.text());
    assert!(ran.stderr.contains("3 files are not those that the card names"), "{}", ran.stderr);
}

#[test]
fn models_are_found_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    let shelf = temporary.path().join("shelf");
    for name in ["sd_turbo", "lcm"] {
        copy_tree(&bundle(name), &shelf.join(name));
    }
    copy_tree(&bundle("sd"), &shelf.join("broken"));
    fs::write(shelf.join("broken/unet/model.onnx"), "hello").unwrap();
    fs::create_dir(shelf.join("empty")).unwrap();
    let on_shelf = |arguments: &[&str]| run(command(temporary.path()).args(arguments).env("KILN_MODELS", &shelf));
    let ran = on_shelf(&["models"]).expect_code(0);
    assert!(ran.text().contains("sd_turbo") && ran.text().contains("lcm") && !ran.text().contains("empty"), "{}", ran.text());
    let words = ran.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("broken: ") && words.contains("is not an ONNX model"), "{words}");
    let ran = on_shelf(&["models", "--json"]).expect_code(0);
    let list: Vec<Value> = serde_json::from_str(ran.text()).unwrap();
    let of = |name: &str| list.iter().find(|entry| entry["name"] == name).unwrap();
    assert!(of("sd_turbo")["error"].is_null() && of("sd_turbo")["size_bytes"].as_u64().unwrap() > 100_000);
    assert!(of("broken")["error"].as_str().unwrap().contains("unet/model.onnx"));
    on_shelf(&["generate", "a", "--seed", "1", "--model", "sd_turbo", "--output", "a.png"]).expect_code(0);
    on_shelf(&["generate", "a", "--model", "sd_turbp"]).refused(2, &["model sd_turbp", "sd_turbo"]);
}

#[test]
fn version_names_the_runtime_too() {
    let folder = tempfile::tempdir().unwrap();
    for flag in ["--version", "-V"] {
        let ran = kiln(folder.path(), &[flag]).expect_code(0);
        let lines: Vec<&str> = ran.text().lines().collect();
        assert_eq!(lines[0], format!("kiln {}", env!("CARGO_PKG_VERSION")));
        assert!(lines[1].starts_with("onnxruntime 1.") && lines[1].contains("libonnxruntime"), "{}", lines[1]);
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, part) in [("bash", "complete -F"), ("zsh", "#compdef kiln"), ("fish", "complete -c kiln")] {
        let ran = kiln(folder.path(), &["completions", shell]).expect_code(0);
        assert!(ran.text().contains(part) && ran.text().contains("strength"), "{shell}");
    }
}

#[cfg(feature = "manual")]
#[test]
fn manual_pages_are_written_for_each_verb() {
    let folder = tempfile::tempdir().unwrap();
    kiln(folder.path(), &["manual", "."]).expect_code(0);
    let pages = names(folder.path());
    let help = kiln(folder.path(), &["--help"]).expect_code(0);
    let verbs = help.text().lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut count = 0;
    // A description that goes on in a second line is indented further.
    let verbs = verbs.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    for verb in verbs.filter(|verb| !["", "help"].contains(verb)) {
        count += 1;
        assert!(pages.contains(&format!("kiln-{verb}.1")), "{verb}: {pages:?}");
    }
    assert!(count >= 14 && pages.len() == count + 1, "{count} verbs, {pages:?}");
    let page = std::fs::read_to_string(folder.path().join("kiln-generate.1")).unwrap();
    assert!(page.contains(".TH kiln-generate 1") && page.contains("strength"), "{page}");
    let ran = kiln(folder.path(), &["manual", "nowhere"]).expect_code(2);
    assert!(ran.stderr.contains("nowhere") && ran.stderr.contains("expected a folder"), "{}", ran.stderr);
}

#[test]
fn every_verb_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    let verbs = ["generate", "models", "lineage", "compare", "inspect", "verify", "show", "bench", "completions"];
    let whole = kiln(folder.path(), &["--help"]).expect_code(0);
    for verb in verbs {
        assert!(whole.text().contains(verb), "--help names {verb}");
        let ran = kiln(folder.path(), &[verb, "--help"]).expect_code(0);
        assert!(ran.text().contains(&format!("Usage: kiln {verb}")), "{}", ran.text());
        assert!(ran.text().contains("--runtime"), "{verb}");
    }
    let ran = kiln(folder.path(), &[]).expect_code(2);
    assert!(ran.stderr.contains("Usage: kiln"));
}

#[test]
fn bench_measures_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = model("sd_turbo");
    let ran = kiln(folder.path(), &["bench", &model, "--runs", "2", "--json"]).expect_code(0);
    let value: Value = serde_json::from_str(ran.text()).unwrap();
    assert_eq!((&value["model"], &value["runs"], &value["steps"]), (&"sd_turbo".into(), &2.into(), &1.into()));
    assert!(value["picture_ms"]["median"].as_f64().unwrap() > 0.0);
    assert!(value["peak_memory_bytes"].as_u64().unwrap() > 1_000_000);
    let ran = kiln(folder.path(), &["bench", &model, "--runs", "1"]).expect_code(0);
    assert!(ran.text().contains("outside ONNX Runtime") && ran.text().contains("unet"), "{}", ran.text());
    assert!(names(folder.path()).is_empty(), "nothing is written");
}

#[test]
fn a_terminal_that_answers_nothing_does_not_hold_up_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("'{}' generate --model '{}' --seed 1 --output a.png", env!("CARGO_BIN_EXE_kiln"), model("gan"));
    let outcome = Command::new("timeout")
        .args(["120", "script", "-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output();
    const NOT_FOUND: i32 = 127;
    match outcome {
        Ok(outcome) if outcome.status.code() != Some(NOT_FOUND) => {
            let shown = String::from_utf8_lossy(&outcome.stdout).into_owned();
            assert_eq!(outcome.status.code(), Some(0), "{shown}");
            assert!(shown.contains('▄') || shown.contains('▀'), "{shown}");
            assert!(folder.path().join("a.png").is_file());
        }
        _ => println!("skipped: `timeout` or `script`, which makes a terminal, is not on this machine"),
    }
}
