//! A host for guests that need nothing of it, and what every test calls with.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use atoll_wasm::component::{Component, Handler};
use atoll_wasm::engine::{Engine, EngineConfig};
use atoll_wasm::error::CallError;
use atoll_wasm::host::purge::{Purge, PurgeError, Purging};
use atoll_wasm::host::{
    Entry, FetchBody, FetchError, Fetcher, Fetching, Host, Increment, KvError, Level, List,
    Listing, Logger, NoRandomness, Request, Response, SecretError, Set,
};
use atoll_wasm::limits::Limits;
use bytes::Bytes;

use crate::listing::{ENDLESS, Endless};

/// Grants nothing but to list keys without end. Time stands still, dice always show 7.
#[derive(Clone)]
pub(crate) struct Nothing;

fn denied<T>() -> Result<T, KvError> {
    Err(KvError::Denied("nothing is granted".to_owned()))
}

impl Host for Nothing {
    type Bucket = ();

    fn open(&mut self, name: &str) -> Result<(), KvError> {
        if name == ENDLESS { Ok(()) } else { denied() }
    }

    fn get(&mut self, _bucket: &(), _key: &str) -> Result<Option<Bytes>, KvError> {
        denied()
    }

    fn get_entry(&mut self, _bucket: &(), _key: &str) -> Result<Option<Entry>, KvError> {
        denied()
    }

    fn exists(&mut self, _bucket: &(), _key: &str) -> Result<bool, KvError> {
        denied()
    }

    fn set(&mut self, _bucket: &(), _key: &str, _set: Set) -> Result<String, KvError> {
        denied()
    }

    fn set_tagged(&mut self, _: &(), _: &str, _: (Set, Vec<String>)) -> Result<String, KvError> {
        denied()
    }

    fn tags(&mut self, _bucket: &(), _key: &str) -> Result<Option<Vec<String>>, KvError> {
        denied()
    }

    fn delete(&mut self, _bucket: &(), _key: &str) -> Result<bool, KvError> {
        denied()
    }

    fn increment(&mut self, _bucket: &(), _key: &str, _by: Increment) -> Result<i64, KvError> {
        denied()
    }

    fn list(&mut self, _bucket: &(), _list: List) -> Result<Box<dyn Listing>, KvError> {
        Ok(Box::new(Endless))
    }

    fn purge(&mut self, _purge: Purge) -> Purging {
        let denied = PurgeError::Denied("nothing is granted".to_owned());
        Box::pin(std::future::ready(Err(denied)))
    }

    fn fetcher(&self) -> Arc<dyn Fetcher> {
        Arc::new(Nothing)
    }

    fn logger(&self) -> Arc<dyn Logger> {
        Arc::new(Nothing)
    }

    fn config(&mut self, _key: &str) -> Option<String> {
        None
    }

    fn settings(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }

    fn secret(&mut self, _name: &str) -> Result<Option<Vec<u8>>, SecretError> {
        Ok(None)
    }

    fn now_ms(&mut self) -> u64 {
        1_000
    }

    fn random(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        bytes.fill(7);
        Ok(())
    }
}

impl Logger for Nothing {
    fn log(&self, _level: Level, _message: &str) {}
}

impl Fetcher for Nothing {
    fn fetch(&self, _request: http::Request<FetchBody>) -> Fetching {
        let denied = FetchError::Denied("nothing is granted".to_owned());
        Box::pin(std::future::ready(Err(denied)))
    }
}

pub(crate) const GET: Request<'static> = Request {
    method: "GET",
    scheme: "http",
    path: "/",
    query: None,
    authority: Some("localhost"),
    headers: &[("accept", b"*/*")],
    body: b"",
    client_address: Some("127.0.0.1"),
};

/// One that may not be made twice.
pub(crate) const POST: Request<'static> = Request { method: "POST", ..GET };

pub(crate) const SMALL: EngineConfig = EngineConfig {
    instances_max: 8,
    memory_bytes_max: 64 << 20,
    memory_bytes_total: 128 << 20,
    component_bytes_max: 1 << 20,
};

/// An engine of a test's own, where it needs one to itself.
pub(crate) fn engine(config: EngineConfig) -> Engine<Nothing> {
    Engine::new(config).unwrap()
}

/// Compiles on the engine that the tests share.
#[track_caller]
pub(crate) fn compile(wasm: &[u8]) -> Handler<Nothing> {
    compile_on(shared(), wasm)
}

/// Compiles a handler of our own world.
#[track_caller]
pub(crate) fn compile_on(engine: &Engine<Nothing>, wasm: &[u8]) -> Handler<Nothing> {
    match engine.compile(wasm).unwrap() {
        Component::Edge(handler) => handler,
        other => panic!("a handler of {}", other.world().name()),
    }
}

pub(crate) fn shared() -> &'static Engine<Nothing> {
    static SHARED: OnceLock<Engine<Nothing>> = OnceLock::new();
    SHARED.get_or_init(|| engine(EngineConfig { instances_max: 64, ..SMALL }))
}

/// Held by a test that measures small times, and by those that keep every processor busy for long.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs one call to its end, on this thread.
pub(crate) fn call(handler: &Handler<Nothing>, limits: &Limits) -> Result<Response, CallError> {
    runtime().block_on(handler.call(Nothing, GET, limits))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}
