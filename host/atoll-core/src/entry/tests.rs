//! The laws of the merge, and what they mean to a reader.

use super::counter::{self, Increment};
use super::op::{Change, ObservedCell};
use super::*;
use proptest::prelude::*;
use smallvec::smallvec;

const NOW_MS: u64 = 1_000_000;

fn hlc(bits: u64) -> Hlc {
    Hlc::from_bits(bits)
}

fn stamp(bits: u64, origin: u128) -> Stamp {
    Stamp { hlc: hlc(bits), origin: Uuid::from_u128(origin) }
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    (0..8_u64, 1..4_u128).prop_map(|(bits, origin)| stamp(bits, origin))
}

/// Equal stamps mean equal writes, so everything else follows from the stamp.
fn deadline_of(stamp: Stamp) -> Deadline {
    match stamp.hlc.to_bits() % 3 {
        0 => Deadline::NEVER,
        1 => Deadline::at_millis(NOW_MS - 1),
        _ => Deadline::at_millis(NOW_MS + 1),
    }
}

fn any_register() -> impl Strategy<Value = Register> {
    any_stamp().prop_map(|stamp| {
        if stamp.hlc == Hlc::ZERO {
            return Register::ABSENT;
        }
        let number = u128::from(stamp.hlc.to_bits()) + stamp.origin.as_u128();
        let value = (number % 3 > 0).then(|| Value::plain(number.to_string()));
        Register { stamp, value, deadline: deadline_of(stamp) }
    })
}

fn any_touch() -> impl Strategy<Value = Option<Touch>> {
    let touch = (any_stamp(), any_stamp()).prop_map(|(base, stamp)| Touch {
        base,
        stamp,
        deadline: deadline_of(stamp),
    });
    proptest::option::of(touch)
}

fn any_cell(origin: u128) -> impl Strategy<Value = Cell> {
    let sum_at = move |birth: u64, last: u64| (birth * 100 + last) as i64 * origin as i64;
    (1..4_u64, 0..4_u64, proptest::option::of((0..4_u64, any_stamp()))).prop_map(
        move |(birth, more, reset)| {
            let reset = reset.map_or(Reset::default(), |(seen, by)| Reset {
                last: hlc(birth + seen),
                by,
                sum: sum_at(birth, birth + seen),
            });
            let last = birth + more;
            Cell {
                birth: hlc(birth),
                last: hlc(last),
                sum: sum_at(birth, last),
                deadline: deadline_of(stamp(birth, origin)),
                reset,
            }
        },
    )
}

fn any_tally(origin: u128) -> impl Strategy<Value = Tally> {
    let cells = proptest::collection::vec(any_cell(origin), 0..4);
    (cells, 0..4_u64).prop_map(move |(mut cells, closed)| {
        cells.sort_by_key(|cell| cell.birth);
        cells.dedup_by_key(|cell| cell.birth);
        cells.retain(|cell| cell.birth > hlc(closed));
        let origin = Uuid::from_u128(origin);
        Tally { origin, closed: hlc(closed), cells: cells.into_iter().collect() }
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let tallies = (
        proptest::option::of(any_tally(1)),
        proptest::option::of(any_tally(2)),
        proptest::option::of(any_tally(3)),
    );
    (any_register(), any_touch(), tallies).prop_map(|(register, touch, (a, b, c))| {
        let touch = touch.filter(|touch| touch.base >= register.stamp);
        Entry { register, touch, tallies: [a, b, c].into_iter().flatten().collect() }
    })
}

fn joined(a: &Entry, b: &Entry) -> Entry {
    let mut joined = a.clone();
    joined.merge(b);
    joined
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100_000))]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(
        a in any_entry(), b in any_entry(), c in any_entry(),
    ) {
        prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        prop_assert_eq!(joined(&a, &a), a.clone());
        let both = joined(&a, &b);
        prop_assert_eq!(joined(&both, &b), both);
    }

    #[test]
    fn garbage_shows_nothing_now_or_later(entry in any_entry(), floor in 0..10_u64) {
        let now = Now::from_millis(NOW_MS);
        if entry.is_garbage(now, hlc(floor), Stamp::ZERO) {
            for later in [0, 1, 1_000] {
                prop_assert_eq!(entry.visible(NOW_MS + later, Stamp::ZERO), None);
            }
        }
    }

    #[test]
    fn an_integer_parses_back_and_nothing_else_does(number in any::<i64>(), text in ".{0,20}") {
        prop_assert_eq!(counter::parse_integer(number.to_string().as_bytes()), Some(number));
        let canonical = text.parse::<i64>().is_ok_and(|n| n.to_string() == text);
        prop_assert_eq!(counter::parse_integer(text.as_bytes()).is_some(), canonical);
    }
}

#[test]
fn the_ends_of_the_integer_range_parse() {
    let check =
        |text: &str, want| assert_eq!(counter::parse_integer(text.as_bytes()), want, "{text}");
    check("9223372036854775807", Some(i64::MAX));
    check("-9223372036854775808", Some(i64::MIN));
    check("9223372036854775808", None);
    check("-9223372036854775809", None);
    check("99999999999999999999", None);
    for text in ["", "-", "-0", "+1", "01", " 1", "1 ", "1.0", "0x1"] {
        check(text, None);
    }
}

#[test]
fn an_integer_has_one_spelling() {
    for good in [0, 1, -1, 10, i64::MAX, i64::MIN, 1_234_567_890_123_456_789] {
        assert_eq!(counter::parse_integer(good.to_string().as_bytes()), Some(good));
    }
    for bad in
        ["", "-", "-0", "00", "01", "+1", " 1", "1 ", "1a", "9223372036854775808", "1e3", "--1"]
    {
        assert_eq!(counter::parse_integer(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(counter::parse_integer(b"-9223372036854775809"), None);
    assert_eq!(counter::parse_integer(b"99999999999999999999"), None);
}

/// An entry that the changes make, merged in the order given.
fn entry_of(changes: &[(Stamp, Change)]) -> Entry {
    let mut entry = Entry::default();
    for (stamp, change) in changes {
        entry.merge(&change.clone().into_entry(*stamp));
    }
    entry
}

fn set(text: &str) -> Change {
    let value = Value::plain(text.to_owned());
    Change::Set { value, deadline: Deadline::NEVER, resets: smallvec![] }
}

fn count(birth: u64, sum: i64) -> Change {
    let (birth, closed) = (hlc(birth), Hlc::ZERO);
    Change::Count { birth, sum, deadline: Deadline::NEVER, closed }
}

/// Merges `changes` in every order; all must show `want`.
#[track_caller]
fn check_shows(changes: &[(Stamp, Change)], want: Option<&str>) {
    let mut orders = vec![vec![]];
    for _ in 0..changes.len() {
        let extend = |order: Vec<usize>| {
            let rest = (0..changes.len()).filter(|i| !order.contains(i)).collect::<Vec<_>>();
            rest.into_iter().map(move |i| [&order[..], &[i]].concat()).collect::<Vec<_>>()
        };
        orders = orders.into_iter().flat_map(extend).collect();
    }
    for order in orders {
        let ordered: Vec<_> = order.iter().map(|&i| changes[i].clone()).collect();
        let entry = entry_of(&ordered);
        let shown = entry.visible(NOW_MS, Stamp::ZERO).map(|visible| match visible {
            Visible::Value(value) => String::from_utf8_lossy(&value.bytes).into_owned(),
            Visible::Counter(sum) => sum.to_string(),
        });
        assert_eq!(shown.as_deref(), want, "in the order {order:?}");
    }
}

#[test]
fn the_newest_write_wins_and_a_late_one_cannot_undo_a_delete() {
    let delete = Change::Delete { resets: smallvec![] };
    check_shows(&[(stamp(1, 1), set("a")), (stamp(2, 2), set("b"))], Some("b"));
    check_shows(&[(stamp(2, 1), set("a")), (stamp(2, 2), set("b"))], Some("b"));
    check_shows(&[(stamp(1, 1), set("a")), (stamp(2, 2), delete.clone())], None);
    check_shows(&[(stamp(3, 1), set("a")), (stamp(2, 2), delete)], Some("a"));
}

#[test]
fn increments_of_two_origins_add_up_however_often_they_arrive() {
    check_shows(
        &[
            (stamp(1, 1), set("10")),
            (stamp(2, 1), count(2, 5)),
            (stamp(4, 1), count(2, 7)),
            (stamp(4, 1), count(2, 7)),
            (stamp(3, 2), count(3, -1)),
        ],
        Some("16"),
    );
}

#[test]
fn a_set_resets_exactly_the_increments_it_has_seen() {
    let seen = ObservedCell { origin: Uuid::from_u128(1), birth: hlc(2), last: hlc(2), sum: 5 };
    let reset = Change::Set {
        value: Value::plain("100"),
        deadline: Deadline::NEVER,
        resets: smallvec![seen],
    };
    check_shows(
        &[
            (stamp(2, 1), count(2, 5)),
            (stamp(6, 2), reset),
            (stamp(4, 1), count(2, 7)),
            (stamp(3, 3), count(3, 20)),
        ],
        Some("122"),
    );
}

#[test]
fn increments_on_text_stay_hidden() {
    check_shows(&[(stamp(1, 1), set("text")), (stamp(2, 2), count(2, 5))], Some("text"));
}

#[test]
fn a_touch_means_nothing_to_another_version() {
    let touch = Change::Touch { base: stamp(1, 1), deadline: Deadline::at_millis(NOW_MS - 5) };
    check_shows(&[(stamp(1, 1), set("a")), (stamp(2, 1), touch.clone())], None);
    check_shows(
        &[(stamp(1, 1), set("a")), (stamp(3, 1), touch), (stamp(2, 2), set("b"))],
        Some("b"),
    );
}

#[test]
fn an_origin_opens_a_new_cell_after_a_reset_and_closes_the_old_one() {
    let origin = Uuid::from_u128(1);
    let mut tally = Tally { origin, closed: Hlc::ZERO, cells: smallvec![] };
    let by = Increment { delta: 3, deadline: Deadline::NEVER, flushed: Hlc::ZERO };
    counter::begin(&mut tally, hlc(1), by).expect("opens");
    assert_eq!(counter::begin(&mut tally, hlc(2), by), None, "the first goes on");
    counter::go_on(&mut tally, hlc(2), (4, Hlc::ZERO)).expect("goes on");
    let before = tally.clone();
    counter::observe(std::slice::from_mut(&mut tally), stamp(3, 1));
    assert_eq!(counter::go_on(&mut tally, hlc(4), (1, Hlc::ZERO)), None, "it is reset");
    counter::begin(&mut tally, hlc(4), by).expect("opens");
    assert_eq!((tally.closed, tally.cells.len()), (hlc(1), 1));
    tally.merge(&before);
    let tallies = [tally];
    assert_eq!(counter::sum_alive(&tallies, NOW_MS, Hlc::ZERO), Some(3), "the old cell stays dead");
}

#[test]
fn a_sum_at_the_end_of_its_range_is_not_left() {
    let mut tally = Tally { origin: Uuid::from_u128(1), closed: Hlc::ZERO, cells: smallvec![] };
    let by = Increment { delta: i64::MAX, deadline: Deadline::NEVER, flushed: Hlc::ZERO };
    counter::begin(&mut tally, hlc(1), by).expect("opens");
    assert_eq!(counter::go_on(&mut tally, hlc(2), (1, Hlc::ZERO)), None);
    let other = Tally { origin: Uuid::from_u128(2), ..tally.clone() };
    let sum = counter::sum_alive(&[tally, other], NOW_MS, Hlc::ZERO).expect("alive");
    assert_eq!(counter::clamp(sum), i64::MAX);
}

#[test]
fn a_version_that_expired_waits_for_touches_that_may_still_come() {
    let value = Value::plain("v");
    let deadline = Deadline::at_millis(NOW_MS);
    let entry = entry_of(&[(stamp(1, 1), Change::Set { value, deadline, resets: smallvec![] })]);
    let at = |millis| Hlc::from_wall(Now::from_millis(millis));
    let now = Now::from_millis(NOW_MS + 10);
    assert!(!entry.is_garbage(now, at(NOW_MS - 1), Stamp::ZERO));
    assert!(entry.is_garbage(now, at(NOW_MS), Stamp::ZERO));
}

#[test]
fn what_a_flush_killed_needs_no_floor() {
    let entry = entry_of(&[(stamp(5, 1), set("a")), (stamp(6, 2), count(6, 1))]);
    let now = Now::from_millis(NOW_MS);
    assert!(!entry.is_garbage(now, hlc(100), Stamp::ZERO), "it is alive");
    assert!(!entry.is_garbage(now, Hlc::ZERO, stamp(5, 2)), "the counter is newer");
    assert!(entry.is_garbage(now, Hlc::ZERO, stamp(7, 1)));
    assert_eq!(entry.visible(NOW_MS, stamp(7, 1)), None);
}
