//! A stored response, in the form in which it goes out.

use super::limits::{ENTRY_OVERHEAD_BYTES, FIELD_OVERHEAD_BYTES, PIECE_BYTES};
use atoll_core::http_cache::freshness::Exchanged;
use atoll_core::http_cache::partial::Span;
use atoll_core::http_cache::storing::Meta;
use atoll_core::http_cache::tags;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A response as it is kept. Nothing of it is parsed again when it is used.
#[derive(Debug)]
pub(crate) struct Stored {
    /// `host/path?query`.
    pub(crate) key: Box<str>,
    /// Length of the host in it.
    pub(crate) host_bytes: usize,
    pub(crate) status: StatusCode,
    /// Ready to be sent, but for Age and Cache-Status.
    pub(crate) headers: HeaderMap,
    pub(crate) meta: Meta,
    pub(crate) exchanged: Exchanged,
    /// The body in pieces.
    pub(crate) pieces: Box<[Bytes]>,
    pub(crate) body_bytes: u64,
    /// What part of the representation it is; `None` for all of it.
    pub(crate) span: Option<Span>,
    /// Sorted.
    pub(crate) tags: Box<[Box<str>]>,
    /// When its fetch began, or that of its last validation, in microseconds.
    pub(crate) fetched_us: u64,
    weight_bytes: usize,
    /// The number of purges that it has been compared with.
    checked: AtomicU64,
    softly_purged: AtomicBool,
}

/// What a stored response is made of.
#[derive(Debug)]
pub(crate) struct Ingredients {
    pub(crate) key: Box<str>,
    pub(crate) host_bytes: usize,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) meta: Meta,
    pub(crate) exchanged: Exchanged,
    pub(crate) pieces: Box<[Bytes]>,
    pub(crate) span: Option<Span>,
    pub(crate) fetched_us: u64,
}

impl Stored {
    /// Puts it together.
    pub(crate) fn new(made_of: Ingredients) -> Stored {
        let Ingredients { key, host_bytes, status, headers, meta, exchanged, pieces, span, .. } =
            made_of;
        let body_bytes = pieces.iter().map(Bytes::len).sum::<usize>();
        let field_bytes: usize = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD_BYTES)
            .sum();
        let tags = tags::of(&headers);
        Stored {
            weight_bytes: body_bytes + field_bytes + 2 * key.len() + ENTRY_OVERHEAD_BYTES,
            key,
            host_bytes,
            status,
            headers,
            meta,
            exchanged,
            pieces,
            body_bytes: body_bytes as u64,
            span,
            tags,
            fetched_us: made_of.fetched_us,
            checked: AtomicU64::new(0),
            softly_purged: AtomicBool::new(false),
        }
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

    pub(super) fn is_softly_purged(&self) -> bool {
        self.softly_purged.load(Ordering::Relaxed)
    }

    /// The bytes from `first` to `last` of what is stored, without copying them.
    pub(crate) fn slice(&self, first: u64, last: u64) -> Vec<Bytes> {
        let mut found = Vec::new();
        let mut start = 0_u64;
        for piece in &self.pieces {
            let end = start + piece.len() as u64;
            if end > first && start <= last {
                let from = first.saturating_sub(start) as usize;
                let to = (last + 1 - start).min(piece.len() as u64) as usize;
                found.push(piece.slice(from..to));
            }
            start = end;
        }
        found
    }
}

/// Joins pieces that are small: one for a small body, and none much smaller than need be.
pub(crate) fn gather(pieces: impl IntoIterator<Item = Bytes>) -> Box<[Bytes]> {
    let mut gathered: Vec<Bytes> = Vec::new();
    let mut open = BytesMut::new();
    for piece in pieces {
        if open.len() + piece.len() > PIECE_BYTES && !open.is_empty() {
            gathered.push(std::mem::take(&mut open).freeze());
        }
        if open.is_empty() && piece.len() >= PIECE_BYTES / 4 {
            gathered.push(piece);
        } else {
            open.extend_from_slice(&piece);
        }
    }
    if !open.is_empty() {
        gathered.push(Bytes::copy_from_slice(&open));
    }
    gathered.into()
}
