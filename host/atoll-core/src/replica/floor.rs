//! Up to where everyone has everything, and so what may be forgotten.
//!
//! The floor is the smallest head in the matrix of what every master is known to have of every
//! other. The second-order floor is an older value of it: the one that was in force when the then
//! newest head was still above; once that has passed below, whatever was written by somebody who
//! had not yet seen the older floor's writes has arrived everywhere, too.

use super::{Circumstances, Replica};
use crate::clock::{Hlc, Now};
use crate::replica::status::Role;
use uuid::Uuid;

/// The floors. First and second only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Floor {
    /// Every master has everything stamped up to here.
    pub(super) first: Hlc,
    /// And has it for so long that everyone's writes in ignorance of it have arrived.
    pub(super) second: Hlc,
    /// What the first would be if it could sink: somebody whom this node has met late may lack
    /// what everyone had.
    pub(super) proved: Hlc,
    /// The next second-order floor, and the head that has to pass below the first before.
    pending: Option<(Hlc, Hlc)>,
}

impl Floor {
    /// Takes over a floor that another node has worked out, or that this one once had.
    pub(super) fn adopt(&mut self, first: Hlc) {
        self.first = self.first.max(first);
    }

    /// Raises the first-order floor; `newest` is the newest head of anyone.
    pub(super) fn rise(&mut self, to: Hlc, newest: Hlc) {
        self.first = self.first.max(to);
        self.proved = to;
        match self.pending {
            // By what is proved now: somebody whom this node has only just met may be below.
            Some((second, head)) if to >= head => {
                self.second = self.second.max(second);
                self.pending = Some((self.first, newest));
            }
            Some(_) => {}
            None => self.pending = Some((self.first, newest)),
        }
    }
}

impl Replica {
    /// Works the floor out anew.
    pub(super) fn advance_floor(&mut self, around: Circumstances<'_>) {
        let tuning = &self.settings.tuning;
        let horizon = around.now.at_ms.saturating_sub(tuning.horizon_ms);
        self.members.expire(horizon, self.started_ms);
        let wall_us = around.now.wall.micros().saturating_sub(tuning.min_age_ms * 1_000);
        let oldest = Hlc::from_wall(Now::from_micros(wall_us));
        self.floor.proved = Hlc::ZERO;
        if self.is_held(around.now.at_ms) {
            return;
        }
        let columns: Vec<Uuid> = match self.settings.rules.retire {
            true => self.members.columns(&self.settled_gone(), &self.vector).collect(),
            false => self.members.rows().map(|(id, _)| id).collect(),
        };
        let (mut lowest, mut newest) = (oldest, Hlc::ZERO);
        for (id, known) in self.members.rows() {
            let row = match &known.report {
                _ if id == self.me => &self.vector,
                Some(report) => &report.vector,
                // Somebody who has not said yet what it has may have nothing.
                None => return,
            };
            for &column in &columns {
                let head = row.get(column).head;
                (lowest, newest) = (lowest.min(head), newest.max(head));
            }
        }
        self.floor.rise(lowest, newest);
    }

    /// Whether the floor must not move: somebody who counts has yet to meet its peers. A replica
    /// that has heard of no master knows of nobody who could lack something.
    fn is_held(&self, at_ms: u64) -> bool {
        let mut others = self.members.rows().filter(|(id, _)| *id != self.me).peekable();
        let knows_nobody = self.settings.role == Role::Replica && others.peek().is_none();
        self.settings.rules.hold
            && (self.holds(at_ms)
                || knows_nobody
                || others.filter_map(|(_, known)| known.report.as_ref()).any(|said| said.holds))
    }

    /// Whether this node has yet to meet a configured peer. One that has none waits a little for
    /// whoever may dial it.
    pub(super) fn holds(&self, at_ms: u64) -> bool {
        let waited_ms = at_ms.saturating_sub(self.started_ms);
        if self.endpoints.is_empty() && self.links.is_empty() {
            return waited_ms < self.settings.tuning.start_grace_ms;
        }
        waited_ms < self.settings.tuning.horizon_ms
            && self.endpoints.iter().any(|endpoint| !self.met.contains(endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_floor_waits_for_what_was_newest_when_the_first_was_there() {
        let hlc = Hlc::from_bits;
        let mut floor = Floor::default();
        floor.rise(hlc(10), hlc(20));
        floor.rise(hlc(15), hlc(25));
        assert_eq!((floor.first, floor.second), (hlc(15), Hlc::ZERO));
        floor.rise(hlc(20), hlc(30));
        assert_eq!(floor.second, hlc(10), "the floor of when 20 was the newest");
        floor.rise(hlc(29), hlc(40));
        assert_eq!(floor.second, hlc(10));
        floor.rise(hlc(30), hlc(41));
        assert_eq!(floor.second, hlc(20));
        floor.rise(hlc(5), hlc(50));
        assert_eq!(floor.first, hlc(30), "it only rises");
        floor.rise(hlc(31), hlc(51));
        assert_eq!(floor.second, hlc(20));
        floor.adopt(hlc(41));
        floor.rise(hlc(6), hlc(52));
        assert_eq!(floor.second, hlc(20), "somebody has come who is not there yet");
    }
}
