//! The latest flush of a bucket: everything stamped up to it is dead, without a tombstone for each.

use super::POISONED;
use crate::clock::{Hlc, Stamp};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Kept for ever: 32 bytes that stand for any number of deletes.
#[derive(Debug)]
pub(super) struct FlushMark {
    /// Time of the stamp, for readers that need no more: nearly all.
    hlc: AtomicU64,
    stamp: Mutex<Stamp>,
}

impl FlushMark {
    pub(super) fn new() -> FlushMark {
        FlushMark { hlc: AtomicU64::new(0), stamp: Mutex::new(Stamp::ZERO) }
    }

    /// Time of the latest flush.
    #[inline]
    pub(super) fn hlc(&self) -> Hlc {
        Hlc::from_bits(self.hlc.load(Ordering::Acquire))
    }

    /// Stamp of the latest flush.
    pub(super) fn stamp(&self) -> Stamp {
        *self.stamp.lock().expect(POISONED)
    }

    /// Forgets the latest flush: it turns out that it never was.
    pub(super) fn forget(&self) {
        let mut stamp = self.stamp.lock().expect(POISONED);
        *stamp = Stamp::ZERO;
        self.hlc.store(0, Ordering::Release);
    }

    /// Records a flush. Returns whether it is the latest.
    pub(super) fn advance(&self, to: Stamp) -> bool {
        let mut stamp = self.stamp.lock().expect(POISONED);
        let newer = to > *stamp;
        if newer {
            *stamp = to;
            self.hlc.store(to.hlc.to_bits(), Ordering::Release);
        }
        newer
    }
}
