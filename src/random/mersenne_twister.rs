//! The Mersenne Twister MT19937.
//!
//! M. Matsumoto, T. Nishimura, "Mersenne Twister: a 623-dimensionally equidistributed uniform pseudo-random number generator",
//! ACM TOMACS 8(1), 1998; seeding of 2002 (`init_genrand`).
//!
//! In: a seed. Out: uniform 32-bit and 64-bit integers. Torch keeps the low 32 bits of a seed and no more, so seeds that
//! are 2³² apart give the same numbers on the processor.
//!
//! | here     | paper      | meaning                                   |
//! |----------|------------|-------------------------------------------|
//! | `LENGTH` | n          | words of state                            |
//! | `MIDDLE` | m          | distance of the second word of a twist    |
//! | `TWIST`  | a          | last row of the matrix A                  |

const LENGTH: usize = 624;
const MIDDLE: usize = 397;
const TWIST: u32 = 0x9908_b0df;
const UPPER_BIT: u32 = 0x8000_0000;

/// The state of the generator: 624 words, and how many of them have been given out.
#[derive(Debug, Clone)]
pub(super) struct MersenneTwister {
    words: [u32; LENGTH],
    given: usize,
}

impl MersenneTwister {
    /// Seeds from the low 32 bits of `seed`, as torch does.
    pub(super) fn new(seed: u64) -> Self {
        let mut words = [0; LENGTH];
        let mut word = (seed & 0xffff_ffff) as u32;
        words[0] = word;
        for (index, slot) in (1_u32..).zip(&mut words[1..]) {
            word = (word ^ (word >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index);
            *slot = word;
        }
        Self { words, given: LENGTH }
    }

    /// Gives the next 32 bits.
    pub(super) fn next_u32(&mut self) -> u32 {
        if self.given == LENGTH {
            self.refill();
        }
        let mut word = self.words[self.given];
        self.given += 1;
        // The tempering that equalises the distribution of the leading bits.
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Gives the next 64 bits; the word drawn first is the upper half, as in torch.
    pub(super) fn next_u64(&mut self) -> u64 {
        let upper = u64::from(self.next_u32());
        (upper << 32) | u64::from(self.next_u32())
    }

    fn refill(&mut self) {
        for index in 0..LENGTH {
            let next = self.words[(index + 1) % LENGTH];
            let joined = (self.words[index] & UPPER_BIT) | (next & !UPPER_BIT);
            let odd = if next & 1 == 1 { TWIST } else { 0 };
            self.words[index] = self.words[(index + MIDDLE) % LENGTH] ^ (joined >> 1) ^ odd;
        }
        self.given = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first outputs for the customary seed 5489, and the 10,000th, which the C++ standard gives for `std::mt19937`.
    #[test]
    fn the_customary_seed_gives_the_published_words() {
        let mut twister = MersenneTwister::new(5489);
        let words: Vec<u32> = (0..10_000).map(|_| twister.next_u32()).collect();
        assert_eq!(words[..3], [3_499_211_612, 581_869_302, 3_890_346_734]);
        assert_eq!(words[9_999], 4_123_659_995);
    }

    #[test]
    fn only_the_low_half_of_a_seed_counts() {
        let mut low = MersenneTwister::new(7);
        let mut high = MersenneTwister::new((5 << 32) + 7);
        assert!((0..1_000).all(|_| low.next_u32() == high.next_u32()));
    }

    #[test]
    fn the_first_word_is_the_upper_half_of_a_long_one() {
        let mut words = MersenneTwister::new(1);
        let (first, second) = (words.next_u32(), words.next_u32());
        assert_eq!(MersenneTwister::new(1).next_u64(), (u64::from(first) << 32) | u64::from(second));
    }
}
