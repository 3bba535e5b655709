//! Spoilt bundles of clips: AnimateDiff, Wan and LTX-Video.

use serde_json::json;

use super::super::onnx;
use super::*;

/// The number of a graph's inputs in ONNX.
const INPUT: u64 = 11;
const CARD: &str = "kiln.toml";

/// Without each of the parts that every text-to-clip pipeline has.
///
/// * `denoiser`: its folder, with its `file`
fn without_parts(bundle: &'static str, denoiser: &'static str, file: &'static str) -> Vec<Case> {
    vec![
        case("no text encoder", bundle, gone("text_encoder"), &["text_encoder/model.onnx", "needs"]),
        case("no tokenizer", bundle, gone("tokenizer"), &["there is no `tokenizer` folder"]),
        case(&format!("no {denoiser}"), bundle, gone(denoiser), &[file, "needs"]),
        case("no decoder", bundle, gone("vae_decoder"), &[DECODER, "needs"]),
        case("no sampler", bundle, gone(SCHEDULER), &[SCHEDULER, "there is no such file"]),
    ]
}

/// What `Bundle::open` must refuse.
pub fn clip_folders() -> Vec<Case> {
    let mut cases = Vec::new();
    for bundle in ["animatediff", "animatediff_windows"] {
        cases.extend(without_parts(bundle, "unet", UNET));
        cases.extend([
            case(
                "unet of pictures",
                bundle,
                of_bundle("sd", UNET, UNET),
                &[UNET, "`sample`", "5 dimensions for the latents of a clip"],
            ),
            case(
                "class of pictures",
                bundle,
                set(INDEX, "_class_name", json!("StableDiffusionPipeline")),
                &[UNET, "4 dimensions"],
            ),
            case("a decoder as unet", bundle, of_bundle("animatediff", DECODER, UNET), &[UNET, "is not a unet"]),
            case("no name in the card", bundle, written(CARD, "[clip]\nframes = [8]"), &[CARD, "missing field `name`"]),
        ]);
        for (frames, expected) in [
            ("[0]", "`clip` holds 0"),
            ("[1001]", "`clip` holds 1001"),
            ("8", "invalid type"),
            ("[-8]", "invalid value"),
            ("[\"8\"]", "invalid type"),
        ] {
            let text = format!("name = \"a\"\n[clip]\nframes = {frames}");
            cases.push(case(&format!("`clip.frames` is {frames}"), bundle, written(CARD, text), &[CARD, expected]));
        }
        for value in [json!(-8), json!(0), json!(1e30), json!("8"), json!([8]), json!(2000)] {
            let name = format!("`motion_max_seq_length` is {value}");
            cases.push(case(
                &name,
                bundle,
                set(UNET_CONFIG, "motion_max_seq_length", value),
                &[UNET_CONFIG, "motion_max_seq_length"],
            ));
        }
    }
    cases.extend([
        case(
            "trained for more frames than there are places",
            "animatediff",
            written(CARD, "name = \"a\"\n[clip]\nframes = [9]"),
            &["`clip.frames` holds 9", "`motion_max_seq_length` 8"],
        ),
        case(
            "trained for other frames than it takes",
            "animatediff_windows",
            written(CARD, "name = \"a\"\n[clip]\nframes = [8, 10]"),
            &["`clip.frames` holds 8", "takes 10 frames only"],
        ),
        case(
            "a default that it does not take",
            "animatediff_windows",
            written(CARD, "name = \"a\"\n[clip]\ndefault_frames = 8"),
            &["`clip.default_frames` is 8", "takes 10 frames only"],
        ),
        case(
            "windows of open frames",
            "animatediff",
            set(UNET_CONFIG, "free_noise_context_length", json!(8)),
            &[UNET_CONFIG, "free_noise_context_length", "leaves the frames open"],
        ),
        case(
            "windows longer than the clip",
            "animatediff_windows",
            set(UNET_CONFIG, "free_noise_context_length", json!(11)),
            &[UNET_CONFIG, "windows of 11 frames"],
        ),
        case(
            "windows without a stride",
            "animatediff_windows",
            set(UNET_CONFIG, "free_noise_context_stride", json!(0)),
            &[UNET_CONFIG, "free_noise_context_stride"],
        ),
        case(
            "windows with gaps",
            "animatediff_windows",
            set(UNET_CONFIG, "free_noise_context_stride", json!(9)),
            &[UNET_CONFIG, "windows of 8 frames every 9"],
        ),
        case("a million frames", "animatediff", dimension(UNET, INPUT, "sample", 2, 1 << 20), &[UNET, "at most 1024 frames"]),
        case("no frames", "animatediff", dimension(UNET, INPUT, "sample", 2, 0), &[UNET, "no dimension of a unet is 0"]),
    ]);
    cases.extend(wan_folders());
    cases.extend(ltx_folders());
    cases.extend(first_frame_folders());
    cases
}

/// Of a model whose clips go on from a picture.
fn first_frame_folders() -> Vec<Case> {
    const I2V: &str = "wan_i2v";
    const PREPARATION: &str = "image_processor/preprocessor_config.json";
    const IMAGE: &str = "image_encoder/model.onnx";
    const ENCODER: &str = "vae_encoder/model.onnx";
    const ENCODER_FIRST: &str = "vae_encoder_first/model.onnx";
    let mut cases = vec![
        case("no encoder", I2V, gone("vae_encoder"), &["12 channels, the first frame's among them", ENCODER]),
        case("no first encoder", I2V, gone("vae_encoder_first"), &["12 channels", ENCODER_FIRST]),
        case("no image encoder", I2V, gone("image_encoder"), &["`encoder_hidden_states_image`", IMAGE]),
        case("no preparation", I2V, gone("image_processor"), &[PREPARATION]),
        case("preparation that is cut off", I2V, written(PREPARATION, "{\"size\": "), &[PREPARATION]),
        case("encoder of pictures", I2V, of_bundle("sd", ENCODER, ENCODER), &[ENCODER, "5 dimensions for the frames"]),
        case("the first encoder twice", I2V, of_bundle(I2V, ENCODER_FIRST, ENCODER), &[ENCODER, "remembers nothing"]),
        case("the other encoder twice", I2V, of_bundle(I2V, ENCODER, ENCODER_FIRST), &[ENCODER_FIRST, "`past.0`"]),
        case("the decoder as encoder", I2V, of_bundle(I2V, DECODER, ENCODER), &[ENCODER, "is not a vae_encoder"]),
        case("a memory of another width", I2V, dimension(ENCODER, INPUT, "past.0", 1, 9), &["they are of two exports"]),
        case("transformer of text alone", I2V, of_bundle(WAN, TRANSFORMER, TRANSFORMER), &["`in_channels` 12"]),
        case("an image encoder of other sides", I2V, dimension(IMAGE, INPUT, "pixel_values", 2, 32), &[IMAGE, "28x28"]),
        case(
            "embeddings of another width",
            I2V,
            dimension(TRANSFORMER, INPUT, "encoder_hidden_states_image", 2, 17),
            &["width 17", "gives 16"],
        ),
        case(
            "a text encoder as image encoder",
            I2V,
            of_bundle("sd", "text_encoder/model.onnx", IMAGE),
            &[IMAGE, "is not a image_encoder"],
        ),
        case(
            "channels that are neither",
            I2V,
            by(|folder| {
                set(TRANSFORMER_CONFIG, "in_channels", json!(13))(folder);
                dimension(TRANSFORMER, INPUT, "hidden_states", 1, 13)(folder);
            }),
            &["takes 13 channels", "or to begin with a picture 12"],
        ),
        case(
            "the class of picture to clip alone",
            WAN,
            set(INDEX, "_class_name", json!("WanImageToVideoPipeline")),
            &["expects the first frame", "Wan 2.1"],
        ),
    ];
    for (key, value) in [
        ("size", json!({ "shortest_edge": 0 })),
        ("size", json!("28")),
        ("crop_size", json!({ "height": 4000, "width": 28 })),
        ("crop_size", json!(-1)),
        ("image_mean", json!([0.5])),
        ("image_std", json!([1.0, 0.0, 1.0])),
        ("resample", json!(2)),
        ("do_center_crop", json!(false)),
    ] {
        cases.push(case(&format!("`{key}` is {value}"), I2V, set(PREPARATION, key, value), &[PREPARATION, key]));
    }
    cases
}

const WAN: &str = "wan";
const TRANSFORMER: &str = "transformer/model.onnx";
const TRANSFORMER_CONFIG: &str = "transformer/config.json";
const FIRST: &str = "vae_decoder_first/model.onnx";

fn wan_folders() -> Vec<Case> {
    let mut cases = without_parts(WAN, "transformer", TRANSFORMER);
    cases.extend([
        case("no first decoder", WAN, gone("vae_decoder_first"), &[FIRST, "needs"]),
        case(
            "transformer of pictures",
            WAN,
            of_bundle("sd3", TRANSFORMER, TRANSFORMER),
            &[TRANSFORMER, "5 dimensions for the latents of a clip"],
        ),
        case(
            "decoder of pictures",
            WAN,
            of_bundle("sd", DECODER, DECODER),
            &[DECODER, "5 dimensions for the latents of a frame"],
        ),
        case("the first decoder twice", WAN, of_bundle(WAN, FIRST, DECODER), &[DECODER, "remembers nothing"]),
        case("the other decoder twice", WAN, of_bundle(WAN, DECODER, FIRST), &[FIRST, "`past.0`"]),
        case(
            "a memory of another name",
            WAN,
            by(|folder| onnx::rename_input(&folder.join(DECODER), "past.3", "past.99")),
            &["they are of two exports"],
        ),
        case("a memory of another width", WAN, dimension(DECODER, INPUT, "past.1", 1, 9), &["they are of two exports"]),
        case(
            "class of AnimateDiff",
            WAN,
            set(INDEX, "_class_name", json!("AnimateDiffPipeline")),
            &[DECODER, "expected 4 dimensions"],
        ),
        case(
            "frames that it cannot make",
            WAN,
            written(CARD, "name = \"a\"\n[clip]\nframes = [9, 16]"),
            &["`clip.frames` holds 16", "a multiple of 4 and one more"],
        ),
        case(
            "a default that it cannot make",
            WAN,
            written(CARD, "name = \"a\"\n[clip]\ndefault_frames = 80"),
            &["`clip.default_frames` holds 80"],
        ),
        case(
            "a million frames",
            WAN,
            dimension(TRANSFORMER, INPUT, "hidden_states", 2, 1 << 20),
            &[TRANSFORMER, "at most 1024 frames"],
        ),
    ]);
    for value in
        [json!(2), json!([2, 2, 2]), json!([1, 2]), json!([1, 2, 4]), json!([1, 0, 0]), json!("1,2,2"), json!([1, 99, 99])]
    {
        let name = format!("`patch_size` is {value}");
        cases.push(case(&name, WAN, set(TRANSFORMER_CONFIG, "patch_size", value), &[TRANSFORMER_CONFIG, "patch_size"]));
    }
    for value in [json!(-4), json!(0), json!(65), json!("4"), json!([4])] {
        let name = format!("`scale_factor_temporal` is {value}");
        cases.push(case(
            &name,
            WAN,
            set(DECODER_CONFIG, "scale_factor_temporal", value),
            &[DECODER_CONFIG, "scale_factor_temporal"],
        ));
    }
    for value in [json!([1.0]), json!("1"), json!([1.0, 1.0, 1.0, -1.0])] {
        let name = format!("`latents_std` is {value}");
        cases.push(case(&name, WAN, set(DECODER_CONFIG, "latents_std", value), &[DECODER_CONFIG, "latents_std"]));
    }
    cases
}

const LTX: &str = "ltx";
const DISTILLED: &str = "ltx_distilled";

fn ltx_folders() -> Vec<Case> {
    let mut cases = Vec::new();
    for bundle in [LTX, DISTILLED] {
        cases.extend(without_parts(bundle, "transformer", TRANSFORMER));
        cases.extend([
            case(
                "transformer of pictures",
                bundle,
                of_bundle("pixart_sigma", TRANSFORMER, TRANSFORMER),
                &[TRANSFORMER, "5 dimensions for the latents of a clip"],
            ),
            case(
                "transformer of Wan",
                bundle,
                of_bundle(WAN, TRANSFORMER, TRANSFORMER),
                &[TRANSFORMER, "`timestep`", "2 dimensions"],
            ),
            case(
                "decoder of pictures",
                bundle,
                of_bundle("sd", DECODER, DECODER),
                &[DECODER, "5 dimensions for the latents of a clip"],
            ),
            case("decoder of Wan", bundle, of_bundle(WAN, DECODER, DECODER), &[DECODER, "`past.", "does not know"]),
            case(
                "a frame rate of another name",
                bundle,
                by(|folder| onnx::rename_input(&folder.join(TRANSFORMER), "frame_rate", "fps")),
                &[TRANSFORMER, "expected an input `frame_rate`"],
            ),
            case(
                "a mask of another name",
                bundle,
                by(|folder| onnx::rename_input(&folder.join(TRANSFORMER), "encoder_attention_mask", "mask")),
                &[TRANSFORMER, "expected an input `encoder_attention_mask`"],
            ),
            case("transformer cut off", bundle, cut_off(TRANSFORMER), &[TRANSFORMER]),
            case("decoder cut off", bundle, cut_off(DECODER), &[DECODER]),
            case("encoder cut off", bundle, cut_off("vae_encoder/model.onnx"), &["vae_encoder/model.onnx"]),
            case(
                "a million frames",
                bundle,
                dimension(TRANSFORMER, INPUT, "hidden_states", 2, 1 << 20),
                &[TRANSFORMER, "at most 1024 frames"],
            ),
            case(
                "latents of another model",
                bundle,
                set(DECODER_CONFIG, "latent_channels", json!(16)),
                &["vae_decoder", "`latent_channels` 16"],
            ),
            case(
                "frames that it cannot make",
                bundle,
                written(CARD, "name = \"a\"\n[clip]\nframes = [9, 16]"),
                &["`clip.frames` holds 16", "a multiple of 8 and one more"],
            ),
        ]);
        for (key, values) in [
            ("temporal_compression_ratio", [json!(-8), json!(0), json!(65), json!("8"), json!([8])]),
            ("spatial_compression_ratio", [json!(-32), json!(0), json!(257), json!("32"), json!([32])]),
            ("latents_std", [json!([1.0]), json!("1"), json!(vec![0.0; 8]), json!(vec![-1.0; 8]), json!({})]),
        ] {
            for value in values {
                let name = format!("`{key}` is {value}");
                cases.push(case(&name, bundle, set(DECODER_CONFIG, key, value), &[DECODER_CONFIG, key]));
            }
        }
    }
    for key in ["decode_timestep", "decode_noise_scale"] {
        for value in [json!(-0.1), json!(1.5), json!(1e30), json!("0.05"), json!([0.05])] {
            let name = format!("`{key}` is {value}");
            cases.push(case(&name, DISTILLED, set(DECODER_CONFIG, key, value), &[DECODER_CONFIG, key]));
        }
    }
    for timesteps in ["[1001]", "[-1.0]", "[nan]", "[500, 500]", "[1, 2]", "[inf, 3]", "\"1000\""] {
        let text = format!("name = \"a\"\n[steps]\ntimesteps = {timesteps}");
        let expected: &[&str] = if timesteps.starts_with('[') { &[CARD, "`steps.timesteps`"] } else { &[CARD, "invalid type"] };
        cases.push(case(&format!("`steps.timesteps` is {timesteps}"), DISTILLED, written(CARD, text), expected));
    }
    cases
}

/// The first half of the file.
fn cut_off(file: &'static str) -> Spoil {
    by(move |folder| {
        let bytes = std::fs::read(folder.join(file)).unwrap();
        std::fs::write(folder.join(file), &bytes[..bytes.len() / 2]).unwrap();
    })
}

/// What only a run can know.
pub fn clip_runs() -> Vec<Case> {
    vec![
        case("a decoder that gives no number", "animatediff", filled(DECODER, 64, f32::NAN), &["frame 0", "vae_decoder"]),
        case("a decoder of one colour", "animatediff", filled(DECODER, 1, 0.0), &["frame 0", "vae_decoder"]),
        case("a unet that gives no number", "animatediff", filled(UNET, 64, f32::NAN), &["unet", "NaN"]),
        case(
            "more frames to a frame of latents",
            WAN,
            set(DECODER_CONFIG, "scale_factor_temporal", json!(2)),
            &["vae_decoder", "gave frames of shape"],
        ),
        case(
            "more frames to a frame of latents",
            LTX,
            set(DECODER_CONFIG, "temporal_compression_ratio", json!(4)),
            &["vae_decoder", "gave frames of shape"],
        ),
        case("a decoder of one colour", LTX, filled(DECODER, 1, 0.0), &["vae_decoder", "frame 0"]),
        case("a decoder that gives no number", DISTILLED, filled(DECODER, 64, f32::NAN), &["vae_decoder", "frame 0"]),
        case("a transformer that gives no number", LTX, filled(TRANSFORMER, 64, f32::NAN), &["transformer", "NaN"]),
        case("a first decoder of one colour", WAN, filled(FIRST, 1, 0.0), &["vae_decoder_first", "frame 0"]),
        case("a decoder that gives no number", WAN, filled(DECODER, 64, f32::NAN), &["vae_decoder", "frame 1"]),
        case("an encoder that gives no number", "wan_i2v", filled("vae_encoder/model.onnx", 64, f32::NAN), &["vae_encoder"]),
        case(
            "an image encoder that gives no number",
            "wan_i2v",
            filled("image_encoder/model.onnx", 64, f32::NAN),
            &["image_encoder"],
        ),
        case("a unet of one value", "animatediff_windows", filled(UNET, 1, 0.0), &["unet", "every value"]),
    ]
}
