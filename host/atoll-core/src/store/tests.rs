//! The store against a plain model, and several stores against each other.

mod ahead;
mod changes;
mod convergence;
mod walks;

use super::apply::MergeError;
use super::edit::{Edit, NewValue, WriteError};
use super::sweep::Sweeper;
use super::transaction::Scope;
use super::view::ValueRef;
use super::*;
use crate::entry::{Attributes, Deadline};
use crate::limits::VALUE_INLINE_BYTES_MAX;
use proptest::prelude::*;
use std::collections::BTreeMap;

pub(super) fn store_of(origin: u128) -> Store {
    let config =
        StoreConfig { memory_bytes_max: 1 << 30, log_bytes_max: 1 << 20, change_bytes_max: None };
    let dice = Dice { origin: Uuid::from_u128(origin), hash_seed: origin as u64 };
    Store::new(config, dice, Box::new(|| ()))
}

/// A store that notes what changes, with this much room for the names.
pub(super) fn tracking_store(origin: u128, bytes_max: usize) -> Store {
    let change_bytes_max = Some(bytes_max);
    let config =
        StoreConfig { memory_bytes_max: 1 << 30, log_bytes_max: 1 << 20, change_bytes_max };
    let dice = Dice { origin: Uuid::from_u128(origin), hash_seed: origin as u64 };
    Store::new(config, dice, Box::new(|| ()))
}

pub(super) fn at(millis: u64) -> Now {
    Now::from_millis(1_000_000 + millis)
}

pub(super) fn set(store: &Store, bucket: &Bucket, key: &str, value: &str, now: Now) {
    let edit = Edit::set(NewValue::Copy(value.as_bytes()), Deadline::NEVER);
    store.write(bucket, key.as_bytes(), now, |_| (edit, ())).expect("there is room");
}

pub(super) fn get(store: &Store, bucket: &Bucket, key: &str, now: Now) -> Option<String> {
    store.read(bucket, key.as_bytes(), now, |view| {
        view.map(|view| String::from_utf8_lossy(&view.value().to_bytes()).into_owned())
    })
}

/// Each shard's counts are what a count from scratch gives, and the store's bytes are their sum.
#[track_caller]
pub(super) fn check_counts(store: &Store) {
    let mut used = 0;
    for bucket in store.buckets() {
        for shard in &bucket.shards {
            let shard = shard.lock().expect(POISONED);
            assert_eq!(shard.counts(), shard.recount());
            used += shard.counts().bytes;
        }
    }
    assert_eq!(store.used_bytes(), used);
}

/// What one step of a random history does to one of a few keys.
#[derive(Clone, Debug)]
enum Step {
    Set { key: u8, bytes: usize, ttl_ms: Option<u64>, with_attributes: bool },
    Delete { key: u8 },
    Expire { key: u8, ttl_ms: Option<u64> },
    Add { key: u8, delta: i64 },
    Flush,
    Sweep,
    Wait { millis: u64 },
}

fn any_step() -> impl Strategy<Value = Step> {
    let ttl = || proptest::option::of(1..50_u64);
    let bytes = prop_oneof![0..40_usize, Just(VALUE_INLINE_BYTES_MAX + 1)];
    prop_oneof![
        4 => (0..4_u8, bytes, ttl(), any::<bool>()).prop_map(|(key, bytes, ttl_ms, with_attributes)| {
            Step::Set { key, bytes, ttl_ms, with_attributes }
        }),
        2 => (0..4_u8).prop_map(|key| Step::Delete { key }),
        2 => (0..4_u8, ttl()).prop_map(|(key, ttl_ms)| Step::Expire { key, ttl_ms }),
        4 => (0..4_u8, -9..9_i64).prop_map(|(key, delta)| Step::Add { key, delta }),
        1 => Just(Step::Flush),
        2 => Just(Step::Sweep),
        2 => (0..40_u64).prop_map(|millis| Step::Wait { millis }),
    ]
}

/// A key as the model holds it: bytes, deadline in ms, content type.
type Modelled = (Vec<u8>, Option<u64>, bool);

#[derive(Default)]
struct Model {
    keys: BTreeMap<u8, Modelled>,
}

impl Model {
    fn live(&mut self, key: u8, now_ms: u64) -> Option<&mut Modelled> {
        self.keys.retain(|_, (_, deadline, _)| deadline.is_none_or(|deadline| deadline > now_ms));
        self.keys.get_mut(&key)
    }
}

fn deadline_of(ttl_ms: Option<u64>, now: Now) -> Deadline {
    ttl_ms.map_or(Deadline::NEVER, |ttl_ms| Deadline::at_millis(now.millis() + ttl_ms))
}

fn play(store: &Store, model: &mut Model, now: Now, step: &Step) {
    let bucket = store.database(0);
    let now_ms = now.millis();
    let write = |key: u8, edit: Edit<'_>| {
        store.write(bucket, &[key], now, |_| (edit, ())).expect("there is room");
    };
    match *step {
        Step::Set { key, bytes, ttl_ms, with_attributes } => {
            // Digits where short, so that increments on top are seen.
            let value = vec![b'1'; bytes];
            let content_type = with_attributes.then(|| "text/plain".into());
            let attributes = Attributes { content_type, ..Attributes::default() };
            write(
                key,
                Edit::Set {
                    value: NewValue::Copy(&value),
                    deadline: deadline_of(ttl_ms, now),
                    attributes: Some(Arc::new(attributes)),
                },
            );
            model.keys.insert(key, (value, ttl_ms.map(|ttl| now_ms + ttl), with_attributes));
        }
        Step::Delete { key } => {
            write(key, Edit::Delete);
            model.keys.remove(&key);
        }
        Step::Expire { key, ttl_ms } => {
            write(key, Edit::Expire(deadline_of(ttl_ms, now)));
            if let Some(modelled) = model.live(key, now_ms) {
                modelled.1 = ttl_ms.map(|ttl| now_ms + ttl);
            }
        }
        Step::Add { key, delta } => {
            let (bytes, deadline, typed) =
                model.live(key, now_ms).cloned().unwrap_or((b"0".to_vec(), None, false));
            let text = std::str::from_utf8(&bytes).expect("digits");
            let Ok(sum) = text.parse::<i64>().map(|number| number + delta) else { return };
            let checked = store.write(bucket, &[key], now, |view| {
                let seen = view.map_or(Some(0), |view| view.value().as_integer());
                assert_eq!(seen.map(|seen| seen.to_string()), Some(text.to_owned()));
                (Edit::Add { delta, deadline: Deadline::NEVER }, ())
            });
            checked.expect("there is room");
            model.keys.insert(key, (sum.to_string().into_bytes(), deadline, typed));
        }
        Step::Flush => {
            store.flush(bucket, now);
            model.keys.clear();
        }
        Step::Sweep => {
            let mut sweeper = Sweeper::default();
            while !store.sweep(&mut sweeper, now, Hlc::from_wall(now)).round_done {}
        }
        Step::Wait { .. } => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_store_shows_what_a_plain_map_would(steps in proptest::collection::vec(any_step(), 1..60)) {
        let store = store_of(1);
        let bucket = store.database(0);
        let mut model = Model::default();
        let mut now = at(0);
        for step in &steps {
            if let Step::Wait { millis } = step {
                now = Now::from_millis(now.millis() + millis);
            }
            play(&store, &mut model, now, step);
            for key in 0..4_u8 {
                let shown = store.read(bucket, &[key], now, |view| view.map(|view| {
                    let typed = view.attributes().is_some();
                    (view.value().to_bytes().to_vec(), view.deadline().millis(), typed)
                }));
                prop_assert_eq!(shown, model.live(key, now.millis()).cloned(), "key {} after {:?}", key, step);
            }
            check_counts(&store);
        }
        let mut sweeper = Sweeper::default();
        while !store.sweep(&mut sweeper, now, Hlc::from_wall(at(100_000))).round_done {}
        prop_assert_eq!(bucket.stats().key_count, model.keys.len(), "what is dead is collected");
        prop_assert_eq!(bucket.stats().tombstone_count, 0);
        check_counts(&store);
    }
}

#[test]
fn a_large_value_is_shared_and_never_copied() {
    let store = store_of(1);
    let bucket = store.database(0);
    let value = Bytes::from(vec![7; VALUE_INLINE_BYTES_MAX + 1]);
    let edit = Edit::set(NewValue::Shared(value.clone()), Deadline::NEVER);
    store.write(bucket, b"k", at(0), |_| (edit, ())).expect("there is room");
    let read = store.read(bucket, b"k", at(1), |view| view.map(|view| view.value().to_bytes()));
    assert_eq!(read.as_ref().map(|bytes| bytes.as_ptr()), Some(value.as_ptr()));
}

#[test]
fn a_full_store_refuses_to_grow_and_lets_go() {
    let config =
        StoreConfig { memory_bytes_max: 200_000, log_bytes_max: 0, change_bytes_max: None };
    let dice = Dice { origin: Uuid::from_u128(1), hash_seed: 1 };
    let store = Store::new(config, dice, Box::new(|| ()));
    let bucket = store.database(0);
    let write = |key: &str, edit: Edit<'_>| {
        store.write(bucket, key.as_bytes(), at(0), |_| (edit, ())).map(|written| written.stamp)
    };
    let value = [0; 1_000];
    let refused = (0..1_000).find_map(|n| {
        let edit = Edit::set(NewValue::Copy(&value), Deadline::NEVER);
        write(&n.to_string(), edit).err().map(|error| (n, error))
    });
    let (count, error) = refused.expect("it fills up");
    assert!((100..200).contains(&count), "{count}");
    assert!(matches!(error, WriteError::Full { max: 200_000, .. }));
    assert_eq!(get(&store, bucket, &count.to_string(), at(1)), None, "nothing was changed");
    assert!(write("0", Edit::Delete).is_ok_and(|stamp| stamp.is_some()));
    assert!(write("0", Edit::set(NewValue::Copy(b"x"), Deadline::NEVER)).is_ok());
    let huge = vec![0; VALUE_BYTES_MAX + 1];
    let edit = Edit::set(NewValue::Copy(&huge), Deadline::NEVER);
    assert_eq!(write("0", edit), Err(WriteError::TooLarge { len: VALUE_BYTES_MAX + 1 }));
}

#[test]
fn a_decision_that_keeps_changes_nothing_and_is_not_logged() {
    let store = store_of(1);
    let bucket = store.database(0);
    let position = store.log_subscribe();
    set(&store, bucket, "k", "v", at(0));
    for edit in [Edit::Keep, Edit::Delete, Edit::Expire(Deadline::NEVER)] {
        let key: &[u8] = if matches!(edit, Edit::Keep) { b"k" } else { b"absent" };
        let written = store.write(bucket, key, at(1), |_| (edit, 7)).expect("there is room");
        assert_eq!((written.answer, written.stamp), (7, None));
    }
    let LogRead::Ops { ops, .. } = store.log_read(position, 10) else { panic!("covered") };
    assert_eq!(ops.len(), 1);
    assert_eq!(store.seq(), 1);
}

#[test]
fn versions_tell_states_apart_and_only_those() {
    let store = store_of(1);
    let bucket = store.database(0);
    let version =
        || store.read(bucket, b"k", at(0), |view| view.map(|view| view.version().to_string()));
    let add = |delta| {
        let edit = Edit::Add { delta, deadline: Deadline::NEVER };
        store.write(bucket, b"k", at(0), |_| (edit, ())).expect("there is room");
    };
    set(&store, bucket, "k", "1", at(0));
    let first = version();
    assert_eq!(first, version());
    add(1);
    let second = version();
    add(1);
    let third = version();
    assert!(first != second && second != third && first != third);
    set(&store, bucket, "k", "1", at(0));
    let fourth = version().expect("there is one");
    assert!(!fourth.split_once('-').is_some_and(|(_, rest)| rest.contains('-')), "plain again");
}

#[test]
fn a_transaction_is_seen_whole_or_not_at_all() {
    let store = store_of(1);
    let bucket = store.database(0);
    let keys: Vec<String> = (0..20).map(|n| format!("key {n}")).collect();
    let names = || keys.iter().map(|key| key.as_bytes());
    let rounds = 300;
    std::thread::scope(|threads| {
        for writer in 0..2 {
            let (store, keys) = (&store, &keys);
            threads.spawn(move || {
                for round in 0..rounds {
                    let value = format!("{writer}:{round}");
                    let names = keys.iter().map(|key| key.as_bytes());
                    let scope = Scope::of(store, bucket, names);
                    store.transaction(&scope, at(round), |transaction| {
                        for key in keys {
                            let value = NewValue::Copy(value.as_bytes());
                            let edit = Edit::set(value, Deadline::NEVER);
                            let key = key.as_bytes();
                            transaction.write(bucket, key, |_| (edit, ())).expect("there is room");
                        }
                    });
                }
            });
        }
        for _ in 0..rounds {
            let mut seen = Vec::new();
            store.read_many(bucket, names(), at(0), |view| {
                seen.push(view.map(|view| view.value().to_bytes()));
            });
            seen.dedup();
            assert_eq!(seen.len(), 1, "a torn write: {seen:?}");
        }
    });
    check_counts(&store);
}

#[test]
fn an_increment_per_thread_and_round_is_counted() {
    let store = store_of(1);
    let bucket = store.database(0);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                for round in 0..1_000 {
                    let edit = Edit::Add { delta: 1, deadline: Deadline::NEVER };
                    store.write(bucket, b"n", at(round), |_| (edit, ())).expect("there is room");
                }
            });
        }
    });
    let sum = store.read(bucket, b"n", at(0), |view| view.map(|view| view.value().as_integer()));
    assert_eq!(sum, Some(Some(4_000)));
}

#[test]
fn incrementing_and_expiring_in_turn_does_not_pile_up_cells() {
    let store = store_of(1);
    let bucket = store.database(0);
    for round in 0..1_000 {
        let now = at(round);
        for edit in [
            Edit::Add { delta: 1, deadline: Deadline::NEVER },
            Edit::Expire(Deadline::at_millis(now.millis() + 60_000)),
        ] {
            store.write(bucket, b"limit", now, |_| (edit, ())).expect("there is room");
        }
    }
    let entry = store.entry(bucket, b"limit").expect("it is there");
    assert!(entry.tallies[0].cells.len() <= 1, "{} cells", entry.tallies[0].cells.len());
    let value = store.read(bucket, b"limit", at(1_000), |view| {
        view.map(|view| (view.value().as_integer(), view.deadline()))
    });
    assert_eq!(value, Some((Some(1_000), Deadline::at_millis(at(999).millis() + 60_000))));
}

#[test]
fn buckets_are_apart_and_their_number_is_bounded() {
    let store = store_of(1);
    set(&store, store.database(0), "k", "zero", at(0));
    set(&store, store.database(1), "k", "one", at(0));
    let name = BucketName::new("mine").expect("a name");
    assert!(store.find_bucket(&name).is_none());
    let mine = store.open_bucket(&name).expect("there is room");
    set(&store, &mine, "k", "mine", at(0));
    store.flush(store.database(0), at(1));
    let shown = [store.database(0), store.database(1), &mine].map(|b| get(&store, b, "k", at(2)));
    assert_eq!(shown, [None, Some("one".to_owned()), Some("mine".to_owned())]);
    let refused = (0..BUCKET_COUNT_MAX)
        .any(|n| store.open_bucket(&BucketName::new(&format!("b{n}")).expect("a name")).is_err());
    assert!(refused);
    assert!(store.open_bucket(&name).is_ok(), "those that exist stay");
    let mut sweeper = Sweeper::default();
    while !store.sweep(&mut sweeper, at(3), Hlc::from_wall(at(3))).round_done {}
    assert_eq!(store.buckets().len(), 17, "the empty ones are forgotten");
    set(&store, &mine, "k", "still mine", at(4));
    let found = store.find_bucket(&name).expect("it is in use");
    assert_eq!(get(&store, &found, "k", at(5)).as_deref(), Some("still mine"));
}

#[test]
fn a_bucket_in_somebodys_hands_is_not_forgotten() {
    let store = store_of(1);
    let name = BucketName::new("mine").expect("a name");
    let held = store.open_bucket(&name).expect("there is room");
    let mut sweeper = Sweeper::default();
    while !store.sweep(&mut sweeper, at(1), Hlc::from_wall(at(1))).round_done {}
    set(&store, &held, "k", "v", at(2));
    let found = store.open_bucket(&name).expect("there is room");
    assert_eq!(get(&store, &found, "k", at(3)).as_deref(), Some("v"));
}

#[test]
fn a_counter_takes_no_more_than_it_needs() {
    let store = store_of(1);
    let bucket = store.database(0);
    let add = |key: usize| {
        let edit = Edit::Add { delta: 1, deadline: Deadline::NEVER };
        store.write(bucket, format!("{key:016}").as_bytes(), at(0), |_| (edit, ())).expect("room");
    };
    (0..10_000).for_each(add);
    let each = bucket.stats().used_bytes / 10_000;
    assert!(each < 360, "{each} bytes for each counter");
}

#[test]
fn values_read_as_text_and_as_numbers() {
    assert_eq!(ValueRef::Counter(-12).with_bytes(<[u8]>::to_vec), b"-12");
    assert_eq!(ValueRef::Counter(-12).len(), 3);
    assert_eq!(ValueRef::Inline(b"12").as_integer(), Some(12));
    assert!(ValueRef::Inline(b"").is_empty());
}

#[test]
fn a_version_that_came_late_changes_what_a_counter_is_called() {
    // The increment on top is newer than the late SET: the newest stamp alone says nothing of it.
    let (first, second) = (store_of(1), store_of(2));
    let bucket = first.database(0);
    let seen = |now| {
        let look = |view: View<'_>| (view.value().to_bytes(), view.version());
        first.read(bucket, b"k", now, |view| view.map(look)).expect("it is there")
    };
    set(&first, bucket, "k", "5", at(1));
    second.log_subscribe();
    set(&second, second.database(0), "k", "100", at(2));
    let edit = Edit::Add { delta: 1, deadline: Deadline::NEVER };
    first.write(bucket, b"k", at(3), |_| (edit, ())).expect("there is room");
    let before = seen(at(4));
    let LogRead::Ops { ops, .. } = second.log_read(0, 10) else { panic!("covered") };
    first.merge_op(ops[0].clone(), at(4)).expect("there is room");
    let after = seen(at(5));
    assert_eq!((&before.0[..], &after.0[..]), (&b"6"[..], &b"101"[..]));
    assert_ne!(before.1, after.1);
}

#[test]
fn a_transaction_decides_by_the_time_of_its_writes() {
    let store = store_of(1);
    let bucket = store.database(0);
    let edit = Edit::set(NewValue::Copy(b"v"), Deadline::at_millis(at(10).millis()));
    store.write(bucket, b"k", at(5), |_| (edit, ())).expect("there is room");
    // The clock of the store goes ahead of the wall, as after a peer's write or a step back.
    set(&store, bucket, "other", "v", at(20));
    let by_write = store.write(bucket, b"k", at(6), |view| (Edit::Keep, view.is_some()));
    let scope = Scope::of(&store, bucket, [&b"k"[..]].into_iter());
    let by_transaction = store.transaction(&scope, at(6), |transaction| {
        transaction.read(bucket, b"k", |view| view.is_some())
    });
    assert_eq!((by_write.expect("there is room").answer, by_transaction), (false, false));
}

#[test]
fn a_decision_that_keeps_moves_no_position() {
    let store = store_of(1);
    let bucket = store.database(0);
    let end = store.log_subscribe();
    store.log_unsubscribe(at(0));
    let later = at(log::LINGER_MS + 1);
    store.write(bucket, b"k", later, |_| (Edit::Keep, ())).expect("there is room");
    assert!(matches!(store.log_read(end, 1), LogRead::Ops { .. }), "nothing was missed");
}

#[test]
fn nothing_grows_a_full_store_but_what_was_promised() {
    let config =
        StoreConfig { memory_bytes_max: 100_000, log_bytes_max: 0, change_bytes_max: None };
    let dice = Dice { origin: Uuid::from_u128(1), hash_seed: 1 };
    let store = Store::new(config, dice, Box::new(|| ()));
    let bucket = store.database(0);
    let write = |n: usize, edit: Edit<'_>| {
        store.write(bucket, n.to_string().as_bytes(), at(1), |_| (edit, ()))
    };
    let set = || Edit::set(NewValue::Copy(b"v"), Deadline::NEVER);
    let count = (0..).find(|&n| write(n, set()).is_err()).expect("it fills up");
    let before = store.used_bytes();
    for n in 0..count {
        let _ = write(n, Edit::Expire(Deadline::at_millis(at(1_000_000).millis())));
    }
    assert!(store.used_bytes() < before + 10_000, "{before} became {}", store.used_bytes());
    let keys = [&b"a"[..], b"b"];
    let scope = Scope::of(&store, bucket, keys.into_iter());
    let refused =
        store.transaction(&scope, at(2), |transaction| transaction.reserve(1_000).is_err());
    assert!(refused);
    store.flush(bucket, at(3));
    // Promised once, the tables that grow on the way are no reason to stop half way.
    let names: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let keys = || names.iter().map(|name| name.as_bytes());
    store.transaction(&Scope::of(&store, bucket, keys()), at(4), |transaction| {
        transaction.reserve(99_000).expect("it is empty");
        for key in keys() {
            let value = [0; 150];
            let edit = Edit::set(NewValue::Copy(&value), Deadline::NEVER);
            transaction.write(bucket, key, |_| (edit, ())).expect("it was promised");
        }
    });
    assert_eq!(bucket.stats().key_count, 500);
}

#[test]
fn what_a_peer_sends_is_checked_before_it_is_kept() {
    let store = store_of(1);
    let bucket = store.database(0);
    let entry = Entry::default();
    assert!(matches!(store.merge(bucket, &[], &entry), Err(MergeError::Key(_))));
    assert!(matches!(store.merge(bucket, &[0; 70_000], &entry), Err(MergeError::Key(_))));
}

#[test]
fn transactions_over_several_buckets_wait_for_each_other_only() {
    let store = store_of(1);
    let bucket = |n: u64| store.database(n as u8 % 4);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let (store, bucket) = (&store, &bucket);
            threads.spawn(move || {
                for round in 0..300 {
                    // Named in another order by each thread.
                    let order = |n: u64| if thread == 0 { n } else { 3 - n };
                    let mut scope = Scope::default();
                    (0..4).for_each(|n| scope.add(store, bucket(order(n)), b"sum"));
                    scope.add_all(bucket(round));
                    store.transaction(&scope, at(round), |transaction| {
                        for n in 0..4 {
                            let edit = Edit::Add { delta: 1, deadline: Deadline::NEVER };
                            let made = transaction.write(bucket(n), b"sum", |_| (edit, ()));
                            made.expect("there is room");
                        }
                    });
                }
            });
        }
    });
    for n in 0..4 {
        let sum = store.read(bucket(n), b"sum", at(300), |view| {
            view.and_then(|view| view.value().as_integer())
        });
        assert_eq!(sum, Some(600));
    }
}
