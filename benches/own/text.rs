//! Prompts into ids, and what a process pays first: opening the tokenizer.

use std::hint::black_box;
use std::path::Path;

use criterion::Criterion;
use kiln::text::{Tokenizer, parts};

const PROMPT: &str = "a detailed oil painting of a small (red:1.3) house by the sea in the evening light, with clouds, birds and a \
                      fishing boat, best quality, digital art";
/// Each kind of tokenizer once: CLIP's byte pairs, a described file, a unigram vocabulary.
const TOKENIZERS: [(&str, &str); 3] =
    [("clip", "tests/bundles/sd/tokenizer"), ("sticker", "models/sticker/tokenizer"), ("t5", "tests/bundles/sd3/tokenizer_3")];

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("text");
    for (name, folder) in TOKENIZERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        group.bench_function(format!("{name}/open"), |bencher| bencher.iter(|| Tokenizer::open(black_box(&folder)).unwrap()));
        let tokenizer = Tokenizer::open(&folder).unwrap();
        group.bench_function(format!("{name}/encode"), |bencher| {
            bencher.iter(|| tokenizer.encode(black_box(PROMPT)).unwrap());
        });
    }
    group.bench_function("weights", |bencher| bencher.iter(|| parts("prompt", black_box(PROMPT)).unwrap()));
    group.finish();
}
