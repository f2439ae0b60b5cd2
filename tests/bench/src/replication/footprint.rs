//! Resident memory for each key of a linked node beside a node alone.

use std::ops::Range;
use std::path::Path;

use anyhow::ensure;

use super::cluster::{Cluster, Network, Plan, Shape};
use super::load::{Keys, Rhythm};
use super::node::Node;
use super::sheet::{Bar, Figure, Sheet};
use super::{Measure, progress};
use crate::Effort;
use crate::memory::{KEYS, VALUE_BYTES, settled_bytes};
use crate::resp_client;

const GROWTH_BAR: Bar = Bar::AtMost(1.1);

/// What a node takes for each key, in bytes.
#[derive(Debug, Clone, Copy)]
struct Footprint {
    /// Of the process, beyond what it took when it was empty.
    resident: f64,
    /// Of these, for changes that links may still need: bounded, whatever the number of keys.
    log: f64,
    /// For each of as many keys again, once that log is full.
    further: f64,
}

pub(super) fn measure(atoll: &Path, effort: Effort, sheet: &mut Sheet) -> anyhow::Result<()> {
    let keys = KEYS / effort.divisor;
    let alone = fill(atoll, Shape::Alone, keys)?[0];
    let pair = fill(atoll, Shape::Pair, keys)?;
    add(sheet, "alone", ("resident, for each key", alone.resident, "B", Bar::Free));
    add(sheet, "alone", ("for each further key", alone.further, "B", Bar::Free));
    for (name, node) in ["writer", "receiver"].into_iter().zip(pair) {
        let ratio = node.resident / alone.resident;
        add(sheet, name, ("resident, to the node alone", ratio, "x", GROWTH_BAR));
        let twice = (node.resident + node.further) / (alone.resident + alone.further);
        add(sheet, name, ("the same with twice as many keys", twice, "x", GROWTH_BAR));
        let further = node.further / alone.further;
        add(sheet, name, ("for each further key, to the node alone", further, "x", Bar::Free));
        let without = (node.resident - node.log) / alone.resident;
        add(sheet, name, ("without the log for links, to the node alone", without, "x", Bar::Free));
        add(sheet, name, ("resident, for each key", node.resident, "B", Bar::Free));
        add(sheet, name, ("of these, the log for links", node.log, "B", Bar::Free));
        add(sheet, name, ("for each further key", node.further, "B", Bar::Free));
    }
    sheet.remark(format!(
        "{keys} keys of 16 bytes with values of {VALUE_BYTES} bytes, and as many further keys \
         afterwards, written on one node; VmRSS after the load less VmRSS before it. The log for \
         links is bounded (64 MiB by default) and full after the first keys."
    ));
    Ok(())
}

fn add(sheet: &mut Sheet, name: &str, figure: (&str, f64, &'static str, Bar)) {
    let (what, value, unit, bar) = figure;
    sheet.add(Figure { what: format!("{name}: {what}"), value, unit, bar });
}

/// Fills the first node twice, and returns what each takes.
fn fill(atoll: &Path, shape: Shape, count: u32) -> anyhow::Result<Vec<Footprint>> {
    progress(Measure::Memory, &format!("{count} keys and as many again, {}", shape.name()));
    let plan = Plan { atoll, shape, network: Network::Direct, flags: &["--log", "warn"] };
    let cluster = Cluster::start(plan)?;
    let empty = resident(&cluster)?;
    let set = |numbers: Range<u32>| -> anyhow::Result<Vec<f64>> {
        let want = u64::from(numbers.end);
        let keys = Keys { letter: 'm', numbers, value_bytes: VALUE_BYTES as usize };
        keys.set(cluster.nodes[0].doors.resp, Rhythm::BULK)?;
        cluster.settle()?;
        let resident = resident(&cluster)?;
        for node in &cluster.nodes {
            let held = resp_client::key_count(node.doors.resp)?;
            ensure!(held == want, "a node holds {held} of {want} keys");
        }
        Ok(resident)
    };
    let filled = set(0..count)?;
    let log = |node: &Node| node.metric("atoll_replication_log_bytes");
    let logs = cluster.nodes.iter().map(log).collect::<anyhow::Result<Vec<_>>>()?;
    let twice = set(count..2 * count)?;
    let count = f64::from(count);
    let figures = empty.into_iter().zip(filled).zip(twice).zip(logs);
    let footprint = |(((empty, filled), twice), log): (((f64, f64), f64), f64)| Footprint {
        resident: (filled - empty) / count,
        log: log / count,
        further: (twice - filled) / count,
    };
    Ok(figures.map(footprint).collect())
}

/// Of each node, in bytes.
fn resident(cluster: &Cluster) -> anyhow::Result<Vec<f64>> {
    #[expect(clippy::cast_precision_loss, reason = "bytes of memory fit in 52 bits")]
    let of = |node: &Node| settled_bytes(&node.server).map(|bytes| bytes as f64);
    cluster.nodes.iter().map(of).collect()
}
