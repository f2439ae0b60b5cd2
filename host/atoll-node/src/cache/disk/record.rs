//! What lies in the files of the disk tier: the head of a response, and its body where it is short.
//!
//! ```text
//! 8 bytes   "atollc1\n"
//! 4 bytes   length of the head
//! 8 bytes   XXH3 of the head
//! head      MessagePack
//! body      as it is, where the head says that it is here
//! ```

use super::limits::HEAD_BYTES_MAX;
use crate::cache::stored::Stored;
use atoll_core::http_cache::freshness::{Exchanged, Lifetime, Source};
use atoll_core::http_cache::partial::Span;
use atoll_core::http_cache::storing::Meta;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"atollc1\n";
const PREAMBLE_BYTES: usize = 20;

/// Why a file is not used. It is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cache) enum Damage {
    /// It ends too early.
    #[error("it is not whole")]
    Torn,
    /// Its checksum does not fit what is in it.
    #[error("its checksum does not fit")]
    Checksum,
    /// It is none of ours, or of a version that is not known.
    #[error("it is of another format")]
    Format,
}

/// The head of a file.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Head {
    /// Under which it is kept.
    pub(super) key: ByteBuf,
    pub(super) kind: Kind,
}

/// What a file is.
#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Kind {
    /// A response.
    Response(Box<Response>),
    /// Which fields tell the responses of a key apart, and the number that their keys hold. An
    /// invalidation at `fetched_us` or later takes it, and with it all of them.
    Varies { names: Vec<String>, number: u64, fetched_us: u64 },
}

/// A response without its body.
#[derive(Debug, Deserialize, Serialize)]
pub(in crate::cache) struct Response {
    pub(in crate::cache) url_key: String,
    pub(in crate::cache) host_bytes: usize,
    /// Which route has made it. 0, which is none, for what an earlier version has written.
    #[serde(default)]
    pub(in crate::cache) route: u64,
    status: u16,
    headers: Vec<(String, ByteBuf)>,
    meta: Times,
    requested_ms: u64,
    responded_ms: u64,
    span: Option<(u64, u64, u64)>,
    pub(super) fetched_us: u64,
    /// Whether another node has fetched it.
    #[serde(default)]
    pub(super) is_taken: bool,
    pub(in crate::cache) body: Place,
}

/// Where a body is.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(in crate::cache) enum Place {
    /// Behind the head.
    Here { bytes: u64, hash: u64 },
    /// In a file of its own, with a checksum for each chunk.
    Apart { bytes: u64, number: u64, hashes: Vec<u64> },
}

/// What is kept to decide on reuse.
#[derive(Debug, Deserialize, Serialize)]
struct Times {
    responded_ms: u64,
    initial_age_ms: u64,
    lifetime_ms: u64,
    source: u8,
    always_validate: bool,
    never_stale: bool,
    stale_if_disconnected: bool,
    while_revalidate_ms: u64,
    if_error_ms: u64,
    has_validator: bool,
}

const SOURCES: [Source; 6] = [
    Source::Route,
    Source::SMaxage,
    Source::MaxAge,
    Source::Expires,
    Source::Heuristic,
    Source::Nothing,
];

/// The parts of a response, for `Ingredients`.
#[derive(Debug)]
pub(in crate::cache) struct Parts {
    pub(in crate::cache) status: StatusCode,
    pub(in crate::cache) headers: HeaderMap,
    pub(in crate::cache) meta: Meta,
    pub(in crate::cache) exchanged: Exchanged,
    pub(in crate::cache) span: Option<Span>,
}

impl Response {
    /// The head of `stored`, whose body is at `body`.
    pub(in crate::cache) fn of(stored: &Stored, body: Place) -> Response {
        let fields = stored.headers.iter();
        let meta = &stored.meta;
        Response {
            url_key: stored.key.to_string(),
            host_bytes: stored.host_bytes,
            route: stored.route,
            status: stored.status.as_u16(),
            headers: fields
                .map(|(name, value)| (name.as_str().to_owned(), ByteBuf::from(value.as_bytes())))
                .collect(),
            meta: Times {
                responded_ms: meta.responded_ms,
                initial_age_ms: meta.initial_age_ms,
                lifetime_ms: meta.lifetime.lifetime_ms,
                source: SOURCES
                    .iter()
                    .position(|source| *source == meta.lifetime.source)
                    .unwrap_or(SOURCES.len()) as u8,
                always_validate: meta.always_validate,
                never_stale: meta.never_stale,
                stale_if_disconnected: meta.stale_if_disconnected,
                while_revalidate_ms: meta.while_revalidate_ms,
                if_error_ms: meta.if_error_ms,
                has_validator: meta.has_validator,
            },
            requested_ms: stored.exchanged.requested_ms,
            responded_ms: stored.exchanged.responded_ms,
            span: stored.span.map(|span| (span.first, span.last, span.total)),
            fetched_us: stored.fetched_us,
            is_taken: stored.is_taken,
            body,
        }
    }

    /// What it was made of.
    pub(in crate::cache) fn parts(&self) -> Result<Parts, Damage> {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name).map_err(|_| Damage::Format)?;
            let value = HeaderValue::from_bytes(value).map_err(|_| Damage::Format)?;
            headers.append(name, value);
        }
        let times = &self.meta;
        let source = SOURCES.get(usize::from(times.source)).copied().ok_or(Damage::Format)?;
        let meta = Meta {
            responded_ms: times.responded_ms,
            initial_age_ms: times.initial_age_ms,
            lifetime: Lifetime { lifetime_ms: times.lifetime_ms, source },
            always_validate: times.always_validate,
            never_stale: times.never_stale,
            stale_if_disconnected: times.stale_if_disconnected,
            while_revalidate_ms: times.while_revalidate_ms,
            if_error_ms: times.if_error_ms,
            has_validator: times.has_validator,
        };
        let span = self.span.map(|(first, last, total)| Span { first, last, total });
        let is_span = span.is_none_or(|span| span.first <= span.last && span.last < span.total);
        let fits = span.is_none_or(|span| is_span && span.length() == self.body.bytes());
        if !is_span || !fits || !self.url_key.is_char_boundary(self.host_bytes) {
            return Err(Damage::Format);
        }
        Ok(Parts {
            status: StatusCode::from_u16(self.status).map_err(|_| Damage::Format)?,
            headers,
            meta,
            exchanged: Exchanged {
                requested_ms: self.requested_ms,
                responded_ms: self.responded_ms,
            },
            span,
        })
    }
}

impl Place {
    /// The body's length.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Place::Here { bytes, .. } | Place::Apart { bytes, .. } => *bytes,
        }
    }
}

impl Kind {
    /// When the fetch began that it came of.
    pub(super) fn fetched_us(&self) -> u64 {
        match self {
            Kind::Response(response) => response.fetched_us,
            Kind::Varies { fetched_us, .. } => *fetched_us,
        }
    }
}

/// The bytes of a head, with what comes before it. `None` where it is too long to be kept.
pub(super) fn encode(head: &Head) -> Option<Vec<u8>> {
    let packed = rmp_serde::to_vec_named(head).ok()?;
    if packed.len() > HEAD_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(PREAMBLE_BYTES + packed.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(packed.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&packed).to_le_bytes());
    bytes.extend_from_slice(&packed);
    Some(bytes)
}

/// Reads a head. Returns it and where what follows it begins.
pub(super) fn decode(file: &[u8]) -> Result<(Head, usize), Damage> {
    let (preamble, rest) = file.split_at_checked(PREAMBLE_BYTES).ok_or(Damage::Torn)?;
    let (magic, numbers) = preamble.split_at(MAGIC.len());
    let (length, hash) = numbers.split_at(4);
    if magic != MAGIC {
        return Err(Damage::Format);
    }
    let length = u32::from_le_bytes(length.try_into().map_err(|_| Damage::Torn)?) as usize;
    let hash = u64::from_le_bytes(hash.try_into().map_err(|_| Damage::Torn)?);
    if length > HEAD_BYTES_MAX {
        return Err(Damage::Checksum);
    }
    let packed = rest.get(..length).ok_or(Damage::Torn)?;
    if xxh3_64(packed) != hash {
        return Err(Damage::Checksum);
    }
    let head = rmp_serde::from_slice(packed).map_err(|_| Damage::Format)?;
    Ok((head, PREAMBLE_BYTES + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        let names = vec!["accept".to_owned(), "foo".to_owned()];
        let head = Head {
            key: ByteBuf::from(b"a/b".to_vec()),
            kind: Kind::Varies { names, number: 7, fetched_us: 1 },
        };
        encode(&head).expect("it is short")
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let mut bytes = file();
        bytes.extend_from_slice(b"body");
        let (head, at) = decode(&bytes).expect("whole");
        assert_eq!((&head.key[..], &bytes[at..]), (&b"a/b"[..], &b"body"[..]));
        let Kind::Varies { names, number, .. } = head.kind else { panic!("it varies") };
        assert_eq!((names.join(" ").as_str(), number), ("accept foo", 7));
    }

    #[test]
    fn no_file_that_is_cut_or_changed_is_read() {
        let bytes = file();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            assert!(decode(&bytes).is_err(), "changed at {at}");
        }
    }
}
