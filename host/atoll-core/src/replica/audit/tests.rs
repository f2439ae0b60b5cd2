//! What two stores must agree on, and what each may keep or drop as it likes.

use super::*;
use crate::entry::{Cell, Register, Reset, Tally, Touch, Value};
use smallvec::SmallVec;

const ONE: Uuid = Uuid::from_u128(1);
const TWO: Uuid = Uuid::from_u128(2);

/// In ms.
const CUT: u64 = 1_000;
const UNTIL: u64 = 2_000;

fn hlc(ms: u64) -> Hlc {
    Hlc::from_wall(crate::clock::Now::from_millis(ms))
}

fn stamp(ms: u64, origin: Uuid) -> Stamp {
    Stamp { hlc: hlc(ms), origin }
}

fn set(at: Stamp, until: Deadline) -> Entry {
    let register = Register { stamp: at, value: Some(Value::plain("v")), deadline: until };
    Entry { register, ..Entry::default() }
}

fn counted(last_ms: u64, reset: Reset) -> Entry {
    let (birth, last) = (hlc(1), hlc(last_ms));
    let cell = Cell { birth, last, sum: 7, deadline: Deadline::NEVER, reset };
    let cells = SmallVec::from_slice(&[cell]);
    Entry { tallies: vec![Tally { origin: ONE, closed: Hlc::ZERO, cells }], ..Entry::default() }
}

fn sight(entry: &Entry) -> Sight {
    sight_after(entry, Stamp::ZERO)
}

fn sight_after(entry: &Entry, flushed: Stamp) -> Sight {
    look_at(1, entry, (Terms { cut: hlc(CUT), until_ms: UNTIL }, flushed))
}

#[test]
fn what_nobody_sees_looks_like_nothing() {
    let deleted = Entry {
        register: Register { value: None, ..set(stamp(5, ONE), Deadline::NEVER).register },
        ..Entry::default()
    };
    let by = stamp(9, TWO);
    let reset = counted(5, Reset { last: hlc(5), by, sum: 7 });
    for dead in [Entry::default(), deleted, reset] {
        assert_eq!(sight(&dead), Sight::Nothing, "{dead:?}");
    }
    let soon = set(stamp(5, ONE), Deadline::at_millis(UNTIL));
    assert_eq!(sight(&soon), Sight::Nothing, "one of both may have let go of it");
    let flushed = set(stamp(5, ONE), Deadline::NEVER);
    assert_eq!(sight_after(&flushed, stamp(6, TWO)), Sight::Nothing);
}

#[test]
fn what_not_everyone_has_yet_is_moving() {
    let never = Deadline::NEVER;
    assert!(matches!(sight(&set(stamp(CUT, ONE), never)), Sight::Holds(_)));
    assert_eq!(sight(&set(stamp(CUT + 1, ONE), never)), Sight::Moving);
    let old = set(stamp(5, ONE), never);
    assert_eq!(sight_after(&old, stamp(CUT + 1, TWO)), Sight::Moving, "a flush on its way");
    let late = stamp(CUT + 1, TWO);
    let touch = Touch { base: old.register.stamp, stamp: late, deadline: Deadline::NEVER };
    assert_eq!(sight(&Entry { touch: Some(touch), ..old }), Sight::Moving);
    let reset = Reset { last: hlc(4), by: late, sum: 6 };
    assert_eq!(sight(&counted(5, reset)), Sight::Moving);
    assert_eq!(sight(&counted(CUT + 1, Reset::default())), Sight::Moving);
}

#[test]
fn whatever_a_reader_may_be_told_makes_a_difference() {
    let base = set(stamp(5, ONE), Deadline::NEVER);
    let touched = |at_ms| {
        let deadline = Deadline::at_millis(at_ms);
        let touch = Touch { base: base.register.stamp, stamp: stamp(6, ONE), deadline };
        Entry { touch: Some(touch), ..base.clone() }
    };
    let reset = Reset { last: hlc(3), by: stamp(7, TWO), sum: 2 };
    let all = [
        base.clone(),
        set(stamp(5, TWO), Deadline::NEVER),
        set(stamp(6, ONE), Deadline::NEVER),
        set(stamp(5, ONE), Deadline::at_millis(UNTIL + 1)),
        touched(UNTIL + 2),
        counted(5, Reset::default()),
        counted(6, Reset::default()),
        counted(5, reset),
    ];
    let sights: std::collections::HashSet<String> =
        all.iter().map(|entry| format!("{:?}", sight(entry))).collect();
    assert_eq!(sights.len(), all.len());
    let elsewhere = look_at(2, &base, (Terms { cut: hlc(CUT), until_ms: UNTIL }, Stamp::ZERO));
    assert_ne!(elsewhere, sight(&base), "another key");
}

#[test]
fn audits_of_nodes_that_start_together_spread_out() {
    let times: Vec<u64> = (1..=40).map(|id| jittered(1_000, Uuid::from_u128(id), 0)).collect();
    assert!(times.iter().all(|ms| (750..1_250).contains(ms)), "{times:?}");
    let (least, most) = (times.iter().min(), times.iter().max());
    assert!(most.zip(least).is_some_and(|(most, least)| most - least > 200), "{times:?}");
    assert_eq!(jittered(0, ONE, 0), 0);
}
