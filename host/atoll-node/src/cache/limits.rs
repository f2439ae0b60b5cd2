//! The bounds of the HTTP cache.

use std::time::Duration;

/// Bytes that one response takes beside its body, key and fields: an estimate.
pub(super) const ENTRY_OVERHEAD_BYTES: usize = 400;
/// Bytes that each field takes beside its name and value.
pub(super) const FIELD_OVERHEAD_BYTES: usize = 100;
/// Stored bodies are kept in pieces of about this size, and small ones in one.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// Stored bodies from this length on are kept in files in memory, in bytes: it has to be worth a
/// descriptor.
pub(super) const FILE_BYTES_MIN: u64 = 1024 * 1024;
/// Most such files; larger bodies beyond that are kept in pieces.
pub(super) const FILE_COUNT_MAX: usize = 2_048;
/// Most bodies that are given a content coding at once, of all that wait for one.
pub(super) const CODING_COUNT_MAX: usize = 2;
/// What a fill that is not stored keeps for its slowest reader, in bytes.
pub(super) const WINDOW_BYTES: usize = 512 * 1024;
/// The same once all fills together take more than their budget, in bytes.
pub(crate) const WINDOW_BYTES_MIN: usize = 64 * 1024;
/// Of all fills together, where it is not said: this part of the cache's memory, and at least so many
/// bytes.
pub(crate) const FILL_SHARE: usize = 4;
pub(crate) const FILL_BYTES_MIN: usize = 32 * 1024 * 1024;
/// How long a body that is not stored waits for the request that it was fetched for.
pub(super) const FIRST_READER_WAIT: Duration = Duration::from_secs(5);
/// How long requests for a response that could not be shared go upstream side by side.
pub(super) const PASS: Duration = Duration::from_secs(10);
/// Longest wait for the head that another request has asked for; then a request goes by itself.
pub(crate) const COLLAPSE_WAIT: Duration = Duration::from_secs(20);
/// Largest stored response where the route does not say, in bytes.
pub(crate) const OBJECT_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;
/// Places in which times of invalidations are kept. Two URLs that share one cost a fetch.
pub(super) const INVALIDATION_PLACES: usize = 4_096;
/// A cache has shards of at least this size, in bytes: what is larger than a shard is not stored.
pub(super) const SHARD_BYTES_MIN: usize = 64 * 1024 * 1024;
/// Most of them.
pub(super) const SHARD_COUNT_MAX: usize = 16;
