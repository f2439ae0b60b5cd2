//! Origin ids, interned to 16 bits: a record names its origin in one to three bytes.

use crate::entry::Entry;
use crate::limits::ORIGIN_COUNT_MAX;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use uuid::Uuid;

/// The origins that this store has heard of. Index 0 is the process itself.
#[derive(Debug)]
pub(super) struct Origins {
    table: RwLock<Table>,
    own: Uuid,
}

#[derive(Debug, Default)]
struct Table {
    ids: Vec<Uuid>,
    indices: HashMap<Uuid, u16>,
}

/// The store knows as many origins as 16 bits can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {ORIGIN_COUNT_MAX} origins; restart this node to forget the dead ones")]
pub struct TooManyOrigins;

impl Origins {
    pub(super) fn new(own: Uuid) -> Origins {
        // The nil id is the origin of an absent register, which every store can name.
        let ids = vec![own, Uuid::nil()];
        let indices = HashMap::from([(own, 0), (Uuid::nil(), 1)]);
        Origins { table: RwLock::new(Table { ids, indices }), own }
    }

    /// The process itself.
    pub(super) fn own(&self) -> Uuid {
        self.own
    }

    /// The id behind an index that [`Origins::intern`] gave.
    pub(super) fn id(&self, index: u16) -> Uuid {
        if index == 0 {
            return self.own;
        }
        // Ids are only ever appended, so the table is whole even if a writer panicked.
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.ids[usize::from(index)]
    }

    /// What `of` says of each id, by index.
    pub(super) fn map<T>(&self, of: impl Fn(Uuid) -> T) -> Vec<T> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.ids.iter().map(|&id| of(id)).collect()
    }

    /// Notes whose writes `entry` is made of: records name the author of their register by its
    /// index, those of its other parts by their ids.
    pub(super) fn meet(&self, entry: &Entry) -> Result<(), TooManyOrigins> {
        if entry.touch.is_some() || !entry.tallies.is_empty() {
            for stamp in entry.stamps() {
                self.intern(stamp.origin)?;
            }
        }
        Ok(())
    }

    /// The index of `id`, new or known.
    pub(super) fn intern(&self, id: Uuid) -> Result<u16, TooManyOrigins> {
        if id == self.own {
            return Ok(0);
        }
        let known = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = known.indices.get(&id) {
            return Ok(index);
        }
        drop(known);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = table.indices.get(&id) {
            return Ok(index);
        }
        let index = u16::try_from(table.ids.len()).map_err(|_| TooManyOrigins)?;
        table.ids.push(id);
        table.indices.insert(id, index);
        Ok(index)
    }
}
