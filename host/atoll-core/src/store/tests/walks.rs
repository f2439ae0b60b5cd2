//! Walks over a bucket that changes: SCAN, listings, sweeps.

use super::super::list::{ListQuery, Listing};
use super::*;
use std::collections::BTreeSet;

fn scan_all(store: &Store, count: usize, mut between: impl FnMut(usize)) -> Vec<Vec<u8>> {
    let bucket = store.database(0);
    let (mut seen, mut cursor) = (Vec::new(), 0);
    for step in 0.. {
        cursor = store.scan(bucket, (cursor, count), at(0), |key, _| seen.push(key.to_vec()));
        if cursor == 0 {
            break;
        }
        assert!(cursor < 1 << 63, "clients read cursors into signed words");
        between(step);
    }
    seen
}

#[test]
fn a_scan_of_a_quiet_bucket_visits_each_key_once() {
    let store = store_of(1);
    assert!(scan_all(&store, 10, |_| ()).is_empty());
    for n in 0..5_000 {
        set(&store, store.database(0), &format!("key {n}"), "v", at(0));
    }
    for count in [1, 10, 1_000, usize::MAX] {
        let seen = scan_all(&store, count, |_| ());
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), distinct.len()), (5_000, 5_000), "count {count}");
    }
}

#[test]
fn a_scan_misses_no_key_that_stays_while_others_come_and_go() {
    let store = store_of(1);
    let bucket = store.database(0);
    let stay: BTreeSet<Vec<u8>> = (0..2_000).map(|n| format!("stay {n}").into_bytes()).collect();
    for key in &stay {
        set(&store, bucket, std::str::from_utf8(key).expect("text"), "v", at(0));
    }
    let seen = scan_all(&store, 50, |step| {
        // Tables double again and again while the scan is under way, then shrink.
        for n in 0..400 {
            set(&store, bucket, &format!("come {step} {n}"), "v", at(0));
            if step > 20 {
                let gone = format!("come {} {n}", step - 20);
                store
                    .write(bucket, gone.as_bytes(), at(0), |_| (Edit::Delete, ()))
                    .expect("there is room");
            }
        }
        let mut sweeper = Sweeper::default();
        while !store.sweep(&mut sweeper, at(1), Hlc::from_wall(at(1_000))).round_done {}
    });
    let seen: BTreeSet<_> = seen.into_iter().collect();
    assert_eq!(stay.difference(&seen).count(), 0);
}

#[test]
fn a_forged_cursor_does_no_harm() {
    let store = store_of(1);
    for n in 0..100 {
        set(&store, store.database(0), &format!("key {n}"), "v", at(0));
    }
    for cursor in [1, 77, u64::MAX, 1 << 50, 64 << 50, (3 << 50) | 0xffff_ffff] {
        store.scan(store.database(0), (cursor, 10), at(0), |_, _| ());
    }
}

fn pages(store: &Store, query: ListQuery<'_>) -> Vec<(String, bool)> {
    let (mut names, mut after) = (Vec::new(), query.after.to_vec());
    loop {
        let page =
            store.list(store.database(0), ListQuery { after: &after, ..query }, at(0), |_| ());
        for (name, item) in page.items {
            after.clone_from(&name);
            names.push((String::from_utf8(name).expect("text"), item.is_none()));
        }
        if !page.has_more {
            return names;
        }
    }
}

#[test]
fn pages_of_any_size_hold_every_name_in_order() {
    let store = store_of(1);
    let names: BTreeSet<String> = (0..997).map(|n| format!("{}/{n}", n % 7)).collect();
    for name in &names {
        set(&store, store.database(0), name, "v", at(0));
    }
    for limit in [1, 10, 1_000] {
        let all = ListQuery { prefix: b"", after: b"", delimiter: None, limit };
        let listed: Vec<String> = pages(&store, all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed, names.iter().cloned().collect::<Vec<_>>(), "limit {limit}");
        let some = ListQuery { prefix: b"3/1", ..all };
        let want = names.iter().filter(|name| name.starts_with("3/1")).count();
        assert_eq!(pages(&store, some).len(), want);
    }
}

#[test]
fn a_listing_made_in_steps_misses_no_key_that_stays_while_others_come() {
    let store = store_of(1);
    let bucket = store.database(0);
    let stay: Vec<Vec<u8>> = (0..20_000).map(|n| format!("stay {n:05}").into_bytes()).collect();
    for key in &stay {
        set(&store, bucket, std::str::from_utf8(key).expect("text"), "v", at(0));
    }
    let query = ListQuery { prefix: b"stay", after: b"", delimiter: None, limit: 1_000 };
    let mut listing = Listing::new(query);
    let mut steps = 0;
    while !store.list_step(bucket, &mut listing, at(0), |_| ()) {
        steps += 1;
        // Tables double again and again while the walk is under way.
        for n in 0..if steps < 20 { 1_000 } else { 0 } {
            set(&store, bucket, &format!("come {steps} {n}"), "v", at(0));
        }
    }
    assert!(steps > 2, "{steps}");
    let page = listing.finish();
    assert_eq!(page.items.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), stay[..1_000]);
}

#[test]
fn a_delimiter_rolls_keys_up_as_folders_do() {
    let store = store_of(1);
    for name in ["a", "a/1", "a/2", "b/1/x", "b/2", "c"] {
        set(&store, store.database(0), name, "v", at(0));
    }
    for limit in [1, 2, 10] {
        let top = ListQuery { prefix: b"", after: b"", delimiter: Some(b"/"), limit };
        let want = [("a", false), ("a/", true), ("b/", true), ("c", false)];
        let listed = pages(&store, top);
        let listed: Vec<_> = listed.iter().map(|(name, rolled)| (name.as_str(), *rolled)).collect();
        assert_eq!(listed, want, "limit {limit}");
        let below = pages(&store, ListQuery { prefix: b"b/", ..top });
        assert_eq!(below, [("b/1/".to_owned(), true), ("b/2".to_owned(), false)]);
    }
}

#[test]
fn a_sweep_gives_the_memory_of_the_dead_back() {
    let store = store_of(1);
    let bucket = store.database(0);
    let empty = store.used_bytes();
    for n in 0..20_000 {
        let deadline = Deadline::at_millis(at(10).millis());
        let edit = Edit::set(NewValue::Copy(b"value"), deadline);
        let key = format!("key {n}");
        store.write(bucket, key.as_bytes(), at(0), |_| (edit, ())).expect("there is room");
    }
    assert_eq!(bucket.stats().volatile_count, 20_000);
    let full = store.used_bytes();
    let mut sweeper = Sweeper::default();
    let mut collected = 0;
    loop {
        let swept = store.sweep(&mut sweeper, at(20), Hlc::from_wall(at(20)));
        collected += swept.collected;
        if swept.round_done {
            break;
        }
    }
    assert_eq!(
        (collected, bucket.stats()),
        (20_000, Stats { used_bytes: bucket.stats().used_bytes, ..Stats::default() })
    );
    assert!(store.used_bytes() - empty < (full - empty) / 10, "{} of {full}", store.used_bytes());
    check_counts(&store);
}

#[test]
fn a_flush_is_quick_and_the_sweep_frees_what_it_killed() {
    let store = store_of(1);
    let bucket = store.database(0);
    for n in 0..10_000 {
        set(&store, bucket, &format!("key {n}"), "v", at(0));
    }
    store.flush(bucket, at(1));
    assert_eq!((bucket.stats(), store.used_bytes()), (Stats::default(), 0));
    set(&store, bucket, "key 1", "new", at(2));
    assert_eq!(store.rubble.lock().expect(POISONED).len(), SHARD_COUNT);
    let mut sweeper = Sweeper::default();
    while !store.sweep(&mut sweeper, at(3), Hlc::from_wall(at(3))).round_done {}
    assert!(store.rubble.lock().expect(POISONED).is_empty());
    assert_eq!(get(&store, bucket, "key 1", at(4)).as_deref(), Some("new"));
    assert_eq!(bucket.stats().key_count, 1);
    check_counts(&store);
}

#[test]
fn a_flush_of_a_store_that_is_nearly_full_frees_at_once() {
    let config =
        StoreConfig { memory_bytes_max: 1 << 20, log_bytes_max: 0, change_bytes_max: None };
    let dice = Dice { origin: Uuid::from_u128(1), hash_seed: 1 };
    let store = Store::new(config, dice, Box::new(|| ()));
    let bucket = store.database(0);
    for n in 0..600 {
        set(&store, bucket, &format!("key {n}"), &"v".repeat(1_000), at(0));
    }
    store.flush(bucket, at(1));
    assert!(store.rubble.lock().expect(POISONED).is_empty());
}

/// Steps that a sweep takes for a round, and how many records it drops.
fn sweep_round(store: &Store, now: Now) -> (usize, usize) {
    let (mut sweeper, mut collected) = (Sweeper::default(), 0);
    for step in 1.. {
        let swept = store.sweep(&mut sweeper, now, Hlc::from_wall(now));
        collected += swept.collected;
        if swept.round_done {
            return (step, collected);
        }
    }
    unreachable!("a round ends")
}

#[test]
fn a_sweep_looks_at_nothing_where_nothing_can_die_unseen() {
    let store = store_of(1);
    let bucket = store.database(0);
    for n in 0..10_000 {
        set(&store, bucket, &format!("key {n}"), "v", at(0));
    }
    assert_eq!(sweep_round(&store, at(1)), (1, 0));
    let write = |key: &str, edit: Edit<'_>, now| {
        store.write(bucket, key.as_bytes(), now, |_| (edit, ())).expect("there is room");
    };
    let deadline = Deadline::at_millis(at(9).millis());
    write("key 1", Edit::Delete, at(2));
    write("key 2", Edit::set(NewValue::Copy(b"v"), deadline), at(2));
    write("key 3", Edit::Expire(deadline), at(2));
    write("counter", Edit::Add { delta: 1, deadline }, at(2));
    assert_eq!(sweep_round(&store, at(20)).1, 4, "each in the shard that it is in");
    assert_eq!(sweep_round(&store, at(21)), (1, 0));
    check_counts(&store);
}

#[test]
fn a_sweep_finds_what_came_in_below_a_flush() {
    let (store, other) = (store_of(1), store_of(2));
    let position = other.log_subscribe();
    set(&other, other.database(0), "late", "v", at(1));
    store.flush(store.database(0), at(2));
    set(&store, store.database(0), "new", "v", at(3));
    let LogRead::Ops { ops, .. } = other.log_read(position, 10) else { panic!("kept") };
    for op in ops {
        store.merge_op(op, at(3)).expect("there is room");
    }
    assert_eq!(store.database(0).stats().key_count, 2, "dead as it is, it is held");
    assert_eq!(sweep_round(&store, at(4)).1, 1);
    assert_eq!(store.database(0).stats().key_count, 1);
}
