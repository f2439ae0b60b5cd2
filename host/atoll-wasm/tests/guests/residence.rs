//! What an instance wrote is wiped in place, however far apart it lies.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use atoll_wasm::component::Handler;
use atoll_wasm::limits::Limits;

use crate::component::{Answer, Text};
use crate::host::{GET, Nothing, SMALL, compile_on, engine, runtime};

/// Pages that the handler writes, each 64 KiB from the next.
const WRITTEN: u32 = 80;
/// Page faults that a call may take all the same: in the host's own memory, and where one is new.
const FAULTS_MAX: u64 = 10;

/// A handler that writes far apart, and traps where it finds what an earlier one has written.
fn scattered() -> Vec<u8> {
    let code = format!(
        "(local $at i32)
         (loop $next
           (local.set $at (i32.add (local.get $at) (i32.const 65536)))
           (if (i32.ne (i32.load8_u (local.get $at)) (i32.const 7)) (then unreachable))
           (i32.store8 (local.get $at) (i32.const 8))
           (br_if $next (i32.lt_u (local.get $at) (i32.const {}))))
         {}",
        WRITTEN * 65_536,
        Answer::OK.code()
    );
    let data = |at| format!("(data (i32.const {}) \"\\07\")", at * 65_536);
    let module: String = (1..=WRITTEN).map(data).collect();
    Text { code: &code, module: &module, pages: WRITTEN + 1, ..Text::default() }.wasm()
}

/// Page faults that this thread has taken without waiting for a disk.
fn faults() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, behind_the_name) = stat.rsplit_once(") ").unwrap();
    behind_the_name.split(' ').nth(7).unwrap().parse().unwrap()
}

/// Whether the kernel tells wasmtime which pages were written (6.7).
fn is_told() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|char: char| !char.is_ascii_digit()).map(|number| number.parse());
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0_u32);
    (next(), next()) >= (6, 7)
}

fn faults_of_a_call(handler: &Handler<Nothing>) -> u64 {
    let before = faults();
    let answer = runtime().block_on(handler.call(Nothing, GET, &Limits::default()));
    let taken = faults() - before;
    assert_eq!(answer.unwrap().status, 200, "it found what it was to find");
    taken
}

#[test]
fn who_writes_far_apart_takes_no_page_faults_before_long_and_finds_what_it_should() {
    if !is_told() {
        return;
    }
    let handler = compile_on(&engine(SMALL), &scattered());
    assert!(faults_of_a_call(&handler) >= u64::from(WRITTEN), "the first one takes them all");
    let began = Instant::now();
    while (0..10).any(|_| faults_of_a_call(&handler) > FAULTS_MAX) {
        assert!(began.elapsed() < Duration::from_secs(60), "each call takes them anew");
        thread::sleep(Duration::from_millis(5));
    }
}
