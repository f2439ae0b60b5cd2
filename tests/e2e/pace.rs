//! How fast the machine is just now: beside that, times are held that a busy machine may miss.

use std::time::{Duration, Instant};

/// What small requests took.
#[derive(Debug, Default)]
pub(crate) struct Pace(Vec<Duration>);

impl From<Vec<Duration>> for Pace {
    fn from(times: Vec<Duration>) -> Pace {
        Pace(times)
    }
}

impl Pace {
    /// Notes what one took.
    pub(crate) fn of<T>(&mut self, request: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let answer = request();
        self.0.push(began.elapsed());
        answer
    }

    /// What is to be held: `bar`, and where the machine is too busy for that, so many times what a
    /// small request takes, the median of all.
    pub(crate) fn bar(&self, bar: Duration, request_count: u32) -> Duration {
        let mut times = self.0.clone();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        bar.max(median * request_count)
    }
}
