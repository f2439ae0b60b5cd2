//! Which processors a process may run on, so that one node's work does not take from another's.

use std::process::Command;

use anyhow::{Context, ensure};

/// Processors, by their numbers from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cores {
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Cores {
    /// The processors of this machine in two halves; `None` where there is only one.
    pub(super) fn halves(all: usize) -> Option<[Cores; 2]> {
        let half = all / 2;
        let [first, second] = [(0, half), (half, all - half)];
        let cores = |(first, count)| Cores { first, count };
        (half > 0).then(|| [cores(first), cores(second)])
    }

    /// Confines all threads of a process to these, and what it starts from now on.
    ///
    /// # Errors
    /// If `taskset`, of util-linux, is missing or refuses.
    pub(super) fn confine(self, pid: u32) -> anyhow::Result<()> {
        let list = format!("{}-{}", self.first, self.first + self.count - 1);
        let mut command = Command::new("taskset");
        command.args(["--all-tasks", "--cpu-list", "--pid", &list, &pid.to_string()]);
        let output = command.output().context("taskset; install util-linux")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "taskset: {} {errors}", output.status);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_apart_and_hold_all_processors() {
        assert_eq!(Cores::halves(1), None);
        let halves = |all| Cores::halves(all).map(|halves| halves.map(|c| (c.first, c.count)));
        assert_eq!(halves(2), Some([(0, 1), (1, 1)]));
        assert_eq!(halves(5), Some([(0, 2), (2, 3)]));
    }
}
