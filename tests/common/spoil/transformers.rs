//! Spoilt bundles of transformers over patches: Stable Diffusion 3 and Flux.

use serde_json::json;

use super::super::onnx;
use super::*;

const TRANSFORMER: &str = "transformer/model.onnx";
const TRANSFORMER_CONFIG: &str = "transformer/config.json";
const SENTENCES: &str = "tokenizer_3/tokenizer.json";
/// The number of a graph's inputs in ONNX.
const INPUT: u64 = 11;

/// What `Bundle::open` must refuse.
pub fn transformer_folders() -> Vec<Case> {
    let mut cases = Vec::new();
    for bundle in ["sd3", "sd35_turbo", "flux_schnell", "flux_dev"] {
        cases.extend([
            case("no transformer", bundle, gone("transformer"), &[TRANSFORMER, "needs"]),
            case("transformer is empty", bundle, written(TRANSFORMER, ""), &[TRANSFORMER, "is empty"]),
            case("transformer is ones", bundle, written(TRANSFORMER, vec![0xff; 4096]), &[TRANSFORMER, "is not an ONNX"]),
            case("transformer says a list", bundle, written(TRANSFORMER_CONFIG, "[]"), &[TRANSFORMER_CONFIG, "is a list"]),
            case("transformer nests", bundle, written(TRANSFORMER_CONFIG, deep("[")), &[TRANSFORMER_CONFIG, "recursion limit"]),
            case("no second encoder", bundle, gone("text_encoder_2"), &["text_encoder_2/model.onnx", "needs"]),
            case("no second tokenizer", bundle, gone("tokenizer_2"), &["there is no `tokenizer_2` folder"]),
            case("no sampler", bundle, gone(SCHEDULER), &[SCHEDULER, "there is no such file"]),
            case("class of SD", bundle, set(INDEX, "_class_name", json!("StableDiffusionPipeline")), &["unet/model.onnx"]),
            case(
                "decoder as transformer",
                bundle,
                of_bundle("sd3", DECODER, TRANSFORMER),
                &[TRANSFORMER, "is not a transformer"],
            ),
            case("unet as transformer", bundle, of_bundle("sd", UNET, TRANSFORMER), &[TRANSFORMER, "is not a transformer"]),
            case(
                "an input of another name",
                bundle,
                by(|folder| onnx::rename_input(&folder.join(TRANSFORMER), "pooled_projections", "patience")),
                &[TRANSFORMER, "`pooled_projections`"],
            ),
            case("decoder of another model", bundle, of_bundle("sd", DECODER, DECODER), &[DECODER, "4"]),
        ]);
        for value in [json!(-4), json!(0), json!(1e30), json!("64"), json!([64]), json!(60)] {
            let name = format!("`in_channels` is {value}");
            cases.push(case(&name, bundle, set(TRANSFORMER_CONFIG, "in_channels", value), &["transformer", "in_channels"]));
        }
    }
    for bundle in ["sd3", "sd35_turbo"] {
        for value in [json!(-1), json!(0), json!(17), json!("2"), json!([2, 2]), json!(1.5)] {
            let name = format!("`patch_size` is {value}");
            cases.push(case(&name, bundle, set(TRANSFORMER_CONFIG, "patch_size", value), &[TRANSFORMER_CONFIG, "patch_size"]));
        }
        for value in [json!(-1), json!(0), json!(1e30), json!("16")] {
            let name = format!("`pos_embed_max_size` is {value}");
            let expected = &[TRANSFORMER_CONFIG, "pos_embed_max_size"];
            cases.push(case(&name, bundle, set(TRANSFORMER_CONFIG, "pos_embed_max_size", value), expected));
        }
    }
    cases.extend([
        case("no third tokenizer", "sd3", gone("tokenizer_3"), &["there is no `tokenizer_3` folder"]),
        case("Flux's transformer in SD3", "sd3", of_bundle("flux_dev", TRANSFORMER, TRANSFORMER), &[TRANSFORMER, "4 dimensions"]),
        case("SD3's transformer in Flux", "flux_dev", of_bundle("sd3", TRANSFORMER, TRANSFORMER), &[TRANSFORMER, "3 dimensions"]),
        case(
            "a T5 of another width",
            "sd3",
            of_bundle("sd3", "text_encoder_2/model.onnx", "text_encoder_3/model.onnx"),
            &["width 64", "32"],
        ),
        case(
            "embeddings wider than the transformer",
            "sd35_turbo",
            dimension(TRANSFORMER, INPUT, "encoder_hidden_states", 2, 40),
            &["width 40", "56"],
        ),
        case(
            "a number of patches that no size gives",
            "flux_dev",
            dimension(TRANSFORMER, INPUT, "hidden_states", 1, 64),
            &[TRANSFORMER, "export both for one size"],
        ),
        case("places of four numbers", "flux_dev", dimension(TRANSFORMER, INPUT, "img_ids", 1, 4), &[TRANSFORMER, "`img_ids`"]),
        case("places of texts of two", "flux_schnell", dimension(TRANSFORMER, INPUT, "txt_ids", 1, 2), &["`txt_ids`"]),
    ]);
    cases
}

/// What `Bundle::open` lets through, and opening the engine or making a picture must refuse.
pub fn transformer_runs() -> Vec<Case> {
    vec![
        case("sentences are a list", "sd3", written(SENTENCES, "[]"), &[SENTENCES, "is no object"]),
        case("sentences nest", "sd3", written(SENTENCES, deep("[")), &[SENTENCES, "recursion limit"]),
        case("no sentences", "sd3", gone(SENTENCES), &["tokenizer_3", "has no tokenizer"]),
        case(
            "T5 with fewer embeddings than ids",
            "sd3",
            set("text_encoder_3/config.json", "vocab_size", json!(100)),
            &["tokenizer_3", "`vocab_size` 100"],
        ),
        case("transformer that is no number", "sd3", filled(TRANSFORMER, 8, f32::NAN), &["transformer: its output", "NaN"]),
        case("T5 that is no number", "flux_dev", filled("text_encoder_2/model.onnx", 8, f32::NAN), &["text_encoder_2", "NaN"]),
    ]
}
