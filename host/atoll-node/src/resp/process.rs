//! What the kernel says about this process, for INFO. Absent where there is no `/proc`.

/// Size of a page, and length of a clock tick, on every Linux that we run on.
const PAGE_BYTES: u64 = 4_096;
const TICK_MS: u64 = 10;

/// Resident memory in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// Processor time in kernel and user mode, in ms.
pub(super) fn cpu_ms() -> Option<(u64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in parentheses and may hold spaces.
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some((kernel * TICK_MS, user * TICK_MS))
}
