//! Calls that go well, and answers that cannot go out.

use atoll_wasm::error::CallError;
use atoll_wasm::host::Response;
use atoll_wasm::limits::Limits;

use crate::component::{Answer, Text, handler};
use crate::host::{GET, Nothing, call, compile, shared};

fn answered(text: &Text<'_>) -> Result<Response, CallError> {
    call(&compile(&text.wasm()), &Limits::default())
}

#[track_caller]
fn check(answer: Answer, module: &str, want_kind: &str) {
    let code = answer.code();
    let error = answered(&Text { code: &code, module, ..Text::default() }).unwrap_err();
    assert_eq!(error.kind(), want_kind, "{error}");
}

/// One header field at 2048, of a name and a value that lie at 3000 and 3100.
const ONE_FIELD: &str = r#"
    (data (i32.const 2048) "\b8\0b\00\00" "\06\00\00\00" "\1c\0c\00\00" "\03\00\00\00")
    (data (i32.const 3000) "X-Note") (data (i32.const 3100) "a b")"#;

#[test]
fn status_headers_and_body_of_an_answer_arrive() {
    let answer = Answer { status: 418, headers: (2048, 1), body: (3100, 3) };
    let text = Text { code: &answer.code(), module: ONE_FIELD, ..Text::default() };
    let response = answered(&text).unwrap();
    assert_eq!(response.status, 418);
    assert_eq!(response.headers, [("x-note".to_owned(), b"a b".to_vec())]);
    assert_eq!(response.body, "a b");
}

#[test]
fn the_request_reaches_the_guest() {
    // The body of the answer is the path of the request: pointer and length at 16 and 20 of its
    // record.
    let code = format!(
        "{} drop
         (i32.store (i32.const 1036) (i32.load offset=16 (local.get $request)))
         (i32.store (i32.const 1040) (i32.load offset=20 (local.get $request)))
         (i32.const 1024)",
        Answer::OK.code()
    );
    let response = answered(&Text { code: &code, ..Text::default() }).unwrap();
    assert_eq!(response.body, "/");
}

#[test]
fn one_handler_answers_on_many_threads_at_once() {
    let handler = std::sync::Arc::new(compile(&handler(&Answer::OK.code())));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let handler = std::sync::Arc::clone(&handler);
            calls.spawn(async move { handler.call(Nothing, GET, &Limits::default()).await });
        }
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().status, 200);
        }
    });
}

#[test]
fn nothing_stays_in_memory_from_one_call_to_the_next() {
    let code = format!(
        "(i32.store (i32.const 5000) (i32.add (i32.load (i32.const 5000)) (i32.const 1)))
         {} drop
         (i32.store (i32.const 1024) (i32.add (i32.const 200) (i32.load (i32.const 5000))))
         (i32.const 1024)",
        Answer::OK.code()
    );
    let handler = compile(&handler(&code));
    for _ in 0..3 {
        assert_eq!(call(&handler, &Limits::default()).unwrap().status, 201);
    }
}

#[test]
fn a_component_says_which_interfaces_it_imports() {
    let imports =
        r#"(import "atoll:edge/clock@0.1.0" (instance (export "now-ms" (func (result u64)))))"#;
    let code = Answer::OK.code();
    let wasm = Text { code: &code, imports, ..Text::default() }.wasm();
    let component = shared().compile(&wasm).unwrap();
    assert_eq!(component.imports(), ["atoll:edge/types@0.1.0", "atoll:edge/clock@0.1.0"]);
    assert_eq!(component.store_import(), None);
    assert_eq!(call(&compile(&wasm), &Limits::default()).unwrap().status, 200);
}

#[test]
fn an_answer_that_is_no_http_is_refused() {
    check(Answer { status: 0, ..Answer::OK }, "", "bad-response");
    check(Answer { status: 101, ..Answer::OK }, "", "bad-response");
    check(Answer { status: 1_000, ..Answer::OK }, "", "bad-response");
    let with_field = Answer { headers: (2048, 1), ..Answer::OK };
    check(with_field, &ONE_FIELD.replace("X-Note", "X Note"), "bad-response");
    check(with_field, &ONE_FIELD.replace("a b", r"a\0a"), "bad-response");
    check(Answer { headers: (16_384, 3_000), ..Answer::OK }, "", "bad-response");
}

#[test]
fn an_answer_that_lies_about_its_memory_is_a_trap() {
    check(Answer { body: (0, u32::MAX), ..Answer::OK }, "", "trap");
    check(Answer { body: (0xffff_0000, 10), ..Answer::OK }, "", "trap");
    check(Answer { headers: (0, u32::MAX), ..Answer::OK }, "", "trap");
    check(Answer { headers: (2049, 1), ..Answer::OK }, "", "trap");
    check(
        Answer { headers: (2048, 1), ..Answer::OK },
        &ONE_FIELD.replace("X-Note", r"\ff\ff"),
        "trap",
    );
}

#[test]
fn fields_that_share_their_bytes_cannot_multiply_in_the_host() {
    // 4,000 fields whose value is the same 60 KiB: 240 MB, of which the host must not take more
    // than one transfer's worth.
    let module = r#"(func $fill (local $at i32)
        (local.set $at (i32.const 65536))
        (loop $more
          (i32.store offset=12 (local.get $at) (i32.const 61440))
          (local.set $at (i32.add (local.get $at) (i32.const 16)))
          (br_if $more (i32.lt_u (local.get $at) (i32.const 129536)))))"#;
    let answer = Answer { headers: (65_536, 4_000), ..Answer::OK };
    let code = format!("call $fill {}", answer.code());
    let error = answered(&Text { code: &code, module, pages: 2, ..Text::default() }).unwrap_err();
    assert_eq!(error.kind(), "trap", "{error}");
}

#[test]
fn a_trap_says_what_happened() {
    #[track_caller]
    fn check(code: &str, want: &str) {
        let error = call(&compile(&handler(code)), &Limits::default()).unwrap_err();
        assert_eq!(error.kind(), "trap");
        assert!(error.to_string().contains(want), "{error}");
    }
    check("unreachable", "panicked");
    check("(i32.load (i32.const -1))", "outside of its memory");
    check("(i32.div_u (i32.const 1) (i32.const 0))", "divided by zero");
    check("(call $handle (local.get $request))", "stack overflowed");
}
