//! Keys that look different on the two sides: looked at again, counted, made equal.

use super::super::status::{AuditStatus, Role};
use super::super::vector::Vector;
use super::super::{Circumstances, Output, Replica, Violation};
use super::ask::{Asking, Next, Stage};
use super::{SAMPLE_COUNT_MAX, jittered, look};
use crate::clock::Hlc;
use crate::entry::Entry;
use crate::key::BucketName;
use crate::wire::audit::{Audit, Listing, Sight, read_listing};
use crate::wire::chunk::{Item, read_chunk};
use crate::wire::op::BucketRef;
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;

/// What it has found so far.
#[derive(Debug, Default)]
pub(super) struct Found {
    divergent_keys: u64,
    sample: Vec<(BucketName, Box<[u8]>)>,
    /// Whether the other lacks something.
    theirs_lacks: bool,
    /// Whether there was more to compare than one audit does.
    pub(super) is_partial: bool,
}

/// A key that looks different on the two sides.
#[derive(Debug)]
pub(super) struct Suspect {
    pub(super) bucket: BucketName,
    pub(super) key: Box<[u8]>,
    pub(super) mine: Sight,
    pub(super) theirs: Sight,
}

impl Replica {
    /// Looks at suspects again, and asks the other to do so where they look as before. Not before
    /// this node has heard of all that the other may have forgotten.
    pub(super) fn check(
        &mut self,
        around: Circumstances<'_>,
        asking: &Asking,
        (mut suspects, floor): (VecDeque<Suspect>, Hlc),
    ) -> Next {
        if suspects.is_empty() {
            return Next::Over;
        }
        if self.floor.first < floor {
            return Next::On(Stage::Checking { suspects, floor, batch: Vec::new() });
        }
        if self.floor.first.max(floor).millis() > asking.terms.until_ms {
            return Next::Nothing;
        }
        let (mut listing, mut batch) = (Listing::default(), Vec::new());
        while listing.len() < self.settings.tuning.chunk_bytes {
            let Some(suspect) = suspects.pop_front() else { break };
            let at = (BucketRef::of(&suspect.bucket), &suspect.key[..]);
            if look(around.store, at, asking.terms) == suspect.mine {
                listing.push(&suspect.bucket, &suspect.key, suspect.mine);
                batch.push(suspect);
            }
        }
        if !batch.is_empty() {
            let (floor, keys) = (self.floor.first, listing.finish());
            self.say(asking.link, asking.number, Audit::Check { floor, keys });
        }
        Next::On(Stage::Checking { suspects, floor, batch })
    }

    /// Counts the suspects that look the same to the other as before, and takes over what of them
    /// this node lacks. Returns those that it has not looked at.
    pub(super) fn judge(
        &mut self,
        around: Circumstances<'_>,
        asking: &mut Asking,
        batch: Vec<Suspect>,
        (keys, entries): (&[u8], Bytes),
    ) -> Result<Vec<Suspect>, Violation> {
        let (asked_count, mut batch) = (batch.len(), VecDeque::from(batch));
        let (mut divergent, mut is_other) = (HashSet::new(), false);
        let read = read_listing(keys, |bucket, key, now| {
            let at = (bucket.to_name(), key);
            let next = batch.pop_front();
            let Some(suspect) = next.filter(|next| (&next.bucket, &*next.key) == (&at.0, at.1))
            else {
                is_other = true;
                return ControlFlow::Break(());
            };
            if suspect.theirs == now {
                asking.found.note(&suspect);
                divergent.insert((suspect.bucket, suspect.key));
            }
            ControlFlow::Continue(())
        });
        read.map_err(|error| Violation::new(error.to_string()))?;
        if is_other || batch.len() == asked_count {
            return Err(Violation::new("answers for other keys than was asked"));
        }
        let mut fault = Ok(());
        let read = read_chunk(&entries, |item| {
            let Item::Entry { bucket, key, entry } = item else { return };
            let at = (bucket.to_name(), Box::from(key));
            if fault.is_ok() && divergent.remove(&at) {
                fault = self.heal(around, asking, (bucket, key), entry);
            }
        });
        fault?;
        read.map_err(|error| Violation::new(error.to_string()))?;
        Ok(batch.into())
    }

    /// Joins what the other holds under a key that differs into what this node holds. A replica
    /// takes it over as it is: what only it holds no master will take from it.
    fn heal(
        &mut self,
        around: Circumstances<'_>,
        asking: &mut Asking,
        (bucket, key): (BucketRef<'_>, &[u8]),
        theirs: Entry,
    ) -> Result<(), Violation> {
        let refused = |error: String| Violation::new(error);
        let mut part = theirs.clone();
        part.retain_until(self.skew_limit(around.now));
        let bucket = around.store.open(bucket).map_err(|error| refused(error.to_string()))?;
        if self.settings.role == Role::Replica {
            let mine = around.store.entry(&bucket, key).unwrap_or_default();
            let everything = Vector::of_all(mine.stamps().map(|stamp| stamp.origin));
            around.store.restrict(&bucket, key, (&theirs, &everything));
        }
        if part != Entry::default() && !self.is_full(around.store) {
            let merged = around.store.merge(&bucket, key, &part);
            merged.map_err(|error| refused(error.to_string()))?;
        }
        around.store.note_outside_log();
        let joined = around.store.entry(&bucket, key).unwrap_or_default();
        asking.found.theirs_lacks |= joined != theirs;
        Ok(())
    }

    pub(super) fn end_audit(&mut self, around: Circumstances<'_>, asking: Asking) {
        let Asking { link, number, found, .. } = asking;
        self.say(link, number, Audit::Done);
        let Some(peer) = self.links.get(&link).map(|link| link.peer.clone()) else { return };
        let (at_ms, tuning) = (around.now.at_ms, self.settings.tuning);
        self.counts.audits += 1;
        self.counts.divergence_total += found.divergent_keys;
        if found.divergent_keys > 0 {
            let (peer, key_count, role) = (peer.name.to_string(), found.divergent_keys, peer.role);
            self.outputs.push_back(Output::Diverged { peer, key_count });
            if found.theirs_lacks && self.settings.role.feeds(role) {
                self.say(link, number, Audit::Differs);
            }
        }
        let next_ms = match found.divergent_keys > 0 && found.is_partial {
            true => tuning.audit_retry_ms,
            false => tuning.audit_ms,
        };
        self.audits.failures = 0;
        self.audits.ended_ms = Some(at_ms);
        self.audits.due_ms = at_ms + jittered(next_ms, self.me, number);
        self.audits.status = AuditStatus {
            age_ms: 0,
            peer: peer.name.to_string(),
            divergent_keys: found.divergent_keys,
            is_partial: found.is_partial,
            sample: found.sample,
        };
    }
}

impl Found {
    fn note(&mut self, suspect: &Suspect) {
        self.divergent_keys += 1;
        if self.sample.len() < SAMPLE_COUNT_MAX {
            self.sample.push((suspect.bucket.clone(), suspect.key.clone()));
        }
    }
}
