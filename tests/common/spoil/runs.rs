//! Spoilt bundles that only opening the engine or a run can tell from whole ones.

use serde_json::json;

use super::super::onnx;
use super::*;

/// What `Bundle::open` lets through, and opening the engine or making a picture must refuse.
pub fn runs() -> Vec<Case> {
    const VOCABULARY: &str = "tokenizer/vocab.json";
    vec![
        case("no vocabulary", "sd", gone(VOCABULARY), &["tokenizer", "has no tokenizer"]),
        case("no merges", "sd", gone("tokenizer/merges.txt"), &["tokenizer", "has no tokenizer"]),
        case("vocabulary is a list", "sd", written(VOCABULARY, "[]"), &[VOCABULARY]),
        case("vocabulary nests", "sd", written(VOCABULARY, deep("[")), &[VOCABULARY]),
        case("vocabulary of 50 MB", "sd", written(VOCABULARY, vec![b' '; 50 << 20]), &[VOCABULARY, "larger than"]),
        case("ids are negative", "sd", written(VOCABULARY, "{\"a\": -1}"), &[VOCABULARY]),
        case("vocabulary is a pipe", "sd", pipe_instead(VOCABULARY), &["tokenizer", "has no tokenizer"]),
        case(
            "tokenizer settings are text",
            "sd",
            written("tokenizer/tokenizer_config.json", "hello"),
            &["tokenizer_config.json"],
        ),
        case(
            "a text of five thousand words",
            "sd",
            set("tokenizer/tokenizer_config.json", "model_max_length", json!(5000)),
            &["`model_max_length` is 5000"],
        ),
        case("a text of no words", "sd", set("tokenizer/tokenizer_config.json", "model_max_length", json!(0)), &["tokenizer"]),
        case(
            "vocabulary of another model",
            "sd",
            written(VOCABULARY, "{\"a</w>\": 99999999, \"<|startoftext|>\": 0, \"<|endoftext|>\": 1}"),
            &["a"],
        ),
        case("weights that are no numbers", "sd", filled(UNET, 8, f32::NAN), &["unet: its output", "NaN"]),
        case(
            "text encoder that is no number",
            "sd",
            filled("text_encoder/model.onnx", 8, f32::NAN),
            &["text_encoder: its output", "NaN"],
        ),
        case("decoder that overflows", "sd", filled(DECODER, 8, f32::MAX), &["vae_decoder: "]),
        case(
            "decoder that gives one value",
            "sd",
            filled(DECODER, 3, 0.0),
            &["vae_decoder: every value of its output `sample` is"],
        ),
        case(
            "betas that leave nothing",
            "sd",
            written(
                "scheduler/scheduler_config.json",
                r#"{"_class_name": "EulerAncestralDiscreteScheduler", "num_train_timesteps": 8958, "timestep_spacing": "trailing"}"#,
            ),
            &["scheduler_config.json gives noise without end"],
        ),
        case(
            "unknown scheduler",
            "sd",
            set("scheduler/scheduler_config.json", "_class_name", json!("MagicScheduler")),
            &["sampler: the model's own is `MagicScheduler`", "--sampler"],
        ),
        case(
            "tokenizer of a larger model",
            "sd",
            set("text_encoder/config.json", "vocab_size", json!(100)),
            &["tokenizer", "token ids up to", "`vocab_size` 100"],
        ),
        case("scaling that overflows", "sd", set(DECODER_CONFIG, "scaling_factor", json!(1e-38)), &["vae_decoder: "]),
        case(
            "decoder of half the size",
            "sd",
            set(DECODER_CONFIG, "block_out_channels", json!([4, 8])),
            &["vae_decoder: gave a picture of shape"],
        ),
        case(
            "no operators that the runtime knows",
            "sd",
            by(|folder| {
                onnx::edit_graph(&folder.join(UNET), |graph| {
                    graph.each(1, |node| {
                        node.set(4, onnx::Value::Bytes(b"Abracadabra".to_vec()));
                        true
                    })
                })
            }),
            &[UNET],
        ),
        case(
            "weights of other sizes",
            "sd",
            by(|folder| {
                onnx::edit_graph(&folder.join(UNET), |graph| {
                    graph.each(onnx::INITIALIZER, |tensor| {
                        tensor.remove(onnx::TENSOR_DIMENSIONS);
                        tensor.0.push((onnx::TENSOR_DIMENSIONS, onnx::Value::Number(3)));
                        true
                    })
                })
            }),
            &[UNET],
        ),
        case(
            "no nodes",
            "sd",
            by(|folder| {
                onnx::edit_graph(&folder.join(UNET), |graph| {
                    graph.remove(1);
                    1
                })
            }),
            &[UNET],
        ),
        case(
            "an output that is not made",
            "sd",
            by(|folder| {
                onnx::edit_graph(&folder.join(DECODER), |graph| {
                    graph.each(onnx::OUTPUT, |info| {
                        info.set(onnx::PORT_NAME, onnx::Value::Bytes(b"nothing".to_vec()));
                        true
                    })
                })
            }),
            &[DECODER],
        ),
    ]
}
