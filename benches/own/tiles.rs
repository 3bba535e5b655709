//! Cutting latents and blending decoded tiles, around a decoder that does nothing.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use kiln::plan::Tile;
use kiln::stage::decode_tiles;
use ndarray::Axis;

use crate::wave;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tiles");
    let latents = wave(&[1, 4, 128, 128]);
    let tile = Tile { latents: 64, pixels_per_latent: 8 };
    let whole = wave(&[1, 3, tile.pixels(), tile.pixels()]);
    group.throughput(Throughput::Elements(1024 * 1024));
    group.bench_function("1024x1024 in tiles of 512", |bencher| {
        bencher.iter(|| {
            decode_tiles(black_box(&latents), tile, |part| {
                let (height, width) = (part.len_of(Axis(2)) * 8, part.len_of(Axis(3)) * 8);
                Ok(whole.slice(ndarray::s![.., .., ..height, ..width]).to_owned().into_dyn())
            })
            .unwrap()
        });
    });
    group.finish();
}
