//! Spoilt bundles of the small families.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::onnx;
use super::*;

const ENCODER: &str = "encoder/model.onnx";
const PICTURE_DECODER: &str = "decoder/model.onnx";
const PICTURE_DECODER_CONFIG: &str = "decoder/config.json";
const MAPPING: &str = "mapping/model.onnx";
const MAPPING_CONFIG: &str = "mapping/config.json";
const SYNTHESIS: &str = "synthesis/model.onnx";
const SYNTHESIS_CONFIG: &str = "synthesis/config.json";
/// A bundle of each pipeline class of the small families, and its components.
const BUNDLES: [(&str, &[&str]); 8] = [
    ("vae", &["encoder", "decoder"]),
    ("gan", &["mapping", "synthesis"]),
    ("flow", &["encoder", "decoder"]),
    ("cnf", &["unet"]),
    ("score", &["unet"]),
    ("ddpm", &["unet"]),
    ("progressive", &["unet"]),
    ("consistency_cm", &["unet"]),
];

/// What `Bundle::open` must refuse.
pub fn family_folders() -> Vec<Case> {
    let mut cases = components();
    cases.extend(latents());
    cases.extend(styles());
    cases.extend(fields());
    cases.extend(classes());
    cases
}

fn components() -> Vec<Case> {
    let mut cases = Vec::new();
    for (bundle, roles) in BUNDLES {
        for role in roles {
            let (model, config) = (format!("{role}/model.onnx"), format!("{role}/config.json"));
            let (model, config): (&'static str, &'static str) = (model.leak(), config.leak());
            cases.push(case(&format!("no {role}"), bundle, gone(role), &[model, "which a"]));
            cases.push(case(&format!("no {role} as ONNX"), bundle, gone(model), &[model, "there is no such file"]));
            cases.push(case(&format!("{role} is empty"), bundle, written(model, ""), &[model, "is empty"]));
            cases.push(case(&format!("{role} is ones"), bundle, written(model, vec![0xff; 4096]), &[model, "is not an ONNX"]));
            cases.push(case(&format!("{role} nests"), bundle, written(config, deep("[")), &[config, "recursion limit"]));
            cases.push(case(&format!("{role} is not UTF-8"), bundle, written(config, [0xff, 0xfe]), &[config]));
            cases.push(case(&format!("{role} says a list"), bundle, written(config, "[]"), &[config, "is a list"]));
        }
        cases.push(case("another family", bundle, set(INDEX, "_class_name", json!("StableDiffusionPipeline")), &["model.onnx"]));
        cases.push(case(
            "unknown family",
            bundle,
            set(INDEX, "_class_name", json!("MagicPipeline")),
            &[INDEX, "`MagicPipeline`"],
        ));
        cases.push(case("card is not UTF-8", bundle, written(CARD, [0xff, 0xfe]), &[CARD, "is not UTF-8"]));
    }
    for bundle in ["ddpm", "progressive", "consistency_cm"] {
        cases.push(case("no scheduler", bundle, gone("scheduler"), &[SCHEDULER, "there is no such file"]));
        cases.push(case("scheduler is a list", bundle, written(SCHEDULER, "[]"), &[SCHEDULER, "expected an object"]));
    }
    cases.extend([
        case("encoder and decoder swapped", "vae", swap(ENCODER, PICTURE_DECODER), &["model.onnx", "is not a"]),
        case("mapping and synthesis swapped", "gan", swap(MAPPING, SYNTHESIS), &["model.onnx", "is not a"]),
        case("encoder of a flow as unet", "ddpm", of_bundle("flow", ENCODER, UNET), &[UNET, "is not a unet"]),
        case("unet of another size", "ddpm", of_bundle("cnf", UNET, UNET), &["unet", "16"]),
        case("decoder of another model", "vae", of_bundle("flow", PICTURE_DECODER, PICTURE_DECODER), &["decoder", "16x16"]),
        case("unet that takes text", "ddpm", of_bundle("sd", UNET, UNET), &[UNET, "`encoder_hidden_states`"]),
        case(
            "an input of another name",
            "progressive",
            by(|folder| onnx::rename_input(&folder.join(UNET), "step_count", "patience")),
            &[UNET, "`patience`", "does not know"],
        ),
        case(
            "no timestep",
            "cnf",
            by(|folder| onnx::rename_input(&folder.join(UNET), "timestep", "clock")),
            &[UNET, "`timestep`"],
        ),
    ]);
    cases
}

fn latents() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [json!(-8), json!(0), json!(1e30), json!(8.5), json!("8"), json!([8]), json!(u64::MAX), json!(1_u64 << 40)] {
        for (bundle, file) in [("vae", PICTURE_DECODER_CONFIG), ("gan", MAPPING_CONFIG), ("flow", PICTURE_DECODER_CONFIG)] {
            let name = format!("`latent_size` is {value}");
            cases.push(case(&name, bundle, set(file, "latent_size", value.clone()), &[file, "`latent_size`"]));
        }
    }
    for value in [json!(0), json!(-0.5), json!(1e30), json!("0.1"), json!([0.1])] {
        let name = format!("`deviation` is {value}");
        cases.push(case(&name, "vae", set(PICTURE_DECODER_CONFIG, "deviation", value), &[PICTURE_DECODER_CONFIG, "`deviation`"]));
    }
    for (bundle, file) in [("vae", PICTURE_DECODER_CONFIG), ("flow", PICTURE_DECODER_CONFIG), ("gan", SYNTHESIS_CONFIG)] {
        for value in [json!(0), json!(-16), json!(1e30), json!("16"), json!([16]), json!(32)] {
            let name = format!("`sample_size` is {value}");
            cases.push(case(&name, bundle, set(file, "sample_size", value), &["`sample_size`"]));
        }
        cases.push(case("colours differ", bundle, set(file, "out_channels", json!(4)), &["`out_channels` 4"]));
    }
    cases.extend([
        case("latents differ", "vae", set(PICTURE_DECODER_CONFIG, "latent_size", json!(9)), &[PICTURE_DECODER, "8", "9"]),
        case("latents of a flow differ", "flow", set(PICTURE_DECODER_CONFIG, "latent_size", json!(100)), &["192", "100"]),
        case("latents of a mapping differ", "gan", set(MAPPING_CONFIG, "latent_size", json!(21)), &[MAPPING, "20", "21"]),
        case(
            "a flow that loses values",
            "flow",
            by(|folder| {
                set(PICTURE_DECODER_CONFIG, "latent_size", json!(100))(folder);
                dimension(PICTURE_DECODER, onnx::INPUT, "latent", 1, 100)(folder);
            }),
            &["100", "192", "a flow keeps their number"],
        ),
    ]);
    cases
}

fn styles() -> Vec<Case> {
    let row = vec![0.5; 12];
    let tables = [
        ("missing", json!(null)),
        ("text", json!("mean")),
        ("a number", json!(0.5)),
        ("empty", json!([])),
        ("empty rows", json!([[], [], []])),
        ("too narrow", json!([row[1..].to_vec()])),
        ("uneven", json!([row.clone(), row.clone(), row[1..].to_vec()])),
        ("for two classes", json!([row.clone(), row.clone()])),
        ("for four classes", json!([row.clone(), row.clone(), row.clone(), row.clone()])),
        ("of words", json!([vec!["a"; 12]])),
        ("flat", json!(row)),
        ("beyond f32", json!([vec![1e300; 12]])),
    ];
    let mut cases: Vec<Case> = tables
        .into_iter()
        .map(|(what, table)| {
            case(
                &format!("mean styles are {what}"),
                "gan",
                set(MAPPING_CONFIG, "mean_styles", table),
                &[MAPPING_CONFIG, "`mean_styles`"],
            )
        })
        .collect();
    for (key, least) in [("style_count", 7), ("style_size", 13)] {
        for value in [json!(0), json!(-6), json!(1e30), json!("6"), json!([6]), json!(u64::MAX), json!(least)] {
            cases.push(case(&format!("`{key}` is {value}"), "gan", set(SYNTHESIS_CONFIG, key, value), &["synthesis", key]));
        }
    }
    for value in [json!(-0.1), json!(1.5), json!("0.7"), json!([0.7])] {
        cases.push(case(&format!("`truncation` is {value}"), "gan", set(MAPPING_CONFIG, "truncation", value), &["`truncation`"]));
    }
    cases
}

fn fields() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [json!(0), json!(-1), json!("0.01"), json!([0.01]), json!(20)] {
        let name = format!("`sigma_min` is {value}");
        cases.push(case(&name, "score", set(UNET_CONFIG, "sigma_min", value), &[UNET_CONFIG, "`sigma_min`"]));
    }
    for value in [json!(0), json!(-1), json!(1e30), json!("50"), json!(0.001)] {
        let name = format!("`sigma_max` is {value}");
        cases.push(case(&name, "score", set(UNET_CONFIG, "sigma_max", value), &[UNET_CONFIG, "`sigma_max`"]));
    }
    for bundle in ["cnf", "score", "ddpm"] {
        for (key, value) in [("in_channels", json!(4)), ("sample_size", json!(24)), ("sample_size", json!([1, 2, 3]))] {
            let name = format!("`{key}` is {value}");
            cases.push(case(&name, bundle, set(UNET_CONFIG, key, value), &["unet", key]));
        }
        for (axis, size) in [(1, 5), (2, 9), (0, 0), (0, 1 << 20)] {
            let name = format!("axis {axis} is {size}");
            cases.push(case(&name, bundle, dimension(UNET, onnx::INPUT, "sample", axis, size), &["unet"]));
        }
    }
    cases
}

fn classes() -> Vec<Case> {
    let listed = |classes: Value| {
        by(move |folder: &Path| {
            let path = folder.join(CARD);
            let text = fs::read_to_string(&path).unwrap();
            let own = text.lines().find(|line| line.starts_with("classes")).unwrap();
            fs::write(&path, text.replace(own, &format!("classes = {classes}"))).unwrap();
        })
    };
    let mut cases = Vec::new();
    for bundle in ["ddpm", "progressive", "cnf"] {
        for (what, list) in [
            ("one", json!(["red"])),
            ("five", json!(["red", "green", "blue", "grey", "pink"])),
            ("twice one", json!(["red", "green", "red"])),
            ("nameless", json!(["red", "green", ""])),
            ("blank", json!(["red", "green", "  "])),
            ("a word", json!("red")),
            ("numbers", json!([1, 2, 3])),
            ("lists", json!([["red"], ["green"], ["blue"]])),
            ("without end", json!(["red", "green", "x".repeat(5000)])),
            ("an escape", json!(["red", "green", "\u{1b}[2J"])),
            ("two lines", json!(["red", "green", "blue\nkiln: all is well"])),
        ] {
            cases.push(case(&format!("classes: {what}"), bundle, listed(list), &["classes"]));
        }
        for value in [json!(0), json!(-1), json!("4"), json!(1e30), json!(2), json!(50), json!([4])] {
            let name = format!("`num_class_embeds` is {value}");
            cases.push(case(&name, bundle, set(UNET_CONFIG, "num_class_embeds", value), &["class"]));
        }
    }
    for bundle in ["vae", "gan"] {
        for list in [json!(["red", "red"]), json!([""]), json!({"red": 1})] {
            cases.push(case(&format!("classes: {list}"), bundle, listed(list), &[CARD]));
        }
    }
    cases
}

/// What `Bundle::open` lets through, and a run must refuse.
pub fn family_runs() -> Vec<Case> {
    let nan = f32::NAN;
    let half = |model: &'static str, config: &'static str| {
        by(move |folder: &Path| {
            for axis in [2, 3] {
                dimension(model, onnx::OUTPUT, "sample", axis, 4)(folder);
            }
            set(config, "sample_size", json!(4))(folder);
        })
    };
    let mut cases = vec![
        case("decoder that is no number", "vae", filled(PICTURE_DECODER, 8, nan), &["decoder: its output `sample`", "NaN"]),
        case("encoder that is no number", "vae", filled(ENCODER, 8, nan), &["encoder: its output", "NaN"]),
        case("decoder that gives one value", "vae", filled(PICTURE_DECODER, 3, 0.0), &["decoder: ", "every value"]),
        case("decoder that overflows", "vae", filled(PICTURE_DECODER, 8, f32::MAX), &["decoder: "]),
        case(
            "decoder of half the size",
            "vae",
            half(PICTURE_DECODER, PICTURE_DECODER_CONFIG),
            &["decoder: gave a picture of shape"],
        ),
        case("mapping that is no number", "gan", filled(MAPPING, 8, nan), &["mapping: its output `styles`", "NaN"]),
        case("synthesis that is no number", "gan", filled(SYNTHESIS, 8, nan), &["synthesis: its output `sample`", "NaN"]),
        case("synthesis that gives one value", "gan", filled(SYNTHESIS, 3, 0.0), &["synthesis: ", "every value"]),
        case("synthesis of half the size", "gan", half(SYNTHESIS, SYNTHESIS_CONFIG), &["synthesis: gave a picture of shape"]),
        case(
            "styles of another width",
            "gan",
            by(|folder| {
                dimension(SYNTHESIS, onnx::INPUT, "styles", 2, 13)(folder);
                set(SYNTHESIS_CONFIG, "style_size", json!(13))(folder);
                set(MAPPING_CONFIG, "mean_styles", json!([vec![0.0; 13]]))(folder);
            }),
            &[SYNTHESIS, "12", "13"],
        ),
        case(
            "decoder of a flow that is no number",
            "flow",
            filled(PICTURE_DECODER, 8, nan),
            &["decoder: its output `sample`", "NaN"],
        ),
        case("encoder of a flow that is no number", "flow", filled(ENCODER, 8, nan), &["encoder: its output", "NaN"]),
        case("decoder of a flow of half the size", "flow", half(PICTURE_DECODER, PICTURE_DECODER_CONFIG), &["decoder"]),
        case(
            "a latent of another size",
            "vae",
            by(|folder| {
                dimension(PICTURE_DECODER, onnx::INPUT, "latent", 1, 9)(folder);
                set(PICTURE_DECODER_CONFIG, "latent_size", json!(9))(folder);
            }),
            &[PICTURE_DECODER, "8", "9"],
        ),
        case(
            "unknown scheduler",
            "ddpm",
            set(SCHEDULER, "_class_name", json!("MagicScheduler")),
            &["sampler: the model's own is `MagicScheduler`", "--sampler"],
        ),
        case(
            "classes that the network does not know",
            "ddpm",
            by(|folder| {
                let names: Vec<String> = (0..100).map(|number| format!("class {number}")).collect();
                let path = folder.join(CARD);
                let text = fs::read_to_string(&path).unwrap();
                let own = text.lines().find(|line| line.starts_with("classes")).unwrap().to_owned();
                fs::write(&path, text.replace(&own, &format!("classes = {}", json!(names)))).unwrap();
                set(UNET_CONFIG, "num_class_embeds", json!(100))(folder);
            }),
            &[UNET, "out of data bounds"],
        ),
    ];
    for bundle in ["cnf", "score", "ddpm", "progressive", "consistency_cm"] {
        cases.push(case("weights that are no numbers", bundle, filled(UNET, 8, nan), &["unet: its output `out_sample`", "NaN"]));
    }
    cases
}
