//! Whether a run ended as it must: everyone with the same, and with what the oracle says.

use crate::node::START_US;
use crate::oracle::Shown;
use crate::plan::Plan;
use crate::world::World;
use atoll_core::clock::Now;
use atoll_core::key::BucketName;
use atoll_core::replica::status::{Counts, Readiness, Role};
use std::collections::BTreeMap;

/// How long a cluster may take to become even, in made-up µs.
pub const PATIENCE_US: u64 = 10_000_000;

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// What was not as it must be; empty is good.
    pub faults: Vec<String>,
    /// Equal for equal runs.
    pub digest: u64,
    /// Writes made.
    pub op_count: u64,
    /// Sums over the nodes that lived at the end.
    pub counts: Counts,
    /// Made-up time, in µs.
    pub time_us: u64,
}

/// Runs a plan and judges it.
pub fn judge(plan: Plan) -> Verdict {
    let mut world = World::new(plan);
    world.run(PATIENCE_US);
    verdict(&mut world)
}

/// Judges a run that has ended.
pub fn verdict(world: &mut World) -> Verdict {
    let mut faults = std::mem::take(&mut world.faults);
    if faults.is_empty() {
        check_even(world, &mut faults);
    }
    if faults.is_empty() {
        check_shown(world, &mut faults);
        check_forgotten(world, &mut faults);
    }
    let mut counts = Counts::default();
    for process in world.nodes.iter().filter_map(|node| node.process.as_ref()) {
        let of = process.replica.counts();
        counts.ops_received += of.ops_received;
        counts.ops_duplicate += of.ops_duplicate;
        counts.ops_sent += of.ops_sent;
        counts.syncs_received += of.syncs_received;
        counts.syncs_stale += of.syncs_stale;
        counts.syncs_broken += of.syncs_broken;
        counts.audits += of.audits;
        counts.late_adopted += of.late_adopted;
        counts.skew_refused += of.skew_refused;
    }
    let within_horizon = world.plan.tuning.horizon_ms > world.now_us() / 1_000;
    let excused = world.strangers || world.rewound || world.slow_clock;
    if counts.late_adopted > 0 && within_horizon && !excused {
        faults.push(format!("{} values were late within the horizon", counts.late_adopted));
    }
    if !world.strangers && !world.rewound {
        // What no client would ever have noticed is no less of a fault.
        faults.append(&mut world.divergences);
    }
    let (digest, op_count, time_us) = (world.digest(), world.oracle.len() as u64, world.now_us());
    Verdict { faults, digest, op_count, counts, time_us }
}

fn check_even(world: &World, faults: &mut Vec<String>) {
    if !world.is_even() {
        let mut text = String::from("the nodes do not come to have the same:");
        for node in &world.nodes {
            let vector = node.process.as_ref().map(|process| {
                let marks = process.replica.vector().iter().filter(|(_, mark)| mark.seq > 0);
                marks.map(|(id, mark)| (id.as_u128() >> 64, mark.seq)).collect::<Vec<_>>()
            });
            text += &format!("\n    {} {vector:?}", node.name);
        }
        faults.push(text);
    }
    for (index, node) in world.nodes.iter().enumerate() {
        let Some(process) = &node.process else { continue };
        let moment = node.moment(world.now_us());
        let readiness = process.replica.status(moment).readiness;
        if readiness != Readiness::Ready {
            faults.push(format!("n{index} is not ready but {}", readiness.as_str()));
        }
    }
}

/// Whether a client sees the same at each node.
pub fn show_the_same(world: &World) -> bool {
    let now = Now::from_micros(START_US + world.now_us());
    let mut shown = (0..world.nodes.len()).map(|index| shown_by(world, index, now));
    let first = shown.next();
    shown.all(|other| Some(other) == first)
}

fn check_shown(world: &World, faults: &mut Vec<String>) {
    let now = Now::from_micros(START_US + world.now_us());
    let shown: Vec<BTreeMap<(BucketName, Vec<u8>), Shown>> =
        (0..world.nodes.len()).map(|index| shown_by(world, index, now)).collect();
    for (index, other) in shown.iter().enumerate().skip(1) {
        for (key, value) in other {
            if shown[0][key] != *value {
                faults.push(format!("{key:?}: n0 shows {:?}, n{index} {value:?}", shown[0][key]));
            }
        }
    }
    let Some(process) = world.nodes[0].process.as_ref().filter(|_| !world.strangers) else {
        return;
    };
    for (key, want) in world.oracle.shown(process.replica.vector(), now) {
        if shown[0][&key] != want {
            faults
                .push(format!("{key:?}: everyone shows {:?}, the oracle {want:?}", shown[0][&key]));
        }
    }
}

fn shown_by(world: &World, index: usize, now: Now) -> BTreeMap<(BucketName, Vec<u8>), Shown> {
    let mut shown = BTreeMap::new();
    let Some(process) = &world.nodes[index].process else { return shown };
    for database in 0..2 {
        let bucket = process.store.database(database);
        for key in 0..world.plan.key_count {
            let key = vec![b'a' + key as u8];
            let value = process.store.read(bucket, &key, now, |view| match view {
                Some(view) => {
                    Shown::Holds(view.value().to_bytes().to_vec(), view.deadline().millis())
                }
                None => Shown::Nothing,
            });
            shown.insert((bucket.name().clone(), key), value);
        }
    }
    shown
}

/// In a healthy cluster nothing dead is kept for long.
fn check_forgotten(world: &World, faults: &mut Vec<String>) {
    for (index, node) in world.nodes.iter().enumerate() {
        let Some(process) = &node.process else { continue };
        let dead = process.dead_count();
        if dead > 0 {
            let status = process.replica.status(node.moment(world.now_us()));
            let role = if node.role == Role::Master { "" } else { " (a replica)" };
            faults.push(format!(
                "n{index}{role} still keeps {dead} dead records; its floor is {} ms old",
                status.floor_age_ms
            ));
        }
    }
}
