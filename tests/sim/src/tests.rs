//! The seeds that every run of the tests goes through.

mod followers;
mod forgetting;
mod interleavings;
mod mutants;
mod tampering;

use crate::aim::Aim;
use crate::plan::Plan;
use crate::verdict::judge;
use clap::ValueEnum;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds of the test command; `cargo sim --seeds N` runs more.
const SEED_COUNT: u64 = 4_000;

/// Seeds that failed once, by what they aim at.
const FAILED_ONCE: [(Aim, &[u64]); 6] = [
    (
        Aim::Anything,
        &[
            4_097, 10_983, 18_093, 19_624, 27_508, 28_578, 28_888, 36_720, 53_728, 109_543,
            115_924, 117_205, 145_271, 267_679, 301_241, 303_933, 9_042_888,
        ],
    ),
    (Aim::Anyone, &[19_841, 109_270, 143_314, 174_131, 209_544, 278_812, 324_664]),
    (Aim::Blackouts, &[716, 16_040, 26_542, 27_086, 35_514, 200_849]),
    (Aim::SlowBulk, &[10_998, 14_314, 35_837, 37_841, 43_693]),
    (Aim::LongAbsence, &[11_008, 11_560, 12_471, 16_674, 18_000, 28_748]),
    (Aim::BusyStrangers, &[6_543, 14_128, 22_819]),
];
/// Seeds of each aim that the test command runs.
const AIMED_SEED_COUNT: u64 = 300;

#[test]
fn what_failed_once_does_not_fail_again() {
    for (aim, seeds) in FAILED_ONCE {
        for &seed in seeds {
            let verdict = judge(aim.plan(seed));
            assert_eq!(verdict.faults.first(), None, "cargo sim --aim {aim:?} --seed {seed}");
        }
    }
}

#[test]
fn clusters_converge_whatever_is_aimed_at() {
    for aim in Aim::value_variants() {
        for seed in 0..if *aim == Aim::CalmMesh { 3 } else { AIMED_SEED_COUNT } {
            let verdict = judge(aim.plan(seed));
            assert_eq!(verdict.faults.first(), None, "cargo sim --aim {aim:?} --seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..20 {
        let (first, second) = (judge(Plan::of(seed)), judge(Plan::of(seed)));
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

#[test]
fn clusters_converge_whatever_goes_wrong() {
    let (next, written, audited) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let faults: Vec<String> = std::thread::scope(|scope| {
        let run = || {
            let mut faults = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= SEED_COUNT {
                    return faults;
                }
                let verdict = judge(Plan::of(seed));
                written.fetch_add(verdict.op_count, Ordering::Relaxed);
                audited.fetch_add(verdict.counts.audits, Ordering::Relaxed);
                let tell =
                    |fault: &String| format!("{fault}\n    its story: cargo sim --seed {seed}");
                faults.extend(verdict.faults.first().map(tell));
            }
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no run panics")).collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(written.load(Ordering::Relaxed) > 100 * SEED_COUNT, "hardly anything was written");
    assert!(audited.load(Ordering::Relaxed) > 3 * SEED_COUNT, "hardly anything was audited");
}
