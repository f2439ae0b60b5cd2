//! Responses that one node has fetched and all use, as records of the store.
//!
//! A record is an ordinary key of the bucket `_cache`, so it travels, survives cuts and is caught up
//! on like any other, and leaves by its deadline. It is looked for where a node has nothing itself,
//! not taken up as it comes: what nobody asks for costs no node a second copy.
//!
//! It says what the node that fetched it included when the fetch began. A node that knows of a purge
//! of it, or of a write of a key that it was made from, which is not included in that, does not take
//! it. What such a node learns later counts from when it took it, as for what it fetched itself. So
//! no clocks are compared: a response fetched before a purge is nowhere used after it.

mod pace;
pub(crate) mod record;

use super::Cache;
use super::body::StoredBody;
use super::disk::record::Response;
use super::purges::Purges;
use super::stored::{Ingredients, Stored};
use crate::node::Node;
use anyhow::Context;
use atoll_core::clock::Stamp;
use atoll_core::entry::Deadline;
use atoll_core::http_cache::freshness::{self, Exchanged};
use atoll_core::http_cache::purge::Subject;
use atoll_core::http_cache::sharing::{self, Passed};
use atoll_core::http_cache::vary::{Vary, selecting_key};
use atoll_core::http_cache::{keys, reuse, tags};
use atoll_core::key::BucketName;
use atoll_core::replica::vector::Vector;
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use pace::Pace;
use record::{
    Apart, Carried, Kind, Maker, PIECE_BYTES, Record, body_of, decode, encode, head_of,
    header_names, piece_slot, place_of, place_of_pieces, slot, texts,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

/// The name of the bucket.
pub(crate) const CACHE: &str = "_cache";
/// Longest body that a route may say is shared, in bytes.
pub(crate) const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The same where it does not say.
pub(crate) const BODY_BYTES_DEFAULT: u64 = 1024 * 1024;

/// What a key takes beside its value, in bytes, at most.
const KEY_OVERHEAD_BYTES: usize = 160;

const _: () = assert!(BODY_BYTES_MAX < u32::MAX as u64, "pieces are counted in 32 bits");

/// What is to be shared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharing<'s> {
    pub(crate) maker: Maker,
    /// Longest body that is shared, in bytes.
    pub(crate) body_bytes_max: u64,
    /// What this node included when it began to fetch it.
    pub(crate) marks: &'s Vector,
    pub(crate) stored: &'s Stored,
    pub(crate) vary: &'s Vary,
    /// Whose response it is.
    pub(crate) request: &'s HeaderMap,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    /// It is of no use to others, or too long. What was there before is gone.
    NotForOthers,
    /// There is no room. What was there before is gone.
    Full,
    /// Another node has fetched a newer one, or one of a later version, or this one takes no writes.
    Kept,
}

/// What a response needs to be shared.
#[derive(Debug)]
pub(crate) enum Step {
    /// Nothing more.
    Ended(Outcome),
    /// Its pieces are to be written, and then [`Shared::finish`].
    Write(Plan),
}

/// What is to be written for a response.
#[derive(Debug)]
pub(crate) struct Plan {
    slot: Vec<u8>,
    head: Vec<u8>,
    body: Bytes,
    /// Of the body that lies apart, and how many pieces there are.
    apart: Option<Apart>,
    deadline: Deadline,
}

impl Plan {
    /// Numbers of its pieces.
    pub(crate) fn pieces(&self) -> std::ops::Range<u32> {
        0..self.apart.map_or(0, |(_, count)| count)
    }

    fn bytes(&self) -> usize {
        let keys = 1 + self.pieces().len();
        let body = if self.apart.is_some() { self.body.len() } else { 0 };
        self.head.len() + body + keys * KEY_OVERHEAD_BYTES
    }
}

/// What was found for a request.
#[derive(Debug)]
pub(crate) enum Taken {
    Stored(Arc<Stored>, Vary),
    /// Something that is older than a purge or a write that this node knows of.
    Outdated,
    /// Something that was made by a route which says something else than this node's, or by another
    /// version of the handler or filter.
    Unlike,
    Nothing,
}

/// The records of a node and its cluster.
#[derive(Debug)]
pub(crate) struct Shared {
    node: Arc<Node>,
    purges: Arc<Purges>,
    bucket: Arc<Bucket>,
    bytes_max: usize,
    is_used: AtomicBool,
    pace: Pace,
}

impl Shared {
    /// Keeps `bytes_max` bytes of records at most, those of other nodes among them.
    pub(crate) fn new(
        node: &Arc<Node>,
        purges: &Arc<Purges>,
        bytes_max: usize,
    ) -> anyhow::Result<Arc<Shared>> {
        let name = BucketName::new(CACHE).context("the name of the bucket of responses")?;
        let bucket = node.store().open_bucket(&name)?;
        let (node, purges) = (Arc::clone(node), Arc::clone(purges));
        let (is_used, pace) = (AtomicBool::new(false), Pace::new(&node));
        Ok(Arc::new(Shared { node, purges, bucket, bytes_max, is_used, pace }))
    }

    /// The purges that responses are compared with.
    pub(crate) fn purges(&self) -> &Arc<Purges> {
        &self.purges
    }

    /// A route shares its responses: from now on what makes one invalid is told to all nodes.
    pub(crate) fn begin(&self) {
        self.is_used.store(true, Ordering::Relaxed);
        self.node.replication().progress().want_vector();
    }

    /// Whether a route of this node shares its responses.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// What this node includes now: for a fetch that is about to begin.
    pub(crate) fn marks(&self) -> Vector {
        let mut marks = Vector::clone(&self.node.replication().progress().vector());
        let store = self.node.store();
        marks.raise(store.origin(), store.beacon(self.node.now()));
        marks
    }

    /// How fast it goes out.
    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Writes a response for other nodes, all of it at once. May read its body from the disk.
    pub(crate) fn share(&self, sharing: &Sharing<'_>) -> Result<Outcome, WriteError> {
        let plan = match self.plan(sharing)? {
            Step::Ended(outcome) => return Ok(outcome),
            Step::Write(plan) => plan,
        };
        plan.pieces().try_for_each(|number| self.write_piece(&plan, number))?;
        self.finish(sharing, &plan)
    }

    /// Says what is to be written. May read the body from the disk.
    pub(crate) fn plan(&self, sharing: &Sharing<'_>) -> Result<Step, WriteError> {
        let Vary::Fields(names) = sharing.vary else {
            return Ok(Step::Ended(Outcome::NotForOthers));
        };
        let stored = sharing.stored;
        let selecting = selecting_key(names, sharing.request);
        let slot = slot(&stored.key, names, &selecting);
        if self.node.permission().write().is_err() || self.has_newer(&slot, sharing) {
            return Ok(Step::Ended(Outcome::Kept));
        }
        let now_ms = self.node.now().millis();
        let until_ms = sharing::kept_until_ms(&stored.meta, now_ms);
        let is_short = stored.body_bytes <= sharing.body_bytes_max;
        let deadline = until_ms.filter(|_| is_short && stored.span.is_none());
        let body = deadline.and_then(|_| body_of(stored));
        let (Some(deadline), Some(body)) = (deadline.map(Deadline::at_millis), body) else {
            self.remove(&slot)?;
            return Ok(Step::Ended(Outcome::NotForOthers));
        };
        let place = place_of(&body);
        let carried = Carried {
            response: Response::of(stored, place),
            names: texts(names),
            selecting: selecting.into(),
            marks: sharing.marks.clone(),
            began_ms: super::ms_of(stored.fetched_us),
            written_ms: now_ms,
            piece_count: 0,
        };
        let Some((head, apart)) = head_of(sharing.maker, carried, &body) else {
            self.remove(&slot)?;
            return Ok(Step::Ended(Outcome::NotForOthers));
        };
        let plan = Plan { slot, head, body, apart, deadline };
        if self.bucket.stats().used_bytes.saturating_add(plan.bytes()) > self.bytes_max {
            self.remove(&plan.slot)?;
            return Ok(Step::Ended(Outcome::Full));
        }
        Ok(Step::Write(plan))
    }

    /// Writes one piece of a body, unless it is there.
    pub(crate) fn write_piece(&self, plan: &Plan, number: u32) -> Result<(), WriteError> {
        let Some((hash, _)) = plan.apart else { return Ok(()) };
        let first = number as usize * PIECE_BYTES;
        let piece = &plan.body[first..plan.body.len().min(first + PIECE_BYTES)];
        let slot = piece_slot(&plan.slot, hash, number);
        let there = self.node.store().read(&self.bucket, &slot, self.node.now(), |view| {
            view.filter(|view| view.value().to_bytes() == piece).map(|view| view.deadline())
        });
        let edit = match there {
            Some(until) if until >= plan.deadline => return Ok(()),
            Some(_) => Edit::Expire(plan.deadline),
            None => Edit::set(NewValue::Copy(piece), plan.deadline),
        };
        self.edit(&slot, edit, there.map_or(piece.len(), |_| 0))
    }

    /// Writes the record, behind its pieces.
    pub(crate) fn finish(&self, sharing: &Sharing<'_>, plan: &Plan) -> Result<Outcome, WriteError> {
        // Another node's may have come since the plan was made.
        if self.has_newer(&plan.slot, sharing) {
            return self.give_up(plan).map(|()| Outcome::Kept);
        }
        if let Vary::Fields(names) = sharing.vary
            && !names.is_empty()
        {
            self.tell_apart(sharing.maker, &sharing.stored.key, names, plan.deadline)?;
        }
        let before = self.pieces_of(&plan.slot);
        self.write(&plan.slot, plan.head.clone(), plan.deadline)?;
        self.remove_pieces(&plan.slot, before.filter(|_| before != plan.apart))?;
        Ok(Outcome::Written)
    }

    /// Takes back the pieces that were written, where no record is to follow them.
    pub(crate) fn give_up(&self, plan: &Plan) -> Result<(), WriteError> {
        let is_named = self.pieces_of(&plan.slot) == plan.apart;
        self.remove_pieces(&plan.slot, plan.apart.filter(|_| !is_named))
    }

    /// Whether another node has fetched what lies under a slot later, or with a later version.
    fn has_newer(&self, slot: &[u8], sharing: &Sharing<'_>) -> bool {
        let began_ms = super::ms_of(sharing.stored.fetched_us);
        let Some((record, ..)) = self.read(slot) else { return false };
        let maker = record.maker();
        if maker.route == sharing.maker.route {
            (maker.version, record.began_ms()) > (sharing.maker.version, began_ms)
        } else {
            record.began_ms() > began_ms
        }
    }

    /// Says which fields tell the responses of `key` apart, for as long as there are any.
    fn tell_apart(
        &self,
        maker: Maker,
        key: &str,
        names: &[HeaderName],
        deadline: Deadline,
    ) -> Result<(), WriteError> {
        let slot = slot(key, &[], &[]);
        let texts = texts(names);
        let is_told = self.read(&slot).is_some_and(|(record, _, _, until)| {
            let is_same = matches!(&record.kind, Kind::Varies(told) if *told == texts);
            is_same && record.maker() == maker && until >= deadline
        });
        let record = Record::of(maker, Kind::Varies(texts));
        match encode(&record, &[]).filter(|_| !is_told) {
            Some(value) => self.write(&slot, value, deadline),
            None => Ok(()),
        }
    }

    fn write(&self, slot: &[u8], value: Vec<u8>, deadline: Deadline) -> Result<(), WriteError> {
        let bytes = value.len();
        self.edit(slot, Edit::set(NewValue::Owned(value), deadline), bytes)
    }

    /// Makes a change that takes so many bytes on its way, beside its key.
    fn edit(&self, slot: &[u8], edit: Edit<'_>, bytes: usize) -> Result<(), WriteError> {
        let (store, now) = (self.node.store(), self.node.now());
        store.write(&self.bucket, slot, now, |_| (edit, ()))?;
        self.pace.note(slot.len() + bytes);
        Ok(())
    }

    fn remove(&self, slot: &[u8]) -> Result<(), WriteError> {
        let pieces = self.pieces_of(slot);
        self.edit(slot, Edit::Delete, 0)?;
        self.remove_pieces(slot, pieces)
    }

    fn pieces_of(&self, slot: &[u8]) -> Option<Apart> {
        match self.read(slot)?.0.kind {
            Kind::Response(carried) => carried.pieces(),
            Kind::Varies(_) => None,
        }
    }

    fn remove_pieces(&self, slot: &[u8], pieces: Option<Apart>) -> Result<(), WriteError> {
        let Some((hash, count)) = pieces else { return Ok(()) };
        (0..count).try_for_each(|at| self.edit(&piece_slot(slot, hash, at), Edit::Delete, 0))
    }

    /// The body of a record, in pieces. `None` where one is missing or is not what was written.
    fn body(&self, slot: &[u8], carried: &Carried, behind: Bytes) -> Option<Vec<Bytes>> {
        let body = match carried.pieces() {
            None => vec![behind],
            Some((hash, count)) => {
                let piece = |number| {
                    let slot = piece_slot(slot, hash, number);
                    self.node.store().read(&self.bucket, &slot, self.node.now(), |view| {
                        view.map(|view| view.value().to_bytes())
                    })
                };
                (0..count).map(piece).collect::<Option<_>>()?
            }
        };
        (place_of_pieces(&body) == carried.response.body).then_some(body)
    }

    /// What lies under a slot: the head, the body, who wrote it, and until when.
    fn read(&self, slot: &[u8]) -> Option<(Record, Bytes, Uuid, Deadline)> {
        let (value, Stamp { origin, .. }, deadline) =
            self.node.store().read(&self.bucket, slot, self.node.now(), |view| {
                view.map(|view| (view.value().to_bytes(), view.stamp(), view.deadline()))
            })?;
        let (record, at) = decode(&value)?;
        Some((record, value.slice(at..), origin, deadline))
    }

    /// The response of another node for a request that `maker` would answer here, ready to be stored:
    /// one that is as recent as `own`, and fresh for longer.
    pub(crate) fn take(
        &self,
        (maker, key): (Maker, &str),
        request: &HeaderMap,
        own: Option<&Stored>,
    ) -> Taken {
        if !self.purges.are_complete() {
            return Taken::Nothing;
        }
        let Some((record, slot, behind, writer)) = self.find(key, request) else {
            return Taken::Nothing;
        };
        let made_by = record.maker();
        let carried = match record.kind {
            _ if made_by != maker => return Taken::Unlike,
            Kind::Response(carried) => *carried,
            Kind::Varies(_) => return Taken::Nothing,
        };
        let cache = self.purges.cache();
        let Ok(parts) = carried.response.parts() else { return Taken::Nothing };
        let (response, names) = (&carried.response, header_names(&carried.names));
        let Some(names) = names else { return Taken::Nothing };
        let of_keys = keys::of(&parts.headers).unwrap_or_default();
        if !of_keys.is_empty() {
            cache.name_keys(&self.node);
        }
        let now_ms = super::ms_of(cache.now_us());
        let passed =
            Passed { written_ms: carried.written_ms, now_ms, ahead_ms: self.ahead_ms(writer) };
        let meta = sharing::taken(&parts.meta, &parts.headers, passed);
        // Of several the most recent one is used, as Date has it (RFC 9111 section 4).
        let is_better = own.is_none_or(|own| {
            let dates = [(&parts.headers, parts.exchanged), (&own.headers, own.exchanged)];
            let [theirs_s, own_s] = dates.map(|(headers, at)| freshness::date_s(headers, at));
            let left_ms = |meta| reuse::remaining_ms(meta, now_ms);
            theirs_s >= own_s && left_ms(&meta) > left_ms(&own.meta)
        });
        if !is_better {
            return Taken::Nothing;
        }
        // Before the comparison: what this node learns from here on covers it.
        let fetched_us = cache.now_us();
        let tags = tags::of(&parts.headers);
        let url = super::stored::url_of(key);
        let subject = Subject { key: url, host_bytes: response.host_bytes, tags: &tags };
        let is_known = self.purges.are_known(subject, (&carried.marks, carried.began_ms))
            && of_keys.iter().all(|name| self.is_covered(name, &carried.marks));
        if !is_known {
            return Taken::Outdated;
        }
        let Some(body) = self.body(&slot, &carried, behind) else { return Taken::Nothing };
        let stored = Stored::new(Ingredients {
            key: key.into(),
            host_bytes: response.host_bytes,
            route: maker.route,
            status: parts.status,
            meta,
            headers: parts.headers,
            exchanged: Exchanged { requested_ms: now_ms, responded_ms: now_ms },
            body: StoredBody::of(body),
            span: None,
            fetched_us,
        });
        let stored = stored.taken(true);
        stored.note_unused();
        Taken::Stored(Arc::new(stored), Vary::Fields(names))
    }

    /// The record of a response to this request, where it lies, what lies behind its head, and who
    /// wrote it.
    fn find(&self, key: &str, request: &HeaderMap) -> Option<(Record, Vec<u8>, Bytes, Uuid)> {
        let mut place = slot(key, &[], &[]);
        let (mut record, mut behind, mut writer, _) = self.read(&place)?;
        if let Kind::Varies(names) = &record.kind {
            let names = header_names(names)?;
            let selecting = selecting_key(&names, request);
            place = slot(key, &names, &selecting);
            (record, behind, writer, _) = self.read(&place)?;
        }
        let Kind::Response(carried) = &record.kind else { return None };
        let names = header_names(&carried.names)?;
        let is_it = carried.response.url_key == key
            && carried.selecting[..] == selecting_key(&names, request);
        is_it.then_some((record, place, behind, writer))
    }

    /// Whether all that is known here of a key was known when what was made from it was fetched.
    fn is_covered(&self, name: &keys::KeyName, marks: &Vector) -> bool {
        let store = self.node.store();
        // Of one that is gone with its bucket nobody knows any more when that was.
        let Some(bucket) = store.find_bucket(&name.bucket) else { return false };
        store.is_covered((&bucket, &name.key), marks, &self.marks())
    }

    /// How far the clock of a process is known to be ahead of this node's, in ms.
    fn ahead_ms(&self, origin: Uuid) -> u64 {
        let status = self.node.replication().status();
        let link = status.links.iter().find(|link| link.origin == origin);
        link.map_or(0, |link| u64::try_from(link.skew_ms).unwrap_or(0))
    }
}

impl Cache {
    /// Stores what another node has fetched. Returns whether it was.
    pub(crate) fn store_taken(
        self: &Arc<Self>,
        stored: &Arc<Stored>,
        vary: &Vary,
        request: &HeaderMap,
    ) -> bool {
        self.store(stored, vary, request) && self.holds(stored)
    }
}

#[cfg(test)]
mod tests;
