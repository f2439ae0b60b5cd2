//! What a shared HTTP cache may store and serve, and when it has to ask: RFC 9111 and its neighbours.
//!
//! Decides on heads alone: no bodies, no storage, no clock. What each sentence of RFC 9111 came to is
//! a table, in `requirements`.

pub mod control;
pub mod date;
pub mod directive;
pub mod fields;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod partial;
pub mod precondition;
pub mod purge;
pub mod report;
pub mod reuse;
pub mod storing;
pub mod tags;
pub mod targeted;
pub mod validation;
pub mod vary;
pub mod words;

#[cfg(test)]
mod requirements;
