//! A link that comes back after both sides have written: bytes moved, time taken, stalls.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::cluster::{Cluster, Network, Plan, Shape};
use super::load::{KEY_BYTES, Keys, Rhythm};
use super::probe::{Probe, Worst};
use super::sheet::{Bar, Figure, Sheet};
use super::{Measure, progress};
use crate::Effort;

/// Keys that both have before the link is cut.
const OLD_KEYS: u32 = 1_000_000;
/// Keys that each gets while it is cut.
const NEW_KEYS: u32 = 20_000;
/// Key and value together.
const PAYLOAD_BYTES: usize = 100;

/// How long the machine's own noise is listened to.
const NOISE_TIME: Duration = Duration::from_secs(5);
/// How long the link stays cut: until nodes dial as seldom as they ever do.
const CUT_TIME: Duration = Duration::from_secs(15);
/// How long probes go on once both are equal.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// Until the last acknowledgements have passed.
const LAST_BYTES_WAIT: Duration = Duration::from_millis(100);
/// Pause between two looks at whether both are equal.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Nothing is to be expected after this.
const EQUAL_WAIT_MAX: Duration = Duration::from_secs(120);

const BYTES_BAR: Bar = Bar::AtMost(2.0);
const TIME_S_BAR: Bar = Bar::AtMost(3.0);
const STALL_MS_BAR: Bar = Bar::AtMost(50.0);

/// A way in which a peer catches up.
#[derive(Debug, Clone, Copy)]
struct Way {
    what: &'static str,
    /// Holds what was written meanwhile, or does not.
    log_max: &'static str,
    /// Comparisons that both nodes together receive.
    syncs: f64,
}

const WAYS: [Way; 2] = [
    Way { what: "from the log", log_max: "64MiB", syncs: 0.0 },
    Way { what: "by comparison", log_max: "256KiB", syncs: 2.0 },
];

/// What a rejoin took.
#[derive(Debug)]
struct Rejoin {
    /// From the link's return until bytes passed again.
    redial: Duration,
    /// From the link's return until both nodes held all.
    total: Duration,
    bytes: u64,
    noise: Worst,
    during: Worst,
}

pub(super) fn measure(atoll: &Path, effort: Effort, sheet: &mut Sheet) -> anyhow::Result<()> {
    for way in WAYS {
        progress(Measure::Rejoin, &format!("{}: filling", way.what));
        let flags = &["--log-max", way.log_max, "--log", "warn"];
        let network = Network::Proxied;
        let pair = Cluster::start(Plan { atoll, shape: Shape::Pair, network, flags })?;
        let old = keys('o', OLD_KEYS / effort.divisor);
        old.set(pair.nodes[0].doors.resp, Rhythm::BULK)?;
        pair.settle()?;
        let new = ['a', 'b'].map(|letter| keys(letter, NEW_KEYS / effort.divisor));
        let rejoin = rejoin(&pair, way, &new)?;
        report(sheet, (way, &new), &rejoin);
        for node in &pair.nodes {
            [&old, &new[0], &new[1]]
                .into_iter()
                .try_for_each(|keys| keys.verify(node.doors.resp))?;
        }
    }
    sheet.remark(format!(
        "{} keys before, {} new ones on each side, {PAYLOAD_BYTES} bytes of key and value each; \
         the link was cut for {} s, and dials were refused meanwhile. Bytes moved include what \
         the probes wrote from its return on. Every key was read on both nodes afterwards. Noise is the worst GET or SET in the {} s before the cut.",
        OLD_KEYS / effort.divisor,
        NEW_KEYS / effort.divisor,
        CUT_TIME.as_secs(),
        NOISE_TIME.as_secs(),
    ));
    Ok(())
}

fn keys(letter: char, count: u32) -> Keys {
    Keys { letter, numbers: 0..count, value_bytes: PAYLOAD_BYTES - KEY_BYTES }
}

fn rejoin(pair: &Cluster, way: Way, new: &[Keys; 2]) -> anyhow::Result<Rejoin> {
    progress(Measure::Rejoin, &format!("{}: listening to noise", way.what));
    let probes = start_probes(pair)?;
    thread::sleep(NOISE_TIME);
    let noise = end_probes(probes)?;
    progress(Measure::Rejoin, &format!("{}: cut", way.what));
    let syncs = pair.metric("atoll_syncs_received_total")?;
    let cut_at = Instant::now();
    pair.cut();
    thread::scope(|scope| {
        let writes: Vec<_> = new
            .iter()
            .zip(&pair.nodes)
            .map(|(keys, node)| scope.spawn(move || keys.set(node.doors.resp, Rhythm::BULK)))
            .collect();
        writes.into_iter().try_for_each(|write| write.join().expect("writers do not panic"))
    })?;
    thread::sleep(CUT_TIME.saturating_sub(cut_at.elapsed()));
    // Not before: what they would write while the link is cut is no part of the difference.
    let probes = start_probes(pair)?;
    let bytes = pair.bytes();
    let healed = Instant::now();
    pair.heal();
    let redial = wait_for_bytes(pair, bytes)?;
    wait_equal(pair)?;
    let total = healed.elapsed();
    thread::sleep(LAST_BYTES_WAIT);
    let bytes = pair.bytes() - bytes;
    thread::sleep(AFTERWARDS);
    let during = end_probes(probes)?;
    let syncs = pair.metric("atoll_syncs_received_total")? - syncs;
    let is_expected = (syncs - way.syncs).abs() < 0.5;
    ensure!(is_expected, "{syncs} comparisons instead of {} {}", way.syncs, way.what);
    Ok(Rejoin { redial, total, bytes, noise, during })
}

fn start_probes(pair: &Cluster) -> anyhow::Result<Vec<Probe>> {
    let keys = ["probe-a", "probe-b"];
    let nodes = pair.nodes.iter().zip(keys);
    nodes.map(|(node, key)| Probe::start(node.doors.resp, key.to_owned())).collect()
}

/// The worst that any of them saw.
fn end_probes(probes: Vec<Probe>) -> anyhow::Result<Worst> {
    let mut all = Worst::default();
    for probe in probes {
        let worst = probe.end()?;
        all.latency = all.latency.max(worst.latency);
        all.count += worst.count;
    }
    Ok(all)
}

fn wait_for_bytes(pair: &Cluster, before: u64) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    while pair.bytes() == before {
        ensure!(begun.elapsed() < EQUAL_WAIT_MAX, "nobody dials");
        thread::sleep(LOOK_EVERY);
    }
    Ok(begun.elapsed())
}

/// Waits until both hold all: both have as many keys as there are, and have confirmed so.
fn wait_equal(pair: &Cluster) -> anyhow::Result<()> {
    let begun = Instant::now();
    for node in &pair.nodes {
        let mut connection = node.connect()?;
        // Answers once the other node holds every write of this one.
        while connection.number(&[b"WAIT", b"1", b"1000"])? < 1 {
            ensure!(begun.elapsed() < EQUAL_WAIT_MAX, "the nodes do not become equal");
        }
    }
    let counts = pair
        .nodes
        .iter()
        .map(|node| node.connect()?.number(&[b"DBSIZE"]))
        .collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(counts[0] == counts[1], "both confirm all and hold {counts:?} keys");
    Ok(())
}

fn report(sheet: &mut Sheet, (way, new): (Way, &[Keys; 2]), rejoin: &Rejoin) {
    let difference: u64 = new.iter().map(Keys::payload_bytes).sum();
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let bytes = rejoin.bytes as f64 / difference as f64;
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let mut add = |what: &str, value, unit, bar| {
        sheet.add(Figure { what: format!("{}: {what}", way.what), value, unit, bar });
    };
    add("bytes moved", bytes, "x difference", BYTES_BAR);
    let total = rejoin.total.as_secs_f64();
    add("from the link's return until both are equal", total, "s", TIME_S_BAR);
    add("until one of them dials", rejoin.redial.as_secs_f64(), "s", Bar::Free);
    let stall = ms(rejoin.during.latency) - ms(rejoin.noise.latency);
    add("worst probe beyond noise", stall, "ms", STALL_MS_BAR);
    add("worst probe meanwhile", ms(rejoin.during.latency), "ms", Bar::Free);
    add("noise before", ms(rejoin.noise.latency), "ms", Bar::Free);
    sheet.remark(format!(
        "{}: {} probes before, {} meanwhile.",
        way.what, rejoin.noise.count, rejoin.during.count
    ));
}
