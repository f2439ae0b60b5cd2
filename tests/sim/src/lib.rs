//! Whole clusters in one thread, from a seed: the real machine and the real store, a network and
//! disks that are made up, and an oracle that joins every write and forgets nothing.
//!
//! The same seed gives the same run, step for step. `cargo sim --help` says how to run more.

pub mod aim;
pub mod disk;
pub mod network;
pub mod node;
pub mod oracle;
pub mod plan;
pub mod story;
pub mod verdict;
pub mod workload;
pub mod world;

#[cfg(test)]
mod tests;
