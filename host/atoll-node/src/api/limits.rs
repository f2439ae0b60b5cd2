//! The bounds of what the API takes and keeps. What all doors share is in `atoll_core::limits`.

use std::time::Duration;

/// Most operations in a batch.
pub(super) const BATCH_OP_COUNT_MAX: usize = 1_000;
/// Longest body of a batch, in bytes.
pub(super) const BATCH_BYTES_MAX: usize = 16 << 20;
/// Most bytes of values that a batch answers with. A value past it is to be read alone.
pub(super) const BATCH_ANSWER_BYTES_MAX: usize = 16 << 20;
/// Longest body of a PATCH, in bytes.
pub(super) const PATCH_BYTES_MAX: usize = 4 << 10;
/// Most walks over a bucket (lists) and batches at once; further ones wait.
pub(super) const WALK_COUNT_MAX: usize = 4;
/// Longest wait for a place among them, then 503.
pub(super) const WALK_WAIT: Duration = Duration::from_secs(10);
/// Most watchers at once; a further one gets 503.
pub(super) const WATCHER_COUNT_MAX: usize = 256;
/// Most changes that a watcher is handed at once: bounds what it holds in memory.
pub(super) const WATCH_STEP_MAX: usize = 64;
/// Time between two comments on a watch where nothing changes.
pub(super) const WATCH_KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A watcher looks at the log at most once in this time, or each write would wake each watcher.
pub(super) const WATCH_PAUSE: Duration = Duration::from_millis(10);
/// Most backups and restores at once; a further one gets 503.
pub(super) const BACKUP_COUNT_MAX: usize = 2;
/// From so many bytes on a piece of a backup is sent.
pub(super) const BACKUP_CHUNK_BYTES: usize = 256 << 10;
/// Longest wait for the next bytes of a backup that is restored.
pub(super) const RESTORE_READ_WAIT: Duration = Duration::from_secs(60);
/// Keys that are restored before others have their turn: about a millisecond's work.
pub(super) const RESTORE_TURN_COUNT: usize = 1_000;
/// Largest order to purge, in bytes.
pub(super) const PURGE_BODY_BYTES_MAX: usize = 1 << 20;
/// Most names in one.
pub(super) const PURGE_COUNT_MAX: usize = 1_000;
