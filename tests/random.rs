//! The processor's random numbers against torch's, bit for bit.
//!
//! `tests/golden/random` was written by `tests/tools/make_random.py` with torch 2.9.1.

use std::path::{Path, PathBuf};

use kiln::random::{Device, Generator};
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/random").join(name)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_call_gives_torchs_bits() {
    let cases: Value = serde_json::from_slice(&std::fs::read(golden("cases.json")).unwrap()).unwrap();
    let kept = usize::try_from(cases["kept"].as_u64().unwrap()).unwrap();
    let bytes = std::fs::read(golden("values.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();

    let (mut calls_run, mut values_run) = (0, 0);
    let cases = cases["cases"].as_array().unwrap();
    for (index, case) in cases.iter().enumerate() {
        let seed: u64 = case["seed"].as_str().unwrap().parse().unwrap();
        let mut generator = Generator::new(Device::Cpu, seed);
        for (position, call) in case["calls"].as_array().unwrap().iter().enumerate() {
            let count = usize::try_from(call["count"].as_u64().unwrap()).unwrap();
            let name = format!("case {index}, seed {seed}, call {position} of {count} values");
            let values = generator.normals(count);
            assert_eq!(values.len(), count, "{name}");
            calls_run += 1;
            values_run += count;
            if count > 0 {
                let expected: Vec<u32> = tensors
                    .tensor(&format!("{index}.{position}"))
                    .unwrap()
                    .data()
                    .chunks_exact(4)
                    .map(|word| u32::from_le_bytes(word.try_into().unwrap()))
                    .collect();
                let ends = if count > 2 * kept { [&values[..kept], &values[count - kept..]].concat() } else { values.clone() };
                assert_eq!(bits(&ends), expected, "{name}");
            }
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(hexadecimal(&Sha256::digest(&bytes)), call["sha256"].as_str().unwrap(), "{name}");
        }
    }
    println!("{} cases, {calls_run} calls, {values_run} values", cases.len());
    assert_eq!((cases.len(), calls_run), (145, 293));
}
