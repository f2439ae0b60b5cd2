//! What each command does, by family. All of it works on arguments, the store and the session.

pub(super) mod client;
pub(super) mod config;
pub(super) mod connection;
pub(super) mod counters;
pub(super) mod expiry;
pub(super) mod info;
pub(super) mod introspection;
pub(super) mod keyspace;
pub(super) mod many;
mod options;
pub(super) mod pubsub;
pub(super) mod ranges;
pub(super) mod replication;
pub(super) mod server;
pub(super) mod strings;
pub(super) mod transaction;

use super::output::Output;
use crate::store::view::{ValueRef, View};

/// Answers with the value, or with nothing. Returns whether there was one.
#[inline]
fn answer_value(output: &mut Output, view: Option<View<'_>>) -> bool {
    let Some(view) = view else {
        output.null();
        return false;
    };
    match view.value() {
        ValueRef::Inline(bytes) => output.bulk(bytes),
        ValueRef::Shared(bytes) => output.bulk_shared(bytes),
        ValueRef::Counter(sum) => output.bulk(itoa::Buffer::new().format(sum).as_bytes()),
    }
    true
}
