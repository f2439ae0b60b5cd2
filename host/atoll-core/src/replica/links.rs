//! Links as they come and go: who is let in, who is measured, who is given up.

use super::link::{Link, skew_after_pong};
use super::{Circumstances, Connected, Dialler, LinkId, Output, Replica};
use crate::wire::frame::{Farewell, Frame, Hello, VERSIONS};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A peer that was heard so recently that its link must be alive, in pings.
const ALIVE_PINGS: u64 = 3;

impl Replica {
    pub(super) fn connect(&mut self, around: Circumstances<'_>, connected: Connected) {
        let Connected { link, hello, dialler, address } = connected;
        if let Dialler::Us(endpoint) = &dialler
            && hello.origin != self.me
            && hello.cluster == self.settings.cluster
        {
            self.met.insert(endpoint.clone());
        }
        let endpoint = match self.admit(around, &hello, &dialler) {
            Ok(endpoint) => endpoint,
            Err(farewell) => {
                let refused = matches!(farewell, Farewell::Refused(_));
                self.counts.links_refused += u64::from(refused);
                self.outputs.push_back(Output::Close(link, farewell));
                return;
            }
        };
        self.witness_heads(around, &hello.vector);
        let mut new = Link::new(link, hello, (dialler, address), around.now);
        new.endpoint = new.endpoint.or(endpoint);
        self.members.learn(&new.peer, Some(around.now.at_ms));
        self.links.insert(link, new);
        (self.changed, self.reports_to_pass) = (true, true);
    }

    /// Whether a peer is welcome. Ends the link that gives way to it, and hands on the configured
    /// peer that had led there.
    fn admit(
        &mut self,
        around: Circumstances<'_>,
        hello: &Hello,
        dialler: &Dialler,
    ) -> Result<Option<String>, Farewell> {
        if VERSIONS.common(hello.versions).is_none() {
            let (ours, theirs) = (VERSIONS, hello.versions);
            return Err(Farewell::Refused(format!(
                "this node speaks versions {} to {} of the protocol and the other {} to {}; upgrade the older one",
                ours.oldest, ours.newest, theirs.oldest, theirs.newest
            )));
        }
        if hello.cluster != self.settings.cluster {
            return Err(Farewell::Refused(format!(
                "this node belongs to the cluster {:?} and the other to {:?}; --cluster says which",
                self.settings.cluster, hello.cluster
            )));
        }
        if hello.origin == self.me {
            return Err(match hello.boot == self.settings.boot {
                true => Farewell::Oneself,
                false => Farewell::Refused("two processes have the same id".to_owned()),
            });
        }
        if hello.name == self.settings.name {
            return Err(Farewell::Refused(format!(
                "two processes are named {:?}; give each node a --name of its own",
                hello.name
            )));
        }
        self.give_way(around, hello, dialler)
    }

    /// Sorts out links to the same node: the one process that is alive, and one link to it.
    fn give_way(
        &mut self,
        around: Circumstances<'_>,
        hello: &Hello,
        dialler: &Dialler,
    ) -> Result<Option<String>, Farewell> {
        let same_name = self.links.values().find(|link| *link.peer.name == *hello.name);
        let Some(existing) = same_name else { return Ok(None) };
        let (id, peer) = (existing.id, existing.peer.origin);
        if peer != hello.origin {
            let alive_ms = ALIVE_PINGS * self.settings.tuning.ping_ms;
            if around.now.at_ms < existing.heard_ms + alive_ms {
                return Err(Farewell::Later(format!(
                    "another process named {:?} is linked and alive; give each node a --name of its own",
                    hello.name
                )));
            }
            self.close(id, Farewell::Later("a newer process has this name".to_owned()));
            return Ok(None);
        }
        let dialled_by = |dialler: &Dialler| match dialler {
            Dialler::Us(_) => self.me,
            Dialler::Them => peer,
        };
        let (old, new) = (dialled_by(&existing.dialler), dialled_by(dialler));
        // Both ends come to the same choice: what the lower id dialled stays. Who dials again
        // has lost the first without our noticing.
        if old == new || new < old {
            let endpoint = existing.endpoint.clone();
            self.close(id, Farewell::Duplicate);
            return Ok(endpoint);
        }
        if let (Dialler::Us(endpoint), Some(existing)) = (dialler, self.links.get_mut(&id)) {
            existing.endpoint.get_or_insert_with(|| endpoint.clone());
        }
        Err(Farewell::Duplicate)
    }

    /// Forgets a link.
    pub(super) fn disconnect(&mut self, id: LinkId) {
        let Some(link) = self.links.remove(&id) else { return };
        self.changed = true;
        self.audits.forget_link(id);
        self.deferred.retain(|(from, _)| *from != id);
        if self.receiving.as_ref().is_some_and(|receiving| receiving.link == id) {
            self.break_sync();
        }
        if link.serve.is_some() {
            self.counts.syncs_broken += 1;
        }
        let orphans: Vec<Uuid> =
            self.parents.iter().filter(|(_, parent)| **parent == id).map(|(id, _)| *id).collect();
        for origin in orphans {
            self.parents.remove(&origin);
            self.regraft(origin);
        }
    }

    /// Links to those from whom this node takes what others wrote.
    pub(super) fn feeders(&self) -> impl Iterator<Item = &Link> {
        self.links.values().filter(|link| link.peer.role.feeds(self.settings.role))
    }

    /// Takes an origin's ops from the neighbour that has most of them, where it was asked not to
    /// send them.
    fn regraft(&mut self, origin: Uuid) {
        let pruned = self.links.values().filter(|link| link.pruned_by_us.contains(&origin));
        let Some(best) = pruned.max_by_key(|link| link.known.seq(origin)).map(|link| link.id)
        else {
            return;
        };
        self.graft_now(best, origin);
    }

    /// Measures links, gives silent ones up, asks for what does not come by itself.
    pub(super) fn tend_links(&mut self, around: Circumstances<'_>) {
        let (at_ms, tuning) = (around.now.at_ms, self.settings.tuning);
        let silent = |link: &&Link| at_ms >= link.heard_ms + tuning.silence_ms;
        let silent: Vec<LinkId> = self.links.values().filter(silent).map(|link| link.id).collect();
        for id in silent {
            self.close(id, Farewell::Later("nothing was heard for too long".to_owned()));
        }
        let due = |link: &&mut Link| link.pinged_ms.is_none_or(|at| at_ms >= at + tuning.ping_ms);
        let mut pings = Vec::new();
        for link in self.links.values_mut().filter(due) {
            link.pinged_ms = Some(at_ms);
            pings.push(link.id);
        }
        for id in pings {
            self.send(id, Frame::Ping(around.now.wall.micros(), at_ms));
        }
        // With all that its neighbours have, a new node has joined.
        let has_all = |link: &Link| self.vector.has_all_of(&link.known);
        if !self.links.is_empty() && self.feeders().all(has_all) {
            (self.joining, self.caught_up) = (false, true);
        }
        self.ask_for_dropped(around);
        self.ask_where_behind(around);
    }

    pub(super) fn take_pong(
        &mut self,
        around: Circumstances<'_>,
        id: LinkId,
        (wall_us, at_ms): (u64, u64),
    ) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let rtt_ms = around.now.at_ms.saturating_sub(at_ms);
        link.round_trips.note(rtt_ms);
        let then_us = around.now.wall.micros() as i64 - (rtt_ms * 500) as i64;
        let measured_ms = (wall_us as i64 - then_us) / 1_000;
        let max_skew_ms = self.settings.tuning.max_skew_ms;
        link.skew_ms = skew_after_pong(link.skew_ms, (measured_ms, rtt_ms), max_skew_ms);
        // This node's own clock is among them. Of two, the one ahead is taken to be wrong: only
        // it does harm.
        let mut offsets: Vec<i64> = self.links.values().map(|link| link.skew_ms).collect();
        offsets.push(0);
        offsets.sort_unstable();
        self.skew_ms = -offsets[(offsets.len() - 1) / 2];
    }

    /// Asks again for ops that could not be taken when they came.
    fn ask_for_dropped(&mut self, around: Circumstances<'_>) {
        if self.is_full(around.store) {
            return;
        }
        let dropped = self.links.values().flat_map(|link| {
            let origins = link.dropped.iter().filter(|origin| !self.refuses_stream_of(**origin));
            origins.map(|origin| (link.id, *origin))
        });
        for (id, origin) in dropped.collect::<Vec<_>>() {
            if let Some(link) = self.links.get_mut(&id) {
                link.dropped.remove(&origin);
                link.grafted_ms.remove(&origin);
            }
            self.graft(around, id, origin);
        }
    }

    /// Asks the neighbour with most of an origin, where it has had more than this node for longer
    /// than ops take.
    fn ask_where_behind(&mut self, around: Circumstances<'_>) {
        let mut best: BTreeMap<Uuid, (u64, LinkId, u64)> = BTreeMap::new();
        for link in self.feeders() {
            for (origin, mark) in link.known.iter() {
                if origin == self.me || mark.seq <= self.vector.seq(origin) {
                    continue;
                }
                let found = (mark.seq, link.id, link.round_trips.latest_ms());
                let known = best.entry(origin).or_insert(found);
                if found.0 > known.0 {
                    *known = found;
                }
            }
        }
        self.behind_since.retain(|origin, _| best.contains_key(origin));
        for (origin, (_, id, rtt_ms)) in best {
            let since = *self.behind_since.entry(origin).or_insert(around.now.at_ms);
            let patience_ms = self.settings.tuning.graft_ms.max(3 * rtt_ms);
            if around.now.at_ms >= since + patience_ms && !self.refuses_stream_of(origin) {
                self.behind_since.insert(origin, around.now.at_ms);
                self.graft(around, id, origin);
            }
        }
    }
}
