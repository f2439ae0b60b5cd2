//! Requests of `wasi:http` 0.3 that share an instance: what each of them uses and reaches is its own.

use std::sync::Arc;
use std::time::Duration;

use atoll_wasm::component::Component;
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::CallError;
use atoll_wasm::limits::{LOG_LINES_MAX, Limits};
use atoll_wasm::reuse::{Pool, PoolCounts, Reuse};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::LIMITS;
use crate::host::Memory;

const REUSE: Reuse = Reuse { requests: 100, idle_ms: 60_000, at_once: 8 };

/// A handler that does what the path says, and its instances.
struct Bench {
    limits: Limits,
    component: Arc<Component<Memory>>,
    pool: Arc<Pool<Memory>>,
    runtime: Runtime,
}

impl Bench {
    fn new(limits: Limits) -> Bench {
        let config = EngineConfig { instances_max: 8, ..EngineConfig::default() };
        let engine = Engine::new(config).unwrap();
        let wasm = std::fs::read(atoll_guests::build().unwrap().path("service")).unwrap();
        let component = engine.compile(&wasm).unwrap();
        assert!(component.can_share());
        let pool = component.pool(REUSE);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        Bench { limits, component: Arc::new(component), pool, runtime }
    }

    /// Begins a request with a store of its own, and lets it come to its first wait.
    fn begin(&self, method: &str, target: &str) -> (Memory, JoinHandle<Result<String, CallError>>) {
        let (store, limits) = (Memory::default(), self.limits);
        let (component, pool, host) =
            (Arc::clone(&self.component), Arc::clone(&self.pool), store.clone());
        let uri = format!("http://localhost{target}");
        let request =
            http::Request::builder().method(method).uri(uri).body(Empty::<Bytes>::new()).unwrap();
        let asked = self.runtime.spawn(async move {
            let Component::Proxy(service) = &*component else { panic!("another world") };
            let answer = service.serve(host, request, &limits, Some(&pool), |_| {}).await?;
            let body = answer.into_body().collect().await;
            let body = body.map_err(|_| CallError::NoAnswer)?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        });
        self.pass(100);
        (store, asked)
    }

    fn pass(&self, ms: u64) {
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(ms)).await });
    }

    fn end(&self, asked: JoinHandle<Result<String, CallError>>) -> Result<String, CallError> {
        self.runtime.block_on(asked).unwrap()
    }
}

#[track_caller]
fn cpu(store: &Memory) -> Duration {
    match &store.usages()[..] {
        [usage] => usage.cpu,
        other => panic!("told {} times", other.len()),
    }
}

/// Who comes while the guest computes has an instance of its own: on a busy machine it takes more
/// than one try until all meet.
const TRIES: usize = 20;

#[test]
fn what_requests_of_one_instance_use_and_reach_is_their_own() {
    assert!((0..TRIES).any(|_| six_keep_apart()), "they were never in one instance");
}

/// Returns whether they were together.
fn six_keep_apart() -> bool {
    let bench = Bench::new(LIMITS);
    let (waiting, first) = bench.begin("GET", "/wait?60,50");
    let (also_waiting, second) = bench.begin("GET", "/wait?60,50");
    let (chatty, third) = bench.begin("GET", "/lines?300,chatty");
    // Nobody joins while it writes.
    bench.pass(500);
    let (writing, fourth) = bench.begin("GET", "/kv?k");
    let (logging, fifth) = bench.begin("GET", "/log");
    let (computing, sixth) = bench.begin("GET", "/slices?20,20");
    for asked in [first, second, third, fourth, fifth, sixth] {
        bench.end(asked).unwrap();
    }
    bench.pass(100);
    let PoolCounts { started, reused, retried, idle } = bench.pool.counts();
    if (started, reused, retried, idle) != (1, 5, 0, 1) {
        return false;
    }

    assert_eq!(writing.text("k").as_deref(), Some("written"));
    assert!([&waiting, &chatty, &computing].iter().all(|store| store.text("k").is_none()));
    // As many as it may, and one that says so. The log is the handler's: that of its first request.
    let lines: Vec<String> = waiting.lines().into_iter().map(|(_, text)| text).collect();
    let of_chatty = lines.iter().filter(|line| line.ends_with("of chatty")).count();
    assert_eq!(of_chatty, LOG_LINES_MAX as usize - 1, "{lines:?}");
    assert!(lines.iter().any(|line| line == "a line"), "{lines:?}");
    drop(logging);

    // Of the thread, whatever else the machine runs; the debug build's own part is in both.
    let (computed, waited) = (cpu(&computing), cpu(&also_waiting));
    assert!(computed > 4 * waited, "{computed:?} beside {waited:?}");
    for store in [&waiting, &also_waiting, &chatty, &writing] {
        assert!(cpu(store) < computed, "{:?} beside {computed:?}", cpu(store));
    }
    true
}

#[test]
fn a_request_that_computes_for_too_long_is_the_one_that_is_told_so() {
    assert!((0..TRIES).any(|_| one_ends_the_others()), "they were never in one instance");
}

/// Returns whether they were together.
fn one_ends_the_others() -> bool {
    let bench = Bench::new(Limits { cpu_ms: 200, ..LIMITS });
    let limit = Duration::from_millis(200);
    let (_, repeatable) = bench.begin("GET", "/wait?80,50");
    let (lost, unrepeatable) = bench.begin("POST", "/wait?80,50");
    let (hostile, endless) = bench.begin("GET", "/slices?1000");
    assert_eq!(bench.end(endless).unwrap_err(), CallError::CpuLimit { cpu_ms: 200 });
    assert!(cpu(&hostile) >= limit);
    let (unrepeatable, again) = (bench.end(unrepeatable), bench.end(repeatable));
    let PoolCounts { started, reused, retried, .. } = bench.pool.counts();
    if (started, reused, retried) != (2, 2, 1) {
        return false;
    }
    assert_eq!(unrepeatable.unwrap_err(), CallError::InstanceLost);
    assert!(cpu(&lost) < limit / 2, "{:?}", cpu(&lost));
    let again = again.unwrap();
    assert!(again.starts_with("most 1"), "it was made again, alone: {again}");
    true
}
