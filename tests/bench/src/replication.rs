//! Linked nodes against the bars that the project has set itself.
//!
//! Every measure starts nodes of its own, and ends them before the next begins.

mod bytes;
mod cluster;
mod footprint;
mod lag;
mod load;
mod node;
mod placement;
mod probe;
mod proxy;
mod rejoin;
mod resp;
mod sheet;
mod throughput;
mod tombstones;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::Effort;
use crate::process::{self, Foreign};
use crate::replication::sheet::Sheet;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Measure {
    /// Bytes on the links for each write and receiver, and how often a write is sent.
    Bytes,
    /// SET on a linked node beside the same node alone, and how far the other lags behind.
    Throughput,
    /// A link that comes back after both sides have written: bytes, time, stalls.
    Rejoin,
    /// Resident memory for each key of a linked node beside a node alone.
    Memory,
    /// Time until what was deleted is forgotten.
    Tombstones,
}

impl Measure {
    fn name(self) -> &'static str {
        match self {
            Measure::Bytes => "bytes",
            Measure::Throughput => "throughput",
            Measure::Rejoin => "rejoin",
            Measure::Memory => "memory",
            Measure::Tombstones => "tombstones",
        }
    }
}

/// Runs the measures in turn and returns what they found. One that came to no end, because nodes
/// did not start or link, lost a write or did not answer, counts as a bar that is missed.
///
/// # Errors
/// If the kernel does not tell what the processors did.
pub(crate) fn measure(atoll: &Path, measures: &[Measure], effort: Effort) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::default();
    for measure in measures {
        let name = measure.name();
        let calm = Calm::begin()?;
        sheet.chapter(name);
        let outcome = match measure {
            Measure::Bytes => bytes::measure(atoll, effort, &mut sheet),
            Measure::Throughput => throughput::measure(atoll, effort, &mut sheet),
            Measure::Rejoin => rejoin::measure(atoll, effort, &mut sheet),
            Measure::Memory => footprint::measure(atoll, effort, &mut sheet),
            Measure::Tombstones => tombstones::measure(atoll, effort, &mut sheet),
        };
        if let Err(error) = outcome {
            // The other figures are not lost with it.
            sheet.fail(&error);
        }
        sheet.remark(calm.end()?);
    }
    if effort.divisor > 1 {
        sheet.remark(format!("Only 1/{} of the load: no figures for the record.", effort.divisor));
    }
    Ok(sheet)
}

/// Says what is going on, on standard error.
fn progress(measure: Measure, what: &str) {
    eprintln!("{}: {what}", measure.name());
}

/// How calm the machine was: others that work on it spoil figures.
struct Calm {
    begun: Instant,
    before: Foreign,
}

impl Calm {
    fn begin() -> anyhow::Result<Calm> {
        Ok(Calm { begun: Instant::now(), before: process::foreign()? })
    }

    fn end(self) -> anyhow::Result<String> {
        let (now, took_s) = (process::foreign()?, self.begun.elapsed().as_secs_f64());
        let cores = |before: u64, now: u64| {
            Duration::from_micros(now.saturating_sub(before)).as_secs_f64() / took_s.max(0.001)
        };
        let others = cores(self.before.cpu_us, now.cpu_us);
        let low = cores(self.before.low_cpu_us, now.low_cpu_us);
        Ok(format!(
            "It took {took_s:.0} s; others kept {others:.2} cores busy, and {low:.2} at low priority."
        ))
    }
}
