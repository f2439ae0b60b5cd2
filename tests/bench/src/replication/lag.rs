//! How long a write takes to be seen on the other node of a pair under load.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::cluster::Cluster;
use super::resp::Reply;
use crate::redis_benchmark::{self, Load};

/// Pause between two probes: some two hundred writes a second beside the load.
const PROBE_EVERY: Duration = Duration::from_millis(4);
/// Pause between two looks: no busy loop, which would take a core from what is measured.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// A probe that is not seen by then is lost.
const SEEN_WAIT_MAX: Duration = Duration::from_secs(30);
/// Fewer say nothing about a percentile.
const PROBE_COUNT_MIN: usize = 100;

/// Lags in microseconds, sorted.
#[derive(Debug)]
pub(super) struct Lags {
    /// From before the write was sent: never less than the true lag.
    pub(super) sent_us: Vec<u64>,
    /// From its confirmation: what a client that reads elsewhere waits.
    pub(super) confirmed_us: Vec<u64>,
    /// Of the load meanwhile.
    pub(super) ops_per_s: f64,
    pub(super) probes_per_s: f64,
}

/// Probes the pair while `load` writes on its first node.
pub(super) fn measure(pair: &Cluster, load: Load) -> anyhow::Result<Lags> {
    let is_over = AtomicBool::new(false);
    let writer = &pair.nodes[0];
    thread::scope(|scope| {
        let probes = scope.spawn(|| probe(pair, &is_over));
        let begun = Instant::now();
        let sample = redis_benchmark::run(&writer.server, writer.doors.resp, load);
        let took_s = begun.elapsed().as_secs_f64();
        is_over.store(true, Relaxed);
        let (mut sent_us, mut confirmed_us) = probes.join().expect("probes do not panic")?;
        let count = sent_us.len();
        ensure!(count >= PROBE_COUNT_MIN, "{count} probes in {took_s:.1} s are too few");
        sent_us.sort_unstable();
        confirmed_us.sort_unstable();
        let ops_per_s = sample?.ops_per_second;
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let probes_per_s = count as f64 / took_s;
        Ok(Lags { sent_us, confirmed_us, ops_per_s, probes_per_s })
    })
}

fn probe(pair: &Cluster, is_over: &AtomicBool) -> anyhow::Result<(Vec<u64>, Vec<u64>)> {
    let (mut here, mut there) = (pair.nodes[0].connect()?, pair.nodes[1].connect()?);
    let (mut sent_us, mut confirmed_us) = (Vec::new(), Vec::new());
    while !is_over.load(Relaxed) {
        let number = sent_us.len().to_string();
        let sent = Instant::now();
        let reply = here.command(&[b"SET", b"probe", number.as_bytes()])?;
        ensure!(reply == Reply::Status("OK".to_owned()), "SET says {reply:?}");
        let confirmed = Instant::now();
        while there.command(&[b"GET", b"probe"])? != Reply::Bulk(number.clone().into_bytes()) {
            ensure!(sent.elapsed() < SEEN_WAIT_MAX, "a probe is lost");
            thread::sleep(LOOK_EVERY);
        }
        sent_us.push(micros(sent.elapsed()));
        confirmed_us.push(micros(confirmed.elapsed()));
        thread::sleep(PROBE_EVERY);
    }
    Ok((sent_us, confirmed_us))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
