//! A stored response, in the form in which it goes out.

use super::body::StoredBody;
use super::disk::Disk;
use super::limits::{ENTRY_OVERHEAD_BYTES, FIELD_OVERHEAD_BYTES};
use crate::proxy::filters::PART;
use atoll_core::http_cache::control::ResponseControl;
use atoll_core::http_cache::freshness::Exchanged;
use atoll_core::http_cache::partial::Span;
use atoll_core::http_cache::reuse::Purged;
use atoll_core::http_cache::storing::Meta;
use atoll_core::http_cache::{coding, keys, tags, targeted};
use http::{HeaderMap, StatusCode};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A response as it is kept. Nothing of it is parsed again when it is used.
#[derive(Debug)]
pub(crate) struct Stored {
    /// `host/path?query`, and the parts that a filter has added.
    pub(crate) key: Box<str>,
    /// Length of the host in it.
    pub(crate) host_bytes: usize,
    /// Which route or handler has made it, as a hash of what shapes its responses.
    pub(crate) route: u64,
    pub(crate) status: StatusCode,
    /// Ready to be sent, but for Age and Cache-Status.
    pub(crate) headers: HeaderMap,
    pub(crate) meta: Meta,
    pub(crate) exchanged: Exchanged,
    pub(crate) body: StoredBody,
    pub(crate) body_bytes: u64,
    /// What part of the representation it is; `None` for all of it.
    pub(crate) span: Option<Span>,
    /// Sorted.
    pub(crate) tags: Box<[Box<str>]>,
    /// Hashes of the keys of the store that it was made from.
    pub(crate) keys: Box<[u64]>,
    /// When its fetch began, or that of its last validation, in microseconds.
    pub(crate) fetched_us: u64,
    /// Whether it may be sent with a content coding.
    pub(crate) may_be_coded: bool,
    weight_bytes: usize,
    /// The number of purges that it has been compared with.
    checked: AtomicU64,
    softly_purged: AtomicBool,
    /// Where it lies on the disk, once it does.
    place: OnceLock<u128>,
    /// When its use was told to the disk tier last, in ms.
    told_ms: AtomicU64,
    outdated: AtomicBool,
    /// Another node has fetched it: `fetched_us` is when this one took it, which says nothing of when
    /// the fetch began.
    pub(crate) is_taken: bool,
    /// The same, and nobody was answered with it yet.
    is_unused: AtomicBool,
}

/// What a stored response is made of.
#[derive(Debug)]
pub(crate) struct Ingredients {
    pub(crate) key: Box<str>,
    pub(crate) host_bytes: usize,
    pub(crate) route: u64,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) meta: Meta,
    pub(crate) exchanged: Exchanged,
    pub(crate) body: StoredBody,
    pub(crate) span: Option<Span>,
    pub(crate) fetched_us: u64,
}

impl Stored {
    /// Puts it together.
    pub(crate) fn new(made_of: Ingredients) -> Stored {
        let Ingredients { key, host_bytes, status, headers, meta, exchanged, body, span, .. } =
            made_of;
        let body_bytes = body.bytes();
        let field_bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES)
            .sum();
        let tags = tags::of(&headers);
        let keys = keys::hashes(&headers);
        let may_be_coded = span.is_none() && may_be_coded(status, &headers);
        Stored {
            weight_bytes: body.memory_bytes() as usize
                + field_bytes
                + 2 * key.len()
                + ENTRY_OVERHEAD_BYTES,
            key,
            host_bytes,
            status,
            headers,
            meta,
            exchanged,
            body,
            body_bytes,
            span,
            tags,
            keys,
            route: made_of.route,
            fetched_us: made_of.fetched_us,
            may_be_coded,
            checked: AtomicU64::new(0),
            softly_purged: AtomicBool::new(false),
            place: OnceLock::new(),
            told_ms: AtomicU64::new(0),
            outdated: AtomicBool::new(false),
            is_taken: false,
            is_unused: AtomicBool::new(false),
        }
    }

    /// The same as something that another node has fetched, where `is_taken`.
    pub(crate) fn taken(self, is_taken: bool) -> Stored {
        Stored { is_taken, ..self }
    }

    /// `host/path?query`: what purges are about.
    pub(crate) fn url(&self) -> &str {
        url_of(&self.key)
    }

    /// What it takes of the cache's budget.
    pub(super) fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    pub(super) fn checked_at(&self) -> u64 {
        self.checked.load(Ordering::Acquire)
    }

    pub(super) fn note_check(&self, generation: u64, is_soft: bool) {
        self.softly_purged.fetch_or(is_soft, Ordering::Relaxed);
        self.checked.store(generation, Ordering::Release);
    }

    /// It lies on the disk under this hash, or will soon.
    pub(super) fn note_place(&self, hash: u128) {
        // It has one place for good.
        let _ = self.place.set(hash);
    }

    /// Whether it lies on `disk` now.
    pub(super) fn is_on(&self, disk: &Disk) -> bool {
        self.place.get().is_some_and(|hash| disk.may_have(*hash))
    }

    /// Where it lies on the disk, if that was not asked for within the last `every_ms`.
    pub(super) fn place_in_use(&self, now_ms: u64, every_ms: u64) -> Option<u128> {
        let told_ms = self.told_ms.load(Ordering::Relaxed);
        if now_ms < told_ms + every_ms {
            return None;
        }
        self.told_ms.store(now_ms, Ordering::Relaxed);
        self.place.get().copied()
    }

    pub(super) fn note_outdated(&self) {
        self.outdated.store(true, Ordering::Relaxed);
    }

    /// It was just taken from another node.
    pub(super) fn note_unused(&self) {
        self.is_unused.store(true, Ordering::Relaxed);
    }

    /// Whether it was just taken from another node and this is its first use.
    pub(crate) fn begins_use(&self) -> bool {
        self.is_unused.load(Ordering::Relaxed) && self.is_unused.swap(false, Ordering::Relaxed)
    }

    /// What it was told by the latest look at purges and keys.
    pub(crate) fn purged(&self) -> Purged {
        let outdated = self.outdated.load(Ordering::Relaxed);
        match (outdated, self.softly_purged.load(Ordering::Relaxed)) {
            (true, _) => Purged::Outdated,
            (false, true) => Purged::Softly,
            (false, false) => Purged::No,
        }
    }
}

/// The URL in a key.
pub(crate) fn url_of(key: &str) -> &str {
    key.split(PART).next().unwrap_or(key)
}

/// Whether a response may be sent with a content coding.
pub(crate) fn may_be_coded(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_fixed =
        ResponseControl::of(headers).no_transform || targeted::control_of(headers).0.no_transform;
    coding::may_be_coded(status, headers, is_fixed)
}
