//! Components of `wasi:http` 0.3 that misbehave, as text: they run on the second engine.

use atoll_wasm::code_cache::{CodeCache, Origin};
use atoll_wasm::component::{AnswerBody, Component, World};
use atoll_wasm::engine::EngineConfig;
use atoll_wasm::error::CallError;
use atoll_wasm::limits::Limits;
use bytes::Bytes;
use http_body_util::Empty;

use crate::component::{Answer, handler};
use crate::host::{Nothing, SMALL, alone, call, compile_on, engine, runtime, shared};

/// What calls here may use. Those of time are far apart: on a busy machine a guest that computes waits
/// for its turns.
const LIMITS: Limits =
    Limits { cpu_ms: 50, wall_ms: 60_000, memory_bytes: 1 << 20, response_bytes: 1 << 20 };
/// Those of a guest that comes to no end, and need not compute.
const SHORT: Limits = Limits { wall_ms: 500, ..LIMITS };

/// Ends the guest's turn: it has returned.
const EXIT: &str = "(i32.const 0)";
/// Ends the guest's turn: its callback is called at once.
const YIELD: &str = "(i32.const 1)";
/// Ends the guest's turn until something happens to an empty set.
const WAIT: &str = "(i32.or (i32.const 2) (i32.shl (call $new-set) (i32.const 4)))";

/// The types that a handler's function names, in WAT.
const TYPES: &str = r#"
    (export "request" (type $request (sub resource)))
    (export "response" (type $response (sub resource)))
    (type $dns (record (field "rcode" (option string)) (field "info-code" (option u16))))
    (export "DNS-error-payload" (type $dns-error (eq $dns)))
    (type $alert (record (field "alert-id" (option u8)) (field "alert-message" (option string))))
    (export "TLS-alert-received-payload" (type $tls-alert (eq $alert)))
    (type $size (record (field "field-name" (option string)) (field "field-size" (option u32))))
    (export "field-size-payload" (type $field-size (eq $size)))
    (type $code (variant
      (case "DNS-timeout") (case "DNS-error" $dns-error) (case "destination-not-found")
      (case "destination-unavailable") (case "destination-IP-prohibited")
      (case "destination-IP-unroutable") (case "connection-refused")
      (case "connection-terminated") (case "connection-timeout") (case "connection-read-timeout")
      (case "connection-write-timeout") (case "connection-limit-reached")
      (case "TLS-protocol-error") (case "TLS-certificate-error")
      (case "TLS-alert-received" $tls-alert) (case "HTTP-request-denied")
      (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
      (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid")
      (case "HTTP-request-URI-too-long") (case "HTTP-request-header-section-size" (option u32))
      (case "HTTP-request-header-size" (option $field-size))
      (case "HTTP-request-trailer-section-size" (option u32))
      (case "HTTP-request-trailer-size" $field-size) (case "HTTP-response-incomplete")
      (case "HTTP-response-header-section-size" (option u32))
      (case "HTTP-response-header-size" $field-size) (case "HTTP-response-body-size" (option u64))
      (case "HTTP-response-trailer-section-size" (option u32))
      (case "HTTP-response-trailer-size" $field-size)
      (case "HTTP-response-transfer-coding" (option string))
      (case "HTTP-response-content-coding" (option string)) (case "HTTP-response-timeout")
      (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
      (case "configuration-error") (case "internal-error" (option string))))
    (export "error-code" (type $error-code (eq $code)))"#;

/// A component of the world `wasi:http/service` that does this when it is called, and when it is
/// called back.
fn service(first: &str, again: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "wasi:http/types@0.3.0" (instance $types {TYPES}))
          (alias export $types "request" (type $request))
          (alias export $types "response" (type $response))
          (alias export $types "error-code" (type $error-code))
          (core func $new-set (canon waitable-set.new))
          (core module $code
            (import "canon" "new-set" (func $new-set (result i32)))
            (memory (export "memory") 1)
            (func (export "handle") (param i32) (result i32) {first})
            (func (export "callback") (param i32 i32 i32) (result i32) {again}))
          (core instance $canon (export "new-set" (func $new-set)))
          (core instance $instance (instantiate $code (with "canon" (instance $canon))))
          (func $handle async (param "request" (own $request))
            (result (result (own $response) (error $error-code)))
            (canon lift (core func $instance "handle") async
              (memory (core memory $instance "memory")) (callback (core func $instance "callback"))))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/handler@0.3.0" (instance $handler)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Runs one call to its end, on an engine of its own.
fn serve(wasm: &[u8], limits: &Limits) -> Result<http::Response<AnswerBody>, CallError> {
    let engine = engine(SMALL);
    let Component::Proxy(service) = engine.compile(wasm).unwrap() else { panic!("another world") };
    let request = http::Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
    let answer = runtime().block_on(service.serve(Nothing, request, limits, None, |_| {}));
    assert_eq!(engine.memory_bytes(), 0, "nothing of it is left");
    answer
}

#[test]
fn a_guest_that_returns_without_an_answer_is_said_to() {
    let error = serve(&service(EXIT, "unreachable"), &LIMITS).expect_err("there is none");
    assert_eq!(error, CallError::NoAnswer);
}

#[test]
fn a_guest_that_waits_for_nothing_meets_the_wall_limit() {
    let error = serve(&service(WAIT, "unreachable"), &SHORT).expect_err("there is none");
    assert_eq!(error, CallError::WallLimit { wall_ms: 500 });
}

#[test]
fn a_guest_that_computes_for_ever_meets_the_processor_limit() {
    let _alone = alone();
    let forever = "(loop (br 0)) (i32.const 0)";
    let error = serve(&service(forever, "unreachable"), &LIMITS).expect_err("there is none");
    assert_eq!(error, CallError::CpuLimit { cpu_ms: 50 });
    // The same after it had let others run.
    let error = serve(&service(YIELD, forever), &LIMITS).expect_err("there is none");
    assert_eq!(error, CallError::CpuLimit { cpu_ms: 50 });
}

#[test]
fn a_guest_that_only_lets_others_run_ends_too() {
    let error = serve(&service(YIELD, YIELD), &SHORT).expect_err("there is none");
    let is_limit = matches!(error, CallError::CpuLimit { .. } | CallError::WallLimit { .. });
    assert!(is_limit, "{error:?}");
}

#[test]
fn a_guest_that_traps_is_told_why() {
    let error = serve(&service("unreachable", "unreachable"), &LIMITS).expect_err("there is none");
    assert!(matches!(&error, CallError::Trap { reason } if reason.contains("panicked")), "{error}");
}

#[test]
fn both_engines_of_a_node_run_beside_one_another() {
    let engine = engine(EngineConfig { instances_max: 2, ..SMALL });
    let of_the_first = compile_on(&engine, &handler(&Answer::OK.code()));
    let component = engine.compile(&service(EXIT, "unreachable")).unwrap();
    assert_eq!(component.world(), World::Service);
    assert_eq!(component.imports(), ["wasi:http/types@0.3.0"]);
    runtime().block_on(component.try_instance(Nothing, &LIMITS)).unwrap();
    assert_eq!(call(&of_the_first, &LIMITS).unwrap().status, 200);
}

#[test]
fn the_code_cache_keeps_what_the_second_engine_made_for_the_second_engine() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CodeCache::open(folder.path(), 10 << 20).unwrap();
    let wasm = service(EXIT, "unreachable");
    let (_, origin) = shared().load_or_compile(&wasm, &cache).unwrap();
    assert!(matches!(origin, Origin::Compiled { refused: None, kept: Ok(true) }), "{origin:?}");
    let (component, origin) = engine(SMALL).load_or_compile(&wasm, &cache).unwrap();
    assert!(matches!(origin, Origin::Loaded), "{origin:?}");
    runtime().block_on(component.try_instance(Nothing, &LIMITS)).unwrap();
}

#[test]
fn an_interface_of_a_draft_or_of_the_wrong_world_is_not_offered() {
    let text = |name| {
        format!(
            r#"(component (import "{name}" (instance)) (instance $empty)
        (export "wasi:http/handler@0.3.0" (instance $empty)))"#
        )
    };
    for name in
        ["wasi:http/types@0.3.0-rc-2026-03-15", "wasi:http/handler@0.3.0", "wasi:nn/x@0.3.0"]
    {
        let refused = shared().compile(&wat::parse_str(text(name)).unwrap());
        let message = refused.expect_err("must be refused").to_string();
        assert!(message.contains("does not offer") && message.contains(name), "{message}");
    }
}

#[test]
fn a_draft_of_the_world_is_no_handler() {
    let text = r#"(component (instance $empty)
        (export "wasi:http/handler@0.3.0-rc-2026-03-15" (instance $empty)))"#;
    let refused = shared().compile(&wat::parse_str(text).unwrap());
    let message = refused.expect_err("must be refused").to_string();
    assert!(message.contains("nor wasi:http/handler@0.3 nor"), "{message}");
}
