//! What the journal asks of a disk: ordered records, atomic batches, a word when they are safe.

use bytes::Bytes;
use std::io;
use std::ops::ControlFlow;

/// Records of a batch, and their bytes, from which on it is committed.
const BATCH_COUNT: usize = 1_024;
const BATCH_BYTES: usize = 1024 * 1024;

/// Why a disk did not do what it was asked. What was asked may have been done in part.
#[derive(Debug, thiserror::Error)]
pub(super) enum DiskError {
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The engine says no.
    #[error("the storage engine failed: {0}")]
    Engine(String),
    /// The engine failed before, on a thread of its own.
    #[error("the storage engine could not write in the background")]
    Background,
    /// The engine is busy with what it was given before.
    #[error("the disk has taken nothing for {wait_s} s")]
    Stalled {
        /// Seconds that were waited.
        wait_s: u64,
    },
    /// The system would say no soon.
    #[error("{free_mib} MiB are free on the disk; {wanted_mib} MiB are needed to go on")]
    NoRoom {
        /// What there is, in MiB.
        free_mib: u64,
        /// What there should be, in MiB.
        wanted_mib: u64,
    },
}

/// A disk that is open.
pub(super) trait Disk: Send {
    /// The value of a record.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, DiskError>;
    /// Writes all of a batch or nothing. From then on it outlives the process, but perhaps not the
    /// machine.
    fn commit(&mut self, batch: Batch) -> Result<(), DiskError>;
    /// Waits until everything that was committed outlives the machine.
    fn sync(&mut self) -> Result<(), DiskError>;
    /// Calls `visit` with all records, in the order of their keys but for what `Reading::Gap` says.
    fn read_all(&self, visit: &mut Visit<'_>) -> Result<Reading, DiskError>;
    /// The next keys after this one, in order.
    fn keys_after(&self, after: &[u8], count_max: usize) -> Result<Vec<Bytes>, DiskError>;
    /// About how many records there are.
    fn record_count(&self) -> usize;
    /// Places that were damaged when it was opened. Records that lay there are lost.
    fn damaged_places(&self) -> u64;
}

/// Is shown a record.
pub(super) type Visit<'v> = dyn FnMut(&[u8], Bytes) -> ControlFlow<()> + 'v;

/// What came of reading everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// All was read, or as much as `visit` wanted.
    Whole,
    /// A part in the middle cannot be read; what lies behind it was read backwards.
    Gap,
}

/// Opens a disk, again and again if need be.
pub(super) trait OpenDisk: Send {
    /// Opens it. Nothing else has it open.
    fn open(&self) -> Result<Box<dyn Disk>, DiskError>;
    /// Says why it is not worth while to open it now.
    fn check_room(&self) -> Result<(), DiskError>;
    /// Bytes that the files take.
    fn used_bytes(&self) -> u64;
    /// Bytes that are free, where known.
    fn free_bytes(&self) -> Option<u64>;
}

/// Records that are written together. `None` removes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) bytes: usize,
}

impl Batch {
    /// Writes a record.
    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.bytes += key.len() + value.len();
        self.records.push((key, Some(value)));
    }

    /// Removes a record, if there is one.
    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.bytes += key.len();
        self.records.push((key, None));
    }

    /// Whether it should be committed before it grows.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= BATCH_COUNT || self.bytes >= BATCH_BYTES
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}
