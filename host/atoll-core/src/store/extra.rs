//! What few keys need and a plain key pays nothing for: shared values, attributes, touches,
//! counters.

use crate::entry::{Attributes, Tally, Touch};
use bytes::Bytes;
use std::sync::Arc;

/// Hangs off a record by its slot in the shard's slab.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// A value of more than `VALUE_INLINE_BYTES_MAX`, shared with its readers.
    pub(super) value: Option<Bytes>,
    /// Of the register's version.
    pub(super) attributes: Option<Arc<Attributes>>,
    /// The newest change of a version's deadline.
    pub(super) touch: Option<Touch>,
    /// Counter cells by origin.
    pub(super) tallies: Vec<Tally>,
}

impl Extra {
    /// Whether the record can do without.
    pub(super) fn is_empty(&self) -> bool {
        self.value.is_none()
            && self.attributes.is_none()
            && self.touch.is_none()
            && self.tallies.is_empty()
    }

    /// Bytes held, heap included.
    pub(super) fn allocated_bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Bytes::len);
        let attributes =
            self.attributes.as_ref().map_or(0, |a| size_of::<Attributes>() + a.text_bytes());
        let tallies = self.tallies.capacity() * size_of::<Tally>();
        let cells = self.tallies.iter().map(|tally| {
            if tally.cells.spilled() {
                tally.cells.capacity() * size_of::<crate::entry::Cell>()
            } else {
                0
            }
        });
        size_of::<Extra>() + value + attributes + tallies + cells.sum::<usize>()
    }
}
