//! From a disk into an empty store, at start. Reads are served meanwhile.

use super::disk::{Disk, DiskError, Reading};
use super::record::{self, Checkpoint, Damaged, Subject};
use super::status::Board;
use atoll_core::clock::{Hlc, Now};
use atoll_core::key::BucketName;
use atoll_core::store::apply::MergeError;
use atoll_core::store::restore::Restored;
use atoll_core::store::{Bucket, Store};
use atoll_core::wire::entry::decode_entry;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// Between two lines that say how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Records between two looks at the clock.
const LOOK_EVERY: u64 = 1_024;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// As it was written; `None` where there is none, or where it promises more than there is.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Its number in either case.
    pub(super) number: u64,
    /// Records, and places of the disk, that were left out.
    pub(super) damaged: u64,
    /// Whether the engine could read everything.
    pub(super) reading: Option<Reading>,
    /// Buckets of which the disk holds more than a flush has left.
    pub(super) with_dead: BTreeSet<BucketName>,
}

/// Why loading ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Nobody waits for it any more.
    #[error("loading was given up")]
    GivenUp,
}

/// Reads all of `disk` into `store`, which is then as it was when it was saved.
///
/// What is damaged is left out, counted and said once; the checkpoint is then not to be relied on.
pub(super) fn load(
    disk: &dyn Disk,
    store: &Store,
    (board, give_up): (&Board, &AtomicBool),
) -> Result<Loaded, LoadError> {
    let mut loader = Loader {
        store,
        board,
        give_up,
        loaded: Loaded { damaged: disk.damaged_places(), ..Loaded::default() },
        newest: Hlc::ZERO,
        bucket: None,
        seen: 0,
        refused: None,
        began: Instant::now(),
        told: Instant::now(),
        record_count: disk.record_count() as u64,
    };
    let reading = disk.read_all(&mut |key, value| loader.take(key, value))?;
    if give_up.load(Ordering::Relaxed) {
        return Err(LoadError::GivenUp);
    }
    Ok(loader.finish(reading))
}

struct Loader<'l> {
    store: &'l Store,
    board: &'l Board,
    give_up: &'l AtomicBool,
    loaded: Loaded,
    /// Of all that was restored.
    newest: Hlc,
    /// The bucket of the record before: its next one is probably there as well.
    bucket: Option<Arc<Bucket>>,
    seen: u64,
    /// The last reason why something that is not damaged was left out.
    refused: Option<MergeError>,
    began: Instant,
    told: Instant,
    record_count: u64,
}

impl Loader<'_> {
    fn take(&mut self, key: &[u8], value: Bytes) -> ControlFlow<()> {
        let bytes = (key.len() + value.len()) as u64;
        if self.restore(key, &value).is_err() {
            self.loaded.damaged += 1;
        }
        self.seen += 1;
        self.board.loaded_bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.seen.is_multiple_of(LOOK_EVERY) && self.told.elapsed() >= PROGRESS_EVERY {
            self.told = Instant::now();
            let percent = (self.seen * 100 / self.record_count.max(1)).min(99);
            info!(keys = self.seen, megabytes = self.megabytes(), percent, "loading data");
        }
        match self.give_up.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn restore(&mut self, key: &[u8], value: &Bytes) -> Result<(), Damaged> {
        let value = record::unseal(key, value)?;
        match Subject::of(key)? {
            Subject::Checkpoint => {
                let checkpoint = Checkpoint::read(&value)?;
                self.loaded.number = checkpoint.number;
                self.loaded.checkpoint = Some(checkpoint);
            }
            Subject::Flush(name) => {
                let stamp = record::read_stamp(&value)?;
                let bucket = self.store.open_bucket(&name).map_err(|_| Damaged)?;
                // Nothing is held yet that could be dropped.
                self.store.flush_at(&bucket, stamp, Now::from_micros(0));
            }
            Subject::Entry { bucket, key } => {
                let entry = decode_entry(&value).map_err(|_| Damaged)?;
                let bucket = self.bucket(bucket)?;
                let restored = self.store.restore(&bucket, key, entry).map_err(|error| {
                    // Not damage but one origin too many, and as bad.
                    self.refused = Some(error);
                    Damaged
                })?;
                self.board.loaded_keys.fetch_add(1, Ordering::Relaxed);
                self.newest = self.newest.max(restored.newest());
                if matches!(restored, Restored::LeftOut(_)) {
                    self.loaded.with_dead.insert(bucket.name().clone());
                }
            }
        }
        Ok(())
    }

    fn bucket(&mut self, name: &[u8]) -> Result<Arc<Bucket>, Damaged> {
        if let Some(bucket) = self.bucket.as_ref().filter(|b| b.name().as_str().as_bytes() == name)
        {
            return Ok(Arc::clone(bucket));
        }
        let bucket = self.store.open_bucket(&record::bucket_name(name)?).map_err(|_| Damaged)?;
        self.bucket = Some(Arc::clone(&bucket));
        Ok(bucket)
    }

    fn finish(mut self, reading: Reading) -> Loaded {
        self.store.witness(self.newest);
        self.loaded.reading = Some(reading);
        if reading == Reading::Gap {
            self.loaded.damaged += 1;
            error!("a part of the data cannot be read; the keys in it are lost on this disk");
        }
        if self.loaded.damaged > 0 {
            let (damaged, refused) =
                (self.loaded.damaged, self.refused.map(tracing::field::display));
            error!(
                damaged,
                refused, "damaged records were left out; peers or a backup may have them"
            );
            self.loaded.checkpoint = None;
        }
        let (used, max) = (self.store.used_bytes(), self.store.memory_bytes_max());
        if used > max {
            warn!(used, max, "the data takes more than --memory-max; writes are refused");
        }
        let took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let keys = self.board.loaded_keys.load(Ordering::Relaxed);
        info!(keys, megabytes = self.megabytes(), took_ms, "data loaded");
        self.board.note_loaded(self.loaded.damaged);
        self.loaded
    }

    fn megabytes(&self) -> u64 {
        self.board.loaded_bytes.load(Ordering::Relaxed) >> 20
    }
}
