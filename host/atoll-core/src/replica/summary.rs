//! The machine's state as others want to see it: status, who holds a write.

use super::status::{LinkState, LinkStatus, MemberStatus, Readiness, Status};
use super::{Moment, Replica};
use crate::clock::Hlc;
use std::collections::BTreeMap;
use uuid::Uuid;

impl Replica {
    /// Replication as this node sees it.
    pub fn status(&self, now: Moment) -> Status {
        let behind_us = now.wall.micros().saturating_sub(self.floor.first.micros());
        Status {
            name: self.settings.name.clone(),
            cluster: self.settings.cluster.clone(),
            origin: self.me,
            role: self.settings.role,
            readiness: self.readiness(now),
            seq: self.vector.seq(self.me),
            floor: self.floor.first,
            floor_age_ms: if self.floor.first == Hlc::ZERO { 0 } else { behind_us / 1_000 },
            holds: self.holds(now.at_ms),
            skew_ms: self.skew_ms,
            log_bytes: self.logs.bytes(),
            links: self.link_statuses(now),
            members: self.member_statuses(now),
            audit: self.audits.status(now.at_ms),
            counts: self.counts,
        }
    }

    fn link_statuses(&self, now: Moment) -> Vec<LinkStatus> {
        let status = |link: &super::link::Link| {
            let behind = self.vector.iter().filter(|(origin, _)| *origin != link.peer.origin);
            let behind = behind.map(|(id, mark)| mark.seq.saturating_sub(link.known.seq(id))).sum();
            let receiving = self.receiving.as_ref().is_some_and(|r| r.link == link.id);
            // While it drops what others forgot it takes no ops either, but that passes.
            let is_full = link.dropped.iter().any(|origin| !self.refuses_stream_of(*origin))
                || self.deferred.iter().any(|(from, _)| *from == link.id);
            let state = match (receiving, &link.serve) {
                _ if is_full => LinkState::Full,
                (true, _) => LinkState::Receiving,
                (false, Some(_)) => LinkState::Sending,
                _ => LinkState::Streaming,
            };
            LinkStatus {
                name: link.peer.name.to_string(),
                origin: link.peer.origin,
                role: link.peer.role,
                endpoint: link.endpoint.clone(),
                address: link.address.clone(),
                since_ms: link.since.wall.millis(),
                state,
                lag_ms: self.lag_ms(link.known.seq(self.me), now),
                behind,
                silent_ms: now.at_ms.saturating_sub(link.heard_ms),
                rtt_us: link.round_trips.latest_ms() * 1_000,
                rtt_lowest_us: link.round_trips.lowest_ms().map(|ms| ms * 1_000),
                skew_ms: link.skew_ms,
                sent_bytes: link.live.sent + link.bulk.sent,
                received_bytes: link.live.received + link.bulk.received,
            }
        };
        let mut links: Vec<LinkStatus> = self.links.values().map(status).collect();
        links.sort_by(|a, b| a.name.cmp(&b.name));
        links
    }

    /// Age of the op after number `seq` of this process's own, in ms; 0 where there is none. Where
    /// the log has dropped it, that of the oldest that is kept: it is at least as old.
    fn lag_ms(&self, seq: u64, now: Moment) -> u64 {
        if seq >= self.vector.seq(self.me) {
            return 0;
        }
        let run = self.logs.find(self.me, seq).or_else(|| self.logs.oldest(self.me));
        run.map_or(0, |run| now.wall.millis().saturating_sub(run.base.millis()))
    }

    fn member_statuses(&self, now: Moment) -> Vec<MemberStatus> {
        let status = |known: &super::members::Known| {
            let origin = known.member.origin;
            let is_me = origin == self.me;
            let report = known.report.as_ref();
            MemberStatus {
                name: known.member.name.to_string(),
                origin,
                role: known.member.role,
                seq: self.vector.seq(origin),
                own_seq: report.map_or(0, |report| report.vector.seq(origin)),
                holds_seq: self.held_by(origin),
                linked: self.is_linked_with(origin),
                silent_ms: match known.heard_ms {
                    _ if is_me => 0,
                    Some(at) => now.at_ms.saturating_sub(at),
                    None => now.at_ms.saturating_sub(self.started_ms),
                },
                readiness: match report {
                    _ if is_me => self.readiness(now),
                    Some(report) => report.readiness,
                    None => Readiness::Joining,
                },
            }
        };
        let mut members: Vec<MemberStatus> =
            self.members.all().filter(|known| !known.gone).map(status).collect();
        members.sort_by(|a, b| (&a.name, a.origin).cmp(&(&b.name, b.origin)));
        members
    }

    /// Number of this process's latest op that `origin` is known to hold.
    fn held_by(&self, origin: Uuid) -> u64 {
        if origin == self.me {
            return self.vector.seq(self.me);
        }
        let links = self.links.values().filter(|link| link.peer.origin == origin);
        let acknowledged = links.map(|link| link.known.seq(self.me)).max().unwrap_or(0);
        let report = self.members.get(origin).and_then(|known| known.report.as_ref());
        acknowledged.max(report.map_or(0, |report| report.vector.seq(self.me)))
    }

    /// The nodes that hold writes of this process, by name, and the latest one that each holds.
    /// This node is not among them.
    pub fn holders(&self) -> BTreeMap<String, u64> {
        let mut holders = BTreeMap::new();
        for known in self.members.all().filter(|known| !known.gone) {
            let seq = self.held_by(known.member.origin);
            if known.member.origin != self.me && seq > 0 {
                let held = holders.entry(known.member.name.to_string()).or_insert(0);
                *held = seq.max(*held);
            }
        }
        holders
    }
}
