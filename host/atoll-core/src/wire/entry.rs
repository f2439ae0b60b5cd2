//! An entry as bytes, the same on a link and on a disk.
//!
//! ```text
//! format and flags 1 │ stamp 8 + 16 BE │ deadline 0..10 │ rich parts │ value, to the end
//! ```
//!
//! A plain SET costs 25 bytes beside its value, and 3 to 5 more with a deadline, which is kept as its
//! distance from the stamp. Attributes, a touch and tallies are msgpack; each is there only if its
//! flag says so, and few keys have any. The bytes do not say how long they are: whoever frames them
//! does.

use super::{WireError, attributes_of, check_max};
use crate::clock::{Hlc, Stamp};
use crate::entry::{Attributes, Cell, Deadline, Entry, Register, Reset, Tally, Touch, Value};
use crate::limits::{
    CONTENT_TYPE_BYTES_MAX, DEADLINE_MS_MAX, ENTRY_CELL_COUNT_MAX, ENTRY_RICH_BYTES_MAX,
    META_BYTES_MAX, TAG_BYTES_MAX, TAG_COUNT_MAX, VALUE_BYTES_MAX,
};
use bytes::Bytes;
use rmp_serde::decode::ReadReader;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use smallvec::SmallVec;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// The only format so far. It stands in the upper three bits of the first byte.
const FORMAT: u8 = 1;
const FORMAT_SHIFT: u32 = 5;
/// The lowest two bits say what the register holds.
const LIFE_MASK: u8 = 0b11;
/// Never set, never deleted: no stamp follows.
const LIFE_ABSENT: u8 = 0;
const LIFE_TOMBSTONE: u8 = 1;
const LIFE_VALUE: u8 = 2;
const LIFE_VALUE_WITH_ATTRIBUTES: u8 = 3;
/// The register has a deadline.
const DEADLINE: u8 = 1 << 2;
/// A touch follows.
const TOUCH: u8 = 1 << 3;
/// Tallies follow.
const TALLIES: u8 = 1 << 4;

const STAMP_BYTES: usize = 8 + 16;

/// Most bytes that `write` adds for a cell, for a tally without its cells, and for the rest.
const CELL_BYTES_MAX: usize = 82;
const TALLY_BYTES_MAX: usize = 33;
const OTHER_BYTES_MAX: usize =
    128 + CONTENT_TYPE_BYTES_MAX + META_BYTES_MAX + TAG_COUNT_MAX * (TAG_BYTES_MAX + 3);
const _: () = assert!(
    ENTRY_CELL_COUNT_MAX * (CELL_BYTES_MAX + TALLY_BYTES_MAX) + OTHER_BYTES_MAX
        <= ENTRY_RICH_BYTES_MAX,
    "whatever keeps the limits can be read back"
);

type StampBytes = ByteArray<STAMP_BYTES>;

/// Content type, metadata, tags.
#[derive(Serialize, Deserialize)]
struct AttributesParts<'a>(Option<Cow<'a, str>>, Option<Cow<'a, str>>, Vec<Cow<'a, str>>);

/// Base (none: the register's stamp), stamp, deadline as a distance from it.
#[derive(Serialize, Deserialize)]
struct TouchParts(Option<StampBytes>, StampBytes, Option<i64>);

/// Origin, closed, cells.
#[derive(Serialize, Deserialize)]
struct TallyParts(ByteArray<16>, u64, Vec<CellParts>);

/// Birth, last as a distance from it, sum, deadline as a distance from birth, reset.
#[derive(Serialize, Deserialize)]
struct CellParts(u64, u64, i64, Option<i64>, Option<ResetParts>);

/// Last as a distance from the cell's birth, by, sum.
#[derive(Serialize, Deserialize)]
struct ResetParts(u64, StampBytes, i64);

/// Appends `entry` to `out`.
pub fn encode_entry(entry: &Entry, out: &mut Vec<u8>) {
    let Entry { register, touch, tallies } = entry;
    let value = register.value.as_ref();
    let attributes = value.and_then(|value| value.attributes.as_deref());
    let attributes = attributes.filter(|attributes| !attributes.is_empty());
    let touch = touch.filter(|touch| touch.base >= register.stamp);
    let is_absent = *register == Register::ABSENT;
    let life = match value {
        None if is_absent => LIFE_ABSENT,
        None => LIFE_TOMBSTONE,
        Some(_) if attributes.is_some() => LIFE_VALUE_WITH_ATTRIBUTES,
        Some(_) => LIFE_VALUE,
    };
    let deadline = distance(register.deadline, register.stamp.hlc);
    let flag = |flag: u8, has: Option<()>| has.map_or(0, |()| flag);
    let flags = flag(DEADLINE, deadline.map(|_| ()))
        | flag(TOUCH, touch.map(|_| ()))
        | flag(TALLIES, tallies.first().map(|_| ()));
    out.reserve(1 + STAMP_BYTES + value.map_or(0, |value| value.bytes.len()));
    out.push(FORMAT << FORMAT_SHIFT | flags | life);
    if !is_absent {
        out.extend_from_slice(&*stamp_bytes(register.stamp));
    }
    if let Some(distance) = deadline {
        push_varint(out, zigzag(distance));
    }
    if let Some(attributes) = attributes {
        write(out, &AttributesParts::of(attributes));
    }
    if let Some(touch) = touch {
        write(out, &TouchParts::of(&touch, register.stamp));
    }
    if !tallies.is_empty() {
        write(out, &tallies.iter().map(TallyParts::of).collect::<Vec<_>>());
    }
    if let Some(value) = value {
        out.extend_from_slice(&value.bytes);
    }
}

/// Reads an entry that takes up all of `bytes`. Its value is a slice of them, not a copy: whoever
/// keeps it keeps all of `bytes` alive.
pub fn decode_entry(bytes: &Bytes) -> Result<Entry, WireError> {
    let mut rest = &bytes[..];
    let first = take::<1>(&mut rest, "entry")?[0];
    if first >> FORMAT_SHIFT != FORMAT {
        return Err(WireError::Format(first));
    }
    let life = first & LIFE_MASK;
    let stamp = match life {
        LIFE_ABSENT => Stamp::ZERO,
        _ => stamp_of(take::<STAMP_BYTES>(&mut rest, "stamp")?),
    };
    if (life == LIFE_ABSENT) != (stamp == Stamp::ZERO) {
        return Err(WireError::Malformed("register: a stamp of zero"));
    }
    let deadline = match first & DEADLINE {
        0 => Deadline::NEVER,
        _ if life == LIFE_ABSENT => return Err(WireError::Malformed("register: nothing to end")),
        _ => deadline_of(Some(unzigzag(take_varint(&mut rest)?)), stamp.hlc)?,
    };
    let rich = decode_rich(&mut rest, first, stamp)?;
    let at = bytes.len() - rest.len();
    let value = match life {
        LIFE_VALUE | LIFE_VALUE_WITH_ATTRIBUTES => {
            check_max("bytes of a value", rest.len(), VALUE_BYTES_MAX)?;
            Some(Value { bytes: bytes.slice(at..), attributes: rich.attributes })
        }
        _ if rest.is_empty() => None,
        _ => return Err(WireError::Malformed("entry: bytes after its end")),
    };
    let register = Register { stamp, value, deadline };
    Ok(Entry { register, touch: rich.touch, tallies: rich.tallies })
}

/// What few entries have.
#[derive(Default)]
struct Rich {
    attributes: Option<Arc<Attributes>>,
    touch: Option<Touch>,
    tallies: Vec<Tally>,
}

/// Takes the parts that `flags` announce off the front of `rest`.
fn decode_rich(rest: &mut &[u8], flags: u8, register: Stamp) -> Result<Rich, WireError> {
    let mut rich = Rich::default();
    let has_attributes = flags & LIFE_MASK == LIFE_VALUE_WITH_ATTRIBUTES;
    if !has_attributes && flags & (TOUCH | TALLIES) == 0 {
        return Ok(rich);
    }
    // No honest entry has more of them: what hostile bytes can make of themselves stays small.
    let within = &rest[..rest.len().min(ENTRY_RICH_BYTES_MAX)];
    let mut reader = rmp_serde::Deserializer::new(within);
    if has_attributes {
        rich.attributes = Some(read::<AttributesParts<'_>>(&mut reader, "attributes")?.check()?);
    }
    if flags & TOUCH != 0 {
        rich.touch = Some(read::<TouchParts>(&mut reader, "touch")?.check(register)?);
    }
    if flags & TALLIES != 0 {
        rich.tallies = check_tallies(read::<Vec<TallyParts>>(&mut reader, "tallies")?)?;
    }
    let read_bytes = within.len() - reader.get_ref().len();
    *rest = &rest[read_bytes..];
    Ok(rich)
}

impl<'a> AttributesParts<'a> {
    fn of(attributes: &'a Attributes) -> AttributesParts<'a> {
        let Attributes { content_type, meta, tags } = attributes;
        AttributesParts(
            content_type.as_deref().map(Cow::from),
            meta.as_deref().map(Cow::from),
            tags.iter().map(|tag| Cow::from(&**tag)).collect(),
        )
    }

    fn check(self) -> Result<Arc<Attributes>, WireError> {
        let AttributesParts(content_type, meta, tags) = self;
        let attributes = attributes_of(content_type.as_deref(), meta.as_deref(), &tags)?;
        match attributes.is_empty() {
            false => Ok(Arc::new(attributes)),
            true => Err(WireError::Malformed("attributes: none")),
        }
    }
}

impl TouchParts {
    fn of(touch: &Touch, register: Stamp) -> TouchParts {
        let base = (touch.base != register).then(|| stamp_bytes(touch.base));
        let deadline = distance(touch.deadline, touch.stamp.hlc);
        TouchParts(base, stamp_bytes(touch.stamp), deadline)
    }

    fn check(&self, register: Stamp) -> Result<Touch, WireError> {
        let TouchParts(base, stamp, deadline) = self;
        let base = base.as_ref().map_or(register, |base| stamp_of(base));
        let stamp = stamp_of(stamp);
        if base < register {
            return Err(WireError::Malformed("touch: of an older version"));
        }
        Ok(Touch { base, stamp, deadline: deadline_of(*deadline, stamp.hlc)? })
    }
}

impl TallyParts {
    fn of(tally: &Tally) -> TallyParts {
        let cells = tally.cells.iter().map(CellParts::of).collect();
        TallyParts(ByteArray::new(*tally.origin.as_bytes()), tally.closed.to_bits(), cells)
    }

    fn check(self) -> Result<Tally, WireError> {
        let TallyParts(origin, closed, cells) = self;
        let closed = Hlc::from_bits(closed);
        let cells: SmallVec<[Cell; 1]> =
            cells.iter().map(CellParts::check).collect::<Result<_, WireError>>()?;
        let is_ascending = cells.windows(2).all(|pair| pair[0].birth < pair[1].birth);
        if !is_ascending || cells.first().is_some_and(|cell| cell.birth <= closed) {
            return Err(WireError::Malformed("tally: cells out of order"));
        }
        Ok(Tally { origin: Uuid::from_bytes(origin.into_array()), closed, cells })
    }
}

fn check_tallies(parts: Vec<TallyParts>) -> Result<Vec<Tally>, WireError> {
    let cell_count = parts.iter().map(|TallyParts(_, _, cells)| cells.len().max(1)).sum();
    check_max("counter cells", cell_count, ENTRY_CELL_COUNT_MAX)?;
    let tallies = parts.into_iter().map(TallyParts::check).collect::<Result<Vec<_>, _>>()?;
    let is_ascending = tallies.windows(2).all(|pair| pair[0].origin < pair[1].origin);
    if !is_ascending || tallies.is_empty() {
        return Err(WireError::Malformed("tallies: out of order"));
    }
    Ok(tallies)
}

impl CellParts {
    fn of(cell: &Cell) -> CellParts {
        let Cell { birth, last, sum, deadline, reset } = cell;
        let since_birth = |hlc: Hlc| hlc.to_bits().wrapping_sub(birth.to_bits());
        let reset = (*reset != Reset::default())
            .then(|| ResetParts(since_birth(reset.last), stamp_bytes(reset.by), reset.sum));
        let deadline = distance(*deadline, *birth);
        CellParts(birth.to_bits(), since_birth(*last), *sum, deadline, reset)
    }

    fn check(&self) -> Result<Cell, WireError> {
        let &CellParts(birth, last, sum, deadline, ref reset) = self;
        let after_birth = |distance: u64| Hlc::from_bits(birth.wrapping_add(distance));
        let reset = reset.as_ref().map_or_else(Reset::default, |ResetParts(last, by, sum)| Reset {
            last: after_birth(*last),
            by: stamp_of(by),
            sum: *sum,
        });
        let (last, birth) = (after_birth(last), Hlc::from_bits(birth));
        Ok(Cell { birth, last, sum, deadline: deadline_of(deadline, birth)?, reset })
    }
}

fn write(out: &mut Vec<u8>, parts: &impl Serialize) {
    rmp_serde::encode::write(out, parts).expect("a vector takes whatever is written");
}

fn read<'de, T: Deserialize<'de>>(
    reader: &mut rmp_serde::Deserializer<ReadReader<&[u8]>>,
    what: &'static str,
) -> Result<T, WireError> {
    T::deserialize(reader).map_err(|_| WireError::Malformed(what))
}

fn take<'b, const N: usize>(
    rest: &mut &'b [u8],
    what: &'static str,
) -> Result<&'b [u8; N], WireError> {
    let (taken, after) = rest.split_first_chunk().ok_or(WireError::Malformed(what))?;
    *rest = after;
    Ok(taken)
}

fn stamp_bytes(stamp: Stamp) -> StampBytes {
    let mut bytes = [0; STAMP_BYTES];
    bytes[..8].copy_from_slice(&stamp.hlc.to_bits().to_be_bytes());
    bytes[8..].copy_from_slice(stamp.origin.as_bytes());
    StampBytes::new(bytes)
}

fn stamp_of(bytes: &[u8; STAMP_BYTES]) -> Stamp {
    let (hlc, origin) = bytes.split_at(8);
    Stamp {
        hlc: Hlc::from_bits(u64::from_be_bytes(hlc.try_into().expect("cut to eight bytes"))),
        origin: Uuid::from_bytes(origin.try_into().expect("what remains is sixteen bytes")),
    }
}

/// How many ms `deadline` lies after `from`.
fn distance(deadline: Deadline, from: Hlc) -> Option<i64> {
    // Both are far below 2^63 ms.
    deadline.millis().map(|millis| millis as i64 - from.millis() as i64)
}

/// The reverse of [`distance`].
fn deadline_of(distance: Option<i64>, from: Hlc) -> Result<Deadline, WireError> {
    let Some(distance) = distance else { return Ok(Deadline::NEVER) };
    let millis = from.millis().checked_add_signed(distance);
    let millis = millis.filter(|millis| *millis <= DEADLINE_MS_MAX);
    millis.map(Deadline::at_millis).ok_or(WireError::Malformed("deadline: out of range"))
}

/// Maps small distances of either sign to small numbers.
fn zigzag(distance: i64) -> u64 {
    ((distance << 1) ^ (distance >> 63)) as u64
}

fn unzigzag(code: u64) -> i64 {
    (code >> 1) as i64 ^ -((code & 1) as i64)
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, WireError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take::<1>(rest, "number")?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(WireError::Malformed("number: too long"))
}
