//! Decoded tensors into pixels, pixels into tensors, other sizes and files.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use kiln::Picture;
use kiln::output::{Format, encode};
use ndarray::{Array3, Ix3};

use crate::wave;

const SIDE: usize = 512;

/// Smooth colours with a little noise, which compress about as a drawing does.
fn decoded(channels: usize) -> Array3<f32> {
    let noise = wave(&[channels, SIDE, SIDE]).into_dimensionality::<Ix3>().unwrap();
    let mut smooth = Array3::from_shape_fn((channels, SIDE, SIDE), |(channel, row, column)| {
        ((row * (channel + 1) + column) as f32 / SIDE as f32 * 5.0).sin()
    });
    smooth.scaled_add(0.02, &noise);
    smooth
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("picture");
    group.throughput(Throughput::Elements((SIDE * SIDE) as u64));
    for (name, channels) in [("rgb", 3), ("rgba", 4)] {
        let tensor = decoded(channels);
        let picture = Picture::from_tensor(tensor.view()).unwrap();
        group.bench_function(format!("{name}/from_tensor"), |bencher| {
            bencher.iter(|| Picture::from_tensor(black_box(tensor.view())).unwrap());
        });
        group.bench_function(format!("{name}/to_tensor"), |bencher| {
            bencher.iter(|| black_box(&picture).to_tensor(channels).unwrap());
        });
        group.bench_function(format!("{name}/resize"), |bencher| bencher.iter(|| black_box(&picture).resize(256, 256).unwrap()));
        group.bench_function(format!("{name}/png"), |bencher| {
            bencher.iter(|| encode(black_box(&picture), None, Format::Png).unwrap());
        });
    }
    group.finish();
}
