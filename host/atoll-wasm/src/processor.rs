//! The processor time of a guest: who yields when, and when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

/// Counts the processor time of one call. Asked at each tick of the epoch that finds the guest
/// computing.
///
/// The time is the thread's, not the wall's, so that a guest is not charged for a machine that runs
/// something else. It begins with the call, so that what the host does for the guest before the
/// first tick counts too: that can be much longer than a tick.
#[derive(Debug)]
pub(crate) struct Meter {
    limit_ns: u64,
    spent_ns: u64,
    /// The thread's time when the guest's turn began.
    turn_began_ns: Arc<AtomicU64>,
}

impl Meter {
    /// Begins the guest's first turn, on the thread that is about to run it.
    pub(crate) fn start(limit_ms: u32) -> Meter {
        let turn_began_ns = Arc::new(AtomicU64::new(thread_ns()));
        Meter { limit_ns: u64::from(limit_ms) * 1_000_000, spent_ns: 0, turn_began_ns }
    }

    /// Returns whether the limit was found spent.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent_ns >= self.limit_ns
    }

    /// Decides what happens to a guest that computes: it lets others run first, or it has had its
    /// time.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        let began = Arc::clone(&self.turn_began_ns);
        let turn_ns = thread_ns().saturating_sub(began.load(Ordering::Relaxed));
        self.spent_ns = self.spent_ns.saturating_add(turn_ns);
        if self.is_spent() {
            return UpdateDeadline::Interrupt;
        }
        // Not `UpdateDeadline::Yield`, which only puts the task back into its queue: with that the
        // runtime looks at its timers and sockets at every 61st turn. `yield_now` comes back after
        // it has looked.
        UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                tokio::task::yield_now().await;
                began.store(thread_ns(), Ordering::Relaxed);
            }),
        )
    }
}

/// Returns the processor time that this thread has used, in nanoseconds.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses so much of this thread's processor time.
    fn compute(time_ns: u64) {
        let started_ns = thread_ns();
        while thread_ns() - started_ns < time_ns {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_is_computed_before_the_first_tick_counts() {
        let mut meter = Meter::start(20);
        compute(20_000_000);
        assert!(matches!(meter.tick(), UpdateDeadline::Interrupt));
        assert!(meter.is_spent());
    }

    #[test]
    fn a_guest_that_has_time_left_goes_on() {
        let mut meter = Meter::start(60_000);
        compute(1_000_000);
        assert!(matches!(meter.tick(), UpdateDeadline::YieldCustom(..)));
        assert!(!meter.is_spent());
    }
}
