//! Every protective rule is switched off once, and that must be noticed.

use super::interleavings;
use crate::aim::Aim;
use crate::plan::{Plan, RULES};
use crate::verdict::{Verdict, judge};
use atoll_core::replica::tuning::Rules;

/// Seeds of an aim that are tried at the most. The first is known to catch the mutant; once plans
/// come out differently, one of those that follow will.
const SEEDS_MAX: u64 = 6_000;
/// Seeds that traffic is measured with.
const TRAFFIC_SEED_COUNT: u64 = 3;
/// Sends for each op that are enough in a mesh of seven: six, and a few until the first prunes
/// are there. Without any there are about 35.
const SENDS_MAX: f64 = 8.0;

/// How the absence of a rule is noticed.
#[derive(Clone, Copy, Debug)]
enum Catch {
    /// A run of this aim goes wrong, at this seed or a later one.
    Aimed(Aim, u64),
    /// An interleaving goes wrong where nothing is pinned: the pin is the other rule that would
    /// catch it.
    Scripted(fn(Rules) -> Verdict),
    /// In a calm mesh of seven, ops are sent far more often than there are nodes.
    Traffic,
}

/// A rule, and how its absence is noticed.
const MUTANTS: [(&str, Catch); 14] = [
    ("proof", Catch::Aimed(Aim::Anything, 51)),
    ("second-order", Catch::Aimed(Aim::Anything, 1_232)),
    ("receiver", Catch::Scripted(interleavings::a_sync_that_is_overtaken)),
    ("stale", Catch::Aimed(Aim::Anything, 118)),
    ("exclusive", Catch::Aimed(Aim::Anything, 2_106)),
    ("hold", Catch::Aimed(Aim::Blackouts, 828)),
    ("relay", Catch::Aimed(Aim::Blackouts, 1_408)),
    ("pin", Catch::Aimed(Aim::SlowReplicas, 574)),
    ("floor-travels", Catch::Aimed(Aim::Blackouts, 27)),
    ("above-floor", Catch::Aimed(Aim::LongAbsence, 32)),
    ("adopt", Catch::Aimed(Aim::LongAbsence, 5)),
    ("join", Catch::Scripted(interleavings::a_life_in_hiding)),
    ("retire", Catch::Aimed(Aim::Anything, 6)),
    ("prune", Catch::Traffic),
];

/// Goes wrong without the rule and does not with it.
#[track_caller]
fn check(rule: &str) {
    let row = MUTANTS.iter().find(|(name, _)| *name == rule);
    let (_, catch) = row.expect("the table has every rule");
    let without = without(rule);
    match *catch {
        Catch::Aimed(aim, from) => {
            let faulty =
                |seed: &u64, rules| !judge(Plan { rules, ..aim.plan(*seed) }).faults.is_empty();
            let seed = (from..from + SEEDS_MAX)
                .find(|seed| faulty(seed, without) && !faulty(seed, Rules::ALL));
            assert!(seed.is_some(), "without {rule} nothing goes wrong");
        }
        Catch::Scripted(run) => {
            for rules in [Rules::ALL, Rules { pin: false, ..Rules::ALL }, without] {
                let verdict = run(rules);
                assert!(verdict.faults.is_empty(), "{rules:?}: {:#?}", verdict.faults);
            }
            let unpinned = run(Rules { pin: false, ..without });
            assert!(!unpinned.faults.is_empty(), "without {rule} nothing goes wrong");
        }
        Catch::Traffic => {
            let (sends, most) = (sends_by_op(Rules::ALL), sends_by_op(without));
            assert!(sends < SENDS_MAX, "{sends} sends for each op");
            assert!(most > 2.0 * SENDS_MAX, "without {rule} only {most} sends for each op");
        }
    }
}

fn without(rule: &str) -> Rules {
    let (_, switch) = RULES.iter().find(|(name, _)| *name == rule).expect("it is a rule");
    let mut rules = Rules::ALL;
    switch(&mut rules);
    rules
}

fn sends_by_op(rules: Rules) -> f64 {
    let (mut sent, mut written) = (0, 0);
    for seed in 0..TRAFFIC_SEED_COUNT {
        let verdict = judge(Plan { rules, ..Aim::CalmMesh.plan(seed) });
        assert!(verdict.faults.is_empty(), "seed {seed}: {:?}", verdict.faults);
        sent += verdict.counts.ops_sent;
        written += verdict.op_count;
    }
    sent as f64 / written as f64
}

/// Each rule on its own; one that is new does not compile until it is named here.
fn switches(rules: Rules) -> [bool; MUTANTS.len()] {
    let Rules {
        proof,
        second_order,
        receiver,
        stale,
        exclusive,
        hold,
        relay,
        pin,
        floor_travels,
        above_floor,
        adopt,
        join,
        retire,
        prune,
    } = rules;
    [
        proof,
        second_order,
        receiver,
        stale,
        exclusive,
        hold,
        relay,
        pin,
        floor_travels,
        above_floor,
        adopt,
        join,
        retire,
        prune,
    ]
}

#[test]
fn every_rule_has_a_mutant() {
    for (at, (rule, _)) in MUTANTS.iter().enumerate() {
        let left = switches(without(rule));
        let off: Vec<usize> = (0..left.len()).filter(|switch| !left[*switch]).collect();
        assert_eq!(off, [at], "{rule} is switched off, and nothing else");
    }
}

#[test]
fn without_proof_what_is_dead_comes_back() {
    check("proof");
}

#[test]
fn without_the_second_floor_writes_in_ignorance_come_late() {
    check("second-order");
}

#[test]
fn without_the_receiver_rule_an_overtaken_sync_brings_back_what_was_deleted() {
    check("receiver");
}

#[test]
fn without_the_stale_rule_an_old_disk_keeps_what_others_forgot() {
    check("stale");
}

#[test]
fn without_exclusive_syncs_old_writes_slip_in_behind() {
    check("exclusive");
}

#[test]
fn without_holds_half_a_cluster_forgets_too_early() {
    check("hold");
}

#[test]
fn without_relays_what_only_a_dead_one_wrote_splits_the_cluster() {
    check("relay");
}

#[test]
fn without_the_pin_a_replica_never_hears_of_deletes() {
    check("pin");
}

#[test]
fn without_a_travelling_floor_the_next_one_is_served_as_if_fresh() {
    check("floor-travels");
}

#[test]
fn without_the_bar_below_the_floor_old_streams_split_the_cluster() {
    check("above-floor");
}

#[test]
fn without_adoption_what_was_superseded_shows_again() {
    check("adopt");
}

#[test]
fn without_announcements_a_floor_passes_writes_that_nobody_has_mentioned() {
    check("join");
}

#[test]
fn without_retirement_what_is_left_of_the_dead_is_passed_by() {
    check("retire");
}

#[test]
fn without_prunes_everything_is_sent_many_times() {
    check("prune");
}
