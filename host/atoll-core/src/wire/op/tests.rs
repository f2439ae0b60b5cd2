//! Ops come back as they went, and garbage is an error.

use super::*;
use crate::entry::op::ObservedCell;
use proptest::prelude::*;

fn any_effect() -> impl Strategy<Value = Effect> {
    let bucket = prop_oneof![
        (0..16_u8).prop_map(BucketName::of_database),
        "[a-z][a-z0-9_.-]{0,10}".prop_map(|name| BucketName::new(&name).expect("it is a name")),
    ];
    let bytes = |len| proptest::collection::vec(any::<u8>(), len).prop_map(Bytes::from);
    let deadline = prop_oneof![Just(Deadline::NEVER), any::<u64>().prop_map(Deadline::at_millis)];
    let cell = (any::<u128>(), any::<u64>(), any::<u64>(), any::<i64>()).prop_map(
        |(origin, birth, last, sum)| ObservedCell {
            origin: Uuid::from_u128(origin),
            birth: Hlc::from_bits(birth),
            last: Hlc::from_bits(last),
            sum,
        },
    );
    let resets = proptest::collection::vec(cell, 0..4).prop_map(Resets::from_vec);
    let text = "[ -~]{0,20}".prop_map(Box::<str>::from);
    let attributes = proptest::option::of(
        (
            proptest::option::of(text.clone()),
            proptest::option::of(text.clone()),
            proptest::collection::vec(text.clone(), 0..4),
        )
            .prop_map(|(content_type, meta, tags)| {
                Arc::new(Attributes { content_type, meta, tags: tags.into() })
            }),
    );
    let change = prop_oneof![
        (bytes(0..40), attributes, deadline.clone(), resets.clone()).prop_map(
            |(bytes, attributes, deadline, resets)| Change::Set {
                value: Value { bytes, attributes },
                deadline,
                resets
            }
        ),
        resets.prop_map(|resets| Change::Delete { resets }),
        (any::<u64>(), any::<u128>(), deadline.clone()).prop_map(|(hlc, origin, deadline)| {
            let base = Stamp { hlc: Hlc::from_bits(hlc), origin: Uuid::from_u128(origin) };
            Change::Touch { base, deadline }
        }),
        (any::<u64>(), any::<i64>(), deadline, any::<u64>()).prop_map(
            |(birth, sum, deadline, closed)| Change::Count {
                birth: Hlc::from_bits(birth),
                sum,
                deadline,
                closed: Hlc::from_bits(closed),
            }
        ),
    ];
    prop_oneof![
        6 => (bucket.clone(), bytes(1..30), change)
            .prop_map(|(bucket, key, change)| Effect::Key { bucket, key, change }),
        1 => bucket.prop_map(|bucket| Effect::Flush { bucket }),
        1 => (any::<u128>(), text)
            .prop_map(|(origin, name)| Effect::Join { origin: Uuid::from_u128(origin), name }),
        1 => (bytes(0..9), bytes(0..30))
            .prop_map(|(channel, payload)| Effect::Message { channel, payload }),
    ]
}

fn place(count: usize) -> Place {
    let origin = Uuid::from_u128(7);
    Place { origin, first_seq: 10, base: Hlc::from_bits(1 << 60), count: count as u32 }
}

proptest! {
    #[test]
    fn a_run_of_ops_comes_back_as_it_went(
        run in proptest::collection::vec((1..100_000_u64, any_effect()), 0..20)
    ) {
        let place = place(run.len());
        let (mut bytes, mut hlc, mut ops) = (Vec::new(), place.base, Vec::new());
        for (index, (distance, effect)) in run.into_iter().enumerate() {
            let next = Hlc::from_bits(hlc.to_bits() + distance);
            encode(&mut bytes, [hlc, next], EffectRef::of(&effect));
            hlc = next;
            let stamp = Stamp { hlc, origin: place.origin };
            ops.push(Op { seq: 10 + index as u64, stamp, effect });
        }
        prop_assert_eq!(decode_all(&Bytes::from(bytes), place), Ok(ops));
    }

    #[test]
    fn any_bytes_are_ops_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0..20_usize,
    ) {
        let _ = decode_all(&Bytes::from(bytes), place(count));
    }

    #[test]
    fn a_run_with_a_byte_changed_is_ops_or_an_error(
        effects in proptest::collection::vec(any_effect(), 1..5), at in any::<usize>(), to in any::<u8>(),
    ) {
        let mut bytes = Vec::new();
        for effect in &effects {
            encode(&mut bytes, [Hlc::ZERO, Hlc::from_bits(9)], EffectRef::of(effect));
        }
        let at = at % bytes.len();
        bytes[at] = to;
        let _ = decode_all(&Bytes::from(bytes), place(effects.len()));
    }
}

#[test]
fn a_small_set_costs_a_dozen_bytes_beside_key_and_value() {
    let mut bytes = Vec::new();
    let (key, value) = ([b'k'; 24], [b'v'; 116]);
    let set = EffectRef::Set {
        bucket: BucketRef::Database(0),
        key: &key,
        value: &value,
        whole: None,
        deadline: Deadline::NEVER,
        attributes: None,
        resets: Resets::new(),
    };
    encode(&mut bytes, [Hlc::ZERO, Hlc::from_bits(50_000)], set);
    assert!(bytes.len() <= 140 + 12, "{} bytes", bytes.len());
}

#[test]
fn a_stamp_that_does_not_follow_the_one_before_it_is_refused() {
    let mut bytes = Vec::new();
    let flush = || EffectRef::Flush { bucket: BucketRef::Database(3) };
    encode(&mut bytes, [Hlc::from_bits(5), Hlc::from_bits(5)], flush());
    assert!(decode_all(&Bytes::from(bytes), place(1)).is_err(), "no distance");
    let mut bytes = Vec::new();
    encode(&mut bytes, [Hlc::from_bits(5), Hlc::from_bits(4)], flush());
    assert!(decode_all(&Bytes::from(bytes), place(1)).is_err(), "a step back");
}

/// A run as serde alone writes it.
fn by_serde(ops: &[(u64, Effect)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (distance, effect) in ops {
        let op = WireOp { distance: *distance, effect: EffectRef::of(effect) };
        rmp_serde::encode::write(&mut bytes, &op).expect("an op is always writable");
    }
    bytes
}

/// The same ops as serde alone reads them.
fn read_by_serde(run: &[u8], count: usize) -> Vec<Option<(u64, Effect)>> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(run);
    let whole = Bytes::copy_from_slice(run);
    let read = |_| {
        let op = WireOp::deserialize(&mut deserializer).ok()?;
        Some((op.distance, op.effect.to_effect(&whole)))
    };
    (0..count).map(read).take_while(Option::is_some).collect()
}

fn read_by_all_means(run: &[u8], count: usize) -> Vec<Option<(u64, Effect)>> {
    let (mut rest, whole) = (Rest::Plain(run), Bytes::copy_from_slice(run));
    let read = |_| {
        let op = rest.read().ok()?;
        Some((op.distance, op.effect.to_effect(&whole)))
    };
    (0..count).map(read).take_while(Option::is_some).collect()
}

fn any_set() -> impl Strategy<Value = Effect> {
    let len = prop_oneof![0..300_usize, 65_530..65_540_usize];
    ((0..16_u8), 1..1_024_usize, len).prop_map(|(database, key, value)| {
        let (bucket, key) = (BucketName::of_database(database), Bytes::from(vec![b'k'; key]));
        let value = Value { bytes: Bytes::from(vec![b'v'; value]), attributes: None };
        let (deadline, resets) = (Deadline::NEVER, Resets::new());
        Effect::Key { bucket, key, change: Change::Set { value, deadline, resets } }
    })
}

fn any_distance() -> impl Strategy<Value = u64> {
    (0..64_u32, any::<u64>()).prop_map(|(bits, number)| number >> bits)
}

proptest! {
    #[test]
    fn a_common_op_is_written_and_read_as_serde_would(
        ops in proptest::collection::vec(
            (any_distance(), prop_oneof![4 => any_set(), 1 => any_effect()]), 1..6,
        ),
        at in any::<usize>(), to in any::<u8>(), cut in any::<usize>(),
    ) {
        let mut bytes = Vec::new();
        for (distance, effect) in &ops {
            let stamps = [Hlc::ZERO, Hlc::from_bits(*distance)];
            encode(&mut bytes, stamps, EffectRef::of(effect));
        }
        prop_assert_eq!(&bytes, &by_serde(&ops));
        prop_assert_eq!(
            read_by_all_means(&bytes, ops.len()),
            ops.into_iter().map(Some).collect::<Vec<_>>()
        );
        // And what is none, is none to both.
        let at = at % bytes.len().min(40);
        bytes[at] = to;
        bytes.truncate(bytes.len() - cut % bytes.len().min(40));
        prop_assert_eq!(read_by_all_means(&bytes, 6), read_by_serde(&bytes, 6));
    }
}
