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

use super::Cache;
use super::body::StoredBody;
use super::disk::record::{Place, Response};
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
use atoll_core::limits::VALUE_BYTES_MAX;
use atoll_core::replica::vector::Vector;
use atoll_core::store::Bucket;
use atoll_core::store::edit::{Edit, NewValue, WriteError};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The name of the bucket.
pub(crate) const CACHE: &str = "_cache";
const MAGIC: &[u8; 8] = b"atollr1\n";
const PREAMBLE_BYTES: usize = MAGIC.len() + size_of::<u32>();
/// Longest body that a route may say is shared, in bytes.
pub(crate) const BODY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// The same where it does not say.
pub(crate) const BODY_BYTES_DEFAULT: u64 = 1024 * 1024;

const _: () = assert!(2 * BODY_BYTES_MAX as usize <= VALUE_BYTES_MAX, "with its head it fits");

/// The head of a record; a body follows that of a response.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    route: u64,
    #[serde(default)]
    version: (u64, u64),
    kind: Kind,
}

/// What has made a response: another one makes other responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maker {
    /// What the route says, or which handler it is, as a hash.
    pub(crate) route: u64,
    /// The version of the handler, or of the route's filter. Nodes change to another one after the
    /// other, whatever of it their stores have.
    pub(crate) version: (u64, u64),
}

#[derive(Debug, Deserialize, Serialize)]
enum Kind {
    /// Which fields tell the responses of a URL apart: they have keys of their own.
    Varies(Vec<String>),
    Response(Box<Carried>),
}

/// A response and what has to be known of it.
#[derive(Debug, Deserialize, Serialize)]
struct Carried {
    response: Response,
    names: Vec<String>,
    selecting: ByteBuf,
    /// What the node that fetched it included when it began to.
    marks: Vector,
    /// When that was, and when this was written, by that node's clock, in ms.
    began_ms: u64,
    written_ms: u64,
}

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
        Ok(Arc::new(Shared { node, purges, bucket, bytes_max, is_used: AtomicBool::new(false) }))
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

    /// Writes a response for other nodes. May read its body from the disk.
    pub(crate) fn share(&self, sharing: Sharing<'_>) -> Result<Outcome, WriteError> {
        let Vary::Fields(names) = sharing.vary else { return Ok(Outcome::NotForOthers) };
        if self.node.permission().write().is_err() {
            return Ok(Outcome::Kept);
        }
        let stored = sharing.stored;
        let selecting = selecting_key(names, sharing.request);
        let slot = slot(&stored.key, names, &selecting);
        let began_ms = super::ms_of(stored.fetched_us);
        let is_newer = |record: &Record| match record.maker() {
            Maker { route, version } if route == sharing.maker.route => {
                (version, record.began_ms()) > (sharing.maker.version, began_ms)
            }
            _ => record.began_ms() > began_ms,
        };
        if self.read(&slot).is_some_and(|(record, ..)| is_newer(&record)) {
            return Ok(Outcome::Kept);
        }
        let now_ms = self.node.now().millis();
        let until_ms = sharing::kept_until_ms(&stored.meta, now_ms);
        let is_short = stored.body_bytes <= sharing.body_bytes_max;
        let until_ms = until_ms.filter(|_| is_short && stored.span.is_none());
        let Some(deadline) = until_ms.map(Deadline::at_millis) else {
            self.remove(&slot)?;
            return Ok(Outcome::NotForOthers);
        };
        let carried = |body: &[u8]| Carried {
            response: Response::of(
                stored,
                Place::Here { bytes: body.len() as u64, hash: xxh3_64(body) },
            ),
            names: texts(names),
            selecting: selecting.clone().into(),
            marks: sharing.marks.clone(),
            began_ms,
            written_ms: now_ms,
        };
        let value = body_of(stored).and_then(|body| {
            let kind = Kind::Response(Box::new(carried(&body)));
            encode(&Record::of(sharing.maker, kind), &body)
        });
        let Some(value) = value else {
            self.remove(&slot)?;
            return Ok(Outcome::NotForOthers);
        };
        if self.bucket.stats().used_bytes.saturating_add(value.len()) > self.bytes_max {
            self.remove(&slot)?;
            return Ok(Outcome::Full);
        }
        if !names.is_empty() {
            self.tell_apart(sharing.maker, &stored.key, names, deadline)?;
        }
        self.write(&slot, value, deadline)?;
        Ok(Outcome::Written)
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
        let edit = Edit::set(NewValue::Owned(value), deadline);
        let (store, now) = (self.node.store(), self.node.now());
        store.write(&self.bucket, slot, now, |_| (edit, ())).map(|_| ())
    }

    fn remove(&self, slot: &[u8]) -> Result<(), WriteError> {
        let (store, now) = (self.node.store(), self.node.now());
        store.write(&self.bucket, slot, now, |_| (Edit::Delete, ())).map(|_| ())
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
        let Some((record, body, writer)) = self.find(key, request) else {
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
            cache.follow_keys(&self.node);
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
        if !is_better || !is_whole(&response.body, &body) {
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
        let stored = Stored::new(Ingredients {
            key: key.into(),
            host_bytes: response.host_bytes,
            status: parts.status,
            meta,
            headers: parts.headers,
            exchanged: Exchanged { requested_ms: now_ms, responded_ms: now_ms },
            body: StoredBody::of(vec![body]),
            span: None,
            fetched_us,
        });
        let stored = stored.taken(true);
        stored.note_unused();
        Taken::Stored(Arc::new(stored), Vary::Fields(names))
    }

    /// The record of a response to this request, its body and who wrote it.
    fn find(&self, key: &str, request: &HeaderMap) -> Option<(Record, Bytes, Uuid)> {
        let (mut record, mut body, mut writer, _) = self.read(&slot(key, &[], &[]))?;
        if let Kind::Varies(names) = &record.kind {
            let names = header_names(names)?;
            let selecting = selecting_key(&names, request);
            (record, body, writer, _) = self.read(&slot(key, &names, &selecting))?;
        }
        let Kind::Response(carried) = &record.kind else { return None };
        let names = header_names(&carried.names)?;
        let is_it = carried.response.url_key == key
            && carried.selecting[..] == selecting_key(&names, request);
        is_it.then_some((record, body, writer))
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

impl Record {
    fn of(Maker { route, version }: Maker, kind: Kind) -> Record {
        Record { route, version, kind }
    }

    fn maker(&self) -> Maker {
        Maker { route: self.route, version: self.version }
    }

    /// When the fetch began, in ms; 0 where it is none.
    fn began_ms(&self) -> u64 {
        match &self.kind {
            Kind::Response(carried) => carried.began_ms,
            Kind::Varies(_) => 0,
        }
    }
}

/// Where a response lies: under its URL alone where no fields tell others apart.
fn slot(key: &str, names: &[HeaderName], selecting: &[u8]) -> Vec<u8> {
    let mut text = key.as_bytes().to_vec();
    for name in names {
        text.push(0);
        text.extend_from_slice(name.as_str().as_bytes());
    }
    if !names.is_empty() {
        text.push(0);
        text.extend_from_slice(selecting);
    }
    format!("{:032x}", xxh3_128(&text)).into_bytes()
}

/// Whether a body is what was written.
fn is_whole(place: &Place, body: &[u8]) -> bool {
    *place == Place::Here { bytes: body.len() as u64, hash: xxh3_64(body) }
}

fn texts(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

fn header_names(texts: &[String]) -> Option<Box<[HeaderName]>> {
    texts.iter().map(|text| HeaderName::try_from(text.as_str()).ok()).collect()
}

/// The whole body in one piece. `None` where the disk no longer has it.
fn body_of(stored: &Stored) -> Option<Vec<u8>> {
    match stored.body_bytes {
        0 => Some(Vec::new()),
        bytes => Some(stored.body.slice(0, bytes - 1).ok()?.concat()),
    }
}

fn encode(record: &Record, body: &[u8]) -> Option<Vec<u8>> {
    let packed = rmp_serde::to_vec_named(record).ok()?;
    let mut value = Vec::with_capacity(PREAMBLE_BYTES + packed.len() + body.len());
    value.extend_from_slice(MAGIC);
    value.extend_from_slice(&u32::try_from(packed.len()).ok()?.to_le_bytes());
    value.extend_from_slice(&packed);
    value.extend_from_slice(body);
    Some(value)
}

/// The head, and where the body begins. `None` for what another version has written.
fn decode(value: &[u8]) -> Option<(Record, usize)> {
    let (preamble, rest) = value.split_at_checked(PREAMBLE_BYTES)?;
    let (magic, length) = preamble.split_at(MAGIC.len());
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let packed = rest.get(..length).filter(|_| magic == MAGIC)?;
    Some((rmp_serde::from_slice(packed).ok()?, PREAMBLE_BYTES + length))
}

#[cfg(test)]
mod tests;
