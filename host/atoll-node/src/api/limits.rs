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
/// Bodies up to this length share a budget of their own, so that large ones cannot shut them out.
pub(super) const UPLOAD_SMALL_BYTES_MAX: usize = 64 << 10;
/// Bytes of small bodies that are being received at once.
pub(super) const UPLOAD_SMALL_BUDGET_BYTES: usize = 16 << 20;
/// Bytes of larger bodies that are being received at once: a quarter of the store, within these.
pub(super) const UPLOAD_LARGE_BUDGET_BYTES_MIN: usize = 64 << 20;
pub(super) const UPLOAD_LARGE_BUDGET_BYTES_MAX: usize = 256 << 20;
/// Longest wait for a place in the budget, then 503.
pub(super) const UPLOAD_BUDGET_WAIT: Duration = Duration::from_secs(2);
/// Longest pause between two pieces of a body, then 408.
pub(super) const UPLOAD_READ_WAIT: Duration = Duration::from_secs(10);
/// Over a whole body a client may lag this far behind [`UPLOAD_RATE_MIN`], then 408.
pub(super) const UPLOAD_GRACE: Duration = Duration::from_secs(30);
/// Slowest body that is waited for, in bytes a second.
pub(super) const UPLOAD_RATE_MIN: usize = 64 << 10;
