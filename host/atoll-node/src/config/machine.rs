//! What is found out of the machine where nothing is said.

/// The memory that this process may use: the container's limit, else the machine's, in bytes.
pub(super) fn memory_limit_bytes() -> usize {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let version_2 = read("/sys/fs/cgroup/memory.max");
    let version_1 = read("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    let machine = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<usize>().ok()? * 1_024)
    });
    let container = version_2.or(version_1).and_then(|text| text.trim().parse().ok());
    let smallest = [container, machine].into_iter().flatten().min();
    smallest.unwrap_or(1 << 30)
}

/// The name that the machine has.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "atoll".to_owned() } else { name.to_owned() }
}
