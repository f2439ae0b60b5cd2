//! What a writer decides to do with a key, and what came of it.

use super::gate::Obstacle;
use crate::clock::Stamp;
use crate::entry::{Attributes, Deadline};
use crate::limits::VALUE_INLINE_BYTES_MAX;
use bytes::Bytes;
use std::sync::Arc;

/// A decision about one key, made while it is locked.
#[derive(Debug)]
pub enum Edit<'e> {
    /// Leave it as it is.
    Keep,
    /// A new version.
    Set {
        /// At most `VALUE_BYTES_MAX` bytes.
        value: NewValue<'e>,
        /// Absolute.
        deadline: Deadline,
        /// Empty ones are not kept.
        attributes: Option<Arc<Attributes>>,
    },
    /// A tombstone, where there is something to delete.
    Delete,
    /// Another deadline for what is visible; nothing where nothing is.
    Expire(Deadline),
    /// Adds to the integer that is visible, or to 0.
    ///
    /// The decider has checked that the value is an integer and that the sum fits.
    Add {
        /// What to add.
        delta: i64,
        /// Of a counter that begins with this increment; an existing one keeps its own.
        deadline: Deadline,
    },
}

impl<'e> Edit<'e> {
    /// A new version without attributes.
    pub fn set(value: NewValue<'e>, deadline: Deadline) -> Edit<'e> {
        Edit::Set { value, deadline, attributes: None }
    }
}

/// The bytes of a new version.
#[derive(Debug)]
pub enum NewValue<'e> {
    /// Copied into the store.
    Copy(&'e [u8]),
    /// Made for this write.
    Owned(Vec<u8>),
    /// Shared with whoever holds it, where large; copied where small.
    Shared(Bytes),
}

impl NewValue<'_> {
    /// Bytes in the value.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether the value is the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            NewValue::Copy(bytes) => bytes,
            NewValue::Owned(bytes) => bytes,
            NewValue::Shared(bytes) => bytes,
        }
    }

    /// Whether the record itself holds it.
    pub(super) fn is_inline(&self) -> bool {
        self.len() <= VALUE_INLINE_BYTES_MAX
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            NewValue::Copy(bytes) => Bytes::copy_from_slice(bytes),
            NewValue::Owned(bytes) => Bytes::from(bytes),
            NewValue::Shared(bytes) => bytes,
        }
    }
}

/// What came of a write.
#[derive(Debug, Clone, Copy)]
pub struct Written<R> {
    /// What the decider answered.
    pub answer: R,
    /// Of the write; `None` where nothing changed.
    pub stamp: Option<Stamp>,
}

/// Why a write was refused. The key is unchanged in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The memory budget is spent and nothing may be evicted.
    #[error("memory is full: {used} of {max} bytes used; raise --memory-max or delete keys")]
    Full {
        /// Bytes in use.
        used: usize,
        /// The budget in bytes.
        max: usize,
    },
    /// Over `VALUE_BYTES_MAX`.
    #[error(
        "a value of {len} bytes exceeds the maximum of {} bytes",
        crate::limits::VALUE_BYTES_MAX
    )]
    TooLarge {
        /// Bytes that were given.
        len: usize,
    },
    /// No write is taken for now.
    #[error(transparent)]
    Obstacle(Obstacle),
}
