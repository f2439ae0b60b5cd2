//! The ops that this node holds for its links: runs by origin, under one budget.
//!
//! A link is a position and nothing else, so a slow one costs memory for nobody: once its position
//! is no longer covered it is told so, and a sync takes over.

use crate::clock::Hlc;
use crate::store::outbox::Run;
use crate::wire::op::{Ops, Place};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use uuid::Uuid;

/// The logs of all origins.
#[derive(Debug)]
pub(super) struct Logs {
    origins: BTreeMap<Uuid, VecDeque<Kept>>,
    /// Whose run came when: the oldest goes first, whoever made it.
    arrivals: BTreeMap<u64, Uuid>,
    next_arrival: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Kept {
    run: Run,
    arrival: u64,
}

impl Logs {
    pub(super) fn new(bytes_max: usize) -> Logs {
        let (origins, arrivals) = (BTreeMap::new(), BTreeMap::new());
        Logs { origins, arrivals, next_arrival: 0, bytes: 0, bytes_max }
    }

    /// Appends a run. One that does not follow the last begins the origin's log anew; one that
    /// repeats the end of the last is fine.
    pub(super) fn push(&mut self, origin: Uuid, run: Run) {
        let end = self.origins.get(&origin).and_then(VecDeque::back).map(|kept| kept.run.end_seq());
        if end.is_some_and(|end| run.first_seq > end) {
            self.restart(origin);
        }
        self.bytes += run.bytes();
        let arrival = self.next_arrival;
        self.next_arrival += 1;
        self.arrivals.insert(arrival, origin);
        self.origins.entry(origin).or_default().push_back(Kept { run, arrival });
        while self.bytes > self.bytes_max && self.arrivals.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Forgets an origin's runs: what comes next does not follow them.
    pub(super) fn restart(&mut self, origin: Uuid) {
        for kept in self.origins.remove(&origin).into_iter().flatten() {
            self.bytes -= kept.run.bytes();
            self.arrivals.remove(&kept.arrival);
        }
    }

    /// Drops the oldest runs of those that are settled until `keep_bytes` are left. `settled` gives
    /// the number up to which an origin's ops are.
    pub(super) fn settle(&mut self, settled: impl Fn(Uuid) -> u64, keep_bytes: usize) {
        let oldest = self.origins.iter().filter_map(|(origin, runs)| {
            runs.front().map(|kept| (Reverse(kept.arrival), *origin, settled(*origin)))
        });
        let mut oldest: BinaryHeap<_> = oldest.collect();
        while self.bytes > keep_bytes {
            let Some((_, origin, settled)) = oldest.pop() else { return };
            let Some(runs) = self.origins.get_mut(&origin) else { continue };
            let Some(kept) = runs.pop_front_if(|kept| kept.run.end_seq() - 1 <= settled) else {
                continue;
            };
            self.bytes -= kept.run.bytes();
            self.arrivals.remove(&kept.arrival);
            match runs.front() {
                Some(next) => oldest.push((Reverse(next.arrival), origin, settled)),
                None => drop(self.origins.remove(&origin)),
            }
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, origin)) = self.arrivals.pop_first() else { return };
        let Some(runs) = self.origins.get_mut(&origin) else { return };
        if let Some(kept) = runs.pop_front() {
            self.bytes -= kept.run.bytes();
        }
        if runs.is_empty() {
            self.origins.remove(&origin);
        }
    }

    /// The run that holds the op after number `after`, if it is still kept.
    pub(super) fn find(&self, origin: Uuid, after: u64) -> Option<&Run> {
        let runs = self.origins.get(&origin)?;
        let at = runs.partition_point(|kept| kept.run.end_seq() <= after + 1);
        let run = &runs.get(at)?.run;
        (run.first_seq <= after + 1).then_some(run)
    }

    /// The origin's oldest run that is still kept.
    pub(super) fn oldest(&self, origin: Uuid) -> Option<&Run> {
        Some(&self.origins.get(&origin)?.front()?.run)
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The stamp of the op with number `seq` in `run`; the run's last where it cannot be told.
pub(super) fn stamp_of(run: &Run, origin: Uuid, seq: u64) -> Hlc {
    let (first_seq, base, count) = (run.first_seq, run.base, run.count);
    let packed = run.pack();
    let mut ops = Ops::new(&packed, Place { origin, first_seq, base, count });
    let found = ops.find_map(|op| op.ok().filter(|(number, ..)| *number == seq));
    found.map_or(run.last, |(_, stamp, _)| stamp.hlc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::outbox::Body;
    use bytes::Bytes;

    fn run(first_seq: u64, count: u32) -> Run {
        let body = Body::Packed(Bytes::from(vec![0; 1_000]));
        Run { first_seq, count, base: Hlc::ZERO, last: Hlc::from_bits(first_seq), body }
    }

    #[test]
    fn what_is_settled_goes_oldest_first_and_the_rest_stays() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let run_bytes = run(1, 1).bytes();
        let mut logs = Logs::new(1 << 20);
        for round in 0..4 {
            logs.push(one, run(1 + 10 * round, 10));
            logs.push(two, run(1 + 5 * round, 5));
        }
        let settled = |origin: Uuid| if origin == one { 29 } else { u64::MAX };
        logs.settle(settled, 6 * run_bytes);
        assert_eq!(logs.bytes(), 6 * run_bytes);
        assert!(logs.find(one, 9).is_none() && logs.find(two, 4).is_none(), "one of each went");
        assert!(logs.find(one, 10).is_some() && logs.find(two, 5).is_some());
        logs.settle(settled, 0);
        assert_eq!(logs.bytes(), 2 * run_bytes);
        assert_eq!(logs.find(one, 20).map(|run| run.first_seq), Some(21), "a part is not settled");
        assert_eq!(logs.find(two, 15), None);
        logs.push(two, run(21, 1));
        assert!(logs.find(two, 20).is_some(), "it goes on where it was");
        logs.restart(one);
        logs.restart(two);
        assert_eq!((logs.bytes(), logs.arrivals.len()), (0, 0));
    }

    #[test]
    fn a_position_is_found_or_known_to_be_lost() {
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut logs = Logs::new(4 * run(1, 1).bytes());
        logs.push(one, run(1, 10));
        logs.push(one, run(11, 5));
        logs.push(one, run(14, 5));
        let first = |after| logs.find(one, after).map(|run| run.first_seq);
        assert_eq!(
            [first(0), first(9), first(10), first(14)],
            [Some(1), Some(1), Some(11), Some(11)]
        );
        assert_eq!([first(15), first(17), first(18)], [Some(14), Some(14), None], "they overlap");
        assert_eq!(logs.find(two, 0), None);
        logs.push(two, run(1, 1));
        logs.push(two, run(2, 1));
        assert_eq!(logs.find(one, 0), None, "the oldest of all went first");
        assert!(logs.find(one, 10).is_some());
        logs.push(one, run(30, 1));
        assert_eq!(logs.find(one, 10), None, "a gap begins the log anew");
        assert_eq!(logs.find(one, 29).map(|run| run.first_seq), Some(30));
        logs.restart(one);
        logs.restart(two);
        assert_eq!(logs.bytes(), 0);
    }
}
