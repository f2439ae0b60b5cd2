//! Stores that are changed behind the protocol's back: an audit must find that, and make it good.

use crate::plan::{Plan, Topology};
use crate::verdict::{PATIENCE_US, show_the_same};
use crate::world::World;
use atoll_core::entry::{Deadline, Entry};
use atoll_core::replica::status::Role;
use atoll_core::replica::vector::Vector;
use atoll_core::store::edit::{Edit, NewValue};

const KEY: &[u8] = b"a";

/// A cluster in which nothing goes wrong, after its writes.
pub(super) fn calm(roles: &[Role]) -> World {
    let count = roles.len();
    let all = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
    let plan = Plan {
        topology: Topology::Mesh,
        roles: roles.to_vec(),
        dials: all.filter(|(a, b)| a != b).collect(),
        skews_us: vec![0; count],
        active_us: 10_000,
        fault_gap_us: u64::MAX,
        ..Plan::of(1)
    };
    let mut world = World::new(plan);
    world.run(PATIENCE_US);
    assert_eq!((&world.faults, &world.divergences), (&vec![], &vec![]));
    assert!(world.is_even());
    world
}

/// Makes an edit of the key as a client of a node would.
fn edit(world: &World, index: usize, edit: Edit<'_>) {
    let process = world.process(index);
    let now = world.nodes[index].moment(world.now_us()).wall;
    let written = process.store.write(process.store.database(0), KEY, now, |_| (edit, ()));
    written.expect("there is room");
}

fn entry(world: &World, index: usize) -> Option<Entry> {
    let process = world.process(index);
    process.store.entry(process.store.database(0), KEY)
}

/// Puts `entry` in the place of what a node holds under the key.
fn tamper(world: &mut World, index: usize, entry: &Entry) {
    let process = world.nodes[index].process.as_mut().expect("it is up");
    // That an old value shows again is the point here.
    process.seen.clear();
    let bucket = process.store.database(0);
    let held = process.store.entry(bucket, KEY).unwrap_or_default();
    let everything = Vector::of_all(held.stamps().map(|stamp| stamp.origin));
    process.store.restrict(bucket, KEY, (&Entry::default(), &everything));
    process.store.merge(bucket, KEY, entry).expect("it is an entry");
}

#[track_caller]
fn check_healed(mut world: World, want: Option<&Entry>) {
    assert!(!show_the_same(&world), "there is something to be found");
    world.pass(500_000);
    assert!(!world.divergences.is_empty(), "an audit finds it");
    let found = world.divergences.len();
    for index in 0..world.nodes.len() {
        assert_eq!(entry(&world, index).as_ref(), want, "n{index} holds the same again");
    }
    world.pass(500_000);
    assert_eq!(world.divergences.len(), found, "nothing is left to be found");
    assert!(world.faults.is_empty(), "{:?}", world.faults);
}

fn set(value: &str) -> Edit<'_> {
    Edit::set(NewValue::Copy(value.as_bytes()), Deadline::NEVER)
}

#[test]
fn a_key_that_a_node_has_lost_is_found_and_comes_back() {
    for victim in 0..3 {
        let mut world = calm(&[Role::Master; 3]);
        edit(&world, 0, set("v"));
        world.pass(200_000);
        let held = entry(&world, 0);
        tamper(&mut world, victim, &Entry::default());
        assert_eq!(entry(&world, victim), None);
        check_healed(world, held.as_ref());
    }
}

#[test]
fn of_two_values_under_a_key_the_newer_stays() {
    for victim in 0..2 {
        let mut world = calm(&[Role::Master; 2]);
        edit(&world, 0, set("old"));
        world.pass(200_000);
        let old = entry(&world, 0).expect("it was written");
        edit(&world, 1, set("new"));
        world.pass(200_000);
        let new = entry(&world, 0);
        tamper(&mut world, victim, &old);
        check_healed(world, new.as_ref());
    }
}

#[test]
fn a_count_that_a_node_has_lost_is_found_and_comes_back() {
    let mut world = calm(&[Role::Master; 2]);
    edit(&world, 0, Edit::Delete);
    world.pass(100_000);
    for index in 0..2 {
        edit(&world, index, Edit::Add { delta: 5, deadline: Deadline::NEVER });
    }
    world.pass(200_000);
    let held = entry(&world, 0).expect("it was counted");
    assert_eq!(held.tallies.len(), 2);
    let less = Entry { tallies: held.tallies[1..].to_vec(), ..held.clone() };
    tamper(&mut world, 1, &less);
    check_healed(world, Some(&held));
}

#[test]
fn a_replica_takes_over_what_its_master_holds() {
    let roles = [Role::Master, Role::Replica];
    let mut world = calm(&roles);
    edit(&world, 0, set("v"));
    world.pass(200_000);
    let held = entry(&world, 0).expect("it was written");
    tamper(&mut world, 1, &Entry::default());
    check_healed(world, Some(&held));

    let mut world = calm(&roles);
    edit(&world, 0, Edit::Delete);
    world.pass(200_000);
    assert_eq!(entry(&world, 0), None, "forgotten");
    tamper(&mut world, 1, &held);
    check_healed(world, None);
}

#[test]
fn what_is_being_written_is_no_divergence() {
    let mut world = calm(&[Role::Master; 3]);
    for round in 0..300 {
        edit(&world, round % 3, set("v"));
        world.pass(1_000);
    }
    let audits: u64 = (0..3).map(|index| audits_of(&world, index)).sum();
    assert!(audits > 6, "audits go on meanwhile: {audits}");
    assert_eq!(world.divergences, Vec::<String>::new());
}

fn audits_of(world: &World, index: usize) -> u64 {
    world.process(index).replica.counts().audits
}
