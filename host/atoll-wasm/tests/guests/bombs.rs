//! Components that are made to hurt whoever compiles them: each ends its own deployment.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use atoll_wasm::engine::EngineConfig;
use atoll_wasm::error::CompileError;
use atoll_wasm::limits::{CODE_BYTES_MAX, FUNCTIONS_MAX};

use crate::component::{Answer, Text};
use crate::host::{SMALL, alone, engine};
use crate::limits::thread_time;

/// Far more than any of these takes, and far less than one that gets out of hand.
const PATIENCE: Duration = Duration::from_secs(60);

/// Compiles on a thread with as little stack as the node's own threads have. Whether it is refused
/// or not does not matter to who calls this: that it ends, in time and with its process alive.
#[track_caller]
fn compile(wasm: Vec<u8>) -> Result<(), CompileError> {
    let _alone = alone();
    let began = Instant::now();
    let compiling = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let engine = engine(EngineConfig { component_bytes_max: 64 << 20, ..SMALL });
        engine.compile(&wasm).map(drop)
    });
    let compiled = compiling.unwrap().join().unwrap();
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    compiled
}

fn with(module: &str) -> Vec<u8> {
    Text { code: &Answer::OK.code(), module, ..Text::default() }.wasm()
}

#[test]
fn a_function_that_would_take_minutes_is_refused_at_once() {
    let mut body = String::from("(func (param i32) (result i32) local.get 0 ");
    for number in 0..400_000 {
        write!(body, "i32.const {number} i32.add local.tee 0 ").unwrap();
    }
    body.push(')');
    let wasm = with(&body);
    let began = thread_time();
    let engine = engine(EngineConfig { component_bytes_max: 64 << 20, ..SMALL });
    let refused = engine.compile(&wasm).map(drop).unwrap_err();
    assert!(matches!(refused, CompileError::FunctionTooLarge { .. }), "{refused}");
    // Compiling it takes a minute and more.
    let spent = thread_time() - began;
    assert!(spent < Duration::from_secs(2), "{spent:?}");
}

#[test]
fn functions_without_number_are_refused_at_once_however_small_they_are() {
    // In two modules, each with as many as it may have. The compiler takes 10 KB for each of them.
    let half = "(func)".repeat(FUNCTIONS_MAX / 2 + 1);
    let many = format!("{half})(core module $second {half}");
    let large = "i64.const -0x8000000000000000 drop ".repeat((768 << 10) / 12);
    let heavy = format!("(func {large})").repeat(CODE_BYTES_MAX / (768 << 10) + 1);
    let engine = engine(EngineConfig { component_bytes_max: 64 << 20, ..SMALL });
    for module in [many, heavy] {
        let wasm = with(&module);
        let began = thread_time();
        let refused = engine.compile(&wasm).map(drop).unwrap_err();
        assert!(matches!(refused, CompileError::TooManyFunctions), "{refused}");
        let spent = thread_time() - began;
        assert!(spent < Duration::from_secs(2), "{spent:?}");
    }
}

#[test]
fn loops_and_blocks_within_blocks_are_no_more_than_the_compiler_copes_with() {
    let nested = |begin: &str, count: usize| {
        with(&format!("(func {} {})", begin.repeat(count), "end ".repeat(count)))
    };
    let in_turn = |count: usize| with(&format!("(func {})", "loop end ".repeat(count)));
    for (most, more) in [
        (nested("block ", 10_000), nested("block ", 10_001)),
        (nested("loop ", 2_000), nested("loop ", 2_001)),
        (in_turn(2_000), in_turn(2_001)),
    ] {
        compile(most).unwrap();
        let refused = compile(more).unwrap_err();
        assert!(matches!(refused, CompileError::FunctionTooComplex), "{refused}");
    }
}

#[test]
fn a_table_of_branches_without_end_is_refused_or_compiled_in_time() {
    let mut body = String::from("(func (param i32) ");
    for _ in 0..100 {
        body.push_str("block ");
    }
    for turn in 0..20 {
        body.push_str("local.get 0 br_table ");
        for target in 0..10_000 {
            write!(body, "{} ", (target + turn) % 100).unwrap();
        }
    }
    body.push_str(&"end ".repeat(100));
    body.push(')');
    let _ = compile(with(&body));
}

#[test]
fn functions_without_end_are_refused_or_compiled_in_time() {
    let module = "(func (param i32) (result i32) local.get 0)".repeat(30_000);
    let _ = compile(with(&module));
}

#[test]
fn types_within_types_do_not_overflow_our_stack() {
    let mut text = String::from("(component (type $t0 string)");
    for depth in 1..50_000 {
        write!(text, "(type $t{depth} (list $t{}))", depth - 1).unwrap();
    }
    text.push_str("(import \"a:b/c\" (func (param \"x\" $t49999))))");
    let error = compile(wat::parse_str(&text).unwrap()).unwrap_err();
    assert!(error.to_string().contains("nesting is too deep"), "{error}");
}

#[test]
fn types_that_double_with_each_line_take_no_memory() {
    let mut text = String::from("(component (type $t0 (tuple u8 u8))");
    for depth in 1..40 {
        let before = depth - 1;
        write!(text, "(type $t{depth} (tuple $t{before} $t{before}))").unwrap();
    }
    text.push_str("(import \"a:b/c\" (func (param \"x\" $t39))))");
    let error = compile(wat::parse_str(&text).unwrap()).unwrap_err();
    assert!(error.to_string().contains("type size exceeds"), "{error}");
}
