//! End-to-end tests: the real binary on free ports, and real clients.
//!
//! One binary with a module for each subject, so that the node is linked once.

mod api;
mod client_libraries;
mod clients_at_their_worst;
mod connections;
mod handlers;
mod node;
mod redis_equality;
mod reply;
mod resp;
mod start;
mod tools;
