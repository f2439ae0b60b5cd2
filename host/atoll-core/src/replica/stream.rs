//! The way out: which of the ops that this node holds go over which link, and when.

use super::link::{Link, Outgoing};
use super::log::stamp_of;
use super::{Circumstances, LinkId, Output, Replica, Violation};
use crate::clock::Hlc;
use crate::replica::vector::Mark;
use crate::store::outbox::{Body, Run};
use crate::wire::frame::{Frame, Lane};
use uuid::Uuid;

/// What became of sending one origin's ops over one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// All that there is, or as much as may be under way.
    Enough,
    /// The log does not hold what comes next.
    Lost,
}

impl Replica {
    /// Sends each link the ops that its peer lacks, as far as its window allows.
    pub(super) fn stream(&mut self, around: Circumstances<'_>) {
        let mut wanted: Vec<(LinkId, Vec<(Uuid, u64)>)> = Vec::new();
        for (id, link) in &self.links {
            let beyond = self.vector.beyond(&link.known).map(|(origin, mark)| (origin, mark.seq));
            wanted.push((*id, beyond.filter(|(origin, _)| self.feeds(link, *origin)).collect()));
        }
        for (id, origins) in wanted {
            let mut lost = false;
            for (origin, until) in origins {
                lost |= self.stream_origin(around, (id, origin), until) == Sent::Lost;
            }
            self.offer_sync(id, lost);
        }
    }

    /// Whether the peer should get this origin's ops from this node.
    fn feeds(&self, link: &Link, origin: Uuid) -> bool {
        // What it sends us it has; what it made it has.
        self.settings.role.feeds(link.peer.role)
            && origin != link.peer.origin
            && self.parents.get(&origin) != Some(&link.id)
            && link.outgoing(origin).is_none_or(|outgoing| !outgoing.pruned)
    }

    fn stream_origin(
        &mut self,
        around: Circumstances<'_>,
        (id, origin): (LinkId, Uuid),
        until: u64,
    ) -> Sent {
        let Some(number) = self.number(id, origin) else { return Sent::Enough };
        let Some(link) = self.links.get_mut(&id) else { return Sent::Enough };
        let window = self.settings.tuning.live_window_bytes;
        let known = link.known.get(origin);
        let Some(outgoing) = link.outgoing_mut(number) else { return Sent::Enough };
        if outgoing.rests_until_ms > around.now.at_ms || outgoing.waits_for > known.seq {
            return Sent::Enough;
        }
        let mut after = outgoing.sent.max(known.seq);
        while after < until {
            if link.live.under_way() >= window {
                return Sent::Enough;
            }
            let Some(run) = self.logs.find(origin, after) else { return Sent::Lost };
            let floor = self.floor.first;
            let below = self.settings.rules.above_floor
                && known.head < floor
                && is_below_floor(run, (origin, after + 1), floor);
            if below {
                return Sent::Lost;
            }
            let (first_seq, base, count, packed) = (run.first_seq, run.base, run.count, run.pack());
            let frame = match run.body {
                Body::Packed(_) => {
                    Frame::Ops { index: number, first_seq, base, count, run: packed }
                }
                Body::Large(_) => {
                    let member = self.members.describe(origin);
                    Frame::Large { index: number, member, seq: first_seq, base, run: packed }
                }
            };
            self.counts.ops_sent += u64::from(run.count);
            after = run.end_seq() - 1;
            let large = frame.lane() == Lane::Bulk;
            link.window_mut(frame.lane()).sent += frame.weight();
            self.outputs.push_back(Output::Send(id, frame));
            let large_end = link.bulk.sent;
            if let Some(outgoing) = link.outgoing_mut(number) {
                outgoing.sent = after;
                if large {
                    (outgoing.waits_for, outgoing.large_end) = (after, large_end);
                    return Sent::Enough;
                }
            }
        }
        Sent::Enough
    }

    /// Tells the peer that it needs a sync, once.
    fn offer_sync(&mut self, id: LinkId, lost: bool) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if lost && !link.sync_offered && link.serve.is_none() && link.sync_requested.is_none() {
            link.sync_offered = true;
            self.send(id, Frame::NeedSync);
        }
    }

    pub(super) fn take_acknowledgement(
        &mut self,
        id: LinkId,
        (live, bulk): (u64, u64),
        marks: &[(u32, u64)],
    ) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        if live > link.live.sent || bulk > link.bulk.sent {
            return Err(Violation::new("acknowledges more than was sent"));
        }
        link.live.acknowledged = link.live.acknowledged.max(live);
        link.bulk.acknowledged = link.bulk.acknowledged.max(bulk);
        for &(number, seq) in marks {
            let Some(origin) = link.outgoing_mut(number).map(|outgoing| outgoing.origin) else {
                return Err(Violation::new("acknowledges an origin that was never named"));
            };
            link.known.raise(origin, Mark { seq, head: Hlc::ZERO });
        }
        Ok(())
    }

    pub(super) fn take_prune(&mut self, id: LinkId, origin: Uuid) {
        if let Some(outgoing) = self.outgoing_mut(id, origin) {
            outgoing.pruned = true;
        }
    }

    pub(super) fn take_graft(&mut self, id: LinkId, origin: Uuid, after: u64) {
        // It asks us, so it cannot be whom we have it from.
        if self.parents.get(&origin) == Some(&id) {
            self.parents.remove(&origin);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.known.raise(origin, Mark { seq: after, head: Hlc::ZERO });
            link.resume(origin, after);
        }
    }

    pub(super) fn take_nack(&mut self, around: Circumstances<'_>, id: LinkId, origin: Uuid) {
        let rests_until_ms = around.now.at_ms + self.settings.tuning.nack_ms;
        if let Some(link) = self.links.get_mut(&id) {
            let known = link.known.seq(origin);
            link.rewind(origin, known);
        }
        if let Some(outgoing) = self.outgoing_mut(id, origin) {
            outgoing.rests_until_ms = rests_until_ms;
        }
    }

    /// Our number of an origin on a link; the peer is told whom it means before it is used.
    fn number(&mut self, id: LinkId, origin: Uuid) -> Option<u32> {
        let (index, is_new) = self.links.get_mut(&id)?.number(origin);
        if is_new {
            let member = self.members.describe(origin);
            self.send(id, Frame::Origin { index, member });
        }
        Some(index)
    }

    fn outgoing_mut(&mut self, id: LinkId, origin: Uuid) -> Option<&mut Outgoing> {
        let number = self.number(id, origin)?;
        self.links.get_mut(&id)?.outgoing_mut(number)
    }

    /// Tells each peer how much of what it sent has been dealt with.
    pub(super) fn acknowledge(&mut self) {
        for (id, link) in &mut self.links {
            let Link { live, bulk, unacknowledged, incoming, .. } = link;
            let is_news = live.told < live.received || bulk.told < bulk.received;
            if !is_news && unacknowledged.is_empty() {
                continue;
            }
            (live.told, bulk.told) = (live.received, bulk.received);
            let marks = std::mem::take(unacknowledged);
            let marks = marks.into_iter().filter_map(|number| {
                let member = incoming.get(&number)?;
                Some((number, self.vector.seq(member.origin)))
            });
            let ack =
                Frame::Ack { live: live.received, bulk: bulk.received, marks: marks.collect() };
            self.outputs.push_back(Output::Send(*id, ack));
        }
    }
}

/// Whether the op with the number given, in `run`, is one that may have been forgotten elsewhere.
fn is_below_floor(run: &Run, (origin, seq): (Uuid, u64), floor: Hlc) -> bool {
    run.base < floor && (run.last <= floor || stamp_of(run, origin, seq) <= floor)
}
