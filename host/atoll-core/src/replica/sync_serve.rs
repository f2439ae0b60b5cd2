//! Syncs served: what a peer's version vector lacks, and nothing else, while everything goes on.

use super::status::Role;
use super::vector::{Mark, Vector};
use super::{Circumstances, LinkId, Output, Replica, Rest};
use crate::clock::{Hlc, Stamp};
use crate::key::BucketName;
use crate::store::Store;
use crate::store::survey::{Found, Survey, Wanted};
use crate::wire::chunk::{ChunkWriter, Item};
use crate::wire::frame::{Frame, Freshness, SyncBegin};
use crate::wire::op::BucketRef;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Most syncs that are served at once; others wait.
const SERVES_MAX: usize = 2;
/// Steps of a survey between two looks at other work.
const STEPS_MAX: usize = 8;

/// A sync that is being sent.
#[derive(Debug)]
pub(super) struct Serve {
    /// Whether the peer must drop what this node has forgotten.
    freshness: Freshness,
    /// Whether it drops everything else, too.
    anew: bool,
    /// What the peer had when it asked.
    against: Vector,
    survey: Survey,
    stage: Stage,
    /// The latest flush of each bucket that was told.
    flushed: BTreeMap<BucketName, Stamp>,
    /// Of whom this node, a replica, may have sent what no master answers for.
    doubtful: BTreeSet<Uuid>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Begin,
    Entries,
    End,
    /// Everything was sent; the peer has yet to say that it has it.
    Waiting,
}

impl Replica {
    /// Whether what this node holds may include what whoever begins anew must let go of, perhaps
    /// from that very node: a replica in the middle of a sync. What a master holds, it answers for.
    fn mixes(&self) -> bool {
        self.settings.role == Role::Replica && self.receiving.is_some()
    }

    /// Whether a sync is under way to one that begins anew: no other may mix with it.
    pub(super) fn must_not_mix(&self) -> bool {
        let serves = self.links.values().filter_map(|link| link.serve.as_ref());
        self.settings.role == Role::Replica && serves.into_iter().any(|serve| serve.anew)
    }

    /// Goes on with the syncs that are under way, as far as windows allow.
    pub(super) fn serve_syncs(&mut self, around: Circumstances<'_>) -> Rest {
        let ids: Vec<LinkId> = self.links.keys().copied().collect();
        let mut rest = Rest::Idle;
        for id in ids {
            self.start_serving(around, id);
            if self.serve(around, id) == Rest::More {
                rest = Rest::More;
            }
        }
        rest
    }

    fn start_serving(&mut self, around: Circumstances<'_>, id: LinkId) {
        let busy = self.links.values().filter(|link| link.serve.is_some()).count() >= SERVES_MAX;
        let mixes = self.mixes();
        let Some(link) = self.links.get_mut(&id).filter(|link| link.serve.is_none()) else {
            return;
        };
        let must_wait = |least: Freshness| busy || (mixes && least == Freshness::Stale);
        let requested = link.sync_requested.take_if(|(_, least)| !must_wait(*least));
        let Some((against, freshness)) = requested else { return };
        let (survey, stage) = (Survey::new(around.store), Stage::Begin);
        let anew = freshness == Freshness::Stale;
        let (flushed, doubtful) = (BTreeMap::new(), BTreeSet::new());
        link.serve = Some(Serve { freshness, anew, against, survey, stage, flushed, doubtful });
    }

    fn serve(&mut self, around: Circumstances<'_>, id: LinkId) -> Rest {
        let window = self.settings.tuning.bulk_window_bytes;
        for _ in 0..STEPS_MAX {
            let Some(link) = self.links.get_mut(&id) else { return Rest::Idle };
            if link.bulk.under_way() >= window {
                return Rest::Idle;
            }
            let Some(mut serve) = link.serve.take() else { return Rest::Idle };
            match serve.stage {
                Stage::Waiting => {}
                Stage::Begin => self.send_beginning(around, id, &mut serve),
                Stage::Entries => {
                    serve.doubtful.extend(self.doubtful(around.store));
                    self.send_entries(around.store, id, &mut serve);
                }
                Stage::End => {
                    let doubtful = std::mem::take(&mut serve.doubtful);
                    self.send_bulk(id, Frame::SyncEnd(doubtful.into_iter().collect()));
                    serve.stage = Stage::Waiting;
                }
            }
            let waits = serve.stage == Stage::Waiting;
            if let Some(link) = self.links.get_mut(&id) {
                link.serve = Some(serve);
            }
            if waits {
                return Rest::Idle;
            }
        }
        Rest::More
    }

    fn send_beginning(&mut self, around: Circumstances<'_>, id: LinkId, serve: &mut Serve) {
        // Fixed from here on: what the receiver will have, and whether it may hold what was dropped
        // before. From now on nothing is.
        let floor = self.floor.first;
        if may_hold_forgotten(&serve.against, &self.vector, floor) {
            serve.freshness = Freshness::Stale;
        }
        if !self.settings.rules.stale {
            serve.freshness = Freshness::Current;
        }
        let begin = SyncBegin {
            vector: self.vector.clone(),
            floor,
            freshness: serve.freshness,
            members: self.members.all().map(|known| known.member.clone()).collect(),
            gone: self.members.gone(),
        };
        self.send_bulk(id, Frame::SyncBegin(Box::new(begin)));
        serve.survey = Survey::new(around.store);
        let mut chunk = ChunkWriter::default();
        serve.tell_flushes(&mut chunk, around.store);
        self.send_chunk(id, chunk);
        serve.stage = Stage::Entries;
    }

    fn send_entries(&mut self, store: &Store, id: LinkId, serve: &mut Serve) {
        let wanted = match serve.freshness {
            Freshness::Stale => Wanted::Everything,
            Freshness::Current => Wanted::Uncovered(&serve.against),
        };
        let step = store.survey(&mut serve.survey, wanted, self.settings.tuning.chunk_bytes);
        let mut chunk = ChunkWriter::default();
        // What a flush of this moment has ended is listed no more: without the flush, which may die
        // with this node, the peer would take it for undone by what the beginning covers.
        serve.tell_flushes(&mut chunk, store);
        for found in step.found {
            self.counts.entries_sent += serve.write(&mut chunk, found);
        }
        self.send_chunk(id, chunk);
        if step.done {
            serve.stage = Stage::End;
        }
    }

    fn send_chunk(&mut self, id: LinkId, chunk: ChunkWriter) {
        if !chunk.is_empty() {
            self.send_bulk(id, Frame::Chunk(chunk.finish()));
        }
    }

    fn send_bulk(&mut self, id: LinkId, frame: Frame) {
        if let Some(link) = self.links.get_mut(&id) {
            link.bulk.sent += frame.weight();
            self.outputs.push_back(Output::Send(id, frame));
        }
    }

    /// The peer has taken a sync in.
    pub(super) fn finish_serving(&mut self, id: LinkId, vector: &Vector) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.known.join(vector);
        if link.serve.as_ref().is_some_and(|serve| serve.stage == Stage::Waiting) {
            link.serve = None;
            self.counts.syncs_sent += 1;
        }
    }
}

impl Serve {
    /// Tells of flushes that the peer was not told of.
    fn tell_flushes(&mut self, chunk: &mut ChunkWriter, store: &Store) {
        for (bucket, stamp) in store.flush_marks() {
            if self.flushed.get(&bucket) != Some(&stamp) {
                chunk.push(&Item::Flush { bucket: BucketRef::of(&bucket), stamp });
                self.flushed.insert(bucket, stamp);
            }
        }
    }

    /// Writes what the peer needs of a record. Returns how many items that were.
    fn write(&self, chunk: &mut ChunkWriter, found: Found) -> u64 {
        let (bucket, key) = (BucketRef::of(&found.bucket), &found.key[..]);
        let lacking = found.entry.uncovered(&self.against);
        match (self.freshness, lacking) {
            (Freshness::Stale, Some(_)) => {
                // In full: what it does not name is to be dropped.
                chunk.push(&Item::Entry { bucket, key, entry: found.entry });
            }
            (Freshness::Stale, None) => {
                chunk.push(&Item::Listed { bucket, key, entry: found.entry.outline() });
            }
            (Freshness::Current, Some(entry)) => chunk.push(&Item::Entry { bucket, key, entry }),
            (Freshness::Current, None) => return 0,
        }
        1
    }
}

/// Whether a node that has `theirs` may hold something that one which has `mine` and `floor` has
/// forgotten: it missed something that was written below the floor.
fn may_hold_forgotten(theirs: &Vector, mine: &Vector, floor: Hlc) -> bool {
    let missed = |(origin, mark): (Uuid, Mark)| {
        let has = theirs.get(origin);
        has.seq < mark.seq && has.head < floor
    };
    // Where neither has ever seen a write that the other has, neither can have undone one.
    mine.iter().any(missed) && theirs.shares_with(mine)
}
