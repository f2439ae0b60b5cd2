//! A node in memory, for unit tests on the machine that compiles: `cargo test`, no Wasm, no server.
//!
//! ```
//! use atoll_guest::testing::Node;
//! use atoll_guest::{Request, Response, clock, handler, kv};
//! use std::time::Duration;
//!
//! /// Ten requests a minute for each client.
//! #[handler]
//! fn handle(request: Request) -> Result<Response, kv::Error> {
//!     let key = format!("limit:{}", request.client_address().unwrap_or("nobody"));
//!     let window = Duration::from_secs(60);
//!     if kv::open("default")?.increment_within(&key, 1, window)? > 10 {
//!         return Ok(Response::text("slow down\n").status(429));
//!     }
//!     Ok(Response::text(format!("at {}\n", clock::now_ms())))
//! }
//!
//! let node = Node::start();
//! for _ in 0..10 {
//!     assert_eq!(node.run(handle, Request::new("GET", "/")).status_code(), 200);
//! }
//! assert_eq!(node.run(handle, Request::new("GET", "/")).status_code(), 429);
//! node.advance(Duration::from_secs(60));
//! assert_eq!(node.run(handle, Request::new("GET", "/")).status_code(), 200);
//! ```
//!
//! The store does what a node's does: lifetimes by a clock that the test sets, conditions,
//! counters, pages of keys, grants, bounds, and the same errors. There is one node, so nothing
//! arrives from others, and its memory has no budget.

pub(crate) mod calls;
mod grants;
pub(crate) mod purges;
mod store;
mod upstreams;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crate::kv::Bucket;
use crate::{IntoResponse, Request, Response, fetch};
use grants::Grants;
use purges::Purges;
use store::Store;
use upstreams::Upstreams;

/// Where the clock of a new node stands: 1 January 2027, in ms since 1970.
const START_MS: u64 = 1_798_761_600_000;
/// Lines that one request may log, as on a node.
const LOG_LINES_MAX: usize = 256;
/// Bytes of one line, as on a node.
const LOG_LINE_BYTES_MAX: usize = 4 << 10;

thread_local! {
    static CURRENT: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// A node in memory. While it lives, the SDK's calls on this thread are answered by it.
///
/// A test begins with one of its own; starting another on the same thread takes its place.
#[derive(Debug)]
pub struct Node {
    state: Rc<RefCell<State>>,
}

#[derive(Debug)]
struct State {
    now_ms: u64,
    store: Store,
    grants: Grants,
    config: BTreeMap<String, String>,
    /// Those that were granted; `None` where nobody has set one.
    secrets: BTreeMap<String, Option<Vec<u8>>>,
    upstreams: Upstreams,
    purges: Purges,
    lines: Vec<String>,
    /// Lines that the present request may still log.
    lines_left: usize,
    random: u64,
}

impl Node {
    /// Starts an empty node whose handler was granted `kv:default=rw`, as `atoll deploy` does by
    /// itself.
    #[must_use = "the node ends when it is dropped"]
    pub fn start() -> Node {
        let state = State {
            now_ms: START_MS,
            store: Store::default(),
            grants: Grants::new(&["kv:default=rw"]),
            config: BTreeMap::new(),
            secrets: BTreeMap::new(),
            upstreams: Upstreams::default(),
            purges: Purges::default(),
            lines: Vec::new(),
            lines_left: LOG_LINES_MAX,
            random: 0,
        };
        let state = Rc::new(RefCell::new(state));
        CURRENT.with(|current| current.replace(Some(Rc::clone(&state))));
        Node { state }
    }

    /// Grants these and nothing else, written as for `atoll deploy --grant`: `kv:BUCKET=rw`,
    /// `kv:BUCKET/PREFIX=r`, `http:HOST[:PORT]`, `http:*.HOST`, `purge`, `purge:host=HOST`,
    /// `purge:prefix=HOST/PATH`, `purge:tag=TAG`. Panics at what is no grant.
    #[must_use]
    pub fn with_grants(self, grants: &[&str]) -> Node {
        self.state.borrow_mut().grants = Grants::new(grants);
        self
    }

    /// Adds a setting, as `atoll deploy --config KEY=VALUE` does.
    #[must_use]
    pub fn with_config(self, key: &str, value: &str) -> Node {
        self.state.borrow_mut().config.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Grants a secret, which is what `atoll secret set` was given, or was never set. Any other is
    /// denied.
    #[must_use]
    pub fn with_secret(self, name: &str, value: Option<&[u8]>) -> Node {
        self.state.borrow_mut().secrets.insert(name.to_owned(), value.map(<[u8]>::to_vec));
        self
    }

    /// Makes a host that the handler can reach, if it is granted: `origin` is a scheme and a host, with
    /// its port if it is not the usual one (`http://localhost:8000`). Hosts that the test does not
    /// make are not found.
    #[must_use]
    pub fn with_upstream(
        self,
        origin: &str,
        answer: impl Fn(&fetch::Outgoing) -> fetch::Incoming + 'static,
    ) -> Node {
        self.state.borrow_mut().upstreams.add(origin, answer);
        self
    }

    /// Lets a handler answer, as the node would: an error becomes a 500 and a line in the log.
    ///
    /// Panics at an answer that a node would refuse: a status that is not 200 to 599, a header
    /// whose name or value is not allowed.
    #[track_caller]
    pub fn run<R: IntoResponse>(
        &self,
        handle: impl FnOnce(Request) -> R,
        request: Request,
    ) -> Response {
        {
            let mut state = self.state.borrow_mut();
            state.lines_left = LOG_LINES_MAX;
            state.upstreams.begin();
            state.purges.begin();
        }
        let response = handle(request).into_response();
        if let Some(fault) = fault(&response) {
            panic!("a node would answer with a 502 in its place: {fault}");
        }
        response
    }

    /// Opens a bucket for the test itself, which needs no grant: to lay out what the handler will
    /// find, and to look at what it left. Panics at what is no name of a bucket.
    #[track_caller]
    pub fn bucket(&self, name: &str) -> Bucket {
        if let Err(error) = store::check_bucket(name) {
            panic!("{error:?}");
        }
        Bucket::of_test(calls::Bucket::for_test(name))
    }

    /// Returns what was logged so far, each line with its level before it: `warn nearly full`.
    pub fn log(&self) -> Vec<String> {
        self.state.borrow().lines.clone()
    }

    /// Returns what was purged so far, in order: `hard tag news`, `soft url https://a.example/b`,
    /// `hard all`. There is no cache whose answers could go; keys with a tag that is purged do.
    pub fn purged(&self) -> Vec<String> {
        self.state.borrow().purges.done.clone()
    }

    /// Returns the time, in milliseconds since 1970. It stands still unless the test moves it.
    pub fn now_ms(&self) -> u64 {
        self.state.borrow().now_ms
    }

    /// Sets the time, in milliseconds since 1970.
    pub fn set_now_ms(&self, now_ms: u64) {
        self.state.borrow_mut().now_ms = now_ms;
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let now_ms = self.now_ms().saturating_add(ms);
        self.set_now_ms(now_ms);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Fails only while the thread ends, and its nodes with it.
        let _ = CURRENT.try_with(|current| {
            let mut current = current.borrow_mut();
            if current.as_ref().is_some_and(|state| Rc::ptr_eq(state, &self.state)) {
                *current = None;
            }
        });
    }
}

/// Says why a node would not let an answer out.
fn fault(response: &Response) -> Option<String> {
    let status = response.status_code();
    if !(200..=599).contains(&status) {
        return Some(format!("{status} is no status of an answer"));
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let is_text = |byte: u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    response.headers().find_map(|(name, value)| {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Some(format!("{name:?} is no name of a header field"));
        }
        let is_fine = value.iter().copied().all(is_text);
        (!is_fine).then(|| format!("the header field {name} has a control character in its value"))
    })
}

/// Works with the node of this thread.
#[track_caller]
fn with_node<T>(work: impl FnOnce(&mut State) -> T) -> T {
    let state = CURRENT.with(|current| current.borrow().clone());
    let state = state.expect(
        "off Wasm there is no node: begin the test with `let node = \
         atoll_guest::testing::Node::start();`",
    );
    work(&mut state.borrow_mut())
}

#[cfg(test)]
mod tests;
