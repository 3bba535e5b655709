//! The numbers of one picture's first noise, out of a generator that was just seeded.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use kiln::random::{Device, Generator};

use crate::LATENTS;

pub(crate) fn bench(criterion: &mut Criterion) {
    let count: usize = LATENTS.iter().product();
    let mut group = criterion.benchmark_group("random");
    group.throughput(Throughput::Elements(count as u64));
    for device in Device::ALL {
        group.bench_function(device.name(), |bencher| {
            bencher.iter(|| Generator::new(device, black_box(42)).normals(count));
        });
    }
    group.finish();
}
