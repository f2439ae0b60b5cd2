//! Effects that no version vector covers: what a broken sync, a sync beside fresh writes, or a disk
//! ahead of its vector leaves behind.
//!
//! As long as their origin lives they will be covered: its stream comes. Once it is gone it may be
//! that nobody else has them, so they are put into this process's own stream, with their stamps.
//! Only then does this node agree that the origin is gone: until everyone does, the origin's head
//! holds the floor below them.

use super::status::Role;
use super::sync_receive::Receiving;
use super::vector::Vector;
use super::{Circumstances, Replica};
use crate::clock::Hlc;
use crate::store::Store;
use crate::store::survey::{Survey, Wanted};
use crate::wire::op::{BucketRef, EffectRef};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Bytes of effects that are relayed in one turn.
const TURN_BYTES: usize = 256 * 1024;

/// A search for uncovered effects of origins that are gone.
#[derive(Debug)]
pub(super) struct Relaying {
    origins: BTreeSet<Uuid>,
    survey: Survey,
}

impl Replica {
    /// Notes whose effects may be in the store and in nobody's stream. What a master has known
    /// everyone to have is: a peer that has not dropped it yet would bring it back to be relayed
    /// again, for as long as there are syncs.
    pub(super) fn note_uncovered(&mut self, mut sources: BTreeMap<Uuid, Hlc>) {
        if self.settings.role == Role::Master {
            sources.retain(|_, newest| *newest > self.floor.first);
        }
        self.uncovered.extend(sources.into_keys());
        self.changed = true;
    }

    /// Processes that are gone and of whom this node holds nothing that is in nobody's stream.
    pub(super) fn settled_gone(&self) -> Vec<Uuid> {
        let mut gone = self.members.gone();
        if self.settings.rules.relay {
            let relaying = self.relaying.as_ref();
            gone.retain(|origin| {
                !self.uncovered.contains(origin)
                    && relaying.is_none_or(|relaying| !relaying.origins.contains(origin))
            });
        }
        gone
    }

    /// Puts effects of origins that are gone into this process's own stream.
    pub(super) fn relay(&mut self, around: Circumstances<'_>) {
        if self.settings.role == Role::Replica || !self.settings.rules.relay {
            return;
        }
        let Some(mut relaying) = self.relaying.take().or_else(|| self.begin_relaying(around))
        else {
            return;
        };
        let wanted = Wanted::Uncovered(&self.vector);
        let step = around.store.survey(&mut relaying.survey, wanted, TURN_BYTES);
        let from_gone = |origin: &Uuid| relaying.origins.contains(origin);
        for found in step.found {
            let Some(entry) = found.entry.uncovered(&self.vector) else { continue };
            if entry.stamps().any(|stamp| from_gone(&stamp.origin)) {
                let (bucket, key) = (BucketRef::of(&found.bucket), &found.key[..]);
                let effect = EffectRef::Relay { bucket, key, entry: Box::new(entry) };
                around.store.announce(around.now.wall, effect);
            }
        }
        if !step.done {
            self.relaying = Some(relaying);
            return;
        }
        for (bucket, stamp) in around.store.flush_marks() {
            if from_gone(&stamp.origin) && !self.vector.covers(stamp) {
                let bucket = BucketRef::of(&bucket);
                around.store.announce(around.now.wall, EffectRef::RelayFlush { bucket, stamp });
            }
        }
        self.take_own_ops(around);
        self.changed = true;
    }

    /// Not while a sync is under way or due: most of it will be covered afterwards. Nor before
    /// everyone was heard, or could have been: a disk may hold what they have forgotten.
    fn begin_relaying(&mut self, around: Circumstances<'_>) -> Option<Relaying> {
        let waited = around.now.at_ms >= self.started_ms + self.settings.tuning.start_grace_ms;
        let caught_up = match waited {
            true => self.caught_up || self.links.is_empty(),
            false => self.caught_up && self.has_what_masters_have(),
        };
        if !caught_up || self.receiving.is_some() || self.stale || self.uncovered.is_empty() {
            return None;
        }
        let is_gone = |origin: &Uuid| self.members.get(*origin).is_none_or(|known| known.gone);
        let origins: BTreeSet<Uuid> = self.uncovered.iter().copied().filter(is_gone).collect();
        if origins.is_empty() {
            return None;
        }
        self.uncovered.retain(|origin| !origins.contains(origin));
        Some(Relaying { origins, survey: Survey::new(around.store) })
    }

    /// Whether every master has said what it has, and this node has it.
    fn has_what_masters_have(&self) -> bool {
        let mut others = self.members.rows().filter(|(id, _)| *id != self.me);
        others.all(|(_, known)| {
            known.report.as_ref().is_some_and(|report| self.vector.has_all_of(&report.vector))
        })
    }

    /// Of whom this node, a replica, holds effects that perhaps no master answers for.
    pub(super) fn doubtful(&self, store: &Store) -> BTreeSet<Uuid> {
        if self.settings.role == Role::Master {
            return BTreeSet::new();
        }
        let mut doubtful = self.uncovered.clone();
        doubtful.extend(self.receiving.iter().flat_map(Receiving::authors));
        if self.begins_anew {
            doubtful.extend(store.origins_seen());
        }
        doubtful
    }

    /// Whether this node holds effects that masters may lack and that it must not spread itself: a
    /// replica then takes everything anew and lets go of what is not listed.
    pub(super) fn must_begin_anew(&mut self) -> bool {
        let is_gone = |origin: &Uuid| self.members.get(*origin).is_none_or(|known| known.gone);
        if self.settings.role == Role::Replica && self.uncovered.iter().any(is_gone) {
            self.begins_anew = true;
            self.uncovered.clear();
        }
        self.begins_anew
    }

    /// A vector that covers whatever this node holds, and all else.
    pub(super) fn everything(&self, store: &Store) -> Vector {
        let known = self.members.all().map(|known| known.member.origin);
        let all =
            known.chain(store.origins_seen()).chain(self.vector.iter().map(|(origin, _)| origin));
        Vector::of_all(all)
    }
}
