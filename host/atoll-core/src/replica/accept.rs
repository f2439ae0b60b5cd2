//! The way in: frames of a link, and above all the ops of others.

use super::{Circumstances, LinkId, Output, Replica, Violation};
use crate::clock::{Hlc, Stamp};
use crate::entry::op::{Effect, Op};
use crate::entry::{Deadline, Entry};
use crate::limits::MEMBER_COUNT_MAX;
use crate::replica::status::Role;
use crate::replica::vector::Mark;
use crate::store::ahead::Late;
use crate::store::apply::MergeError;
use crate::store::edit::{Edit, NewValue};
use crate::store::outbox::{Body, Run};
use crate::wire::frame::{Frame, Lane, Member};
use crate::wire::op::{BucketRef, EffectRef, Ops, Place, decode_all};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;

/// How a run of ops was taken.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// Ops that were new.
    novel: u64,
    /// The next one is stamped so far ahead of the clock, in ms.
    ahead_ms: Option<u64>,
}

impl Replica {
    /// Deals with a frame.
    pub(super) fn receive(
        &mut self,
        around: Circumstances<'_>,
        id: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        link.heard_ms = around.now.at_ms;
        match frame {
            Frame::Origin { index, member } => return self.take_origin(id, index, member),
            Frame::Ops { .. } | Frame::Large { .. } => {
                return self.take_ops(around, id, frame);
            }
            Frame::Ack { live, bulk, marks } => {
                return self.take_acknowledgement(id, (live, bulk), &marks);
            }
            Frame::Prune(origin) => self.take_prune(id, origin),
            Frame::Graft(origin, after) => self.take_graft(id, origin, after),
            Frame::Nack(origin, _) => self.take_nack(around, id, origin),
            Frame::Report(report) => self.take_report(around, id, *report),
            Frame::NeedSync => link.sync_needed = true,
            Frame::SyncRequest(..) if self.begins_anew => {
                // What this node holds is what it must let go of.
                link.sync_offered = false;
                self.send(id, Frame::SyncRefused);
            }
            Frame::SyncRefused => {
                link.refused_ms = Some(around.now.at_ms);
                self.receiving.take_if(|receiving| receiving.link == id && !receiving.has_begun());
            }
            Frame::SyncRequest(vector, freshness) => {
                link.known.clone_from(&vector);
                link.sync_requested = Some((vector, freshness));
                (link.sync_offered, link.serve) = (false, None);
            }
            Frame::SyncBegin(begin) => return self.begin_sync(around, id, *begin),
            Frame::Chunk(_) | Frame::SyncEnd(_) => {
                return self.take_entries(around, id, frame);
            }
            Frame::SyncDone(vector) => self.finish_serving(id, &vector),
            Frame::Ping(_, at_ms) => {
                self.send(id, Frame::Pong(around.now.wall.micros(), at_ms));
            }
            Frame::Pong(wall_us, at_ms) => self.take_pong(around, id, (wall_us, at_ms)),
            Frame::Audit(number, audit) => {
                return self.take_audit(around, (id, number), *audit);
            }
            Frame::Bye(_) => self.disconnect(id),
        }
        Ok(())
    }

    fn take_origin(&mut self, id: LinkId, index: u32, member: Member) -> Result<(), Violation> {
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let known = link.incoming.entry(index).or_insert_with(|| member.clone());
        if known.origin != member.origin || link.incoming.len() > MEMBER_COUNT_MAX {
            return Err(Violation::new("numbers its origins wrongly"));
        }
        Ok(())
    }

    fn take_ops(
        &mut self,
        around: Circumstances<'_>,
        id: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        let (weight, lane) = (frame.weight(), frame.lane());
        let (index, first_seq, base, count, run) = match frame {
            Frame::Ops { index, first_seq, base, count, run } => {
                (index, first_seq, base, count, run)
            }
            Frame::Large { index, member, seq, base, run } => {
                self.take_origin(id, index, member)?;
                (index, seq, base, 1, run)
            }
            _ => return Ok(()),
        };
        let is_full = self.is_full(around.store);
        let Some(link) = self.links.get_mut(&id) else { return Ok(()) };
        let Some(member) = link.incoming.get(&index).cloned() else {
            return Err(Violation::new("sends ops of an origin that it did not name"));
        };
        link.window_mut(lane).received += weight;
        let origin = member.origin;
        if is_full || self.refuses_stream_of(origin) {
            if let Some(link) = self.links.get_mut(&id) {
                link.dropped.insert(origin);
            }
            return Ok(());
        }
        let place = Place { origin, first_seq, base, count };
        if first_seq == 0 || count == 0 {
            return Err(Violation::new("sends an op without a number"));
        }
        let before = self.vector.seq(origin);
        if first_seq > before + 1 {
            self.graft(around, id, origin);
            return Ok(());
        }
        if self.settings.role == Role::Replica && self.members.have_let_go(origin, first_seq) {
            // A replica that has yet to hear of that passes on what no master has any more.
            self.counts.ops_duplicate += u64::from(count);
            return Ok(());
        }
        let taken = self.apply_run(around, (&member, place), &run)?;
        let after = self.vector.seq(origin);
        if let Some(ahead_ms) = taken.ahead_ms {
            self.counts.skew_refused += 1;
            self.send(id, Frame::Nack(origin, ahead_ms));
        }
        self.counts.ops_received += taken.novel;
        if taken.novel > 0 {
            self.changed = true;
            self.parents.insert(origin, id);
            let kept = (after + 1 - first_seq) as u32;
            let body = Body::Packed(run);
            self.keep(origin, lane, Run { first_seq, count: kept, base, last: Hlc::ZERO, body });
        } else if taken.ahead_ms.is_none() {
            self.counts.ops_duplicate += u64::from(count);
            self.prune(id, origin);
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.unacknowledged.insert(index);
            let has = first_seq + u64::from(count) - 1;
            link.known.raise(origin, Mark { seq: has, head: Hlc::ZERO });
        }
        Ok(())
    }

    /// Applies what is new of a run.
    fn apply_run(
        &mut self,
        around: Circumstances<'_>,
        (member, place): (&Member, Place),
        run: &Bytes,
    ) -> Result<Taken, Violation> {
        let (origin, mut taken) = (place.origin, Taken::default());
        let limit = self.skew_limit(around.now);
        let mut announced = self.joined.contains(&origin);
        let shown = around.store.is_log_read(around.now.wall);
        let mut witnessed = Hlc::ZERO;
        let mut ops = around.store.look_ahead(Ops::new(run, place), self.vector.seq(origin));
        while let Some(op) = ops.next() {
            let (seq, stamp, effect) = op.map_err(|error| Violation::new(error.to_string()))?;
            let mark = self.vector.get(origin);
            if seq <= mark.seq {
                continue;
            }
            if stamp.hlc > limit {
                let ahead_us = stamp.hlc.micros().saturating_sub(around.now.wall.micros());
                taken.ahead_ms = Some(ahead_us / 1_000);
                break;
            }
            if stamp.hlc <= mark.head || origin == self.me {
                return Err(Violation::new("breaks a promise about an origin's stamps"));
            }
            if !announced {
                self.announce(around, member);
                announced = true;
            }
            if stamp.hlc > witnessed {
                // At once for all that are at hand, if they are all going to be taken.
                witnessed =
                    Some(ops.newest()).filter(|newest| *newest <= limit).unwrap_or(stamp.hlc);
                around.store.witness(witnessed);
            }
            if !ops.join((stamp, &effect), self.late()).map_err(violation)? {
                self.apply_op(around, (stamp, &effect), run)?;
            }
            if shown {
                let op = || Op { seq, stamp, effect: effect.to_effect(run) };
                around.store.log_foreign(around.now.wall, op);
            }
            self.vector.raise(origin, Mark { seq, head: stamp.hlc });
            if let Some(change) = effect.internal() {
                around.store.tell_internal(change);
            }
            taken.novel += 1;
        }
        Ok(taken)
    }

    fn apply_op(
        &mut self,
        around: Circumstances<'_>,
        (stamp, effect): (Stamp, &EffectRef<'_>),
        run: &Bytes,
    ) -> Result<(), Violation> {
        match effect {
            EffectRef::Join { origin, name } => {
                let role = Role::Master;
                let member = Member { origin: *origin, name: (*name).into(), role };
                self.members.learn(&member, None);
                return Ok(());
            }
            EffectRef::Message { .. } => {
                if let Effect::Message { channel, payload } = effect.to_effect(run) {
                    self.outputs.push_back(Output::Message { channel, payload });
                }
                return Ok(());
            }
            EffectRef::Set { bucket, key, value, deadline, .. } => {
                let new = Latecomer { bucket: *bucket, key, value, deadline: *deadline };
                self.adopt(around, stamp, &new)?;
            }
            EffectRef::Relay { bucket, key, entry } => {
                let (entry, mut late) = (Entry::clone(entry), BTreeSet::new());
                return self.merge_entry(around, (*bucket, key), entry, &mut late).map(|_| ());
            }
            _ => {}
        }
        let applied = around.store.apply_effect(stamp, effect, (around.now.wall, run));
        applied.map(|_| ()).map_err(violation)
    }

    /// Whether versions that may be late are looked at before they are joined.
    fn late(&self) -> Late {
        if self.settings.rules.adopt { Late::Leave } else { Late::Join }
    }

    /// Writes a value from beyond the horizon anew, where this node may have forgotten what
    /// superseded it: nodes that have and nodes that have not would disagree for ever. A replica,
    /// which writes nothing, takes everything anew: it has forgotten what its masters had to keep
    /// for one of whom it had not heard.
    fn adopt(
        &mut self,
        around: Circumstances<'_>,
        stamp: Stamp,
        late: &Latecomer<'_>,
    ) -> Result<(), Violation> {
        if self.late() == Late::Join || late.deadline.is_past(around.now.wall.millis()) {
            return Ok(());
        }
        let bucket = around.store.open(late.bucket);
        let bucket = bucket.map_err(|error| Violation::new(error.to_string()))?;
        if !around.store.may_have_forgotten(&bucket, late.key, stamp) {
            return Ok(());
        }
        if self.settings.role == Role::Replica {
            self.begins_anew = true;
            return Ok(());
        }
        self.counts.late_adopted += 1;
        let edit = Edit::set(NewValue::Copy(late.value), late.deadline);
        // Refused for want of memory, the value is still merged as it came.
        let _ = around.store.write(&bucket, late.key, around.now.wall, |_| (edit, ()));
        Ok(())
    }

    /// The same for an entry of a sync.
    pub(super) fn adopt_entry(
        &mut self,
        around: Circumstances<'_>,
        (bucket, key): (BucketRef<'_>, &[u8]),
        entry: &Entry,
    ) -> Result<(), Violation> {
        let Some(value) = &entry.register.value else { return Ok(()) };
        let (value, deadline) = (&value.bytes[..], entry.register_deadline());
        self.adopt(around, entry.register.stamp, &Latecomer { bucket, key, value, deadline })
    }

    /// Says in this process's own stream that it has met another, before anything of it is
    /// applied: whoever has this stream then knows the other.
    pub(super) fn announce(&mut self, around: Circumstances<'_>, member: &Member) {
        self.members.learn(member, None);
        if !self.joined.insert(member.origin) || self.settings.role == Role::Replica {
            return;
        }
        if self.settings.rules.join {
            let (origin, name) = (member.origin, &*member.name);
            around.store.announce(around.now.wall, EffectRef::Join { origin, name });
        }
    }

    /// Keeps a run of another origin for the other links.
    fn keep(&mut self, origin: Uuid, lane: Lane, run: Run) {
        let last = self.vector.get(origin).head;
        let run = Run { last, ..run };
        match run.body {
            Body::Packed(bytes) if lane == Lane::Bulk => {
                let place = Place { origin, first_seq: run.first_seq, base: run.base, count: 1 };
                let single = decode_all(&bytes, place).ok().and_then(|mut ops| ops.pop());
                let body = match single {
                    Some(op) => Body::Large(Arc::new(op)),
                    None => Body::Packed(bytes),
                };
                self.logs.push(origin, Run { body, ..run });
            }
            body => self.logs.push(origin, Run { body, ..run }),
        }
    }

    /// Asks the peer to leave this origin's ops to whom they come from anyway.
    fn prune(&mut self, id: LinkId, origin: Uuid) {
        let comes_from_there = self.parents.get(&origin) == Some(&id);
        let comes_from_another = self.parents.contains_key(&origin);
        if !self.settings.rules.prune
            || comes_from_there
            || !(comes_from_another || origin == self.me)
        {
            return;
        }
        if let Some(link) = self.links.get_mut(&id)
            && link.pruned_by_us.insert(origin)
        {
            self.send(id, Frame::Prune(origin));
        }
    }

    /// Asks the peer for this origin's ops, from what this node has on; not again at once.
    pub(super) fn graft(&mut self, around: Circumstances<'_>, id: LinkId, origin: Uuid) {
        let gap_ms = self.settings.tuning.graft_ms;
        let Some(link) = self.links.get_mut(&id) else { return };
        let again = link.grafted_ms.get(&origin).is_some_and(|at| around.now.at_ms < at + gap_ms);
        if again {
            return;
        }
        link.grafted_ms.insert(origin, around.now.at_ms);
        self.graft_now(id, origin);
    }

    /// The same, whenever that was done last.
    pub(super) fn graft_now(&mut self, id: LinkId, origin: Uuid) {
        if let Some(link) = self.links.get_mut(&id) {
            link.pruned_by_us.remove(&origin);
            let after = self.vector.seq(origin);
            self.send(id, Frame::Graft(origin, after));
        }
    }
}

fn violation(error: MergeError) -> Violation {
    Violation::new(error.to_string())
}

/// A version that may be late.
struct Latecomer<'a> {
    bucket: BucketRef<'a>,
    key: &'a [u8],
    value: &'a [u8],
    deadline: Deadline,
}
