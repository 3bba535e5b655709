//! Ways to spoil a bundle, and the table of what must come of each.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::onnx;

mod clips;
mod families;
mod masked;
mod networks;
mod runs;
mod texts;
mod transformers;

pub use clips::{clip_folders, clip_runs};
pub use families::{family_folders, family_runs};
pub use masked::{masked_folders, masked_runs};
pub use runs::runs;
pub use transformers::{transformer_folders, transformer_runs};

/// What is done to a copy of a bundle.
pub type Spoil = Box<dyn Fn(&Path)>;

/// One hostile bundle.
pub struct Case {
    /// What is wrong with it, in a few words.
    pub name: String,
    /// The bundle under `tests/bundles/` that is spoilt.
    pub bundle: &'static str,
    pub spoil: Spoil,
    /// What the message must say.
    pub expected: Vec<&'static str>,
}

fn case(name: &str, bundle: &'static str, spoil: Spoil, expected: &[&'static str]) -> Case {
    Case { name: name.to_owned(), bundle, spoil, expected: expected.to_vec() }
}

fn gone(file: &'static str) -> Spoil {
    Box::new(move |folder| {
        let path = folder.join(file);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    })
}

fn written(file: &'static str, bytes: impl Into<Vec<u8>>) -> Spoil {
    let bytes = bytes.into();
    Box::new(move |folder| fs::write(folder.join(file), &bytes).unwrap())
}

/// Sets a key of a JSON file.
fn set(file: &'static str, key: &'static str, value: Value) -> Spoil {
    Box::new(move |folder| {
        let path = folder.join(file);
        let mut object: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        object[key] = value.clone();
        fs::write(path, serde_json::to_vec(&object).unwrap()).unwrap();
    })
}

fn by(spoil: impl Fn(&Path) + 'static) -> Spoil {
    Box::new(spoil)
}

fn folder_instead(file: &'static str) -> Spoil {
    by(move |folder| {
        fs::remove_file(folder.join(file)).unwrap();
        fs::create_dir(folder.join(file)).unwrap();
    })
}

/// A pipe that nobody writes to: a reader that opens it waits for ever.
fn pipe_instead(file: &'static str) -> Spoil {
    by(move |folder| {
        let path = folder.join(file);
        let _ = fs::remove_file(&path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    })
}

fn swap(left: &'static str, right: &'static str) -> Spoil {
    by(move |folder| {
        let (left, right) = (folder.join(left), folder.join(right));
        let bytes = fs::read(&left).unwrap();
        fs::copy(&right, left).unwrap();
        fs::write(right, bytes).unwrap();
    })
}

fn of_bundle(other: &'static str, file: &'static str, place: &'static str) -> Spoil {
    by(move |folder| {
        fs::copy(super::bundle(other).join(file), folder.join(place)).unwrap();
    })
}

fn dimension(file: &'static str, kind: u64, port: &'static str, axis: usize, size: u64) -> Spoil {
    by(move |folder| onnx::set_dimension(&folder.join(file), kind, port, axis, size))
}

fn elsewhere(entries: &'static [(&'static str, &'static str)]) -> Spoil {
    by(move |folder| {
        fs::write(folder.join("unet/weights"), vec![0; 64]).unwrap();
        fs::create_dir(folder.join("unet/inner")).unwrap();
        onnx::point_elsewhere(&folder.join("unet/model.onnx"), entries);
    })
}

fn filled(file: &'static str, least: usize, value: f32) -> Spoil {
    by(move |folder| onnx::fill_weights(&folder.join(file), least, value))
}

fn deep(open: &str) -> Vec<u8> {
    open.repeat(100_000).into_bytes()
}

const INDEX: &str = "model_index.json";
const UNET: &str = "unet/model.onnx";
const UNET_CONFIG: &str = "unet/config.json";
const DECODER: &str = "vae_decoder/model.onnx";
const DECODER_CONFIG: &str = "vae_decoder/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const CARD: &str = "kiln.toml";

/// What `Bundle::open` must refuse.
pub fn folders() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(layout());
    cases.extend(configurations());
    cases.extend(networks::networks());
    cases.extend(networks::external_weights());
    cases.extend(texts::schedulers());
    cases.extend(texts::cards());
    cases
}

fn layout() -> Vec<Case> {
    let mut cases = vec![
        case("no index", "sd", gone(INDEX), &["there is no model_index.json", "diffusers export"]),
        case("index is a folder", "sd", folder_instead(INDEX), &[INDEX]),
        case("index is a pipe", "sd", pipe_instead(INDEX), &[INDEX, "is not a file"]),
        case("index is empty", "sd", written(INDEX, ""), &[INDEX, "is not JSON"]),
        case("index is a list", "sd", written(INDEX, "[]"), &[INDEX, "is a list, expected an object"]),
        case("index is cut off", "sd", written(INDEX, "{\"_class_name\": \"Stable"), &[INDEX, "is not JSON"]),
        case("index is not UTF-8", "sd", written(INDEX, [b'{', b'"', 0xff, b'"']), &[INDEX, "is not JSON"]),
        case("index nests without end", "sd", written(INDEX, deep("[")), &[INDEX, "recursion limit"]),
        case("index nests objects", "sd", written(INDEX, deep("{\"a\":")), &[INDEX, "recursion limit"]),
        case("index of 50 MB", "sd", written(INDEX, vec![b' '; 50 << 20]), &[INDEX, "is larger than"]),
        case("no class", "sd", written(INDEX, "{}"), &[INDEX, "has no `_class_name`"]),
        case("class is a number", "sd", set(INDEX, "_class_name", json!(7)), &[INDEX, "`_class_name` is 7, expected a string"]),
        case(
            "unknown class",
            "sd",
            set(INDEX, "_class_name", json!("KolorsPipeline")),
            &[INDEX, "is `KolorsPipeline`", "this build runs"],
        ),
        case(
            "class of SDXL",
            "sd",
            set(INDEX, "_class_name", json!("StableDiffusionXLPipeline")),
            &["text_encoder_2/model.onnx"],
        ),
        case("class of SD", "sdxl", set(INDEX, "_class_name", json!("StableDiffusionPipeline")), &[INDEX, "text_encoder_2"]),
        case(
            "zeros is a word",
            "sdxl",
            set(INDEX, "force_zeros_for_empty_prompt", json!("yes")),
            &[INDEX, "expected true or false"],
        ),
        case(
            "class that paints",
            "sd",
            set(INDEX, "_class_name", json!("\u{1b}[2J\nkiln: all is well")),
            &[INDEX, "all is well"],
        ),
        case("class without end", "sd", set(INDEX, "_class_name", json!("x".repeat(900_000))), &[INDEX, "is `xxxx"]),
        case("name is a list", "sd", set(INDEX, "_name_or_path", json!(["a"])), &[INDEX, "`_name_or_path`", "expected a string"]),
        case("no tokenizer", "sd", gone("tokenizer"), &["there is no `tokenizer` folder"]),
        case("no second tokenizer", "sdxl", gone("tokenizer_2"), &["there is no `tokenizer_2` folder"]),
        case("no scheduler", "sd", gone("scheduler"), &[SCHEDULER, "there is no such file"]),
        case("no scheduler file", "sd", gone(SCHEDULER), &[SCHEDULER, "there is no such file"]),
        case("a folder without ONNX", "sd", gone(UNET), &[UNET, "there is no such file", "expected the unet as ONNX"]),
        case("ONNX is a folder", "sd", folder_instead(UNET), &[UNET, "there is no such file"]),
        case("ONNX is a pipe", "sd", pipe_instead(UNET), &[UNET, "there is no such file"]),
        case("configuration is a pipe", "sd", pipe_instead(UNET_CONFIG), &[UNET_CONFIG, "is not a file"]),
        case("card is a pipe", "sd", pipe_instead(CARD), &[CARD, "is not a file"]),
        case("scheduler is a pipe", "sd", pipe_instead(SCHEDULER), &[SCHEDULER, "is not a file"]),
        case(
            "card is a link to nothing",
            "sd",
            by(|folder| std::os::unix::fs::symlink("nowhere", folder.join(CARD)).unwrap()),
            &[CARD],
        ),
    ];
    for role in ["text_encoder", "unet", "vae_decoder"] {
        cases.push(case(&format!("no {role}"), "sd", gone(role), &["there is no", "/model.onnx"]));
    }
    cases.push(case("no second encoder", "sdxl", gone("text_encoder_2"), &["text_encoder_2/model.onnx"]));
    cases
}

fn configurations() -> Vec<Case> {
    let mut cases = vec![
        case("configuration is a list", "sd", written(UNET_CONFIG, "[1]"), &[UNET_CONFIG, "is a list, expected an object"]),
        case("configuration is text", "sd", written(DECODER_CONFIG, "hello"), &[DECODER_CONFIG, "is not JSON"]),
        case("configuration nests", "sd", written(UNET_CONFIG, deep("[")), &[UNET_CONFIG, "recursion limit"]),
        case("configuration of 50 MB", "sd", written(UNET_CONFIG, vec![b'1'; 50 << 20]), &[UNET_CONFIG, "is larger than"]),
        case("number beyond f64", "sd", written(UNET_CONFIG, "{\"in_channels\": 1e999}"), &[UNET_CONFIG, "is not JSON"]),
        case("channels differ", "sd", set(UNET_CONFIG, "in_channels", json!(9)), &[UNET, "has 4 channels", "`in_channels` 9"]),
        case(
            "latent channels differ",
            "sd",
            set(DECODER_CONFIG, "latent_channels", json!(16)),
            &[DECODER, "`latent_channels` 16"],
        ),
        case("colours differ", "sd", set(DECODER_CONFIG, "out_channels", json!(4)), &["vae_decoder", "`out_channels` 4"]),
        case("no blocks", "sd", set(DECODER_CONFIG, "block_out_channels", json!([])), &[DECODER_CONFIG, "has 0 entries"]),
        case(
            "a thousand blocks",
            "sd",
            set(DECODER_CONFIG, "block_out_channels", json!(vec![8; 1000])),
            &[DECODER_CONFIG, "1000"],
        ),
        case("a thousand levels", "sd", set(UNET_CONFIG, "block_out_channels", json!(vec![8; 1000])), &[UNET_CONFIG, "1000"]),
        case("two hundred pixels wide a latent", "sd", set(UNET_CONFIG, "sample_size", json!(8192)), &["unet", "8192"]),
        case("three sides", "sd", set(UNET_CONFIG, "sample_size", json!([1, 2, 3])), &[UNET_CONFIG, "`sample_size`"]),
        case("sides of text", "sd", set(UNET_CONFIG, "sample_size", json!(["a", "b"])), &[UNET_CONFIG, "`sample_size`"]),
        case(
            "mean without end",
            "sd",
            set(DECODER_CONFIG, "latents_mean", json!(vec![0; 2000])),
            &[DECODER_CONFIG, "`latents_mean`"],
        ),
        case("mean of text", "sd", set(DECODER_CONFIG, "latents_mean", json!("zero")), &[DECODER_CONFIG, "`latents_mean`"]),
        case(
            "deviation of zero",
            "sd",
            by(|folder| {
                set(DECODER_CONFIG, "latents_mean", json!([0, 0, 0, 0]))(folder);
                set(DECODER_CONFIG, "latents_std", json!([1, 1, 0, 1]))(folder);
            }),
            &[DECODER_CONFIG, "deviations above 0"],
        ),
        case(
            "statistics of other latents",
            "sd",
            by(|folder| {
                set(DECODER_CONFIG, "latents_mean", json!([0, 0, 0]))(folder);
                set(DECODER_CONFIG, "latents_std", json!([1, 1, 1]))(folder);
            }),
            &[DECODER_CONFIG, "`latents_mean`", "3"],
        ),
        case(
            "guidance embedding differs",
            "lcm",
            set(UNET_CONFIG, "time_cond_proj_dim", json!(64)),
            &["unet", "`time_cond_proj_dim` 64"],
        ),
    ];
    for value in [json!(-4), json!(0), json!(1e30), json!(4.5), json!("4"), json!([4]), json!(true), json!(u64::MAX)] {
        for (file, key) in [(UNET_CONFIG, "in_channels"), (UNET_CONFIG, "sample_size"), (DECODER_CONFIG, "latent_channels")] {
            cases.push(case(&format!("`{key}` is {value}"), "sd", set(file, key, value.clone()), &[file, key]));
        }
    }
    for value in [json!(0), json!(-1), json!(1e30), json!("0.18"), json!([0.18])] {
        cases.push(case(
            &format!("`scaling_factor` is {value}"),
            "sd",
            set(DECODER_CONFIG, "scaling_factor", value),
            &["scaling_factor"],
        ));
    }
    for value in [json!(1e39), json!("0"), json!({})] {
        cases.push(case(
            &format!("`shift_factor` is {value}"),
            "sd",
            set(DECODER_CONFIG, "shift_factor", value),
            &["shift_factor"],
        ));
    }
    cases
}
