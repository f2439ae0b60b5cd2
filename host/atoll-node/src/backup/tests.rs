//! Backups there and back, cut, changed and made up.

use super::*;
use atoll_core::entry::{Deadline, Register, Value};
use proptest::prelude::*;

fn header() -> Header {
    Header { version: "1".to_owned(), node: "n".to_owned(), at_ms: 5 }
}

fn stamp_of(hlc: u64) -> Stamp {
    Stamp { hlc: Hlc::from_bits(hlc), origin: Uuid::from_u128(7) }
}

fn name(text: &str) -> BucketName {
    BucketName::new(text).expect("a name")
}

fn entry_of(value: &[u8]) -> Entry {
    let value = Some(Value::plain(Bytes::copy_from_slice(value)));
    let register = Register { stamp: stamp_of(9), value, deadline: Deadline::NEVER };
    Entry { register, ..Entry::default() }
}

/// A backup of these keys and values, after one flush.
fn backup(keys: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    encoder.begin(&header(), &mut out);
    encoder.flush(&name("other"), stamp_of(3), &mut out);
    for (key, value) in keys {
        encoder.entry((&name("default"), key), &entry_of(value), &mut out);
    }
    encoder.end(&mut out);
    out
}

/// All parts of a backup that comes in pieces of this size, and how many keys it holds.
fn read(bytes: &[u8], piece: usize) -> Result<(Vec<Item>, u64), BackupError> {
    let (mut decoder, mut items) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        while let Some(item) = decoder.next()? {
            items.push(item);
        }
    }
    Ok((items, decoder.finish()?))
}

fn any_keys() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let key = proptest::collection::vec(any::<u8>(), 1..40);
    let value = proptest::collection::vec(any::<u8>(), 0..200);
    proptest::collection::vec((key, value), 0..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_backup_comes_back_in_pieces_of_any_size(keys in any_keys(), piece in 1..100_usize) {
        let (items, key_count) = read(&backup(&keys), piece).expect("it is whole");
        prop_assert_eq!(key_count, keys.len() as u64);
        let mut want = vec![Item::Header(header()), Item::Flush(name("other"), stamp_of(3))];
        want.extend(keys.into_iter().map(|(key, value)| {
            let (bucket, entry) = (name("default"), entry_of(&value));
            Item::Entry { bucket, key: Bytes::from(key), entry }
        }));
        want.push(Item::End);
        prop_assert_eq!(items, want);
    }

    #[test]
    fn a_backup_that_was_cut_or_changed_is_refused(
        keys in any_keys(),
        at in any::<proptest::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let whole = backup(&keys);
        let at = at.index(whole.len());
        prop_assert!(read(&whole[..at], 64).is_err(), "cut at {}", at);
        let mut changed = whole.clone();
        changed[at] ^= flip;
        prop_assert!(read(&changed, 64).is_err(), "changed at {}", at);
        let longer = [&whole[..], &[flip]].concat();
        prop_assert!(read(&longer, 64).is_err());
    }

    #[test]
    fn made_up_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        with_magic in any::<bool>(),
    ) {
        let start: &[u8] = if with_magic { MAGIC } else { b"" };
        prop_assert!(read(&[start, &bytes].concat(), 17).is_err());
    }
}

#[track_caller]
fn check_refused(bytes: &[u8], want: BackupError) {
    assert_eq!(read(bytes, 1_024), Err(want));
}

#[test]
fn what_is_wrong_is_said() {
    let keys = [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())];
    let whole = backup(&keys);
    check_refused(b"", BackupError::Cut(0));
    check_refused(b"PK\x03\x04 and so on", BackupError::Magic);
    check_refused(b"PK", BackupError::Magic);
    check_refused(b"ATOLLBK\x02", BackupError::Version(2));
    check_refused(&whole[..whole.len() - 1], BackupError::Cut(whole.len() as u64 - 1));
    check_refused(&[&whole[..], b"more"].concat(), BackupError::TooLong);
    // Frames in another order, each whole in itself.
    let frame = |n: usize| {
        let mut at = MAGIC.len();
        for _ in 0..n {
            at += HEAD_BYTES + u32::from_le_bytes(whole[at..at + 4].try_into().unwrap()) as usize;
        }
        at
    };
    let (first, second, third) = (frame(2), frame(3), frame(4));
    let moved =
        [&whole[..first], &whole[second..third], &whole[first..second], &whole[third..]].concat();
    check_refused(&moved, BackupError::Damaged(first as u64));
    let without = [&whole[..second], &whole[third..]].concat();
    check_refused(&without, BackupError::Damaged(second as u64));
    // Two backups in one file.
    check_refused(&[&whole[..], &whole[..]].concat(), BackupError::TooLong);
}

#[test]
fn a_frame_longer_than_any_is_not_waited_for() {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&u32::MAX.to_le_bytes());
    check_refused(&bytes, BackupError::Damaged(MAGIC.len() as u64));
}
