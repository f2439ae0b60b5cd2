//! The bounds of the bodies that are being received.

use std::time::Duration;

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
