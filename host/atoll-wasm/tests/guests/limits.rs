//! Processor, time, memory, places: each limit ends one call, and says which it was.

use std::time::Duration;

use atoll_wasm::engine::EngineConfig;
use atoll_wasm::error::CallError;
use atoll_wasm::limits::Limits;
use rustix::time::{ClockId, clock_gettime};

use crate::component::{Answer, Text, handler};
use crate::host::{GET, Nothing, SMALL, call, compile, compile_on, engine, runtime, shared};

pub(crate) const LOOP: &str = "(loop $again (br $again)) unreachable";
const GROW_OR_TRAP: &str = "(loop $again
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
    (br $again)) unreachable";

/// The processor time of this thread: unlike the wall's, it does not depend on what else the
/// machine does.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[test]
fn an_engine_of_the_default_size_starts_and_answers() {
    let engine = engine(EngineConfig::default());
    let handler = compile_on(&engine, &handler(&Answer::OK.code()));
    assert_eq!(call(&handler, &Limits::default()).unwrap().status, 200);
}

#[test]
fn a_loop_is_stopped_at_its_processor_limit_and_not_before() {
    let handler = compile(&handler(LOOP));
    let limits = Limits { cpu_ms: 60, wall_ms: 60_000, ..Limits::default() };
    let mut spent = [(); 5].map(|()| {
        let before = thread_time();
        assert_eq!(call(&handler, &limits), Err(CallError::CpuLimit { cpu_ms: 60 }));
        thread_time() - before
    });
    spent.sort_unstable();
    assert!(spent[0] >= Duration::from_millis(60), "{spent:?}");
    // The thread that ticks waits for its own turns now and then, on a busy machine.
    assert!(spent[2] < Duration::from_millis(70), "{spent:?}");
}

#[test]
fn a_loop_in_start_code_is_stopped_too() {
    let module = "(func $spin (loop $again (br $again))) (start $spin)";
    let handler = shared().compile(&Text { module, ..Text::default() }.wasm()).unwrap();
    let limits = Limits { cpu_ms: 10, wall_ms: 60_000, ..Limits::default() };
    let tried = runtime().block_on(handler.try_instance(Nothing, &limits));
    assert_eq!(tried, Err(CallError::CpuLimit { cpu_ms: 10 }));
}

#[test]
fn a_call_ends_at_its_wall_limit_whatever_it_may_compute() {
    let engine = engine(SMALL);
    let handler = compile_on(&engine, &handler(LOOP));
    let limits = Limits { cpu_ms: 60_000, wall_ms: 30, ..Limits::default() };
    assert_eq!(call(&handler, &limits), Err(CallError::WallLimit { wall_ms: 30 }));
    assert_eq!(engine.memory_bytes(), 0);
}

#[test]
fn a_guest_that_dies_for_want_of_memory_is_told_so() {
    let handler = compile(&handler(GROW_OR_TRAP));
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    assert_eq!(call(&handler, &limits), Err(CallError::MemoryLimit { memory_bytes: 8 << 20 }));
    // Past the engine's own bound, whatever the call may have.
    let limits = Limits { memory_bytes: usize::MAX, ..Limits::default() };
    assert_eq!(call(&handler, &limits).unwrap_err().kind(), "memory-limit");
}

#[test]
fn a_guest_that_copes_with_a_refusal_answers() {
    let code = format!("(drop (memory.grow (i32.const 1000))) {}", Answer::OK.code());
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    assert_eq!(call(&compile(&handler(&code)), &limits).unwrap().status, 200);
}

#[test]
fn a_component_that_starts_with_too_much_memory_is_found_out_before_its_first_request() {
    let handler = shared().compile(&Text { pages: 200, ..Text::default() }.wasm()).unwrap();
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    let tried = runtime().block_on(handler.try_instance(Nothing, &limits));
    assert_eq!(tried, Err(CallError::MemoryLimit { memory_bytes: 8 << 20 }));
    assert_eq!(runtime().block_on(handler.try_instance(Nothing, &Limits::default())), Ok(()));
}

#[test]
fn all_guests_together_stay_within_the_memory_of_the_engine() {
    let engine = engine(EngineConfig { memory_bytes_total: 1 << 20, ..SMALL });
    let handler = compile_on(&engine, &handler(GROW_OR_TRAP));
    assert_eq!(call(&handler, &Limits::default()).unwrap_err().kind(), "busy");
    assert_eq!(engine.memory_bytes(), 0);
}

#[test]
fn a_body_over_the_limit_is_not_sent() {
    let answer = Answer { body: (0, 60_000), ..Answer::OK };
    let handler = compile(&handler(&answer.code()));
    let limits = Limits { response_bytes: 60_000, ..Limits::default() };
    assert_eq!(call(&handler, &limits).unwrap().body.len(), 60_000);
    let limits = Limits { response_bytes: 59_999, ..Limits::default() };
    assert_eq!(
        call(&handler, &limits),
        Err(CallError::ResponseLimit { len: 60_000, bytes_max: 59_999 })
    );
}

#[test]
fn one_call_more_than_there_are_places_is_told_to_come_later() {
    let engine = engine(EngineConfig { instances_max: 1, ..SMALL });
    let looping = compile_on(&engine, &handler(LOOP));
    let quick = compile_on(&engine, &handler(&Answer::OK.code()));
    let limits = Limits { cpu_ms: 60_000, wall_ms: 60_000, ..Limits::default() };
    runtime().block_on(async {
        let mut first = Box::pin(looping.call(Nothing, GET, &limits));
        assert!(tokio::time::timeout(Duration::from_millis(5), &mut first).await.is_err());
        assert_eq!(quick.call(Nothing, GET, &limits).await.unwrap_err().kind(), "busy");
        // Nobody waits for the first any more: its place is free at once.
        drop(first);
        assert_eq!(quick.call(Nothing, GET, &limits).await.unwrap().status, 200);
    });
}
