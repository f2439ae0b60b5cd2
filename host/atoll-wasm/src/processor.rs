//! The processor time of a guest: who yields when, and when it is over.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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
    /// The thread's time when the guest's turn began; [`NO_TURN`] between two turns.
    turn_began_ns: AtomicU64,
}

/// No thread has run for that long.
const NO_TURN: u64 = u64::MAX;

impl Time {
    fn begin_turn(&self) {
        self.turn_began_ns.store(thread_ns(Reading::Near), Ordering::Relaxed);
    }

    /// Adds what the turn has taken so far; returns the sum.
    fn count(&self, reading: Reading) -> u64 {
        let began_ns = self.turn_began_ns.load(Ordering::Relaxed);
        let spent_ns = self.spent_ns.load(Ordering::Relaxed);
        if began_ns == NO_TURN {
            return spent_ns;
        }
        let now_ns = thread_ns(reading);
        let spent_ns = spent_ns.saturating_add(now_ns.saturating_sub(began_ns));
        self.turn_began_ns.store(now_ns, Ordering::Relaxed);
        self.spent_ns.store(spent_ns, Ordering::Relaxed);
        spent_ns
    }

    /// The guest's thread is somebody else's from now on.
    fn end_turn(&self, reading: Reading) -> u64 {
        let spent_ns = self.count(reading);
        self.turn_began_ns.store(NO_TURN, Ordering::Relaxed);
        spent_ns
    }
}

impl Meter {
    /// Begins the guest's first turn, on the thread that is about to run it.
    pub(crate) fn start(limit_ms: u32) -> Meter {
        let turn_began_ns = AtomicU64::new(thread_ns(Reading::Near));
        let time = Time { spent_ns: AtomicU64::new(0), turn_began_ns };
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

    /// Ends the guest's turn, on the thread that ran it: the call is over, or goes on in another task.
    /// Returns the time that the call has taken so far.
    pub(crate) fn end_turn(&self) -> Duration {
        Duration::from_nanos(self.time.end_turn(Reading::Near))
    }

    /// Decides what happens to a guest that computes: it lets others run first, or it has had its
    /// time.
    pub(crate) fn tick(&mut self) -> UpdateDeadline {
        if self.count_exactly_ns() >= self.limit_ns {
            UpdateDeadline::Interrupt
        } else {
            self.pause()
        }
    }

    /// Returns what was used so far, the present turn included, in nanoseconds.
    pub(crate) fn count_ns(&self) -> u64 {
        self.time.count(Reading::Near)
    }

    /// The same by the kernel's word.
    pub(crate) fn count_exactly_ns(&self) -> u64 {
        self.time.count(Reading::Exact)
    }

    /// Lets others run before the guest goes on.
    pub(crate) fn pause(&self) -> UpdateDeadline {
        self.time.end_turn(Reading::Near);
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
        self.time.end_turn(Reading::Near);
        polled
    }
}

/// How well a thread's time is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// By the kernel, which takes longer than a small handler's host call.
    Exact,
    /// By the wall clock since the thread's last exact one, which is at most [`NEAR`] ago: never too
    /// little, and too much by what the machine ran meanwhile in the thread's place.
    Near,
}

/// An eighth of what a tick is: limits hardly tell the difference.
const NEAR: Duration = Duration::from_micros(250);

thread_local! {
    /// This thread's last exact time, and when it was read.
    static LAST: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
}

/// Returns the processor time that this thread has used, in nanoseconds.
fn thread_ns(reading: Reading) -> u64 {
    let now = Instant::now();
    if reading == Reading::Near
        && let Some((at, time_ns)) = LAST.get()
        && let since = now.duration_since(at)
        && since < NEAR
    {
        return time_ns.saturating_add(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    }
    let time_ns = kernel_ns();
    LAST.set(Some((now, time_ns)));
    time_ns
}

/// The same, exactly.
pub(crate) fn kernel_ns() -> u64 {
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
        let started_ns = kernel_ns();
        while kernel_ns() - started_ns < time_ns {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn what_is_computed_before_the_first_tick_counts() {
        let mut meter = Meter::start(20);
        // And as much as the beginning may have been taken for too late.
        compute(20_000_000 + u64::try_from(NEAR.as_nanos()).unwrap());
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

    #[test]
    fn a_short_call_is_counted_without_the_kernel() {
        let spent = || {
            // Reads the thread's time exactly, so that the rest is by the wall clock.
            thread_ns(Reading::Exact);
            let meter = Meter::start(60_000);
            compute(20_000);
            let spent = meter.end_turn();
            // The thread runs on, and the call is over.
            compute(1_000_000);
            assert_eq!(meter.end_turn(), spent);
            spent
        };
        // One that the machine interrupts may be off by what is near.
        let calls = (0..100).map(|_| spent());
        assert!(calls.filter(|spent| *spent >= Duration::from_micros(20)).count() > 50);
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
