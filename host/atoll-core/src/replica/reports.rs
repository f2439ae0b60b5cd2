//! What each node says of itself to all: its vector, whom it knows, whom it is linked to.

use super::status::{Readiness, Role};
use super::{Circumstances, LinkId, Moment, Output, Replica};
use crate::clock::Hlc;
use crate::replica::vector::Mark;
use crate::wire::frame::{Frame, Report};
use uuid::Uuid;

impl Replica {
    /// Makes a report when one is due, and passes on what the peers have not seen.
    pub(super) fn report(&mut self, around: Circumstances<'_>) {
        let tuning = &self.settings.tuning;
        let gap_ms = if self.changed { tuning.report_gap_ms } else { tuning.report_ms };
        let at_ms = around.now.at_ms;
        if self.reported_at_ms.is_none_or(|reported| at_ms >= reported + gap_ms) {
            self.make_report(around);
        }
        if std::mem::take(&mut self.reports_to_pass) {
            self.pass_reports_on();
        }
    }

    fn make_report(&mut self, around: Circumstances<'_>) {
        // An idle origin's head moves all the same: nothing earlier will come from here.
        let beacon = around.store.beacon(around.now.wall);
        if beacon.seq == self.vector.seq(self.me) {
            self.vector.raise(self.me, beacon);
        }
        self.report_version += 1;
        self.reports_to_pass = true;
        (self.reported_at_ms, self.changed) = (Some(around.now.at_ms), false);
        let gone = self.settled_gone();
        let members = self.members.all().filter(|known| !gone.contains(&known.member.origin));
        let members = members.map(|known| known.member.clone()).collect();
        let report = Report {
            member: self.members.describe(self.me),
            version: self.report_version,
            vector: self.vector.clone(),
            links: self.links.values().map(|link| link.peer.origin).collect(),
            gone,
            forgotten: self.members.forgotten(),
            members,
            holds: self.holds(around.now.at_ms),
            readiness: self.readiness(around.now),
        };
        if let Some(this) = self.members.get_mut(self.me) {
            (this.heard_ms, this.report) = (Some(around.now.at_ms), Some(report));
        }
    }

    /// Sends each peer the newest report of everyone of whom it has an older one, unless it is
    /// linked to whom the report is about.
    fn pass_reports_on(&mut self) {
        for (id, link) in &mut self.links {
            for known in self.members.all() {
                let Some(report) = &known.report else { continue };
                let origin = report.member.origin;
                let has = link.reported.get(&origin).copied().unwrap_or(0);
                let hears_itself = origin == link.peer.origin || link.neighbours.contains(&origin);
                if has < report.version && (!hears_itself || origin == self.me) {
                    link.reported.insert(origin, report.version);
                    let frame = Frame::Report(Box::new(report.clone()));
                    self.outputs.push_back(Output::Send(*id, frame));
                }
            }
        }
    }

    pub(super) fn take_report(&mut self, around: Circumstances<'_>, id: LinkId, report: Report) {
        let origin = report.member.origin;
        if origin == self.me {
            return;
        }
        self.witness_heads(around, &report.vector);
        if let Some(link) = self.links.get_mut(&id) {
            let has = link.reported.entry(origin).or_default();
            *has = report.version.max(*has);
            if link.peer.origin == origin {
                // In the place of what was known: a replica that begins anew has less.
                link.known.clone_from(&report.vector);
                link.neighbours = report.links.iter().copied().collect();
            }
        }
        for member in &report.members {
            self.members.learn(member, None);
        }
        self.members.learn(&report.member, Some(around.now.at_ms));
        for &gone in &report.gone {
            self.members.believe_gone(gone);
        }
        for &(gone, version) in &report.forgotten {
            if !self.is_linked_with(gone) {
                self.changed |= self.members.forget_as_of(gone, version);
            }
        }
        if report.member.role.feeds(self.settings.role) {
            self.raise_heads(&report);
        }
        let Some(known) = self.members.get_mut(origin) else { return };
        if known.report.as_ref().is_none_or(|before| before.version < report.version) {
            known.report = Some(report);
            self.reports_to_pass = true;
            self.members.revive(origin);
            self.look_for_lost();
        }
    }

    /// Notes where every master has let go of an origin with fewer ops of it than this replica has:
    /// nobody will give them the rest, so this node must let go of it, too.
    fn look_for_lost(&mut self) {
        if self.settings.role == Role::Master {
            return;
        }
        let (vector, members) = (&self.vector, &self.members);
        self.beyond.retain(|origin, newest| vector.get(*origin).head < *newest);
        let lost = |(origin, mark): (Uuid, Mark)| members.have_let_go(origin, mark.seq);
        let lost_beyond = |(origin, newest): (&Uuid, &Hlc)| {
            members.have_let_go_where(*origin, |has| has.head < *newest)
        };
        self.begins_anew |= vector.iter().any(lost) || self.beyond.iter().any(lost_beyond);
    }

    /// Who has all of an origin's ops that the reporter has, has all that the reporter has by time.
    fn raise_heads(&mut self, report: &Report) {
        let heads: Vec<(Uuid, Mark)> = report.vector.iter().collect();
        for (origin, mark) in heads {
            let mine = self.vector.get(origin);
            if mine.seq >= mark.seq && mark.head > mine.head && origin != self.me
                // What is left of one that is gone comes by relays, not by its own stream.
                && self.members.get(origin).is_some_and(|known| !known.gone)
            {
                self.vector.raise(origin, Mark { seq: mine.seq, head: mark.head });
            }
        }
    }

    /// Whether this node should be sent requests.
    pub(super) fn readiness(&self, now: Moment) -> Readiness {
        let tuning = &self.settings.tuning;
        if self.members.is_superseded() {
            Readiness::Superseded
        } else if self.skew_ms > tuning.max_skew_ms as i64 {
            Readiness::Skewed
        } else if self.joining
            && (now.at_ms < self.started_ms + tuning.start_grace_ms || self.receiving.is_some())
        {
            Readiness::Joining
        } else if self.stale {
            Readiness::Stale
        } else {
            Readiness::Ready
        }
    }
}
