//! Normal numbers as torch makes them on the processor.
//!
//! G. E. P. Box, M. E. Muller, "A note on the generation of random normal deviates", Ann. Math. Statist. 29(2), 1958.
//!
//! Torch has two ways, and which one it takes depends on the count alone:
//!
//! * from 16 values on, the uniforms of the whole tensor are drawn first, in single precision, and then turned into normals in
//!   blocks of 16, the first eight giving the radii and the last eight the angles;
//! * below 16, one pair at a time in double precision, the second of a pair being kept for the next such call.
//!
//! The blocks follow torch's build for x86-64 with AVX2 (taken on every x86-64 processor since 2013), whose logarithm, sine and
//! cosine are the single-precision polynomials of S. L. Moshier's Cephes library, evaluated with fused multiply-add where the
//! compiler fuses. Here each lane is written out in scalar arithmetic that IEEE 754 fixes to the last bit, so any processor
//! gives these numbers; torch itself, on an Arm processor, differs from them in the last bits.
//!
//! Below 16 values the double-precision `ln_1p`, `sin` and `cos` come from the system's mathematical library. Two libraries
//! differ in the last of 53 bits; after rounding to 24 bits that shows about once in 10⁸ values.

use std::f32::consts::{FRAC_1_SQRT_2, TAU};

use super::mersenne_twister::MersenneTwister;

/// Values of one block; also the count from which torch works in blocks.
const BLOCK: usize = 16;
/// Radii in a block, and as many angles.
const HALF: usize = BLOCK / 2;

/// The numbers of one processor generator: uniform bits, and the half pair left over from a short call.
#[derive(Debug, Clone)]
pub(super) struct HostNormals {
    twister: MersenneTwister,
    kept: Option<f64>,
}

impl HostNormals {
    pub(super) fn new(seed: u64) -> Self {
        Self { twister: MersenneTwister::new(seed), kept: None }
    }

    /// Draws `count` standard normal values.
    pub(super) fn draw(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.one() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        let (blocks, rest) = values.as_chunks_mut::<BLOCK>();
        for block in blocks {
            transform(block);
        }
        // Where 16 does not divide the count, torch draws the last 16 values anew, over some that were finished already.
        if !rest.is_empty()
            && let Some(last) = values.last_chunk_mut::<BLOCK>()
        {
            last.fill_with(|| self.uniform());
            transform(last);
        }
        values
    }

    /// Draws an order of the numbers below `count`, as `torch.randperm` does below 2³² of them.
    pub(super) fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for place in 0..count.saturating_sub(1) {
            let ahead = self.twister.next_u32() as usize % (count - place);
            order.swap(place, place + ahead);
        }
        order
    }

    /// Draws from `[0, 1)` with 24 bits.
    fn uniform(&mut self) -> f32 {
        (self.twister.next_u32() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)
    }

    /// Draws from `[0, 1)` with 53 bits.
    fn uniform_long(&mut self) -> f64 {
        (self.twister.next_u64() & 0x001f_ffff_ffff_ffff) as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    fn one(&mut self) -> f64 {
        if let Some(value) = self.kept.take() {
            return value;
        }
        let angle = std::f64::consts::TAU * self.uniform_long();
        let radius = (-2.0 * (-self.uniform_long()).ln_1p()).sqrt();
        self.kept = Some(radius * angle.sin());
        radius * angle.cos()
    }
}

/// Turns 16 uniforms of `[0, 1)` into 16 normals, in place.
fn transform(block: &mut [f32; BLOCK]) {
    let (radii, angles) = block.split_at_mut(HALF);
    for (first, second) in radii.iter_mut().zip(angles) {
        // 1 − u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * logarithm(1.0 - *first)).sqrt();
        let (sine, cosine) = sine_cosine(TAU * *second);
        // Torch multiplies by a deviation of one and adds a mean of zero, which turns −0 into +0.
        *first = radius * cosine + 0.0;
        *second = radius * sine + 0.0;
    }
}

/// Evaluates the natural logarithm of a positive, finite, normal number.
fn logarithm(x: f32) -> f32 {
    const SERIES: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_84e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_8e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    /// ln 2 in two parts: the first has few enough bits for its products with an exponent to be exact.
    const LN_2_UPPER: f32 = 355.0 / 512.0;
    const LN_2_LOWER: f32 = -2.121_944_4e-4;

    // x = mantissa · 2^exponent with the mantissa in [½, 1).
    let bits = x.to_bits();
    let mut exponent = ((bits >> 23) as i32 - 126) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    // Moved to [√½, √2), so that the series runs around one.
    let mut distance = mantissa - 1.0;
    if mantissa < FRAC_1_SQRT_2 {
        exponent -= 1.0;
        distance += mantissa;
    }

    let square = distance * distance;
    let series = horner(distance, &SERIES) * distance;
    let correction = series.mul_add(square, exponent * LN_2_LOWER) - square * 0.5;
    exponent.mul_add(LN_2_UPPER, distance + correction)
}

/// Evaluates sine and cosine of an angle of at least zero, in this order.
fn sine_cosine(angle: f32) -> (f32, f32) {
    const SINE: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
    const COSINE: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];
    /// −π/4 in three parts of few bits each, for an exact reduction.
    const MINUS_QUARTER_PI: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];
    const FOUR_OVER_PI: f32 = 1.273_239_5;

    // The nearest even number of eighths of the circle; what is left of the angle lies in [−π/4, π/4].
    let octant = ((angle * FOUR_OVER_PI) as i32 + 1) & !1;
    let x = MINUS_QUARTER_PI.iter().fold(angle, |rest, part| (octant as f32).mul_add(*part, rest));

    let square = x * x;
    let even = horner(square, &COSINE) * square;
    let cosine = even.mul_add(square, -(square * 0.5)) + 1.0;
    let odd = horner(square, &SINE) * square;
    let sine = odd.mul_add(x, x);

    // A quarter turn swaps the two, a half turn changes the signs.
    let (sine, cosine) = if octant & 2 == 0 { (sine, cosine) } else { (cosine, sine) };
    let sine = if octant & 4 == 0 { sine } else { -sine };
    let cosine = if (octant + 2) & 4 == 0 { cosine } else { -cosine };
    (sine, cosine)
}

/// Evaluates a polynomial, highest power first, each step fused.
fn horner(x: f32, coefficients: &[f32]) -> f32 {
    coefficients.iter().copied().reduce(|sum, coefficient| sum.mul_add(x, coefficient)).unwrap_or_default()
}
