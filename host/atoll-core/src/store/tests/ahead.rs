//! Runs that are looked up ahead, beside the same ops applied one by one.

use super::super::ahead::Late;
use super::super::outbox::{Body, Reader};
use super::*;
use crate::key::BucketName;
use crate::wire::op::{Ops, Place};

/// Writes to few keys, so that many of them follow one another in a run.
fn any_write() -> impl Strategy<Value = (u8, Step)> {
    (0..3_u8, any_step().prop_filter("a write", |step| !matches!(step, Step::Sweep)))
}

fn bucket_of(store: &Store, bucket: u8) -> Arc<Bucket> {
    let name = BucketName::new(["default", "3", "named"][usize::from(bucket)]).expect("a name");
    store.open_bucket(&name).expect("there is room")
}

fn write(store: &Store, (bucket, step): &(u8, Step), now: Now) {
    let bucket = bucket_of(store, *bucket);
    let edit = |key: u8, edit: Edit<'_>| {
        store.write(&bucket, &[key], now, |_| (edit, ())).expect("there is room");
    };
    match *step {
        Step::Set { key, bytes, ttl_ms, with_attributes } => {
            let content_type = with_attributes.then(|| "text/plain".into());
            let attributes = Attributes { content_type, ..Attributes::default() };
            let value = vec![b'1'; bytes];
            edit(
                key,
                Edit::Set {
                    value: NewValue::Copy(&value),
                    deadline: deadline_of(ttl_ms, now),
                    attributes: Some(Arc::new(attributes)),
                },
            );
        }
        Step::Delete { key } => edit(key, Edit::Delete),
        Step::Expire { key, ttl_ms } => edit(key, Edit::Expire(deadline_of(ttl_ms, now))),
        Step::Add { key, delta } => edit(key, Edit::Add { delta, deadline: Deadline::NEVER }),
        Step::Flush => drop(store.flush(&bucket, now)),
        Step::Sweep | Step::Wait { .. } => {}
    }
}

/// What the writer has written since the last time, as runs.
fn runs_of(writer: &Store) -> Vec<(Place, Bytes)> {
    let (runs, _) = writer.take_outbox(Reader::Present);
    let packed = runs.iter().map(|run| {
        let (first_seq, base, count) = (run.first_seq, run.base, run.count);
        assert!(matches!(run.body, Body::Packed(_)) || count == 1);
        (Place { origin: writer.origin(), first_seq, base, count }, run.pack())
    });
    packed.collect()
}

/// Applies a run with its keys looked up ahead; returns how many of its ops were joined as common
/// ones.
fn apply_ahead(store: &Store, (place, run): &(Place, Bytes), now: Now) -> usize {
    let (mut ahead, mut joined) = (store.look_ahead(Ops::new(run, *place), 0), 0);
    while let Some(op) = ahead.next() {
        let (_, stamp, effect) = op.expect("it was written as an op");
        assert!(stamp.hlc <= ahead.newest());
        store.witness(stamp.hlc);
        match ahead.join((stamp, &effect), Late::Leave).expect("there is room") {
            true => joined += 1,
            false => drop(store.apply_effect(stamp, &effect, (now, run)).expect("there is room")),
        }
    }
    joined
}

proptest! {
    #[test]
    fn a_run_that_is_looked_up_ahead_leaves_what_its_ops_leave_one_by_one(
        steps in proptest::collection::vec(any_write(), 1..80),
    ) {
        let (writer, ahead, one_by_one) = (store_of(1), store_of(2), store_of(2));
        writer.take_outbox(Reader::Present);
        let mut now = at(0);
        for step in &steps {
            if let Step::Wait { millis } = step.1 {
                now = Now::from_millis(now.millis() + millis);
            }
            write(&writer, step, now);
        }
        for run in runs_of(&writer) {
            apply_ahead(&ahead, &run, now);
            for op in Ops::new(&run.1, run.0) {
                let (_, stamp, effect) = op.expect("it was written as an op");
                one_by_one.witness(stamp.hlc);
                one_by_one.apply_effect(stamp, &effect, (now, &run.1)).expect("there is room");
            }
        }
        for bucket in 0..3 {
            for key in 0..4 {
                let held = |store: &Store| store.entry(&bucket_of(store, bucket), &[key]);
                prop_assert_eq!(held(&ahead), held(&one_by_one));
            }
        }
        check_counts(&ahead);
    }
}

#[test]
fn a_run_of_thousands_is_taken_in_windows_to_its_end() {
    let (writer, reader) = (store_of(1), store_of(2));
    writer.take_outbox(Reader::Present);
    for round in 0..2 {
        for n in 0..3_000 {
            set(&writer, writer.database(0), &n.to_string(), &format!("{round}"), at(n));
        }
        let joined: usize =
            runs_of(&writer).iter().map(|run| apply_ahead(&reader, run, at(9))).sum();
        assert_eq!(joined, 3_000);
    }
    for n in 0..3_000 {
        let shown = get(&reader, reader.database(0), &n.to_string(), at(9_000));
        assert_eq!(shown.as_deref(), Some("1"));
    }
    check_counts(&reader);
}

#[test]
fn what_may_have_been_superseded_and_forgotten_is_left_to_the_caller() {
    let (writer, reader) = (store_of(1), store_of(2));
    writer.take_outbox(Reader::Present);
    set(&writer, writer.database(0), "late", "v", at(1));
    set(&reader, reader.database(0), "late", "v", at(2));
    reader.write(reader.database(0), b"late", at(3), |_| (Edit::Delete, ())).expect("room");
    let (mut sweeper, now) = (Sweeper::default(), at(4));
    while !reader.sweep(&mut sweeper, now, Hlc::from_wall(now)).round_done {}
    let (place, run) = runs_of(&writer).remove(0);
    let mut ahead = reader.look_ahead(Ops::new(&run, place), 0);
    let (_, stamp, effect) = ahead.next().expect("an op").expect("that can be read");
    assert_eq!(ahead.join((stamp, &effect), Late::Leave), Ok(false));
    assert_eq!(get(&reader, reader.database(0), "late", at(5)), None);
    assert_eq!(ahead.join((stamp, &effect), Late::Join), Ok(true));
    assert_eq!(get(&reader, reader.database(0), "late", at(5)).as_deref(), Some("v"));
}
