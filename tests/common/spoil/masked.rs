//! Spoilt bundles of transformers that are told where a text's padding is: PixArt and Sana.

use serde_json::json;

use super::super::onnx;
use super::*;

const TRANSFORMER: &str = "transformer/model.onnx";
const TRANSFORMER_CONFIG: &str = "transformer/config.json";
const ENCODER: &str = "text_encoder/model.onnx";
const INSTRUCTION: &str = "complex_human_instruction";
/// The number of a graph's inputs in ONNX.
const INPUT: u64 = 11;

fn called(file: &'static str, from: &'static str, to: &'static str) -> Spoil {
    by(move |folder| onnx::rename_input(&folder.join(file), from, to))
}

/// What `Bundle::open` must refuse.
pub fn masked_folders() -> Vec<Case> {
    let mut cases = Vec::new();
    for bundle in ["pixart_sigma", "pixart_lcm", "sana", "sana_sprint"] {
        cases.extend([
            case("no transformer", bundle, gone("transformer"), &[TRANSFORMER, "needs"]),
            case("no text encoder", bundle, gone("text_encoder"), &[ENCODER, "needs"]),
            case("no tokenizer", bundle, gone("tokenizer"), &["there is no `tokenizer` folder"]),
            case("no decoder", bundle, gone("vae_decoder"), &[DECODER, "needs"]),
            case("no sampler", bundle, gone(SCHEDULER), &[SCHEDULER, "there is no such file"]),
            case("transformer is ones", bundle, written(TRANSFORMER, vec![0xff; 4096]), &[TRANSFORMER, "is not an ONNX"]),
            case(
                "decoder as transformer",
                bundle,
                of_bundle("sana", DECODER, TRANSFORMER),
                &[TRANSFORMER, "is not a transformer"],
            ),
            case(
                "no mask of the padding",
                bundle,
                called(TRANSFORMER, "encoder_attention_mask", "patience"),
                &[TRANSFORMER, "`encoder_attention_mask`", "mask of the padding"],
            ),
            case("a transformer without a mask", bundle, of_bundle("sd3", TRANSFORMER, TRANSFORMER), &["encoder_attention_mask"]),
            case("one text for all", bundle, dimension(TRANSFORMER, INPUT, "encoder_hidden_states", 2, 7), &["width 7"]),
            case("channels of another model", bundle, dimension(TRANSFORMER, INPUT, "hidden_states", 1, 5), &["channels"]),
            case("a transformer without end", bundle, dimension(TRANSFORMER, INPUT, "hidden_states", 0, 4096), &["4096"]),
        ]);
        for value in [json!(-1), json!(0), json!(17), json!("2"), json!([2, 2]), json!(1.5)] {
            let name = format!("`patch_size` is {value}");
            cases.push(case(&name, bundle, set(TRANSFORMER_CONFIG, "patch_size", value), &[TRANSFORMER_CONFIG, "patch_size"]));
        }
    }
    for value in [json!(7), json!([1, 2]), json!(["a", null]), json!({"a": "b"})] {
        let name = format!("the instruction is {value}");
        cases.push(case(&name, "sana", set(INDEX, INSTRUCTION, value), &[INDEX, INSTRUCTION]));
    }
    cases.extend([
        case("an instruction without end", "sana", set(INDEX, INSTRUCTION, json!("a ".repeat(6000))), &[INSTRUCTION, "5000"]),
        case("a transformer that is told no scale", "sana_sprint", of_bundle("sana", TRANSFORMER, TRANSFORMER), &["`guidance`"]),
        case("a transformer that is told a scale", "sana", of_bundle("sana_sprint", TRANSFORMER, TRANSFORMER), &["`guidance`"]),
        case("another sampler's path", "sana_sprint", set(SCHEDULER, "prediction_type", json!("epsilon")), &["`trigflow`"]),
        case("a deviation of nothing", "sana_sprint", set(SCHEDULER, "sigma_data", json!(0.0)), &["sigma_data"]),
    ]);
    cases
}

/// What `Bundle::open` lets through, and opening the engine or making a picture must refuse.
pub fn masked_runs() -> Vec<Case> {
    vec![
        case(
            "an encoder that reads the padding",
            "pixart_sigma",
            of_bundle("sd3", "text_encoder_3/model.onnx", ENCODER),
            &[ENCODER, "no input `attention_mask`", "padding"],
        ),
        case(
            "an encoder of one length, and an instruction",
            "sana",
            dimension(ENCODER, INPUT, "input_ids", 1, 300),
            &["takes 300 tokens", "instruction"],
        ),
        case(
            "an instruction of every token",
            "sana",
            set(INDEX, INSTRUCTION, json!("@#".repeat(2400))),
            &[INSTRUCTION, "too long"],
        ),
        case(
            "fewer embeddings than ids",
            "sana_sprint",
            set("text_encoder/config.json", "vocab_size", json!(100)),
            &["tokenizer", "`vocab_size` 100"],
        ),
        case(
            "transformer that is no number",
            "pixart_lcm",
            filled(TRANSFORMER, 8, f32::NAN),
            &["transformer: its output", "NaN"],
        ),
        case("encoder that is no number", "sana", filled(ENCODER, 8, f32::NAN), &["text_encoder", "NaN"]),
        case("sampler of another path", "sana_sprint", of_bundle("sana", SCHEDULER, SCHEDULER), &["`dpm++`", "`scm` alone"]),
        case("sampler of Sana-Sprint", "sana", of_bundle("sana_sprint", SCHEDULER, SCHEDULER), &["`scm`", "on another"]),
    ]
}
