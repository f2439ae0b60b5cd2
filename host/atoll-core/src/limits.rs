//! The bound of every size, count and wait that comes from outside.
//!
//! What a user may tune lives in the node's configuration; these are the walls behind it.

/// Longest key, in bytes. Room for a URL or a session id; short enough to be kept inline.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Largest value, in bytes, through any door.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// From this length on a value is kept apart and shared with its readers instead of copied.
pub const VALUE_INLINE_BYTES_MAX: usize = 16 * 1024;
/// Longest bucket name, in bytes.
pub const BUCKET_NAME_BYTES_MAX: usize = 64;
/// Most buckets on a node. Each costs about 8 KiB before its first key.
pub const BUCKET_COUNT_MAX: usize = 1_024;
/// Shards of a bucket: each lock covers a 64th of its keys, and so does each rehash.
pub const SHARD_COUNT: usize = 64;
/// Largest metadata document of a key (`Atoll-Meta`), in bytes.
pub const META_BYTES_MAX: usize = 2 * 1024;
/// Longest stored content type, in bytes.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// Most tags on a key.
pub const TAG_COUNT_MAX: usize = 8;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 256;
/// Latest deadline, in ms since the epoch: fits in 48 bits (the year 10889).
pub const DEADLINE_MS_MAX: u64 = (1 << 48) - 1;
/// Most counter cells that one key holds before increments fold into its register.
pub const CELL_COUNT_MAX: usize = 256;
/// Most keys that one listing page answers.
pub const LIST_PAGE_MAX: usize = 1_000;
/// Most keys that one SCAN step looks at, whatever COUNT says.
pub const SCAN_COUNT_MAX: usize = 100_000;
/// Most origins that the store can tell apart.
pub const ORIGIN_COUNT_MAX: usize = u16::MAX as usize;

const _: () = assert!(VALUE_INLINE_BYTES_MAX < VALUE_BYTES_MAX, "inline values are the small ones");
const _: () = assert!(SHARD_COUNT.is_power_of_two(), "a shard is chosen by a mask");
