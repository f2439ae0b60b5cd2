//! The epoch thread: makes guests that compute yield.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::EngineWeak;

use crate::limits::{IDLE_TICKS_MAX, TICK_MS};

/// Advances an engine's epoch every `TICK_MS` while a call runs; soon after the last one it sleeps
/// until the next.
///
/// The thread ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    calls: AtomicU32,
    calls_max: u32,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// A call that runs: while one lives, the epoch advances.
#[derive(Debug)]
pub(crate) struct CallGuard(Arc<Shared>);

impl Ticker {
    /// Starts the thread. It holds the engine weakly, so it never keeps it alive.
    pub(crate) fn start(engine: EngineWeak, calls_max: u32) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared {
            calls: AtomicU32::new(0),
            calls_max,
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("wasm-epoch".to_owned())
            .spawn(move || run(&engine, &for_thread))?;
        Ok(Ticker { shared, thread: Some(thread) })
    }

    /// Counts a call in, unless as many run as may.
    pub(crate) fn enter(&self) -> Option<CallGuard> {
        let before = self.shared.calls.fetch_add(1, Ordering::SeqCst);
        let guard = CallGuard(Arc::clone(&self.shared));
        if before >= self.shared.calls_max {
            return None;
        }
        // Here the call is counted first and `asleep` read second; the thread does it the other way
        // round. So at least one of the two sees the other, and no call runs without ticks.
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.wake();
        }
        Some(guard)
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(thread) = self.thread.take() {
            // It only ends by returning, and within a tick; its result says nothing.
            drop(thread.join());
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

fn run(engine: &EngineWeak, shared: &Shared) {
    let mut idle_ticks = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if idle_ticks >= IDLE_TICKS_MAX {
            sleep_until_call(shared);
            idle_ticks = 0;
        }
        thread::sleep(Duration::from_millis(TICK_MS));
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        idle_ticks = if shared.calls.load(Ordering::SeqCst) == 0 { idle_ticks + 1 } else { 0 };
    }
}

fn sleep_until_call(shared: &Shared) {
    shared.asleep.store(true, Ordering::SeqCst);
    while shared.calls.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
        thread::park();
    }
    shared.asleep.store(false, Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[track_caller]
    fn wait_until(what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}: not within 30 s");
            thread::yield_now();
        }
    }

    fn ticker(calls_max: u32) -> (Ticker, wasmtime::Engine) {
        let engine = wasmtime::Engine::default();
        (Ticker::start(engine.weak(), calls_max).unwrap(), engine)
    }

    #[test]
    fn the_thread_sleeps_when_nothing_runs_and_wakes_for_a_call() {
        let (ticker, _engine) = ticker(2);
        let asleep = || ticker.shared.asleep.load(Ordering::SeqCst);
        wait_until("asleep", asleep);
        let call = ticker.enter().unwrap();
        wait_until("awake", || !asleep());
        drop(call);
        wait_until("asleep again", asleep);
    }

    #[test]
    fn no_more_calls_are_counted_in_than_may_run() {
        let (ticker, _engine) = ticker(2);
        let first = ticker.enter().unwrap();
        let _second = ticker.enter().unwrap();
        assert!(ticker.enter().is_none());
        drop(first);
        assert!(ticker.enter().is_some());
    }

    #[test]
    fn the_thread_ends_asleep_or_awake() {
        let (awake, _engine) = ticker(1);
        drop(awake);
        let (asleep, _engine) = ticker(1);
        wait_until("asleep", || asleep.shared.asleep.load(Ordering::SeqCst));
        drop(asleep);
    }
}
