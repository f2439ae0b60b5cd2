//! The file that `atoll backup` writes: everything that a node holds, as frames with checksums.
//!
//! ```text
//! "ATOLLBK" 1
//! frame: length 4 LE │ checksum 8 LE │ kind 1 │ body      header, flushes, entries, end
//! ```
//!
//! A frame's checksum is seeded with its place, so none can be lost, doubled or moved; the last one
//! counts the others, so a file that was cut is told from a whole one.

use atoll_core::clock::{Hlc, Stamp};
use atoll_core::entry::Entry;
use atoll_core::key::BucketName;
use atoll_core::limits::{ENTRY_RICH_BYTES_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use atoll_core::wire::WireError;
use atoll_core::wire::entry::{decode_entry, encode_entry};
use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What a file begins with; the last byte is the version of the format.
const MAGIC: &[u8; 8] = b"ATOLLBK\x01";
const HEAD_BYTES: usize = 4 + 8;
/// Longest frame: an entry, its key, its bucket, and what stands in between.
const FRAME_BYTES_MAX: usize = VALUE_BYTES_MAX + ENTRY_RICH_BYTES_MAX + KEY_BYTES_MAX + 256;

const HEADER: u8 = 1;
const FLUSH: u8 = 2;
const ENTRY: u8 = 3;
const END: u8 = 4;

/// Where a backup comes from. For people; nothing depends on it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Header {
    /// Version of the program that wrote it.
    pub(crate) version: String,
    /// Name of the node.
    pub(crate) node: String,
    /// When it was begun, in ms since the epoch.
    pub(crate) at_ms: u64,
}

/// One part of a backup.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// Comes first.
    Header(Header),
    /// The latest flush of a bucket. All of them come before the entries.
    Flush(BucketName, Stamp),
    /// What a key holds.
    Entry { bucket: BucketName, key: Bytes, entry: Entry },
    /// Comes last.
    End,
}

/// Why bytes are no backup, or not a whole one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BackupError {
    #[error("this is no backup of atoll")]
    Magic,
    #[error("the backup has the format {0}, which this version does not know; use a newer one")]
    Version(u8),
    #[error("the backup is damaged at byte {0}")]
    Damaged(u64),
    #[error("the backup ends at byte {0}, before its end: it was cut short")]
    Cut(u64),
    #[error("there are bytes after the backup's end")]
    TooLong,
    #[error("the backup holds an entry that cannot be: {0}")]
    Entry(#[from] WireError),
}

/// Writes a backup, part by part.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    frame_count: u64,
    entry_count: u64,
}

impl Encoder {
    /// Appends the start of a backup to `out`.
    pub(crate) fn begin(&mut self, header: &Header, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        let text = serde_json::to_vec(header).expect("strings and numbers always serialise");
        self.frame(out, HEADER, |out| out.extend_from_slice(&text));
    }

    /// Appends the latest flush of a bucket.
    pub(crate) fn flush(&mut self, bucket: &BucketName, stamp: Stamp, out: &mut Vec<u8>) {
        self.frame(out, FLUSH, |out| {
            write_bucket(bucket, out);
            out.extend_from_slice(&stamp.hlc.to_bits().to_be_bytes());
            out.extend_from_slice(stamp.origin.as_bytes());
        });
    }

    /// Appends what a key holds.
    pub(crate) fn entry(
        &mut self,
        (bucket, key): (&BucketName, &[u8]),
        entry: &Entry,
        out: &mut Vec<u8>,
    ) {
        self.entry_count += 1;
        self.frame(out, ENTRY, |out| {
            write_bucket(bucket, out);
            let len = u16::try_from(key.len()).expect("keys are checked to be short");
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(key);
            encode_entry(entry, out);
        });
    }

    /// Appends the end, without which a backup is not whole.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        let entry_count = self.entry_count;
        self.frame(out, END, |out| out.extend_from_slice(&entry_count.to_le_bytes()));
    }

    fn frame(&mut self, out: &mut Vec<u8>, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let head = out.len();
        out.extend_from_slice(&[0; HEAD_BYTES]);
        out.push(kind);
        write(out);
        let body = head + HEAD_BYTES;
        let len = u32::try_from(out.len() - body).expect("an entry is far smaller");
        let checksum = xxh3_64_with_seed(&out[body..], self.frame_count);
        out[head..head + 4].copy_from_slice(&len.to_le_bytes());
        out[head + 4..body].copy_from_slice(&checksum.to_le_bytes());
        self.frame_count += 1;
    }
}

fn write_bucket(bucket: &BucketName, out: &mut Vec<u8>) {
    let name = bucket.as_str().as_bytes();
    out.push(u8::try_from(name.len()).expect("names are checked to be short"));
    out.extend_from_slice(name);
}

/// Reads a backup as its bytes come.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    buffer: BytesMut,
    /// Bytes that were taken off the buffer.
    at: u64,
    frame_count: u64,
    entry_count: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    BeforeMagic,
    BeforeHeader,
    Within,
    AtEnd,
}

impl Decoder {
    /// Takes more bytes. What is held is at most one frame and these.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next part, or `None` where more bytes are needed for it.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, BackupError> {
        if self.state == State::BeforeMagic && !self.take_magic()? {
            return Ok(None);
        }
        let Some(frame) = self.take_frame()? else { return Ok(None) };
        let damaged = || BackupError::Damaged(self.at);
        let item = parse(frame, self.entry_count)?.ok_or_else(damaged)?;
        self.state = match (self.state, &item) {
            (State::BeforeHeader, Item::Header(_)) => State::Within,
            (State::Within, Item::Flush(..)) => State::Within,
            (State::Within, Item::Entry { .. }) => {
                self.entry_count += 1;
                State::Within
            }
            (State::Within, Item::End) => State::AtEnd,
            _ => return Err(damaged()),
        };
        Ok(Some(item))
    }

    /// Whether the bytes so far are a whole backup. Returns how many keys it holds.
    pub(crate) fn finish(&self) -> Result<u64, BackupError> {
        let held = self.buffer.len() as u64;
        match self.state {
            State::AtEnd if held == 0 => Ok(self.entry_count),
            State::AtEnd => Err(BackupError::TooLong),
            State::BeforeMagic if held > 0 && !MAGIC.starts_with(&self.buffer) => {
                Err(BackupError::Magic)
            }
            _ => Err(BackupError::Cut(self.at + held)),
        }
    }

    fn take_magic(&mut self) -> Result<bool, BackupError> {
        let Some(start) = self.buffer.first_chunk::<{ MAGIC.len() }>() else { return Ok(false) };
        let (version, name) = start.split_last().expect("it has eight bytes");
        if name != &MAGIC[..7] {
            return Err(BackupError::Magic);
        }
        if *version != MAGIC[7] {
            return Err(BackupError::Version(*version));
        }
        self.advance(MAGIC.len());
        self.state = State::BeforeHeader;
        Ok(true)
    }

    /// The next frame's body, checked.
    fn take_frame(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Some((len, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > FRAME_BYTES_MAX || self.state == State::AtEnd {
            let error = BackupError::Damaged(self.at);
            return Err(if self.state == State::AtEnd { BackupError::TooLong } else { error });
        }
        let Some((checksum, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        let Some(body) = rest.get(..len) else { return Ok(None) };
        if xxh3_64_with_seed(body, self.frame_count) != u64::from_le_bytes(*checksum) {
            return Err(BackupError::Damaged(self.at));
        }
        self.advance(HEAD_BYTES);
        self.at += len as u64;
        self.frame_count += 1;
        Ok(Some(self.buffer.split_to(len).freeze()))
    }

    fn advance(&mut self, byte_count: usize) {
        self.buffer.advance(byte_count);
        self.at += byte_count as u64;
    }
}

/// What a frame says; `None` where it is none of ours.
fn parse(mut frame: Bytes, entry_count: u64) -> Result<Option<Item>, BackupError> {
    if frame.is_empty() {
        return Ok(None);
    }
    let item = match frame.get_u8() {
        HEADER => serde_json::from_slice(&frame).ok().map(Item::Header),
        FLUSH => {
            take_bucket(&mut frame).and_then(|bucket| Some(Item::Flush(bucket, stamp(&frame)?)))
        }
        ENTRY => match take_bucket(&mut frame).zip(take_key(&mut frame)) {
            Some((bucket, key)) => Some(Item::Entry { bucket, key, entry: decode_entry(&frame)? }),
            None => None,
        },
        END => (frame[..] == entry_count.to_le_bytes()).then_some(Item::End),
        _ => None,
    };
    Ok(item)
}

fn take_bucket(frame: &mut Bytes) -> Option<BucketName> {
    let (len, rest) = frame.split_first()?;
    let name = rest.get(..usize::from(*len))?;
    let bucket = BucketName::new(std::str::from_utf8(name).ok()?).ok()?;
    frame.advance(1 + usize::from(*len));
    Some(bucket)
}

fn take_key(frame: &mut Bytes) -> Option<Bytes> {
    let (len, rest) = frame.split_first_chunk()?;
    let len = usize::from(u16::from_le_bytes(*len));
    if rest.len() < len {
        return None;
    }
    frame.advance(2);
    Some(frame.split_to(len))
}

fn stamp(bytes: &[u8]) -> Option<Stamp> {
    let (hlc, origin) = bytes.split_first_chunk()?;
    let origin = Uuid::from_slice(origin).ok()?;
    Some(Stamp { hlc: Hlc::from_bits(u64::from_be_bytes(*hlc)), origin })
}

#[cfg(test)]
mod tests;
