//! Spoilt ONNX files, and weights that lie elsewhere.

use serde_json::json;

use super::super::onnx;
use super::*;

pub fn networks() -> Vec<Case> {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 3438167540\n";
    let mut cases = vec![
        case("empty ONNX", "sd", written(UNET, ""), &[UNET, "is empty, expected an ONNX model"]),
        case("text as ONNX", "sd", written(UNET, "This is not a model.\n"), &[UNET, "is"]),
        case("page as ONNX", "sd", written(UNET, "<!DOCTYPE html><html>404</html>"), &[UNET, "is"]),
        case("Git LFS pointer", "sd", written(UNET, POINTER), &[UNET, "is a Git LFS pointer", "git lfs pull"]),
        case("zeros as ONNX", "sd", written(UNET, vec![0; 4096]), &[UNET, "is not an ONNX model"]),
        case("ones as ONNX", "sd", written(UNET, vec![0xff; 4096]), &[UNET, "is not an ONNX model"]),
        case("no graph", "sd", written(UNET, [8, 8]), &[UNET, "holds no graph"]),
        case("no operator set", "sd", written(UNET, [8, 8, 58, 0]), &[UNET, "names no operator set"]),
        case("empty graph", "sd", written(UNET, [66, 2, 16, 18, 58, 0]), &[UNET, "has no outputs"]),
        case("unet and decoder swapped", "sd", swap(UNET, DECODER), &["model.onnx", "is not a"]),
        case("encoder and decoder swapped", "sd", swap("vae_encoder/model.onnx", DECODER), &["model.onnx"]),
        case(
            "unet as text encoder",
            "sd",
            of_bundle("sd", UNET, "text_encoder/model.onnx"),
            &["text_encoder/model.onnx", "is not a"],
        ),
        case(
            "text encoder of SDXL",
            "sd",
            of_bundle("sdxl", "text_encoder_2/model.onnx", "text_encoder/model.onnx"),
            &["text embeddings of width 24", "give 40", "two models"],
        ),
        case("unet of SDXL", "sd", of_bundle("sdxl", UNET, UNET), &["unet"]),
        case("unet for inpainting", "sd", of_bundle("sd_inpaint", UNET, UNET), &[UNET, "has 9 channels", "`in_channels` 4"]),
        case(
            "another size",
            "sd",
            by(|folder| {
                for (axis, size) in [(2, 32), (3, 32)] {
                    dimension(UNET, onnx::INPUT, "sample", axis, size)(folder);
                }
            }),
            &[UNET, "`sample_size` 16x16", "32"],
        ),
        case("other channels", "sd", dimension(UNET, onnx::INPUT, "sample", 1, 5), &[UNET, "has 5 channels"]),
        case("other text", "sd", dimension(UNET, onnx::INPUT, "encoder_hidden_states", 2, 768), &["width 768", "24"]),
        case("a dimension of zero", "sd", dimension(UNET, onnx::INPUT, "sample", 0, 0), &[UNET, "`sample`", "no dimension"]),
        case(
            "a dimension without end",
            "sd",
            dimension(UNET, onnx::INPUT, "sample", 0, i64::MAX as u64),
            &[UNET, "`sample`", "no dimension"],
        ),
        case(
            "a batch of a million",
            "sd",
            dimension(UNET, onnx::INPUT, "sample", 0, 1 << 20),
            &[UNET, "`sample`", "pictures at once"],
        ),
        case("a huge output", "sd", dimension(DECODER, onnx::OUTPUT, "sample", 2, 1 << 40), &[DECODER, "no dimension"]),
        case(
            "two hundred colours",
            "sd",
            by(|folder| {
                set(DECODER_CONFIG, "out_channels", json!(200))(folder);
                dimension(DECODER, onnx::OUTPUT, "sample", 1, 200)(folder);
            }),
            &["200 channels, expected 1, 3 or 4"],
        ),
        case(
            "an input of another name",
            "sd",
            by(|folder| onnx::rename_input(&folder.join(UNET), "timestep", "time")),
            &[UNET, "`timestep`"],
        ),
        case(
            "an input with a name without end",
            "sd",
            by(|folder| onnx::rename_input(&folder.join(UNET), "timestep", &"t".repeat(100_000))),
            &[UNET, "a name of 100000 bytes"],
        ),
        case(
            "an unknown input",
            "sd",
            by(|folder| {
                onnx::edit_graph(&folder.join(UNET), |graph| {
                    let mut extra = graph.clone();
                    extra.0.retain(|(number, _)| *number == onnx::INPUT);
                    extra.each(onnx::INPUT, |info| {
                        info.set(onnx::PORT_NAME, onnx::Value::Bytes(b"controlnet".to_vec()));
                        true
                    });
                    graph.0.push(extra.0[0].clone());
                    1
                })
            }),
            &[UNET, "`controlnet`", "does not know"],
        ),
        case(
            "sizes that overflow",
            "sd",
            by(|folder| {
                onnx::edit_graph(&folder.join(UNET), |graph| {
                    graph.each(onnx::INITIALIZER, |tensor| {
                        tensor.remove(onnx::TENSOR_DIMENSIONS);
                        tensor.0.push((onnx::TENSOR_DIMENSIONS, onnx::Value::Number(u64::MAX)));
                        true
                    })
                })
            }),
            &[UNET, "dimensions without end"],
        ),
    ];
    // Each graph nests another in an attribute of a node, a thousand deep.
    let nested = (0..1000).fold(Vec::new(), |inner: Vec<u8>, _| {
        let wrap = |number, bytes| onnx::Message(vec![(number, onnx::Value::Bytes(bytes))]).write();
        wrap(1, wrap(5, wrap(6, inner)))
    });
    let model = onnx::Message(vec![(onnx::GRAPH, onnx::Value::Bytes(nested))]).write();
    cases.push(case(
        "weights without number",
        "sd",
        written(UNET, many(b"\x2a\x00", 1_000_001)),
        &[UNET, "more than 1000000 weights"],
    ));
    cases.push(case(
        "inputs without number",
        "sd",
        written(UNET, many(b"\x5a\x00", 1_000_001)),
        &[UNET, "more than 1000000 inputs"],
    ));
    cases.push(case("graphs nest without end", "sd", written(UNET, model), &[UNET, "nests graphs"]));
    cases
}

/// A graph of the same field over and over.
fn many(field: &[u8], count: usize) -> Vec<u8> {
    onnx::Message(vec![(onnx::GRAPH, onnx::Value::Bytes(field.repeat(count)))]).write()
}

pub fn external_weights() -> Vec<Case> {
    let mut cases = vec![
        case("weights missing", "sd_external", gone("unet/model.onnx_data"), &[UNET, "`model.onnx_data`, which cannot be read"]),
        case("weights empty", "sd_external", written("unet/model.onnx_data", ""), &[UNET, "which has 0", "truncated"]),
        case(
            "weights cut off",
            "sd_external",
            written("unet/model.onnx_data", vec![0; 100_000]),
            &[UNET, "which has 100000", "truncated"],
        ),
        case("weights are a folder", "sd_external", folder_instead("unet/model.onnx_data"), &[UNET, "which is not a file"]),
        case("weights are a pipe", "sd_external", pipe_instead("unet/model.onnx_data"), &[UNET, "which is not a file"]),
        case("no location", "sd", elsewhere(&[("offset", "0")]), &[UNET, "which is not named"]),
        case("location is inner folder", "sd", elsewhere(&[("location", "inner")]), &[UNET, "which is not a file"]),
        case("location is this folder", "sd", elsewhere(&[("location", ".")]), &[UNET, "which is not a file"]),
        case("location with a zero", "sd", elsewhere(&[("location", "weights\0")]), &[UNET, "control characters"]),
        case(
            "location that paints",
            "sd",
            elsewhere(&[("location", "\u{1b}[2J\nkiln: all is well")]),
            &[UNET, "control characters"],
        ),
        case(
            "offset beyond the end",
            "sd",
            elsewhere(&[("location", "weights"), ("offset", "65")]),
            &[UNET, "ends at byte", "has 64"],
        ),
        case(
            "length beyond the end",
            "sd",
            elsewhere(&[("location", "weights"), ("length", "65")]),
            &[UNET, "ends at byte", "has 64"],
        ),
        case(
            "offset and length overflow",
            "sd",
            elsewhere(&[("location", "weights"), ("offset", "18446744073709551615"), ("length", "2")]),
            &[UNET, "an offset overflows"],
        ),
        case(
            "offset is negative",
            "sd",
            elsewhere(&[("location", "weights"), ("offset", "-1")]),
            &[UNET, "`-1`, expected a number"],
        ),
        case(
            "offset is text",
            "sd",
            elsewhere(&[("location", "weights"), ("offset", "ten")]),
            &[UNET, "`ten`, expected a number"],
        ),
        case(
            "length is too large a number",
            "sd",
            elsewhere(&[("location", "weights"), ("length", "99999999999999999999")]),
            &[UNET, "expected a number"],
        ),
    ];
    let outside: [&'static [(&'static str, &'static str)]; 6] = [
        &[("location", "../model_index.json")],
        &[("location", "inner/../../model_index.json")],
        &[("location", "/etc/passwd")],
        &[("location", "..\\model_index.json")],
        &[("location", "C:\\weights")],
        &[("location", "file:///etc/passwd")],
    ];
    for address in ["*/_ORT_MEM_ADDR_/*", "*/_ORT_NATIVE_ENDIAN_MEM_ADDR_/*", "a_MEM_ADDR_b"] {
        cases.push(case(
            &format!("weights at {address:?}"),
            "sd",
            elsewhere(vec![("location", address), ("offset", "16")].leak()),
            &[UNET, "memory address"],
        ));
    }
    cases.push(case(
        "sparse weights outside",
        "sd",
        by(|folder| {
            onnx::edit_graph(&folder.join(UNET), |graph| {
                graph.0.push((onnx::SPARSE_INITIALIZER, onnx::Value::Bytes(sparse("../model_index.json").write())));
                1
            })
        }),
        &[UNET, "`thin`", "paths that leave the folder"],
    ));
    cases.push(case(
        "sparse weights of an operator outside",
        "sd",
        by(|folder| {
            onnx::edit_graph(&folder.join(UNET), |graph| {
                let mut once = true;
                graph.each(1, |node| {
                    let attribute = onnx::Message(vec![(22, onnx::Value::Bytes(sparse("/etc/passwd").write()))]);
                    node.0.push((5, onnx::Value::Bytes(attribute.write())));
                    std::mem::take(&mut once)
                })
            })
        }),
        &[UNET, "`thin`", "paths that leave the folder"],
    ));
    for entries in outside {
        cases.push(case(
            &format!("weights in {:?}", entries[0].1),
            "sd",
            elsewhere(entries),
            &[UNET, "paths that leave the folder"],
        ));
    }
    cases
}

/// A sparse tensor whose values lie in the file `location`.
fn sparse(location: &str) -> onnx::Message {
    let entry =
        onnx::Message(vec![(1, onnx::Value::Bytes(b"location".to_vec())), (2, onnx::Value::Bytes(location.as_bytes().to_vec()))]);
    let values = onnx::Message(vec![
        (onnx::TENSOR_DIMENSIONS, onnx::Value::Number(1)),
        (onnx::DATA_TYPE, onnx::Value::Number(1)),
        (onnx::TENSOR_NAME, onnx::Value::Bytes(b"thin".to_vec())),
        (onnx::EXTERNAL_DATA, onnx::Value::Bytes(entry.write())),
        (onnx::DATA_LOCATION, onnx::Value::Number(1)),
    ]);
    onnx::Message(vec![(1, onnx::Value::Bytes(values.write()))])
}
