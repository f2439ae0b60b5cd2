//! A guest that computes does not hold up its neighbours on the same thread.

use std::time::Duration;

use atoll_wasm::component::Handler;
use atoll_wasm::error::CallError;
use atoll_wasm::limits::{Limits, TICK_MS};

use crate::component::{Answer, handler};
use crate::host::{GET, Nothing, alone, compile, runtime};
use crate::limits::{LOOP, thread_time};

/// How often the neighbour wants to run.
const TURNS: usize = 20;
/// Two ticks at most while the timer fires, two while the call runs, and one for measuring.
const DELAY_MAX: Duration = Duration::from_millis(5 * TICK_MS);

#[test]
fn a_loop_delays_a_timer_and_a_call_on_its_thread_by_a_few_ticks() {
    let _alone = alone();
    check_fair(&compile(&handler(LOOP)));
}

/// A guest that keeps its processor busy lets a timer and a call on its thread have their turns. To be
/// asked by who is [`alone`].
#[track_caller]
pub(crate) fn check_fair(looping: &Handler<Nothing>) {
    let quick = compile(&handler(&Answer::OK.code()));
    let limits = Limits { cpu_ms: 2_000, wall_ms: 60_000, ..Limits::default() };
    let neighbour = async {
        let mut delays = Vec::new();
        for _ in 0..TURNS {
            // Processor time of the thread that both share: what the loop takes while the neighbour
            // wants to run.
            let before = thread_time();
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(quick.call(Nothing, GET, &limits).await.unwrap().status, 200);
            delays.push(thread_time() - before);
        }
        // The thread that ticks waits for its own turns now and then, on a busy machine.
        delays.sort_unstable();
        assert!(delays[TURNS * 3 / 4] < DELAY_MAX, "{delays:?}");
    };
    let ended = runtime().block_on(async {
        let mut call = Box::pin(looping.call(Nothing, GET, &limits));
        tokio::select! {
            () = neighbour => None,
            ended = &mut call => Some(ended),
        }
    });
    assert_eq!(
        ended, None::<Result<_, CallError>>,
        "the loop ended before the neighbour had its turns"
    );
}
