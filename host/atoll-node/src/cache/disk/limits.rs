//! The bounds of the disk tier.

use std::time::Duration;

/// Longest head of a stored response, in bytes. The checksums of a body of 64 GiB take 1 MiB of it.
pub(super) const HEAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bodies from this length on have files of their own, written while they come and never held in
/// memory, in bytes. Shorter ones lie behind their heads.
pub(crate) const SPOOL_BYTES_MIN: u64 = 1024 * 1024;
/// What is gathered of a body that comes before it is written, in bytes.
pub(crate) const SPOOL_WRITE_BYTES: usize = 256 * 1024;
/// A body is checked in chunks of this length, in bytes.
pub(super) const CHUNK_BYTES: u64 = 1024 * 1024;
/// What each file takes beside its bytes, rounded up to blocks: directory entry, inode, index.
pub(super) const FILE_OVERHEAD_BYTES: u64 = 4 * 1024;
/// The unit in which file systems give room, in bytes.
pub(super) const BLOCK_BYTES: u64 = 4 * 1024;
/// One part in so many of the budget is for bodies that are coming.
pub(super) const SPOOL_SHARE: u64 = 8;
/// Most responses that wait to be written; those beyond are kept in memory only.
pub(super) const QUEUE_COUNT_MAX: usize = 4_096;
/// And their bytes.
pub(super) const QUEUE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Free bytes that are left to others on the file system: more than the journal asks for.
pub(super) const ROOM_BYTES: u64 = 256 * 1024 * 1024;
/// Of a small file system, this share (three eighths) is left.
pub(super) const ROOM_SHARE: (u64, u64) = (3, 8);
/// How long nothing is written after the disk has refused.
pub(super) const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Most large files that are kept open for the next request.
pub(super) const OPEN_COUNT_MAX: usize = 512;
/// From this length on the list of purges is written anew, in bytes.
pub(super) const LEDGER_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Invalidations of single keys are kept for so long at the least: their files are gone by then.
pub(super) const INVALIDATION_KEPT: Duration = Duration::from_secs(60);
/// How long a restarted node waits for its peers' purges before it serves from its disk.
pub(super) const CATCH_UP_WAIT: Duration = Duration::from_secs(10);
/// How long it waits at the end for what has yet to be written.
pub(super) const FLUSH_WAIT: Duration = Duration::from_secs(5);
/// The disk is emptied where the node was away for longer: purges are kept for a week.
pub(super) const AWAY_MAX: Duration = Duration::from_secs(6 * 24 * 3_600 + 12 * 3_600);
/// Where no budget is given, in bytes; a quarter of the file system where that is less.
pub(crate) const BUDGET_BYTES_DEFAULT: u64 = 10 << 30;
/// Longest response that is stored where there is a disk and the route does not say, in bytes.
pub(crate) const OBJECT_BYTES_DEFAULT: u64 = 1 << 30;
