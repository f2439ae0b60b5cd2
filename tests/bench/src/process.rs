//! What the kernel has booked for a process and its children: processor time, resident memory.

use std::fs;

use anyhow::{Context, bail};

/// The unit of times in `/proc/PID/stat`: `USER_HZ`, which is part of Linux's interface and 100 on
/// every processor that Rust builds for.
const TICKS_PER_SECOND: u64 = 100;

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// User and system time of all threads, those that ended included.
    ticks: u64,
    /// The same of children that have ended.
    reaped_ticks: u64,
}

/// Processor time of `pid` and its children so far, in microseconds, in steps of 10 ms.
///
/// # Errors
/// If the process is gone.
pub(crate) fn cpu_us(pid: u32) -> anyhow::Result<u64> {
    let mut ticks = 0;
    for member in family(pid)? {
        ticks += stat(member)?.ticks;
    }
    Ok(ticks * (1_000_000 / TICKS_PER_SECOND))
}

/// Processor time that others than this process and its children have used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) cpu_us: u64,
    /// The same of processes of low priority. They give way, but not at once, and not their caches.
    pub(crate) low_cpu_us: u64,
}

/// What all processes of the machine have used and this one and its children, running and ended,
/// have not.
///
/// # Errors
/// If `/proc` does not tell.
pub(crate) fn foreign() -> anyhow::Result<Foreign> {
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let (busy, low) = parse_busy_ticks(&text).context("/proc/stat has no line for all")?;
    let own = std::process::id();
    let mut ours = stat(own)?.reaped_ticks;
    for member in family(own)? {
        // One that ends right now is counted as foreign once, which is little.
        ours += stat(member).map_or(0, |stat| stat.ticks);
    }
    let us = |ticks: u64| ticks * (1_000_000 / TICKS_PER_SECOND);
    Ok(Foreign { cpu_us: us(busy.saturating_sub(ours)), low_cpu_us: us(low) })
}

/// Resident memory of `pid` alone, in bytes.
///
/// # Errors
/// If the process is gone.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    parse_resident_bytes(&text).with_context(|| format!("{path} has no VmRSS"))
}

/// The name of the processor, if the kernel tells.
pub(crate) fn processor_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(": ").map(|(_, model)| model.trim().to_owned())
}

/// `pid` and the processes that it started: nginx answers from workers.
fn family(pid: u32) -> anyhow::Result<Vec<u32>> {
    let mut members = vec![pid];
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(other) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ends while we look belongs to somebody else.
        if stat(other).is_ok_and(|stat| stat.parent == pid) {
            members.push(other);
        }
    }
    Ok(members)
}

fn stat(pid: u32) -> anyhow::Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    parse_stat(&fs::read_to_string(&path).with_context(|| path.clone())?)
}

fn parse_stat(text: &str) -> anyhow::Result<Stat> {
    // The name of the program is in parentheses and may hold spaces and parentheses itself.
    let Some((_, rest)) = text.rsplit_once(") ") else { bail!("no program name in {text:?}") };
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The manual counts from 1 and the state is its field 3: utime is 14, stime 15, ppid 4.
    let field = |number: usize| -> anyhow::Result<u64> {
        let text = fields.get(number - 3).with_context(|| format!("no field {number}"))?;
        text.parse().with_context(|| format!("field {number} is {text:?}"))
    };
    Ok(Stat {
        parent: u32::try_from(field(4)?)?,
        ticks: field(14)? + field(15)?,
        reaped_ticks: field(16)? + field(17)?,
    })
}

/// Time of all processors that was neither idle, nor spent waiting for a disk, nor of low priority;
/// and that of low priority.
fn parse_busy_ticks(text: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Result<Vec<u64>, _> = line.split_ascii_whitespace().map(str::parse).collect();
    // Guests are part of user.
    match ticks.ok()?.get(..8)? {
        [user, nice, system, _idle, _iowait, irq, softirq, steal] => {
            Some((user + system + irq + softirq + steal, *nice))
        }
        _ => None,
    }
}

fn parse_resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "S 7 42 42 0 -1 4194560 900 0 0 0 250 75 3 4 20 0 4 0 100 1 2\n";

    #[track_caller]
    fn check_stat(program: &str) {
        let stat = parse_stat(&format!("42 ({program}) {TAIL}")).unwrap();
        assert_eq!(stat, Stat { parent: 7, ticks: 325, reaped_ticks: 7 });
    }

    #[test]
    fn times_are_found_whatever_the_program_is_called() {
        check_stat("redis-server");
        check_stat("a b) (c");
        check_stat("");
    }

    #[test]
    fn a_line_that_is_cut_off_is_an_error() {
        assert!(parse_stat("42 (redis-server) S 7 42").is_err());
        assert!(parse_stat("").is_err());
    }

    #[test]
    fn idle_processors_are_not_busy() {
        let text = "cpu  1 2 3 1000 1000 4 5 6 1000 1000\ncpu0 7 7 7 7 7 7 7 7 7 7\n";
        assert_eq!(parse_busy_ticks(text), Some((19, 2)));
        for text in ["cpu0 7 7 7\n", "cpu 7 7 7\n", "cpu  1 2 3 x 5 6 7 8\n"] {
            assert_eq!(parse_busy_ticks(text), None);
        }
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmRSS:\t    12 kB\n";
        assert_eq!(parse_resident_bytes(status), Some(12 * 1024));
        assert_eq!(parse_resident_bytes("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_a_parent() {
        let own = std::process::id();
        assert!(resident_bytes(own).unwrap() > 0);
        assert!(family(own).unwrap().contains(&own));
        assert!(stat(own).unwrap().parent > 0);
    }
}
