//! Stores that hear of each other's writes in any order come to hold the same.

use super::*;
use crate::entry::op::Op;
use crate::entry::{Cell, Reset, Tally, Touch};
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// A write at one of three nodes.
#[derive(Clone, Debug)]
struct Act {
    node: usize,
    key: u8,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Set {
        value: u8,
        ttl_ms: Option<u64>,
    },
    Delete,
    Expire {
        ttl_ms: Option<u64>,
    },
    Add {
        delta: i64,
    },
    Flush,
    /// Hears of the oldest writes of the others that it has not heard of.
    Hear {
        count: usize,
    },
}

fn any_act() -> impl Strategy<Value = Act> {
    let ttl = || proptest::option::of(1..30_u64);
    let what = prop_oneof![
        4 => (any::<u8>(), ttl()).prop_map(|(value, ttl_ms)| What::Set { value, ttl_ms }),
        2 => Just(What::Delete),
        2 => ttl().prop_map(|ttl_ms| What::Expire { ttl_ms }),
        5 => (-5..5_i64).prop_map(|delta| What::Add { delta }),
        1 => Just(What::Flush),
        4 => (1..6_usize).prop_map(|count| What::Hear { count }),
    ];
    (0..3_usize, 0..3_u8, what).prop_map(|(node, key, what)| Act { node, key, what })
}

struct Node {
    store: Store,
    /// How far it has heard each of the three.
    heard: [usize; 3],
    skew_ms: u64,
}

/// The ops that `node` itself has made.
fn own_ops(node: &Node) -> Vec<Op> {
    match node.store.log_read(0, usize::MAX) {
        LogRead::Ops { ops, .. } => ops,
        LogRead::Fallen { .. } => panic!("the log is large enough"),
    }
}

fn act(nodes: &mut [Node], act: &Act, now: Now) {
    let ops: Vec<Vec<Op>> = nodes.iter().map(own_ops).collect();
    let node = &mut nodes[act.node];
    let now = Now::from_millis(now.millis() + node.skew_ms);
    let bucket = Arc::clone(node.store.database(0));
    let edit = match act.what {
        What::Set { value, ttl_ms } => {
            let value = NewValue::Owned(value.to_string().into_bytes());
            Edit::set(value, deadline_of(ttl_ms, now))
        }
        What::Delete => Edit::Delete,
        What::Expire { ttl_ms } => Edit::Expire(deadline_of(ttl_ms, now)),
        What::Add { delta } => Edit::Add { delta, deadline: Deadline::NEVER },
        What::Flush => {
            node.store.flush(&bucket, now);
            return;
        }
        What::Hear { count } => {
            for (origin, ops) in ops.iter().enumerate().filter(|(origin, _)| *origin != act.node) {
                for op in ops.iter().skip(node.heard[origin]).take(count) {
                    node.store.merge_op(op.clone(), now).expect("there is room");
                    node.heard[origin] += 1;
                }
            }
            return;
        }
    };
    node.store.write(&bucket, &[act.key], now, |_| (edit, ())).expect("there is room");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_order_of_hearing_leads_to_the_same(
        acts in proptest::collection::vec(any_act(), 1..50),
        skews in proptest::array::uniform3(0..20_u64),
        order in any::<u64>(),
    ) {
        let mut nodes: Vec<Node> = skews.iter().enumerate().map(|(index, &skew_ms)| {
            let store = store_of(index as u128 + 1);
            store.log_subscribe();
            Node { store, heard: [0; 3], skew_ms }
        }).collect();
        for (step, one) in acts.iter().enumerate() {
            act(&mut nodes, one, at(step as u64));
        }
        // Everyone hears of everything once more, each in another order: repetition does no harm.
        let all: Vec<Op> = nodes.iter().flat_map(own_ops).collect();
        let mut dice = order;
        for node in &nodes {
            let mut pile = all.clone();
            while !pile.is_empty() {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let op = pile.swap_remove((dice >> 33) as usize % pile.len());
                node.store.merge_op(op, at(100)).expect("there is room");
            }
            check_counts(&node.store);
        }
        let late = at(acts.len() as u64 + 100);
        for key in 0..3_u8 {
            let shown = |node: &Node, now: Now| {
                let bucket = node.store.database(0);
                node.store.read(bucket, &[key], now, |view| view.map(|view| {
                    (view.value().to_bytes(), view.deadline(), view.version())
                }))
            };
            for now in [at(0), at(acts.len() as u64), late] {
                prop_assert_eq!(shown(&nodes[0], now), shown(&nodes[1], now), "key {}", key);
                prop_assert_eq!(shown(&nodes[0], now), shown(&nodes[2], now), "key {}", key);
            }
        }
    }
}

#[test]
fn a_write_after_one_that_was_heard_of_is_newer_whatever_the_clock_says() {
    let (fast, slow) = (store_of(1), store_of(2));
    fast.log_subscribe();
    set(&fast, fast.database(0), "k", "fast", at(5_000));
    let LogRead::Ops { ops, .. } = fast.log_read(0, 1) else { panic!("covered") };
    for op in ops {
        assert_eq!(slow.merge_op(op.clone(), at(0)), Ok(true));
        assert_eq!(slow.merge_op(op, at(0)), Ok(false), "the second time it is nothing new");
    }
    set(&slow, slow.database(0), "k", "slow", at(1));
    assert_eq!(get(&slow, slow.database(0), "k", at(2)).as_deref(), Some("slow"));
}

#[test]
fn the_log_replays_into_an_equal_store() {
    let (first, second) = (store_of(1), store_of(2));
    let bucket = first.database(0);
    first.log_subscribe();
    for n in 0..100 {
        set(&first, bucket, &format!("k{}", n % 10), &n.to_string(), at(n));
        let edit = Edit::Add { delta: 1, deadline: Deadline::NEVER };
        first.write(bucket, b"count", at(n), |_| (edit, ())).expect("there is room");
    }
    let LogRead::Ops { ops, .. } = first.log_read(0, usize::MAX) else { panic!("covered") };
    assert!(ops.is_sorted_by_key(|op| (op.seq, op.stamp)));
    for op in ops {
        second.merge_op(op, at(200)).expect("there is room");
    }
    for key in ["k0", "k9", "count"] {
        assert_eq!(
            get(&first, bucket, key, at(300)),
            get(&second, second.database(0), key, at(300))
        );
    }
}

/// All ops that `store` has logged.
fn logged(store: &Store) -> Vec<Op> {
    let LogRead::Ops { ops, .. } = store.log_read(0, usize::MAX) else { panic!("covered") };
    ops
}

#[test]
fn a_counter_that_an_expire_folds_arrives_with_its_number() {
    // An EXPIRE of a counter makes a version that the caller never gave the bytes of: they were
    // once logged as empty.
    let (first, second) = (store_of(1), store_of(2));
    first.log_subscribe();
    for edit in [
        Edit::Add { delta: 5, deadline: Deadline::NEVER },
        Edit::Expire(Deadline::at_millis(at(60_000).millis())),
    ] {
        first.write(first.database(0), b"n", at(0), |_| (edit, ())).expect("there is room");
    }
    for op in logged(&first) {
        second.merge_op(op, at(1)).expect("there is room");
    }
    assert_eq!(get(&second, second.database(0), "n", at(2)).as_deref(), Some("5"));
}

#[test]
fn a_touch_that_comes_before_its_version_survives_a_flush() {
    // The touch was once dropped with everything else that had no register newer than the flush.
    let (first, second) = (store_of(1), store_of(2));
    first.log_subscribe();
    let deadline = Deadline::at_millis(at(5).millis());
    let edits = [Edit::set(NewValue::Copy(b"v"), deadline), Edit::Expire(Deadline::NEVER)];
    for edit in edits {
        first.write(first.database(0), b"k", at(1), |_| (edit, ())).expect("there is room");
    }
    let mut ops = logged(&first);
    let touch = ops.pop().expect("the expire was logged");
    second.merge_op(touch, at(1)).expect("there is room");
    // A flush that is older than the version, made by a third node.
    let third = store_of(3);
    third.log_subscribe();
    third.flush(third.database(0), at(0));
    for op in logged(&third).into_iter().chain(ops) {
        second.merge_op(op, at(1)).expect("there is room");
    }
    assert_eq!(get(&second, second.database(0), "k", at(10)).as_deref(), Some("v"));
}

/// A node that starts from a disk asks others about everyone whose writes it may hold.
#[test]
fn a_store_has_seen_the_authors_of_every_part_of_a_record() {
    let author = Uuid::from_u128;
    let stamp = |hlc: u64, origin: u128| Stamp { hlc: Hlc::from_bits(hlc), origin: author(origin) };
    let reset = Reset { last: Hlc::from_bits(3), by: stamp(9, 4), sum: 0 };
    let (birth, last) = (Hlc::from_bits(2), Hlc::from_bits(5));
    let cell = Cell { birth, last, sum: 1, deadline: Deadline::NEVER, reset };
    let tally = Tally { origin: author(2), closed: Hlc::ZERO, cells: SmallVec::from_elem(cell, 1) };
    let touch = Touch { base: stamp(1, 7), stamp: stamp(8, 3), deadline: Deadline::NEVER };
    let entry = Entry { touch: Some(touch), tallies: vec![tally], ..Entry::default() };
    let store = store_of(1);
    store.merge(store.database(0), b"k", &entry).expect("there is room");
    store.flush_at(store.database(1), stamp(6, 5), at(0));
    let seen: BTreeSet<Uuid> = store.origins_seen().into_iter().collect();
    assert_eq!(seen, (2..=5).map(author).collect());
}
