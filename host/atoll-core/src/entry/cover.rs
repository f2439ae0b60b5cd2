//! Entries against version vectors: which parts a node lacks, and which it must drop.
//!
//! A part is covered by a vector when the vector includes the write that made it: the node either
//! holds the part or has seen what superseded it.

use super::{Cell, Deadline, Entry, Register, Reset, Tally};
use crate::clock::{Hlc, Stamp};
use crate::replica::vector::Vector;
use smallvec::SmallVec;
use uuid::Uuid;

impl Entry {
    /// The parts that `vector` does not cover, or `None` where it covers all.
    ///
    /// What is covered and absent was superseded or deleted, so it must never be merged again.
    pub fn uncovered(&self, vector: &Vector) -> Option<Entry> {
        let register = match vector.covers(self.register.stamp) {
            true => Register::ABSENT,
            false => self.register.clone(),
        };
        let touch = self.touch.filter(|touch| !vector.covers(touch.stamp));
        let tallies: Vec<Tally> =
            self.tallies.iter().filter_map(|tally| tally.uncovered(vector)).collect();
        let rest = Entry { register, touch, tallies };
        (rest != Entry::default()).then_some(rest)
    }

    /// Drops what `vector` covers and `listed` does not name, part by part: whoever listed has
    /// seen it and let go of it. What is not covered stays.
    pub fn restrict(&mut self, listed: &Entry, vector: &Vector) {
        if vector.covers(self.register.stamp) && self.register.stamp != listed.register.stamp {
            self.register = Register::ABSENT;
        }
        let theirs = listed.touch.map(|touch| touch.stamp);
        self.touch =
            self.touch.filter(|touch| !vector.covers(touch.stamp) || Some(touch.stamp) == theirs);
        for tally in &mut self.tallies {
            let theirs = listed.tallies.iter().find(|theirs| theirs.origin == tally.origin);
            tally.restrict(theirs, vector);
        }
        self.tallies.retain(|tally| !tally.cells.is_empty() || tally.closed != Hlc::ZERO);
    }

    /// The stamps of all its parts.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + '_ {
        let cells = self.tallies.iter().flat_map(|tally| {
            let origin = tally.origin;
            tally.cells.iter().flat_map(move |cell| [cell.written_at(origin), cell.reset.by])
        });
        let single = [Some(self.register.stamp), self.touch.map(|touch| touch.stamp)];
        single.into_iter().flatten().chain(cells).filter(|stamp| *stamp != Stamp::ZERO)
    }

    /// Takes out what is stamped after `limit`, and says by whom that was written.
    pub fn retain_until(&mut self, limit: Hlc) -> SmallVec<[Uuid; 1]> {
        let mut late = SmallVec::new();
        if self.register.stamp.hlc > limit {
            late.push(self.register.stamp.origin);
            self.register = Register::ABSENT;
        }
        if let Some(touch) = self.touch.filter(|touch| touch.stamp.hlc > limit) {
            late.push(touch.stamp.origin);
            self.touch = None;
        }
        for tally in &mut self.tallies {
            let origin = tally.origin;
            tally.cells.retain(|cell| {
                let reset = cell.reset.by;
                let (late_write, late_reset) = (cell.last > limit, reset.hlc > limit);
                late.extend(late_write.then_some(origin));
                late.extend(late_reset.then_some(reset.origin));
                !late_write && !late_reset
            });
        }
        self.tallies.retain(|tally| !tally.cells.is_empty() || tally.closed != Hlc::ZERO);
        late
    }

    /// The entry without its value's bytes and attributes: enough to list it.
    pub fn outline(mut self) -> Entry {
        if let Some(value) = &mut self.register.value {
            *value = super::Value::plain(bytes::Bytes::new());
        }
        self
    }
}

impl Tally {
    fn uncovered(&self, vector: &Vector) -> Option<Tally> {
        let cells: SmallVec<[Cell; 1]> =
            self.cells.iter().filter_map(|cell| cell.uncovered(self.origin, vector)).collect();
        // Cells are closed by the op that opens the next one, which is later than what it closes.
        let head = vector.get(self.origin).head;
        let closed = if self.closed > head || !cells.is_empty() { self.closed } else { Hlc::ZERO };
        let news = !cells.is_empty() || closed != Hlc::ZERO;
        news.then_some(Tally { origin: self.origin, closed, cells })
    }

    fn restrict(&mut self, listed: Option<&Tally>, vector: &Vector) {
        let origin = self.origin;
        let find = |birth: Hlc| {
            listed.and_then(|listed| listed.cells.iter().find(|cell| cell.birth == birth))
        };
        self.cells.retain(|cell| cell.restrict(find(cell.birth), (origin, vector)));
        // When cells were closed is not kept, only that it was later than what was closed: so it
        // is covered for certain only where everything is.
        if vector.get(origin).head == Hlc::MAX {
            self.closed = listed.map_or(Hlc::ZERO, |listed| listed.closed);
        }
    }
}

impl Cell {
    fn written_at(&self, origin: Uuid) -> Stamp {
        Stamp { hlc: self.last, origin }
    }

    /// The half or halves that `vector` does not cover.
    fn uncovered(&self, origin: Uuid, vector: &Vector) -> Option<Cell> {
        let lacks_writes = !vector.covers(self.written_at(origin));
        let lacks_reset = !vector.covers(self.reset.by);
        let reset = self.reset;
        match (lacks_writes, lacks_reset) {
            (false, false) => None,
            // Never without the reset: who has forgotten both would take the cell for alive.
            (true, _) => Some(*self),
            // Only the reset: with the writes that it has observed, as the op that made it said.
            (false, true) => {
                let (last, sum, deadline) = (reset.last, reset.sum, Deadline::at_millis(0));
                Some(Cell { birth: self.birth, last, sum, deadline, reset })
            }
        }
    }

    /// Drops the covered halves that `listed` does not have. Returns whether anything is left.
    fn restrict(&mut self, listed: Option<&Cell>, (origin, vector): (Uuid, &Vector)) -> bool {
        let absent = Cell {
            last: Hlc::ZERO,
            sum: 0,
            deadline: Deadline::NEVER,
            reset: Reset::default(),
            ..*self
        };
        let theirs = listed.copied().unwrap_or(absent);
        if !vector.covers(self.written_at(origin)) {
            // What stays keeps its reset: without it the cell would be alive again.
            return true;
        }
        if self.last != theirs.last {
            (self.last, self.sum, self.deadline) = (theirs.last, theirs.sum, theirs.deadline);
        }
        if vector.covers(self.reset.by) && self.reset != theirs.reset {
            self.reset = theirs.reset;
        }
        self.last != Hlc::ZERO || self.reset != Reset::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Value;
    use crate::replica::vector::Mark;

    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    fn stamp(hlc: u64, origin: Uuid) -> Stamp {
        Stamp { hlc: Hlc::from_bits(hlc), origin }
    }

    fn set(at: Stamp) -> Entry {
        let value = Some(Value::plain("v"));
        let register = Register { stamp: at, value, deadline: Deadline::NEVER };
        Entry { register, ..Entry::default() }
    }

    fn cell(last: u64, reset: Reset) -> Cell {
        let (birth, last) = (Hlc::from_bits(1), Hlc::from_bits(last));
        Cell { birth, last, sum: 7, deadline: Deadline::NEVER, reset }
    }

    fn counted(cell: Cell) -> Entry {
        let cells = SmallVec::from_slice(&[cell]);
        Entry { tallies: vec![Tally { origin: ONE, closed: Hlc::ZERO, cells }], ..Entry::default() }
    }

    fn up_to(one: u64, two: u64) -> Vector {
        let mark = |head| Mark { seq: 1, head: Hlc::from_bits(head) };
        [(ONE, mark(one)), (TWO, mark(two))].into_iter().collect()
    }

    #[test]
    fn only_what_a_vector_lacks_is_sent() {
        assert_eq!(set(stamp(5, ONE)).uncovered(&up_to(5, 0)), None);
        assert_eq!(set(stamp(5, ONE)).uncovered(&up_to(4, 9)), Some(set(stamp(5, ONE))));
        let by = stamp(8, TWO);
        let reset = Reset { last: Hlc::from_bits(4), by, sum: 6 };
        let both = counted(cell(4, reset));
        assert_eq!(both.uncovered(&up_to(4, 8)), None);
        assert_eq!(both.uncovered(&up_to(3, 8)), Some(both.clone()), "writes go with their reset");
        let lacking_reset = both.uncovered(&up_to(4, 7)).expect("the reset is news");
        let sent = &lacking_reset.tallies[0].cells[0];
        assert_eq!((sent.reset, sent.last), (reset, reset.last), "as the reset's op said it");
    }

    #[test]
    fn what_is_covered_and_not_listed_is_dropped_part_by_part() {
        let mut entry = set(stamp(5, ONE));
        entry.restrict(&set(stamp(5, ONE)), &up_to(9, 9));
        assert_eq!(entry, set(stamp(5, ONE)), "it is listed");
        entry.restrict(&Entry::default(), &up_to(4, 9));
        assert_eq!(entry, set(stamp(5, ONE)), "it is not covered");
        entry.restrict(&Entry::default(), &up_to(5, 9));
        assert_eq!(entry, Entry::default());

        let reset = Reset { last: Hlc::from_bits(4), by: stamp(8, TWO), sum: 6 };
        let mut both = counted(cell(6, reset));
        both.restrict(&Entry::default(), &up_to(5, 9));
        assert_eq!(both, counted(cell(6, reset)), "writes that stay keep their reset");
        both.restrict(&Entry::default(), &up_to(6, 9));
        assert_eq!(both, Entry::default());
        both = counted(cell(6, reset));
        both.tallies[0].closed = Hlc::from_bits(1);
        both.restrict(&Entry::default(), &up_to(6, 9));
        assert_eq!(both.tallies[0].closed, Hlc::from_bits(1), "its op may not be covered");
    }
}
