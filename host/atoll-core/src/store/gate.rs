//! Whether this process takes writes of its own. What other nodes wrote is merged all the same.

use super::Store;
use super::edit::WriteError;
use std::sync::atomic::{AtomicU8, Ordering};

/// Why no write of this process's own is taken for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// What was saved is still being read.
    #[error("this node is still loading its data; try again in a moment")]
    Loading,
    /// What would be written could not be saved.
    #[error("this node's disk takes no writes; its status says why")]
    Disk,
}

/// Open, or shut for a reason.
#[derive(Debug)]
pub(super) struct Gate {
    state: AtomicU8,
}

const OPEN: u8 = 0;
const LOADING: u8 = 1;
const DISK: u8 = 2;

impl Gate {
    pub(super) fn new() -> Gate {
        Gate { state: AtomicU8::new(OPEN) }
    }
}

impl Store {
    /// Refuses writes from now on, or takes them again. A write that is under way may still be made.
    pub fn set_obstacle(&self, obstacle: Option<Obstacle>) {
        let state = match obstacle {
            None => OPEN,
            Some(Obstacle::Loading) => LOADING,
            Some(Obstacle::Disk) => DISK,
        };
        self.gate.state.store(state, Ordering::Release);
    }

    /// Why writes are refused, if they are.
    #[inline]
    pub fn obstacle(&self) -> Option<Obstacle> {
        match self.gate.state.load(Ordering::Acquire) {
            LOADING => Some(Obstacle::Loading),
            DISK => Some(Obstacle::Disk),
            _ => None,
        }
    }

    /// Whether a write may be made: for what is not refused by itself, such as
    /// [`Store::flush`].
    #[inline]
    pub fn check_writable(&self) -> Result<(), WriteError> {
        self.obstacle().map_or(Ok(()), |obstacle| Err(WriteError::Obstacle(obstacle)))
    }
}
