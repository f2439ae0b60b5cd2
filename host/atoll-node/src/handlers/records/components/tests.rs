//! Components that others delete, and what nobody needs.

use super::*;
use crate::config::{Config, FileConfig};
use crate::handlers::tests::record;
use crate::node::Node;
use std::sync::Arc;

fn records() -> Records {
    let values = FileConfig::default();
    let node = Node::new(&Config::resolve(values).expect("a configuration")).expect("a node");
    Records::open(Arc::clone(&node)).expect("a bucket")
}

fn keep(records: &Records, name: &str, version: u64, digest: &str) {
    // Longer than what is kept beside its key.
    let component = Bytes::from(digest.repeat(100));
    records.keep(&record(name, version, digest), Some(component)).expect("room");
}

/// Deletes a component as another node does that knows of no record.
fn lose(records: &Records, digest: &str) {
    records.system.delete(&HandlerRecord::blob_key(digest)).expect("it is deleted");
}

#[track_caller]
fn check_there(records: &Records, digest: &str, want: bool) {
    assert_eq!(records.component(digest).is_some(), want, "{digest}");
}

#[test]
fn a_component_that_another_node_deletes_is_put_back_while_a_record_names_it() {
    let records = records();
    let now = Instant::now();
    keep(&records, "a", 1, "old");
    keep(&records, "a", 2, "new");
    records.tend(now);
    for digest in ["old", "new"] {
        lose(&records, digest);
        records.tend(now);
        check_there(&records, digest, true);
    }
    lose(&records, "new");
    assert_eq!(records.forget("a"), Ok(true));
    records.tend(now);
    check_there(&records, "new", false);
}

#[test]
fn a_component_is_held_from_the_moment_that_its_record_is_written() {
    let records = records();
    keep(&records, "a", 1, "x");
    lose(&records, "x");
    records.tend(Instant::now());
    check_there(&records, "x", true);
}

#[test]
fn what_is_there_no_more_and_not_held_cannot_be_named_anew() {
    let records = records();
    assert!(!records.hold("x"));
    keep(&records, "a", 1, "x");
    lose(&records, "x");
    assert!(records.hold("x"), "a record names it still");
    check_there(&records, "x", true);
}

#[test]
fn what_nothing_names_goes_after_a_while_and_not_before() {
    let records = records();
    let begin = Instant::now();
    keep(&records, "a", 1, "kept");
    records.system.put(&HandlerRecord::blob_key("stray"), NewValue::Copy(b"x")).expect("room");
    let version = record("gone", 1, "of-gone");
    records.system.put(&version.version_key(), NewValue::Owned(version.encode())).expect("room");
    let state = format!("{}node", HandlerRecord::states_of("gone"));
    records.system.put(&state, NewValue::Copy(b"x")).expect("room");

    records.tend(begin);
    records.tend(begin + ORPHAN_WAIT / 2);
    check_there(&records, "stray", true);
    records.tend(begin + ORPHAN_WAIT);
    check_there(&records, "stray", false);
    check_there(&records, "kept", true);
    assert!(records.system.bytes(&state).is_none() && records.versions("gone").is_empty());
    assert_eq!(records.versions("a").len(), 1);
}

#[test]
fn nothing_is_swept_while_a_record_cannot_be_read() {
    let records = records();
    let begin = Instant::now();
    records.system.put(&HandlerRecord::blob_key("x"), NewValue::Copy(b"x")).expect("room");
    records.system.put(&HandlerRecord::key("newer"), NewValue::Copy(b"x")).expect("room");
    records.tend(begin);
    records.tend(begin + ORPHAN_WAIT);
    check_there(&records, "x", true);
}

#[test]
fn what_is_named_in_time_stays() {
    let records = records();
    let begin = Instant::now();
    let blob = HandlerRecord::blob_key("late");
    records.system.put(&blob, NewValue::Copy(b"x")).expect("room");
    records.tend(begin);
    keep(&records, "a", 1, "late");
    records.tend(begin + ORPHAN_WAIT);
    check_there(&records, "late", true);
    assert_eq!(records.forget("a"), Ok(true));
    records.system.put(&blob, NewValue::Copy(b"x")).expect("room");
    records.tend(begin + ORPHAN_WAIT);
    check_there(&records, "late", true);
}
