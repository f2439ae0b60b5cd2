//! What guests can and cannot do, shown with small components written as text.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bombs;
mod calls;
mod code_cache;
mod component;
mod fairness;
mod host;
mod limits;
mod listing;
mod refused;
mod residence;
mod reuse;
mod service;
