//! Entries there and back, and bytes that are none.

use super::*;
use proptest::prelude::*;

fn stamp(hlc: u64, origin: u128) -> Stamp {
    Stamp { hlc: Hlc::from_bits(hlc), origin: Uuid::from_u128(origin) }
}

fn encoded(entry: &Entry) -> Bytes {
    let mut out = Vec::new();
    encode_entry(entry, &mut out);
    Bytes::from(out)
}

/// A SET of a value, as of 2026.
fn plain(value: &'static [u8], ttl_ms: Option<u64>) -> Entry {
    let stamp = stamp(1_795_000_000_000_000 << 10, u128::MAX / 3);
    let deadline =
        ttl_ms.map_or(Deadline::NEVER, |ttl| Deadline::at_millis(stamp.hlc.millis() + ttl));
    let register = Register { stamp, value: Some(Value::plain(value)), deadline };
    Entry { register, ..Entry::default() }
}

#[track_caller]
fn check_cost(entry: &Entry, want: usize) {
    let bytes = encoded(entry);
    let value = entry.register.value.as_ref().map_or(0, |value| value.bytes.len());
    assert_eq!(bytes.len() - value, want);
    assert_eq!(decode_entry(&bytes).as_ref(), Ok(entry));
}

#[test]
fn a_plain_set_costs_25_bytes_beside_its_value() {
    check_cost(&plain(b"", None), 25);
    check_cost(&plain(&[7; 100], None), 25);
    check_cost(&plain(&[7; 100], Some(8_000)), 27);
    check_cost(&plain(&[7; 100], Some(30 * 86_400_000)), 30);
}

#[test]
fn an_absent_register_costs_one_byte() {
    check_cost(&Entry::default(), 1);
}

#[test]
fn a_large_value_is_not_copied() {
    let entry = plain(&[7; 20_000], None);
    let bytes = encoded(&entry);
    let decoded = decode_entry(&bytes).expect("just encoded");
    let value = decoded.register.value.expect("a value").bytes;
    assert_eq!(value.as_ptr(), bytes[25..].as_ptr());
}

fn any_hlc() -> impl Strategy<Value = Hlc> {
    prop_oneof![
        8 => (1_700_000_000_000_000..1_900_000_000_000_000_u64).prop_map(|us| us << 10),
        1 => any::<u64>(),
    ]
    .prop_map(Hlc::from_bits)
}

fn any_stamp() -> impl Strategy<Value = Stamp> {
    let origin = prop_oneof![0..4_u128, any::<u128>()].prop_map(Uuid::from_u128);
    (any_hlc(), origin).prop_map(|(hlc, origin)| Stamp { hlc, origin })
}

fn any_deadline() -> impl Strategy<Value = Deadline> {
    let millis = prop_oneof![Just(None), (0..=DEADLINE_MS_MAX).prop_map(Some)];
    millis.prop_map(|millis| millis.map_or(Deadline::NEVER, Deadline::at_millis))
}

fn any_attributes() -> impl Strategy<Value = Option<Arc<Attributes>>> {
    let text = || proptest::option::of(".{0,60}".prop_map(Box::<str>::from));
    let tags =
        proptest::collection::vec("[a-z]{1,9}".prop_map(Box::<str>::from), 0..=TAG_COUNT_MAX);
    (text(), text(), tags).prop_map(|(content_type, meta, tags)| {
        let attributes = Attributes { content_type, meta, tags: tags.into() };
        (!attributes.is_empty()).then(|| Arc::new(attributes))
    })
}

fn any_register() -> impl Strategy<Value = Register> {
    let value = (proptest::collection::vec(any::<u8>(), 0..200), any_attributes());
    let set = (any_stamp(), proptest::option::of(value), any_deadline());
    let set = set.prop_filter("a write has a stamp", |(stamp, ..)| *stamp != Stamp::ZERO);
    let set = set.prop_map(|(stamp, value, deadline)| {
        let value =
            value.map(|(bytes, attributes)| Value { bytes: Bytes::from(bytes), attributes });
        Register { stamp, value, deadline }
    });
    prop_oneof![4 => set, 1 => Just(Register::ABSENT)]
}

fn any_cell() -> impl Strategy<Value = Cell> {
    let reset = prop_oneof![
        Just(Reset::default()),
        (any_hlc(), any_stamp(), any::<i64>()).prop_map(|(last, by, sum)| Reset { last, by, sum }),
    ];
    (any_hlc(), any_hlc(), any::<i64>(), any_deadline(), reset)
        .prop_map(|(birth, last, sum, deadline, reset)| Cell { birth, last, sum, deadline, reset })
}

fn any_tally() -> impl Strategy<Value = Tally> {
    let cells = proptest::collection::vec(any_cell(), 0..4);
    (any::<u128>(), any_hlc(), cells).prop_map(|(origin, closed, mut cells)| {
        cells.sort_by_key(|cell| cell.birth);
        cells.dedup_by_key(|cell| cell.birth);
        cells.retain(|cell| cell.birth > closed);
        Tally { origin: Uuid::from_u128(origin), closed, cells: cells.into() }
    })
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let touch = proptest::option::of((any::<bool>(), any_stamp(), any_stamp(), any_deadline()));
    let tallies = proptest::collection::vec(any_tally(), 0..4);
    (any_register(), touch, tallies).prop_map(|(register, touch, mut tallies)| {
        tallies.sort_by_key(|tally| tally.origin);
        tallies.dedup_by_key(|tally| tally.origin);
        let touch = touch.map(|(of_this, base, stamp, deadline)| {
            let base = if of_this { register.stamp } else { base.max(register.stamp) };
            Touch { base, stamp, deadline }
        });
        Entry { register, touch, tallies }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn every_entry_comes_back(entry in any_entry()) {
        let bytes = encoded(&entry);
        prop_assert_eq!(decode_entry(&bytes), Ok(entry));
    }

    #[test]
    fn what_is_cut_or_changed_never_panics_and_what_is_read_comes_back_again(
        entry in any_entry(),
        cut in any::<proptest::sample::Index>(),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = encoded(&entry).to_vec();
        bytes.truncate(cut.index(bytes.len()) + 1);
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = decode_entry(&Bytes::from(bytes)) {
            prop_assert_eq!(decode_entry(&encoded(&read)), Ok(read));
        }
    }

    #[test]
    fn garbage_never_panics(
        flags in 0..32_u8,
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![FORMAT << FORMAT_SHIFT | flags];
        bytes.extend(garbage);
        if let Ok(read) = decode_entry(&Bytes::from(bytes)) {
            prop_assert_eq!(decode_entry(&encoded(&read)), Ok(read));
        }
    }
}

#[track_caller]
fn check_refused(bytes: Vec<u8>, want: WireError) {
    assert_eq!(decode_entry(&Bytes::from(bytes)), Err(want));
}

#[test]
fn what_another_version_wrote_is_refused_and_so_is_what_is_cut() {
    check_refused(vec![], WireError::Malformed("entry"));
    check_refused(vec![0], WireError::Format(0));
    check_refused(vec![2 << FORMAT_SHIFT], WireError::Format(2 << FORMAT_SHIFT));
    let set = encoded(&plain(b"v", Some(8_000))).to_vec();
    check_refused(set[..24].to_vec(), WireError::Malformed("stamp"));
    check_refused(set[..26].to_vec(), WireError::Malformed("number"));
    let tombstone = Register { value: None, ..plain(b"", None).register };
    let mut tombstone = encoded(&Entry { register: tombstone, ..Entry::default() }).to_vec();
    tombstone.push(0);
    check_refused(tombstone, WireError::Malformed("entry: bytes after its end"));
    check_refused(
        [vec![set[0]], vec![0; 30]].concat(),
        WireError::Malformed("register: a stamp of zero"),
    );
}

/// A counter of one origin with `count` cells.
fn counted(count: usize) -> Entry {
    let cell = |birth: usize| Cell {
        birth: Hlc::from_bits(u64::MAX / 2 + birth as u64),
        last: Hlc::from_bits(u64::MAX),
        sum: i64::MIN,
        deadline: Deadline::at_millis(1),
        reset: Reset { last: Hlc::ZERO, by: stamp(u64::MAX, 1), sum: i64::MIN },
    };
    let cells = (0..count).map(cell).collect();
    let tally = Tally { origin: Uuid::from_u128(1), closed: Hlc::from_bits(u64::MAX / 3), cells };
    Entry { tallies: vec![tally], ..Entry::default() }
}

#[test]
fn what_keeps_the_limits_is_read_and_what_breaks_them_is_refused() {
    let most = counted(ENTRY_CELL_COUNT_MAX);
    assert_eq!(decode_entry(&encoded(&most)), Ok(most));
    let (what, max) = ("counter cells", ENTRY_CELL_COUNT_MAX);
    let too_many = encoded(&counted(max + 1)).to_vec();
    check_refused(too_many, WireError::TooMuch { what, got: max + 1, max });

    let with = |attributes: Attributes| {
        let mut entry = plain(b"v", None);
        entry.register.value.as_mut().expect("a value").attributes = Some(Arc::new(attributes));
        encoded(&entry).to_vec()
    };
    let tags = vec!["t".into(); TAG_COUNT_MAX + 1];
    let tags = with(Attributes { tags: tags.into(), ..Attributes::default() });
    let (what, got, max) = ("tags", TAG_COUNT_MAX + 1, TAG_COUNT_MAX);
    check_refused(tags, WireError::TooMuch { what, got, max });
    let meta = Some("m".repeat(META_BYTES_MAX + 1).into());
    let meta = with(Attributes { meta, ..Attributes::default() });
    let (what, got, max) = ("bytes of metadata", META_BYTES_MAX + 1, META_BYTES_MAX);
    check_refused(meta, WireError::TooMuch { what, got, max });
    let (what, max) = ("bytes of a value", VALUE_BYTES_MAX);
    let mut large = encoded(&plain(b"", None)).to_vec();
    large.resize(25 + max + 1, 0);
    check_refused(large, WireError::TooMuch { what, got: max + 1, max });
}

#[test]
fn tallies_and_cells_out_of_order_are_refused() {
    let mut cells = counted(2);
    cells.tallies[0].cells.reverse();
    check_refused(encoded(&cells).to_vec(), WireError::Malformed("tally: cells out of order"));
    let mut twice = counted(1);
    twice.tallies.push(twice.tallies[0].clone());
    check_refused(encoded(&twice).to_vec(), WireError::Malformed("tallies: out of order"));
    let mut closed = counted(1);
    closed.tallies[0].closed = closed.tallies[0].cells[0].birth;
    check_refused(encoded(&closed).to_vec(), WireError::Malformed("tally: cells out of order"));
}

/// Empty attributes and an older version's touch mean nothing: they are left out, or refused.
#[test]
fn what_means_nothing_has_no_bytes() {
    let mut entry = plain(b"v", None);
    entry.register.value.as_mut().expect("a value").attributes = Some(Arc::default());
    assert_eq!(decode_entry(&encoded(&entry)), Ok(plain(b"v", None)));
    let touch = Touch { base: stamp(1, 1), stamp: stamp(2, 1), deadline: Deadline::NEVER };
    let touched = Entry { touch: Some(touch), ..plain(b"v", None) };
    assert_eq!(decode_entry(&encoded(&touched)), Ok(plain(b"v", None)));

    let mut bytes = encoded(&plain(b"", None)).to_vec();
    bytes[0] |= TOUCH;
    write(&mut bytes, &TouchParts::of(&touch, Stamp::ZERO));
    check_refused(bytes, WireError::Malformed("touch: of an older version"));
    let mut bytes = encoded(&Entry::default()).to_vec();
    bytes[0] |= TALLIES;
    write(&mut bytes, &Vec::<TallyParts>::new());
    check_refused(bytes, WireError::Malformed("tallies: out of order"));
}
