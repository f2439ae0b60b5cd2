//! Bytes on the links for each write and receiver, and how often a write is sent.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::ensure;

use super::cluster::{Cluster, Network, Plan, Shape};
use super::load::{KEY_BYTES, Keys, Rhythm};
use super::sheet::{Bar, Figure, Sheet};
use super::{Measure, progress};
use crate::Effort;

/// Key and value of a write together: 16 and 124.
const PAYLOAD_BYTES: usize = 140;
/// Commands that a client with many writes sends before it waits for their replies.
const PIPELINE: u32 = 50;

const BYTES_BAR: Bar = Bar::AtMost(1.6);
const SENDS_BAR: Bar = Bar::AtMost(7.0);
/// How far the bytes that the nodes count may lie from those that passed: nodes count frames
/// without what marks their length, and put up their counters at another moment.
const COUNT_ERROR_MAX: f64 = 0.05;
/// How long idle links are listened to.
const IDLE_TIME: Duration = Duration::from_secs(2);
/// Until the last acknowledgement has passed; more would only be what an idle link says.
const LAST_BYTES_WAIT: Duration = Duration::from_millis(20);
/// Nodes put up their counters ten times a second; after this they show what has passed.
const COUNTERS_WAIT: Duration = Duration::from_millis(250);

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
struct Writing {
    what: &'static str,
    ops: u32,
    rhythm: Rhythm,
    writers: Writers,
    bar: Bar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writers {
    One,
    All,
}

const WRITINGS: [Writing; 4] = [
    Writing {
        what: "5,000 writes a second",
        ops: 30_000,
        rhythm: Rhythm { pipeline: PIPELINE, every: Duration::from_millis(10) },
        writers: Writers::One,
        bar: BYTES_BAR,
    },
    Writing {
        what: "one node writes all it can",
        ops: 200_000,
        rhythm: Rhythm::hurried(PIPELINE),
        writers: Writers::One,
        bar: BYTES_BAR,
    },
    Writing {
        what: "all nodes write all they can",
        ops: 200_000,
        rhythm: Rhythm::hurried(PIPELINE),
        writers: Writers::All,
        bar: BYTES_BAR,
    },
    Writing {
        what: "one write at a time",
        ops: 20_000,
        rhythm: Rhythm::hurried(1),
        writers: Writers::One,
        bar: Bar::Free,
    },
];

/// What one writing cost.
#[derive(Debug)]
struct Cost {
    ops: u32,
    /// That passed between the nodes.
    bytes: f64,
    /// That the nodes say they have sent.
    counted_bytes: f64,
    /// Ops sent and received over all links.
    sent: f64,
    received: f64,
}

pub(super) fn measure(atoll: &Path, effort: Effort, sheet: &mut Sheet) -> anyhow::Result<()> {
    for shape in [Shape::Pair, Shape::Ring(3), Shape::Mesh(3), Shape::Mesh(5), Shape::Mesh(7)] {
        progress(Measure::Bytes, &shape.name());
        let flags = &["--link-compression", "off", "--log", "warn"];
        let cluster = Cluster::start(Plan { atoll, shape, network: Network::Proxied, flags })?;
        for writing in WRITINGS {
            let writing = Writing { ops: writing.ops / effort.divisor, ..writing };
            let cost = run(&cluster, writing)?;
            report(sheet, (shape, writing), &cost)?;
        }
        report_idle(sheet, shape, &cluster);
    }
    sheet.remark(format!(
        "Payload is a key of {KEY_BYTES} bytes and a value of {} random bytes; bytes are those of \
         TCP streams through proxies, acknowledgements included, headers of TCP and IP and \
         encryption not; compression is off. All nodes, proxies and writers share the cores of this \
         machine, so \"all it can\" is an overload for more than three nodes.",
        PAYLOAD_BYTES - KEY_BYTES
    ));
    Ok(())
}

fn report(
    sheet: &mut Sheet,
    (shape, writing): (Shape, Writing),
    cost: &Cost,
) -> anyhow::Result<()> {
    let (ops, receivers) = (f64::from(cost.ops), shape.node_count() - 1);
    #[expect(clippy::cast_precision_loss, reason = "a handful of nodes, and 140 bytes")]
    let payload = ops * receivers as f64 * PAYLOAD_BYTES as f64;
    let error = (cost.counted_bytes - cost.bytes).abs() / cost.bytes;
    ensure!(error <= COUNT_ERROR_MAX, "nodes and proxies count differently: {cost:?}");
    let (name, what) = (shape.name(), writing.what);
    // The bar on bytes is for up to five nodes, the one on sends for seven.
    let (bytes_bar, sends_bar) = match (shape, writing.bar) {
        (Shape::Mesh(7), Bar::Free) => (Bar::Free, Bar::Free),
        (Shape::Mesh(7), _) => (Bar::Free, SENDS_BAR),
        (_, bar) => (bar, Bar::Free),
    };
    sheet.add(Figure {
        what: format!("{name}, {what}: bytes for each write and receiver"),
        value: cost.bytes / payload,
        unit: "x payload",
        bar: bytes_bar,
    });
    if shape.node_count() > 2 {
        sheet.add(Figure {
            what: format!("{name}, {what}: sends for each write"),
            // What was sent and lost on the way does not exist here: both say the same.
            value: cost.sent.max(cost.received) / ops,
            unit: "",
            bar: sends_bar,
        });
    }
    Ok(())
}

/// What links say while nobody writes: it is in the other figures, too.
fn report_idle(sheet: &mut Sheet, shape: Shape, cluster: &Cluster) {
    let before = cluster.bytes();
    thread::sleep(IDLE_TIME);
    #[expect(clippy::cast_precision_loss, reason = "some kilobytes, and some links")]
    let for_each = (cluster.bytes() - before) as f64 / shape.link_count() as f64;
    sheet.add(Figure {
        what: format!("{}, idle: bytes each second and link", shape.name()),
        value: for_each / IDLE_TIME.as_secs_f64(),
        unit: "B",
        bar: Bar::Free,
    });
}

fn run(cluster: &Cluster, writing: Writing) -> anyhow::Result<Cost> {
    let before = count(cluster)?;
    let writers = match writing.writers {
        Writers::One => 1,
        Writers::All => u32::try_from(cluster.nodes.len())?,
    };
    let share = writing.ops / writers;
    thread::scope(|scope| -> anyhow::Result<()> {
        let writes: Vec<_> = (0..writers)
            .zip(&cluster.nodes)
            .map(|(writer, node)| {
                let numbers = writer * share..(writer + 1) * share;
                let keys = Keys { letter: 'b', numbers, value_bytes: PAYLOAD_BYTES - KEY_BYTES };
                scope.spawn(move || keys.set(node.doors.resp, writing.rhythm))
            })
            .collect();
        writes.into_iter().try_for_each(|write| write.join().expect("writers do not panic"))
    })?;
    cluster.settle()?;
    let after = count(cluster)?;
    Ok(Cost {
        ops: share * writers,
        bytes: after.bytes - before.bytes,
        counted_bytes: after.counted_bytes - before.counted_bytes,
        sent: after.sent - before.sent,
        received: after.received - before.received,
    })
}

fn count(cluster: &Cluster) -> anyhow::Result<Cost> {
    thread::sleep(LAST_BYTES_WAIT);
    #[expect(clippy::cast_precision_loss, reason = "bytes of minutes fit in 52 bits")]
    let bytes = cluster.bytes() as f64;
    thread::sleep(COUNTERS_WAIT);
    Ok(Cost {
        ops: 0,
        bytes,
        counted_bytes: cluster.metric("atoll_link_sent_bytes_total")?,
        sent: cluster.metric("atoll_ops_sent_total")?,
        received: cluster.metric("atoll_ops_received_total")?
            + cluster.metric("atoll_ops_duplicate_total")?,
    })
}
