//! Which writes were made by watchers, and how many calls of watchers led to each.
//!
//! A watcher that writes what it, or another, watches sets off a chain. Its length is known exactly,
//! because a watcher that runs on one node is only told of what was written on that node; one that
//! runs on every node may not write what is watched at all.

use super::Told;
use crate::problem::Problem;
use atoll_core::clock::Stamp;
use atoll_core::store::edit::Written;
use atoll_wasm::host::KvError;
use http::StatusCode;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Calls that may follow from one another before the chain is cut.
pub(super) const CHAIN_MAX: u8 = 8;
/// Writes of watchers that are remembered: more than a second's worth. Each is forgotten as the log
/// is read on.
const CAUSE_COUNT_MAX: usize = 65_536;

/// Why a write that a watcher's call has led to is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ChainRefusal {
    /// The key, as BUCKET/KEY.
    #[error(
        "{0} is watched: a watcher that runs on every node may not write it, or nodes would set one \
         another off without end"
    )]
    Watched(String),
    #[error("watchers write faster than can be followed")]
    TooFast,
}

impl From<ChainRefusal> for KvError {
    fn from(refusal: ChainRefusal) -> KvError {
        match refusal {
            ChainRefusal::Watched(_) => KvError::Denied(refusal.to_string()),
            ChainRefusal::TooFast => KvError::Unavailable(refusal.to_string()),
        }
    }
}

impl From<ChainRefusal> for Problem {
    fn from(refusal: ChainRefusal) -> Problem {
        match refusal {
            ChainRefusal::Watched(_) => {
                Problem::new(StatusCode::FORBIDDEN, "watched-on-every-node", refusal.to_string())
            }
            ChainRefusal::TooFast => Problem::busy("too-many-causes", refusal.to_string(), 1),
        }
    }
}

/// The writes of watchers that the log's reader has yet to meet.
#[derive(Debug, Default)]
pub(super) struct Causes(Mutex<HashMap<Stamp, u8>>);

impl Causes {
    /// Makes a write in a watcher's call. The reader that meets the write finds it here: it looks
    /// under the same lock.
    pub(super) fn write<R, E: From<ChainRefusal>>(
        &self,
        told: &Told,
        write: impl FnOnce() -> Result<Written<R>, E>,
    ) -> Result<Written<R>, E> {
        let mut causes = self.lock();
        if causes.len() >= CAUSE_COUNT_MAX {
            return Err(ChainRefusal::TooFast.into());
        }
        let written = write()?;
        if let Some(stamp) = written.stamp {
            causes.insert(stamp, told.chain.saturating_add(1));
        }
        Ok(written)
    }

    /// Calls that led to a write of this node: 0 where no watcher made it. Forgets the answer.
    pub(super) fn take(&self, stamp: Stamp) -> u8 {
        self.lock().remove(&stamp).unwrap_or_default()
    }

    /// Forgets everything: the log was lost.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Stamp, u8>> {
        // An entry is whole or not there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
