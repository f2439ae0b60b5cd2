//! Counters that lose no increment: cells, their observed resets, and what they add up to.

use super::op::{ObservedCell, Resets};
use super::{Cell, Deadline, Reset, Tally};
use crate::clock::{Hlc, Stamp};

impl Tally {
    /// Joins another state of the same origin's cells into this one.
    pub(super) fn merge(&mut self, other: &Tally) {
        debug_assert_eq!(self.origin, other.origin, "tallies are merged by origin");
        self.closed = self.closed.max(other.closed);
        for theirs in &other.cells {
            match self.cells.binary_search_by_key(&theirs.birth, |cell| cell.birth) {
                Ok(at) => self.cells[at].merge(theirs),
                Err(at) => self.cells.insert(at, *theirs),
            }
        }
        let closed = self.closed;
        self.cells.retain(|cell| cell.birth > closed);
    }

    /// Whether nothing of it is needed any more: no cell, and nothing that its `closed` holds back.
    pub(super) fn is_garbage(&self, now_ms: u64, floor: Hlc, flushed: Hlc) -> bool {
        self.closed <= floor.max(flushed)
            && self.cells.iter().all(|cell| cell.is_garbage(now_ms, floor, flushed))
    }
}

impl Cell {
    /// Joins another state of the same cell: the writer's half and the reset half apart.
    fn merge(&mut self, other: &Cell) {
        debug_assert_eq!(self.birth, other.birth, "cells are merged by birth");
        if (other.last, other.sum, other.deadline) > (self.last, self.sum, self.deadline) {
            (self.last, self.sum, self.deadline) = (other.last, other.sum, other.deadline);
        }
        self.reset = self.reset.max(other.reset);
    }

    /// Whether something in the cell is not reset, whatever the time.
    pub fn is_counting(&self) -> bool {
        self.last > self.reset.last
    }

    /// Whether the cell still counts at `now_ms`, after a flush of its bucket at `flushed`.
    pub fn is_alive(&self, now_ms: u64, flushed: Hlc) -> bool {
        self.is_counting() && self.birth > flushed && !self.deadline.is_past(now_ms)
    }

    /// Whether the cell is dead and known to be so by every member, or killed by a flush.
    fn is_garbage(&self, now_ms: u64, floor: Hlc, flushed: Hlc) -> bool {
        let by_deadline = self.deadline.is_past(now_ms);
        let known_everywhere = self.last <= floor
            && self.reset.by.hlc <= floor
            && (!by_deadline || self.deadline.millis() <= Some(floor.millis()));
        !self.is_alive(now_ms, flushed) && (known_everywhere || self.birth <= flushed)
    }

    /// What the cell adds while it is alive.
    pub fn contribution(&self) -> i128 {
        i128::from(self.sum) - i128::from(self.reset.sum)
    }
}

/// The sum of all alive cells, or `None` where none is alive.
pub fn sum_alive(tallies: &[Tally], now_ms: u64, flushed: Hlc) -> Option<i128> {
    let cells = tallies.iter().flat_map(|tally| &tally.cells);
    let alive = cells.filter(|cell| cell.is_alive(now_ms, flushed));
    alive.map(Cell::contribution).reduce(|a, b| a + b)
}

/// The latest deadline of an alive cell.
pub fn latest_deadline(tallies: &[Tally], now_ms: u64, flushed: Hlc) -> Option<Deadline> {
    let cells = tallies.iter().flat_map(|tally| &tally.cells);
    cells.filter(|cell| cell.is_alive(now_ms, flushed)).map(|cell| cell.deadline).max()
}

/// Drops what is dead and known to every member: all of it stamped at or before `floor` (the
/// second-order one, see [`Entry::is_garbage`](super::Entry::is_garbage)), or killed by a flush,
/// whose record is kept.
pub fn prune(tallies: &mut Vec<Tally>, now_ms: u64, floor: Hlc, flushed: Hlc) {
    for tally in tallies.iter_mut() {
        tally.cells.retain(|cell| !cell.is_garbage(now_ms, floor, flushed));
    }
    tallies.retain(|tally| !tally.is_garbage(now_ms, floor, flushed));
}

/// The cells of `tallies` that a write observes, which are then reset as far as they were seen.
pub fn observe(tallies: &mut [Tally], by: Stamp) -> Resets {
    let mut resets = Resets::new();
    for tally in tallies {
        let origin = tally.origin;
        for cell in tally.cells.iter_mut().filter(|cell| cell.is_counting()) {
            let (birth, last, sum) = (cell.birth, cell.last, cell.sum);
            resets.push(ObservedCell { origin, birth, last, sum });
            cell.reset = Reset { last, by, sum };
        }
    }
    resets
}

/// Continues the origin's newest cell with one more increment, if that cell may be continued and
/// its sum stays within 64 bits. A cell that is reset, expired or flushed is never continued:
/// others may have collected it.
pub fn go_on(tally: &mut Tally, stamp: Hlc, (delta, flushed): (i64, Hlc)) -> Option<Cell> {
    let cell = tally.cells.last_mut()?;
    if !cell.is_alive(stamp.millis(), flushed) || cell.reset != Reset::default() {
        return None;
    }
    cell.sum = cell.sum.checked_add(delta)?;
    cell.last = stamp;
    Some(*cell)
}

/// Opens a new cell with an increment: the origin's newest one may not be continued.
///
/// `None` where it could be but for its sum, which would leave 64 bits; the tally is unchanged.
pub fn begin(tally: &mut Tally, stamp: Hlc, by: Increment) -> Option<Cell> {
    let is_alive = |cell: &Cell| cell.is_alive(stamp.millis(), by.flushed);
    if tally.cells.last().is_some_and(|cell| is_alive(cell) && cell.reset == Reset::default()) {
        return None;
    }
    // The origin has seen all of its own increments: what of them is dead stays dead.
    let dead = tally.cells.iter().take_while(|cell| !is_alive(cell)).count();
    if let Some(newest) = dead.checked_sub(1) {
        tally.closed = tally.cells[newest].birth;
        tally.cells.drain(..dead);
    }
    let reset = Reset::default();
    let cell = Cell { birth: stamp, last: stamp, sum: by.delta, deadline: by.deadline, reset };
    tally.cells.push(cell);
    Some(cell)
}

/// What an increment adds, and where.
#[derive(Clone, Copy, Debug)]
pub struct Increment {
    /// What to add.
    pub delta: i64,
    /// Of a cell that has to be opened.
    pub deadline: Deadline,
    /// The bucket's latest flush.
    pub flushed: Hlc,
}

/// A sum as a reader is told it. Only concurrent increments near the ends of the range can pass
/// them.
pub fn clamp(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

/// The integer that `text` is the canonical decimal form of: no sign `+`, no leading zero, no
/// space, within 64 bits.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let canonical = match digits {
        [b'0'] => !negative,
        [b'1'..=b'9', ..] => digits.len() <= 19,
        _ => false,
    };
    if !canonical {
        return None;
    }
    // Counted downwards: the negative range is the larger one.
    let mut value: i64 = 0;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}
