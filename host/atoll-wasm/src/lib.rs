//! Runs guests: HTTP handlers that are WebAssembly components of the world `atoll:edge/handler`.
//!
//! Knows neither the store nor HTTP servers. What a guest may reach is declared as [`host::Host`],
//! which the node implements, one value for each request:
//!
//! ```text
//! let engine = Engine::new(EngineConfig::default())?;          // once in a process
//! let handler = engine.compile(&wasm)?;                        // for each version; blocks
//! let response = handler.call(host, request, &limits).await?;  // for each request
//! ```
//!
//! A guest can end its own call only: whatever it does, the answer is a [`host::Response`] that can
//! go out as it is, or a [`error::CallError`] with a reason that a client may be told.
#![deny(unsafe_code)]

mod bindings;
pub mod code_cache;
pub mod component;
pub mod engine;
pub mod error;
mod fills;
pub mod host;
mod imports;
mod instance;
pub mod limits;
mod log;
mod memory;
mod parking;
mod places;
mod processor;
mod residence;
mod response;
pub mod reuse;
mod standard;
mod ticker;
