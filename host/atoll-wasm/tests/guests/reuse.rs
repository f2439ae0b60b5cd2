//! Instances that answer more than one request: when they do, when they do not, and what stays with
//! each request all the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_wasm::component::{Component, Handler};
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::CallError;
use atoll_wasm::limits::Limits;
use atoll_wasm::reuse::{Pool, Reuse};

use crate::component::{Answer, Text, handler};
use crate::host::{GET, Nothing, POST, SMALL, engine, runtime, shared};

const LONG: Reuse = Reuse { requests: 1_000, idle_ms: 600_000, at_once: 1 };

/// Adds one to a number in memory, then does `then`.
fn counting(then: &str) -> String {
    format!(
        "(i32.store (i32.const 5000) (i32.add (i32.load (i32.const 5000)) (i32.const 1))) {then}"
    )
}

/// Answers with the status 200 and how many requests this instance has had.
fn counter() -> Vec<u8> {
    let code = format!(
        "{} drop (i32.store (i32.const 1024) (i32.add (i32.const 200) (i32.load (i32.const 5000))))
         (i32.const 1024)",
        Answer::OK.code()
    );
    handler(&counting(&code))
}

/// A handler and a pool for it.
struct Bench {
    handler: Handler<Nothing>,
    pool: Arc<Pool<Nothing>>,
}

impl Bench {
    #[track_caller]
    fn new(engine: &Engine<Nothing>, wasm: &[u8], reuse: Reuse) -> Bench {
        let component = engine.compile(wasm).unwrap();
        let pool = component.pool(reuse);
        let Component::Edge(handler) = component else { panic!("another world") };
        Bench { handler, pool }
    }

    /// Sends a request that is not made twice.
    fn ask_with(&self, limits: &Limits) -> Result<u16, CallError> {
        let call = self.handler.call_reusing(&self.pool, Nothing, POST, limits);
        runtime().block_on(call).map(|response| response.status)
    }

    /// Sends one that may be made twice.
    fn get(&self, limits: &Limits) -> Result<u16, CallError> {
        let call = self.handler.call_reusing(&self.pool, Nothing, GET, limits);
        runtime().block_on(call).map(|response| response.status)
    }

    fn ask(&self) -> Result<u16, CallError> {
        self.ask_with(&Limits::default())
    }
}

#[test]
fn an_instance_answers_as_many_requests_as_it_may_one_after_the_other() {
    let bench = Bench::new(shared(), &counter(), Reuse { requests: 3, ..LONG });
    let answers: Vec<u16> = (0..7).map(|_| bench.ask().unwrap()).collect();
    assert_eq!(answers, [201, 202, 203, 201, 202, 203, 201]);
    let counts = bench.pool.counts();
    assert_eq!((counts.started, counts.reused, counts.idle), (3, 4, 1));
}

#[test]
fn two_at_once_have_two_instances_and_two_pools_share_none() {
    let component = shared().compile(&counter()).unwrap();
    let (first, second) = (component.pool(LONG), component.pool(LONG));
    let Component::Edge(handler) = component else { panic!("another world") };
    let limits = Limits::default();
    runtime().block_on(async {
        let call = |pool| handler.call_reusing(pool, Nothing, GET, &limits);
        let (one, other) = tokio::join!(call(&first), call(&first));
        let both = (one.unwrap().status, other.unwrap().status);
        // One after the other, unless a tick comes while the first one computes: then both are at
        // work, and each has an instance of its own.
        assert!(matches!(both, (201, 201 | 202)), "{both:?}");
        let started = first.counts().started;
        assert_eq!(started, if both.1 == 201 { 2 } else { 1 });
        assert_eq!(call(&second).await.unwrap().status, 201);
    });
}

#[test]
fn a_guest_that_fails_is_thrown_away() {
    // The third request of each instance traps.
    let code = format!(
        "(if (i32.eq (i32.load (i32.const 5000)) (i32.const 3)) (then unreachable)) {}",
        Answer::OK.code()
    );
    let bench = Bench::new(shared(), &handler(&counting(&code)), LONG);
    for _ in 0..5 {
        assert_eq!((bench.ask(), bench.ask()), (Ok(200), Ok(200)));
        assert_eq!(bench.ask().unwrap_err().kind(), "trap");
        assert_eq!(bench.pool.counts().idle, 0);
    }
    assert_eq!(bench.pool.broken(), None, "it has answered others in between");
}

#[test]
fn reuse_that_breaks_a_component_is_given_up() {
    // Every request but an instance's first traps.
    let code = format!(
        "(if (i32.gt_u (i32.load (i32.const 5000)) (i32.const 1)) (then unreachable)) {}",
        Answer::OK.code()
    );
    let bench = Bench::new(shared(), &handler(&counting(&code)), LONG);
    for failed in 0..3 {
        assert_eq!(bench.pool.broken(), None, "after {failed} failures");
        assert_eq!(bench.ask(), Ok(200));
        assert_eq!(bench.ask().unwrap_err().kind(), "trap");
    }
    let why = bench.pool.broken().unwrap();
    assert!(why.contains("3 instances in a row") && why.contains("panicked"), "{why}");
    for _ in 0..5 {
        assert_eq!(bench.ask(), Ok(200));
    }
    assert_eq!(bench.pool.counts().idle, 0);
}

#[test]
fn what_a_used_instance_fails_at_a_fresh_one_is_given() {
    // Every request but an instance's first traps.
    let code = format!(
        "(if (i32.gt_u (i32.load (i32.const 5000)) (i32.const 1)) (then unreachable)) {}",
        Answer::OK.code()
    );
    let bench = Bench::new(shared(), &handler(&counting(&code)), LONG);
    let limits = Limits::default();
    assert_eq!((bench.get(&limits), bench.pool.doubt()), (Ok(200), None));
    for _ in 0..10 {
        assert_eq!(bench.get(&limits), Ok(200));
    }
    let counts = bench.pool.counts();
    assert_eq!((counts.retried, counts.reused, counts.idle), (3, 3, 0), "then reuse was over");
    assert_eq!((bench.pool.take_retries(), bench.pool.take_retries()), (3, 0));
    let doubt = bench.pool.doubt().unwrap();
    assert!(doubt.contains("a fresh one answered") && doubt.contains("panicked"), "{doubt}");
    assert!(bench.pool.broken().is_some());
}

#[test]
fn a_fresh_instance_is_tried_once_and_only_where_it_may_help() {
    // Every request but an instance's first does this.
    let then = |code: &str| {
        let code = format!(
            "(if (i32.gt_u (i32.load (i32.const 5000)) (i32.const 1)) (then {code})) {}",
            Answer::OK.code()
        );
        Bench::new(shared(), &handler(&counting(&code)), LONG)
    };
    let limits = Limits { cpu_ms: 20, ..Limits::default() };
    let looping = then(crate::limits::LOOP);
    assert_eq!(looping.get(&limits), Ok(200));
    assert_eq!(looping.get(&limits), Err(CallError::CpuLimit { cpu_ms: 20 }));
    assert_eq!(looping.pool.counts().retried, 0, "its time is over");
    let posted = then("unreachable");
    assert_eq!(posted.ask(), Ok(200));
    assert_eq!(posted.ask().unwrap_err().kind(), "trap");
    assert_eq!(posted.pool.counts().retried, 0, "it may not be made twice");
    let code = format!(
        "(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) {}",
        Answer::OK.code()
    );
    let hoarding = Bench::new(shared(), &handler(&code), LONG);
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    assert_eq!((0..20).filter(|_| hoarding.get(&limits) == Ok(200)).count(), 20);
    assert_eq!((hoarding.pool.counts().retried, hoarding.pool.broken()), (2, None));
}

#[test]
fn an_instance_that_wears_out_is_replaced_before_it_does() {
    let code = format!(
        "(if (i32.gt_u (i32.load (i32.const 5000)) (i32.const 20)) (then unreachable)) {}",
        Answer::OK.code()
    );
    let bench = Bench::new(shared(), &handler(&counting(&code)), LONG);
    let limits = Limits::default();
    for request in 0..100 {
        assert_eq!(bench.get(&limits), Ok(200), "request {request}");
    }
    // The first fails at its 21st request; then each answers 10.
    let counts = bench.pool.counts();
    assert_eq!((counts.retried, counts.started), (1, 9));
    let doubt = bench.pool.doubt().unwrap();
    assert!(doubt.contains("it had answered 20, and none answers more than 10 now"), "{doubt}");
    assert_eq!(bench.pool.broken(), None);
    // A request that is not made twice is safe now too.
    assert_eq!((0..100).filter(|_| bench.ask() == Ok(200)).count(), 100);
}

#[test]
fn a_handler_that_always_fails_says_nothing_about_reuse() {
    let bench = Bench::new(shared(), &handler("unreachable"), LONG);
    for _ in 0..10 {
        assert_eq!(bench.ask().unwrap_err().kind(), "trap");
    }
    assert_eq!((bench.pool.broken(), bench.pool.counts().reused), (None, 0));
}

#[test]
fn every_request_has_the_whole_of_its_processor_time() {
    // Some 10 ms or more, each time.
    let code = format!(
        "(local $turns i32) (loop $again
           (local.set $turns (i32.add (local.get $turns) (i32.const 1)))
           (br_if $again (i32.lt_u (local.get $turns) (i32.const 20000000)))) {}",
        Answer::OK.code()
    );
    let bench = Bench::new(shared(), &handler(&code), LONG);
    let limits = Limits { wall_ms: 60_000, ..Limits::default() };
    let before = crate::limits::thread_time();
    bench.ask_with(&Limits { cpu_ms: 60_000, ..limits }).unwrap();
    let once = crate::limits::thread_time() - before;
    let cpu_ms = u32::try_from(once.as_millis() * 3 + 10).unwrap();
    for _ in 0..8 {
        assert_eq!(bench.ask_with(&Limits { cpu_ms, ..limits }), Ok(200));
    }
    assert_eq!(bench.pool.counts().started, 1);
    let looping = crate::limits::LOOP;
    let code = format!(
        "(if (i32.gt_u (i32.load (i32.const 5000)) (i32.const 1)) (then {looping})) {}",
        Answer::OK.code()
    );
    let bench = Bench::new(shared(), &handler(&counting(&code)), LONG);
    assert_eq!(bench.ask(), Ok(200));
    assert_eq!(bench.ask(), Err(CallError::CpuLimit { cpu_ms: 100 }));
}

#[test]
fn memory_is_limited_over_all_requests_of_an_instance() {
    let code = format!(
        "(if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) {}",
        Answer::OK.code()
    );
    let bench = Bench::new(shared(), &handler(&code), LONG);
    let limits = Limits { memory_bytes: 8 << 20, ..Limits::default() };
    let answers: Vec<_> = (0..20).map(|_| bench.ask_with(&limits)).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 2, "{answers:?}");
    assert_eq!(answers[7], Err(CallError::MemoryLimit { memory_bytes: 8 << 20 }));
    assert_eq!(answers[8], Ok(200));
}

#[test]
fn who_waits_for_too_long_is_ended() {
    let engine = engine(SMALL);
    let bench = Bench::new(&engine, &counter(), Reuse { idle_ms: 1, ..LONG });
    assert_eq!(bench.ask(), Ok(201));
    assert!(engine.memory_bytes() > 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while bench.pool.counts().idle > 0 {
        assert!(Instant::now() < deadline, "it still waits");
        std::thread::sleep(Duration::from_millis(1));
        bench.pool.sweep();
    }
    assert_eq!(engine.memory_bytes(), 0);
    assert_eq!(bench.ask(), Ok(201));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(bench.ask(), Ok(201), "nor is it used without a sweep");
}

#[test]
fn who_waits_makes_room_for_who_runs() {
    let total = EngineConfig { memory_bytes_total: 1 << 20, ..SMALL };
    let engine = engine(total);
    let waiting = Bench::new(
        &engine,
        &Text { code: &Answer::OK.code(), pages: 14, ..Text::default() }.wasm(),
        LONG,
    );
    assert_eq!(waiting.ask(), Ok(200));
    assert_eq!(waiting.pool.counts().idle, 1);
    // It needs more than the other leaves.
    let code = format!(
        "(if (i32.eq (memory.grow (i32.const 8)) (i32.const -1)) (then unreachable)) {}",
        Answer::OK.code()
    );
    let needy = Bench::new(&engine, &handler(&code), LONG);
    assert_eq!(needy.ask(), Ok(200));
    assert_eq!(waiting.pool.counts().idle, 0);
}

#[test]
fn instances_that_wait_take_no_place_from_those_that_run() {
    let engine = engine(SMALL);
    let benches: Vec<Bench> = (0..12).map(|_| Bench::new(&engine, &counter(), LONG)).collect();
    for bench in &benches {
        assert_eq!(bench.ask(), Ok(201));
    }
    let waiting: usize = benches.iter().map(|bench| bench.pool.counts().idle).sum();
    assert_eq!(waiting, 2, "a quarter of those that may run");
    assert_eq!(benches[11].ask(), Ok(202), "the last ones wait");
    let limits = Limits { wall_ms: 100, cpu_ms: 60_000, ..Limits::default() };
    let looping = Bench::new(&engine, &handler(crate::limits::LOOP), LONG);
    runtime().block_on(async {
        let calls = (0..8).map(|_| looping.handler.call(Nothing, GET, &limits));
        let mut calls: Vec<_> = calls.map(Box::pin).collect();
        for call in &mut calls {
            let early = tokio::time::timeout(Duration::from_millis(1), call).await;
            assert!(early.is_err() || early.unwrap().unwrap_err().kind() == "wall-limit");
        }
    });
}

#[test]
fn a_call_that_is_given_up_leaves_no_instance_behind() {
    let engine = engine(SMALL);
    let code = format!(
        "(if (i32.gt_u (i32.load (i32.const 5000)) (i32.const 1)) (then {})) {}",
        crate::limits::LOOP,
        Answer::OK.code()
    );
    let bench = Bench::new(&engine, &handler(&counting(&code)), LONG);
    assert_eq!(bench.ask(), Ok(200));
    let limits = Limits { cpu_ms: 60_000, wall_ms: 60_000, ..Limits::default() };
    runtime().block_on(async {
        let call = bench.handler.call_reusing(&bench.pool, Nothing, GET, &limits);
        let early = tokio::time::timeout(Duration::from_millis(10), call).await;
        assert!(early.is_err(), "it loops");
    });
    assert_eq!((bench.pool.counts().idle, engine.memory_bytes()), (0, 0));
}
