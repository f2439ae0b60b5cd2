//! The Redis protocol, RESP2 and RESP3: requests, commands over the store, replies.
//!
//! Bytes in, bytes out. The shell owns the sockets, the clock and the list of clients, and lends
//! what commands need of them through [`server::Server`].

pub mod client;
pub mod cluster;
pub mod command;
mod commands;
pub mod decimal;
pub mod fault;
pub mod glob;
mod inline;
pub mod intake;
mod listening;
pub mod output;
pub mod request;
pub mod server;
pub mod session;
pub mod tally;
#[cfg(test)]
mod tests;
mod transaction;
