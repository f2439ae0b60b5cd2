//! Syncs received: entries that this node's version vector lacks, and what it must let go of.

use super::key_hash::hash_key;
use super::link::Link;
use super::status::Role;
use super::vector::{Mark, Vector};
use super::{Circumstances, LinkId, Replica, Violation};
use crate::clock::{Hlc, Stamp};
use crate::entry::Entry;
use crate::store::Bucket;
use crate::store::survey::{Survey, Wanted};
use crate::wire::chunk::{Item, read_chunk};
use crate::wire::frame::{Farewell, Frame, Freshness, SyncBegin};
use crate::wire::op::BucketRef;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// A sync that was asked for, or is under way.
#[derive(Debug)]
pub(super) struct Receiving {
    pub(super) link: LinkId,
    /// Whose writes this node had seen when it asked.
    held: Vector,
    /// What its beginning said; `None` until then.
    begun: Option<SyncBegin>,
    /// Whether this node lets go of everything that is not listed.
    anew: bool,
    /// Digests of the keys that were listed, in a stale sync.
    listed: HashSet<u128, BuildHasherDefault<Xxh3>>,
    /// What must be dropped where it is not listed, in a stale sync: what this covers.
    drops: Vector,
    /// Origins whose writes are too far ahead of the clock to be taken now.
    late: BTreeSet<Uuid>,
    /// Whose writes were merged, and the newest of each: should the sync break off, no vector
    /// covers them.
    sources: BTreeMap<Uuid, Hlc>,
}

impl Receiving {
    /// Whether it is under way.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    /// Whose writes were merged so far.
    pub(super) fn authors(&self) -> impl Iterator<Item = Uuid> {
        self.sources.keys().copied()
    }

    /// Whether an op of `origin` may be one that the sender has forgotten the successor of, and takes
    /// this node not to have: of whoever asks and has seen nothing that the sender has.
    fn is_strange(&self, origin: Uuid) -> bool {
        let begun = self.begun.as_ref();
        !self.held.names(origin) && !begun.is_some_and(|begin| self.held.shares_with(&begin.vector))
    }

    fn is_stale(&self) -> bool {
        self.begun.as_ref().is_some_and(|begin| begin.freshness == Freshness::Stale)
    }
}

impl Replica {
    /// Asks a peer that has offered it for a sync, one at a time.
    pub(super) fn request_sync(&mut self, around: Circumstances<'_>) {
        let at_ms = around.now.at_ms;
        if self.receiving.is_some() || self.must_not_mix() {
            return;
        }
        let must_drop = self.must_begin_anew();
        // A master, which never has to begin anew itself; the fullest one: it may save the others.
        let patience_ms = self.settings.tuning.ping_ms;
        let willing =
            |link: &&Link| link.refused_ms.is_none_or(|refused| at_ms >= refused + patience_ms);
        // Who has begun to drop things and was interrupted must ask: nobody else may see a need.
        let must_ask = must_drop || self.stale;
        let offering = self.feeders().filter(|link| link.sync_needed || must_ask);
        let offering = offering.filter(willing);
        let best = offering.max_by_key(|link| {
            let held: u64 = link.known.iter().map(|(_, mark)| mark.seq).sum();
            (link.peer.role == Role::Master, held)
        });
        let Some(link) = best.map(|link| link.id) else { return };
        if let Some(link) = self.links.get_mut(&link) {
            link.sync_needed = false;
        }
        let (listed, late, sources) = (HashSet::default(), BTreeSet::new(), BTreeMap::new());
        let (mut drops, mut least) = (Vector::default(), Freshness::Current);
        if must_drop {
            (drops, least) = (self.everything(around.store), Freshness::Stale);
            self.vector = Vector::default();
            self.beyond.clear();
        }
        let mut held = self.vector.clone();
        for &origin in &self.uncovered {
            held.raise(origin, Mark::default());
        }
        self.send(link, Frame::SyncRequest(held.clone(), least));
        let (begun, anew) = (None, must_drop);
        self.receiving = Some(Receiving { link, held, begun, anew, listed, drops, late, sources });
    }

    /// Whether ops of `origin` must wait: while this node drops what others forgot, an old op could
    /// slip in behind.
    pub(super) fn refuses_stream_of(&self, origin: Uuid) -> bool {
        let refuses = |receiving: &Receiving| {
            receiving.is_stale() || self.begins_anew || receiving.is_strange(origin)
        };
        self.settings.rules.exclusive && self.receiving.as_ref().is_some_and(refuses)
    }

    pub(super) fn begin_sync(
        &mut self,
        around: Circumstances<'_>,
        id: LinkId,
        begin: SyncBegin,
    ) -> Result<(), Violation> {
        let asked = self.receiving.as_ref().is_some_and(|receiving| receiving.link == id);
        if !asked {
            return Err(Violation::new("sends a sync that nobody asked for"));
        }
        for member in &begin.members {
            self.members.learn(member, None);
        }
        for &gone in &begin.gone {
            self.members.believe_gone(gone);
        }
        // Whoever hears of this node's new state must know whose writes are in it.
        for (origin, _) in begin.vector.iter() {
            let member = self.members.describe(origin);
            self.announce(around, &member);
        }
        if begin.freshness == Freshness::Stale {
            self.stale = true;
            if self.receiving.as_ref().is_some_and(|receiving| receiving.anew) {
                around.store.forget_flushes();
            }
        }
        // A replica writes nothing itself: where the sender has all that it has, it has no part in
        // what is not listed, covered or not.
        let has_all = self.settings.role == Role::Replica && begin.vector.has_all_of(&self.vector);
        let everything = has_all.then(|| self.everything(around.store));
        if let Some(receiving) = &mut self.receiving {
            receiving.drops.join(everything.as_ref().unwrap_or(&begin.vector));
            receiving.begun = Some(begin);
        }
        Ok(())
    }

    /// Takes a chunk or the end of a sync: now or when there is room.
    pub(super) fn take_entries(
        &mut self,
        around: Circumstances<'_>,
        id: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        if !self.deferred.is_empty() || self.must_defer(around) {
            self.deferred.push_back((id, frame));
            return Ok(());
        }
        self.take_now(around, id, frame)
    }

    /// Whether a sync has to wait for room. One that also drops things must be able to go on.
    fn must_defer(&self, around: Circumstances<'_>) -> bool {
        let stale = self.receiving.as_ref().is_some_and(Receiving::is_stale);
        self.is_full(around.store) && !stale
    }

    /// Goes on with what had to wait.
    pub(super) fn take_deferred(&mut self, around: Circumstances<'_>) {
        while !self.deferred.is_empty() && !self.must_defer(around) {
            let Some((id, frame)) = self.deferred.pop_front() else { return };
            if let Err(violation) = self.take_now(around, id, frame) {
                self.close(id, Farewell::Refused(violation.to_string()));
            }
        }
    }

    fn take_now(
        &mut self,
        around: Circumstances<'_>,
        id: LinkId,
        frame: Frame,
    ) -> Result<(), Violation> {
        if let Some(link) = self.links.get_mut(&id) {
            link.bulk.received += frame.weight();
        }
        let is_under_way = |receiving: &Receiving| receiving.link == id && receiving.has_begun();
        let of_sync = self.receiving.as_ref().is_some_and(is_under_way);
        match frame {
            Frame::Chunk(bytes) if of_sync => self.take_chunk(around, &bytes),
            Frame::SyncEnd(doubtful) if of_sync => {
                self.end_sync(around, id, &doubtful);
                Ok(())
            }
            _ => Err(Violation::new("sends a part of a sync out of turn")),
        }
    }

    fn take_chunk(&mut self, around: Circumstances<'_>, bytes: &Bytes) -> Result<(), Violation> {
        let mut receiving = self.receiving.take().expect("the caller has seen it");
        let mut fault = Ok(());
        let read = read_chunk(bytes, |item| {
            if fault.is_ok() {
                fault = self.take_item(around, &mut receiving, item);
            }
        });
        self.receiving = Some(receiving);
        fault?;
        read.map_err(|error| Violation::new(error.to_string()))
    }

    fn take_item(
        &mut self,
        around: Circumstances<'_>,
        receiving: &mut Receiving,
        item: Item<'_>,
    ) -> Result<(), Violation> {
        let stale = receiving.is_stale();
        around.store.note_outside_log();
        match item {
            Item::Flush { bucket, stamp } => {
                let bucket = open(around, bucket)?;
                let news = around.store.flush_at(&bucket, stamp, around.now.wall);
                if news {
                    note(&mut receiving.sources, stamp);
                }
            }
            Item::Listed { bucket, key, entry } => {
                if stale {
                    self.restrict(around, receiving, (bucket, key), &entry)?;
                }
            }
            Item::Entry { bucket, key, entry } => {
                self.counts.entries_received += 1;
                if stale {
                    self.restrict(around, receiving, (bucket, key), &entry)?;
                }
                let merged = self.merge_entry(around, (bucket, key), entry, &mut receiving.late)?;
                for stamp in merged.iter().flat_map(Entry::stamps) {
                    note(&mut receiving.sources, stamp);
                }
            }
        }
        Ok(())
    }

    /// Drops of a key what the sender has seen and does not list.
    fn restrict(
        &mut self,
        around: Circumstances<'_>,
        receiving: &mut Receiving,
        (bucket, key): (BucketRef<'_>, &[u8]),
        listed: &Entry,
    ) -> Result<(), Violation> {
        receiving.listed.insert(digest(bucket, key));
        let bucket = open(around, bucket)?;
        around.store.restrict(&bucket, key, (listed, &receiving.drops));
        Ok(())
    }

    /// Merges those parts of an entry that this node's vector does not cover. Returns them where
    /// anything was news.
    pub(super) fn merge_entry(
        &mut self,
        around: Circumstances<'_>,
        (bucket, key): (BucketRef<'_>, &[u8]),
        entry: Entry,
        late: &mut BTreeSet<Uuid>,
    ) -> Result<Option<Entry>, Violation> {
        let part = match self.settings.rules.receiver {
            true => entry.uncovered(&self.vector),
            false => Some(entry),
        };
        let Some(mut part) = part else { return Ok(None) };
        let too_early = part.retain_until(self.skew_limit(around.now));
        if !too_early.is_empty() {
            self.counts.skew_refused += 1;
            late.extend(too_early);
        }
        if part == Entry::default() {
            return Ok(None);
        }
        self.adopt_entry(around, (bucket, key), &part)?;
        let bucket = open(around, bucket)?;
        let merged = around.store.merge(&bucket, key, &part);
        let news = merged.map_err(|error| Violation::new(error.to_string()))?;
        Ok(news.then_some(part))
    }

    fn end_sync(&mut self, around: Circumstances<'_>, id: LinkId, doubtful: &[Uuid]) {
        let Some(receiving) = self.receiving.take() else { return };
        // Behind the last of what came.
        around.store.note_outside_log();
        let stale = receiving.is_stale();
        let Some(begin) = receiving.begun else { return };
        if stale {
            drop_unlisted(around, &receiving.listed, &receiving.drops);
            self.begins_anew &= !receiving.anew;
            self.counts.syncs_stale += 1;
        }
        for (origin, mark) in begin.vector.iter() {
            if origin == self.me || receiving.late.contains(&origin) {
                continue;
            }
            if mark.seq > self.vector.seq(origin) {
                self.logs.restart(origin);
                self.parents.insert(origin, id);
            }
            self.vector.raise(origin, mark);
        }
        if self.settings.rules.floor_travels {
            self.floor.adopt(begin.floor);
        }
        self.counts.syncs_received += 1;
        self.audit_soon(id, around.now.at_ms);
        (self.stale, self.joining, self.changed) = (false, false, true);
        let vector = &self.vector;
        let mut sources = receiving.sources;
        sources.retain(|origin, newest| *newest > vector.get(*origin).head);
        if self.settings.role == Role::Replica {
            // What a master holds uncovered it will relay, or all masters have it: for a replica
            // that is as good as covered, and so it is where it comes from there by another. But
            // not while the only masters to have it may die with it.
            let members = &self.members;
            let is_settled = |origin: Uuid| members.have_let_go_where(origin, |_| true);
            for (&origin, &newest) in sources.iter().filter(|(origin, _)| !is_settled(**origin)) {
                let known = self.beyond.entry(origin).or_default();
                *known = newest.max(*known);
            }
            sources.retain(|origin, _| doubtful.contains(origin));
        }
        self.note_uncovered(sources);
        self.send(id, Frame::SyncDone(self.vector.clone()));
    }

    /// A sync broke off: what was merged of it no vector covers.
    pub(super) fn break_sync(&mut self) {
        let Some(receiving) = self.receiving.take() else { return };
        if receiving.has_begun() {
            self.counts.syncs_broken += 1;
        }
        self.note_uncovered(receiving.sources);
    }
}

fn open(around: Circumstances<'_>, bucket: BucketRef<'_>) -> Result<Arc<Bucket>, Violation> {
    around.store.open(bucket).map_err(|error| Violation::new(error.to_string()))
}

fn note(sources: &mut BTreeMap<Uuid, Hlc>, stamp: Stamp) {
    let newest = sources.entry(stamp.origin).or_default();
    *newest = stamp.hlc.max(*newest);
}

/// Drops what `vector` covers of every key that was not listed.
fn drop_unlisted(
    around: Circumstances<'_>,
    listed: &HashSet<u128, BuildHasherDefault<Xxh3>>,
    vector: &Vector,
) {
    let mut survey = Survey::new(around.store);
    loop {
        let step = around.store.survey(&mut survey, Wanted::Everything, usize::MAX);
        for found in step.found {
            if listed.contains(&digest(BucketRef::of(&found.bucket), &found.key)) {
                continue;
            }
            if let Some(bucket) = around.store.find_bucket(&found.bucket) {
                around.store.restrict(&bucket, &found.key, (&Entry::default(), vector));
                around.store.note_outside_log();
            }
        }
        if step.done {
            return;
        }
    }
}

/// Names a key among all.
fn digest(bucket: BucketRef<'_>, key: &[u8]) -> u128 {
    hash_key(bucket, key).digest128()
}
