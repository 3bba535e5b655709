//! One step of each sampler, its scaling of the network's input included.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use kiln::sampler::{Config, Kind, Run};

use crate::{LATENTS, wave};

const STEPS: usize = 8;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sampler");
    let (sample, prediction, noise) = (wave(&LATENTS), wave(&LATENTS), wave(&LATENTS));
    for kind in Kind::ALL {
        let config = Config::default_of(kind).unwrap();
        // Samplers with a memory want whole runs, so runs are what is repeated, and only their steps are timed.
        group.bench_function(kind.name(), |bencher| {
            bencher.iter_custom(|wanted| {
                let (mut spent, mut done) = (Duration::ZERO, 0);
                while done < wanted {
                    let mut sampler = config.build(&Run::new(STEPS)).unwrap();
                    let calls = sampler.timesteps().len().min(usize::try_from(wanted - done).unwrap_or(usize::MAX));
                    let begun = Instant::now();
                    for index in 0..calls {
                        let scaled = sampler.scale_model_input(black_box(&sample), index).unwrap();
                        let fresh = sampler.takes_noise(index).then_some(&noise);
                        black_box((scaled, sampler.step(index, black_box(&prediction), &sample, fresh).unwrap()));
                    }
                    spent += begun.elapsed();
                    done += calls as u64;
                }
                spent
            });
        });
    }
    group.finish();
}
