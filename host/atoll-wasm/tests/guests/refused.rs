//! Components that are not taken in, and what the one who deploys them is told.

use atoll_wasm::error::CompileError;

use crate::component::{Answer, Text, handler};
use crate::host::{SMALL, engine, shared};

#[track_caller]
fn refusal(wasm: &[u8]) -> String {
    shared().compile(wasm).expect_err("must be refused").to_string()
}

#[test]
fn what_is_no_component_is_named() {
    assert!(matches!(shared().compile(b""), Err(CompileError::NotWasm)));
    assert!(matches!(shared().compile(b"<html>"), Err(CompileError::NotWasm)));
    let module = wat::parse_str("(module)").unwrap();
    assert!(matches!(shared().compile(&module), Err(CompileError::CoreModule)));
    assert!(refusal(&module).contains("wasm-component-ld"));
}

#[test]
fn a_damaged_component_is_refused() {
    let whole = handler(&Answer::OK.code());
    for len in [4, 7, 8, whole.len() / 2, whole.len() - 1] {
        assert!(shared().compile(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
    }
}

#[test]
fn a_component_that_is_too_large_is_not_even_looked_at() {
    let engine = engine(SMALL);
    let bytes_max = SMALL.component_bytes_max;
    let refused = engine.compile(&vec![0; bytes_max + 1]);
    assert!(matches!(refused, Err(CompileError::TooLarge { len, .. }) if len == bytes_max + 1));
}

#[test]
fn every_import_that_is_not_offered_is_named() {
    let imports = r#"
        (import "wasi:nn/graph@0.2.0" (instance))
        (import "atoll:edge/log@0.1.0" (instance))
        (import "atoll:edge/kv@0.2.0" (instance))
        (import "print" (func (param "text" string)))"#;
    let wasm = Text { imports, ..Text::default() }.wasm();
    let Err(CompileError::UnknownImports { names }) = shared().compile(&wasm) else {
        panic!("must be refused")
    };
    assert_eq!(names, ["wasi:nn/graph@0.2.0", "atoll:edge/kv@0.2.0", "print"]);
}

#[test]
fn a_component_of_another_world_is_told_what_is_missing() {
    let wasm = wat::parse_str(
        r#"(component
            (instance $empty)
            (export "wasi:cli/run@0.2.0" (instance $empty)))"#,
    );
    let message = refusal(&wasm.unwrap());
    assert!(message.contains("exports neither atoll:edge/incoming-handler@0.1.0"), "{message}");
    assert!(message.contains("it exports wasi:cli/run@0.2.0"), "{message}");
}

#[test]
fn a_function_that_the_node_lacks_is_named() {
    let imports =
        r#"(import "atoll:edge/clock@0.1.9" (instance (export "sun-dial" (func (result u64)))))"#;
    let message = refusal(&Text { imports, ..Text::default() }.wasm());
    assert!(message.contains("sun-dial"), "{message}");
}

#[test]
fn a_handler_of_the_wrong_shape_is_refused() {
    let wasm = wat::parse_str(
        r#"(component
            (core module $code (func (export "handle")))
            (core instance $instance (instantiate $code))
            (func $handle (canon lift (core func $instance "handle")))
            (instance $handler (export "handle" (func $handle)))
            (export "atoll:edge/incoming-handler@0.1.0" (instance $handler)))"#,
    );
    let refused = shared().compile(&wasm.unwrap());
    assert!(matches!(refused, Err(CompileError::Mismatch(_))), "{refused:?}");
}
