//! What happened since the start, for operators.

use std::sync::atomic::AtomicU64;

/// How many jobs ended how, since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Jobs that were accepted.
    pub accepted: AtomicU64,
    /// Jobs that were turned away because the queue was full.
    pub turned_away: AtomicU64,
    /// Jobs with their pictures.
    pub finished: AtomicU64,
    /// Jobs that failed.
    pub failed: AtomicU64,
    /// Jobs that were stopped or interrupted.
    pub stopped: AtomicU64,
    /// Pictures.
    pub pictures: AtomicU64,
    /// Time that jobs ran, in milliseconds.
    pub busy_ms: AtomicU64,
}
