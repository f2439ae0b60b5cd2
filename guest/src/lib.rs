//! The Rust SDK for Atoll handlers.
