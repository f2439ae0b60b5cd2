//! What a call costs, in processor time of one thread, without HTTP:
//!
//! ```sh
//! cargo test --release -p atoll-guests --test examples -- --ignored --nocapture
//! ```
#![allow(clippy::print_stdout, reason = "a measurement is for reading")]

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::{Guest, LIMITS, request};

const ROUNDS: u32 = 7;
const CALLS: u32 = 10_000;

#[test]
#[ignore = "a measurement, not a claim: run it alone and optimised"]
fn cost_of_a_call() {
    measure("hello", "/hello?name=Ada");
    measure("counter", "/counter/apples");
    measure("redirects", "/old");
}

/// Prints the best round, which is the one that others disturbed least.
fn measure(name: &str, target: &str) {
    let guest = Guest::new(name);
    let best = (0..ROUNDS).map(|_| round(&guest, target)).min().unwrap_or_default();
    println!("{name:>10}  {:>6} ns of processor time a call", best.as_nanos());
}

fn round(guest: &Guest, target: &str) -> Duration {
    guest.runtime.block_on(async {
        let before = thread_time();
        for _ in 0..CALLS {
            let call = guest.handler.call(guest.store.clone(), request(target), &LIMITS);
            drop(std::hint::black_box(call.await));
        }
        (thread_time() - before) / CALLS
    })
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}
