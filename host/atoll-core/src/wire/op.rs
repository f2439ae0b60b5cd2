//! Ops as bytes: one msgpack tuple each, its stamp as the distance from the op before it.
//!
//! A run of consecutive ops of one origin is written once, when the ops are made, and passed on by
//! every node as it came.

use super::entry::{decode_entry, encode_entry};
use crate::clock::{Hlc, Stamp};
use crate::entry::op::{Change, Effect, Op, Resets};
use crate::entry::{Attributes, Deadline, Entry, Value};
use crate::key::{BucketName, check_key};
use crate::limits::{
    CHANNEL_BYTES_MAX, MESSAGE_BYTES_MAX, NODE_NAME_BYTES_MAX, VALUE_BYTES_MAX,
    VALUE_INLINE_BYTES_MAX,
};
use crate::store::internal::InternalChange;
use bytes::Bytes;
use part::{
    WireAttributes, WireCells, bin, bound, own_attributes, own_cells, part, wire_attributes,
    wire_cells,
};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

mod part;
mod plain;
#[cfg(test)]
mod tests;

/// A new version without deadline, attributes or resets: most ops.
const SET: u8 = 0;
/// A new version with any of them.
const SET_RICH: u8 = 1;
const DELETE: u8 = 2;
const TOUCH: u8 = 3;
const COUNT: u8 = 4;
const FLUSH: u8 = 5;
const JOIN: u8 = 6;
const MESSAGE: u8 = 7;
const RELAY: u8 = 8;
const RELAY_FLUSH: u8 = 9;

/// Appends `effect`, stamped `hlc`, to a run whose last op was stamped `previous`.
pub fn encode(out: &mut Vec<u8>, [previous, hlc]: [Hlc; 2], effect: EffectRef<'_>) {
    let distance = hlc.to_bits().wrapping_sub(previous.to_bits());
    if plain::write(out, distance, &effect) {
        return;
    }
    // Writing to memory cannot fail, and nothing here refuses to be written.
    rmp_serde::encode::write(out, &WireOp { distance, effect }).expect("an op is always writable");
}

/// An effect, borrowed from wherever it lies.
#[derive(Clone, Debug)]
pub enum EffectRef<'a> {
    /// A new version.
    Set {
        /// Where.
        bucket: BucketRef<'a>,
        /// 1 to `KEY_BYTES_MAX` bytes.
        key: &'a [u8],
        /// At most `VALUE_BYTES_MAX` bytes.
        value: &'a [u8],
        /// The handle that shares the value with the store, where there is one.
        whole: Option<&'a Bytes>,
        /// Its deadline.
        deadline: Deadline,
        /// What travels with the value.
        attributes: Option<Arc<Attributes>>,
        /// The increments that it has observed.
        resets: Resets,
    },
    /// A change of another kind.
    Other {
        /// Where.
        bucket: BucketRef<'a>,
        /// 1 to `KEY_BYTES_MAX` bytes.
        key: &'a [u8],
        /// Never a `Set`.
        change: Change,
    },
    /// Everything in the bucket that is older is dead.
    Flush {
        /// Where.
        bucket: BucketRef<'a>,
    },
    /// The origin of this op has met another.
    Join {
        /// Whom.
        origin: Uuid,
        /// Its stable name; empty where only its id is known.
        name: &'a str,
    },
    /// See [`Effect::Relay`].
    Relay {
        /// Where.
        bucket: BucketRef<'a>,
        /// 1 to `KEY_BYTES_MAX` bytes.
        key: &'a [u8],
        /// Which parts.
        entry: Box<Entry>,
    },
    /// See [`Effect::RelayFlush`].
    RelayFlush {
        /// Where.
        bucket: BucketRef<'a>,
        /// Of the flush.
        stamp: Stamp,
    },
    /// A published message.
    Message {
        /// Where it was published.
        channel: &'a [u8],
        /// What was.
        payload: &'a [u8],
    },
}

/// A bucket by its shortest name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketRef<'a> {
    /// One of the sixteen behind SELECT.
    Database(u8),
    /// Any other, checked.
    Named(&'a str),
}

impl<'a> BucketRef<'a> {
    /// The shortest name of the bucket called `name`.
    pub fn of(name: &'a BucketName) -> BucketRef<'a> {
        match name.database() {
            Some(database) => BucketRef::Database(database),
            None => BucketRef::Named(name.as_str()),
        }
    }

    /// The whole name.
    pub fn to_name(self) -> BucketName {
        match self {
            BucketRef::Database(database) => BucketName::of_database(database),
            BucketRef::Named(name) => {
                BucketName::new(name).expect("names are checked where they come in")
            }
        }
    }
}

impl<'a> EffectRef<'a> {
    /// What it changes, where that is in a bucket which belongs to the nodes themselves.
    #[inline]
    pub fn internal(&self) -> Option<InternalChange<'_>> {
        let (bucket, key) = match self {
            EffectRef::Set { bucket, key, .. }
            | EffectRef::Other { bucket, key, .. }
            | EffectRef::Relay { bucket, key, .. } => (*bucket, Some(*key)),
            EffectRef::Flush { bucket } | EffectRef::RelayFlush { bucket, .. } => (*bucket, None),
            EffectRef::Join { .. } | EffectRef::Message { .. } => return None,
        };
        match bucket {
            BucketRef::Named(bucket) if bucket.starts_with('_') => {
                Some(InternalChange { bucket, key })
            }
            BucketRef::Named(_) | BucketRef::Database(_) => None,
        }
    }

    /// A view of `effect`.
    pub fn of(effect: &'a Effect) -> EffectRef<'a> {
        match effect {
            Effect::Key { bucket, key, change: Change::Set { value, deadline, resets } } => {
                EffectRef::Set {
                    bucket: BucketRef::of(bucket),
                    key,
                    value: &value.bytes,
                    whole: Some(&value.bytes),
                    deadline: *deadline,
                    attributes: value.attributes.clone(),
                    resets: resets.clone(),
                }
            }
            Effect::Key { bucket, key, change } => {
                EffectRef::Other { bucket: BucketRef::of(bucket), key, change: change.clone() }
            }
            Effect::Flush { bucket } => EffectRef::Flush { bucket: BucketRef::of(bucket) },
            Effect::Join { origin, name } => EffectRef::Join { origin: *origin, name },
            Effect::Relay { bucket, key, entry } => {
                EffectRef::Relay { bucket: BucketRef::of(bucket), key, entry: entry.clone() }
            }
            Effect::RelayFlush { bucket, stamp } => {
                EffectRef::RelayFlush { bucket: BucketRef::of(bucket), stamp: *stamp }
            }
            Effect::Message { channel, payload } => EffectRef::Message { channel, payload },
        }
    }

    /// Bytes of the value that it sets, or of the message; 0 for others.
    pub fn value_len(&self) -> usize {
        match self {
            EffectRef::Set { value, .. } => value.len(),
            EffectRef::Relay { entry, .. } => {
                entry.register.value.as_ref().map_or(0, |value| value.bytes.len())
            }
            EffectRef::Message { payload, .. } => payload.len(),
            _ => 0,
        }
    }

    /// The effect with bytes of its own, taken out of `run` where it was borrowed from there.
    pub fn to_effect(&self, run: &Bytes) -> Effect {
        match self {
            EffectRef::Set { bucket, key, value, whole, deadline, attributes, resets } => {
                let bytes = whole.cloned().unwrap_or_else(|| cut(run, value));
                let value = Value { bytes, attributes: attributes.clone() };
                let (deadline, resets) = (*deadline, resets.clone());
                let change = Change::Set { value, deadline, resets };
                Effect::Key { bucket: bucket.to_name(), key: cut(run, key), change }
            }
            EffectRef::Other { bucket, key, change } => {
                let (bucket, change) = (bucket.to_name(), change.clone());
                Effect::Key { bucket, key: cut(run, key), change }
            }
            EffectRef::Flush { bucket } => Effect::Flush { bucket: bucket.to_name() },
            EffectRef::Join { origin, name } => {
                Effect::Join { origin: *origin, name: (*name).into() }
            }
            EffectRef::Relay { bucket, key, entry } => {
                let (bucket, entry) = (bucket.to_name(), entry.clone());
                Effect::Relay { bucket, key: cut(run, key), entry }
            }
            EffectRef::RelayFlush { bucket, stamp } => {
                Effect::RelayFlush { bucket: bucket.to_name(), stamp: *stamp }
            }
            EffectRef::Message { channel, payload } => {
                Effect::Message { channel: cut(run, channel), payload: cut(run, payload) }
            }
        }
    }
}

/// `part` of `run`: shared where it is most of it, or so small that the store copies it anyway.
fn cut(run: &Bytes, part: &[u8]) -> Bytes {
    let worth_sharing = part.len() <= VALUE_INLINE_BYTES_MAX || part.len() > run.len() / 2;
    let within = !part.is_empty() && run.as_ptr_range().contains(&part.as_ptr());
    if worth_sharing && within { run.slice_ref(part) } else { Bytes::copy_from_slice(part) }
}

/// Why bytes are no run of ops.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a run of ops: {0}")]
pub struct OpError(String);

/// Where a run of ops stands in its origin's sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Who made them.
    pub origin: Uuid,
    /// Number of the first.
    pub first_seq: u64,
    /// What the first one's stamp is written as the distance from.
    pub base: Hlc,
    /// How many there are.
    pub count: u32,
}

/// Reads a run of ops one after the other.
pub struct Ops<'a> {
    rest: Rest<'a>,
    origin: Uuid,
    seq: u64,
    hlc: Hlc,
    left: u32,
}

/// What has yet to be read of a run.
enum Rest<'a> {
    /// All ops so far were common ones.
    Plain(&'a [u8]),
    /// One was not: serde reads on to the end.
    Any(AnyReader<'a>),
}

impl<'a> Rest<'a> {
    fn read(&mut self) -> Result<WireOp<'a>, OpError> {
        let mut deserializer = match self {
            Rest::Any(deserializer) => return read_any(deserializer),
            Rest::Plain(run) => {
                if let Some((distance, effect, rest)) = plain::read(run) {
                    *run = rest;
                    return Ok(WireOp { distance, effect });
                }
                rmp_serde::Deserializer::from_read_ref(*run)
            }
        };
        let read = read_any(&mut deserializer);
        *self = Rest::Any(deserializer);
        read
    }
}

type AnyReader<'a> = rmp_serde::Deserializer<rmp_serde::decode::ReadRefReader<'a, [u8]>>;

fn read_any<'a>(deserializer: &mut AnyReader<'a>) -> Result<WireOp<'a>, OpError> {
    WireOp::deserialize(deserializer).map_err(|error| OpError(error.to_string()))
}

impl fmt::Debug for Ops<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("seq", &self.seq).field("left", &self.left).finish()
    }
}

impl<'a> Ops<'a> {
    /// The ops of `run`.
    pub fn new(run: &'a [u8], place: Place) -> Ops<'a> {
        Ops {
            rest: Rest::Plain(run),
            origin: place.origin,
            seq: place.first_seq,
            hlc: place.base,
            left: place.count,
        }
    }

    fn read(&mut self) -> Result<(u64, Stamp, EffectRef<'a>), OpError> {
        let WireOp { distance, effect } = self.rest.read()?;
        let hlc = self.hlc.to_bits().checked_add(distance).filter(|_| distance > 0);
        let hlc = hlc.ok_or_else(|| OpError("stamps do not increase".to_owned()))?;
        self.hlc = Hlc::from_bits(hlc);
        let seq = self.seq;
        self.seq = seq.checked_add(1).ok_or_else(|| OpError("too many ops".to_owned()))?;
        Ok((seq, Stamp { hlc: self.hlc, origin: self.origin }, effect))
    }
}

impl<'a> Iterator for Ops<'a> {
    /// Number, stamp and effect. Nothing follows an error.
    type Item = Result<(u64, Stamp, EffectRef<'a>), OpError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }
}

/// Reads a whole run into ops of their own.
pub fn decode_all(run: &Bytes, place: Place) -> Result<Vec<Op>, OpError> {
    let read = |item: Result<(u64, Stamp, EffectRef<'_>), OpError>| {
        let (seq, stamp, effect) = item?;
        Ok(Op { seq, stamp, effect: effect.to_effect(run) })
    };
    Ops::new(run, place).map(read).collect()
}

struct WireOp<'a> {
    distance: u64,
    effect: EffectRef<'a>,
}

impl Serialize for WireOp<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let distance = self.distance;
        match &self.effect {
            EffectRef::Set { bucket, key, value, whole: _, deadline, attributes, resets } => {
                if *deadline == Deadline::NEVER && attributes.is_none() && resets.is_empty() {
                    return (SET, distance, bucket, bin(key), bin(value)).serialize(serializer);
                }
                let attributes = attributes.as_deref().map(wire_attributes);
                let (deadline, cells) = (deadline.millis(), wire_cells(resets));
                (SET_RICH, distance, bucket, bin(key), bin(value), deadline, attributes, cells)
                    .serialize(serializer)
            }
            EffectRef::Other { bucket, key, change } => match change {
                Change::Set { .. } => {
                    Err(serde::ser::Error::custom("a new version is written as one"))
                }
                Change::Delete { resets } => {
                    (DELETE, distance, bucket, bin(key), wire_cells(resets)).serialize(serializer)
                }
                Change::Touch { base, deadline } => {
                    let (hlc, origin) = (base.hlc.to_bits(), base.origin);
                    (TOUCH, distance, bucket, bin(key), hlc, origin, deadline.millis())
                        .serialize(serializer)
                }
                Change::Count { birth, sum, deadline, closed } => {
                    let (birth, closed) = (birth.to_bits(), closed.to_bits());
                    (COUNT, distance, bucket, bin(key), birth, sum, deadline.millis(), closed)
                        .serialize(serializer)
                }
            },
            EffectRef::Flush { bucket } => (FLUSH, distance, bucket).serialize(serializer),
            EffectRef::Join { origin, name } => {
                (JOIN, distance, origin, name).serialize(serializer)
            }
            EffectRef::Relay { bucket, key, entry } => {
                let mut packed = Vec::new();
                encode_entry(entry, &mut packed);
                (RELAY, distance, bucket, bin(key), bin(&packed)).serialize(serializer)
            }
            EffectRef::RelayFlush { bucket, stamp } => {
                let (hlc, origin) = (stamp.hlc.to_bits(), stamp.origin);
                (RELAY_FLUSH, distance, bucket, hlc, origin).serialize(serializer)
            }
            EffectRef::Message { channel, payload } => {
                (MESSAGE, distance, bin(channel), bin(payload)).serialize(serializer)
            }
        }
    }
}

impl Serialize for BucketRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            BucketRef::Database(database) => serializer.serialize_u8(*database),
            BucketRef::Named(name) => serializer.serialize_str(name),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for BucketRef<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<BucketRef<'a>, D::Error> {
        deserializer.deserialize_any(BucketVisitor)
    }
}

struct BucketVisitor;

impl<'de> Visitor<'de> for BucketVisitor {
    type Value = BucketRef<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a database below 16 or a bucket's name")
    }

    fn visit_u64<E: de::Error>(self, database: u64) -> Result<BucketRef<'de>, E> {
        match u8::try_from(database) {
            Ok(database @ 0..16) => Ok(BucketRef::Database(database)),
            _ => Err(E::custom("no such database")),
        }
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<BucketRef<'de>, E> {
        BucketName::new(name).map_err(E::custom)?;
        Ok(BucketRef::Named(name))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for WireOp<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WireOp<'a>, D::Error> {
        deserializer.deserialize_seq(OpVisitor)
    }
}

struct OpVisitor;

impl<'de> Visitor<'de> for OpVisitor {
    type Value = WireOp<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an op")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<WireOp<'de>, A::Error> {
        let kind: u8 = part(&mut seq)?;
        let distance = part(&mut seq)?;
        let effect = match kind {
            SET | SET_RICH => set(kind, &mut seq)?,
            DELETE | TOUCH | COUNT => {
                let bucket = part(&mut seq)?;
                let key = key(&mut seq)?;
                EffectRef::Other { bucket, key, change: change(kind, &mut seq)? }
            }
            FLUSH => EffectRef::Flush { bucket: part(&mut seq)? },
            JOIN => {
                let (origin, name) = (part(&mut seq)?, part::<&str, A>(&mut seq)?);
                bound("a node's name", name.len(), NODE_NAME_BYTES_MAX)?;
                EffectRef::Join { origin, name }
            }
            RELAY => {
                let (bucket, key) = (part(&mut seq)?, key(&mut seq)?);
                let packed = Bytes::copy_from_slice(part(&mut seq)?);
                let entry = decode_entry(&packed).map_err(de::Error::custom)?;
                EffectRef::Relay { bucket, key, entry: Box::new(entry) }
            }
            RELAY_FLUSH => {
                let bucket = part(&mut seq)?;
                let (hlc, origin) = (Hlc::from_bits(part(&mut seq)?), part(&mut seq)?);
                EffectRef::RelayFlush { bucket, stamp: Stamp { hlc, origin } }
            }
            MESSAGE => {
                let (channel, payload) = (part::<&[u8], A>(&mut seq)?, part::<&[u8], A>(&mut seq)?);
                bound("a channel", channel.len(), CHANNEL_BYTES_MAX)?;
                bound("a message", payload.len(), MESSAGE_BYTES_MAX)?;
                EffectRef::Message { channel, payload }
            }
            other => return Err(de::Error::custom(format_args!("no op of kind {other}"))),
        };
        Ok(WireOp { distance, effect })
    }
}

fn key<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<&'de [u8], A::Error> {
    let key: &[u8] = part(seq)?;
    check_key(key).map_err(de::Error::custom)?;
    Ok(key)
}

fn deadline<'de, A: SeqAccess<'de>>(seq: &mut A) -> Result<Deadline, A::Error> {
    let millis: Option<u64> = part(seq)?;
    Ok(millis.map_or(Deadline::NEVER, Deadline::at_millis))
}

fn set<'de, A: SeqAccess<'de>>(kind: u8, seq: &mut A) -> Result<EffectRef<'de>, A::Error> {
    let bucket = part(seq)?;
    let key = key(seq)?;
    let value: &[u8] = part(seq)?;
    bound("a value", value.len(), VALUE_BYTES_MAX)?;
    let (mut until, mut attributes, mut resets) = (Deadline::NEVER, None, Resets::new());
    if kind == SET_RICH {
        until = deadline(seq)?;
        attributes = part::<Option<WireAttributes<'_>>, A>(seq)?.map(own_attributes).transpose()?;
        resets = own_cells(&part::<WireCells, A>(seq)?)?;
    }
    let (whole, deadline) = (None, until);
    Ok(EffectRef::Set { bucket, key, value, whole, deadline, attributes, resets })
}

fn change<'de, A: SeqAccess<'de>>(kind: u8, seq: &mut A) -> Result<Change, A::Error> {
    Ok(match kind {
        DELETE => Change::Delete { resets: own_cells(&part::<WireCells, A>(seq)?)? },
        TOUCH => {
            let (hlc, origin) = (Hlc::from_bits(part(seq)?), part(seq)?);
            Change::Touch { base: Stamp { hlc, origin }, deadline: deadline(seq)? }
        }
        _ => {
            let (birth, sum) = (Hlc::from_bits(part(seq)?), part(seq)?);
            let deadline = deadline(seq)?;
            Change::Count { birth, sum, deadline, closed: Hlc::from_bits(part(seq)?) }
        }
    })
}
