//! Follows the replicated records: what was deployed on any node, or was on the disk, goes live here.

use super::Handlers;
use super::deploy::DeployError;
use super::deployed::Release;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Longest pause between two looks at the records, a page of a small bucket. The store tells of their
/// changes at once; this is for what a node that was away for very long has let go of.
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two looks at instances that wait.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// How long a component may come later than its record before that is said: it is sent first.
const MISSING_WAIT: Duration = Duration::from_secs(30);

/// How long `/readyz` waits at most for the handlers that were on the disk. An interpreter that has to
/// be compiled takes half a minute.
const WARM_WAIT: Duration = Duration::from_secs(60);

/// What has become of the records.
#[derive(Debug, Default)]
struct Seen {
    /// By name: the stamp of the record that is being made live.
    running: BTreeMap<String, String>,
    /// By name: the stamp of the record that was looked at last.
    settled: BTreeMap<String, String>,
    /// By name: the record whose component is not here, and since when.
    missing: BTreeMap<String, Missing>,
}

/// A record without its component.
#[derive(Debug)]
struct Missing {
    stamp: String,
    since: Instant,
    is_said: bool,
}

/// What has become of a record.
#[derive(Debug)]
struct Ended {
    name: String,
    stamp: String,
    is_settled: bool,
}

impl Seen {
    /// Whether a record has been without its component for so long that it is to be said, now.
    fn is_missed(&mut self, name: &str, stamp: &str, now: Instant) -> bool {
        let fresh = || Missing { stamp: stamp.to_owned(), since: now, is_said: false };
        let missing = self.missing.entry(name.to_owned()).or_insert_with(fresh);
        if missing.stamp != stamp {
            *missing = fresh();
        }
        let is_due = !missing.is_said && now.duration_since(missing.since) >= MISSING_WAIT;
        missing.is_said |= is_due;
        is_due
    }

    /// Whether there is something to do for a record that is not being done yet. It is from now on.
    fn begin(&mut self, name: &str, stamp: &str) -> bool {
        let is_done = |done: &BTreeMap<_, _>| done.get(name).is_some_and(|done| done == stamp);
        if is_done(&self.settled) || is_done(&self.running) {
            return false;
        }
        self.running.insert(name.to_owned(), stamp.to_owned());
        true
    }

    /// What began has ended.
    fn end(&mut self, name: &str, stamp: &str) {
        if self.running.get(name).is_some_and(|running| running == stamp) {
            self.running.remove(name);
        }
    }

    /// A record was looked at, and there is nothing more to do about it.
    fn settle(&mut self, name: &str, stamp: &str) {
        self.missing.remove(name);
        self.settled.insert(name.to_owned(), stamp.to_owned());
    }

    fn keep_only(&mut self, is_kept: impl Fn(&String) -> bool) {
        self.settled.retain(|name, _| is_kept(name));
        self.missing.retain(|name, _| is_kept(name));
    }
}

impl Handlers {
    /// What was read from the disk is waited for before the node calls itself ready. Called once,
    /// before [`Handlers::follow`].
    pub(crate) fn await_saved(&self) {
        if !self.records.stamps().is_empty() {
            self.node.start_warming(WARM_WAIT);
        }
    }

    /// Follows until `shutdown`. Compiles off the request path, and lets what needs no compilation
    /// pass: a rollback, or other routes.
    pub(crate) async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        let (mut seen, mut running) = (Seen::default(), JoinSet::new());
        let mut changed = self.node.system_changed();
        loop {
            // Seen before the look: what comes after it wakes the wait below.
            changed.borrow_and_update();
            self.look(&mut seen, &mut running);
            let due = Instant::now() + LOOK_PAUSE;
            while Instant::now() < due {
                if running.is_empty() {
                    self.node.end_warming();
                }
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    changed = changed.changed() => if changed.is_err() { return } else { break },
                    Some(ended) = running.join_next() => {
                        // A record may have changed while the one before was worked on.
                        if self.note(&mut seen, ended.ok()) { break }
                    }
                    () = sleep(SWEEP_PAUSE) => self.sweep_pools(),
                }
            }
        }
    }

    /// Ends the instances that have waited for long enough.
    fn sweep_pools(&self) {
        let live = self.live.load();
        let versions = live.by_name.values().flat_map(|release| release.versions());
        versions.filter_map(|version| version.pool.as_ref()).for_each(|pool| pool.sweep());
    }

    /// Begins what there is to do for records that have changed, and ends what is gone.
    fn look(self: &Arc<Self>, seen: &mut Seen, running: &mut JoinSet<Ended>) {
        self.tend_components();
        let there: BTreeMap<String, String> = self.records.stamps().into_iter().collect();
        for (name, stamp) in &there {
            if seen.begin(name, stamp) {
                let (handlers, name, stamp) = (Arc::clone(self), name.clone(), stamp.clone());
                running.spawn(async move {
                    let is_settled = handlers.take_over(&name).await;
                    Ended { name, stamp, is_settled }
                });
            }
        }
        let live = self.list();
        let live = live.iter().map(|deployed| &deployed.record.name);
        for name in live.chain(seen.settled.keys()).filter(|name| !there.contains_key(*name)) {
            // A deployment goes live right after its record was written.
            let _changing = self.changing();
            if self.records.get(name).is_none() {
                self.drop_live(name);
                // It may have come to the others after they had heard of the removal.
                self.records.take_back(name);
            }
        }
        seen.keep_only(|name| there.contains_key(name));
    }

    /// Notes what has become of a record. Returns whether it was settled.
    fn note(&self, seen: &mut Seen, ended: Option<Ended>) -> bool {
        let Some(Ended { name, stamp, is_settled }) = ended else {
            // It has panicked, which was logged. A later look does not find it running.
            seen.running.clear();
            return false;
        };
        seen.end(&name, &stamp);
        if is_settled {
            seen.settle(&name, &stamp);
        } else if seen.is_missed(&name, &stamp, Instant::now()) {
            self.say_missing(&name);
        }
        is_settled
    }

    /// Says that a component does not come.
    fn say_missing(&self, name: &str) {
        let Some(record) = self.records.get(name) else { return };
        let version = record.newest_version();
        let waited_s = MISSING_WAIT.as_secs();
        warn!(handler = name, version, waited_s, "the component of a handler does not arrive");
        let error = format!(
            "its component has not arrived for {waited_s} s: no node that is linked has it; deploy \
             it again, or link the node that it was deployed on"
        );
        self.say(&record, Some(error));
    }

    /// Makes what the record says live, unless it is. Returns whether that is settled, one way or
    /// the other: a component may come later than its record.
    pub(super) async fn take_over(&self, name: &str) -> bool {
        let Some(record) = self.records.get(name) else {
            warn!(handler = name, "the record of a handler cannot be read");
            return true;
        };
        if self.get(name).is_some_and(|live| live.record == record) {
            return true;
        }
        let version = record.newest_version();
        let release = match record.check() {
            Ok(_) => self.release(record.clone()).await,
            Err(error) => Err(error.into()),
        };
        let _changing = self.changing();
        // A compilation takes its time: what was removed or replaced meanwhile is no news.
        if self.records.get(name).as_ref() != Some(&record) {
            debug!(handler = name, version, "its record has changed meanwhile");
            return true;
        }
        match release {
            Ok(release) => {
                self.follow_to(&release);
                true
            }
            Err(DeployError::NotHere) => {
                debug!(handler = name, version, "the component has not arrived yet");
                false
            }
            Err(error) => {
                warn!(handler = name, version, %error, "a deployed handler cannot run here");
                self.say(&record, Some(error.to_string()));
                true
            }
        }
    }

    fn follow_to(&self, release: &Release) {
        if self.get(&release.record.name).is_some_and(|live| live.record == release.record) {
            return;
        }
        if let Err(error @ DeployError::RouteTaken { .. }) =
            self.live.load().check_room(&release.record.name, &release.live.patterns)
        {
            // Both were taken, each by another node, before either had heard of the other.
            warn!(%error, "two handlers have the same route; the first by name answers");
        }
        self.swap(release);
    }
}
