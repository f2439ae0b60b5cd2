//! The decisions of an Atoll node: what a key holds, which write wins, what a request means.
//!
//! No sockets, files, clocks or tasks: time and dice are arguments. Locks are fine.
#![forbid(unsafe_code)]

pub mod clock;
pub mod entry;
pub mod grant;
pub mod hex;
pub mod http;
pub mod http_cache;
pub mod key;
pub mod limits;
pub mod manifest;
pub mod messages;
pub mod permission;
pub mod replica;
pub mod resp;
pub mod route;
pub mod secret;
pub mod store;
pub mod wire;
