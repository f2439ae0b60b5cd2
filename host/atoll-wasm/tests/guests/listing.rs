//! A page of keys that takes long to list is cut short like a guest that computes, and lets others run.

use std::time::{Duration, Instant};

use atoll_wasm::error::CallError;
use atoll_wasm::host::{KeyPage, Listing};
use atoll_wasm::limits::Limits;

use crate::component::{REALLOC, TYPES};
use crate::fairness::check_fair;
use crate::host::{alone, call, compile};

/// The bucket of [`Nothing`](crate::host::Nothing) that has keys without end.
pub(crate) const ENDLESS: &str = "endless";

/// A page that is never full.
pub(crate) struct Endless;

impl Listing for Endless {
    fn step(&mut self) -> Option<KeyPage> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(200) {
            std::hint::spin_loop();
        }
        None
    }
}

/// Opens the bucket and lists a page of it.
fn walker() -> Vec<u8> {
    let text = format!(
        r#"(component
  {TYPES}
  (import "atoll:edge/kv@0.1.0" (instance $kv
    (type $error-shape (variant
      (case "no-such-bucket") (case "denied" string) (case "wrong-type") (case "too-large" string)
      (case "full") (case "condition-failed") (case "invalid" string) (case "unavailable" string)
      (case "other" string)))
    (export "error" (type $error (eq $error-shape)))
    (type $options-shape (record
      (field "prefix" string) (field "limit" (option u32)) (field "cursor" (option string))))
    (export "list-options" (type $options (eq $options-shape)))
    (type $page-shape (record (field "keys" (list string)) (field "cursor" (option string))))
    (export "key-page" (type $page (eq $page-shape)))
    (export "bucket" (type $bucket (sub resource)))
    (export "[static]bucket.open" (func (param "name" string)
      (result (result (own $bucket) (error $error)))))
    (export "[method]bucket.list-keys" (func
      (param "self" (borrow $bucket)) (param "options" $options)
      (result (result $page (error $error)))))))
  (alias export $types "request" (type $request))
  (alias export $types "response" (type $response))
  (core module $memory
    (memory (export "memory") 1)
    (data (i32.const 0) "endless")
    {REALLOC})
  (core instance $memory (instantiate $memory))
  (core func $open (canon lower (func $kv "[static]bucket.open")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core func $list (canon lower (func $kv "[method]bucket.list-keys")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $code
    (import "kv" "open" (func $open (param i32 i32 i32)))
    (import "kv" "list" (func $list (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "memory" "memory" (memory 1))
    (func (export "handle") (param $request i32) (result i32)
      (call $open (i32.const 0) (i32.const 7) (i32.const 16))
      (call $list (i32.load (i32.const 20))
        (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 64))
      unreachable))
  (core instance $instance (instantiate $code
    (with "kv" (instance (export "open" (func $open)) (export "list" (func $list))))
    (with "memory" (instance $memory))))
  (func $handle (param "request" $request) (result $response)
    (canon lift (core func $instance "handle") (memory (core memory $memory "memory"))
      (realloc (core func $memory "realloc"))))
  (instance $handler (export "handle" (func $handle)))
  (export "atoll:edge/incoming-handler@0.1.0" (instance $handler)))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_walk_over_many_keys_lets_its_neighbours_run() {
    let _alone = alone();
    check_fair(&compile(&walker()));
}

#[test]
fn a_walk_over_many_keys_ends_at_the_limits_of_the_call() {
    let walking = compile(&walker());
    let limits = Limits { cpu_ms: 30, wall_ms: 60_000, ..Limits::default() };
    let (began, ended) = (crate::limits::thread_time(), call(&walking, &limits).unwrap_err());
    assert_eq!(ended, CallError::CpuLimit { cpu_ms: 30 });
    let spent = crate::limits::thread_time() - began;
    assert!((30..60).contains(&spent.as_millis()), "{spent:?}");
    let limits = Limits { cpu_ms: 60_000, wall_ms: 50, ..Limits::default() };
    let ended = call(&walking, &limits).unwrap_err();
    assert_eq!(ended, CallError::WallLimit { wall_ms: 50 });
}
