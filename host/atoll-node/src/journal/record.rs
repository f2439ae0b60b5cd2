//! The records of a data directory: what their keys say, and the checksum before each value.
//!
//! ```text
//! key                         value, behind its checksum
//! bucket 0 key                an entry, as on a link (`atoll_core::wire::entry`)
//! 0 "checkpoint"              number 8 LE, then what the node keeps beside its keys
//! 0 "flush" 0 bucket          stamp of the bucket's latest flush: hlc 8 BE, origin 16
//! ```
//!
//! No bucket's name has a zero byte, so the node's own records come first and are read first.

use atoll_core::clock::{Hlc, Stamp};
use atoll_core::key::BucketName;
use bytes::Bytes;
use uuid::Uuid;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Key of the record that says how far the copy goes.
pub(super) const CHECKPOINT: &[u8] = b"\0checkpoint";
const FLUSH: &[u8] = b"\0flush\0";
/// Sorts after the node's own records and before every entry.
pub(super) const FIRST_ENTRY: &[u8] = b"\x01";

const CHECKSUM_BYTES: usize = 8;

/// What a record is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject<'k> {
    /// How far the copy goes.
    Checkpoint,
    /// The latest flush of a bucket.
    Flush(BucketName),
    /// What a key holds.
    Entry {
        /// Not yet checked to be a name.
        bucket: &'k [u8],
        key: &'k [u8],
    },
}

/// How far the copy goes, and what the node keeps beside its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    /// Goes up with each that is written.
    pub(super) number: u64,
    /// The node's own.
    pub(super) state: Bytes,
}

/// A record that is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record is damaged")]
pub(super) struct Damaged;

impl<'k> Subject<'k> {
    /// What the record of this key is about.
    pub(super) fn of(record_key: &'k [u8]) -> Result<Subject<'k>, Damaged> {
        if record_key == CHECKPOINT {
            return Ok(Subject::Checkpoint);
        }
        if let Some(bucket) = record_key.strip_prefix(FLUSH) {
            return Ok(Subject::Flush(bucket_name(bucket)?));
        }
        let end = record_key.iter().position(|&byte| byte == 0).ok_or(Damaged)?;
        let (bucket, key) = (&record_key[..end], &record_key[end + 1..]);
        if bucket.is_empty() { Err(Damaged) } else { Ok(Subject::Entry { bucket, key }) }
    }
}

/// The bucket of this name.
pub(super) fn bucket_name(bytes: &[u8]) -> Result<BucketName, Damaged> {
    let text = std::str::from_utf8(bytes).map_err(|_| Damaged)?;
    BucketName::new(text).map_err(|_| Damaged)
}

/// The key of the record that holds an entry.
pub(super) fn entry_key(bucket: &BucketName, key: &[u8]) -> Vec<u8> {
    [bucket.as_str().as_bytes(), &[0], key].concat()
}

/// The key of the record that holds the latest flush of a bucket.
pub(super) fn flush_key(bucket: &BucketName) -> Vec<u8> {
    [FLUSH, bucket.as_str().as_bytes()].concat()
}

/// A value behind its checksum. `write` appends the value.
pub(super) fn seal(record_key: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut sealed = vec![0; CHECKSUM_BYTES];
    write(&mut sealed);
    let checksum = checksum(record_key, &sealed[CHECKSUM_BYTES..]);
    sealed[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
    sealed
}

/// The value behind its checksum, if that is right.
pub(super) fn unseal(record_key: &[u8], sealed: &Bytes) -> Result<Bytes, Damaged> {
    let (written, value) = sealed.split_first_chunk::<CHECKSUM_BYTES>().ok_or(Damaged)?;
    if u64::from_le_bytes(*written) != checksum(record_key, value) {
        return Err(Damaged);
    }
    Ok(sealed.slice(CHECKSUM_BYTES..))
}

/// Of key and value: a value that has got under another key is damage too.
fn checksum(record_key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64(record_key))
}

impl Checkpoint {
    /// Appends it to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.state);
    }

    /// Reads what [`Checkpoint::write`] wrote.
    pub(super) fn read(value: &Bytes) -> Result<Checkpoint, Damaged> {
        let (number, _) = value.split_first_chunk().ok_or(Damaged)?;
        Ok(Checkpoint { number: u64::from_le_bytes(*number), state: value.slice(8..) })
    }
}

/// Appends a stamp to `out`.
pub(super) fn write_stamp(stamp: Stamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&stamp.hlc.to_bits().to_be_bytes());
    out.extend_from_slice(stamp.origin.as_bytes());
}

/// Reads what [`write_stamp`] wrote.
pub(super) fn read_stamp(value: &[u8]) -> Result<Stamp, Damaged> {
    let (hlc, origin) = value.split_first_chunk().ok_or(Damaged)?;
    let origin = Uuid::from_slice(origin).map_err(|_| Damaged)?;
    Ok(Stamp { hlc: Hlc::from_bits(u64::from_be_bytes(*hlc)), origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BucketName {
        BucketName::new(text).expect("a name")
    }

    #[test]
    fn a_record_says_what_it_is_about_and_the_nodes_own_come_first() {
        let default = name("default");
        let entry = entry_key(&default, b"a\0b");
        let want = Subject::Entry { bucket: b"default", key: b"a\0b" };
        assert_eq!(Subject::of(&entry), Ok(want));
        let flush = flush_key(&default);
        assert_eq!(Subject::of(&flush), Ok(Subject::Flush(default)));
        assert_eq!(Subject::of(CHECKPOINT), Ok(Subject::Checkpoint));
        assert!(CHECKPOINT < &flush[..] && &flush[..] < FIRST_ENTRY);
        let least = entry_key(&name("-".replace('-', "0").as_str()), b"\0");
        assert!(FIRST_ENTRY < &least[..]);
        for nonsense in [&b""[..], b"\0", b"\0other", b"\0flush\0a/b", b"nokey"] {
            assert_eq!(Subject::of(nonsense), Err(Damaged), "{nonsense:?}");
        }
    }

    #[test]
    fn a_record_that_was_changed_or_moved_is_damaged() {
        let sealed = seal(b"key", |out| out.extend_from_slice(b"value"));
        let check = |key: &[u8], sealed: &[u8]| unseal(key, &Bytes::copy_from_slice(sealed));
        assert_eq!(check(b"key", &sealed), Ok(Bytes::from_static(b"value")));
        assert_eq!(check(b"other", &sealed), Err(Damaged));
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x10;
            assert_eq!(check(b"key", &changed), Err(Damaged), "byte {at}");
            assert_eq!(check(b"key", &sealed[..at]), Err(Damaged), "cut at {at}");
        }
    }

    #[test]
    fn checkpoints_and_stamps_come_back() {
        let checkpoint = Checkpoint { number: 7, state: Bytes::from_static(b"state") };
        let mut out = Vec::new();
        checkpoint.write(&mut out);
        assert_eq!(Checkpoint::read(&Bytes::from(out)), Ok(checkpoint));
        assert_eq!(Checkpoint::read(&Bytes::from_static(b"short")), Err(Damaged));
        let stamp = Stamp { hlc: Hlc::from_bits(5), origin: Uuid::from_u128(9) };
        let mut out = Vec::new();
        write_stamp(stamp, &mut out);
        assert_eq!(read_stamp(&out), Ok(stamp));
        assert_eq!(read_stamp(&out[1..]), Err(Damaged));
    }
}
