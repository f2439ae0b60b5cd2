//! The entries of a sync as bytes: what a key holds, an outline of it, or the flush of a bucket.

use super::entry::{decode_entry, encode_entry};
use super::op::BucketRef;
use crate::clock::{Hlc, Stamp};
use crate::entry::Entry;
use crate::key::check_key;
use bytes::Bytes;
use serde::Deserialize;
use uuid::Uuid;

const ENTRY: u8 = 0;
const LISTED: u8 = 1;
const FLUSH: u8 = 2;

/// Bytes of the count in front.
const COUNT_BYTES: usize = 4;

/// One thing in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// What a key holds, or the parts of it that the receiver lacks.
    Entry {
        /// Where.
        bucket: BucketRef<'a>,
        /// Which key.
        key: &'a [u8],
        /// What.
        entry: Entry,
    },
    /// What a key holds, without its value's bytes: the receiver has it, if it should.
    Listed {
        /// Where.
        bucket: BucketRef<'a>,
        /// Which key.
        key: &'a [u8],
        /// What.
        entry: Entry,
    },
    /// The latest flush of a bucket.
    Flush {
        /// Which.
        bucket: BucketRef<'a>,
        /// Everything up to here is dead.
        stamp: Stamp,
    },
}

/// A chunk that is being written.
#[derive(Debug)]
pub struct ChunkWriter {
    bytes: Vec<u8>,
    count: u32,
}

impl Default for ChunkWriter {
    fn default() -> ChunkWriter {
        ChunkWriter { bytes: vec![0; COUNT_BYTES], count: 0 }
    }
}

impl ChunkWriter {
    /// Appends an item.
    pub fn push(&mut self, item: &Item<'_>) {
        self.count += 1;
        let out = &mut self.bytes;
        let written = match item {
            Item::Entry { bucket, key, entry } => put_entry(out, ENTRY, (bucket, key, entry)),
            Item::Listed { bucket, key, entry } => put_entry(out, LISTED, (bucket, key, entry)),
            Item::Flush { bucket, stamp } => {
                let nothing = serde_bytes::Bytes::new(&[]);
                let stamp = (stamp.hlc.to_bits(), stamp.origin);
                rmp_serde::encode::write(out, &(FLUSH, bucket, nothing, nothing, Some(stamp)))
            }
        };
        written.expect("memory takes everything");
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The chunk.
    pub fn finish(mut self) -> Bytes {
        self.bytes[..COUNT_BYTES].copy_from_slice(&self.count.to_le_bytes());
        Bytes::from(self.bytes)
    }
}

fn put_entry(
    out: &mut Vec<u8>,
    kind: u8,
    (bucket, key, entry): (&BucketRef<'_>, &[u8], &Entry),
) -> Result<(), rmp_serde::encode::Error> {
    let mut packed = Vec::new();
    encode_entry(entry, &mut packed);
    let (key, packed) = (serde_bytes::Bytes::new(key), serde_bytes::Bytes::new(&packed));
    rmp_serde::encode::write(out, &(kind, bucket, key, packed, None::<(u64, Uuid)>))
}

/// Why bytes are no chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a chunk of entries: {0}")]
pub struct ChunkError(String);

/// Calls `take` with each item of `chunk`.
pub fn read_chunk(chunk: &Bytes, mut take: impl FnMut(Item<'_>)) -> Result<(), ChunkError> {
    let fault = |text: &str| ChunkError(text.to_owned());
    let (count, body) =
        chunk.split_first_chunk::<COUNT_BYTES>().ok_or_else(|| fault("no count"))?;
    let mut reader = rmp_serde::Deserializer::from_read_ref(body);
    for _ in 0..u32::from_le_bytes(*count) {
        let raw = Raw::deserialize(&mut reader).map_err(|error| fault(&error.to_string()))?;
        take(raw.into_item(chunk)?);
    }
    Ok(())
}

/// Kind, bucket, key, packed entry, stamp.
#[derive(Deserialize)]
struct Raw<'a>(u8, #[serde(borrow)] BucketRef<'a>, &'a [u8], &'a [u8], Option<(u64, Uuid)>);

impl<'a> Raw<'a> {
    fn into_item(self, chunk: &Bytes) -> Result<Item<'a>, ChunkError> {
        let Raw(kind, bucket, key, packed, stamp) = self;
        if kind == FLUSH {
            let (hlc, origin) = stamp.ok_or_else(|| ChunkError("no stamp".to_owned()))?;
            return Ok(Item::Flush { bucket, stamp: Stamp { hlc: Hlc::from_bits(hlc), origin } });
        }
        check_key(key).map_err(|error| ChunkError(error.to_string()))?;
        let packed = chunk.slice_ref(packed);
        let entry = decode_entry(&packed).map_err(|error| ChunkError(error.to_string()))?;
        match kind {
            ENTRY => Ok(Item::Entry { bucket, key, entry }),
            LISTED => Ok(Item::Listed { bucket, key, entry }),
            other => Err(ChunkError(format!("no item of kind {other}"))),
        }
    }
}
