//! A run whose every step is given: for interleavings that dice hardly ever throw.

use super::World;
use crate::disk::Snapshot;
use crate::node::Process;
use crate::plan::{Plan, Topology};
use crate::verdict::{PATIENCE_US, Verdict, verdict};
use atoll_core::entry::Deadline;
use atoll_core::replica::status::Role;
use atoll_core::replica::tuning::Rules;
use atoll_core::store::edit::{Edit, NewValue};

impl World {
    /// A quiet cluster of masters: who dials whom is given, and nothing is written and nothing
    /// goes wrong by itself.
    pub fn scripted(dials: &[(usize, usize)], rules: Rules) -> World {
        let count = dials.iter().map(|(a, b)| 1 + a.max(b)).max().unwrap_or(1);
        let mut plan = Plan::of(0);
        plan.topology = Topology::Line;
        plan.roles = vec![Role::Master; count];
        plan.skews_us = vec![0; count];
        plan.dials = dials.to_vec();
        plan.delay_us = (50, 200);
        (plan.active_us, plan.fault_gap_us, plan.key_count) = (0, u64::MAX, 4);
        plan.tuning.silence_ms = 1_000;
        plan.tuning.log_bytes_max = 1 << 20;
        plan.tuning.live_window_bytes = 1 << 20;
        plan.tuning.bulk_window_bytes = 1 << 20;
        plan.rules = rules;
        let mut world = World::new(plan);
        world.active = false;
        world
    }

    /// A client sets a key of database 0 at a node.
    pub fn set(&mut self, node: usize, key: &str, value: Vec<u8>) {
        self.edit(node, key, Edit::set(NewValue::Owned(value), Deadline::NEVER));
    }

    /// A client deletes a key of database 0 at a node.
    pub fn delete(&mut self, node: usize, key: &str) {
        self.edit(node, key, Edit::Delete);
    }

    fn edit(&mut self, index: usize, key: &str, edit: Edit) {
        let now = self.nodes[index].moment(self.now_us).wall;
        let process = self.process(index);
        let bucket = process.store.database(0);
        let written = process.store.write(bucket, key.as_bytes(), now, |_| (edit, ()));
        written.expect("there is room");
        self.poll(index);
    }

    /// The process of a node that is up.
    pub fn process(&self, index: usize) -> &Process {
        self.nodes[index].process.as_ref().expect("it is up")
    }

    /// Cuts two nodes off from one another.
    pub fn part(&mut self, a: usize, b: usize) {
        self.network.cut(a, b);
        self.network.cut(b, a);
        for number in self.network.of(a, Some(b)) {
            self.network.reset(number, [self.now_us; 2]);
        }
    }

    /// Links them again.
    pub fn unite(&mut self, a: usize, b: usize) {
        self.mend(&[(a, b), (b, a)]);
    }

    /// Keeps bulk frames from one node to another back.
    pub fn hold_bulk(&mut self, from: usize, to: usize) {
        self.network.held.insert((from, to));
    }

    /// Lets them through.
    pub fn release_bulk(&mut self, from: usize, to: usize) {
        self.network.held.remove(&(from, to));
        self.schedule(self.now_us, super::Event::Arrival);
    }

    /// A process ends; it has left its state on the disk.
    pub fn stop(&mut self, index: usize) {
        let process = self.process(index);
        let snapshot = Snapshot::take(process.replica.saved(), &process.store);
        self.nodes[index].snapshots = vec![snapshot];
        self.die(index);
    }

    /// A process ends, and its disk is lost.
    pub fn lose(&mut self, index: usize) {
        self.nodes[index].snapshots.clear();
        self.die(index);
    }

    /// A process starts over what the disk holds.
    pub fn start(&mut self, index: usize) {
        self.restart(index);
    }

    /// Waits until the cluster is quiet, and judges.
    pub fn end(&mut self) -> Verdict {
        self.run(PATIENCE_US);
        verdict(self)
    }
}
