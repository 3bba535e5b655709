//! Normal numbers as torch makes them on an NVIDIA GPU.
//!
//! J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011: the generator
//! Philox4x32-10. Box and Muller, 1958, as cuRAND's `curand_normal4` has it.
//!
//! In: a seed. Out: standard normal `f32` values. Element `i` of the n-th call takes the counter `(n, 0, i, 0)` and of its four
//! words the first two.
//!
//! That holds as long as torch starts one thread for each value, which it does up to the number of threads the GPU holds at once:
//! multiprocessors × threads per multiprocessor. A Jetson Orin Nano holds 12,288, an RTX 3060 43,008, an A100 221,184; a
//! latent of 4×64×64 has 16,384 values. Above that torch's numbers depend on the GPU, so two GPUs differ as well, and those drawn
//! here are the ones of a GPU that is large enough.
//!
//! The GPU's fast sine and logarithm are not reproduced: values agree to about 10⁻⁶, not to the last bit. Logarithm, sine and
//! cosine are taken in double precision and rounded once, which gives the same `f32` on every processor but for about one
//! value in 10⁸.

/// Rounds of the cipher.
const ROUNDS: usize = 10;
const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// What is added to the key after each round: the golden ratio and √3 − 1, as fractions of 2³².
const KEY_STEP: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// The numbers of one GPU generator: the key, and how many counters the calls so far have used.
#[derive(Debug, Clone)]
pub(super) struct PhiloxNormals {
    key: [u32; 2],
    used: u64,
}

impl PhiloxNormals {
    pub(super) fn new(seed: u64) -> Self {
        Self { key: halves(seed), used: 0 }
    }

    /// Draws `count` standard normal values.
    pub(super) fn draw(&mut self, count: usize) -> Vec<f32> {
        if count == 0 {
            return Vec::new();
        }
        let [used_low, used_high] = halves(self.used);
        let values = (0..count as u64)
            .map(|element| {
                let [low, high] = halves(element);
                let [first, second, ..] = philox([used_low, used_high, low, high], self.key);
                normal(first, second)
            })
            .collect();
        self.used = self.used.wrapping_add(1);
        values
    }
}

/// Splits 64 bits into the low and the high half.
fn halves(value: u64) -> [u32; 2] {
    [(value & 0xffff_ffff) as u32, (value >> 32) as u32]
}

/// Enciphers a counter under a key (section 2.2 and 3.3 of the paper).
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let [low_0, high_0] = halves(u64::from(MULTIPLIERS[0]) * u64::from(counter[0]));
        let [low_1, high_1] = halves(u64::from(MULTIPLIERS[1]) * u64::from(counter[2]));
        counter = [high_1 ^ counter[1] ^ key[0], low_1, high_0 ^ counter[3] ^ key[1], low_0];
        key = [key[0].wrapping_add(KEY_STEP[0]), key[1].wrapping_add(KEY_STEP[1])];
    }
    counter
}

/// Turns two words into the first normal of their pair, which takes the sine.
fn normal(first: u32, second: u32) -> f32 {
    const STEP: f32 = 1.0 / 4_294_967_296.0;
    const ANGLE_STEP: f32 = STEP * std::f32::consts::TAU;
    // Half a step keeps the argument of the logarithm above zero. The compiler for the GPU fuses both lines.
    let uniform = (first as f32).mul_add(STEP, STEP / 2.0);
    let angle = (second as f32).mul_add(ANGLE_STEP, ANGLE_STEP / 2.0);
    let radius = (-2.0 * f64::from(uniform).ln() as f32).sqrt();
    radius * f64::from(angle).sin() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `kat_vectors` of the Random123 library: `philox4x32 10`.
    #[test]
    fn philox_gives_the_known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
    }

    /// `torch.randn(4, device="cuda")` under seed 0, as published; not run here for want of a GPU.
    #[test]
    fn seed_zero_gives_the_values_seen_on_gpus() {
        let expected = [-0.924_662_6, -0.425_344_15, -2.643_845_8, 0.145_183_88];
        for (value, expected) in PhiloxNormals::new(0).draw(4).into_iter().zip(expected) {
            assert!((value - expected).abs() < 2e-6, "{value} is not {expected}");
        }
    }

    #[test]
    fn each_call_takes_the_next_counter() {
        let mut normals = PhiloxNormals::new((9 << 32) + 4);
        let first = normals.draw(5);
        let second = normals.draw(5);
        assert_ne!(first, second);
        let [word, angle, ..] = philox([1, 0, 2, 0], [4, 9]);
        assert_eq!(second[2].to_bits(), normal(word, angle).to_bits());
    }

    #[test]
    fn the_extreme_words_give_finite_values() {
        for first in [0, 1, u32::MAX] {
            for second in [0, 1 << 30, u32::MAX] {
                assert!(normal(first, second).is_finite());
            }
        }
    }
}
