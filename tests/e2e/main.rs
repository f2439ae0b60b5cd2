//! End-to-end tests: the real binary on free ports, and real clients.
//!
//! One binary with a module for each subject, so that the node is linked once.

mod api;
mod cache;
mod chaos;
mod client_libraries;
mod clients_at_their_worst;
mod cluster;
mod connections;
mod convergence;
mod deployment;
mod dev;
mod dice;
mod disk;
mod examples;
mod fetch;
mod handlers;
mod http2;
mod links;
mod messages;
mod node;
mod pace;
mod platform;
mod proxy;
mod redis_equality;
mod replication;
mod reply;
mod resp;
mod standard;
mod start;
mod tags;
mod tools;
mod transactions;
