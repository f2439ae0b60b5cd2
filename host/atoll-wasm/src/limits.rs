//! Every bound that a guest meets.

/// What one call may use. Values above the bounds below are taken as the bound, zero as the least
/// that makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Time on a processor, in milliseconds, host calls included: 1 to `CPU_MS_MAX`, default 100. A
    /// handler that computes is stopped within 10 ms of it, never before it.
    pub cpu_ms: u32,
    /// Time from call to answer, in milliseconds: 1 to `WALL_MS_MAX`, default 10,000. Counts
    /// waiting for a processor too, so it should be well above `cpu_ms`.
    pub wall_ms: u32,
    /// Linear memory of the instance, in bytes, default 128 MiB (an interpreter needs tens of MiB
    /// before it does anything). Never more than the engine's `memory_bytes_max`.
    pub memory_bytes: usize,
    /// Body of the response, in bytes, default 16 MiB, at most `RESPONSE_BYTES_MAX`.
    pub response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { cpu_ms: 100, wall_ms: 10_000, memory_bytes: 128 << 20, response_bytes: 16 << 20 }
    }
}

impl Limits {
    /// Returns the limits with every field within its bounds.
    pub(crate) fn bounded(self, memory_bytes_max: usize) -> Limits {
        Limits {
            cpu_ms: self.cpu_ms.clamp(1, CPU_MS_MAX),
            wall_ms: self.wall_ms.clamp(1, WALL_MS_MAX),
            memory_bytes: self.memory_bytes.min(memory_bytes_max),
            response_bytes: self.response_bytes.min(RESPONSE_BYTES_MAX),
        }
    }
}

/// Upper bound of [`Limits::cpu_ms`].
pub const CPU_MS_MAX: u32 = 300_000;
/// Upper bound of [`Limits::wall_ms`].
pub const WALL_MS_MAX: u32 = 600_000;
/// Upper bound of [`Limits::response_bytes`].
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Period of the epoch thread. A guest that computes yields this often, so a neighbour on the same
/// thread waits no longer for each such guest; and its CPU time is counted in this unit.
pub const TICK_MS: u64 = 2;
/// Ticks without any call after which the epoch thread sleeps until the next one: an idle node does
/// not wake up.
pub(crate) const IDLE_TICKS_MAX: u32 = 250;

/// Bytes that one host call, or the answer, may bring from the guest: a value of the largest size
/// with its key.
pub const HOSTCALL_BYTES_MAX: usize = (64 << 20) + (64 << 10);
/// Buckets that an instance may hold open at once; swaps that it may prepare.
pub const HANDLES_MAX: usize = 256;
/// Handles of resources of every kind that an instance may hold at once: streams, fields, timers.
pub const COMPONENT_HANDLES_MAX: usize = 4_096;
/// Resources of WASI that the host holds for an instance at once.
pub(crate) const RESOURCES_MAX: usize = 4_096;
/// Tasks, streams' ends and futures' ends that the engine keeps for an asynchronous instance at once.
pub(crate) const TASKS_MAX: usize = 4 * COMPONENT_HANDLES_MAX;
/// Pages of keys that one call may list by `wasi:keyvalue@0.2.0-draft`, whose cursors are kept.
pub(crate) const CURSORS_MAX: usize = 1_024;
/// Requests that one call may send.
pub const FETCHES_MAX: u32 = 64;
/// URLs, tags, prefixes and hosts that one call may purge.
pub const PURGES_MAX: u32 = 64;
/// Bytes of the body of an answer that a guest gets whole.
pub const FETCH_BYTES_MAX: usize = 8 << 20;
/// Bytes of the bodies of all answers to requests that were sent at once.
pub const FETCH_MANY_BYTES_MAX: usize = 32 << 20;

/// Bytes of one function's code. What a compiler needs for one grows faster than its size, and it
/// cannot be stopped; the largest that is met, in a Python interpreter, has 420 KiB.
pub const FUNCTION_BYTES_MAX: usize = 1 << 20;
/// Blocks within blocks of one function. A large `switch` has some hundreds.
pub const BLOCK_DEPTH_MAX: usize = 10_000;
/// Loops of one function: 20,000 in 140 KB take the compiler 12 s (measured), and it grows with their
/// square.
pub const LOOP_COUNT_MAX: usize = 2_000;
/// Functions of one component, adapters to the host included. A compiler needs 10 KB for each however
/// small it is (measured), all of them at once; interpreters of JavaScript and Python have 13,000.
pub const FUNCTIONS_MAX: usize = 40_000;
/// Bytes of the code of all functions of one component; an interpreter of JavaScript has 9 MiB.
pub const CODE_BYTES_MAX: usize = 24 << 20;
/// Core instances, tables and memories of one component. `wit-component` makes three or four
/// instances and two tables of a Rust crate; interpreters and composed components need more.
pub const CORE_INSTANCES_MAX: u32 = 32;
/// See [`CORE_INSTANCES_MAX`].
pub const TABLES_MAX: u32 = 16;
/// See [`CORE_INSTANCES_MAX`].
pub const MEMORIES_MAX: u32 = 4;
/// Bytes of what an instance has written that stay resident in its place, and are wiped there: the
/// next one has them without a page fault. What is beyond that is given back to the system.
pub(crate) const KEEP_RESIDENT_BYTES: usize = 6 << 20;
/// Stretches of pages that lie apart, in what an instance writes: wasmtime wipes 32 in place, and any
/// request may write to one more.
pub(crate) const STRETCHES_MAX: usize = 24;
/// Elements of one table: function pointers, mostly. 8 bytes each.
pub const TABLE_ELEMENTS_MAX: usize = 65_536;

/// Header fields of a response.
pub const HEADERS_MAX: usize = 128;
/// Names and values of all header fields of a response together.
pub const HEADER_BYTES_MAX: usize = 64 << 10;

/// Bytes of a path, a query, a name or all parts of a cache key that a filter gives.
pub const FILTER_TEXT_BYTES_MAX: usize = 8 << 10;
/// Tags that a filter gives one response.
pub const FILTER_TAGS_MAX: usize = 128;

/// Instances that wait to be used again, for each four that may run at once.
pub(crate) const IDLE_SHARE: u32 = 4;
/// Requests that one instance of `wasi:http` 0.3 may work on at once.
pub const AT_ONCE_MAX: u32 = 64;
/// Requests that such an instance takes in before it has to have been without any: what is kept for one
/// that was answered is given back then.
pub(crate) const BURST_MAX: u32 = 256;
/// Instances in a row that may fail at a request which is not their first; then that is over.
pub(crate) const REUSE_FAILURES_MAX: u32 = 3;
/// Requests that an instance must have answered to be taken for worn out when it fails.
pub(crate) const WORN_OUT_MIN: u32 = 8;

/// Keys of one `get-many`, entries of one `set-many`, keys of one page.
pub const KEYS_MAX: usize = 1_000;
/// Keys of a page when the guest does not say.
pub const KEYS_DEFAULT: usize = 100;
/// Bytes of the values of one `get-many`.
pub const GET_MANY_BYTES_MAX: usize = 64 << 20;

/// Lines that one request may log; the rest is counted, not kept.
pub const LOG_LINES_MAX: u32 = 256;
/// Bytes of one line; the rest is cut.
pub const LOG_LINE_BYTES_MAX: usize = 4 << 10;

/// Bytes of one `random.bytes`.
pub const RANDOM_BYTES_MAX: u32 = 65_536;

/// Names that an error message lists before it only counts.
pub(crate) const NAMES_SHOWN_MAX: usize = 32;
/// Bytes of a name or a message that came with a guest, in our messages.
pub(crate) const QUOTE_BYTES_MAX: usize = 256;

const _: () =
    assert!(RESPONSE_BYTES_MAX < HOSTCALL_BYTES_MAX, "any allowed body must fit in one transfer");
const _: () = assert!(2 * TICK_MS < 10, "a loop is stopped within 10 ms of its limit");
