//! Whole answers of handlers on their way: a client that does not read one keeps it in memory, so what
//! all of them keep together is bounded.

use crate::problem::Problem;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An answer up to this size takes no place: a socket takes all of it at once.
const SMALL_BYTES_MAX: usize = 64 << 10;
/// The budget is at least this, for two answers of the largest size.
const BUDGET_BYTES_MIN: usize = 128 << 20;
/// It is counted in pieces of this many bytes.
const PIECE_BYTES: usize = 1_024;

/// The answers that one door holds.
#[derive(Debug)]
pub(super) struct Held {
    pieces: Arc<Semaphore>,
    bytes_max: usize,
}

/// A body with its place in the budget.
struct Placed {
    bytes: Bytes,
    _place: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Placed {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    /// A budget for a node whose store has so many bytes.
    pub(super) fn new(memory_bytes_max: usize) -> Held {
        let bytes_max = (memory_bytes_max / 2).max(BUDGET_BYTES_MIN);
        let pieces = (bytes_max / PIECE_BYTES).min(Semaphore::MAX_PERMITS);
        Held { pieces: Arc::new(Semaphore::new(pieces)), bytes_max }
    }

    /// The same bytes, which keep their place for as long as anybody holds them or a part of them.
    pub(super) fn place(&self, name: &str, bytes: Bytes) -> Result<Bytes, Problem> {
        if bytes.len() <= SMALL_BYTES_MAX {
            return Ok(bytes);
        }
        let pieces = u32::try_from(bytes.len().div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        match Arc::clone(&self.pieces).try_acquire_many_owned(pieces) {
            Ok(place) => Ok(Bytes::from_owner(Placed { bytes, _place: place })),
            Err(_) => {
                let (len, bytes_max) = (bytes.len(), self.bytes_max);
                let detail = format!(
                    "handler {name} has answered with {len} bytes, and clients that are slow to read \
                     theirs keep the {bytes_max} bytes that such answers may take together; what the \
                     handler wrote to the store stays written. Try again in a second"
                );
                Err(Problem::busy("answers-full", detail, 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(bytes: usize) -> Bytes {
        Bytes::from(vec![b'a'; bytes])
    }

    #[test]
    fn answers_are_held_up_to_a_budget_and_until_the_last_byte_has_gone() {
        let held = Held::new(0);
        let first = held.place("h", answer(64 << 20)).expect("there is room");
        let second = held.place("h", answer(64 << 20)).expect("there is room");
        let refused = held.place("h", answer(1 << 20)).expect_err("both are held");
        assert!(refused.detail().contains("has answered with 1048576 bytes"), "{refused:?}");
        // What a connection still has to send.
        let rest = first.slice(1..2);
        drop(first);
        assert!(held.place("h", answer(1 << 20)).is_err());
        drop(rest);
        assert!(held.place("h", answer(1 << 20)).is_ok());
        drop(second);
        assert_eq!(held.pieces.available_permits(), BUDGET_BYTES_MIN / PIECE_BYTES);
    }

    #[test]
    fn a_small_answer_takes_no_place() {
        let held = Held::new(0);
        let _all = Arc::clone(&held.pieces).try_acquire_many_owned(128 << 10).expect("all of it");
        assert!(held.place("h", answer(SMALL_BYTES_MAX)).is_ok());
    }
}
