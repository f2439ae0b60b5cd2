//! Comparing this node's store with a neighbour's, to see that the protocol has kept its promise.
//!
//! What is stamped up to the second-order floor everyone has, so keys that hold nothing newer must
//! look the same everywhere. Only what shows is compared: what is dead each node drops when it
//! likes. A key counts as divergent only if it looks the same twice on either side, and differently
//! on the two, with everything that either may have forgotten known to the other in between.
//!
//! The one who asks compares, and takes over what it lacks; what the other lacks it finds by asking
//! in its turn. Keys are summed by the highest bits of a digest, groups of leaves, so that equal
//! stores tell each other a few kilobytes.

mod answer;
mod ask;
mod heal;

use super::key_hash::hash_key;
use super::link::Link;
use super::status::AuditStatus;
use super::{Circumstances, LinkId, Moment, Replica, Violation};
use crate::clock::{Hlc, Stamp};
use crate::entry::{Deadline, Entry};
use crate::limits::AUDIT_GROUP_COUNT;
use crate::store::Store;
use crate::store::survey::Survey;
use crate::wire::audit::{Audit, Sight, Terms};
use crate::wire::frame::Frame;
use crate::wire::op::BucketRef;
use answer::Answering;
use ask::Asking;
use uuid::Uuid;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Milliseconds between two steps through the store: a step takes a tenth of one.
const STEP_MS: u64 = 2;
/// Most steps at once, where the machine was not polled for long.
const STEPS_MAX: u64 = 8;
/// Audits that may come to nothing, one after the other, before the next waits its whole time.
const RETRIES_MAX: u32 = 5;
/// Keys of the last audit that are kept for people.
const SAMPLE_COUNT_MAX: usize = 5;

/// Leaves that keys are summed in.
const LEAF_COUNT: usize = AUDIT_GROUP_COUNT * AUDIT_GROUP_COUNT;

const _: () = assert!(LEAF_COUNT == u16::MAX as usize + 1, "a leaf is named by 16 bits");

/// The audits of this node, as asker and as answerer: one of each at a time.
#[derive(Debug)]
pub(super) struct Audits {
    asking: Option<Asking>,
    answering: Option<Answering>,
    /// When the next one is due, ms.
    due_ms: u64,
    /// The link that it should be with.
    wanted: Option<LinkId>,
    /// With whom the last one was.
    asked: Option<Uuid>,
    /// How many were begun.
    number: u64,
    /// Those in a row that came to nothing.
    failures: u32,
    /// When the store was last looked at, ms.
    stepped_ms: u64,
    ended_ms: Option<u64>,
    status: AuditStatus,
}

impl Audits {
    pub(super) fn new(me: Uuid, (every_ms, now_ms): (u64, u64)) -> Audits {
        Audits {
            asking: None,
            answering: None,
            due_ms: now_ms + jittered(every_ms, me, 0),
            wanted: None,
            asked: None,
            number: 0,
            failures: 0,
            stepped_ms: 0,
            ended_ms: None,
            status: AuditStatus::default(),
        }
    }

    /// Forgets what was under way over a link that is gone.
    pub(super) fn forget_link(&mut self, id: LinkId) {
        self.asking.take_if(|asking| asking.link == id);
        self.answering.take_if(|answering| answering.link == id);
        self.wanted.take_if(|wanted| *wanted == id);
    }

    /// What the last one came to.
    pub(super) fn status(&self, at_ms: u64) -> Option<AuditStatus> {
        let ended_ms = self.ended_ms?;
        Some(AuditStatus { age_ms: at_ms.saturating_sub(ended_ms), ..self.status.clone() })
    }
}

/// A time between three quarters and five quarters of `every_ms`: nodes that start together do not
/// audit together.
fn jittered(every_ms: u64, me: Uuid, number: u64) -> u64 {
    let mut dice = Xxh3::new();
    dice.update(me.as_bytes());
    dice.update(&number.to_le_bytes());
    every_ms - every_ms / 4 + dice.digest() % (every_ms / 2).max(1)
}

impl Replica {
    /// Begins the audit that is due, and goes on with those under way.
    pub(super) fn audit(&mut self, around: Circumstances<'_>) {
        let at_ms = around.now.at_ms;
        let steps = (at_ms.saturating_sub(self.audits.stepped_ms) / STEP_MS).min(STEPS_MAX);
        if steps > 0 {
            self.audits.stepped_ms = at_ms;
        }
        if let Some(asking) = self.audits.asking.take() {
            if asking.is_late(at_ms) || !self.may_audit() {
                self.say(asking.link, asking.number, Audit::Done);
                self.fail_audit(at_ms);
            } else {
                self.go_on_asking(around, asking, steps);
            }
        } else if at_ms >= self.audits.due_ms {
            self.begin_audit(around.now);
        }
        if let Some(answering) = self.audits.answering.take() {
            if !self.may_audit() {
                self.say(answering.link, answering.number, Audit::Decline);
            } else if !answering.is_late(at_ms) {
                self.go_on_answering(around, answering, steps);
            }
        }
    }

    /// Whether what this node holds is what its floor says: not while it is still becoming so.
    fn may_audit(&self) -> bool {
        self.floor.second > Hlc::ZERO
            && self.receiving.is_none()
            && !self.joining
            && !self.stale
            && !self.begins_anew
    }

    /// Up to where this node and the peer have everything. The floor alone does not say so: past the
    /// horizon it goes on without those who are away.
    pub(super) fn common_cut(&self, id: LinkId) -> Hlc {
        let Some(link) = self.links.get(&id) else { return Hlc::ZERO };
        let settled = self.settled_gone();
        let origins = self.members.columns(&settled, &self.vector);
        let heads = origins.map(|origin| self.vector.get(origin).min(link.known.get(origin)).head);
        heads.fold(self.floor.second, Hlc::min)
    }

    /// Notes that a sync over this link has ended: what it brought should be looked at soon.
    pub(super) fn audit_soon(&mut self, id: LinkId, at_ms: u64) {
        self.audits.wanted = Some(id);
        self.audits.due_ms = self.audits.due_ms.min(at_ms + self.settings.tuning.audit_retry_ms);
    }

    fn begin_audit(&mut self, now: Moment) {
        let tuning = self.settings.tuning;
        let wanted = self.audits.wanted.take();
        let asked = self.audits.asked;
        let chosen = self
            .feeders()
            .find(|link| Some(link.id) == wanted)
            // Each in its turn.
            .or_else(|| {
                let later = self.feeders().filter(|link| Some(link.peer.origin) > asked);
                later.min_by_key(by_origin)
            })
            .or_else(|| self.feeders().min_by_key(by_origin));
        let chosen = chosen.map(|link| (link.id, link.peer.origin));
        let Some((link, origin)) = chosen.filter(|_| self.may_audit()) else {
            self.audits.wanted = wanted;
            self.audits.due_ms = now.at_ms + tuning.audit_retry_ms;
            return;
        };
        self.audits.number += 1;
        self.audits.asked = Some(origin);
        let until_ms = now.wall.millis() + tuning.audit_patience_ms;
        let terms = Terms { cut: self.common_cut(link), until_ms };
        let ends_ms = now.at_ms + tuning.audit_patience_ms;
        let asking = Asking::new((link, self.audits.number), terms, ends_ms);
        self.audits.asking = Some(asking);
        self.say(link, self.audits.number, Audit::Ask(terms));
    }

    /// An audit has come to nothing: another soon, but not for ever.
    fn fail_audit(&mut self, at_ms: u64) {
        let tuning = &self.settings.tuning;
        self.audits.failures += 1;
        self.audits.due_ms = at_ms
            + match self.audits.failures <= RETRIES_MAX {
                true => jittered(tuning.audit_retry_ms, self.me, self.audits.number),
                false => jittered(tuning.audit_ms, self.me, self.audits.number),
            };
    }

    fn say(&mut self, id: LinkId, number: u64, audit: Audit) {
        if self.links.contains_key(&id) {
            self.send(id, Frame::Audit(number, Box::new(audit)));
        }
    }

    /// Deals with a message of an audit.
    pub(super) fn take_audit(
        &mut self,
        around: Circumstances<'_>,
        (id, number): (LinkId, u64),
        audit: Audit,
    ) -> Result<(), Violation> {
        match audit {
            Audit::Ask(..)
            | Audit::WantLeaves(..)
            | Audit::WantKeys(..)
            | Audit::WantMore
            | Audit::Check { .. }
            | Audit::Done => self.take_question(around, (id, number), audit),
            Audit::Differs => {
                // Not at once again: what it lacks it may be unable to take.
                let rests = self.audits.ended_ms.is_some_and(|ended| {
                    around.now.at_ms < ended + self.settings.tuning.audit_retry_ms
                });
                if !rests {
                    self.audits.wanted = Some(id);
                    self.audits.due_ms = around.now.at_ms;
                }
                Ok(())
            }
            _ => self.take_answer(around, (id, number), audit),
        }
    }
}

fn by_origin(link: &&Link) -> Uuid {
    link.peer.origin
}

/// Names a key among all.
fn name_of(bucket: BucketRef<'_>, key: &[u8]) -> u64 {
    hash_key(bucket, key).digest()
}

/// The leaf that a key is summed in.
fn leaf_of(name: u64) -> u16 {
    (name >> 48) as u16
}

/// How a key looks that is called `name` and holds `entry`, in a bucket flushed at `flushed`.
fn look_at(name: u64, entry: &Entry, (terms, flushed): (Terms, Stamp)) -> Sight {
    if entry.newest() > terms.cut || flushed.hlc > terms.cut {
        return Sight::Moving;
    }
    let lasts = |deadline: Deadline| !deadline.is_past(terms.until_ms);
    let mut digest = Digest { words: Vec::new() };
    let register = &entry.register;
    if register.value.is_some() && register.stamp > flushed && lasts(entry.register_deadline()) {
        digest.stamp(register.stamp);
        digest.words.push(entry.register_deadline().millis().unwrap_or(u64::MAX));
    }
    for tally in &entry.tallies {
        for cell in tally.cells.iter().filter(|cell| cell.is_alive(terms.until_ms, flushed.hlc)) {
            digest.stamp(Stamp { hlc: cell.birth, origin: tally.origin });
            digest.words.extend([
                cell.last.to_bits(),
                cell.sum as u64,
                cell.deadline.millis().unwrap_or(u64::MAX),
                cell.reset.last.to_bits(),
                cell.reset.sum as u64,
            ]);
        }
    }
    digest.finish(name)
}

/// What a key holds, in words.
struct Digest {
    words: Vec<u64>,
}

impl Digest {
    fn stamp(&mut self, stamp: Stamp) {
        let (high, low) = stamp.origin.as_u64_pair();
        self.words.extend([stamp.hlc.to_bits(), high, low]);
    }

    fn finish(mut self, name: u64) -> Sight {
        if self.words.is_empty() {
            return Sight::Nothing;
        }
        self.words.push(name);
        Sight::of_digest(xxh3_64(&bytes_of(&self.words)))
    }
}

/// How the key looks in `store`.
fn look(store: &Store, (bucket, key): (BucketRef<'_>, &[u8]), terms: Terms) -> Sight {
    let Some(found) = store.find_bucket(&bucket.to_name()) else { return Sight::Nothing };
    let flushed = store.flushed(&found);
    let entry = store.entry(&found, key).unwrap_or_default();
    look_at(name_of(bucket, key), &entry, (terms, flushed))
}

/// The sums of a store's keys: by leaf, and over the leaves by group.
#[derive(Debug)]
struct Sums {
    leaves: Box<[u64]>,
}

impl Sums {
    fn new() -> Sums {
        Sums { leaves: vec![0; LEAF_COUNT].into() }
    }

    fn add(&mut self, name: u64, sight: Sight) {
        if let Sight::Holds(digest) = sight {
            let leaf = &mut self.leaves[usize::from(leaf_of(name))];
            *leaf = leaf.wrapping_add(digest);
        }
    }

    fn group(&self, group: u8) -> &[u64] {
        let begin = usize::from(group) * AUDIT_GROUP_COUNT;
        &self.leaves[begin..begin + AUDIT_GROUP_COUNT]
    }

    fn groups(&self) -> Vec<u64> {
        let sum = |group| xxh3_64(&bytes_of(self.group(group)));
        (0..=u8::MAX).map(sum).collect()
    }

    /// Sums more of the store. Returns whether that was all.
    fn go_on(&mut self, store: &Store, survey: &mut Survey, terms: Terms) -> bool {
        store.survey_outlines(survey, usize::MAX, |bucket, key, entry| {
            let name = name_of(BucketRef::of(bucket.name()), key);
            self.add(name, look_at(name, entry, (terms, store.flushed(bucket))));
            0
        })
    }
}

fn bytes_of(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests;
