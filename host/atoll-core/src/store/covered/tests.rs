//! What another node knew of a key, against what this one knows.

use crate::clock::{Hlc, Now};
use crate::entry::Deadline;
use crate::replica::vector::{Mark, Vector};
use crate::store::Store;
use crate::store::edit::Edit;
use crate::store::sweep::Sweeper;
use crate::store::tests::{at, set, store_of};
use uuid::Uuid;

const PLAIN: &str = "page";

/// Everything that these origins have stamped up to then.
fn up_to(marks: &[(u128, Now)]) -> Vector {
    let marks = marks.iter().map(|(origin, now)| {
        (Uuid::from_u128(*origin), Mark { seq: 1, head: Hlc::from_wall(*now) })
    });
    marks.collect()
}

fn write(store: &Store, now: Now, edit: Edit<'_>) {
    let written = store.write(store.database(0), PLAIN.as_bytes(), now, |_| (edit, ()));
    written.expect("there is room");
}

#[track_caller]
fn check(store: &Store, theirs: &[(u128, Now)], want: bool) {
    let ours = up_to(&[(1, at(1_000)), (2, at(1_000))]);
    let bucket = store.database(0);
    let found = store.is_covered((bucket, PLAIN.as_bytes()), &up_to(theirs), &ours);
    assert_eq!(found, want, "{theirs:?}");
}

#[test]
fn a_node_knows_a_key_where_it_knows_the_latest_write_of_it() {
    let store = store_of(1);
    check(&store, &[], true);
    set(&store, store.database(0), PLAIN, "a", at(10));
    check(&store, &[(1, at(9))], false);
    check(&store, &[(1, at(11))], true);
    check(&store, &[(2, at(11))], false);
    set(&store, store.database(0), PLAIN, "b", at(20));
    check(&store, &[(1, at(11))], false);
    write(&store, at(30), Edit::Expire(Deadline::at_millis(at(5_000).millis())));
    check(&store, &[(1, at(21))], false);
    check(&store, &[(1, at(31))], true);
}

#[test]
fn increments_and_flushes_count_as_well() {
    let store = store_of(1);
    let add = || Edit::Add { delta: 1, deadline: Deadline::NEVER };
    write(&store, at(10), add());
    check(&store, &[(1, at(9))], false);
    check(&store, &[(1, at(11))], true);
    write(&store, at(20), add());
    check(&store, &[(1, at(11))], false);
    store.flush(store.database(0), at(30));
    check(&store, &[(1, at(21))], false);
    check(&store, &[(1, at(31))], true);
}

#[test]
fn what_was_deleted_and_forgotten_may_have_been_unknown_elsewhere() {
    let store = store_of(1);
    set(&store, store.database(0), PLAIN, "a", at(10));
    write(&store, at(20), Edit::Delete);
    check(&store, &[(1, at(11)), (2, at(1_000))], false);
    let mut sweeper = Sweeper::default();
    while !store.sweep(&mut sweeper, at(500), Hlc::from_wall(at(400))).round_done {}
    assert!(store.entry(store.database(0), PLAIN.as_bytes()).is_none(), "it is forgotten");
    check(&store, &[(1, at(11)), (2, at(1_000))], false);
    check(&store, &[(1, at(400)), (2, at(11))], false);
    check(&store, &[(1, at(400)), (2, at(400))], true);
    // Of one that is gone nothing more is known here than there.
    let ours = up_to(&[(1, at(1_000)), (2, at(5))]);
    let theirs = up_to(&[(1, at(400)), (2, at(5))]);
    assert!(store.is_covered((store.database(0), PLAIN.as_bytes()), &theirs, &ours));
}
