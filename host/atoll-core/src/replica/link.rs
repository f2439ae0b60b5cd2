//! One link as the machine sees it: positions, windows, what passes over it.

use super::sync_serve::Serve;
use super::vector::Vector;
use super::{Dialler, LinkId, Moment};
use crate::wire::frame::{Freshness, Hello, Lane, Member};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// A link that is up.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) peer: Member,
    pub(super) dialler: Dialler,
    /// The configured peer that leads to the same node, if any does.
    pub(super) endpoint: Option<String>,
    pub(super) address: String,
    pub(super) since: Moment,
    pub(super) heard_ms: u64,
    pub(super) pinged_ms: Option<u64>,
    pub(super) round_trips: RoundTrips,
    /// The peer's clock against ours, in ms.
    pub(super) skew_ms: i64,
    /// What the peer has, at least.
    pub(super) known: Vector,
    /// By our number of the origin.
    outgoing: Vec<Outgoing>,
    numbers: BTreeMap<Uuid, u32>,
    /// By the peer's number of the origin.
    pub(super) incoming: BTreeMap<u32, Member>,
    /// Origins that we asked the peer not to send.
    pub(super) pruned_by_us: BTreeSet<Uuid>,
    /// Origins whose ops were not taken and must be asked for again.
    pub(super) dropped: BTreeSet<Uuid>,
    /// When ops of an origin were asked for again, ms.
    pub(super) grafted_ms: BTreeMap<Uuid, u64>,
    pub(super) live: Window,
    pub(super) bulk: Window,
    /// The peer's numbers of origins that have moved since the last acknowledgement.
    pub(super) unacknowledged: BTreeSet<u32>,
    /// Versions of reports that the peer has.
    pub(super) reported: BTreeMap<Uuid, u64>,
    /// Processes that the peer said it is linked to.
    pub(super) neighbours: BTreeSet<Uuid>,
    /// We told the peer that it needs a sync.
    pub(super) sync_offered: bool,
    /// The peer told us that we need one.
    pub(super) sync_needed: bool,
    /// When the peer last refused us a sync, ms.
    pub(super) refused_ms: Option<u64>,
    /// A sync that the peer asked for and that waits for its turn.
    pub(super) sync_requested: Option<(Vector, Freshness)>,
    pub(super) serve: Option<Serve>,
}

/// Bytes under way from which on it is too dear to send a large op once more for nothing.
const RESENT_BYTES_MAX: u64 = 64 * 1024;

/// How long an introduction may be on its way, in ms.
const INTRODUCTION_MS: i64 = 5_000;

/// The peer's clock against ours by its introduction, in ms. That may have been on its way for a
/// while, in which its clock went on: what this can explain is no difference.
fn skew_at_introduction(seen_ms: i64) -> i64 {
    0.clamp(seen_ms, seen_ms.saturating_add(INTRODUCTION_MS))
}

/// The same after a pong, by which it was `measured_ms` if both ways took as long. One that came
/// late may have been late in one direction alone, on a busy machine or behind much else: then what
/// was known is kept as far as it can still be.
pub(super) fn skew_after_pong(
    known_ms: i64,
    (measured_ms, round_trip_ms): (i64, u64),
    max_skew_ms: u64,
) -> i64 {
    if round_trip_ms <= max_skew_ms / 2 {
        return measured_ms;
    }
    let error_ms = i64::try_from(round_trip_ms / 2 + 1).unwrap_or(i64::MAX);
    let (least_ms, most_ms) =
        (measured_ms.saturating_sub(error_ms), measured_ms.saturating_add(error_ms));
    known_ms.clamp(least_ms, most_ms)
}

/// Round trips that are remembered.
const ROUND_TRIP_COUNT_MAX: usize = 10;

/// The last few round trips of a link.
#[derive(Debug, Default)]
pub(super) struct RoundTrips {
    /// In ms, latest last.
    last: VecDeque<u64>,
}

impl RoundTrips {
    pub(super) fn note(&mut self, round_trip_ms: u64) {
        if self.last.len() >= ROUND_TRIP_COUNT_MAX {
            self.last.pop_front();
        }
        self.last.push_back(round_trip_ms);
    }

    /// The latest, in ms; 0 until there was one.
    pub(super) fn latest_ms(&self) -> u64 {
        self.last.back().copied().unwrap_or(0)
    }

    /// The shortest of them, in ms.
    pub(super) fn lowest_ms(&self) -> Option<u64> {
        self.last.iter().copied().min()
    }
}

/// What is under way in one lane, in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) received: u64,
    /// What of `received` the peer was told.
    pub(super) told: u64,
}

impl Window {
    /// Bytes sent and not yet acknowledged.
    pub(super) fn under_way(self) -> u64 {
        self.sent - self.acknowledged
    }
}

/// One origin in the direction to the peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub(super) origin: Uuid,
    /// Number of the latest op sent.
    pub(super) sent: u64,
    /// The peer does not want them.
    pub(super) pruned: bool,
    /// Nothing is sent before this moment, ms.
    pub(super) rests_until_ms: u64,
    /// Nothing is sent until the peer has this op: it is large and takes the other lane.
    pub(super) waits_for: u64,
    /// Bytes that had been sent in that lane with it.
    pub(super) large_end: u64,
}

impl Link {
    pub(super) fn new(
        id: LinkId,
        hello: Hello,
        (dialler, address): (Dialler, String),
        now: Moment,
    ) -> Link {
        let Hello { origin, name, role, wall_us, vector, .. } = hello;
        let endpoint = match &dialler {
            Dialler::Us(endpoint) => Some(endpoint.clone()),
            Dialler::Them => None,
        };
        let skew_us = wall_us as i64 - now.wall.micros() as i64;
        Link {
            id,
            peer: Member { origin, name: name.into(), role },
            dialler,
            endpoint,
            address,
            since: now,
            heard_ms: now.at_ms,
            pinged_ms: None,
            round_trips: RoundTrips::default(),
            skew_ms: skew_at_introduction(skew_us / 1_000),
            known: vector,
            outgoing: Vec::new(),
            numbers: BTreeMap::new(),
            incoming: BTreeMap::new(),
            pruned_by_us: BTreeSet::new(),
            dropped: BTreeSet::new(),
            grafted_ms: BTreeMap::new(),
            live: Window::default(),
            bulk: Window::default(),
            unacknowledged: BTreeSet::new(),
            reported: BTreeMap::new(),
            neighbours: BTreeSet::new(),
            sync_offered: false,
            sync_needed: false,
            refused_ms: None,
            sync_requested: None,
            serve: None,
        }
    }

    /// What is under way in a lane.
    pub(super) fn window_mut(&mut self, lane: Lane) -> &mut Window {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Bulk => &mut self.bulk,
        }
    }

    /// Our number of `origin` in the direction to the peer, and whether it is new.
    pub(super) fn number(&mut self, origin: Uuid) -> (u32, bool) {
        if let Some(&number) = self.numbers.get(&origin) {
            return (number, false);
        }
        let number = self.outgoing.len() as u32;
        let sent = self.known.seq(origin);
        self.outgoing.push(Outgoing {
            origin,
            sent,
            pruned: false,
            rests_until_ms: 0,
            waits_for: 0,
            large_end: 0,
        });
        self.numbers.insert(origin, number);
        (number, true)
    }

    /// The state of `origin` in the direction to the peer, if anything of it was ever sent or
    /// spoken of.
    pub(super) fn outgoing(&self, origin: Uuid) -> Option<&Outgoing> {
        self.numbers.get(&origin).map(|&number| &self.outgoing[number as usize])
    }

    /// The same, to be changed; the origin has been numbered.
    pub(super) fn outgoing_mut(&mut self, number: u32) -> Option<&mut Outgoing> {
        self.outgoing.get_mut(number as usize)
    }

    /// Whether the op of `origin` that follows `after` is a large one on its way to the peer, which has
    /// not said that it has come, nor that it was dropped.
    pub(super) fn brings_next(&self, origin: Uuid, after: u64) -> bool {
        self.outgoing(origin).is_some_and(|outgoing| {
            after.checked_add(1) == Some(outgoing.waits_for)
                && self.bulk.acknowledged < outgoing.large_end
                && self.bulk.under_way() > RESENT_BYTES_MAX
        })
    }

    /// The peer wants an origin's ops, after the position that it has.
    pub(super) fn resume(&mut self, origin: Uuid, after: u64) {
        if !self.brings_next(origin, after) {
            return self.rewind(origin, after);
        }
        // Once more it would only come behind itself, and the more often it is asked for on a slow
        // link the later.
        if let Some(&number) = self.numbers.get(&origin) {
            self.outgoing[number as usize].pruned = false;
        }
    }

    /// Everything sent to the peer so far may be sent again: after the position that it has.
    pub(super) fn rewind(&mut self, origin: Uuid, after: u64) {
        if let Some(&number) = self.numbers.get(&origin) {
            let outgoing = &mut self.outgoing[number as usize];
            (outgoing.sent, outgoing.pruned, outgoing.waits_for) = (after, false, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_pong_says_no_more_of_a_clock_than_it_can() {
        let after =
            |known, measured, round_trip| skew_after_pong(known, (measured, round_trip), 2_000);
        assert_eq!(after(0, -40, 80), -40, "one that is prompt is believed");
        assert_eq!(after(0, 700, 1_000), 700);
        // Eight seconds in one direction look like four seconds of a clock.
        assert_eq!((after(0, 4_000, 8_000), after(0, -4_000, 8_000)), (0, 0));
        assert_eq!(after(-30, 4_000, 8_000), -1, "as far as it can be");
        // What no way can explain is a clock's.
        assert_eq!(after(0, 120_000, 8_000), 115_999);
        assert_eq!(after(120_000, 118_000, 8_000), 120_000);
    }

    #[test]
    fn an_introduction_that_was_on_its_way_shows_no_clock_that_is_behind() {
        assert_eq!(skew_at_introduction(3_000), 3_000, "no way makes a clock seem ahead");
        assert_eq!((skew_at_introduction(-3_000), skew_at_introduction(0)), (0, 0));
        assert_eq!(skew_at_introduction(-120_000), -115_000);
    }

    #[test]
    fn one_slow_round_trip_hides_neither_the_way_nor_its_change() {
        let mut trips = RoundTrips::default();
        assert_eq!((trips.latest_ms(), trips.lowest_ms()), (0, None));
        trips.note(2);
        trips.note(90);
        assert_eq!((trips.latest_ms(), trips.lowest_ms()), (90, Some(2)));
        for _ in 0..ROUND_TRIP_COUNT_MAX {
            trips.note(40);
        }
        assert_eq!(trips.lowest_ms(), Some(40), "the way has become longer");
    }
}
