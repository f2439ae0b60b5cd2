//! What all bodies that are coming may take of memory together.
//!
//! Nobody waits for it, or those who hold some would wait for one another: past it a body is not
//! stored but handed on, with a smaller window for its readers, and its upstream waits for them.

use prometheus_client::metrics::counter::Counter;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes in flight.
#[derive(Debug)]
pub(crate) struct Budget {
    taken: AtomicU64,
    bytes_max: u64,
    /// Bodies that were not stored because of it.
    pub(super) given_up: Counter,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Budget {
        Budget { taken: AtomicU64::new(0), bytes_max, given_up: Counter::default() }
    }

    /// Takes so many bytes, whether there is room or not: they are there already.
    pub(crate) fn take(&self, bytes: u64) {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives them back.
    pub(crate) fn give(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether more is taken than there is.
    pub(crate) fn is_over(&self) -> bool {
        self.taken() > self.bytes_max
    }

    /// A body is not stored because of it.
    pub(crate) fn note_given_up(&self) {
        self.given_up.inc();
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }
}
