//! Spoilt scheduler configurations and cards.

use std::fs;

use serde_json::{Value, json};

use super::*;

pub fn schedulers() -> Vec<Case> {
    let of = |key: &'static str, value: Value| set(SCHEDULER, key, value);
    let mut cases = vec![
        case("scheduler is a list", "sd", written(SCHEDULER, "[]"), &[SCHEDULER, "expected an object"]),
        case("scheduler is text", "sd", written(SCHEDULER, "PNDM"), &[SCHEDULER, "not a JSON object"]),
        case("scheduler is not UTF-8", "sd", written(SCHEDULER, [0xff, 0xfe]), &[SCHEDULER, "is not UTF-8"]),
        case("scheduler nests", "sd", written(SCHEDULER, deep("[")), &[SCHEDULER]),
        case("scheduler of 50 MB", "sd", written(SCHEDULER, vec![b' '; 50 << 20]), &[SCHEDULER, "is larger than"]),
        case("scheduler without a class", "sd", written(SCHEDULER, "{}"), &[SCHEDULER, "`_class_name` is missing"]),
        case("class is a list", "sd", of("_class_name", json!([])), &[SCHEDULER, "`_class_name`"]),
        case("betas of another length", "sd", of("trained_betas", json!([0.1, 0.2])), &[SCHEDULER, "trained_betas"]),
        case("betas of text", "sd", of("trained_betas", json!(["a"])), &[SCHEDULER, "trained_betas"]),
        case("no betas", "sd", of("trained_betas", json!([])), &[SCHEDULER, "trained_betas"]),
        case("betas without end", "sd", of("trained_betas", json!(vec![0.1; 100_001])), &[SCHEDULER, "trained_betas"]),
        case("unknown beta schedule", "sd", of("beta_schedule", json!("steep")), &[SCHEDULER, "beta_schedule", "steep"]),
        case("unknown prediction", "sd", of("prediction_type", json!("guess")), &[SCHEDULER, "prediction_type", "guess"]),
        case(
            "an infinite beta",
            "sd",
            written(SCHEDULER, r#"{"_class_name": "PNDMScheduler", "beta_end": Infinity}"#),
            &[SCHEDULER, "beta_end"],
        ),
        case("a key of a word without end", "sd", of("beta_schedule", json!("x".repeat(900_000))), &[SCHEDULER, "beta_schedule"]),
        case(
            "a beta that is none",
            "sd",
            written(SCHEDULER, r#"{"_class_name": "PNDMScheduler", "beta_end": NaN}"#),
            &[SCHEDULER, "beta_end"],
        ),
    ];
    for value in [json!(0), json!(-1), json!(1_000_000_000), json!(1.5), json!("1000"), json!(null), json!(u64::MAX)] {
        let name = format!("`num_train_timesteps` is {value}");
        cases.push(case(&name, "sd", of("num_train_timesteps", value), &[SCHEDULER, "num_train_timesteps"]));
    }
    for value in [json!(-0.5), json!(1e30), json!("0.01"), json!([0.01])] {
        cases.push(case(&format!("`beta_start` is {value}"), "sd", of("beta_start", value), &[SCHEDULER, "beta_start"]));
    }
    cases
}

pub fn cards() -> Vec<Case> {
    let hash = "0".repeat(64);
    let of = |text: &str| written(CARD, format!("name = \"a\"\n{text}"));
    let mut cases = vec![
        case("card is not UTF-8", "sd", written(CARD, [0xff, 0xfe]), &[CARD, "is not UTF-8"]),
        case("card is a folder", "sd", by(|folder| fs::create_dir(folder.join(CARD)).unwrap()), &[CARD]),
        case("card is JSON", "sd", written(CARD, "{\"name\": \"a\"}"), &[CARD, "TOML parse error"]),
        case("card nests", "sd", of(&format!("x = {}", "[".repeat(100_000))), &[CARD]),
        case("card nests tables", "sd", of(&format!("[a{}]", ".a".repeat(50_000))), &[CARD]),
        case("card of 10 MB", "sd", of(&" \n".repeat(5 << 20)), &[CARD, "is larger than"]),
        case("card without a name", "sd", written(CARD, "version = \"1\""), &[CARD, "missing field `name`"]),
        case("name that climbs", "sd", written(CARD, "name = \"../../x\""), &[CARD, "`name`"]),
        case("name without end", "sd", written(CARD, format!("name = \"{}\"", "a".repeat(200_000))), &[CARD, "`name`"]),
        case("name with an escape", "sd", written(CARD, "name = \"\\u001b[2J\""), &[CARD, "`name`"]),
        case("guidance that is no number", "sd", of("[guidance]\ndefault = nan"), &[CARD, "`guidance.default`"]),
        case("infinite guidance", "sd", of("[guidance]\ndefault = inf"), &[CARD, "`guidance.default`"]),
        case("no steps", "sd", of("[steps]\ndefault = 0"), &[CARD, "`steps` holds 0"]),
        case("more steps than the largest", "sd", of("[steps]\ndefault = 5\nlargest = 4"), &[CARD, "`steps.default` is 5"]),
        case("steps are words", "sd", of("[steps]\ntrained = [\"four\"]"), &[CARD, "invalid type"]),
        case(
            "steps are long words",
            "sd",
            of(&format!("[steps]\ntrained = [\"{}\"]", "a".repeat(200_000))),
            &[CARD, "invalid type"],
        ),
        case("size of zero", "sd", of("[size]\ndefault = [0, 64]"), &[CARD, "`size.default`"]),
        case("preview that is no number", "sd", of("[preview]\nlatent_to_rgb = [[nan, 0.0, 0.0]]"), &[CARD, "latent_to_rgb"]),
        case(
            "description without end",
            "sd",
            of(&format!("description = \"{}\"", "a".repeat(5000))),
            &[CARD, "`description` has 5000"],
        ),
    ];
    for path in ["../secret", "/etc/passwd", "unet/../../x", "unet\\\\model.onnx", "", ".."] {
        let text = format!("[sha256]\n\"{path}\" = \"{hash}\"");
        cases.push(case(&format!("checksum of {path:?}"), "sd", of(&text), &[CARD, "expected a path within the bundle"]));
    }
    for sum in ["", "00", "sha256:0000", "zz"] {
        let text = format!("[sha256]\n\"unet/model.onnx\" = \"{sum}\"");
        cases.push(case(&format!("checksum {sum:?}"), "sd", of(&text), &[CARD, "64 hexadecimal digits"]));
    }
    cases
}
