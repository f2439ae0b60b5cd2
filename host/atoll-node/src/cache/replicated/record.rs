//! What lies in the bucket of shared responses: a record for each, and the pieces of long bodies.
//!
//! No value is so large that it goes to other nodes by itself and all that its node has written since
//! waits until they have it: what is longer lies under keys of its own, which hold a hash of the whole.

use crate::cache::disk::record::{Place, Response};
use crate::cache::stored::Stored;
use atoll_core::limits::RUN_VALUE_BYTES_MAX;
use atoll_core::replica::vector::Vector;
use bytes::Bytes;
use http::HeaderName;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

const MAGIC: &[u8; 8] = b"atollr1\n";
const PREAMBLE_BYTES: usize = MAGIC.len() + size_of::<u32>();
/// Longest value, but for a record whose fields alone are longer.
pub(crate) const PIECE_BYTES: usize = 15 * 1024;

const _: () = assert!(PIECE_BYTES < RUN_VALUE_BYTES_MAX, "larger ones go by themselves");

/// The head of a record; a body follows that of a response.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Record {
    route: u64,
    #[serde(default)]
    version: (u64, u64),
    pub(super) kind: Kind,
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
pub(super) enum Kind {
    /// Which fields tell the responses of a URL apart: they have keys of their own.
    Varies(Vec<String>),
    Response(Box<Carried>),
}

/// A response and what has to be known of it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Carried {
    pub(super) response: Response,
    pub(super) names: Vec<String>,
    pub(super) selecting: ByteBuf,
    /// What the node that fetched it included when it began to.
    pub(super) marks: Vector,
    /// When that was, and when this was written, by that node's clock, in ms.
    pub(super) began_ms: u64,
    pub(super) written_ms: u64,
    /// Keys that the body lies under; 0 where it lies behind this.
    #[serde(default)]
    pub(super) piece_count: u32,
}

/// A body that lies apart: its hash, and how many pieces there are of it.
pub(super) type Apart = (u64, u32);

impl Carried {
    /// The body where it lies apart.
    pub(super) fn pieces(&self) -> Option<Apart> {
        match self.response.body {
            Place::Here { hash, .. } if self.piece_count > 0 => Some((hash, self.piece_count)),
            Place::Here { .. } | Place::Apart { .. } => None,
        }
    }
}

impl Record {
    pub(super) fn of(Maker { route, version }: Maker, kind: Kind) -> Record {
        Record { route, version, kind }
    }

    pub(super) fn maker(&self) -> Maker {
        Maker { route: self.route, version: self.version }
    }

    /// When the fetch began, in ms; 0 where it is none.
    pub(super) fn began_ms(&self) -> u64 {
        match &self.kind {
            Kind::Response(carried) => carried.began_ms,
            Kind::Varies(_) => 0,
        }
    }
}

/// The value of a record, with the body where both are short enough together; else that lies apart.
/// `None` for what cannot be encoded.
pub(super) fn head_of(
    maker: Maker,
    mut carried: Carried,
    body: &[u8],
) -> Option<(Vec<u8>, Option<Apart>)> {
    let pieces = body.len().div_ceil(PIECE_BYTES);
    if pieces <= 1 {
        let record = Record::of(maker, Kind::Response(Box::new(carried)));
        let value = encode(&record, body)?;
        if value.len() <= PIECE_BYTES || body.is_empty() {
            return Some((value, None));
        }
        let Kind::Response(response) = record.kind else { return None };
        carried = *response;
    }
    carried.piece_count = u32::try_from(pieces).ok()?;
    let apart = carried.pieces();
    let record = Record::of(maker, Kind::Response(Box::new(carried)));
    Some((encode(&record, &[])?, apart))
}

/// Where a response lies: under its URL alone where no fields tell others apart.
pub(super) fn slot(key: &str, names: &[HeaderName], selecting: &[u8]) -> Vec<u8> {
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

/// Where a piece of the response under `slot` lies whose whole body has this hash.
pub(super) fn piece_slot(slot: &[u8], hash: u64, number: u32) -> Vec<u8> {
    [slot, format!("/{hash:016x}/{number}").as_bytes()].concat()
}

/// The place of a whole body.
pub(super) fn place_of(body: &[u8]) -> Place {
    Place::Here { bytes: body.len() as u64, hash: xxh3_64(body) }
}

/// The same of its pieces.
pub(super) fn place_of_pieces(pieces: &[Bytes]) -> Place {
    let mut hash = Xxh3::new();
    pieces.iter().for_each(|piece| hash.update(piece));
    let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
    Place::Here { bytes, hash: hash.digest() }
}

pub(super) fn texts(names: &[HeaderName]) -> Vec<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

pub(super) fn header_names(texts: &[String]) -> Option<Box<[HeaderName]>> {
    texts.iter().map(|text| HeaderName::try_from(text.as_str()).ok()).collect()
}

/// The whole body in one piece. `None` where the disk no longer has it.
pub(super) fn body_of(stored: &Stored) -> Option<Bytes> {
    match stored.body_bytes {
        0 => Some(Bytes::new()),
        bytes => Some(stored.body.slice(0, bytes - 1).ok()?.concat().into()),
    }
}

pub(super) fn encode(record: &Record, body: &[u8]) -> Option<Vec<u8>> {
    let packed = rmp_serde::to_vec_named(record).ok()?;
    let mut value = Vec::with_capacity(PREAMBLE_BYTES + packed.len() + body.len());
    value.extend_from_slice(MAGIC);
    value.extend_from_slice(&u32::try_from(packed.len()).ok()?.to_le_bytes());
    value.extend_from_slice(&packed);
    value.extend_from_slice(body);
    Some(value)
}

/// The head, and where the body begins. `None` for what another version has written.
pub(super) fn decode(value: &[u8]) -> Option<(Record, usize)> {
    let (preamble, rest) = value.split_at_checked(PREAMBLE_BYTES)?;
    let (magic, length) = preamble.split_at(MAGIC.len());
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let packed = rest.get(..length).filter(|_| magic == MAGIC)?;
    Some((rmp_serde::from_slice(packed).ok()?, PREAMBLE_BYTES + length))
}
