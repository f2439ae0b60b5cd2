//! The processor time of a guest: who yields when, and when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

/// Counts the processor time of one call. Asked at each tick of the epoch that finds the guest
/// computing.
///
/// The time is the thread's, not the wall's, so that a guest is not charged for a machine that runs
/// something else. It begins with the call, so that what the host does for the guest before the
/// first tick counts too: that can be much longer than a tick.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    limit_ns: u64,
    time: Arc<Time>,
}

/// The time of one call. Only the thread that runs the guest changes it.
#[derive(Debug)]
struct Time {
    spent_ns: AtomicU64,
    /// The thread's time when the guest's turn began.
    turn_began_ns: AtomicU64,
}

impl Time {
    fn begin_turn(&self) {
        self.turn_began_ns.store(thread_ns(), Ordering::Relaxed);
    }

    /// Adds what the turn has taken so far; returns the sum.
    fn count(&self) -> u64 {
        let now_ns = thread_ns();
        let turn_ns = now_ns.saturating_sub(self.turn_began_ns.swap(now_ns, Ordering::Relaxed));
        let spent_ns = self.spent_ns.load(Ordering::Relaxed).saturating_add(turn_ns);
        self.spent_ns.store(spent_ns, Ordering::Relaxed);
        spent_ns
    }
}

impl Meter {
    /// Begins the guest's first turn, on the thread that is about to run it.
    pub(crate) fn start(limit_ms: u32) -> Meter {
        let time = Time { spent_ns: AtomicU64::new(0), turn_began_ns: AtomicU64::new(thread_ns()) };
        Meter { limit_ns: u64::from(limit_ms) * 1_000_000, time: Arc::new(time) }
    }

    /// Returns whether the limit was found spent.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent_ns() >= self.limit_ns
    }

    /// Returns what was counted so far, in nanoseconds.
    pub(crate) fn spent_ns(&self) -> u64 {
        self.time.spent_ns.load(Ordering::Relaxed)
    }

    /// Decides what happens to a guest that computes: it lets others run first, or it has had its
    /// time.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        if self.time.count() >= self.limit_ns {
            return UpdateDeadline::Interrupt;
        }
        // Not `UpdateDeadline::Yield`, which only puts the task back into its queue: with that the
        // runtime looks at its timers and sockets at every 61st turn. `yield_now` comes back after
        // it has looked.
        let time = Arc::clone(&self.time);
        UpdateDeadline::YieldCustom(
            1,
            Box::pin(async move {
                tokio::task::yield_now().await;
                time.begin_turn();
            }),
        )
    }

    /// A guest that waits in host calls has turns that no tick sees begin or end: its future is
    /// wrapped in these.
    pub(crate) fn turns<F: Future>(&self, guest: F) -> Turns<F> {
        Turns { time: Arc::clone(&self.time), guest: Box::pin(guest) }
    }
}

/// A guest's future, each poll of which is a turn.
pub(crate) struct Turns<F> {
    time: Arc<Time>,
    guest: Pin<Box<F>>,
}

impl<F: Future> Future for Turns<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.time.begin_turn();
        let polled = self.guest.as_mut().poll(context);
        self.time.count();
        polled
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

    #[tokio::test]
    async fn turns_count_and_the_waits_between_them_do_not() {
        let meter = Meter::start(30);
        let guest = async {
            for _ in 0..3 {
                compute(5_000_000);
                let waited = tokio::task::spawn_blocking(|| compute(20_000_000));
                waited.await.unwrap();
            }
        };
        let mut others = meter.turns(guest);
        std::future::poll_fn(|context| {
            // What the thread does between two turns is somebody else's.
            compute(10_000_000);
            Pin::new(&mut others).poll(context)
        })
        .await;
        let spent_ns = meter.time.spent_ns.load(Ordering::Relaxed);
        assert!((15_000_000..25_000_000).contains(&spent_ns), "{spent_ns}");
        assert!(!meter.is_spent());
    }
}
