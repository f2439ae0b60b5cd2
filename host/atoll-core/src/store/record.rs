//! One key's record: a single allocation behind a single pointer.
//!
//! ```text
//! flags 1 │ key length 2 LE │ hlc 8 LE │ origin 1..3 │ deadline 0..8 │ extra 0|4 LE │ key │ value
//! ```
//!
//! The deadline is kept as the distance from the stamp, so a TTL of days fits in five bytes. A
//! value that is shared, attributes, a touch and counter cells live in the shard's
//! [`super::extra::Extra`]s; the record then ends with the key, or with the inline value, and names
//! the extra's slot.

use crate::clock::Hlc;
use crate::entry::Deadline;
use thin_vec::ThinVec;

/// The register is a tombstone, or absent.
const TOMBSTONE: u8 = 1;
/// A deadline follows the origin.
const DEADLINE: u8 = 2;
/// A slot in the shard's extras follows.
const EXTRA: u8 = 4;
/// The key's change is noted (see [`super::changes`]). Belongs to the record, not to its content.
const NOTED: u8 = 8;

/// Bytes before the origin.
const FIXED_BYTES: usize = 1 + 2 + 8;

/// The packed form of what a key holds.
#[derive(Debug)]
pub(super) struct Record {
    bytes: ThinVec<u8>,
}

/// The parts of a record beside key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Of the register's stamp.
    pub(super) hlc: Hlc,
    /// Of the register's stamp, as interned.
    pub(super) origin: u16,
    /// Whether the register holds no value.
    pub(super) life: Life,
    /// Of the register, before any touch.
    pub(super) deadline: Deadline,
    /// Slot in the shard's extras.
    pub(super) extra: Option<u32>,
}

/// What the register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// A value, inline or in the extra.
    Value,
    /// A tombstone, or nothing yet.
    Tombstone,
}

impl Record {
    /// Packs a record. `key` has at most `KEY_BYTES_MAX` bytes.
    pub(super) fn new(header: Header, key: &[u8], value: &[u8]) -> Record {
        let mut record = Record { bytes: ThinVec::new() };
        record.rewrite(header, key, value);
        record
    }

    /// Packs the record anew, in the same allocation where it has exactly the right size.
    pub(super) fn rewrite(&mut self, header: Header, key: &[u8], value: &[u8]) {
        let noted = self.bytes.first().map_or(0, |flags| flags & NOTED);
        let packed = header.pack(key.len());
        let head = packed.as_slice();
        let needed = head.len() + key.len() + value.len();
        if self.bytes.len() == needed && self.bytes.capacity() == needed {
            // A thin vector grows byte by byte; a slice is copied at once.
            let (head_place, rest) = self.bytes.split_at_mut(head.len());
            let (key_place, value_place) = rest.split_at_mut(key.len());
            head_place.copy_from_slice(head);
            key_place.copy_from_slice(key);
            value_place.copy_from_slice(value);
        } else {
            self.bytes = ThinVec::with_capacity(needed);
            self.bytes.extend_from_slice(head);
            self.bytes.extend_from_slice(key);
            self.bytes.extend_from_slice(value);
        }
        self.bytes[0] |= noted;
        debug_assert_eq!(self.bytes.len(), self.bytes.capacity(), "exactly the right size");
    }

    /// Whether the key's change is noted.
    pub(super) fn is_noted(&self) -> bool {
        self.bytes[0] & NOTED != 0
    }

    /// Says that the key's change is noted.
    pub(super) fn set_noted(&mut self) {
        self.bytes[0] |= NOTED;
    }

    /// Says that the key's change is no longer noted.
    pub(super) fn clear_noted(&mut self) {
        self.bytes[0] &= !NOTED;
    }

    /// Everything beside key and value, and where the key begins.
    #[inline]
    fn unpack(&self) -> (Header, usize) {
        let bytes = &self.bytes[..];
        let flags = bytes[0];
        let hlc = Hlc::from_bits(u64::from_le_bytes(array(&bytes[3..11])));
        let mut at = FIXED_BYTES;
        let origin = read_varint(bytes, &mut at) as u16;
        let deadline = match flags & DEADLINE {
            0 => Deadline::NEVER,
            _ => {
                let distance = unzigzag(read_varint(bytes, &mut at));
                Deadline::at_millis(hlc.millis().wrapping_add_signed(distance))
            }
        };
        let extra = (flags & EXTRA != 0).then(|| {
            let slot = u32::from_le_bytes(array(&bytes[at..at + 4]));
            at += 4;
            slot
        });
        let life = if flags & TOMBSTONE == 0 { Life::Value } else { Life::Tombstone };
        (Header { hlc, origin, life, deadline, extra }, at)
    }

    /// Everything beside key and value.
    #[inline]
    pub(super) fn header(&self) -> Header {
        self.unpack().0
    }

    /// Header, key and inline value (empty where the value is shared or there is none).
    #[inline]
    pub(super) fn parts(&self) -> (Header, &[u8], &[u8]) {
        let (header, at) = self.unpack();
        let (key, value) = self.bytes[at..].split_at(self.key_len());
        (header, key, value)
    }

    /// The key.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        let bytes = &self.bytes[..];
        let flags = bytes[0];
        let mut at = FIXED_BYTES;
        skip_varint(bytes, &mut at);
        if flags & DEADLINE != 0 {
            skip_varint(bytes, &mut at);
        }
        if flags & EXTRA != 0 {
            at += 4;
        }
        &bytes[at..at + self.key_len()]
    }

    /// A few bytes of the record, mixed: for a processor that should have it at hand. What is longer
    /// than three cache lines follows by itself.
    pub(super) fn touch(&self) -> u8 {
        let bytes = &self.bytes[..];
        bytes[0] ^ bytes[bytes.len() / 2] ^ bytes[bytes.len() - 1]
    }

    fn key_len(&self) -> usize {
        usize::from(u16::from_le_bytes(array(&self.bytes[1..3])))
    }

    /// Bytes of the allocation that the record holds.
    pub(super) fn allocated_bytes(&self) -> usize {
        // The allocation starts with its own length and capacity.
        self.bytes.capacity() + 2 * size_of::<usize>()
    }
}

impl Header {
    /// The deadline as packed: how far it lies from the stamp.
    fn distance(&self) -> Option<u64> {
        let millis = self.deadline.millis()?;
        Some(zigzag(millis.wrapping_sub(self.hlc.millis()) as i64))
    }

    fn pack(&self, key_len: usize) -> Packed {
        let mut out = Packed { bytes: [0; PACKED_BYTES_MAX], len: 0 };
        let tombstone = if self.life == Life::Tombstone { TOMBSTONE } else { 0 };
        let deadline = if self.deadline == Deadline::NEVER { 0 } else { DEADLINE };
        let extra = if self.extra.is_some() { EXTRA } else { 0 };
        out.push(&[tombstone | deadline | extra]);
        let key_len = u16::try_from(key_len).expect("keys are checked to be short");
        out.push(&key_len.to_le_bytes());
        out.push(&self.hlc.to_bits().to_le_bytes());
        out.push_varint(u64::from(self.origin));
        if let Some(distance) = self.distance() {
            out.push_varint(distance);
        }
        if let Some(slot) = self.extra {
            out.push(&slot.to_le_bytes());
        }
        out
    }
}

/// Most bytes in front of the key: both varints at their longest.
const PACKED_BYTES_MAX: usize = FIXED_BYTES + 3 + 10 + 4;

/// A header as it is stored, on the stack: the record then grows by three copies and no more.
struct Packed {
    bytes: [u8; PACKED_BYTES_MAX],
    len: usize,
}

impl Packed {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(&[value as u8 | 0x80]);
            value >>= 7;
        }
        self.push(&[value as u8]);
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[inline]
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the slice was cut to this length")
}

/// Maps small distances of either sign to small numbers.
fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)) as u64
}

fn unzigzag(code: u64) -> i64 {
    (code >> 1) as i64 ^ -((code & 1) as i64)
}

#[inline]
fn read_varint(bytes: &[u8], at: &mut usize) -> u64 {
    let first = bytes[*at];
    *at += 1;
    if first < 0x80 {
        return u64::from(first);
    }
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}

#[inline]
fn skip_varint(bytes: &[u8], at: &mut usize) {
    while bytes[*at] >= 0x80 {
        *at += 1;
    }
    *at += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_common_record_with_a_ttl_fits_in_112_bytes() {
        let hlc = Hlc::from_bits(1_795_000_000_000_000 << 10);
        let deadline = Deadline::at_millis(hlc.millis() + 3_600_000);
        let header = Header { hlc, origin: 0, life: Life::Value, deadline, extra: None };
        let record = Record::new(header, &[b'k'; 16], &[b'v'; 64]);
        assert!(record.allocated_bytes() <= 112, "{}", record.allocated_bytes());
    }

    fn any_header() -> impl Strategy<Value = Header> {
        let deadline = prop_oneof![Just(None), (0..=1_u64 << 48).prop_map(Some)];
        let extra = proptest::option::of(any::<u32>());
        (any::<u64>(), any::<u16>(), any::<bool>(), deadline, extra).prop_map(
            |(hlc, origin, dead, deadline, extra)| Header {
                hlc: Hlc::from_bits(hlc),
                origin,
                life: if dead { Life::Tombstone } else { Life::Value },
                deadline: deadline.map_or(Deadline::NEVER, Deadline::at_millis),
                extra,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn a_record_gives_back_what_was_packed(
            headers in proptest::collection::vec(any_header(), 1..4),
            key in proptest::collection::vec(any::<u8>(), 0..1024),
            value in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut record = Record::new(headers[0], b"other", b"");
            for (index, header) in headers.into_iter().enumerate() {
                record.rewrite(header, &key, &value);
                prop_assert_eq!(record.is_noted(), index > 0, "a note outlives a rewrite");
                record.set_noted();
                prop_assert_eq!(record.parts(), (header, &key[..], &value[..]));
                prop_assert_eq!(record.key(), &key[..]);
                prop_assert_eq!(record.header(), header);
            }
        }
    }
}
