//! SET on a linked node beside the same node alone, in turns, and how far the other lags behind.

use std::path::Path;
use std::thread;

use super::cluster::{Cluster, Network, Plan, Shape};
use super::node::Node;
use super::placement::Cores;
use super::sheet::{Bar, Figure, Sheet};
use super::{Measure, lag, progress};
use crate::redis_benchmark::{self, CONNECTIONS, KEYS, Load, VALUE_BYTES};
use crate::resp_client::{self, Fill, Ttl};
use crate::summary::{median, percentile};
use crate::{Effort, process};

/// Enough for seconds of each, so that the 10 ms steps of processor time do not matter.
const LOADS: [Load; 2] = [
    Load { command: "set", pipeline: 1, operations: 300_000 },
    Load { command: "set", pipeline: 16, operations: 3_000_000 },
];

const RATE_BAR: Bar = Bar::AtLeast(0.8);
const LAG_MS_BAR: Bar = Bar::AtMost(10.0);

/// What one round gave.
#[derive(Debug, Clone, Copy)]
struct Round {
    alone_ops_per_s: f64,
    linked_ops_per_s: f64,
    alone_cpu_us: f64,
    linked_cpu_us: f64,
    /// Of the node that receives, for each write.
    receiver_cpu_us: f64,
}

pub(super) fn measure(atoll: &Path, effort: Effort, sheet: &mut Sheet) -> anyhow::Result<()> {
    let plan =
        Plan { atoll, shape: Shape::Pair, network: Network::Direct, flags: &["--log", "warn"] };
    let alone = Cluster::start(Plan { shape: Shape::Alone, ..plan })?;
    let pair = Cluster::start(plan)?;
    // SET overwrites: what a cache does once it is warm.
    for cluster in [&alone, &pair] {
        let fill = Fill { keys: KEYS, value_bytes: VALUE_BYTES, ttl: Ttl::None };
        resp_client::fill(cluster.nodes[0].doors.resp, fill)?;
        cluster.settle()?;
    }
    for whole in LOADS {
        let load = Load { operations: whole.operations / effort.divisor, ..whole };
        let mut rounds = Vec::new();
        for round in 1..=effort.rounds {
            let what = format!("pipeline {}, round {round} of {}", load.pipeline, effort.rounds);
            progress(Measure::Throughput, &what);
            rounds.push(run(&alone, &pair, load)?);
        }
        report(sheet, load, &rounds);
        measure_apart((&alone, &pair), (load, effort.rounds), sheet)?;
        // A percentile needs its probes, however small the load.
        report_lag(sheet, &pair, whole)?;
    }
    sheet.remark(format!(
        "redis-benchmark, {CONNECTIONS} connections, {KEYS} random keys, values of {VALUE_BYTES} \
         bytes; medians of {} rounds in turns. Load, writer and receiver share the cores of this \
         machine, so the receiver's work takes from the writer's rate; CPU of a node includes what \
         it does until the other holds all.",
        effort.rounds
    ));
    Ok(())
}

/// The same with processors of its own for the receiver: as where nodes are different machines, but
/// for the load, which still shares the writer's.
fn measure_apart(
    (alone, pair): (&Cluster, &Cluster),
    (load, round_count): (Load, u32),
    sheet: &mut Sheet,
) -> anyhow::Result<()> {
    let core_count = thread::available_parallelism()?.get();
    let Some([here, there]) = Cores::halves(core_count) else { return Ok(()) };
    let writers = [std::process::id(), alone.nodes[0].server.pid(), pair.nodes[0].server.pid()];
    let receiver = pair.nodes[1].server.pid();
    writers.iter().try_for_each(|pid| here.confine(*pid))?;
    there.confine(receiver)?;
    let mut rates = Vec::new();
    for round in 1..=round_count {
        let what = format!("pipeline {}, apart, round {round} of {round_count}", load.pipeline);
        progress(Measure::Throughput, &what);
        let round = run(alone, pair, load)?;
        rates.push(round.linked_ops_per_s / round.alone_ops_per_s);
    }
    let all = Cores { first: 0, count: core_count };
    writers.iter().chain([&receiver]).try_for_each(|pid| all.confine(*pid))?;
    let what = format!("SET, pipeline {}: the same, the receiver on its own cores", load.pipeline);
    sheet.add(Figure { what, value: median(rates), unit: "x", bar: RATE_BAR });
    Ok(())
}

fn run(alone: &Cluster, pair: &Cluster, load: Load) -> anyhow::Result<Round> {
    let (alone_ops_per_s, alone_cpu) = round(alone, load)?;
    let (linked_ops_per_s, linked_cpu) = round(pair, load)?;
    Ok(Round {
        alone_ops_per_s,
        linked_ops_per_s,
        alone_cpu_us: alone_cpu[0],
        linked_cpu_us: linked_cpu[0],
        receiver_cpu_us: linked_cpu[1],
    })
}

/// The rate, and the processor time for each write of each node.
fn round(cluster: &Cluster, load: Load) -> anyhow::Result<(f64, Vec<f64>)> {
    let cpu = || -> anyhow::Result<Vec<u64>> {
        cluster.nodes.iter().map(|node| process::cpu_us(node.server.pid())).collect()
    };
    let before = cpu()?;
    let Node { server, doors } = &cluster.nodes[0];
    let sample = redis_benchmark::run(server, doors.resp, load)?;
    cluster.settle()?;
    let after = cpu()?;
    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit in 52 bits")]
    let for_each =
        |(before, after): (u64, u64)| (after - before) as f64 / f64::from(load.operations);
    Ok((sample.ops_per_second, before.into_iter().zip(after).map(for_each).collect()))
}

fn report(sheet: &mut Sheet, load: Load, rounds: &[Round]) {
    let of = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick).collect());
    // By round: what disturbed one of the two is likely to have disturbed the other.
    let rate = of(|round| round.linked_ops_per_s / round.alone_ops_per_s);
    let cpu = of(|round| round.linked_cpu_us / round.alone_cpu_us);
    let mut add = |what: &str, value, unit, bar| {
        let what = format!("SET, pipeline {}: {what}", load.pipeline);
        sheet.add(Figure { what, value, unit, bar });
    };
    add("rate of a linked node to the node alone", rate, "x", RATE_BAR);
    add("rate alone", of(|round| round.alone_ops_per_s / 1_000.0), "k/s", Bar::Free);
    add("rate linked", of(|round| round.linked_ops_per_s / 1_000.0), "k/s", Bar::Free);
    add("CPU of the linked node to the node alone", cpu, "x", Bar::Free);
    add("CPU for each write, alone", of(|round| round.alone_cpu_us), "µs", Bar::Free);
    add("CPU for each write, linked", of(|round| round.linked_cpu_us), "µs", Bar::Free);
    add("CPU for each write, receiver", of(|round| round.receiver_cpu_us), "µs", Bar::Free);
}

fn report_lag(sheet: &mut Sheet, pair: &Cluster, load: Load) -> anyhow::Result<()> {
    progress(Measure::Throughput, &format!("pipeline {}, lag", load.pipeline));
    let lags = lag::measure(pair, load)?;
    let mut add = |what: &str, value, unit, bar| {
        let what = format!("SET, pipeline {}: {what}", load.pipeline);
        sheet.add(Figure { what, value, unit, bar });
    };
    #[expect(clippy::cast_precision_loss, reason = "microseconds of minutes fit in 52 bits")]
    let ms = |sorted: &[u64], percent| percentile(sorted, percent) as f64 / 1_000.0;
    add("lag, sent here to seen there, p99", ms(&lags.sent_us, 99), "ms", LAG_MS_BAR);
    add("lag, sent here to seen there, median", ms(&lags.sent_us, 50), "ms", Bar::Free);
    add("lag, confirmed here to seen there, p99", ms(&lags.confirmed_us, 99), "ms", Bar::Free);
    add("lag, worst", ms(&lags.sent_us, 100), "ms", Bar::Free);
    add("rate while lag was measured", lags.ops_per_s / 1_000.0, "k/s", Bar::Free);
    sheet.remark(format!(
        "pipeline {}: {} probes for lag, {:.0} writes each second beside the load.",
        load.pipeline,
        lags.sent_us.len(),
        lags.probes_per_s
    ));
    Ok(())
}
