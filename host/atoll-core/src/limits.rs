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
/// Most counter cells of an entry that comes from a peer or a disk: room for 16 nodes that each
/// made as many as they may before they heard of the others.
pub const ENTRY_CELL_COUNT_MAX: usize = 16 * CELL_COUNT_MAX;
/// Most bytes of an encoded entry that are neither stamp nor value: those cells and all attributes.
pub const ENTRY_RICH_BYTES_MAX: usize = 512 * 1024;
/// Most keys that one listing page answers.
pub const LIST_PAGE_MAX: usize = 1_000;
/// Most keys that one SCAN step looks at, whatever COUNT says: a few milliseconds' worth.
pub const SCAN_COUNT_MAX: usize = 10_000;
/// Most origins that the store can tell apart.
pub const ORIGIN_COUNT_MAX: usize = u16::MAX as usize;
/// Most arguments of one RESP request, the command's name included.
pub const REQUEST_ARGUMENT_COUNT_MAX: usize = 1024 * 1024;
/// Longest RESP request, in bytes: two values of the largest size and what goes with them.
pub const REQUEST_BYTES_MAX: usize = 2 * VALUE_BYTES_MAX + 1024 * 1024;
/// Bytes that all RESP connections together may hold for unfinished requests and unwritten replies.
pub const REQUEST_MEMORY_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// The same where the store's budget is small: room for a request with the largest value.
pub const REQUEST_MEMORY_BYTES_MIN: usize = 80 * 1024 * 1024;
/// Longest inline request, in bytes.
pub const REQUEST_INLINE_BYTES_MAX: usize = 64 * 1024;
/// Bytes that a RESP thread reads at once, and so executes in one turn.
pub const REQUEST_SCRATCH_BYTES: usize = 64 * 1024;
/// Most arguments of a request before the client has authenticated.
pub const STRANGER_ARGUMENT_COUNT_MAX: usize = 10;
/// Longest argument before the client has authenticated, in bytes.
pub const STRANGER_ARGUMENT_BYTES_MAX: usize = 16 * 1024;
/// From this length on an argument is received into a buffer of its own, which becomes the value.
pub const VALUE_APART_BYTES_MIN: usize = 32 * 1024;
/// Most bytes that one RESP reply copies; a larger one becomes an error.
pub const REPLY_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most shared values in one RESP reply.
pub const REPLY_SHARED_COUNT_MAX: usize = 1024 * 1024;
/// Bytes of replies after which a connection stops executing until they are written.
pub const REPLY_BATCH_BYTES: usize = 1024 * 1024;
/// Bytes that commands of one connection copy within values before other connections have their
/// turn.
pub const TURN_WORK_BYTES: usize = 1024 * 1024;
/// Commands between MULTI and EXEC.
pub const TRANSACTION_COMMAND_COUNT_MAX: usize = 65_536;
/// Bytes of their arguments, and what it takes to keep them.
pub const TRANSACTION_BYTES_MAX: usize = REQUEST_BYTES_MAX;
/// Keys under WATCH in one connection.
pub const WATCHED_KEY_COUNT_MAX: usize = 65_536;
/// Longest pattern of KEYS and SCAN, in bytes.
pub const GLOB_BYTES_MAX: usize = 1_024;
/// Longest name that a RESP client may give itself or its library, in bytes.
pub const CLIENT_NAME_BYTES_MAX: usize = 256;

/// Longest name of a node or a cluster, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 128;
/// Most processes, dead ones included, that the nodes of a cluster tell one another of.
pub const MEMBER_COUNT_MAX: usize = 4_096;
/// Bytes of ops after which a run is closed and the next begun: what a resumed link may receive
/// twice.
pub const RUN_BYTES_MAX: usize = 64 * 1024;
/// From this length on a value is not copied into a run of ops but travels by itself.
pub const RUN_VALUE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of live ops that a link may have under way, unacknowledged.
pub const LINK_WINDOW_BYTES: u64 = 1024 * 1024;
/// The same for syncs and large values.
pub const BULK_WINDOW_BYTES: u64 = 1024 * 1024;
/// Bytes of entries in one frame of a sync, unless a single entry is larger.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Largest frame between nodes, in bytes: the largest value, and what goes with it.
pub const FRAME_BYTES_MAX: usize = VALUE_BYTES_MAX + 1024 * 1024;
/// Groups that an audit sums a store's keys in, and leaves in each: by the highest bits of a digest.
pub const AUDIT_GROUP_COUNT: usize = 256;
/// Groups whose leaves are asked for at once.
pub const AUDIT_GROUPS_ASKED_MAX: usize = 16;
/// Most leaves whose keys one audit compares one by one. Where more differ, most of that is keys
/// that are being written; what is left is for the next audit.
pub const AUDIT_LEAF_COUNT_MAX: usize = 1_024;
/// Bytes of keys of such leaves that a node keeps while it compares; what is more is for the next
/// audit.
pub const AUDIT_LIST_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most keys that one audit looks at twice because they seemed to differ.
pub const AUDIT_SUSPECT_COUNT_MAX: usize = 4_096;
/// Longest name of a channel for PUBLISH and SUBSCRIBE, in bytes.
pub const CHANNEL_BYTES_MAX: usize = 1_024;
/// Longest message that can be published, in bytes. What is larger belongs under a key.
pub const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of messages that wait for one subscriber; one that is slower is cut off. As in Redis.
pub const LISTENER_QUEUE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The same for all subscribers together: past it, whoever has more waiting than its share is cut
/// off.
pub const LISTENERS_QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of all subscriptions of a node; what is more is refused.
pub const SUBSCRIPTION_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most different patterns that are subscribed to on a node: each message is held against each.
pub const PATTERN_COUNT_MAX: usize = 1_000;
/// Most clients that wait at once until other nodes hold a write, or until this one does.
pub const WAITER_COUNT_MAX: usize = 65_536;
/// Most other nodes that an HTTP write can ask to hold it.
pub const COPY_COUNT_MAX: u64 = 1_000;
/// How long an HTTP write waits for other nodes where it does not say, in ms.
pub const COPY_WAIT_MS_DEFAULT: u64 = 1_000;
/// Longest such wait that can be asked for, in ms.
pub const COPY_WAIT_MS_MAX: u64 = 60_000;
/// Longest wait for the earlier write that an HTTP request names, in ms.
pub const SESSION_WAIT_MS: u64 = 1_000;
/// Most processes whose writes a request names.
pub const SESSION_COUNT_MAX: usize = 16;

/// Longest handler name, in bytes.
pub const HANDLER_NAME_BYTES_MAX: usize = 64;
/// Largest component, in bytes. Interpreters come at 10 to 20 MB.
pub const COMPONENT_BYTES_MAX: usize = 48 * 1024 * 1024;
/// Most handlers on a node.
pub const HANDLER_COUNT_MAX: usize = 1_024;
/// Versions of a handler that can be rolled back to, the live one included.
pub const VERSION_COUNT_MAX: usize = 5;
/// Most routes and most grants of one handler.
pub const ROUTE_COUNT_MAX: usize = 32;
/// Most settings of a handler.
pub const CONFIG_COUNT_MAX: usize = 64;
/// Longest name of a setting, in bytes.
pub const CONFIG_KEY_BYTES_MAX: usize = 128;
/// Longest value of a setting, in bytes. What is longer belongs into a bucket.
pub const CONFIG_VALUE_BYTES_MAX: usize = 4_096;
/// Longest name of a secret, in bytes.
pub const SECRET_NAME_BYTES_MAX: usize = 64;
/// Longest secret, in bytes: room for a private key or a certificate.
pub const SECRET_BYTES_MAX: usize = 64 * 1024;
/// Most secrets of a cluster.
pub const SECRET_COUNT_MAX: usize = 1_000;
/// Longest route pattern or grant as text, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1_024;

/// Most tags and groups of one cached response.
pub const CACHE_TAG_COUNT_MAX: usize = 128;
/// Longest tag or group of a cached response, in bytes.
pub const CACHE_TAG_BYTES_MAX: usize = 256;
/// Most routes to upstreams that are kept as records.
pub const ROUTE_RECORD_COUNT_MAX: usize = 256;
/// Most keys of the store that a cached response names as what it was made from. One that names more is
/// not stored: which writes make it stale could not be told.
pub const CACHE_KEY_COUNT_MAX: usize = 64;
/// Most keys that are known as what stored responses were made from; past it all those responses are
/// asked about once more.
pub const CACHE_KEY_INDEX_COUNT_MAX: usize = 256 * 1024;
/// Writes that are remembered for fetches under way, twice as many at most. A fetch that takes longer
/// than they reach back is stale when it is stored, if it names keys.
pub const CACHE_KEY_WRITE_COUNT_MAX: usize = 128 * 1024;
/// Longest name of what a purge is about, in bytes.
pub const PURGE_SCOPE_BYTES_MAX: usize = 8 * 1024;
/// Most purges that a node tells apart; with one more it purges everything.
pub const PURGE_RECORD_COUNT_MAX: usize = 100_000;

const _: () = assert!(REQUEST_BYTES_MAX < u32::MAX as usize, "offsets in a request have 32 bits");
const _: () = assert!(
    VALUE_INLINE_BYTES_MAX < VALUE_APART_BYTES_MIN,
    "what is received apart is stored apart, without a copy"
);
const _: () = assert!(
    MESSAGE_BYTES_MAX + CHANNEL_BYTES_MAX < LISTENER_QUEUE_BYTES_MAX / 2,
    "one message cuts nobody off"
);
const _: () = assert!(CHANNEL_BYTES_MAX == GLOB_BYTES_MAX, "one message names both bounds");
const _: () = assert!(VALUE_INLINE_BYTES_MAX < VALUE_BYTES_MAX, "inline values are the small ones");
const _: () = assert!(SHARD_COUNT.is_power_of_two(), "a shard is chosen by a mask");
const _: () = assert!(COMPONENT_BYTES_MAX <= VALUE_BYTES_MAX, "a component is kept as a value");
