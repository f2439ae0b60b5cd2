//! The Rust SDK for Atoll handlers: an HTTP request in, a response out, and the node's key-value
//! store within reach.
//!
//! ```
//! use atoll_guest::{Request, Response, handler, kv};
//!
//! #[handler]
//! fn handle(request: Request) -> Result<Response, kv::Error> {
//!     let page = format!("hits:{}", request.path());
//!     let hits = kv::open("default")?.increment(&page, 1)?;
//!     Ok(Response::text(format!("{} was asked for {hits} times\n", request.path())))
//! }
//!
//! // In a unit test, on any machine: see `testing`.
//! let node = atoll_guest::testing::Node::start();
//! let response = node.run(handle, Request::new("GET", "/news"));
//! assert_eq!(response.body_text(), "/news was asked for 1 times\n");
//! assert_eq!(node.bucket("default").get_text("hits:/news"), Ok(Some("1".to_owned())));
//! ```
//!
//! In `Cargo.toml`, besides the dependency: `[lib] crate-type = ["cdylib"]`. Build with `cargo
//! build --release --target wasm32-unknown-unknown` and the linker `wasm-component-ld`, which every
//! rustup toolchain has; the result is a component, ready for `atoll deploy`.
//!
//! A handler is synchronous, and each request may run in a fresh instance: what must last goes into
//! the store. A panic is written to the handler's log and ends its own request with a 502, nothing
//! else.
//!
//! `std` has no clock, no randomness and no output on this target: use [`clock`], [`random`] and
//! [`log`]. Off Wasm, in unit tests, all of it is answered by a node in memory:
//! the module `testing`, with a clock that the test sets.
//!
//! Features: `json` and `msgpack` bring [`Request::json`], [`Response::json_of`] and values of a type
//! of one's own in the store ([`kv::Typed`]); `allocator` is on by itself.
#![deny(unsafe_code)]

#[cfg(all(target_arch = "wasm32", feature = "allocator"))]
mod allocator;
#[doc(hidden)]
pub mod bindings;
pub mod cache;
pub mod clock;
pub mod config;
#[doc(hidden)]
pub mod export;
pub mod fetch;
pub mod filter;
#[doc(hidden)]
pub mod filter_bindings;
pub mod kv;
pub mod log;
mod made_from;
mod node;
mod percent;
pub mod random;
mod request;
mod response;
pub mod secret;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use atoll_guest_macros::handler;
#[cfg(any(feature = "json", feature = "msgpack"))]
pub use request::Malformed;
pub use request::Request;
pub use response::{IntoResponse, Response};
