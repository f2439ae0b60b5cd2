//! A copy that is kept by taking notes holds what the store holds.

use super::*;
use crate::store::changes::{Lost, NotedKeys, Selection, Walk};
use std::convert::Infallible;

type Copy = BTreeMap<Vec<u8>, Entry>;

/// Brings `copy` up to date as a journal would: `bucket` is what it is a copy of.
fn catch_up(store: &Store, bucket: &Bucket, copy: &mut Copy) {
    let mut lost_any = false;
    for (shard, noted) in store.take_changes(bucket) {
        lost_any |= noted.lost_removals == Lost::Some;
        let write = |copy: &mut Copy, key: &[u8], entry: Option<Entry>| match entry {
            Some(entry) => drop(copy.insert(key.to_vec(), entry)),
            None => drop(copy.remove(key)),
        };
        match noted.keys {
            NotedKeys::Listed(keys) => {
                let visited = store.visit_noted(bucket, &keys, |key, entry| {
                    write(copy, key, entry);
                    Ok::<_, Infallible>(())
                });
                visited.expect("nothing fails");
            }
            NotedKeys::Walk(selection) => walk(store, bucket, (shard, selection), |key, entry| {
                write(copy, key, Some(entry));
            }),
        }
    }
    if lost_any {
        copy.retain(|key, _| store.entry(bucket, key).is_some());
    }
}

fn walk(
    store: &Store,
    bucket: &Bucket,
    (shard, selection): (usize, Selection),
    mut visit: impl FnMut(&[u8], Entry),
) {
    let mut next = Some(Walk::of(shard));
    while let Some(walk) = next {
        let stepped = store.walk(bucket, (walk, selection), |key, entry| {
            visit(key, entry);
            Ok::<_, Infallible>(())
        });
        next = stepped.expect("nothing fails");
    }
}

/// What the store holds, by a walk that takes no notes.
fn held(store: &Store, bucket: &Bucket) -> Copy {
    let mut held = Copy::new();
    for shard in 0..SHARD_COUNT {
        walk(store, bucket, (shard, Selection::Copy), |key, entry| {
            held.insert(key.to_vec(), entry);
        });
    }
    held
}

/// What of `copy` a flush has not killed: what would come back from a disk.
fn restored(copy: &Copy, marks: &[(BucketName, Stamp)]) -> Copy {
    let store = store_of(9);
    let bucket = store.database(0);
    if let Some((_, mark)) = marks.iter().find(|(name, _)| name == bucket.name()) {
        store.flush_at(bucket, *mark, at(0));
    }
    for (key, entry) in copy {
        store.restore(bucket, key, entry.clone()).expect("there is room");
    }
    held(&store, bucket)
}

#[derive(Clone, Debug)]
enum Act {
    Play(Step),
    /// Another node's newer state of a key arrives.
    Merge {
        key: u8,
    },
    CatchUp,
    Distrust,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        10 => any_step().prop_map(Act::Play),
        1 => (0..4_u8).prop_map(|key| Act::Merge { key }),
        3 => Just(Act::CatchUp),
        1 => Just(Act::Distrust),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn a_copy_that_takes_the_notes_holds_what_the_store_holds(
        acts in proptest::collection::vec(any_act(), 1..80),
        bytes_max in prop_oneof![Just(1_usize << 20), 0..12_usize],
    ) {
        let (store, other) = (tracking_store(1, bytes_max), store_of(2));
        let bucket = store.database(0);
        let (mut model, mut copy, mut now) = (Model::default(), Copy::new(), at(0));
        for act in &acts {
            match act {
                Act::Play(Step::Wait { millis }) => now = Now::from_millis(now.millis() + millis),
                // An increment's model does not know of merges.
                Act::Play(Step::Add { key, delta }) => {
                    let edit = Edit::Add { delta: *delta, deadline: Deadline::NEVER };
                    store.write(bucket, &[*key], now, |_| (edit, ())).expect("there is room");
                }
                Act::Play(step) => play(&store, &mut model, now, step),
                Act::Merge { key } => {
                    let name = str::from_utf8(std::slice::from_ref(key)).expect("ASCII");
                    set(&other, other.database(0), name, "7", now);
                    let theirs = other.entry(other.database(0), &[*key]).expect("just set");
                    store.merge(bucket, &[*key], &theirs).expect("there is room");
                }
                Act::CatchUp => {
                    catch_up(&store, bucket, &mut copy);
                    let marks = store.flush_marks();
                    prop_assert_eq!(restored(&copy, &marks), restored(&held(&store, bucket), &marks));
                }
                Act::Distrust => {
                    store.note_all_changed();
                    copy.clear();
                }
            }
        }
        catch_up(&store, bucket, &mut copy);
        let marks = store.flush_marks();
        prop_assert_eq!(restored(&copy, &marks), restored(&held(&store, bucket), &marks));
        prop_assert!(store.take_changes(bucket).is_empty(), "all notes are taken");
    }
}

/// The keys that were noted in all shards of database 0, sorted.
fn listed(store: &Store) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (_, noted) in store.take_changes(store.database(0)) {
        let NotedKeys::Listed(keys) = noted.keys else { panic!("the budget is large enough") };
        let visited = store.visit_noted(store.database(0), &keys, |key, _| {
            all.push(key.to_vec());
            Ok::<_, Infallible>(())
        });
        visited.expect("nothing fails");
    }
    all.sort();
    all
}

#[test]
fn a_key_is_noted_once_until_it_is_taken_and_then_again() {
    let store = tracking_store(1, 1 << 20);
    let bucket = store.database(0);
    for _ in 0..3 {
        set(&store, bucket, "a", "1", at(0));
        set(&store, bucket, "b", "1", at(0));
    }
    assert_eq!(listed(&store), [b"a", b"b"]);
    assert_eq!(listed(&store), Vec::<Vec<u8>>::new());
    let add = Edit::Add { delta: 1, deadline: Deadline::NEVER };
    store.write(bucket, b"a", at(1), |_| (add, ())).expect("there is room");
    assert_eq!(listed(&store), [b"a"]);
    let add = Edit::Add { delta: 1, deadline: Deadline::NEVER };
    store.write(bucket, b"a", at(1), |_| (add, ())).expect("there is room");
    assert_eq!(listed(&store), [b"a"], "a counter that goes on");
    store.write(bucket, b"a", at(2), |_| (Edit::Keep, ())).expect("there is room");
    assert!(listed(&store).is_empty(), "nothing was changed");
}

#[test]
fn a_change_while_the_notes_are_worked_off_is_not_lost() {
    let store = tracking_store(1, 1 << 20);
    let bucket = store.database(0);
    set(&store, bucket, "k", "first", at(0));
    let taken = store.take_changes(bucket);
    // Its flag is still set, so this is not listed; but its content is read only now.
    set(&store, bucket, "k", "second", at(1));
    let [(_, noted)] = &taken[..] else { panic!("one shard has changed") };
    let NotedKeys::Listed(keys) = &noted.keys else { panic!("the budget is large enough") };
    let visited = store.visit_noted(bucket, keys, |_, entry| {
        let value = entry.expect("it is there").register.value.expect("a value");
        assert_eq!(value.bytes, "second");
        Ok::<_, Infallible>(())
    });
    visited.expect("nothing fails");
    set(&store, bucket, "k", "third", at(2));
    assert_eq!(listed(&store), [b"k"]);
}

#[test]
fn what_was_taken_in_vain_is_noted_again() {
    let store = tracking_store(1, 1 << 20);
    let bucket = store.database(0);
    set(&store, bucket, "stays", "v", at(0));
    set(&store, bucket, "goes", "v", at(0));
    let taken = store.take_changes(bucket);
    store.flush(bucket, at(1));
    set(&store, bucket, "stays", "v", at(2));
    for (_, noted) in taken {
        let NotedKeys::Listed(keys) = noted.keys else { panic!("the budget is large enough") };
        store.note_again(bucket, &keys);
    }
    assert!(!store.holds(bucket, b"goes") && store.holds(bucket, b"stays"));
    assert_eq!(listed(&store), [&b"goes"[..], b"stays"]);
    assert_eq!(store.change_bytes(), 0, "all were taken");
}

#[test]
fn an_empty_bucket_with_notes_is_not_forgotten() {
    let store = tracking_store(1, 1 << 20);
    let name = BucketName::new("transient").expect("a name");
    let bucket = store.open_bucket(&name).expect("there is room");
    set(&store, &bucket, "k", "v", at(0));
    store.take_changes(&bucket);
    store.write(&bucket, b"k", at(1), |_| (Edit::Delete, ())).expect("there is room");
    drop(bucket);
    let sweep = || {
        let mut sweeper = Sweeper::default();
        while !store.sweep(&mut sweeper, at(5), Hlc::from_wall(at(5))).round_done {}
    };
    sweep();
    sweep();
    let bucket = store.find_bucket(&name).expect("whoever keeps a copy has yet to hear of it");
    assert_eq!(store.take_changes(&bucket).len(), 1);
    drop(bucket);
    sweep();
    assert!(store.find_bucket(&name).is_none());
}

#[test]
fn a_walk_visits_everything_that_stays_while_the_table_grows() {
    let store = tracking_store(1, 1 << 20);
    let bucket = store.database(0);
    for n in 0..20_000 {
        set(&store, bucket, &format!("old-{n}"), "v", at(0));
    }
    let mut seen = std::collections::HashSet::new();
    let mut more = 0;
    for shard in 0..SHARD_COUNT {
        let mut next = Some(Walk::of(shard));
        while let Some(walk) = next {
            let stepped = store.walk(bucket, (walk, Selection::Copy), |key, _| {
                seen.insert(key.to_vec());
                Ok::<_, Infallible>(())
            });
            next = stepped.expect("nothing fails");
            for _ in 0..40 {
                more += 1;
                set(&store, bucket, &format!("new-{more}"), "v", at(1));
            }
        }
    }
    let missing = (0..20_000).filter(|n| !seen.contains(format!("old-{n}").as_bytes())).count();
    assert_eq!(missing, 0);
}

#[test]
fn refused_writes_change_nothing_and_merges_go_on() {
    use crate::store::gate::Obstacle;
    let store = store_of(1);
    let bucket = store.database(0);
    set(&store, bucket, "k", "v", at(0));
    store.set_obstacle(Some(Obstacle::Loading));
    for edit in [Edit::Delete, Edit::Expire(Deadline::at_millis(1))] {
        let refused = store.write(bucket, b"k", at(1), |_| (edit, ())).map(|_| ());
        assert_eq!(refused, Err(WriteError::Obstacle(Obstacle::Loading)));
    }
    assert!(store.write(bucket, b"k", at(1), |_| (Edit::Keep, ())).is_ok());
    let other = store_of(2);
    set(&other, other.database(0), "k", "theirs", at(5));
    let theirs = other.entry(other.database(0), b"k").expect("just set");
    assert_eq!(store.merge(bucket, b"k", &theirs), Ok(true));
    assert_eq!(get(&store, bucket, "k", at(6)).as_deref(), Some("theirs"));
    store.set_obstacle(None);
    assert!(store.write(bucket, b"k", at(7), |_| (Edit::Delete, ())).is_ok());
}
