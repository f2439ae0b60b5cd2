//! How long to wait before a peer is dialled again.

use super::limits::{REFUSED_RETRY_MAX, REFUSED_RETRY_MIN, RETRY_MAX, RETRY_MIN};
use std::time::Duration;

/// Waits that double, each anywhere between half and all of its length: nodes that lost one another
/// at the same moment do not come back at the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    failed: Duration,
    refused: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { failed: RETRY_MIN, refused: REFUSED_RETRY_MIN }
    }

    /// The wait after an attempt that failed.
    pub(super) fn after_failure(&mut self, dice: u32) -> Duration {
        let wait = self.failed;
        self.failed = (wait * 2).min(RETRY_MAX);
        shorten(wait, dice)
    }

    /// The wait after one of both sides declined the other: people have to do something first.
    pub(super) fn after_refusal(&mut self, dice: u32) -> Duration {
        let wait = self.refused;
        self.refused = (wait * 2).min(REFUSED_RETRY_MAX);
        // Not below the shortest: a refusal costs the other side a log line's worth of work.
        shorten(wait, dice).max(REFUSED_RETRY_MIN)
    }

    /// All was well: the next wait is a short one.
    pub(super) fn reset(&mut self) {
        *self = Backoff::new();
    }
}

/// Between half and all of `wait`.
fn shorten(wait: Duration, dice: u32) -> Duration {
    let part = f64::from(dice) / f64::from(u32::MAX);
    wait.mul_f64(0.5 + part / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new();
        let waits: Vec<u128> =
            (0..8).map(|_| backoff.after_failure(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000, 1_000, 1_000]);
        let waits: Vec<u64> = (0..4).map(|_| backoff.after_refusal(u32::MAX).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 30]);
        backoff.reset();
        assert_eq!(backoff.after_failure(u32::MAX).as_millis(), 100);
    }

    #[test]
    fn no_two_nodes_wait_equally_long() {
        assert_eq!(Backoff::new().after_failure(0).as_millis(), 50);
        assert_eq!(Backoff::new().after_failure(u32::MAX / 2).as_millis(), 75);
        assert_eq!(Backoff::new().after_refusal(0).as_secs(), 5, "but never short");
    }
}
