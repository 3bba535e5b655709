//! Token ids against those of transformers' `CLIPTokenizer`, `T5TokenizerFast` and `GemmaTokenizerFast`.
//!
//! `tests/golden/pictures/tokens.json` was written by `tests/tools/make_tokens.py`.

use std::path::{Path, PathBuf};

use kiln::text::Tokenizer;
use serde_json::Value;

fn tests(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

#[test]
fn every_text_gives_transformers_ids() {
    let golden: Value = serde_json::from_slice(&std::fs::read(tests("golden/pictures/tokens.json")).unwrap()).unwrap();
    let folders = golden["about"]["folders"].as_object().unwrap();
    let mut cases = 0;
    let mut wrong = Vec::new();
    for (name, folder) in folders {
        let tokenizer = Tokenizer::open(&tests("bundles").join(folder.as_str().unwrap())).unwrap();
        assert_eq!(
            tokenizer.max_length(),
            match name.as_str() {
                "sd3_3" => 512,
                // Gemma's says that there is no limit.
                "sana" => 4096,
                _ => 77,
            }
        );
        let tokenizer = tokenizer.with_max_length(77).unwrap();
        for row in golden["texts"].as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let expected: Vec<i64> = row["input_ids"][name].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
            cases += 1;
            if text.contains('\0') {
                assert!(kiln::error::is_refusal(&tokenizer.encode(text).unwrap_err()));
                // CLIP passes it over; to T5 it is a word that it does not know, to Gemma a byte.
                if !["sd3_3", "sana"].contains(&name.as_str()) {
                    let clean = tokenizer.encode(&text.replace('\0', "")).unwrap();
                    assert_eq!(clean.ids, expected, "{text:?}");
                }
                continue;
            }
            let tokens = tokenizer.encode(text).unwrap();
            if tokens.ids != expected {
                wrong.push((name, text, tokens.ids, expected));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {cases} differ, such as {:?}", wrong.len(), wrong.first());
    println!("{cases} texts");
    assert_eq!(cases, 196);
}
