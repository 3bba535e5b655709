//! How long a network takes that was not measured here: an estimate from its graph, meant to be off by a factor of two or three.
//!
//! Opening: the operators are looked at one by one, weights are read, and narrow ones widened. Calling: multiplications, values that are
//! written and read again, and the operators themselves. The rates were fitted to a server's processor with vectors of 512 bits; the multiplications are
//! scaled by the width of the vectors of the processor at hand.

use super::memory::{Weights, count};
use crate::bundle::Header;

/// Opening a network: milliseconds for each operator, and bytes in a millisecond that are read, and that narrow weights are widened to.
const OPENED_MS_PER_NODE: f64 = 0.1;
const READ_BYTES_PER_MS: f64 = 1e6;
const WIDENED_BYTES_PER_MS: f64 = 350_000.0;
/// One core in a millisecond: multiplications with vectors of 512 bits, and values.
const MULTIPLICATIONS_PER_MS: f64 = 35e6;
const VALUES_PER_MS: f64 = 1.5e6;
/// Starting one operator.
const MS_PER_NODE: f64 = 0.001;
/// Memory that is asked of the system and given empty, in bytes in a millisecond; and what of each call's the C library has from the one before.
const ASKED_BYTES_PER_MS: f64 = 2.5e6;
const KEPT_BYTES: f64 = 8.0 * 1_048_576.0;
/// How much more of several cores is had: their number to this power.
const GAIN_OF_THREADS: f64 = 0.7;
/// Multiplications of one weight in a network that could not be followed.
const UNKNOWN_USES: f64 = 1000.0;

/// What is known of a network.
#[derive(Clone, Copy)]
pub(super) struct Network<'a> {
    pub(super) header: &'a Header,
    pub(super) weights: Weights,
    /// What a call asks for, in bytes.
    pub(super) call_bytes: f64,
    /// Whether the next call finds that again.
    pub(super) arena: bool,
}

/// How it is called.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    pub(super) calls: usize,
    pub(super) rows: usize,
    pub(super) threads: usize,
}

/// Opening the network, and calling it, in milliseconds.
///
/// * `points`: height times width of what goes in
pub(super) fn quick_ms(network: Network<'_>, points: f64, used: Calls) -> (f64, f64) {
    let (header, widened) = (network.header, network.weights.widened());
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (size, parameters) = (network.weights.size_bytes as f64, network.weights.parameters as f64);
    let nodes = count(header.nodes);
    let opened = nodes * OPENED_MS_PER_NODE + size / READ_BYTES_PER_MS + (widened - size).max(0.0) / WIDENED_BYTES_PER_MS;
    let (multiplications, values) = match header.work {
        Some(work) => (work.multiplications(points), work.values(points)),
        None => (parameters * UNKNOWN_USES, 0.0),
    };
    let one_core = multiplications / (MULTIPLICATIONS_PER_MS * vector_share()) + values / VALUES_PER_MS;
    let call = one_core * count(used.rows) / count(used.threads.max(1)).powf(GAIN_OF_THREADS) + nodes * MS_PER_NODE;
    let again = if network.arena { 0.0 } else { (network.call_bytes - KEPT_BYTES).max(0.0) };
    let asked = network.call_bytes + again * count(used.calls.saturating_sub(1));
    (opened, call * count(used.calls) + asked / ASKED_BYTES_PER_MS)
}

/// How wide the vectors of this processor are, in parts of 512 bits.
fn vector_share() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        match (std::arch::is_x86_feature_detected!("avx512f"), std::arch::is_x86_feature_detected!("avx2")) {
            (true, _) => 1.0,
            (false, true) => 0.5,
            _ => 0.25,
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        0.25
    }
}
