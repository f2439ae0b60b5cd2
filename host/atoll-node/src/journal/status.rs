//! What the journal tells of itself: for INFO, `/v1/cluster`, probes, metrics.

use super::Settings;
use atoll_core::resp::server::DiskState;
use serde::{Serialize, Serializer};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// The disk at one moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DiskStatus {
    /// The data directory.
    pub(crate) directory: String,
    /// Whether it takes what is written: loading, ok, failing.
    #[serde(serialize_with = "word")]
    pub(crate) state: DiskState,
    /// Why not, or what is being done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// When what is written is made safe: always, everysec, never.
    pub(crate) fsync: &'static str,
    /// What happens to writes while the disk fails: refuse, memory.
    pub(crate) on_error: &'static str,
    /// Number of this process's latest op that is safe, as `fsync` has it.
    pub(crate) saved_seq: u64,
    /// When everything was last safe, in ms since the epoch; 0 is never.
    pub(crate) saved_at_ms: u64,
    /// Bytes that the data takes on the disk.
    pub(crate) used_bytes: u64,
    /// Bytes that are free there, where known.
    pub(crate) free_bytes: Option<u64>,
    /// Keys that were read at the start.
    pub(crate) loaded_keys: u64,
    /// Their bytes on the disk.
    pub(crate) loaded_bytes: u64,
    /// About how much of what there is has been read, in percent.
    pub(crate) loaded_percent: u64,
    /// Records that were damaged and left out at the start.
    pub(crate) damaged_records: u64,
    /// Times that the disk began to fail.
    pub(crate) outages: u64,
}

fn word<S: Serializer>(state: &DiskState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_str())
}

/// Sums since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    /// Records written.
    pub(crate) records: AtomicU64,
    /// Their bytes.
    pub(crate) bytes: AtomicU64,
    /// Times that the disk was told to make everything safe.
    pub(crate) syncs: AtomicU64,
    /// Microseconds that this took.
    pub(crate) sync_us: AtomicU64,
}

/// Where the status is kept.
#[derive(Debug)]
pub(super) struct Board {
    shown: Mutex<Shown>,
    /// How far the loading is; apart, since it changes all the time.
    pub(super) loaded_keys: AtomicU64,
    pub(super) loaded_bytes: AtomicU64,
    pub(super) sums: Sums,
}

#[derive(Debug)]
struct Shown {
    state: DiskState,
    reason: Option<String>,
    saved_seq: u64,
    saved_at_ms: u64,
    used_bytes: u64,
    free_bytes: Option<u64>,
    record_count: u64,
    damaged_records: u64,
    outages: u64,
}

impl Board {
    pub(super) fn new(record_count: u64) -> Board {
        let shown = Shown {
            state: DiskState::Loading,
            reason: None,
            saved_seq: 0,
            saved_at_ms: 0,
            used_bytes: 0,
            free_bytes: None,
            record_count,
            damaged_records: 0,
            outages: 0,
        };
        let zero = || AtomicU64::new(0);
        let (loaded_keys, loaded_bytes, sums) = (zero(), zero(), Sums::default());
        Board { shown: Mutex::new(shown), loaded_keys, loaded_bytes, sums }
    }

    /// The status now.
    pub(super) fn status(&self, settings: &Settings) -> DiskStatus {
        let (loaded_keys, loaded_bytes) =
            (self.loaded_keys.load(Relaxed), self.loaded_bytes.load(Relaxed));
        let shown = self.lock();
        DiskStatus {
            directory: settings.directory.display().to_string(),
            state: shown.state,
            reason: shown.reason.clone(),
            fsync: settings.fsync.as_str(),
            on_error: settings.on_error.as_str(),
            saved_seq: shown.saved_seq,
            saved_at_ms: shown.saved_at_ms,
            used_bytes: shown.used_bytes,
            free_bytes: shown.free_bytes,
            loaded_keys,
            loaded_bytes,
            loaded_percent: match shown.state {
                DiskState::Loading => percent(loaded_keys, shown.record_count),
                DiskState::Ok | DiskState::Failing => 100,
            },
            damaged_records: shown.damaged_records,
            outages: shown.outages,
        }
    }

    /// Everything has been read but for so many records.
    pub(super) fn note_loaded(&self, damaged_records: u64) {
        let mut shown = self.lock();
        shown.state = DiskState::Ok;
        shown.damaged_records = damaged_records;
    }

    /// Everything up to `seq` is safe.
    pub(super) fn note_saved(&self, seq: u64) {
        let mut shown = self.lock();
        shown.saved_seq = seq;
        shown.saved_at_ms = now_ms();
    }

    pub(super) fn note_space(&self, used_bytes: u64, free_bytes: Option<u64>) {
        let mut shown = self.lock();
        (shown.used_bytes, shown.free_bytes) = (used_bytes, free_bytes);
    }

    /// The disk fails. Returns whether it did not before.
    pub(super) fn note_failing(&self, reason: String) -> bool {
        let mut shown = self.lock();
        let is_new = shown.state != DiskState::Failing;
        shown.outages += u64::from(is_new);
        (shown.state, shown.reason) = (DiskState::Failing, Some(reason));
        is_new
    }

    /// The disk takes what is written. Returns whether it did not before.
    pub(super) fn note_ok(&self) -> bool {
        let mut shown = self.lock();
        let was_failing = shown.state == DiskState::Failing;
        (shown.state, shown.reason) = (DiskState::Ok, None);
        was_failing
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        // Plain figures: whole even if somebody panicked between two of them.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `part` of `whole`, which is about right, in percent: less than 100 until it is said to be all.
fn percent(part: u64, whole: u64) -> u64 {
    (part.saturating_mul(100) / whole.max(1)).min(99)
}

/// The wall clock, for people.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
