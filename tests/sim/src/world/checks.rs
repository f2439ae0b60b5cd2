//! What must hold at every moment, and what excuses a run from it.

use super::World;
use crate::node::Node;
use atoll_core::clock::Hlc;
use atoll_core::replica::LinkId;
use atoll_core::replica::status::Role;
use atoll_core::wire::frame::Frame;
use atoll_core::wire::op::{Ops, Place};
use bytes::Bytes;
use std::collections::BTreeSet;

impl World {
    /// Looks whether a value that was superseded shows again at a node that says it is ready.
    pub(super) fn watch(&mut self, index: usize) {
        let moment = self.nodes[index].moment(self.now_us);
        let may_lose = self.nodes[index].role == Role::Replica;
        let Some(process) = &mut self.nodes[index].process else { return };
        if !process.is_ready(moment) || self.strangers || may_lose {
            process.seen.clear();
            return;
        }
        for database in 0..2 {
            let bucket = std::sync::Arc::clone(process.store.database(database));
            let flushed = process.store.flushed(&bucket);
            for key in 0..self.plan.key_count {
                let key = vec![b'a' + key as u8];
                let Some(entry) = process.store.entry(&bucket, &key) else { continue };
                let seen = process.seen.entry((bucket.name().clone(), key.clone())).or_default();
                let stamp = entry.register.stamp;
                if stamp < *seen && entry.register_alive(moment.wall.millis(), flushed) {
                    let key = String::from_utf8_lossy(&key);
                    self.faults.push(format!(
                        "n{index} shows again what was superseded in {} {key:?}: {stamp} after {seen}",
                        bucket.name()
                    ));
                    return;
                }
                *seen = stamp.max(*seen);
            }
        }
    }

    pub(super) fn check_codec(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        let read = Frame::decode(&Bytes::from(bytes));
        if read.as_ref() != Ok(frame) {
            self.faults.push(format!("a frame came back as {read:?} and not as {frame:?}"));
        }
    }

    /// Who lacks what the sender may have forgotten the successor of is to be sent a sync, which
    /// says what to drop.
    pub(super) fn check_above_floor(
        &mut self,
        (index, peer): (usize, usize),
        link: LinkId,
        frame: &Frame,
    ) {
        let Some(sender) = self.nodes[index].process.as_mut() else { return };
        if let Frame::Origin { index: number, member } = frame {
            sender.numbered.insert((link, *number), member.origin);
        }
        let Frame::Ops { index: number, first_seq, base, count, run } = frame else { return };
        let Some(&origin) = sender.numbered.get(&(link, *number)) else { return };
        let place = Place { origin, first_seq: *first_seq, base: *base, count: *count };
        let first = Ops::new(run, place).next();
        let floor = sender.replica.saved().floor;
        let receiver = self.nodes[peer].process.as_ref();
        // A replica that takes everything anew refuses whatever is streamed.
        let receiver = receiver.filter(|_| self.nodes[peer].role == Role::Master);
        if let (Some(Ok((seq, stamp, _))), Some(receiver)) = (first, receiver)
            && stamp.hlc <= floor
            && !receiver.replica.vector().covers(stamp)
        {
            self.faults.push(format!(
                "n{index} streams op {seq} to n{peer} and may have forgotten what came after it"
            ));
        }
    }

    /// Whether every node so named that is up has met whom it dials, or no longer waits for them:
    /// two halves of a cluster that nobody has introduced to each other. Who has yet to meet a peer
    /// must keep the others from forgetting.
    pub(super) fn have_met_their_peers(&self, names: &BTreeSet<String>) -> bool {
        let up = self.nodes.iter().enumerate().filter(|(_, node)| names.contains(&node.name));
        up.filter_map(|(index, node)| Some((index, node.process.as_ref()?))).all(
            |(index, process)| {
                let waited_us = self.now_us - process.born_us;
                let mut dials = self.plan.dials.iter().filter(|(from, _)| *from == index);
                waited_us >= self.plan.tuning.horizon_ms * 1_000
                    || dials.all(|(_, to)| process.reached.contains(to))
            },
        )
    }

    /// Notes whether a node that is about to write is a stranger with a clock behind what somebody
    /// may already have forgotten.
    pub(super) fn note_slow_clock(&mut self, index: usize) {
        let writer = self.nodes[index].process.as_ref().filter(|writer| !writer.met);
        if writer.is_none() {
            return;
        }
        let clock = self.stamp_now(index);
        let forgets = |node: &Node| {
            let process = node.process.as_ref();
            let floor =
                process.map(|process| process.replica.sweep_floor(node.moment(self.now_us)));
            // Or it had, when it was last up.
            let saved = node.snapshots.iter().map(|snapshot| snapshot.saved.floor).max();
            floor.max(saved)
        };
        let others = self.nodes.iter().enumerate().filter(|(other, _)| *other != index);
        self.slow_clock |= others.filter_map(|(_, node)| forgets(node)).any(|floor| clock <= floor);
    }

    /// The time by a node's clock, as stamps have it.
    fn stamp_now(&self, index: usize) -> Hlc {
        Hlc::from_wall(self.nodes[index].moment(self.now_us).wall)
    }
}
