//! Time until a pair has forgotten what was deleted.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::cluster::{Cluster, Network, Plan, Shape};
use super::load::{Keys, Rhythm};
use super::sheet::{Bar, Figure, Sheet};
use super::{Measure, progress};
use crate::Effort;
use crate::resp_client;

/// Keys that are set and deleted.
const KEYS: u32 = 1_000_000;
const VALUE_BYTES: usize = 84;
/// Pause between two looks at the metrics.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Nothing is to be expected after this.
const GONE_WAIT_MAX: Duration = Duration::from_secs(300);

const GONE_S_BAR: Bar = Bar::AtMost(30.0);

pub(super) fn measure(atoll: &Path, effort: Effort, sheet: &mut Sheet) -> anyhow::Result<()> {
    let network = Network::Direct;
    let flags = &["--log", "warn"];
    let pair = Cluster::start(Plan { atoll, shape: Shape::Pair, network, flags })?;
    let count = KEYS / effort.divisor;
    let keys = |numbers| Keys { letter: 't', numbers, value_bytes: VALUE_BYTES };
    progress(Measure::Tombstones, &format!("{count} keys: filling"));
    keys(0..count).set(pair.nodes[0].doors.resp, Rhythm::BULK)?;
    pair.settle()?;
    progress(Measure::Tombstones, &format!("{count} keys: deleting"));
    // Half of them on each side: both then have tombstones of their own and of the other.
    let halves = [keys(0..count / 2), keys(count / 2..count)];
    thread::scope(|scope| {
        let deletes: Vec<_> = halves
            .iter()
            .zip(&pair.nodes)
            .map(|(half, node)| scope.spawn(move || half.delete(node.doors.resp)))
            .collect();
        deletes.into_iter().try_for_each(|delete| delete.join().expect("deleters do not panic"))
    })?;
    let confirmed = Instant::now();
    pair.settle()?;
    let held = Instant::now();
    let most = pair.metric("atoll_tombstones")?;
    ensure!(most > 0.0, "there are no tombstones to wait for");
    while pair.metric("atoll_tombstones")? > 0.0 {
        ensure!(confirmed.elapsed() < GONE_WAIT_MAX, "tombstones are not collected");
        thread::sleep(LOOK_EVERY);
    }
    let (from_confirmed, from_held) = (confirmed.elapsed(), held.elapsed());
    for node in &pair.nodes {
        let left = resp_client::key_count(node.doors.resp)?;
        ensure!(left == 0, "{left} keys are left");
    }
    let mut add = |what: &str, value, unit, bar| {
        sheet.add(Figure { what: what.to_owned(), value, unit, bar });
    };
    let from_confirmed = from_confirmed.as_secs_f64();
    add("from the last DEL's confirmation until none is left", from_confirmed, "s", GONE_S_BAR);
    let from_held = from_held.as_secs_f64();
    add("from when both nodes held all deletes", from_held, "s", Bar::Free);
    add("left on both at that moment, in thousands", most / 1_000.0, "k", Bar::Free);
    sheet.remark(format!(
        "{count} keys, half of them deleted on each node; none left means 0 tombstones on both."
    ));
    Ok(())
}
