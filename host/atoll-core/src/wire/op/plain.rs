//! The common op, a new version and nothing else in a numbered database, read and written without
//! serde: the same bytes in a third of the time. Whatever looks different is left to serde, which
//! then says what is wrong with it.

use super::{BucketRef, EffectRef, SET};
use crate::entry::Deadline;
use crate::entry::op::Resets;
use crate::key::check_key;
use crate::limits::VALUE_BYTES_MAX;

/// A tuple of five.
const FIVE: u8 = 0x95;
/// Numbers and lengths of one byte and more follow these.
const UINT_8: u8 = 0xcc;
const UINT_16: u8 = 0xcd;
const UINT_32: u8 = 0xce;
const UINT_64: u8 = 0xcf;
const BIN_8: u8 = 0xc4;
const BIN_16: u8 = 0xc5;
const BIN_32: u8 = 0xc6;

/// Most bytes before the key: the tuple, its kind, the distance, the database, the key's length.
const HEAD_BYTES_MAX: usize = 2 + 9 + 1 + 3;

/// Appends the op, if it is a common one. Returns whether it is.
pub(super) fn write(out: &mut Vec<u8>, distance: u64, effect: &EffectRef<'_>) -> bool {
    let EffectRef::Set { bucket, key, value, whole: _, deadline, attributes, resets } = effect
    else {
        return false;
    };
    let is_plain = *deadline == Deadline::NEVER && attributes.is_none() && resets.is_empty();
    let BucketRef::Database(database @ 0..16) = *bucket else { return false };
    if !is_plain {
        return false;
    }
    out.reserve(HEAD_BYTES_MAX + key.len() + 5 + value.len());
    out.extend_from_slice(&[FIVE, SET]);
    match distance {
        0..0x80 => out.push(distance as u8),
        0x80..0x100 => out.extend_from_slice(&[UINT_8, distance as u8]),
        0x100..0x1_0000 => {
            out.push(UINT_16);
            out.extend_from_slice(&(distance as u16).to_be_bytes());
        }
        0x1_0000..0x1_0000_0000 => {
            out.push(UINT_32);
            out.extend_from_slice(&(distance as u32).to_be_bytes());
        }
        _ => {
            out.push(UINT_64);
            out.extend_from_slice(&distance.to_be_bytes());
        }
    }
    out.push(database);
    write_bytes(out, key);
    write_bytes(out, value);
    true
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match bytes.len() {
        len @ 0..0x100 => out.extend_from_slice(&[BIN_8, len as u8]),
        len @ 0x100..0x1_0000 => {
            out.push(BIN_16);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(BIN_32);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// The distance and the effect of the op that `run` begins with, and what follows it; `None` where
/// it is not a common one, or none at all.
#[inline]
pub(super) fn read(run: &[u8]) -> Option<(u64, EffectRef<'_>, &[u8])> {
    let rest = run.strip_prefix(&[FIVE, SET])?;
    let (&marker, rest) = rest.split_first()?;
    let (distance, rest) = match marker {
        0..0x80 => (u64::from(marker), rest),
        UINT_8 => read_number::<1>(rest)?,
        UINT_16 => read_number::<2>(rest)?,
        UINT_32 => read_number::<4>(rest)?,
        UINT_64 => read_number::<8>(rest)?,
        _ => return None,
    };
    let (&database @ 0..16, rest) = rest.split_first()? else { return None };
    let (key, rest) = read_bytes(rest)?;
    let (value, rest) = read_bytes(rest)?;
    if check_key(key).is_err() || value.len() > VALUE_BYTES_MAX {
        return None;
    }
    let effect = EffectRef::Set {
        bucket: BucketRef::Database(database),
        key,
        value,
        whole: None,
        deadline: Deadline::NEVER,
        attributes: None,
        resets: Resets::new(),
    };
    Some((distance, effect, rest))
}

fn read_bytes(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&marker, rest) = from.split_first()?;
    let (len, rest) = match marker {
        BIN_8 => read_number::<1>(rest)?,
        BIN_16 => read_number::<2>(rest)?,
        BIN_32 => read_number::<4>(rest)?,
        _ => return None,
    };
    rest.split_at_checked(usize::try_from(len).ok()?)
}

fn read_number<const N: usize>(from: &[u8]) -> Option<(u64, &[u8])> {
    let (bytes, rest) = from.split_first_chunk::<N>()?;
    Some((bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)), rest))
}
