//! A sampler's configuration: any text is read or refused, and what is read runs to its end or refuses.

#![no_main]

use kiln::sampler::{Config, Run};
use libfuzzer_sys::fuzz_target;
use ndarray::{ArrayD, IxDyn};

const SHAPE: [usize; 4] = [1, 4, 2, 2];

fuzz_target!(|text: &str| {
    let Ok(config) = Config::from_text(text) else { return };
    // As good as drawn, and the text alone is the whole input.
    let run = Run { steps: text.len() % 24 + 1, ..Run::default() };
    let Ok(mut sampler) = config.build(&run) else { return };
    let calls = sampler.timesteps().len();
    assert!(calls > 0);
    assert!(sampler.init_noise_sigma().is_finite());
    let mut sample = ArrayD::from_elem(IxDyn(&SHAPE), 0.5);
    for index in 0..calls {
        let Ok(scaled) = sampler.scale_model_input(&sample, index) else { return };
        let noise = sampler.takes_noise(index).then(|| ArrayD::from_elem(IxDyn(&SHAPE), -0.25));
        match sampler.step(index, &scaled, &sample, noise.as_ref()) {
            Ok(step) => sample = step.sample,
            // A learned variance wants twice the channels.
            Err(_) => return,
        }
        assert_eq!(sample.shape(), SHAPE);
    }
});
