//! What goes wrong: cuts, resets, slow links, clocks that step, processes that die.

use super::{Event, World};
use crate::plan::{Disks, pick};

impl World {
    /// Something goes wrong, as the plan has it.
    pub(super) fn break_something(&mut self) {
        if !self.active {
            return;
        }
        let gap_us = self.dice.u64(1..=2 * self.plan.fault_gap_us);
        self.schedule(self.now_us + gap_us, Event::Fault);
        let kinds = self.plan.faults;
        let weights = [
            kinds.cut,
            kinds.isolate,
            kinds.reset,
            kinds.crash,
            kinds.slow,
            kinds.step,
            kinds.blackout,
        ];
        let mut at = self.dice.u32(..weights.iter().sum::<u32>().max(1));
        let kind = weights.iter().position(|weight| {
            let hit = at < *weight;
            at = at.wrapping_sub(*weight);
            hit
        });
        let (a, b) = *pick(&mut self.dice, &self.plan.dials);
        match kind {
            Some(0) => self.cut(a, b),
            Some(1) => self.isolate(a),
            Some(2) => self.reset(a, b),
            Some(3) => self.crash(a),
            Some(4) => self.slow(a, b),
            Some(5) => {
                let step_us = self.dice.i64(-2_000..=2_000);
                self.nodes[a].skew_us += step_us;
                self.tell(|| format!("the clock of n{a} steps by {step_us} us"));
            }
            Some(6) => {
                (0..self.nodes.len()).filter(|node| *node != b).for_each(|node| self.crash(node))
            }
            _ => {}
        }
    }

    fn cut(&mut self, a: usize, b: usize) {
        let ways = match self.dice.u8(..4) {
            0 => vec![(a, b)],
            1 => vec![(b, a)],
            _ => vec![(a, b), (b, a)],
        };
        self.cut_ways(ways);
    }

    fn isolate(&mut self, node: usize) {
        let ways = self.ways_of(node);
        self.cut_ways(ways);
    }

    /// Cuts everything to and from a node for a while.
    pub(super) fn isolate_for(&mut self, node: usize, for_us: u64) {
        let ways = self.ways_of(node);
        self.cut_for(ways, for_us);
    }

    fn ways_of(&self, node: usize) -> Vec<(usize, usize)> {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        others.flat_map(|other| [(node, other), (other, node)]).collect()
    }

    fn cut_ways(&mut self, ways: Vec<(usize, usize)>) {
        let for_us = *pick(&mut self.dice, &self.plan.cuts_us);
        self.cut_for(ways, for_us);
    }

    fn cut_for(&mut self, ways: Vec<(usize, usize)>, for_us: u64) {
        for &(from, to) in &ways {
            self.network.cut(from, to);
        }
        self.tell(|| format!("cut for {for_us} us: {ways:?}"));
        self.schedule(self.now_us + for_us, Event::Mend(ways));
    }

    /// Takes back a cut.
    pub(super) fn mend(&mut self, ways: &[(usize, usize)]) {
        for &(from, to) in ways {
            self.network.mend(from, to);
        }
        self.schedule(self.now_us, Event::Arrival);
    }

    fn reset(&mut self, a: usize, b: usize) {
        for number in self.network.of(a, Some(b)) {
            let at_us =
                [self.now_us + self.dice.u64(..3_000), self.now_us + self.dice.u64(..3_000)];
            self.network.reset(number, at_us);
            self.tell(|| format!("the connection of n{a} and n{b} is reset"));
            self.schedule(at_us[0], Event::Arrival);
            self.schedule(at_us[1], Event::Arrival);
        }
    }

    fn slow(&mut self, a: usize, b: usize) {
        let slow_us = *pick(&mut self.dice, &[5_000, 20_000]);
        let pair = (a.min(b), a.max(b));
        self.network.slow_us.insert(pair, slow_us);
        let for_us = self.dice.u64(10_000..80_000);
        self.schedule(self.now_us + for_us, Event::Speed(pair.0, pair.1));
    }

    fn crash(&mut self, index: usize) {
        if self.nodes[index].process.is_none() {
            return;
        }
        self.die(index);
        let down_us = *pick(&mut self.dice, &[2_000, 10_000, 60_000]);
        let Disks { lost, old, kept } = self.plan.disks;
        let fate = self.dice.u32(..lost + old + kept);
        if fate < lost {
            self.nodes[index].snapshots.clear();
        } else if fate < lost + old {
            self.rewound |= self.nodes[index].snapshots.len() > 1;
            self.nodes[index].snapshots.truncate(1);
        }
        self.schedule(self.now_us + down_us, Event::Restart(index));
    }

    /// Ends a process, and with it its links.
    pub(super) fn die(&mut self, index: usize) {
        self.tell(|| format!("n{index} dies"));
        // What it wrote in its last moments nobody may ever hear of; the oracle knows.
        if let Some(process) = &mut self.nodes[index].process {
            for op in process.own_ops() {
                self.oracle.note(op);
            }
        }
        self.nodes[index].process = None;
        self.pending_snapshots[index] = None;
        for number in self.network.of(index, None) {
            let at_us = [self.now_us + 500; 2];
            self.network.reset(number, at_us);
            let end = usize::from(self.network.get(number).is_some_and(|c| c.nodes[1] == index));
            self.network.deafen(number, end);
            self.schedule(at_us[0], Event::Arrival);
        }
    }
}
