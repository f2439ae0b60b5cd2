//! End-to-end tests: the real binary on free ports, and real clients.
//!
//! One binary with a module for each subject, so that the node is linked once.

mod api;
mod client_libraries;
mod clients_at_their_worst;
mod handlers;
mod node;
mod resp;
mod start;
mod tools;
