//! The parts that ops are made of, and their bounds.

use crate::clock::Hlc;
use crate::entry::Attributes;
use crate::entry::op::{ObservedCell, Resets};
use crate::limits::CELL_COUNT_MAX;
use crate::wire::{attributes_of, check_max};
use serde::de::{self, Deserialize, SeqAccess};
use std::sync::Arc;
use uuid::Uuid;

/// Content type, metadata, tags.
pub(super) type WireAttributes<'a> = (Option<&'a str>, Option<&'a str>, Vec<&'a str>);
/// Origin, birth, last increment, sum.
pub(super) type WireCells = Vec<(Uuid, u64, u64, i64)>;

/// Bytes that become msgpack `bin`.
pub(super) fn bin(bytes: &[u8]) -> &serde_bytes::Bytes {
    serde_bytes::Bytes::new(bytes)
}

/// The next part of a tuple.
pub(super) fn part<'de, T: Deserialize<'de>, A: SeqAccess<'de>>(
    seq: &mut A,
) -> Result<T, A::Error> {
    seq.next_element()?.ok_or_else(|| de::Error::custom("an op ends early"))
}

/// Refuses what is longer than it may be.
pub(super) fn bound<E: de::Error>(what: &'static str, got: usize, max: usize) -> Result<(), E> {
    check_max(what, got, max).map_err(E::custom)
}

pub(super) fn wire_attributes(attributes: &Attributes) -> WireAttributes<'_> {
    let tags = attributes.tags.iter().map(|tag| &**tag).collect();
    (attributes.content_type.as_deref(), attributes.meta.as_deref(), tags)
}

pub(super) fn own_attributes<E: de::Error>(
    (content_type, meta, tags): WireAttributes<'_>,
) -> Result<Arc<Attributes>, E> {
    let attributes = attributes_of(content_type, meta, &tags).map_err(E::custom)?;
    Ok(Arc::new(attributes))
}

pub(super) fn wire_cells(resets: &Resets) -> WireCells {
    resets
        .iter()
        .map(|seen| (seen.origin, seen.birth.to_bits(), seen.last.to_bits(), seen.sum))
        .collect()
}

pub(super) fn own_cells<E: de::Error>(cells: &WireCells) -> Result<Resets, E> {
    // A key's cells are counted on one node at a time: others may add theirs unseen.
    bound("a list of observed cells", cells.len(), 16 * CELL_COUNT_MAX)?;
    let own = |&(origin, birth, last, sum): &(Uuid, u64, u64, i64)| {
        let (birth, last) = (Hlc::from_bits(birth), Hlc::from_bits(last));
        ObservedCell { origin, birth, last, sum }
    };
    Ok(cells.iter().map(own).collect())
}
