//! Room in memory for the bodies of requests: each takes its part before it is read and gives it back once its request holds it no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::server::problem::{Code, Problem};

/// Of all bodies together, unless one alone may be larger.
const ROOM_BYTES: usize = 64 << 20;
/// What is counted in, and the smallest body that is counted: a connection's own buffers are as large, and connections are limited already.
const UNIT_BYTES: usize = 64 * 1024;
/// How long a request waits for room.
const WAIT: Duration = Duration::from_secs(2);
const RETRY_AFTER_S: u64 = 5;

/// The room for all bodies.
pub(in crate::server) struct Rooms {
    units: Arc<Semaphore>,
}

/// The part of one body; given back when this is dropped.
pub(super) struct Room {
    permit: Option<OwnedSemaphorePermit>,
}

impl Rooms {
    /// Room for a body of `largest_bytes`, and for more where that is little.
    pub(in crate::server) fn new(largest_bytes: usize) -> Self {
        let units = (units_of(largest_bytes) as usize).max(ROOM_BYTES / UNIT_BYTES);
        Self { units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))) }
    }

    /// Takes the room for a body of at most `bytes`.
    ///
    /// # Errors
    /// Others have it, and do not give it back within [`WAIT`].
    pub(super) async fn take(&self, bytes: usize) -> Result<Room, Problem> {
        if bytes <= UNIT_BYTES {
            return Ok(Room { permit: None });
        }
        match tokio::time::timeout(WAIT, Arc::clone(&self.units).acquire_many_owned(units_of(bytes))).await {
            Ok(Ok(permit)) => Ok(Room { permit: Some(permit) }),
            _ => {
                let said = "body: so much is being sent by others that there is no memory for it; send it again later";
                Err(Problem { retry_after_s: Some(RETRY_AFTER_S), ..Problem::new(Code::Busy, said) })
            }
        }
    }
}

impl Room {
    /// Gives back what a body does not need that is of `bytes` in the end.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let needed = if bytes <= UNIT_BYTES { 0 } else { units_of(bytes) as usize };
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(needed)));
        }
    }
}

fn units_of(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_shrunk_and_given_back() {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let take = |rooms: &Rooms, bytes| tokio.block_on(rooms.take(bytes));
        let rooms = Rooms::new(1 << 20);
        let mut held: Vec<Room> = (0..4).map(|_| take(&rooms, 16 << 20).ok().unwrap()).collect();
        let refused = take(&rooms, UNIT_BYTES + 1).err().unwrap();
        assert_eq!((refused.code, refused.retry_after_s), (Code::Busy, Some(RETRY_AFTER_S)));
        assert!(take(&rooms, UNIT_BYTES).is_ok(), "a small one always finds room");
        held[0].shrink((1 << 20) - 5);
        held.push(take(&rooms, 15 << 20).ok().unwrap());
        assert_eq!(rooms.units.available_permits(), 0);
        held[0].shrink(10);
        assert_eq!(rooms.units.available_permits() * UNIT_BYTES, 1 << 20);
        held.clear();
        assert!(take(&rooms, 64 << 20).is_ok());
        // The largest body fits, however large it may be.
        assert!(take(&Rooms::new(1 << 30), 1 << 30).is_ok());
    }
}
