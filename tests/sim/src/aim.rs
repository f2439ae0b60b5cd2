//! Plans that are aimed: as random as any, but about one kind of trouble, so that they meet it
//! often.

use crate::plan::{Disks, Edits, Plan, Topology, links, pick};
use atoll_core::replica::status::Role;
use fastrand::Rng;
use std::ops::Range;

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Aim {
    /// All kinds, as they come.
    Anything,
    /// The same, and nodes that dial nobody are among those that die.
    Anyone,
    /// Nothing goes wrong between many nodes that are all linked.
    CalmMesh,
    /// All but one die at once, and their disks come back in an old state or not at all.
    Blackouts,
    /// Syncs take far longer than what is streamed.
    SlowBulk,
    /// The same, to replicas, for whom nobody waits.
    SlowReplicas,
    /// A node starts alone, takes writes, and meets the others when they have forgotten some.
    Strangers,
    /// The same with counters and many more writes.
    BusyStrangers,
    /// Nodes are away for longer than the horizon.
    LongAbsence,
}

impl Aim {
    /// The plan that `seed` stands for.
    pub fn plan(self, seed: u64) -> Plan {
        let mut plan = Plan::of(seed);
        let dice = &mut Rng::with_seed(seed ^ 0xa1f);
        match self {
            Aim::Anything => {}
            Aim::Anyone => plan.turn_dials(dice),
            Aim::CalmMesh => plan.calm_mesh(),
            Aim::Blackouts => plan.blackouts(dice),
            Aim::SlowBulk => {
                plan.masters(dice, 3..5);
                plan.faults.crash = 8;
                plan.slow_bulk(dice);
            }
            Aim::SlowReplicas => {
                plan.masters(dice, 1..3);
                plan.add_replicas(dice, 1..3);
                plan.faults.crash = 0;
                plan.slow_bulk(dice);
            }
            Aim::Strangers => {
                plan.stranger(dice);
                (plan.edits, plan.write_gap_us) = (Edits::Values, 1_500);
            }
            Aim::BusyStrangers => {
                plan.stranger(dice);
                (plan.edits, plan.write_gap_us) = (Edits::All, 300);
            }
            Aim::LongAbsence => {
                plan.masters(dice, 3..5);
                plan.edits = Edits::Values;
                plan.tuning.horizon_ms = 40;
                (plan.faults.isolate, plan.faults.crash) = (8, 0);
                plan.cuts_us = [20_000, 60_000, 100_000, 150_000];
                plan.active_us = *pick(dice, &[120_000, 200_000]);
            }
        }
        plan
    }
}

impl Plan {
    fn calm_mesh(&mut self) {
        let count = 7;
        self.topology = Topology::Mesh;
        self.roles = vec![Role::Master; count];
        self.skews_us = vec![0; count];
        self.dials = (0..count).flat_map(|a| (0..a).map(move |b| (a, b))).collect();
        (self.fault_gap_us, self.active_us) = (u64::MAX, 300_000);
        (self.write_gap_us, self.delay_us) = (300, (50, 200));
        self.tuning.log_bytes_max = 1 << 20;
        self.tuning.live_window_bytes = 1 << 20;
    }

    fn blackouts(&mut self, dice: &mut Rng) {
        self.masters(dice, 2..4);
        if dice.bool() {
            self.add_replicas(dice, 1..3);
        }
        self.disks = Disks { lost: 1, old: 2, kept: 0 };
        (self.faults.crash, self.faults.blackout) = (0, 10);
        self.fault_gap_us = 25_000;
        self.active_us = *pick(dice, &[90_000, 120_000, 200_000]);
        self.key_count = 16;
        // What is deleted must be forgotten before the lights go out.
        self.tuning.min_age_ms = 2;
        self.tuning.silence_ms = 100;
    }

    fn slow_bulk(&mut self, dice: &mut Rng) {
        self.bulk_delay_us = (5_000, 60_000);
        self.active_us = *pick(dice, &[60_000, 90_000, 120_000]);
        // Logs that make syncs necessary, and windows that stretch them.
        self.tuning.log_bytes_max = 2_000;
        self.tuning.bulk_window_bytes = 500;
        self.tuning.chunk_bytes = 200;
        self.tuning.silence_ms = 100;
    }

    fn stranger(&mut self, dice: &mut Rng) {
        self.masters(dice, 3..5);
        self.stranger_us = dice.u64(40_000..120_000);
        // It takes writes as soon as it has waited for the others in vain.
        self.tuning.start_grace_ms = 10;
        self.active_us = self.stranger_us + 5_000;
        self.fault_gap_us = u64::MAX;
        self.key_count = 16;
    }

    /// Masters and nothing else, linked anew.
    fn masters(&mut self, dice: &mut Rng, counts: Range<usize>) {
        let count = dice.usize(counts);
        self.topology =
            *pick(dice, &[Topology::Mesh, Topology::Ring, Topology::Line, Topology::Star]);
        self.roles = vec![Role::Master; count];
        self.skews_us.resize(count, 0);
        self.dials = if count > 1 { links(dice, self.topology, count) } else { Vec::new() };
        self.turn_dials(dice);
    }

    /// Lets the other end dial, here and there. In most shapes some node dials nobody, and so never
    /// is the one to die.
    fn turn_dials(&mut self, dice: &mut Rng) {
        for dial in &mut self.dials {
            if dice.bool() {
                *dial = (dial.1, dial.0);
            }
        }
        self.dials.sort_unstable();
        self.dials.dedup();
    }

    /// Replicas, mostly each linked with the node before it.
    fn add_replicas(&mut self, dice: &mut Rng, counts: Range<usize>) {
        for _ in 0..dice.usize(counts) {
            let index = self.roles.len();
            let to = if dice.u8(..3) == 0 { dice.usize(..index) } else { index - 1 };
            self.dials.push(if dice.bool() { (index, to) } else { (to, index) });
            self.roles.push(Role::Replica);
        }
        self.skews_us.resize(self.roles.len(), 0);
    }
}
