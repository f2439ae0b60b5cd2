//! A component that is told of changes in the store and does what the key says: for tests.
//!
//! It counts its calls for a key under `calls:KEY`, in the same bucket.

#![allow(unreachable_pub, reason = "what the macro for exports makes")]

#[allow(unsafe_code, reason = "its macro for exports is used here, and generated too")]
mod bindings;

use bindings::atoll::edge::fetch;
use bindings::exports::wasi::keyvalue::watcher::Guest;
use bindings::wasi::keyvalue::atomics;
use bindings::wasi::keyvalue::store::Bucket;

struct Watcher;

/// Sends the URL to where it leads.
fn put(url: Vec<u8>) -> Option<fetch::Incoming> {
    let request = fetch::Outgoing {
        method: "PUT".to_owned(),
        url: String::from_utf8(url.clone()).ok()?,
        headers: Vec::new(),
        body: url,
        timeout_ms: None,
    };
    fetch::send(&request).ok()
}

impl Guest for Watcher {
    fn on_set(bucket: Bucket, key: String, value: Vec<u8>) {
        let (kind, rest) = key.split_once(':').unwrap_or(("", &key));
        // What it may not write it does without: it is told so in an error.
        let _ = atomics::increment(&bucket, &format!("calls:{key}"), 1);
        match kind {
            "in" => drop(bucket.set(&format!("out:{rest}"), &value)),
            "again" => drop(bucket.set(&key, &[&value[..], b"+"].concat())),
            "ask" => drop(put(value)),
            "spin" => loop {
                std::hint::black_box(0);
            },
            _ => {}
        }
    }

    fn on_delete(bucket: Bucket, key: String) {
        let _ = bucket.set(&format!("gone:{key}"), b"");
    }
}

bindings::export!(Watcher with_types_in bindings);
